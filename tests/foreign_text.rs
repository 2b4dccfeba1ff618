//! Text that was not written by this program, through real commands: nothing in it acts on a terminal, in Markdown, in a spreadsheet
//! or in a scrape; and data stays data, to the byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// ESC, OSC, a bell, C1, marks of direction, a line's end, and the signs of every medium.
const HOSTILE: &str =
    "=x\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}|`<img src=x onerror=alert(1)>[a](http://evil.example)\"} 1\nforged 2";

fn freshbench(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_freshbench")).current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// What a terminal would obey or show in another place, written down here again.
fn acts(text: &str) -> bool {
    text.chars().any(|c| {
        let code = u32::from(c);
        (code < 0x20 && c != '\n')
            || (0x7f..0xa0).contains(&code)
            || (0x202a..=0x202e).contains(&code)
            || (0x2066..=0x2069).contains(&code)
    })
}

/// Runs, and asserts that neither stdout nor stderr acts. Gives both.
fn quiet_on_terminal(folder: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let ran = freshbench(folder, arguments);
    let (out, said) = (text(&ran.stdout), text(&ran.stderr));
    assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {out}{said}");
    assert!(!acts(&out), "{arguments:?}: stdout {out:?}");
    assert!(!acts(&said), "{arguments:?}: stderr {said:?}");
    (out, said)
}

/// The run that is kept in the repository, with a hostile text wherever somebody else's text can stand.
fn hostile_result(folder: &Path, name: &str) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/example/result.json");
    let mut result: Value = serde_json::from_slice(&fs::read(example).unwrap()).unwrap();
    for place in
        ["/run_id", "/config/workload", "/config/source", "/config/command", "/env/cpu_model", "/env/fs", "/env/os"]
    {
        *result.pointer_mut(place).unwrap() = json!(HOSTILE);
    }
    result["git"]["commit"] = json!(HOSTILE);
    result["warnings"] = json!([HOSTILE]);
    let case = &mut result["strategies"][1];
    case["name"] = json!(HOSTILE);
    case["sentence"] = json!(HOSTILE);
    case["metrics"][0]["sink"] = json!(HOSTILE);
    case["metrics"][1]["id"] = json!(HOSTILE);
    case["metrics"][1]["unit"] = json!(HOSTILE);
    case["validation"]["sinks"][0]["sink"] = json!(HOSTILE);
    case["validation"]["sinks"][0]["examples"] = json!([HOSTILE]);
    fs::write(folder.join(name), serde_json::to_vec(&result).unwrap()).unwrap();
}

/// The fields of a CSV, read by the rules of RFC 4180.
fn csv_fields(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = csv.chars().peekable();
    while let Some(c) = rest.next() {
        match (quoted, c) {
            (true, '"') if rest.peek() == Some(&'"') => field.extend(rest.next()),
            (true, '"') => quoted = false,
            (true, c) => field.push(c),
            (false, '"') => quoted = true,
            (false, ',') => row.push(std::mem::take(&mut field)),
            (false, '\n') => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            (false, c) => field.push(c),
        }
    }
    rows
}

#[test]
fn no_export_carries_what_acts_in_its_medium() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    hostile_result(at, "a.json");
    let export = |format: &str| quiet_on_terminal(at, &["export", "a.json", "--to", format, "--metrics", "all"], 0).0;

    let csv = csv_fields(&export("csv"));
    let columns = csv[0].len();
    for row in &csv {
        assert_eq!(row.len(), columns, "{row:?}");
        for field in row {
            let is_number = field.parse::<f64>().is_ok();
            assert!(is_number || !field.starts_with(['=', '+', '-', '@', '\t', '\r']), "{field:?} is a formula");
        }
    }
    assert!(csv.iter().flatten().any(|field| field.starts_with("'=x\\u{1b}]0;owned")));

    let markdown = export("markdown");
    for markup in ["<img", "](http", "evil.example`\n", "\nforged"] {
        assert!(!markdown.contains(markup), "{markup}: {markdown}");
    }
    let cells = |line: &str| line.replace("\\|", "").matches('|').count();
    let table: Vec<&str> = markdown.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(table.iter().all(|line| cells(line) == cells(table[0])), "{markdown}");

    let exposition = export("openmetrics");
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        assert!(name.starts_with("freshbench_"), "{line}");
        assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
    }
    assert!(exposition.contains("=x\\\\u{1b}]0;owned"), "{exposition}");

    quiet_on_terminal(at, &["export", "a.json", "--to", "hlog"], 0);
    quiet_on_terminal(at, &["export", "a.json", "--to", "bmf"], 0);
    quiet_on_terminal(at, &["export", "a.json", "--to", "otava", "--metrics", "all", "--out", "otava"], 0);
    let otava = csv_fields(&fs::read_to_string(at.join("otava/otava.csv")).unwrap());
    assert!(otava.iter().flatten().all(|field| !field.starts_with('=')), "{otava:?}");
    let yaml = fs::read_to_string(at.join("otava/otava.yaml")).unwrap();
    assert!(!acts(&yaml), "{yaml}");
    for title in &otava[0][2..] {
        assert!(yaml.contains(&format!("column: {}\n", json!(title))), "{title}: {yaml}");
    }
}

#[test]
fn no_command_passes_on_what_acts_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    hostile_result(at, "a.json");
    hostile_result(at, "b.json");
    let (out, _) = quiet_on_terminal(at, &["compare", "a.json", "b.json", "--out", "c.json"], 0);
    assert!(out.contains("=x\\u{1b}]0;owned"), "{out}");
    let summary = fs::read_to_string(at.join("c.md")).unwrap();
    assert!(!acts(&summary) && !summary.contains("<img") && !summary.contains("](http"), "{summary}");
    quiet_on_terminal(at, &["history", "add", "a.json", "--history", "h.jsonl"], 0);
    quiet_on_terminal(at, &["history", "analyze", "--history", "h.jsonl", "--metrics", "all"], 0);
    quiet_on_terminal(at, &["report", "a.json", "-o", "page.html"], 0);
    let page = fs::read_to_string(at.join("page.html")).unwrap();
    assert!(!page.contains("<img src=x"));
    // Errors repeat what they were given: a file, a flag, a word that is no flag.
    let (esc, osc) = ("gone\u{1b}[2J\u{202e}.json", "--\u{1b}]0;owned\u{7}");
    quiet_on_terminal(at, &["compare", esc, "a.json"], 2);
    quiet_on_terminal(at, &["warehouse", "verify", esc], 2);
    quiet_on_terminal(at, &["warehouse", "versions", esc], 2);
    quiet_on_terminal(at, &["run", "--workload", esc], 2);
    quiet_on_terminal(at, &["run", "--strategies", esc], 2);
    quiet_on_terminal(
        at,
        &["attach", "--source", "postgres://r@h:1/d", "--tables", esc, "--warehouse", "w", "--strategy", esc],
        2,
    );
    quiet_on_terminal(at, &[osc], 2);
    quiet_on_terminal(at, &["run", osc], 2);
    let said = quiet_on_terminal(at, &["compare", "a\nfreshbench: all is well", "b.json"], 2).1;
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_workload_of_a_hostile_name_is_shown_and_saved_harmlessly() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let file = "=w\u{1b}[31m|`<b>.toml";
    fs::write(
        at.join(file),
        "model = \"orders\"\nabout = \"a test\"\nrows = 100\nrate = \"100/s\"\nduration = \"300ms\"\n[shares]\nplace = 1\npay = 1\n",
    )
    .unwrap();
    let run = ["run", "--workload", file, "--strategies", "cdc-trigger", "--sinks", "warehouse", "--warmup", "100ms"];
    let (out, said) = quiet_on_terminal(at, &run, 0);
    assert!(out.contains("=w\\u{1b}[31m|`<b> on sqlite"), "{out}");
    assert!(said.contains("saved in reports"), "{said}");
    let made = fs::read_dir(at.join("reports")).unwrap().next().unwrap().unwrap().path();
    let summary = fs::read_to_string(made.join("summary.md")).unwrap();
    assert!(!acts(&summary) && !summary.contains("<b>*"), "{summary}");
    assert!(summary.contains("=w\\\\u{1b}\\[31m\\|\\`&lt;b&gt;\n"), "{summary}");
}

/// A database of a table of a hostile name with hostile values.
fn database(folder: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(folder.join("x.db")).unwrap();
    let name = HOSTILE.replace('"', "\"\"");
    connection
        .execute_batch(&format!("CREATE TABLE \"{name}\"(id INTEGER PRIMARY KEY, \"=c\u{1b}[0m\" TEXT)"))
        .unwrap();
    connection.execute(&format!("INSERT INTO \"{name}\" VALUES(1, ?1)"), ["=1+1"]).unwrap();
    connection.execute(&format!("INSERT INTO \"{name}\" VALUES(2, ?1)"), [HOSTILE]).unwrap();
    connection
}

#[test]
fn names_of_a_database_are_shown_harmlessly_and_its_data_stays_exact() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let connection = database(at);
    let load = ["load", "--source", "x.db", "--warehouse", "w", "--table"];
    quiet_on_terminal(at, &[&load[..], &["gone\u{1b}[2J"]].concat(), 2);
    let (out, _) = quiet_on_terminal(at, &[&load[..], &[HOSTILE]].concat(), 0);
    assert!(out.contains("owned"), "{out}");
    quiet_on_terminal(at, &["warehouse", "dump", "--warehouse", "w", "--table", "gone"], 2);
    quiet_on_terminal(at, &["warehouse", "dump", "--warehouse", "w", "--table", HOSTILE, "--columns", "gone"], 2);
    quiet_on_terminal(at, &["warehouse", "verify", "w"], 0);
    // Data: what SQLite itself holds, in COPY's quotes and nothing else.
    let dumped = freshbench(at, &["warehouse", "dump", "--warehouse", "w", "--table", HOSTILE]);
    let name = HOSTILE.replace('"', "\"\"");
    let values: Vec<String> = connection
        .prepare(&format!("SELECT \"=c\u{1b}[0m\" FROM \"{name}\" ORDER BY id"))
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(text(&dumped.stdout), format!("1,{}\n2,\"{}\"\n", values[0], values[1].replace('"', "\"\"")));
}

fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(place) = folders.pop() {
        for entry in fs::read_dir(&place).unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            found.push((entry.path().display().to_string(), mode));
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn data_is_its_owners_alone_and_results_go_by_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = "umask 022; exec \"$0\" -q run --workload orders --rows 200 --rate 300 --duration 500ms --warmup 100ms \
        --strategies cdc-trigger,full-refresh --checkpoint-interval 100ms --work data/work --out out";
    let ran = Command::new("sh").current_dir(at).args(["-c", run, env!("CARGO_BIN_EXE_freshbench")]).output().unwrap();
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let found = modes(&at.join("data"));
    for kind in ["base.db", "source.db", "MANIFEST", "LOCK", "writer.lock", ".parquet", "CURRENT", "meta.json"] {
        assert!(found.iter().any(|(path, _)| path.ends_with(kind)), "no {kind} among {found:?}");
    }
    for (path, mode) in &found {
        assert_eq!(mode & 0o077, 0, "{path}: {mode:o}");
    }
    assert_eq!(fs::metadata(at.join("out/result.json")).unwrap().permissions().mode() & 0o777, 0o644);
    // A folder of another mode is read as ever, and what is made in it is the owner's again.
    database(at);
    fs::create_dir(at.join("w")).unwrap();
    fs::set_permissions(at.join("w"), fs::Permissions::from_mode(0o755)).unwrap();
    quiet_on_terminal(at, &["load", "--source", "x.db", "--warehouse", "w", "--table", HOSTILE], 0);
    assert!(modes(&at.join("w")).iter().all(|(_, mode)| mode & 0o077 == 0));
    for entry in fs::read_dir(at.join("w")).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o644)).unwrap();
    }
    quiet_on_terminal(at, &["warehouse", "verify", "w"], 0);
}

#[test]
fn a_lock_that_is_a_link_is_not_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    database(at);
    fs::write(at.join("precious"), "content").unwrap();
    fs::create_dir(at.join("w")).unwrap();
    symlink(at.join("precious"), at.join("w/LOCK")).unwrap();
    let ran = freshbench(at, &["load", "--source", "x.db", "--warehouse", "w", "--table", HOSTILE]);
    assert!(!ran.status.success());
    assert!(text(&ran.stderr).contains("symbolic link"), "{}", text(&ran.stderr));
    assert_eq!(fs::read_to_string(at.join("precious")).unwrap(), "content");
}
