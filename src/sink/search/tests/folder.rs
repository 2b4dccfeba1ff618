//! The folder: what survives, what is refused, and what a crash leaves.

use super::super::{SearchError, SearchIndex, SearchOptions, SearchReader};
use super::support::*;
use crate::model::{KeyRef, Lsn};
use crate::sink::{Sink, SinkError};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|file| format!("{name}/{file}")));
        } else if !name.starts_with('.') {
            found.insert(name);
        }
    }
    found
}

fn write(index: &mut SearchIndex, through: u64, text: &str) {
    index.apply(&upsert(through, INT, &[int_row(through as i64, text)])).expect("accepted");
}

#[test]
fn visible_is_not_durable_and_unpublished_is_neither() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    write(&mut index, 1, "durable");
    assert_eq!(index.reader().view().doc_count(), 0);
    index.publish(Lsn(1)).expect("published");
    assert_eq!((index.visible(), index.durable()), (Lsn(1), Lsn(0)));
    assert_eq!(index.checkpoint().expect("a checkpoint"), Lsn(1));
    write(&mut index, 2, "visible");
    index.publish(Lsn(2)).expect("published");
    write(&mut index, 3, "applied");
    let counters = index.counters();
    assert_eq!((counters.rows_upserted, counters.publishes, counters.checkpoints), (3, 2, 1));
    drop(index);

    let index = open(dir.path());
    let view = index.reader().view();
    assert_eq!((index.visible(), index.durable(), view.doc_count()), (Lsn(1), Lsn(1), 1));
    assert_eq!(view.hits(INT, KeyRef::Int(2)).expect("hits"), 0);
}

#[test]
fn a_watermark_moves_without_edits_and_a_checkpoint_writes_it_but_not_what_is_unpublished() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    write(&mut index, 1, "one");
    index.publish(Lsn(1)).expect("published");
    index.checkpoint().expect("a checkpoint");
    let before = index.counters();
    index.publish(Lsn(7)).expect("published");
    assert_eq!((index.visible(), index.durable()), (Lsn(7), Lsn(1)));
    assert_eq!(index.counters().bytes_written, before.bytes_written, "nothing is written for it");
    write(&mut index, 8, "eight");
    assert_eq!(index.checkpoint().expect("a checkpoint"), Lsn(7));
    assert_eq!(index.checkpoint().expect("a checkpoint"), Lsn(7));
    assert_eq!(index.counters().checkpoints, before.checkpoints + 1, "an empty one is none");
    drop(index);
    let index = open(dir.path());
    assert_eq!((index.visible(), index.reader().view().doc_count()), (Lsn(7), 1));
}

#[test]
fn a_watermark_never_goes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    index.publish(Lsn(5)).expect("published");
    let back = |outcome| matches!(outcome, Err(SinkError::Search(SearchError::WatermarkBack { .. })));
    assert!(back(index.publish(Lsn(4))));
    write(&mut index, 9, "nine");
    assert!(back(index.publish(Lsn(8))), "edits through 9 are accepted");
    index.publish(Lsn(9)).expect("published");
    let bulk = index.bulk().expect("a bulk load");
    assert!(back(index.install(bulk, Lsn(8))));
}

#[test]
fn a_second_writer_a_missing_and_a_second_index_and_a_newer_format_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = SearchOptions::default;
    let missing = SearchIndex::open(dir.path(), options()).expect_err("nothing there");
    assert!(missing.to_string().contains("holds no search index; check the folder"), "{missing}");
    assert!(matches!(SearchReader::open(dir.path()), Err(SearchError::Missing { .. })));
    assert!(files(dir.path()).is_empty(), "asking leaves nothing behind");
    let index = create(dir.path());
    let locked = SearchIndex::open(dir.path(), options()).expect_err("a second writer");
    let holder = format!("in use (process {}", std::process::id());
    assert!(locked.to_string().contains(&holder), "{locked}");
    assert!(matches!(SearchIndex::create(dir.path(), &catalog(), options()), Err(SearchError::Locked { .. })));
    drop(index);
    let exists = SearchIndex::create(dir.path(), &catalog(), options()).expect_err("a second index");
    assert!(exists.to_string().contains("holds a search index already"), "{exists}");

    let current = dir.path().join("CURRENT");
    let good = fs::read(&current).expect("a file");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&current, &bad).expect("written");
        let refused = SearchIndex::open(dir.path(), options()).expect_err("damage");
        assert!(matches!(refused, SearchError::Corrupt { .. } | SearchError::UnsupportedVersion { .. }), "{refused}");
    }
    fs::write(&current, "freshbench.search 9 0\nwhatever").expect("written");
    let newer = SearchIndex::open(dir.path(), options()).expect_err("a newer format");
    assert!(newer.to_string().contains("format version 9, and this build reads versions 1 to 1"), "{newer}");
    fs::write(&current, &good).expect("written");
    open(dir.path());
}

#[test]
fn what_a_crash_leaves_is_removed_and_does_no_harm() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    write(&mut index, 1, "one");
    index.publish(Lsn(1)).expect("published");
    index.checkpoint().expect("a checkpoint");
    let clean = files(dir.path());
    write(&mut index, 2, "two");
    index.publish(Lsn(2)).expect("published");
    assert!(files(dir.path()).is_superset(&clean), "the files of the last checkpoint stay");
    drop(index);
    // A crash during a rebuild leaves a generation that nobody names, and a CURRENT that was not finished.
    let orphan = dir.path().join("generation-0000000007");
    fs::create_dir(&orphan).expect("a folder");
    fs::write(orphan.join("meta.json"), "half").expect("written");
    fs::write(dir.path().join("CURRENT.new"), "half").expect("written");
    fs::write(dir.path().join("generation-0000000001/meta.json.new"), "half").expect("written");
    let index = open(dir.path());
    assert_eq!(index.reader().view().doc_count(), 1);
    assert_eq!(files(dir.path()), clean);
}

#[test]
fn a_failed_commit_poisons_the_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    write(&mut index, 1, "one");
    index.publish(Lsn(1)).expect("published");
    index.checkpoint().expect("a checkpoint");
    let view = index.reader().view();
    let (generation, away) = (dir.path().join("generation-0000000001"), dir.path().join("away"));
    fs::rename(&generation, &away).expect("renamed");
    write(&mut index, 2, "two");
    assert!(index.publish(Lsn(2)).is_err(), "its folder is gone");
    let again = index.publish(Lsn(2)).expect_err("poisoned");
    assert!(again.to_string().contains("open it again"), "{again}");
    assert!(index.checkpoint().is_err() && index.bulk().is_err());
    assert_eq!((index.visible(), index.durable(), view.doc_count()), (Lsn(1), Lsn(1), 1));
    drop(index);
    fs::rename(&away, &generation).expect("renamed");
    assert_eq!(open(dir.path()).reader().view().doc_count(), 1);
}

#[test]
fn a_foreign_reader_sees_the_last_checkpoint_while_the_writer_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    for round in 1..=40 {
        write(&mut index, round, "text");
        index.publish(Lsn(round)).expect("published");
        let expected = if round % 4 == 0 { index.checkpoint().expect("a checkpoint") } else { index.durable() };
        let view = SearchReader::open(dir.path()).expect("a reader").view();
        assert_eq!((view.watermark(), view.doc_count()), (expected, expected.0));
    }
}

#[test]
fn a_generation_goes_by_its_own_number_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    write(&mut index, 1, "one");
    index.publish(Lsn(1)).expect("published");
    index.checkpoint().expect("a checkpoint");
    drop(index);
    let in_use = |dir: &Path| {
        let folders = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
        folders.filter(|path| path.is_dir()).collect::<Vec<_>>().pop().expect("a generation")
    };
    // Kept aside under the number of another generation, then put in the place of the one that comes next.
    let first = in_use(dir.path());
    let aside = dir.path().with_extension("aside");
    fs::rename(&first, &aside).expect("renamed");
    fs::create_dir(&first).expect("a folder");
    for entry in fs::read_dir(&aside).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, first.join(path.file_name().expect("a name"))).expect("a copy");
    }
    let mut index = open(dir.path());
    let bulk = index.bulk().expect("a bulk load");
    index.install(bulk, Lsn(2)).expect("installed");
    drop(index);
    let second = in_use(dir.path());
    assert_ne!(first, second);
    fs::remove_dir_all(&second).expect("removed");
    fs::rename(&aside, &second).expect("renamed");
    let number = |path: &Path| path.to_string_lossy().rsplit('-').next().unwrap().trim_start_matches('0').to_owned();
    for said in [
        SearchReader::open(dir.path()).expect_err("for reading").to_string(),
        SearchIndex::open(dir.path(), SearchOptions::default()).expect_err("for writing").to_string(),
    ] {
        let (named, holds) = (format!("generation {}", number(&second)), format!("generation {}", number(&first)));
        assert!(said.contains(&named) && said.contains(&holds), "{said}");
    }
}
