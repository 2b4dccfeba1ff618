//! The built-in workloads' rows and streams, as digests. A difference means that results are no longer comparable with
//! earlier ones: if it is meant, raise `GENERATOR_VERSION` and put the new digests here.

#![allow(clippy::unwrap_used)]

use freshbench::workload::{Overrides, Workload, built_in_names};

const ROWS: u64 = 1_000;
const TRANSACTIONS: u64 = 2_000;

/// Name, digest of the tables at the start (one after the other), digest of the stream.
const GOLDEN: [(&str, &[&str], &str); 7] = [
    (
        "orders",
        &[
            "de2f76ce5b81dc534b7b455150fc8f9e",
            "9c9c5c28a46dfa18d34954c7b6ae4a4a",
            "dbc0feaa66370dc1623c79017221223e",
            "e3be9aad0ad5f27334416d6472ff9c39",
        ],
        "ff98975e95a662d4d48d16354c6be371",
    ),
    ("ycsb-a", &["44bd0a3a9bb3f0f67113e5bde1af1907"], "8f0235c3f1cdad58531158ab4f43b29e"),
    ("ycsb-b", &["44bd0a3a9bb3f0f67113e5bde1af1907"], "c7170b3ced345fc72c718439a157a077"),
    ("ycsb-c", &["44bd0a3a9bb3f0f67113e5bde1af1907"], "3fb0cf8e289f472e060525ea7fdbd5a6"),
    ("ycsb-d", &["44bd0a3a9bb3f0f67113e5bde1af1907"], "abaa07ced0bf0c8493657ce5bfe8a8a5"),
    ("ycsb-e", &["44bd0a3a9bb3f0f67113e5bde1af1907"], "12b1e37fa1b462ad7eedd6041af2d49d"),
    ("ycsb-f", &["44bd0a3a9bb3f0f67113e5bde1af1907"], "eac90bfd5ea015ffa742d315658acc7b"),
];

#[test]
fn rows_and_streams_are_what_they_were() {
    assert!(built_in_names().eq(GOLDEN.iter().map(|(name, _, _)| *name)));
    let mut differs = String::new();
    for (name, tables, stream) in GOLDEN {
        let overrides = Overrides { rows: Some(ROWS), seed: Some(42), ..Overrides::default() };
        let workload = Workload::load(name, &overrides).unwrap();
        let seen: Vec<String> = workload.catalog().iter().map(|(id, _)| workload.initial_digest(id)).collect();
        let seen_stream = workload.stream_digest(TRANSACTIONS);
        if seen != tables || seen_stream != stream {
            differs.push_str(&format!("    (\"{name}\", &{seen:?}, \"{seen_stream}\"),\n"));
        }
    }
    assert!(differs.is_empty(), "other rows or streams than before:\n{differs}");
}
