//! The CPU time of a database server on this machine, from `/proc` (see proc(5)).

use std::fs;
use std::time::Duration;

/// The clock ticks per second of `/proc/*/stat`: USER_HZ, which is 100 on every Linux that Rust runs on.
const TICKS_PER_S: u64 = 100;

/// A server and the processes that it started, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerCpu {
    parent: u32,
}

/// What is of use in a line of `/proc/*/stat`.
struct Stat {
    name: String,
    parent: u32,
    own_ticks: u64,
    /// Of children that have ended and were waited for.
    ended_ticks: u64,
}

impl ServerCpu {
    /// The server whose process `worker` is, if that is a process of this machine called `name`: the number came from the
    /// server itself, which may be anywhere.
    pub fn of_worker(worker: u32, name: &str) -> Option<ServerCpu> {
        let worker = stat(worker).filter(|stat| stat.name == name)?;
        stat(worker.parent).filter(|parent| parent.name == name).map(|_| ServerCpu { parent: worker.parent })
    }

    /// The CPU time of the server's processes so far, with those that have ended; `None` if the server has. In steps of 10 ms
    /// for each process.
    pub fn so_far(&self) -> Option<Duration> {
        let parent = stat(self.parent)?;
        let mut ticks = parent.own_ticks + parent.ended_ticks;
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(child) = id.and_then(stat).filter(|stat| stat.parent == self.parent) {
                ticks += child.own_ticks + child.ended_ticks;
            }
        }
        Some(Duration::from_millis(ticks * 1000 / TICKS_PER_S))
    }
}

fn stat(id: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// `id (name) state parent ..`; the name may hold anything, also a bracket. The 14th to 17th fields are times.
fn parse(line: &str) -> Option<Stat> {
    let (front, rest) = line.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    Some(Stat {
        name,
        parent: u32::try_from(number(4)?).ok()?,
        own_ticks: number(14)? + number(15)?,
        ended_ticks: number(16)? + number(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_by_its_fields() {
        let line = "77 (a) b) S 5 77 77 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 1000 1000000 500";
        let stat = parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.own_ticks, stat.ended_ticks), ("a) b", 5, 33, 77));
        assert!(parse("77 (a").is_none());
    }
}
