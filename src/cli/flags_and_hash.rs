//! Every flag of `run` and `attach` either changes the configuration's hash or is listed here as harmless, with the reason. A flag
//! that is in neither list fails these tests: a setting that counts and is not hashed is later reported as a regression.

use super::args::{Cli, Command};
use super::run::planned;
use crate::log::Fsync;
use crate::run::identity::{Pipeline, Settings, attach_settings, config_hash, run_settings};
use crate::sink::WarehouseOptions;
use crate::source::postgres::PgOptions;
use clap::{CommandFactory, Parser};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a flag does to the hash, and the arguments that show it.
enum Effect {
    /// These arguments give another hash than none of them.
    Changes(&'static [&'static str]),
    /// These don't, and why no figure depends on them.
    Harmless(&'static [&'static str], &'static str),
}
use Effect::{Changes, Harmless};

const RUN: &[(&str, Effect)] = &[
    ("source", Changes(&["--source", "postgres://r@h:1/d"])),
    ("strategies", Changes(&["--strategies", "cdc-trigger"])),
    ("workload", Changes(&["--workload", "ycsb-a"])),
    ("rows", Changes(&["--rows", "77"])),
    ("rate", Changes(&["--rate", "77"])),
    ("arrivals", Changes(&["--arrivals", "fixed"])),
    ("clients", Changes(&["--clients", "7"])),
    ("keys", Changes(&["--keys", "latest"])),
    ("duration", Changes(&["--duration", "7s"])),
    ("warmup", Changes(&["--warmup", "7s"])),
    ("batch_interval", Changes(&["--batch-interval", "7s"])),
    ("sinks", Changes(&["--sinks", "warehouse,cache"])),
    ("search_interval", Changes(&["--search-interval", "7s"])),
    ("warehouse_memory", Changes(&["--warehouse-memory", "7M"])),
    ("dead_rows", Changes(&["--dead-rows", "7"])),
    ("compaction_threads", Changes(&["--compaction-threads", "7"])),
    #[cfg(feature = "redis")]
    ("cache", Changes(&["--cache", "redis://127.0.0.1:1"])),
    #[cfg(not(feature = "redis"))]
    ("cache", Harmless(&["--cache", "memory"], "this build has no other cache")),
    ("cache_fill", Changes(&["--strategies", "cdc-trigger", "--cache-fill", "aside"])),
    ("cache_entries", Changes(&["--cache-entries", "7"])),
    ("think", Changes(&["--think", "7ms"])),
    ("crash_rate", Changes(&["--crash-rate", "0.7"])),
    ("seed", Changes(&["--seed", "7"])),
    ("reps", Changes(&["--reps", "7"])),
    ("durability", Changes(&["--durability", "off"])),
    ("log_fsync", Changes(&["--log-fsync", "7ms"])),
    ("keep_versions", Changes(&["--keep-versions", "7"])),
    ("quick", Changes(&["--quick"])),
    ("no_control", Changes(&["--no-control"])),
    ("checkpoint_interval", Changes(&["--checkpoint-interval", "7s"])),
    ("plant", Changes(&["--plant", "drop-change"])),
    ("out", Harmless(&["--out", "x"], "where the result lies")),
    ("work", Harmless(&["--work", "x"], "where the files lie; their file system is part of the machine's key")),
    // Its cases share a process, so peak memory is another figure.
    ("live", Changes(&["--live"])),
    ("live_address", Harmless(&[], "who may look; it goes with --live alone")),
    ("format", Harmless(&["--format", "json"], "what is printed afterwards")),
    ("find_rate", Harmless(&["--find-rate", "--slo", "p99=1s"], "leaves rates.json, which is compared with nothing")),
    ("slo", Harmless(&["--find-rate", "--slo", "p99=1s"], "as --find-rate")),
    ("quiet", Harmless(&["--quiet"], "what is printed meanwhile")),
];

const ATTACH: &[(&str, Effect)] = &[
    ("source", Harmless(&[], "an address; the server's settings are hashed, which a test with a server shows")),
    ("tables", Changes(&["--tables", "a,b"])),
    ("strategy", Changes(&["--strategy", "cdc-trigger"])),
    (
        "warehouse",
        Harmless(&["--warehouse", "other"], "where the warehouse lies; its file system is the machine's key's"),
    ),
    ("duration", Changes(&["--duration", "7s"])),
    ("idle_exit", Changes(&["--idle-exit", "7s"])),
    ("until_lsn", Changes(&["--until-lsn", "0/7"])),
    ("resume", Changes(&["--resume"])),
    ("no_snapshot", Changes(&["--no-snapshot"])),
    ("keep", Harmless(&["--keep"], "what stays after the end")),
    ("cleanup", Harmless(&["--cleanup"], "measures nothing")),
    ("batch_interval", Changes(&["--batch-interval", "7s"])),
    ("cursor", Changes(&["--cursor", "other"])),
    ("equal_sums", Changes(&["--equal-sums", "a.x,b.y"])),
    ("patience", Harmless(&["--patience", "7s"], "whoever needs longer has failed")),
    ("out", Harmless(&["--out", "x"], "where the result lies")),
    ("live", Harmless(&["--live"], "as of run")),
    ("live_address", Harmless(&["--live", "--live-address", "127.0.0.1"], "who may look")),
    ("format", Harmless(&["--format", "json"], "what is printed afterwards")),
    ("quiet", Harmless(&["--quiet"], "what is printed meanwhile")),
];

fn run_hash(more: &[&str]) -> String {
    let arguments = ["freshbench", "run"].iter().chain(more);
    let Command::Run(arguments) = Cli::try_parse_from(arguments).unwrap().command else { panic!("not a run") };
    let plan = planned(&arguments).unwrap();
    let source: Settings = [("source.kind".to_owned(), plan.source.kind().to_owned())].into();
    config_hash(&run_settings(&plan, &source))
}

fn attach_hash(more: &[&str]) -> String {
    let given = |flag: &str| more.contains(&flag);
    let mut arguments = vec!["freshbench", "attach", "--source", "postgres://r@h:1/d"];
    for (flag, value) in [("--tables", "a"), ("--warehouse", "w")] {
        if !given(flag) {
            arguments.extend([flag, value]);
        }
    }
    let arguments = arguments.iter().chain(more);
    let Command::Attach(arguments) = Cli::try_parse_from(arguments).unwrap().command else { panic!("no attach") };
    let server = PgOptions::parse_in("postgres://r@h:1/d", &|_| None).unwrap();
    let plan = super::attach::plan(&arguments, server).unwrap();
    let tables: Vec<String> = plan.tables.iter().map(|table| table.table.clone()).collect();
    let (checkpoint_interval, warehouse) = (Duration::from_secs(5), WarehouseOptions::default());
    let pipeline = Pipeline { log_fsync: Fsync::Always, checkpoint_interval, warehouse: &warehouse };
    config_hash(&attach_settings(&plan, &tables, &pipeline, &Settings::new()))
}

fn check(command: &str, listed: &[(&str, Effect)], hash: &dyn Fn(&[&str]) -> String) {
    let mut whole = Cli::command();
    whole.build();
    let flags: BTreeSet<String> = whole
        .find_subcommand(command)
        .unwrap()
        .get_arguments()
        .map(|argument| argument.get_id().to_string())
        .filter(|name| name != "help" && name != "version")
        .collect();
    let known: BTreeSet<String> = listed.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known.len(), listed.len(), "a flag is listed twice");
    assert_eq!(flags, known, "{command}: each flag is to be listed here, and hashed if a figure can depend on it");
    let base = hash(&[]);
    let mut seen = BTreeSet::from([base.clone()]);
    for (name, effect) in listed {
        match effect {
            Changes(arguments) => {
                let other = hash(arguments);
                assert_ne!(other, base, "{command} --{name} does not change the hash");
                assert!(seen.insert(other), "{command} --{name} gives the hash of another flag");
            }
            Harmless(arguments, reason) => {
                assert!(!reason.is_empty());
                assert_eq!(hash(arguments), base, "{command} --{name} changes the hash");
            }
        }
    }
}

#[test]
fn every_flag_of_run_is_in_the_hash_or_harmless() {
    check("run", RUN, &run_hash);
}

#[test]
fn every_flag_of_attach_is_in_the_hash_or_harmless() {
    check("attach", ATTACH, &attach_hash);
}

#[cfg(feature = "redis")]
#[test]
fn the_address_of_a_cache_is_not_in_the_hash() {
    assert_eq!(run_hash(&["--cache", "redis://a:1"]), run_hash(&["--cache", "redis://u:secret@b:2/3"]));
}

#[test]
fn the_same_run_in_other_words_has_the_same_hash() {
    assert_eq!(run_hash(&["--rows", "50k", "--warmup", "1s"]), run_hash(&["--rows", "50000", "--warmup", "1000ms"]));
    let all = ["--source", "postgres://x:secret@y:9/z?sslmode=disable"];
    assert_eq!(run_hash(&all), run_hash(&["--source", "postgres://r@h:1/d"]));
}
