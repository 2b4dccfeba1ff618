//! A folder and its children, killed one after the other.

use crate::check::{Found, Known, check, content_end, end_of_records, segments};
use crate::child::Life;
use crate::ledger::Ledger;
use crate::planted::Plant;
use freshbench::stats::SplitMix64;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where a kill is aimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Between `recovering` and `recovered`.
    Recovery,
    /// At a checkpoint, which may be over by then.
    Checkpoint,
    /// At any time behind the recovery.
    Anywhere,
}

/// Where a kill came.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    pub in_recovery: bool,
    pub in_checkpoint: bool,
    /// The log's unsynced tail was cut off at random besides, as a power cut might.
    pub cut: bool,
    pub found: Found,
}

/// A folder with its history.
pub struct Lane {
    folder: tempfile::TempDir,
    pub seed: u64,
    pub lives: u64,
    plant: Option<Plant>,
    known: Known,
    place: u64,
    /// How long the last recovery took that was not cut short.
    recovery: Duration,
}

/// What a child says, as it comes.
struct Said {
    lines: Receiver<String>,
    recovered: bool,
    in_checkpoint: bool,
    checkpoints: u64,
    checkpointed: u64,
    acknowledged: u64,
    synced: u64,
}

impl Said {
    fn note(&mut self, line: &str) {
        let number = |text: &str| text.parse().unwrap_or(0);
        match line.split_once(' ').unwrap_or((line, "")) {
            ("recovered", _) => self.recovered = true,
            ("checkpoint", _) => (self.in_checkpoint, self.checkpoints) = (true, self.checkpoints + 1),
            ("checkpointed", n) => {
                (self.in_checkpoint, self.checkpointed) = (false, self.checkpointed.max(number(n)));
            }
            ("acknowledged", n) => self.acknowledged = self.acknowledged.max(number(n)),
            ("synced", n) => self.synced = self.synced.max(number(n)),
            _ => {}
        }
    }

    /// Waits until `done`; false when the child's end comes before.
    fn until(&mut self, done: impl Fn(&Said, &str) -> bool) -> Result<bool, String> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.note(&line);
                    if done(self, &line) {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => return Err(format!("the child said nothing for {PATIENCE:?}")),
            }
        }
    }
}

fn spawn(life: &Life) -> std::io::Result<(Child, Said)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "the_child_that_is_killed", "--nocapture", "--test-threads=1"]);
    command.env("FRESHBENCH_KILLS_FOLDER", &life.folder).env("FRESHBENCH_KILLS_SEED", life.seed.to_string());
    command.env("FRESHBENCH_KILLS_LIFE", life.number.to_string());
    let plant = life.plant.and_then(|plant| Plant::ALL.iter().position(|other| *other == plant));
    command.env("FRESHBENCH_KILLS_PLANT", plant.map_or(String::new(), |plant| plant.to_string()));
    command.env("RAYON_NUM_THREADS", "2").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (sender, lines) = channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout.into_iter().next()?).lines() {
            // What a kill leaves of a line would come as a line, too; a number cut short is a smaller one, and claims less.
            if let Some(line) = line.ok()?.strip_prefix('@') {
                sender.send(line.to_owned()).ok()?;
            }
        }
        Some(())
    });
    let (recovered, in_checkpoint) = (false, false);
    let (checkpoints, checkpointed, acknowledged, synced) = (0, 0, 0, 0);
    Ok((child, Said { lines, recovered, in_checkpoint, checkpoints, checkpointed, acknowledged, synced }))
}

impl Lane {
    pub fn new(seed: u64, plant: Option<Plant>) -> Lane {
        let known = Known { durable: Ledger::new(seed), checkpointed: 0, acknowledged: 0, synced: 0 };
        let folder = tempfile::tempdir().expect("a folder");
        Lane { folder, seed, lives: 0, plant, known, place: 0, recovery: Duration::from_millis(5) }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.place += 1;
        SplitMix64::at(self.seed ^ 0xdead, self.place) % below
    }

    /// A life and its end.
    ///
    /// # Errors
    /// What is wrong with what is left, or with what the child said.
    pub fn kill(&mut self, aim: Aim) -> Result<Hit, String> {
        let folder = self.folder.path().to_owned();
        let life = Life { folder: folder.clone(), seed: self.seed, number: self.lives, plant: self.plant };
        self.lives += 1;
        let (mut child, mut said) = spawn(&life).map_err(|error| error.to_string())?;
        let waited = self.wait(aim, &mut said);
        // It is on its way when the kill comes; nothing of ours is between.
        let _ = child.kill();
        let status = child.wait().map_err(|error| error.to_string())?;
        waited?;
        while said.until(|_, _| false)? {}
        if status.signal() != Some(9) {
            let mut text = String::new();
            let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
            return Err(format!("the child ended by itself, {status}: {}", text.trim()));
        }
        self.known.acknowledged = self.known.acknowledged.max(said.acknowledged);
        self.known.checkpointed = self.known.checkpointed.max(said.checkpointed);
        self.known.synced = self.known.synced.max(said.synced);
        let cut = self.draw(3) == 0 && self.cut(&folder).map_err(|error| error.to_string())?;
        let twice = self.draw(4) == 0;
        let found = check(&folder, &mut self.known, twice)?;
        Ok(Hit { in_recovery: !said.recovered, in_checkpoint: said.in_checkpoint, cut, found })
    }

    /// Until the instant of the kill.
    fn wait(&mut self, aim: Aim, said: &mut Said) -> Result<(), String> {
        said.until(|_, line| line == "recovering")?;
        let begun = Instant::now();
        let us = match aim {
            Aim::Recovery => self.draw(self.recovery.as_micros() as u64 + 1),
            Aim::Checkpoint => {
                let checkpoints = 1 + self.draw(3);
                said.until(|said, line| line == "checkpoint" && said.recovered && said.checkpoints >= checkpoints)?;
                self.draw(6_000)
            }
            Aim::Anywhere => {
                said.until(|said, _| said.recovered)?;
                self.recovery = begun.elapsed();
                // As many within the first millisecond as within the first forty.
                let longest = [300, 2_000, 10_000, 40_000][self.draw(4) as usize];
                self.draw(longest)
            }
        };
        std::thread::sleep(Duration::from_micros(us));
        Ok(())
    }

    /// Loses the end of the last segment from a random byte of what was not fsynced: cut off, or zeros as in prepared space. Whether
    /// there was any.
    fn cut(&mut self, folder: &Path) -> std::io::Result<bool> {
        let Some(path) = segments(folder).pop() else { return Ok(false) };
        let bytes = fs::read(&path)?;
        let synced = end_of_records(&bytes, self.known.synced);
        let spare = content_end(&bytes).saturating_sub(synced) as u64;
        if spare == 0 {
            return Ok(false);
        }
        let kept = synced as u64 + self.draw(spare);
        let file = fs::OpenOptions::new().write(true).open(path)?;
        file.set_len(kept)?;
        if self.draw(2) == 0 {
            file.set_len(bytes.len() as u64)?;
        }
        Ok(true)
    }
}
