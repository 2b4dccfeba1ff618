//! Definition files: what is right is read, what is wrong is named with its line and what was meant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use freshbench::workload::{KeyDistribution, Overrides, RowsPerTxn, Workload, WorkloadError, built_in_names};
use std::io::Write;
use std::time::Duration;

const GOOD: &str = r#"model = "orders"
about = "a test"
rows = 100
rate = "50/s"
duration = "2s"
[shares]
place = 1
pay = 1
[[transform]]
table = "orders"
columns = [{ column = "note", as = "remark" }]
"#;

fn load(text: &str) -> Result<Workload, WorkloadError> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Workload::load(file.path().to_str().unwrap(), &Overrides::default())
}

#[test]
fn a_file_is_read_and_has_defaults() {
    let workload = load(GOOD).unwrap();
    let settings = workload.settings();
    assert_eq!((settings.rows, settings.rate_per_s, settings.duration), (100, 50.0, Duration::from_secs(2)));
    assert_eq!((settings.seed, settings.clients, settings.keys), (42, 4, KeyDistribution::ScrambledZipfian));
    assert_eq!(settings.rows_per_txn, RowsPerTxn::Uniform { min: 1, max: 10 });
    assert_eq!(workload.transforms().len(), 1);
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_what_was_meant() {
    for (from, to, line, part) in [
        ("rate =", "raet =", 4, "did you mean `rate`?"),
        ("\"50/s\"", "50", 4, "such as \"500/s\""),
        ("\"50/s\"", "\"50 apples\"", 4, "units: /s"),
        ("\"50/s\"", "\"0/s\"", 4, "outside 0.001"),
        ("\"2s\"", "\"2/s\"", 5, "a time with its unit"),
        ("rows = 100", "rows = 0", 3, "outside 1 to"),
        ("rows = 100", "rows = 200_000_000", 3, "outside 1 to"),
        ("rows = 100", "rows = \"many\"", 3, "invalid type"),
        ("rows = 100", "rows = 1\nkeys = \"zipfan\"", 4, "did you mean `zipfian`?"),
        ("rows = 100", "rows = 1\ntheta = 1.5", 4, "outside 0.01 to 0.999"),
        ("rows = 100", "rows = 1\nrows_per_txn = { uniform = { min = 5, max = 2 } }", 4, "above max"),
        ("pay = 1", "payy = 1", 8, "did you mean `pay`?"),
        ("pay = 1", "scan = 1", 8, "no transactions of kind `scan`"),
        ("pay = 1", "pay = -1", 8, "outside 0"),
        ("place = 1\npay = 1", "place = 0", 6, "above 0"),
        ("table = \"orders\"", "table = \"order\"", 9, "did you mean `orders`?"),
        ("column = \"note\"", "column = \"notes\"", 9, "did you mean `note`?"),
        ("as = \"remark\"", "hash = \"md5\"", 11, "unknown variant `md5`"),
        ("model = \"orders\"", "model = ", 1, ""),
    ] {
        assert!(GOOD.contains(from), "{from}");
        match load(&GOOD.replacen(from, to, 1)) {
            Err(WorkloadError::Definition { line: seen, message, .. }) => {
                assert_eq!(seen, line, "{to}: {message}");
                assert!(message.contains(part), "{to}: {message}");
            }
            other => panic!("{to}: {:?}", other.map(|w| w.settings().clone())),
        }
    }
}

#[test]
fn names_are_guessed_and_files_are_limited() {
    let error = Workload::load("ycbs-a", &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("did you mean `ycsb-a`?") && error.contains("orders"), "{error}");
    assert!(matches!(load(&format!("#{}", "x".repeat(2_000_000))), Err(WorkloadError::TooLarge { .. })));
}

#[test]
fn overrides_win_and_are_checked() {
    let over = |overrides| Workload::load("ycsb-a", &overrides).map(|w| w.settings().clone());
    let settings = over(Overrides { rows: Some(7), value_bytes: Some(5), ..Overrides::default() }).unwrap();
    assert_eq!((settings.rows, settings.value_bytes), (7, 5));
    for (overrides, part) in [
        (Overrides { rows: Some(0), ..Overrides::default() }, "`rows`: 0 is outside"),
        (Overrides { rows: Some(u64::MAX), ..Overrides::default() }, "`rows`"),
        (Overrides { theta: Some(f64::NAN), ..Overrides::default() }, "`theta`"),
        (Overrides { shares: vec![("raed".into(), 1.0)], ..Overrides::default() }, "did you mean `read`?"),
        (Overrides { shares: vec![("read".into(), 1.0); 2], ..Overrides::default() }, "named twice"),
        (Overrides { shares: vec![("read".into(), 0.0)], ..Overrides::default() }, "above 0"),
    ] {
        let error = over(overrides).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_config_hash_tells_configurations_apart() {
    let hash = |name: &str, overrides: &Overrides| Workload::load(name, overrides).unwrap().config_hash();
    let mut hashes: Vec<String> = built_in_names().map(|name| hash(name, &Overrides::default())).collect();
    hashes.push(hash("orders", &Overrides { seed: Some(43), ..Overrides::default() }));
    hashes.push(hash("orders", &Overrides { rows: Some(43), ..Overrides::default() }));
    assert_eq!(hash("orders", &Overrides { seed: Some(42), ..Overrides::default() }), hashes[0]);
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), built_in_names().count() + 2);
    assert!(hashes.iter().all(|hash| hash.len() == 32));
}
