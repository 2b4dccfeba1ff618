//! The fault matrix: a history whose every I/O step fails in every way, against a plain model of what it may leave.
//!
//! A failing case prints the line that replays it. `FRESHBENCH_FAULTS=step,kind,versions,seed` runs one case alone.

use super::super::{Warehouse, WarehouseError, WarehouseOptions, WarehouseReader, versions};
use super::history::*;
use super::support::*;
use crate::model::{Catalog, Lsn};
use crate::sink::Sink;
use crate::storage::faulty::{Fault, FaultyDisk};
use crate::storage::{Disk, Mistake, ReadFile, SegmentFile, Storage};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a run is known to have done.
struct Ledger {
    /// The state at every watermark that was ever asked for.
    states: BTreeMap<u64, State>,
    /// The watermark that was last acknowledged as durable; `None` before the folder was created.
    acknowledged: Option<u64>,
    errors: Vec<String>,
    /// What was wrong already before the end.
    wrong: Option<String>,
}

impl Ledger {
    fn new() -> Ledger {
        let states = BTreeMap::from([(0, State::default())]);
        Ledger { states, acknowledged: None, errors: Vec::new(), wrong: None }
    }

    /// What an opening finds is as good as acknowledged.
    fn opened(&mut self, warehouse: &Warehouse) {
        self.acknowledged = self.acknowledged.max(Some(warehouse.durable().0));
    }
}

struct Run<'a> {
    dir: &'a Path,
    disk: FaultyDisk,
    storage: Arc<dyn Storage>,
    options: WarehouseOptions,
    ledger: Ledger,
}

impl<'a> Run<'a> {
    fn new(dir: &'a Path, disk: &FaultyDisk, options: WarehouseOptions) -> Run<'a> {
        Run { dir, disk: disk.clone(), storage: Arc::new(disk.clone()), options, ledger: Ledger::new() }
    }

    fn heard<T, E: std::fmt::Display>(&mut self, outcome: Result<T, E>) -> Option<T> {
        outcome.map_err(|error| self.ledger.errors.push(error.to_string())).ok()
    }

    /// Creates the warehouse, or opens it if an attempt got so far; tries a second time, as a user would.
    fn begin(&mut self) -> Option<Warehouse> {
        for _ in 0..2 {
            let storage = self.storage.clone();
            let made = match Warehouse::create_on(storage.clone(), self.dir, &catalog(), self.options.clone()) {
                Err(WarehouseError::Exists { .. }) => Warehouse::open_on(storage, self.dir, self.options.clone()),
                made => made,
            };
            if let Some(warehouse) = self.heard(made) {
                self.ledger.opened(&warehouse);
                return Some(warehouse);
            }
        }
        None
    }

    fn reopen(&mut self) -> Option<Warehouse> {
        for _ in 0..2 {
            let opened = Warehouse::open_on(self.storage.clone(), self.dir, self.options.clone());
            if let Some(warehouse) = self.heard(opened) {
                self.ledger.opened(&warehouse);
                return Some(warehouse);
            }
        }
        None
    }

    /// Runs the history to its end, or to the first failure after which the writer has to be let go.
    fn play(&mut self, acts: &[Act]) {
        let Some(mut warehouse) = self.begin() else { return };
        let mut state = State::default();
        for act in acts {
            let done = match act {
                Act::Apply { lsn, .. } => {
                    state = after(&state, act);
                    self.ledger.states.insert(*lsn, state.clone());
                    let applied = warehouse.apply(&edits_of(act)).and_then(|()| warehouse.publish(Lsn(*lsn)));
                    self.heard(applied).is_some()
                }
                Act::Checkpoint => {
                    let outcome = warehouse.checkpoint();
                    if let Some(durable) = self.heard(outcome) {
                        assert_eq!(durable, warehouse.durable());
                        self.ledger.acknowledged = Some(durable.0);
                    }
                    true // A second try may come with the next checkpoint; it must not lie.
                }
                Act::Load { lsn, .. } => {
                    let loaded = after(&state, act);
                    self.ledger.states.insert(*lsn, loaded.clone());
                    let outcome = load(&mut warehouse, act);
                    let done = self.heard(outcome).is_some();
                    if done {
                        state = loaded;
                        self.ledger.acknowledged = Some(*lsn);
                    }
                    done
                }
                Act::Reopen => {
                    drop(warehouse);
                    let Some(opened) = self.reopen() else { return };
                    warehouse = opened;
                    match self.ledger.states.get(&warehouse.visible().0) {
                        Some(found) => state = found.clone(),
                        None => return,
                    }
                    true
                }
            };
            if !done || self.disk.is_dead() {
                return;
            }
        }
        let version = warehouse.reader().version();
        let expected = self.ledger.states.get(&version.watermark().0);
        match all_of(&version) {
            Ok(found) if expected == Some(&found) => {}
            Ok(_) => self.ledger.wrong = Some("the writer shows another state".to_owned()),
            // Only the reading failed, and says so.
            Err(error) => self.ledger.errors.push(error),
        }
    }
}

/// One case of the matrix.
#[derive(Clone, Copy, Debug)]
struct Case {
    step: usize,
    fault: Fault,
    versions_kept: usize,
    seed: u64,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { step, fault, versions_kept, seed } = self;
        write!(
            f,
            "FRESHBENCH_FAULTS={step},{fault:?},{versions_kept},{seed} cargo test --lib fault_matrix_of_the_warehouse"
        )
    }
}

fn options(versions_kept: usize) -> WarehouseOptions {
    WarehouseOptions { versions_kept, ..small() }
}

/// Steps that may fail without a word: they only tidy up, and what is left behind goes at the next opening.
fn is_harmless(steps: &[String], step: usize) -> bool {
    let begins = |place: Option<usize>, words: &str| {
        place.and_then(|place| steps.get(place)).is_some_and(|step| step.starts_with(words))
    };
    let tidies = ["remove segment-", "remove deleted-", "remove version-"];
    tidies.iter().any(|words| begins(Some(step), words))
        // After an expired version's manifest was removed; its files then stay until the next opening.
        || begins(Some(step), "fsync folder") && begins(step.checked_sub(1), "remove version-")
}

/// Runs a case; `Err` says what is wrong with what it left.
fn check(case: Case, mistake: Option<Mistake>) -> Result<(), String> {
    let folder = small_folder();
    let dir = folder.path();
    let disk = FaultyDisk::new(Some((case.step, case.fault)), mistake);
    let acts = history(case.seed);
    let options = options(case.versions_kept);
    let mut run = Run::new(dir, &disk, options.clone());
    run.play(&acts);
    let mut ledger = run.ledger;
    let hit = disk.hit().ok_or("the step was never reached")?;
    if let Some(wrong) = ledger.wrong {
        return Err(format!("{hit}: {wrong}"));
    }
    if ledger.errors.is_empty() && !is_harmless(&disk.trace(), case.step) {
        return Err(format!("{hit} failed, and no error was reported"));
    }
    for error in &ledger.errors {
        let says_where = error.contains(&*dir.to_string_lossy());
        if error.lines().count() != 1 || !says_where {
            return Err(format!("the error is not one clear line: {error}"));
        }
    }
    if case.fault == Fault::KillThenPowerCut {
        disk.revive();
        // It may well be that there is nothing yet to be opened.
        if let Ok(warehouse) = Warehouse::open_on(Arc::new(disk.clone()), dir, options.clone()) {
            ledger.opened(&warehouse);
        }
    }
    let mut random = Random(case.seed ^ (case.step as u64) << 8);
    disk.settle(dir, || random.next());
    check_left(dir, &options, &ledger).map_err(|what| format!("{hit}: {what}"))
}

/// Opens on a healthy disk, looks, opens again, and goes on.
fn check_left(dir: &Path, options: &WarehouseOptions, ledger: &Ledger) -> Result<(), String> {
    let text = |error: WarehouseError| error.to_string();
    let warehouse = match ledger.acknowledged {
        Some(_) => Warehouse::open(dir, options.clone()),
        // The making was cut short: it can be done again, unless it had come to its end.
        None => match Warehouse::create(dir, &catalog(), options.clone()) {
            Err(WarehouseError::Exists { .. }) => Warehouse::open(dir, options.clone()),
            made => made,
        },
    };
    let warehouse = warehouse.map_err(text)?;
    let acknowledged = ledger.acknowledged.unwrap_or(0);
    let version = warehouse.reader().version();
    let watermark = version.watermark().0;
    if watermark < acknowledged {
        return Err(format!("watermark {watermark} was found, and {acknowledged} was acknowledged"));
    }
    let base = ledger.states.get(&watermark).ok_or(format!("watermark {watermark} was never asked for"))?;
    if all_of(&version)? != *base {
        return Err(format!("other rows than the ledger's at watermark {watermark}"));
    }
    warehouse.verify().map_err(text)?;
    check_versions(dir, options, ledger)?;
    check_files(dir)?;
    drop(warehouse);
    let mut warehouse = Warehouse::open(dir, options.clone()).map_err(text)?;
    if warehouse.visible().0 != watermark {
        return Err("a second opening finds another watermark".to_owned());
    }
    let act = Act::Apply { lsn: 1_000, upserts: (40..80).collect(), deletes: vec![1, 2, 3], truncate: false };
    let expected = after(base, &act);
    warehouse.apply(&edits_of(&act)).map_err(|error| error.to_string())?;
    warehouse.publish(Lsn(1_000)).map_err(|error| error.to_string())?;
    warehouse.checkpoint().map_err(|error| error.to_string())?;
    drop(warehouse);
    let reader = WarehouseReader::open(dir).map_err(text)?;
    let found = all_of(&reader.version())?;
    if found == expected { Ok(()) } else { Err("it does not go on from there".to_owned()) }
}

/// Every version that is listed opens, and is the ledger's at its watermark.
fn check_versions(dir: &Path, options: &WarehouseOptions, ledger: &Ledger) -> Result<(), String> {
    let listed = versions(dir).map_err(|error| error.to_string())?;
    if listed.len() > options.versions_kept {
        return Err(format!("{} versions are kept", listed.len()));
    }
    for info in listed {
        let at = super::super::VersionAt::Commit(info.commit);
        let reader = WarehouseReader::open_at(dir, at).map_err(|error| error.to_string())?;
        let version = reader.version();
        let expected = ledger.states.get(&info.watermark.0).ok_or("a version of no known watermark")?;
        if version.watermark() != info.watermark || all_of(&version)? != *expected {
            return Err(format!("commit {} is not the ledger's state at {}", info.commit, info.watermark));
        }
        if info.rows != (expected[0].len() + expected[1].len()) as u64 {
            return Err(format!("commit {} is listed with {} rows", info.commit, info.rows));
        }
    }
    Ok(())
}

/// After an opening there are no files but those that some version names.
pub(super) fn check_files(dir: &Path) -> Result<(), String> {
    let all = super::super::versions::manifests(&Disk, dir).map_err(|error| error.to_string())?;
    let mut named = BTreeSet::from(["LOCK".to_owned(), "MANIFEST".to_owned()]);
    let current = all.last().map_or(0, |manifest| manifest.commit);
    for manifest in &all {
        if manifest.commit != current {
            named.insert(format!("version-{:010}.manifest", manifest.commit));
        }
        for entry in manifest.tables.iter().flatten() {
            named.insert(format!("segment-{:010}.parquet", entry.file));
            named.extend(entry.deleted.iter().map(|deleted| format!("deleted-{:010}.bin", deleted.file)));
        }
    }
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let found: BTreeSet<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    if found == named { Ok(()) } else { Err(format!("the folder has {found:?}, and the versions name {named:?}")) }
}

/// In memory where the machine has such a file system, since thousands are made.
fn small_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The steps of the history when nothing fails.
fn steps(versions_kept: usize, seed: u64, mistake: Option<Mistake>) -> Vec<String> {
    let folder = small_folder();
    let disk = FaultyDisk::new(None, mistake);
    let mut run = Run::new(folder.path(), &disk, options(versions_kept));
    run.play(&history(seed));
    assert!(run.ledger.errors.is_empty(), "{:?}", run.ledger.errors);
    check_left(folder.path(), &options(versions_kept), &run.ledger).expect("sound without faults");
    disk.trace()
}

/// All steps on one thread, so that their order is the same each time.
fn alone<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool").install(run)
}

/// Runs cases on two threads and gives what was found.
fn run_all(cases: &[Case]) -> Vec<String> {
    let half = cases.len().div_ceil(2).max(1);
    std::thread::scope(|scope| {
        let parts = cases.chunks(half).map(|part| {
            scope.spawn(move || {
                let found = |case: &Case| check(*case, None).err().map(|what| format!("{what}\n  replay: {case}"));
                alone(|| part.iter().filter_map(found).collect::<Vec<_>>())
            })
        });
        parts.collect::<Vec<_>>().into_iter().flat_map(|part| part.join().expect("no panic")).collect()
    })
}

/// The case that `FRESHBENCH_FAULTS` names.
fn named_case() -> Option<Case> {
    let text = std::env::var("FRESHBENCH_FAULTS").ok()?;
    Some(parsed(&text).unwrap_or_else(|| panic!("FRESHBENCH_FAULTS is step,kind,versions,seed, not {text:?}")))
}

fn parsed(text: &str) -> Option<Case> {
    let [step, fault, kept, seed] = text.split(',').collect::<Vec<_>>().try_into().ok()?;
    let fault = Fault::ALL.into_iter().find(|kind| format!("{kind:?}") == fault)?;
    Some(Case { step: step.parse().ok()?, fault, versions_kept: kept.parse().ok()?, seed: seed.parse().ok()? })
}

/// Every step times every kind of fault that means something there.
fn matrix(versions_kept: usize, seed: u64, mistake: Option<Mistake>) -> Vec<Case> {
    let steps = alone(|| steps(versions_kept, seed, mistake));
    let mut cases = Vec::new();
    for (step, name) in steps.iter().enumerate() {
        for fault in Fault::ALL {
            let writes = name.starts_with("write") || name.starts_with("create");
            let fits = match fault {
                Fault::ShortWrite => name.starts_with("write"),
                Fault::Enospc => writes || name.starts_with("fsync") || name.starts_with("link"),
                _ => true,
            };
            if fits {
                cases.push(Case { step, fault, versions_kept, seed });
            }
        }
    }
    cases
}

#[test]
fn the_fault_matrix_of_the_warehouse_finds_nothing() {
    let cases = match named_case() {
        Some(case) => vec![case],
        None => [matrix(1, 1, None), matrix(3, 2, None)].concat(),
    };
    let found = run_all(&cases);
    assert!(found.is_empty(), "{} of {} cases:\n{}", found.len(), cases.len(), found.join("\n"));
    assert!(!cases.is_empty(), "no case was looked at");
    println!("{} cases", cases.len());
}

#[test]
fn the_fault_matrix_finds_planted_mistakes() {
    for (mistake, fault, step) in [
        (Mistake::ManifestBeforeData, Fault::PowerCut, ""),
        (Mistake::FolderNotSynced, Fault::PowerCut, ""),
        (Mistake::RemovedTooEarly, Fault::Kill, ""),
        (Mistake::GuessedAtOpening, Fault::KillThenPowerCut, "fsync folder"),
        (Mistake::LoadTakenBack, Fault::Eio, "fsync folder"),
    ] {
        // The kinds and steps that can show it, so that it does not take long; what a power cut keeps is a matter of luck.
        let found = (1..=12).find_map(|seed| {
            let steps = alone(|| steps(1, seed, Some(mistake)));
            let shows = |case: &Case| case.fault == fault && steps[case.step].starts_with(step);
            let cases: Vec<Case> = matrix(1, seed, Some(mistake)).into_iter().filter(shows).collect();
            alone(|| cases.into_iter().find_map(|case| Some((case, check(case, Some(mistake)).err()?))))
        });
        let (case, what) = found.unwrap_or_else(|| panic!("{mistake:?} was not found"));
        println!("{mistake:?}: {what}\n  by {case}");
    }
}

/// The files of a folder whose names begin so.
fn named(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let begins = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    paths.filter(begins).collect()
}

#[test]
fn an_opening_makes_the_found_manifest_durable_before_it_removes_anything() {
    let folder = small_folder();
    let disk = FaultyDisk::new(None, None);
    let mut run = Run::new(folder.path(), &disk, small());
    run.play(&history(3));
    fs::write(folder.path().join("segment-9999999999.parquet"), b"left behind").expect("an orphan");
    let before = disk.trace().len();
    drop(Warehouse::open_on(Arc::new(disk.clone()), folder.path(), small()).expect("open"));
    let trace = disk.trace().split_off(before);
    let place = |what: &str| trace.iter().position(|step| step.starts_with(what)).expect("the step");
    assert!(place("fsync folder") < place("remove segment-9999999999"), "{trace:?}");
    assert!(named(folder.path(), "segment-99").is_empty());
}

/// A disk on which another process makes a warehouse right after the first look for one.
struct Overtaken {
    folder: PathBuf,
    looked: AtomicBool,
}

impl Storage for Overtaken {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        if path.ends_with("MANIFEST") && !self.looked.swap(true, Ordering::SeqCst) {
            let catalog = Catalog { tables: Vec::new() };
            drop(Warehouse::create(&self.folder, &catalog, WarehouseOptions::default()).expect("the other's"));
            return Err(ErrorKind::NotFound.into());
        }
        Disk.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Disk.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        Disk.truncate(path, bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        Disk.sync_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        Disk.sync_folder(path)
    }
}

#[test]
fn of_two_that_create_a_warehouse_at_once_the_second_is_refused() {
    let folder = small_folder();
    let disk = Overtaken { folder: folder.path().to_owned(), looked: AtomicBool::new(false) };
    let refused = Warehouse::create_on(Arc::new(disk), folder.path(), &Catalog { tables: Vec::new() }, small());
    assert!(matches!(refused, Err(WarehouseError::Exists { .. })), "{refused:?}");
}

#[test]
fn a_folder_that_an_ended_process_left_has_its_name_made_durable() {
    let above = small_folder();
    let dir = above.path().join("w");
    let killed = FaultyDisk::new(Some((2, Fault::Kill)), None);
    let catalog = Catalog { tables: Vec::new() };
    Warehouse::create_on(Arc::new(killed.clone()), &dir, &catalog, small()).expect_err("killed");
    assert!(killed.trace()[1].starts_with("create folder") && dir.is_dir(), "{:?}", killed.trace());
    let disk = FaultyDisk::new(None, None);
    drop(Warehouse::create_on(Arc::new(disk.clone()), &dir, &catalog, small()).expect("created"));
    let name = above.path().file_name().expect("a name").to_string_lossy();
    let trace = disk.trace();
    let place = |what: &str| trace.iter().position(|step| step == what).expect("the step");
    assert!(place(&format!("fsync folder {name}")) < place("fsync folder w"), "{trace:?}");
}
