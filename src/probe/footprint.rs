//! What a run takes while it goes on: memory of the process and files of a folder, looked at now and then.

use super::meter::resident_bytes;
use crate::clock::Clock;
use crate::model::Moment;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FootprintSample {
    /// When.
    pub at: Moment,
    /// Memory of the process that is resident; 0 where the system does not tell.
    pub resident_bytes: u64,
    /// Files in the folder, those of its subfolders not counted.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
}

/// Looks at most once a step; a look costs a few system calls and one for each file.
#[derive(Debug)]
pub struct Footprint {
    folder: PathBuf,
    step: Duration,
    samples: Vec<FootprintSample>,
}

impl Footprint {
    /// Of this process and `folder`, which need not be there.
    pub fn new(folder: &Path, step: Duration) -> Footprint {
        Footprint { folder: folder.to_owned(), step, samples: Vec::new() }
    }

    /// Looks, if that is due.
    pub fn look(&mut self, clock: &Clock) {
        let at = clock.now();
        if self.samples.last().is_some_and(|last| at.since(last.at) < self.step) {
            return;
        }
        let (mut files, mut file_bytes) = (0, 0);
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            // A file may go between the listing and the question.
            if let Some(data) = entry.metadata().ok().filter(|data| data.is_file()) {
                files += 1;
                file_bytes += data.len();
            }
        }
        let resident_bytes = resident_bytes().unwrap_or(0);
        self.samples.push(FootprintSample { at, resident_bytes, files, file_bytes });
    }

    /// All looks, in the order of time.
    pub fn into_samples(self) -> Vec<FootprintSample> {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_files_come_and_looks_no_oftener_than_told() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let clock = Clock::monotonic();
        let mut often = Footprint::new(folder.path(), Duration::ZERO);
        let mut once = Footprint::new(&folder.path().join("missing"), Duration::from_secs(3_600));
        often.look(&clock);
        once.look(&clock);
        std::fs::write(folder.path().join("a"), b"12345")?;
        std::fs::create_dir(folder.path().join("b"))?;
        often.look(&clock);
        once.look(&clock);
        let seen: Vec<_> = often.into_samples().iter().map(|sample| (sample.files, sample.file_bytes)).collect();
        assert_eq!(seen, [(0, 0), (1, 5)]);
        let once = once.into_samples();
        assert_eq!((once.len(), once[0].files), (1, 0));
        assert!(once[0].resident_bytes > 1 << 20 || !Path::new("/proc/self/status").exists());
        Ok(())
    }
}
