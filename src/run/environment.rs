//! What the machine and the build are, and what basic operations cost on them.

use crate::clock::Clock;
use crate::report::{Environment, GitState};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// One instant of UTC in two spellings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UtcTime {
    /// `2026-01-02T03:04:05Z`
    pub rfc3339: String,
    /// `20260102T030405Z`, for names of folders.
    pub compact: String,
}

/// The present time.
pub fn utc_now() -> UtcTime {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = crate::model::text::civil((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    UtcTime {
        rfc3339: format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
        compact: format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"),
    }
}

static ALLOCATOR: OnceLock<&str> = OnceLock::new();

/// Notes the allocator of this program, which only the program itself knows; the first name counts. "system" unless told.
pub fn name_allocator(name: &'static str) {
    let _ = ALLOCATOR.set(name);
}

/// Looks the machine over; `folder` is where the run writes, and there the cost of an fsync is measured.
pub fn environment(folder: &Path, clock: &Clock) -> Environment {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu_model = field(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mem_kib: u64 = field(&meminfo, "MemTotal")
        .and_then(|text| text.split_whitespace().next().and_then(|number| number.parse().ok()))
        .unwrap_or(0);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Environment {
        cpu_model,
        cores: std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
        mem_bytes: mem_kib * 1024,
        fs: file_system(folder),
        os: format!("{} {}", std::env::consts::OS, release.trim()),
        freshbench: env!("CARGO_PKG_VERSION").to_owned(),
        rustc: env!("FRESHBENCH_RUSTC").to_owned(),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        allocator: ALLOCATOR.get().copied().unwrap_or("system").to_owned(),
        calibration: calibrate(folder, clock),
    }
}

/// What a reader must know of this machine and build before quoting a figure.
pub fn warnings(env: &Environment) -> Vec<String> {
    let mut warnings = Vec::new();
    if env.profile == "debug" {
        warnings.push("this is a debug build: its figures say nothing; build with --release".to_owned());
    }
    if env.calibration.get("fsync_p50_s").is_some_and(|&fsync| fsync < 10e-6) {
        warnings.push(
            "an fsync takes less than 10 us here, so this disk is memory or a cache: durability costs nothing"
                .to_owned(),
        );
    }
    if env.calibration.get("fsync_p50_s").is_some_and(|&fsync| fsync > 2e-3) {
        warnings
            .push("an fsync takes more than 2 ms here: a slow disk, or another program is writing to it".to_owned());
    }
    warnings
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The type of the file system that holds `folder`: the mount point with the longest matching path.
fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let matching = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (point, kind) = (words.nth(1)?, words.next()?);
        folder.starts_with(point).then_some((point.len(), kind))
    });
    matching.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

fn calibrate(folder: &Path, clock: &Clock) -> BTreeMap<String, f64> {
    const READINGS: u32 = 10_000;
    let mut out = BTreeMap::new();
    let begun = clock.now();
    for _ in 0..READINGS {
        std::hint::black_box(clock.now());
    }
    out.insert("clock_reading_s".to_owned(), clock.now().since(begun).as_secs_f64() / f64::from(READINGS));
    let path = folder.join("fsync-probe");
    if let Ok(mut file) = crate::storage::private::create(&path) {
        let mut times: Vec<f64> = (0..64)
            .map(|_| {
                let written = file.write_all(&[0; 4096]);
                let begun = clock.now();
                let synced = written.and_then(|()| file.sync_data());
                if synced.is_ok() { clock.now().since(begun).as_secs_f64() } else { f64::INFINITY }
            })
            .filter(|time| time.is_finite())
            .collect();
        times.sort_by(f64::total_cmp);
        if let Some(&median) = times.get(times.len() / 2) {
            out.insert("fsync_p50_s".to_owned(), median);
        }
        let _ = fs::remove_file(&path);
    }
    out
}

/// The commit of the checkout in which the command runs, if it runs in one.
pub fn git_state() -> GitState {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    GitState {
        commit: git(&["rev-parse", "HEAD"]),
        dirty: git(&["status", "--porcelain", "--untracked-files=no"]).map(|changes| !changes.is_empty()),
    }
}
