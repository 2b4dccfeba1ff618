//! Random statements, rollbacks, foreign writers, restarts and prunes; after every poll the replay equals the tables.

use crate::follow::Followed;
use freshbench::capture::TriggerCapture;

const TABLES: &str = "
    CREATE TABLE a(id INTEGER PRIMARY KEY, v INT, s TEXT);
    CREATE TABLE b(x TEXT, y INT, v REAL, w BLOB, PRIMARY KEY(x, y)) WITHOUT ROWID;
    CREATE TABLE c(id INT PRIMARY KEY, a INT REFERENCES a(id) ON DELETE CASCADE ON UPDATE CASCADE, u INT UNIQUE);";

struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn verb(&mut self) -> &'static str {
        ["INSERT OR REPLACE", "INSERT OR IGNORE", "REPLACE", "INSERT OR IGNORE"][self.below(4) as usize]
    }

    fn text(&mut self) -> String {
        ["NULL", "''", "'x' || char(0)", "'ä''\"'", "hex(randomblob(20))"][self.below(5) as usize].to_owned()
    }

    fn statement(&mut self) -> String {
        let (id, other, n) = (self.below(12), self.below(12), self.below(1000));
        let (verb, text) = (self.verb(), self.text());
        match self.below(16) {
            0 | 1 => format!("{verb} INTO a VALUES({id}, {n}, {text})"),
            2 => format!("INSERT INTO a VALUES({id}, {n}, {text}) ON CONFLICT(id) DO UPDATE SET v = v + 1, s = {text}"),
            3 => format!("UPDATE a SET v = v + {n}, s = {text} WHERE id BETWEEN {id} AND {other}"),
            4 => format!("UPDATE OR REPLACE a SET id = {other} WHERE id = {id}"),
            5 => format!("DELETE FROM a WHERE id = {id}"),
            6 | 7 => format!("{verb} INTO b VALUES('k{id}', {}, {n} / 7.0, randomblob({other}))", self.below(3)),
            8 => format!("UPDATE OR REPLACE b SET x = 'k{other}', y = y + 1 WHERE x = 'k{id}'"),
            9 => format!("UPDATE b SET v = -v, w = NULL WHERE y = {}", self.below(3)),
            10 => format!("DELETE FROM b WHERE x < 'k{id}' AND y = {}", self.below(3)),
            11 | 12 => format!("{verb} INTO c SELECT {id}, id, {other} FROM a ORDER BY id LIMIT 1"),
            13 => format!("UPDATE OR REPLACE c SET u = {n} % 12, id = {other} WHERE id = {id}"),
            14 if self.below(4) == 0 => "DELETE FROM c; DELETE FROM b".to_owned(),
            14 => format!("UPDATE OR IGNORE a SET id = id + {n} % 3"),
            _ => format!(
                "INSERT INTO b SELECT 'k' || id, {n} % 3, v, CAST(s AS BLOB) FROM a WHERE true ON CONFLICT DO NOTHING"
            ),
        }
    }

    fn script(&mut self) -> String {
        let mut script = String::new();
        for _ in 0..=self.below(5) {
            let statement = self.statement();
            match self.below(6) {
                0 => script.push_str(&format!("SAVEPOINT s; {statement}; ROLLBACK TO s; RELEASE s;")),
                1 => script.push_str(&format!("SAVEPOINT s; {statement}; RELEASE s;")),
                _ => script.push_str(&format!("{statement};")),
            }
        }
        script
    }
}

fn run(seed: u64, transactions: u32) {
    eprintln!("seed {seed}: replay with FRESHBENCH_SEED={seed} cargo test --test capture_sqlite random");
    let mut draw = Draw(seed);
    let mut followed = Followed::new(TABLES, &["a", "b", "c"]);
    for _ in 0..transactions {
        let script = draw.script();
        match draw.below(8) {
            0 => followed.writer.execute_batch(&format!("BEGIN; {script} ROLLBACK")).unwrap(),
            1 => followed.writer.execute_batch(&format!("BEGIN; {script} COMMIT")).unwrap(),
            _ => drop(followed.commit(&script)),
        }
        match draw.below(10) {
            0..=3 => drop(followed.check()),
            4 => drop(followed.check_with(1 + draw.below(5))),
            5 => {
                let through = followed.capture.through();
                followed.capture = TriggerCapture::resume(&followed.source, through).unwrap();
            }
            6 => drop(followed.capture.prune(followed.capture.through()).unwrap()),
            _ => {}
        }
    }
    followed.check();
    assert!(followed.delivered.len() > transactions as usize / 2);
}

#[test]
fn random_statements() {
    match std::env::var("FRESHBENCH_SEED") {
        Ok(seed) => run(seed.parse().unwrap(), 400),
        Err(_) => {
            for seed in [1, 2, 3] {
                run(seed, 200);
            }
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            run(u64::from(now.subsec_nanos()), 400);
        }
    }
}
