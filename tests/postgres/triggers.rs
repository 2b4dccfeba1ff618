//! The changelog that triggers fill, statement by statement, against the server's own rows.

use crate::server::PgServer;
use freshbench::capture::postgres::{PgSnapshot, PgTriggerCapture};
use freshbench::clock::Clock;
use freshbench::model::{ChangeRef, Key, Transaction, Value};
use freshbench::source::postgres::{PgKept, PgSource, PgTable, PgTableName, TableReader};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Rows by key, as delivered changes leave them.
struct Followed {
    source: PgSource,
    capture: PgTriggerCapture,
    tables: Vec<BTreeMap<Key, Vec<Value>>>,
}

impl Followed {
    fn begin(server: &PgServer, tables: &[&str]) -> Followed {
        let options = server.options("postgres");
        let mut client = options.connect().unwrap();
        let find = |name: &&str| PgTable::discover(&mut client, &PgTableName::parse(name).unwrap()).unwrap();
        let source = PgSource::adopt(&options, tables.iter().map(find).collect());
        PgTriggerCapture::setup(&source).unwrap();
        let snapshot = PgSnapshot::of_source(&source, PgKept::Copied, 1, &Clock::monotonic(), None).unwrap();
        let mut rows = Vec::new();
        for (id, schema) in source.catalog().iter() {
            let mut table = BTreeMap::new();
            for range in snapshot.ranges(id, 2).unwrap() {
                snapshot
                    .scan::<freshbench::capture::CaptureError>(0, id, &range, &mut |row| {
                        table.insert(Key::of_row(schema, row).unwrap(), owned(row));
                        Ok(())
                    })
                    .unwrap();
            }
            rows.push(table);
        }
        let cut = snapshot.cut().unwrap().clone();
        let capture = PgTriggerCapture::resume(&source, snapshot.position(), cut).unwrap();
        Followed { source, capture, tables: rows }
    }

    fn take(&mut self, transaction: &Transaction) {
        for change in transaction.changes.iter() {
            let change = change.unwrap();
            let schema = &self.source.table(change.table()).unwrap().schema;
            let rows = &mut self.tables[change.table().index()];
            match change {
                ChangeRef::Insert { row, .. } | ChangeRef::Update { row, .. } => {
                    let row = row.values().unwrap();
                    rows.insert(Key::of_row(schema, &row).unwrap(), owned(&row));
                }
                ChangeRef::Delete { key, .. } => {
                    rows.remove(&Key::from_values(&key.values().unwrap()).unwrap());
                }
                ChangeRef::Truncate { .. } => rows.clear(),
            }
        }
    }

    /// Polls until everything that is committed by now has come, and holds the rows against the server's.
    fn assert_equal(&mut self, what: &str) {
        let end = self.source.log_end().unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while self.capture.through() < end {
            assert!(Instant::now() < until, "{what}: {} of {end}", self.capture.through());
            let mut transactions = Vec::new();
            self.capture.poll(&mut transactions).unwrap();
            assert!(transactions.windows(2).all(|pair| pair[0].lsn < pair[1].lsn));
            transactions.iter().for_each(|transaction| self.take(transaction));
            self.capture.prune().unwrap();
        }
        let mut client = self.source.connect().unwrap();
        for (id, schema) in self.source.catalog().iter() {
            let reader = TableReader::new(self.source.table(id).unwrap());
            let mut expected = BTreeMap::new();
            reader
                .all::<freshbench::source::SourceError>(&mut client, &reader.select(), &[], &mut |row| {
                    expected.insert(Key::of_row(schema, row).unwrap(), owned(row));
                    Ok(())
                })
                .unwrap();
            assert_eq!(self.tables[id.index()], expected, "{what}: {}", schema.name);
        }
    }
}

fn owned(row: &[freshbench::model::ValueRef<'_>]) -> Vec<Value> {
    row.iter().map(|value| value.to_value().unwrap()).collect()
}

#[test]
fn every_kind_of_statement_arrives() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE t(id int PRIMARY KEY, v text, n numeric(10,2)); INSERT INTO t SELECT n, 'a', n FROM generate_series(1,9) n;\
         CREATE TABLE \"Odd \"\"name\"(\"k 1\" text, \"k,2\" int, big text, PRIMARY KEY (\"k,2\", \"k 1\"))",
    );
    let mut followed = Followed::begin(&server, &["t", "\"Odd \"\"name\""]);
    for statements in [
        "INSERT INTO t VALUES (20, 'x', 1); DELETE FROM t WHERE id = 20",
        "BEGIN; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'new', 2); COMMIT",
        "BEGIN; INSERT INTO t VALUES (30); UPDATE t SET v = 'u' WHERE id = 30; DELETE FROM t WHERE id = 30; \
         INSERT INTO t VALUES (30, 'again'); UPDATE t SET v = 'last' WHERE id = 30; COMMIT",
        "UPDATE t SET id = 102 WHERE id = 2",
        "BEGIN; UPDATE t SET id = -1 WHERE id = 3; UPDATE t SET id = 3 WHERE id = 4; UPDATE t SET id = 4 WHERE id = -1; COMMIT",
        "UPDATE t SET id = id + 1000",
        "BEGIN; INSERT INTO t VALUES (50); ROLLBACK",
        "BEGIN; INSERT INTO t VALUES (51); SAVEPOINT s; INSERT INTO t VALUES (52); ROLLBACK TO s; COMMIT",
        "INSERT INTO t VALUES (51, 'on conflict') ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        "WITH gone AS (DELETE FROM t WHERE id = 51 RETURNING *) INSERT INTO t SELECT id + 1, v, n FROM gone",
        "INSERT INTO \"Odd \"\"name\" SELECT 'ключ' || n, n, repeat('y', 100000) FROM generate_series(1, 3) n",
        "UPDATE \"Odd \"\"name\" SET \"k 1\" = '' WHERE \"k,2\" = 2; DELETE FROM \"Odd \"\"name\" WHERE \"k,2\" = 1",
        "BEGIN; TRUNCATE t; INSERT INTO t VALUES (1, NULL, NULL), (2, '', 0); COMMIT",
        "MERGE INTO t USING (VALUES (2, 'm'), (3, 'm')) AS s(id, v) ON t.id = s.id \
         WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v, 0)",
    ] {
        server.psql("postgres", statements);
        followed.assert_equal(statements);
    }
    PgTriggerCapture::teardown(&followed.source).unwrap();
    let left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '\\_fresh%'";
    assert_eq!(server.psql("postgres", left).trim(), "0");
}

#[test]
fn triggers_of_others_that_change_the_same_rows_are_seen_through() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE t(id int PRIMARY KEY, v int, stamp int DEFAULT 0); \
         CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            IF pg_trigger_depth() = 1 AND TG_OP <> 'DELETE' THEN UPDATE t SET stamp = stamp + 1 WHERE id = NEW.id; END IF; \
            IF pg_trigger_depth() = 1 AND TG_OP = 'DELETE' AND OLD.id = 3 THEN INSERT INTO t VALUES (3, -3); END IF; \
            RETURN NULL; END $$; \
         CREATE TRIGGER again AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION again(); \
         CREATE TABLE latest(id int PRIMARY KEY, grp int, newest bool); \
         CREATE FUNCTION only_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            UPDATE latest SET newest = false WHERE grp = NEW.grp AND newest; RETURN NEW; END $$; \
         CREATE TRIGGER only_one BEFORE INSERT ON latest FOR EACH ROW EXECUTE FUNCTION only_one(); \
         CREATE TABLE tree(id int PRIMARY KEY, parent int REFERENCES tree ON UPDATE CASCADE ON DELETE CASCADE)",
    );
    let mut followed = Followed::begin(&server, &["t", "tree", "latest"]);
    for statements in [
        "INSERT INTO t SELECT n, n FROM generate_series(1, 4) n",
        "UPDATE t SET v = v + 10",
        "DELETE FROM t WHERE id IN (3, 4)",
        "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 1)",
        "UPDATE tree SET id = id + 100",
        "DELETE FROM tree WHERE id = 102",
        "INSERT INTO latest SELECT n, n % 2, true FROM generate_series(1, 6) n",
    ] {
        server.psql("postgres", statements);
        followed.assert_equal(statements);
    }
}

#[test]
fn what_commits_late_is_not_lost() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", "CREATE TABLE t(id int PRIMARY KEY, v int)");
    let mut followed = Followed::begin(&server, &["t"]);
    // Number 1 of the changelog commits after number 2 was read; the long one before them holds nothing up.
    let mut long = server.options("postgres").connect().unwrap();
    long.batch_execute("BEGIN; SELECT pg_current_xact_id()").unwrap();
    let mut slow = server.options("postgres").connect().unwrap();
    slow.batch_execute("BEGIN; INSERT INTO public.t VALUES (1, 1)").unwrap();
    server.psql("postgres", "INSERT INTO t VALUES (2, 2)");
    followed.assert_equal("the fast one");
    slow.batch_execute("COMMIT").unwrap();
    followed.assert_equal("the slow one");
    server.psql("postgres", "UPDATE t SET v = 3 WHERE id = 1");
    followed.assert_equal("a later one");
    long.batch_execute("INSERT INTO public.t VALUES (9, 9); COMMIT").unwrap();
    followed.assert_equal("the long one");
}

#[test]
fn partitions_are_refused() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE p(id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); \
         CREATE TABLE parent(id int PRIMARY KEY); CREATE TABLE child(PRIMARY KEY (id)) INHERITS (parent)",
    );
    let options = server.options("postgres");
    let mut client = options.connect().unwrap();
    for name in ["p", "p1", "parent", "child"] {
        let table = PgTable::discover(&mut client, &PgTableName::parse(name).unwrap()).unwrap();
        let refused = PgTriggerCapture::setup(&PgSource::adopt(&options, vec![table])).unwrap_err().to_string();
        assert!(refused.contains("cdc-log") && refused.contains(name), "{refused}");
    }
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '\\_fresh%'").trim(), "0");
}

#[test]
fn a_trigger_or_a_foreign_key_that_comes_later_and_may_change_rows_again_stops_the_capture() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let again = "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF pg_trigger_depth() < 2 THEN UPDATE a SET t = t || '!' WHERE id = new.id; END IF; RETURN null; END $$";
    server.psql("postgres", again);
    let cases = [
        // Neither of these changes a row of the table a second time.
        ("CREATE TRIGGER x AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION again()", false),
        ("ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES p ON DELETE CASCADE", false),
        ("CREATE TRIGGER x AFTER UPDATE ON a FOR EACH ROW EXECUTE FUNCTION again()", true),
        ("ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES a ON DELETE CASCADE", true),
        (
            "ALTER TABLE p ADD FOREIGN KEY (id) REFERENCES a ON DELETE CASCADE; \
             ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES p ON DELETE SET NULL",
            true,
        ),
    ];
    for (later, stops) in cases {
        server.psql(
            "postgres",
            "DROP TABLE IF EXISTS a, p CASCADE; CREATE TABLE p (id int PRIMARY KEY); \
             CREATE TABLE a (id int PRIMARY KEY, b int, t text); INSERT INTO a VALUES (1, null, 'one'), (2, null, 'two')",
        );
        let mut followed = Followed::begin(&server, &["a"]);
        server.psql("postgres", "UPDATE a SET t = 'before'");
        followed.assert_equal(later);
        server.psql("postgres", later);
        server.psql("postgres", "UPDATE a SET t = 'after'");
        if stops {
            let stopped = followed.capture.poll(&mut Vec::new()).unwrap_err().to_string();
            assert!(
                stopped.contains("\"a\" was changed while it was followed: it has a trigger"),
                "{later}: {stopped}"
            );
        } else {
            followed.assert_equal(later);
        }
        PgTriggerCapture::teardown(&followed.source).unwrap();
    }
}
