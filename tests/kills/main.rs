//! A thousand `kill -9` of a process that keeps a log and a warehouse, two hundred of them while it recovers: what is left
//! is always the ledger at exactly the warehouse's watermark, with everything that was acknowledged in the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod check;
mod child;
mod lane;
mod ledger;
mod planted;

use child::Life;
use freshbench::stats::SplitMix64;
use lane::{Aim, Hit, Lane};
use planted::Plant;
use std::sync::Mutex;

const KILLS: u64 = 1_000;
const IN_RECOVERY: u64 = 200;
const SIDE_BY_SIDE: u64 = 2;
/// A folder's history is so many lives long, then another begins.
const LIVES: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn seed() -> u64 {
    number("FRESHBENCH_SEED").unwrap_or(42)
}

/// What the kills met, so that the test can't pass by always killing at the same place.
#[derive(Debug, Default)]
struct Met {
    failed: bool,
    kills: u64,
    in_recovery: u64,
    in_checkpoint: u64,
    power_cuts: u64,
    torn: u64,
    orphans: u64,
    replayed: u64,
    unheard: u64,
    deleted_rows: u64,
    several_segments: u64,
}

impl Met {
    fn note(&mut self, hit: &Hit) {
        self.kills += 1;
        for (count, is) in [
            (&mut self.in_recovery, hit.in_recovery),
            (&mut self.in_checkpoint, hit.in_checkpoint),
            (&mut self.power_cuts, hit.cut),
            (&mut self.torn, hit.found.torn),
            (&mut self.orphans, hit.found.orphans),
            (&mut self.replayed, hit.found.replayed),
            (&mut self.unheard, hit.found.unheard),
            (&mut self.deleted_rows, hit.found.deleted_rows),
            (&mut self.several_segments, hit.found.segments > 1),
        ] {
            *count += u64::from(is);
        }
    }

    fn is_enough(&self, kills: u64, in_recovery: u64) -> bool {
        self.failed || (self.kills >= kills && self.in_recovery >= in_recovery)
    }
}

/// Not a test: what the others start, and kill.
#[test]
fn the_child_that_is_killed() {
    let Ok(folder) = std::env::var("FRESHBENCH_KILLS_FOLDER") else { return };
    let plant = std::env::var("FRESHBENCH_KILLS_PLANT").ok().and_then(|place| place.parse::<usize>().ok());
    let plant = plant.map(|place| Plant::ALL[place]);
    let (seed, life) = (number("FRESHBENCH_KILLS_SEED").unwrap(), number("FRESHBENCH_KILLS_LIFE").unwrap());
    let ended = child::live(Life { folder: folder.into(), seed, number: life, plant });
    eprintln!("{}", ended.unwrap_err());
    std::process::exit(8);
}

/// Kills until `met` is enough, each lane in folders of its own.
fn kill_in_lane(lane: u64, seed: u64, kills: u64, in_recovery: u64, met: &Mutex<Met>) {
    let mut generation = 0;
    while !met.lock().unwrap().is_enough(kills, in_recovery) {
        let folder_seed = SplitMix64::at(seed, lane << 32 | generation);
        generation += 1;
        let mut folder = Lane::new(folder_seed, None);
        while folder.lives < LIVES && !met.lock().unwrap().is_enough(kills, in_recovery) {
            let aim = match SplitMix64::at(folder_seed, folder.lives) % 10 {
                0..3 => Aim::Recovery,
                3..6 => Aim::Checkpoint,
                _ => Aim::Anywhere,
            };
            match folder.kill(aim) {
                Ok(hit) => met.lock().unwrap().note(&hit),
                Err(what) => {
                    met.lock().unwrap().failed = true;
                    let place = format!("life {} of folder {folder_seed} ({aim:?})", folder.lives);
                    panic!("{place}: {what}\nFRESHBENCH_SEED={seed} cargo test --test kills");
                }
            }
        }
    }
}

#[test]
fn after_any_kill_everything_acknowledged_is_there_and_the_warehouse_is_the_ledger_at_its_watermark() {
    let kills = number("FRESHBENCH_KILLS").unwrap_or(KILLS);
    let in_recovery = kills * IN_RECOVERY / KILLS;
    let seed = seed();
    println!("FRESHBENCH_SEED={seed} FRESHBENCH_KILLS={kills}");
    let met = Mutex::new(Met::default());
    std::thread::scope(|scope| {
        for lane in 0..SIDE_BY_SIDE {
            let met = &met;
            scope.spawn(move || kill_in_lane(lane, seed, kills, in_recovery, met));
        }
    });
    let met = met.into_inner().unwrap();
    println!("{met:?}");
    let enough = [
        ("during recovery", met.in_recovery, kills / 5),
        ("in a checkpoint", met.in_checkpoint, kills / 25),
        ("with the unsynced tail cut", met.power_cuts, kills / 100),
        ("with a torn tail", met.torn, kills / 200),
        ("with orphans", met.orphans, kills / 50),
        ("with a log to replay", met.replayed, kills / 4),
        ("with transactions that nobody had heard of", met.unheard, kills / 10),
        ("with deletion vectors", met.deleted_rows, kills / 5),
        ("with several segments", met.several_segments, kills / 4),
    ];
    for (what, count, least) in enough {
        assert!(count >= least, "only {count} kills {what}: {met:?}");
    }
}

/// Each bug, and what must be said of it: where it shows, by table and key where it has one.
#[test]
fn every_planted_bug_is_found() {
    // A transaction or a group that was passed over shows as a wrong row, or as one that the next change finds missing.
    let expected = [
        (Plant::AcknowledgeBeforeFsync, ["transactions were acknowledged, and the log ends at", ""]),
        (Plant::OffByOnePosition, ["key ", ""]),
        (Plant::DroppedDelete, ["key [", "should not be there"]),
        (Plant::LostUnchangedValue, ["key [", "Some(Null)), and should be"]),
        (Plant::SwallowedError, ["key ", ""]),
        (Plant::KeyChangeAsUpsert, ["key [", "should not be there"]),
        (Plant::SwappedUpdates, ["items at ", "), and should be ("]),
    ];
    let seed = seed();
    for (plant, words) in expected {
        let said = (0..400).scan(Lane::new(seed, Some(plant)), |lane, life| {
            let aim = if life % 2 == 0 { Aim::Checkpoint } else { Aim::Anywhere };
            Some(lane.kill(aim).err())
        });
        let said = said.flatten().next().unwrap_or_else(|| panic!("{plant:?} was not found; FRESHBENCH_SEED={seed}"));
        println!("{plant:?}: {said}");
        let names_table = said.contains("orders") || said.contains("items");
        assert!(words.iter().all(|word| said.contains(word)), "{plant:?}: {said}");
        assert!(names_table || plant == Plant::AcknowledgeBeforeFsync, "{plant:?}: {said}");
    }
}
