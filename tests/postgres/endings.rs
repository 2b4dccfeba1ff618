//! Beginnings that fail leave nothing, and at each end one true sentence is said.

use crate::server::PgServer;
use crate::support::freshbench;
use crate::waits::{Attach, Session, dumped, left_behind};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const TABLE: &str = "CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a VALUES (1, 'one')";

fn attach(server: &PgServer, user: &str, folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let url = server.url("postgres").replace("postgres@", &format!("{user}@"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["-q", "attach", "--source", &url, "--tables", "a", "--warehouse"]).arg(folder.join("warehouse"));
    let ran: Output = command.arg("--out").arg(folder.join("result")).args(arguments).output().unwrap();
    (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn findings(url: &str) -> Vec<Value> {
    let told = freshbench(&["doctor", "--source", url, "--tables", "a", "--format", "json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let all = told["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["verdict"] == "missing").cloned().collect()
}

/// What is to be made wrong, what then is said, what mends it, and what the doctor calls it.
const FAULTS: [(&str, &str, &str, &str); 7] = [
    ("ALTER ROLE weak NOREPLICATION", "REPLICATION", "ALTER ROLE weak REPLICATION", "replication"),
    ("REVOKE CREATE ON DATABASE postgres FROM weak", "doctor", "GRANT CREATE ON DATABASE postgres TO weak", "create"),
    ("ALTER TABLE a OWNER TO postgres; GRANT SELECT ON a TO weak", "owner", "ALTER TABLE a OWNER TO weak", "owner"),
    ("ALTER ROLE weak CONNECTION LIMIT 4", "CONNECTION LIMIT", "ALTER ROLE weak CONNECTION LIMIT -1", "connections"),
    (
        "ALTER DATABASE postgres CONNECTION LIMIT 4",
        "ALTER DATABASE \"postgres\" CONNECTION LIMIT",
        "ALTER DATABASE postgres CONNECTION LIMIT -1",
        "connections",
    ),
    (
        "ALTER ROLE weak SET default_transaction_read_only = on",
        "ALTER ROLE \"weak\" RESET default_transaction_read_only",
        "ALTER ROLE weak RESET default_transaction_read_only",
        "read_only",
    ),
    (
        "ALTER DATABASE postgres SET default_transaction_read_only = on",
        "ALTER DATABASE \"postgres\" RESET default_transaction_read_only",
        "BEGIN READ WRITE; ALTER DATABASE postgres RESET default_transaction_read_only; COMMIT",
        "read_only",
    ),
];

#[test]
fn a_beginning_that_fails_leaves_nothing_and_the_mended_one_succeeds() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", TABLE);
    server.psql(
        "postgres",
        "CREATE ROLE weak LOGIN REPLICATION; GRANT CREATE ON DATABASE postgres TO weak; ALTER TABLE a OWNER TO weak",
    );
    let url = server.url("postgres").replace("postgres@", "weak@");
    let folder = tempfile::tempdir().unwrap();
    for (fault, word, mended, check) in FAULTS {
        server.psql("postgres", fault);
        let (code, said) = attach(&server, "weak", folder.path(), &["--duration", "1s"]);
        assert!(matches!(code, Some(1 | 2)) && said.contains(word) && said.lines().count() == 1, "{fault}: {said}");
        assert_eq!((left_behind(&server).as_str(), names(folder.path()).len()), ("", 0), "{fault}");
        let missing = findings(&url);
        assert!(missing.len() == 1 && missing[0]["check"] == check, "{fault}: {missing:?}");
        server.psql("postgres", mended);
    }
    assert_eq!(findings(&url), Vec::<Value>::new());
    // What was in the folder before is in it afterwards.
    std::fs::create_dir_all(folder.path().join("warehouse")).unwrap();
    std::fs::write(folder.path().join("warehouse/note.txt"), "mine").unwrap();
    server.psql("postgres", "REVOKE CREATE ON DATABASE postgres FROM weak");
    assert_eq!(attach(&server, "weak", folder.path(), &["--duration", "1s"]).0, Some(1));
    assert_eq!(names(&folder.path().join("warehouse")), ["note.txt"]);
    server.psql("postgres", "GRANT CREATE ON DATABASE postgres TO weak");
    let (code, said) = attach(&server, "weak", folder.path(), &["--duration", "1s"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn as_many_connections_as_are_asked_for_suffice() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", TABLE);
    server.psql(
        "postgres",
        "CREATE ROLE weak LOGIN REPLICATION; GRANT CREATE ON DATABASE postgres TO weak; ALTER TABLE a OWNER TO weak; \
         CREATE TABLE other (id int)",
    );
    for strategy in ["cdc-log", "cdc-trigger", "full-refresh", "incremental"] {
        let arguments = ["--duration", "2s", "--strategy", strategy, "--cursor", "id", "--batch-interval", "300ms"];
        let folder = tempfile::tempdir().unwrap();
        server.psql("postgres", "ALTER ROLE weak CONNECTION LIMIT 0");
        server.psql("postgres", "ALTER ROLE weak CONNECTION LIMIT 1");
        let (code, said) = attach(&server, "weak", folder.path(), &arguments);
        let needed = said.split("CONNECTION LIMIT ").last().and_then(|rest| rest.trim().parse::<u32>().ok());
        let needed = needed.unwrap_or_else(|| panic!("{strategy}: {code:?} {said}"));
        server.psql("postgres", &format!("ALTER ROLE weak CONNECTION LIMIT {needed}"));
        // While somebody is in the way as well, so that the watch has its connections.
        let mut open = Session::open(&server);
        open.run("BEGIN; INSERT INTO other VALUES (1); LOCK TABLE a IN ACCESS EXCLUSIVE MODE");
        let url = server.url("postgres").replace("postgres@", "weak@");
        let mut attached = Attach::begin(&url, "a", &arguments);
        attached.says(&open.pid);
        open.run("COMMIT");
        let (code, said) = attached.end();
        assert!(matches!(code, Some(0)), "{strategy} with {needed}: {code:?} {said}");
        assert_eq!(left_behind(&server), "");
    }
}

#[test]
fn a_definition_that_changes_leaves_nothing_to_go_on_with() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", TABLE);
    for keep in [&["--duration", "100s"][..], &["--duration", "100s", "--keep"]] {
        let mut attached = Attach::begin(&server.url("postgres"), "a", keep);
        attached.follows(&server);
        server.psql("postgres", "INSERT INTO a(id) VALUES (10)");
        server.psql("postgres", "ALTER TABLE a ADD COLUMN x int; UPDATE a SET x = 1");
        let (code, said) = attached.end();
        assert!(matches!(code, Some(1 | 2)) && said.lines().count() == 1, "{said}");
        assert!(said.contains("are removed") && said.contains("\"x\"") && !said.contains("--resume"), "{said}");
        assert_eq!(left_behind(&server), "");
        assert!(!attached.folder.path().join("result").exists());
        let (code, said) = attach(&server, "postgres", attached.folder.path(), &["--duration", "1s", "--resume"]);
        assert!(code == Some(1) && said.contains("no slot to go on with"), "{said}");
        server.psql("postgres", "ALTER TABLE a DROP COLUMN x; DELETE FROM a WHERE id = 10");
    }
}

/// What the stream shows stays in it, though the definition is the old one again.
#[test]
fn what_the_stream_showed_is_final_though_it_was_changed_back() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", TABLE);
    for (number, (shows, word)) in [
        (
            "ALTER TABLE a REPLICA IDENTITY NOTHING; INSERT INTO a VALUES (20, 'x'); ALTER TABLE a REPLICA IDENTITY DEFAULT",
            "replica identity",
        ),
        ("ALTER TABLE a ADD COLUMN z int; INSERT INTO a VALUES (21, 'x', 1); ALTER TABLE a DROP COLUMN z", "\"z\""),
        (
            "DO $$ BEGIN EXECUTE format('ALTER PUBLICATION %I SET TABLE a(id)', (SELECT pubname FROM pg_publication)); END $$; \
             INSERT INTO a VALUES (22, 'x')",
            "list of columns",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // With --keep too: nothing that stays would be of use.
        let keep = ["--duration", "100s", "--keep"];
        let mut attached = Attach::begin(&server.url("postgres"), "a", &keep[..2 + number % 2]);
        attached.follows(&server);
        server.psql("postgres", shows);
        let (code, said) = attached.end();
        assert!(code == Some(1) && said.lines().count() == 1, "{code:?} {said}");
        assert!(said.contains(word) && said.contains("are removed"), "{said}");
        assert!(!["--resume", "back", "remove that"].iter().any(|word| said.contains(word)), "{said}");
        assert_eq!(left_behind(&server), "");
        let (code, said) = attach(&server, "postgres", attached.folder.path(), &["--duration", "1s", "--resume"]);
        assert!(code == Some(1) && said.contains("no slot to go on with"), "{said}");
    }
}

#[test]
fn a_slot_that_is_lost_or_whose_tables_changed_is_removed_by_the_one_who_resumes() {
    let settings = ["fsync=off", "max_slot_wal_keep_size=1MB", "max_wal_size=32MB", "min_wal_size=32MB"];
    let Some(server) = PgServer::start(&settings) else { return };
    server.psql("postgres", TABLE);
    server.psql("postgres", "CREATE TABLE other (id int PRIMARY KEY, t text)");
    let lose = |server: &PgServer| {
        let fill = "TRUNCATE other; INSERT INTO other SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g; \
            SELECT pg_switch_wal(); CHECKPOINT";
        for _ in 0..4 {
            server.psql("postgres", fill);
        }
    };
    for lost in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (code, said) = attach(&server, "postgres", folder.path(), &["--duration", "1s", "--keep"]);
        assert_eq!(code, Some(0), "{said}");
        // Somebody who names other tables is told so, and harms nothing.
        let kept = left_behind(&server);
        let mut typo = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        typo.args([
            "-q",
            "attach",
            "--resume",
            "--source",
            &server.url("postgres"),
            "--tables",
            "other",
            "--warehouse",
        ]);
        let typo =
            typo.arg(folder.path().join("warehouse")).arg("--out").arg(folder.path().join("r")).output().unwrap();
        assert!(!typo.status.success() && left_behind(&server) == kept, "{typo:?}");
        if lost {
            lose(&server);
        } else {
            server.psql("postgres", "ALTER TABLE a ADD COLUMN x int");
        }
        let (code, said) = attach(&server, "postgres", folder.path(), &["--duration", "1s", "--resume"]);
        assert!(code == Some(1) && said.contains("are removed") && !said.contains("--resume"), "{said}");
        assert_eq!((said.lines().count(), left_behind(&server).as_str()), (1, ""));
        // What it held it holds.
        let rows = dumped(&folder.path().join("warehouse"), "a");
        assert!(rows.status.success() && rows.stdout == b"1,one\n", "{rows:?}");
    }
    // Lost while it follows.
    let mut attached = Attach::begin(&server.url("postgres"), "a", &["--duration", "100s"]);
    attached.follows(&server);
    let stop = Command::new("kill").args(["-STOP", &attached.id()]).status().unwrap();
    assert!(stop.success());
    let until = Instant::now() + Duration::from_secs(60);
    while !server.psql("postgres", "SELECT wal_status FROM pg_replication_slots").contains("lost") {
        assert!(Instant::now() < until, "the slot is not lost");
        lose(&server);
    }
    assert!(Command::new("kill").args(["-CONT", &attached.id()]).status().unwrap().success());
    let (code, said) = attached.end();
    assert!(code == Some(1) && said.contains("are removed") && !said.contains("--resume"), "{said}");
    assert_eq!(left_behind(&server), "");
}

#[test]
fn a_folder_that_was_moved_or_goes_by_another_name_resumes() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", TABLE);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (code, said) = attach(&server, "postgres", folder.path(), &["--duration", "1s", "--keep"]);
    assert_eq!(code, Some(0), "{said}");
    let slot = left_behind(&server);
    std::fs::create_dir_all(at("b/c")).unwrap();
    std::fs::rename(at("warehouse"), at("b/moved")).unwrap();
    std::os::unix::fs::symlink(at("b/moved"), at("link")).unwrap();
    for (round, name) in ["b/moved", "link", "b/c/../moved", "b/moved/."].into_iter().enumerate() {
        server.psql("postgres", &format!("INSERT INTO a VALUES ({}, 'more')", round + 2));
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        command.args(["-q", "attach", "--resume", "--duration", "1s", "--tables", "a", "--source"]);
        command.arg(server.url("postgres")).arg("--warehouse").arg(at(name)).arg("--out").arg(at("again"));
        command.args(if round < 3 { &["--keep"][..] } else { &[] });
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(left_behind(&server), if round < 3 { slot.as_str() } else { "" }, "{name}");
        let rows = String::from_utf8(dumped(&at(name), "a").stdout).unwrap();
        assert_eq!(
            rows,
            server.psql("postgres", "COPY (SELECT * FROM a ORDER BY id) TO STDOUT (FORMAT csv)"),
            "{name}"
        );
    }
}

/// Triggers can't go while a session that has read the table is open; then the users' writes are not logged any more, and it
/// is said.
#[test]
fn triggers_that_could_not_be_removed_are_said_and_log_nothing() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", TABLE);
    let url = server.url("postgres");
    let mut reader = Session::open(&server);
    // Whether Ctrl-C comes while it follows, while the triggers are being removed, or never.
    for (interrupted, late) in [(false, false), (true, false), (true, true)] {
        let end = if interrupted && !late { ["--duration", "100s"] } else { ["--duration", "2s"] };
        let mut attached = Attach::begin(
            &url,
            "a",
            &["--strategy", "cdc-trigger", "--patience", if late { "100s" } else { "3s" }, end[0], end[1]],
        );
        attached.follows(&server);
        server.psql("postgres", "INSERT INTO a SELECT max(id) + 1, 'logged' FROM a");
        assert_eq!(server.psql("postgres", "SELECT count(*) > 0 FROM _freshbench.changelog_0").trim(), "t");
        reader.run("BEGIN; SELECT FROM a LIMIT 0");
        if late {
            attached.says(&reader.pid);
        }
        if interrupted {
            attached.interrupt();
        }
        let (code, said) = attached.end();
        assert_eq!(code, Some(if interrupted { 130 } else { 1 }), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains("_freshbench") && last.contains("freshbench cleanup --source"), "{said}");
        let saved = std::fs::read(attached.folder.path().join("result/result.json")).unwrap();
        let saved: Value = serde_json::from_slice(&saved).unwrap();
        let warnings = saved["warnings"].as_array().unwrap();
        assert!(warnings.iter().any(|warning| last.contains(warning.as_str().unwrap())), "{warnings:?}");
        assert_eq!(saved["strategies"][0]["validation"]["passed"], late || !interrupted);
        // Each kind of write is still let through, and none is logged.
        let logged = "SELECT count(*) FROM _freshbench.changelog_0";
        let before = server.psql("postgres", logged);
        server.psql(
            "postgres",
            "INSERT INTO a VALUES (99, 'x'); UPDATE a SET t = 'y' WHERE id = 99; DELETE FROM a WHERE id = 99",
        );
        assert_eq!(server.psql("postgres", logged), before);
        let (code, said) = attach(
            &server,
            "postgres",
            tempfile::tempdir().unwrap().path(),
            &["--duration", "1s", "--strategy", "cdc-trigger"],
        );
        assert!(code == Some(1) && said.contains("earlier attach") && said.contains("freshbench cleanup"), "{said}");
        reader.run("COMMIT");
        assert!(freshbench(&["cleanup", "--source", &url]).status.success());
        assert_eq!(left_behind(&server), "");
    }
}

/// A schema of our name with tables of our names in it may be the user's own.
#[test]
fn what_only_has_our_names_stays_and_is_listed() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", TABLE);
    let url = server.url("postgres");
    let mine = "CREATE SCHEMA _freshbench; CREATE SEQUENCE _freshbench.change_number; \
        CREATE TABLE _freshbench.changelog_1 AS SELECT 7 AS mine; \
        CREATE FUNCTION _freshbench.capture_0_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
        CREATE TRIGGER mine AFTER INSERT ON a EXECUTE FUNCTION _freshbench.capture_0_insert()";
    server.psql("postgres", mine);
    let stays = |rows: &str| {
        let told = freshbench(&["cleanup", "--source", &url]);
        let told = String::from_utf8(told.stdout).unwrap();
        for name in
            ["sequence _freshbench.change_number: stays", "_freshbench.changelog_1: stays", "capture_0_insert(): stays"]
        {
            assert!(told.contains(name), "{name}: {told}");
        }
        assert_eq!(server.psql("postgres", "TABLE _freshbench.changelog_1").trim(), rows);
        assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_trigger WHERE tgname = 'mine'").trim(), "1");
    };
    stays("7");
    let folder = tempfile::tempdir().unwrap();
    let trigger = ["--duration", "1s", "--strategy", "cdc-trigger"];
    let (code, said) = attach(&server, "postgres", folder.path(), &trigger);
    assert!(code == Some(1) && said.contains("nothing shows that freshbench made"), "{said}");
    stays("7");
    // Beside other things in a schema of the user's own, ours come and go.
    server.psql(
        "postgres",
        "DROP SCHEMA _freshbench CASCADE; CREATE SCHEMA _freshbench; CREATE TABLE _freshbench.other AS SELECT 8",
    );
    let (code, said) = attach(&server, "postgres", folder.path(), &trigger);
    assert_eq!(code, Some(0), "{said}");
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = '_freshbench'::regnamespace), \
        (SELECT count(*) FROM pg_proc WHERE pronamespace = '_freshbench'::regnamespace)";
    assert_eq!(server.psql("postgres", left).trim(), "1|0");
    server.psql("postgres", "DROP TABLE _freshbench.other");
    assert!(freshbench(&["cleanup", "--source", &url]).status.success());
    assert_eq!(left_behind(&server).trim(), "_freshbench");
}

/// A publication is found by what is said of it, when somebody has renamed it.
#[test]
fn a_publication_that_was_renamed_is_removed_and_one_that_took_its_name_stays() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", TABLE);
    let url = server.url("postgres");
    let rename = |server: &PgServer| {
        let own = server.psql("postgres", "SELECT pubname FROM pg_publication");
        server.psql("postgres", &format!("ALTER PUBLICATION {} RENAME TO zzz", own.trim()));
        own.trim().to_owned()
    };
    let mut attached = Attach::begin(&url, "a", &["--duration", "3s"]);
    attached.follows(&server);
    rename(&server);
    let (code, said) = attached.end();
    assert!(code.is_some_and(|code| code != 0), "{said}");
    assert_eq!(left_behind(&server), "");
    // While it is in use it stays, also under another name; afterwards a clean-up finds it.
    let mut attached = Attach::begin(&url, "a", &["--duration", "3s", "--keep"]);
    attached.follows(&server);
    let own = rename(&server);
    server.psql("postgres", &format!("CREATE PUBLICATION {own}"));
    let told = freshbench(&["cleanup", "--source", &url, "--dry-run"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("publication zzz: stays: it is in use"), "{told}");
    attached.interrupt();
    attached.end();
    assert!(freshbench(&["cleanup", "--source", &url]).status.success());
    assert_eq!(left_behind(&server).trim(), own);
}
/// With whole old rows the stream does not say what became of the key.
#[test]
fn a_key_that_does_not_tell_rows_apart_any_more_stops_the_stream_before_anything_of_that_is_shown() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    for (alter, word) in [
        ("ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED", "is deferrable"),
        ("ADD CONSTRAINT other UNIQUE (t)", "its key is (t)"),
    ] {
        server.psql(
            "postgres",
            "DROP TABLE IF EXISTS a; CREATE TABLE a (id int CONSTRAINT k PRIMARY KEY, t text); \
             ALTER TABLE a REPLICA IDENTITY FULL; INSERT INTO a SELECT g, g::text FROM generate_series(1, 500) g",
        );
        let mut attached = Attach::begin(&server.url("postgres"), "a", &["--duration", "100s"]);
        attached.follows(&server);
        // The key is what it was, whatever else is altered.
        server.psql("postgres", "ALTER TABLE a ALTER t SET STORAGE EXTERNAL; UPDATE a SET t = t || '!' WHERE id = 7");
        let before = server.psql("postgres", "COPY (SELECT * FROM a ORDER BY id) TO STDOUT (FORMAT csv)");
        server.psql("postgres", &format!("BEGIN; ALTER TABLE a DROP CONSTRAINT k; ALTER TABLE a {alter}; COMMIT"));
        server.psql("postgres", "UPDATE a SET id = id + 1");
        let (code, said) = attached.end();
        assert!(code == Some(1) && said.lines().count() == 1, "{code:?} {said}");
        assert!(said.contains("its key (id) was") && said.contains(word) && said.contains("are removed"), "{said}");
        assert_eq!(left_behind(&server), "");
        let rows = String::from_utf8(dumped(&attached.warehouse(), "a").stdout).unwrap();
        assert!(rows == before, "{}", rows.lines().count());
    }
}
