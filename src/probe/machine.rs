//! Time that others took: a hypervisor from the machine (`/proc/stat`, see proc(5)), a cgroup's quota from the process
//! (`cpu.stat`, see the kernel's cgroup-v2.rst). Zero where the system does not tell.

use std::fs;
use std::time::Duration;

/// Sums since the machine or the group began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineTimes {
    /// Ticks of all cores that a hypervisor gave to others while something here wanted to run.
    pub steal_ticks: u64,
    /// Ticks of all cores, whatever they did.
    pub total_ticks: u64,
    /// Time in which the process's cgroup had used its quota of CPU up, summed over the cores on which it wanted to run.
    pub throttled: Duration,
}

impl MachineTimes {
    /// The sums now.
    pub fn read() -> MachineTimes {
        let (steal_ticks, total_ticks) =
            fs::read_to_string("/proc/stat").ok().and_then(|text| parse_stat(&text)).unwrap_or_default();
        MachineTimes { steal_ticks, total_ticks, throttled: throttled().unwrap_or_default() }
    }

    /// What was added since `before`.
    #[must_use]
    pub fn since(self, before: MachineTimes) -> MachineTimes {
        MachineTimes {
            steal_ticks: self.steal_ticks.saturating_sub(before.steal_ticks),
            total_ticks: self.total_ticks.saturating_sub(before.total_ticks),
            throttled: self.throttled.saturating_sub(before.throttled),
        }
    }

    /// The share of the cores' time that was stolen; `None` where the system does not tell.
    pub fn steal_share(self) -> Option<f64> {
        (self.total_ticks > 0).then(|| self.steal_ticks as f64 / self.total_ticks as f64)
    }
}

/// Stolen ticks and all of the line of all cores: user, nice, system, idle, iowait, irq, softirq, steal. What follows, time
/// of guests, is in user and nice already.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

fn throttled() -> Option<Duration> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let stat = |path: String| parse_throttled(&fs::read_to_string(path).ok()?);
    places(&groups).into_iter().find_map(stat)
}

/// Where the group's `cpu.stat` may be: by version 2, then by version 1.
fn places(groups: &str) -> Vec<String> {
    let mut places = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_end_matches('/');
        if controllers.is_empty() {
            places.insert(0, format!("/sys/fs/cgroup{path}/cpu.stat"));
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            places.push(format!("/sys/fs/cgroup/{controllers}{path}/cpu.stat"));
            places.push(format!("/sys/fs/cgroup/cpu{path}/cpu.stat"));
        }
    }
    places
}

/// `throttled_usec` in microseconds, or that of version 1, `throttled_time`, in nanoseconds.
fn parse_throttled(text: &str) -> Option<Duration> {
    text.lines().find_map(|line| match line.split_once(' ')? {
        ("throttled_usec", time) => time.trim().parse().ok().map(Duration::from_micros),
        ("throttled_time", time) => time.trim().parse().ok().map(Duration::from_nanos),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_field() {
        let text = "cpu  100 10 50 800 20 5 5 10 7 3\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(parse_stat(text), Some((10, 1000)));
        assert_eq!(parse_stat("cpu  100 10 50\n"), None);
        assert_eq!(parse_stat("intr 1\n"), None);
        let times = MachineTimes { steal_ticks: 10, total_ticks: 1000, throttled: Duration::ZERO };
        assert_eq!((times.steal_share(), MachineTimes::default().steal_share()), (Some(0.01), None));
    }

    #[test]
    fn both_versions_of_cgroups_tell_what_they_took() {
        let second = "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 1500\n";
        assert_eq!(parse_throttled(second), Some(Duration::from_micros(1500)));
        assert_eq!(parse_throttled("nr_throttled 2\nthrottled_time 70\n"), Some(Duration::from_nanos(70)));
        assert_eq!(parse_throttled("usage_usec 5\n"), None);
        let groups = "9:name=systemd:/\n4:cpu,cpuacct:/docker/x\n0::/a/b\n";
        let wanted = [
            "/sys/fs/cgroup/a/b/cpu.stat",
            "/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.stat",
            "/sys/fs/cgroup/cpu/docker/x/cpu.stat",
        ];
        assert_eq!(places(groups), wanted);
    }
}
