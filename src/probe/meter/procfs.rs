//! The counters that Linux keeps of a process, from `/proc/self` (see proc(5)).

use std::fs;
use std::path::Path;

/// The clock ticks per second of `/proc/*/stat`: USER_HZ, which is 100 on every Linux that Rust runs on.
const TICKS_PER_S: u64 = 100;

/// Bytes that the process read and wrote, from `/proc/self/io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoBytes {
    /// Bytes passed to read calls, the page cache's among them.
    pub read_calls_bytes: u64,
    /// Bytes passed to write calls.
    pub write_calls_bytes: u64,
    /// Bytes fetched from the storage layer.
    pub storage_read_bytes: u64,
    /// Bytes that were sent or will be sent to the storage layer, less those that never will be since their file was
    /// truncated or deleted before.
    pub storage_write_bytes: u64,
}

impl IoBytes {
    /// What was added since `before`.
    #[must_use]
    pub fn since(self, before: IoBytes) -> IoBytes {
        IoBytes {
            read_calls_bytes: self.read_calls_bytes.saturating_sub(before.read_calls_bytes),
            write_calls_bytes: self.write_calls_bytes.saturating_sub(before.write_calls_bytes),
            storage_read_bytes: self.storage_read_bytes.saturating_sub(before.storage_read_bytes),
            storage_write_bytes: self.storage_write_bytes.saturating_sub(before.storage_write_bytes),
        }
    }
}

/// The numbers of the threads that are alive; empty where there is no `/proc`.
pub fn thread_ids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The CPU time of a thread in ns; `None` if it has ended.
pub fn thread_cpu_ns(id: u32) -> Option<u64> {
    let file = |name: &str| fs::read_to_string(format!("/proc/self/task/{id}/{name}")).ok();
    let from_schedstat = file("schedstat").and_then(|text| parse_schedstat(&text));
    from_schedstat.or_else(|| parse_stat_cpu(&file("stat")?))
}

/// The name of a thread; `None` if it has ended.
pub fn thread_name(id: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// The bytes of the process; `None` where they are not to be had.
pub fn io() -> Option<IoBytes> {
    parse_io(&fs::read_to_string("/proc/self/io").ok()?)
}

/// The mark of peak resident memory.
pub fn peak_rss_bytes() -> Option<u64> {
    parse_kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Memory that is resident now.
pub fn resident_bytes() -> Option<u64> {
    parse_kib(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Sets the mark of peak resident memory back to what is resident now; false if that is not permitted.
pub fn reset_peak_rss() -> bool {
    let path = Path::new("/proc/self/clear_refs");
    path.exists() && fs::write(path, "5").is_ok()
}

/// The first figure of `schedstat`, ns on a CPU. Zero means that the kernel keeps none (or that the thread has not
/// run, for which `stat` says the same).
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok().filter(|&ns| ns > 0)
}

/// User and system time of `stat`, in ns. The name in parentheses may itself hold spaces and parentheses.
fn parse_stat_cpu(text: &str) -> Option<u64> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)?.checked_mul(1_000_000_000 / TICKS_PER_S)
}

fn parse_io(text: &str) -> Option<IoBytes> {
    let field = |name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().parse().ok()
    };
    Some(IoBytes {
        read_calls_bytes: field("rchar")?,
        write_calls_bytes: field("wchar")?,
        storage_read_bytes: field("read_bytes")?,
        storage_write_bytes: field("write_bytes")?.saturating_sub(field("cancelled_write_bytes").unwrap_or(0)),
    })
}

/// A figure of `status` in bytes.
fn parse_kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_and_stat() {
        assert_eq!(parse_schedstat("123456789 78226 17\n"), Some(123_456_789));
        assert_eq!(parse_schedstat("0 0 0\n"), None);
        assert_eq!(parse_schedstat(""), None);
        let stat = "23024 (a) b (c) R 23015 23015 12077 0 -1 4194304 99 0 0 0 250 13 0 0 20 0 1 0 360044 3133440 390";
        assert_eq!(parse_stat_cpu(stat), Some(2_630_000_000));
        assert_eq!(parse_stat_cpu("1 (x) R 2"), None);
        assert_eq!(parse_stat_cpu("nonsense"), None);
    }

    #[test]
    fn io_counts_what_reaches_the_storage() {
        let text = "rchar: 6986\nwchar: 10\nsyscr: 12\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 20480\ncancelled_write_bytes: 8192\n";
        let io = parse_io(text).unwrap();
        let wanted = IoBytes {
            read_calls_bytes: 6986,
            write_calls_bytes: 10,
            storage_read_bytes: 4096,
            storage_write_bytes: 12_288,
        };
        assert_eq!(io, wanted);
        assert_eq!(io.since(IoBytes { read_calls_bytes: 6000, ..io }).read_calls_bytes, 986);
        assert_eq!(parse_io("rchar: 1\n"), None);
    }

    #[test]
    fn peak_memory_is_in_bytes() {
        let text = "Name:\tx\nVmHWM:\t    2184 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(parse_kib(text, "VmHWM:"), Some(2184 * 1024));
        assert_eq!(parse_kib(text, "VmRSS:"), Some(1024));
        assert_eq!(parse_kib(text, "VmPeak:"), None);
    }
}
