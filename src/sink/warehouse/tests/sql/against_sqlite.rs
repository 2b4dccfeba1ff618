//! The same rows in SQLite and in a warehouse of many small segments, dead rows and rows not yet written: the same queries
//! must have the same answers.

use super::support::*;
use super::{lines, session};
use crate::model::{Catalog, Column, ColumnType, Key, Lsn, TableId, TableSchema, Value};
use crate::sink::Sink;
use crate::sink::warehouse::Warehouse;
use std::collections::BTreeMap;

const ORDERS: TableId = TableId(0);
const CUSTOMERS: TableId = TableId(1);
const CUSTOMER_COUNT: u64 = 40;
const STATUS: [&str; 4] = ["new", "paid", "sent", "back"];

fn catalog() -> Catalog {
    let int = |name| Column::required(name, ColumnType::Int64);
    let text = |name| Column::required(name, ColumnType::Text);
    let orders = vec![
        int("id"),
        int("customer_id"),
        text("status"),
        Column::nullable("amount", ColumnType::Int64),
        Column::nullable("weight", ColumnType::Float64),
        Column::required("at", ColumnType::Timestamp),
    ];
    let customers = vec![int("id"), text("name"), Column::nullable("region", ColumnType::Text)];
    let tables = [("orders", orders), ("customers", customers)];
    let schemas = tables.into_iter().map(|(name, columns)| TableSchema::new(name, columns, vec![0]).expect("a schema"));
    Catalog { tables: schemas.collect() }
}

fn nullable(random: &mut Random, value: Value) -> Value {
    if random.below(8) == 0 { Value::Null } else { value }
}

fn order(random: &mut Random, id: i64) -> Vec<Value> {
    let amount = Value::Int(random.below(1_000) as i64 - 500);
    // Quarters add up without rounding, in any order.
    let weight = Value::Float(random.below(400) as f64 / 4.0 - 20.0);
    vec![
        Value::Int(id),
        Value::Int(random.below(CUSTOMER_COUNT + 5) as i64),
        Value::text(STATUS[random.below(4) as usize]),
        nullable(random, amount),
        nullable(random, weight),
        Value::Timestamp((id * 1_000 + random.below(5_000) as i64) * 1_000_000),
    ]
}

fn customer(random: &mut Random, id: i64) -> Vec<Value> {
    let region = Value::text(["north", "south", "west"][random.below(3) as usize]);
    vec![Value::Int(id), Value::text(format!("customer {id}")), nullable(random, region)]
}

type ById = BTreeMap<i64, Vec<Value>>;

/// A warehouse after some rounds of random edits, each published, most of them written to segments.
fn fill(random: &mut Random, warehouse: &mut Warehouse, catalog: &Catalog) -> [ById; 2] {
    let (mut orders, mut customers) = (ById::new(), ById::new());
    for round in 1..=12u64 {
        let mut upserts = ById::new();
        for _ in 0..40 + random.below(80) {
            let id = random.below(900) as i64;
            upserts.insert(id, order(random, id));
        }
        let mut deletes = Vec::new();
        for _ in 0..random.below(40) {
            let id = random.below(900) as i64;
            if !upserts.contains_key(&id) && orders.remove(&id).is_some() {
                deletes.push(Key::Int(id));
            }
        }
        let mut people = ById::new();
        for _ in 0..if round == 1 { CUSTOMER_COUNT } else { 5 } {
            let id = random.below(CUSTOMER_COUNT) as i64;
            people.insert(id, customer(random, id));
        }
        let rows = |rows: &ById| rows.values().cloned().collect::<Vec<_>>();
        let tables = vec![
            edits(catalog, ORDERS, false, &deletes, &rows(&upserts)),
            edits(catalog, CUSTOMERS, false, &[], &rows(&people)),
        ];
        warehouse.apply(&edit_set(round, tables)).expect("apply");
        warehouse.publish(Lsn(round)).expect("publish");
        orders.extend(upserts);
        customers.extend(people);
        if round % 4 != 0 {
            warehouse.checkpoint().expect("checkpoint");
        }
    }
    [orders, customers]
}

fn sqlite(catalog: &Catalog, tables: &[ById; 2]) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open_in_memory().expect("SQLite");
    let schema =
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INT, status TEXT, amount INT, weight REAL, at INT);
                  CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT, region TEXT)";
    connection.execute_batch(schema).expect("tables");
    for (schema, rows) in catalog.tables.iter().zip(tables) {
        let marks = vec!["?"; schema.columns.len()].join(",");
        let mut insert = connection.prepare(&format!("INSERT INTO {} VALUES ({marks})", schema.name)).expect("insert");
        for row in rows.values() {
            let values = row.iter().map(|value| match value {
                Value::Int(v) | Value::Timestamp(v) => rusqlite::types::Value::Integer(*v),
                Value::Float(v) => rusqlite::types::Value::Real(*v),
                Value::Text(v) => rusqlite::types::Value::Text(v.to_string()),
                Value::Null => rusqlite::types::Value::Null,
                other => panic!("{other:?}"),
            });
            insert.execute(rusqlite::params_from_iter(values)).expect("a row");
        }
    }
    connection
}

fn sqlite_lines(connection: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let word = |place| {
            Ok(match row.get(place)? {
                rusqlite::types::Value::Null => "NULL".to_owned(),
                rusqlite::types::Value::Integer(v) => v.to_string(),
                rusqlite::types::Value::Real(v) => format!("{v:?}"),
                rusqlite::types::Value::Text(v) => v,
                rusqlite::types::Value::Blob(_) => panic!("no bytes here"),
            })
        };
        Ok((0..columns).map(word).collect::<Result<Vec<_>, rusqlite::Error>>()?.join("|"))
    });
    rows.expect("rows").collect::<Result<_, _>>().expect("a row")
}

/// A condition for the warehouse, and for SQLite.
fn condition(random: &mut Random, depth: u64) -> (String, String) {
    let same = |text: String| (text.clone(), text);
    let operator = ["=", "<>", "<", "<=", ">", ">="][random.below(6) as usize];
    match random.below(if depth == 0 { 9 } else { 12 }) {
        0 => same(format!("id {operator} {}", random.below(900))),
        1 => same(format!("{} {operator} amount", random.below(1_000) as i64 - 500)),
        2 => same(format!("status {operator} '{}'", STATUS[random.below(4) as usize])),
        3 => same(format!("weight {operator} {:.2}", random.below(400) as f64 / 4.0 - 20.0)),
        4 => same(format!("customer_id IN ({}, {}, {})", random.below(45), random.below(45), random.below(45))),
        5 => same(format!("id BETWEEN {} AND {}", random.below(600), 300 + random.below(600))),
        6 => same(["amount IS NULL", "weight IS NOT NULL", "status LIKE '%a%'"][random.below(3) as usize].to_owned()),
        7 => same(format!("id % {} {operator} amount + customer_id", 1 + random.below(9))),
        8 => {
            let second = random.below(900_000) as i64;
            (format!("at {operator} to_timestamp_micros({second}000000)"), format!("at {operator} {second}000000"))
        }
        kind => {
            let (a, b) = (condition(random, depth - 1), condition(random, depth - 1));
            let join = |a: &str, b: &str| match kind {
                9 => format!("({a} AND {b})"),
                10 => format!("({a} OR {b})"),
                _ => format!("(NOT {a} OR {b})"),
            };
            (join(&a.0, &b.0), join(&a.1, &b.1))
        }
    }
}

/// `{}` is where the condition goes.
const QUERIES: [&str; 14] = [
    "SELECT count(*) FROM orders WHERE {}",
    "SELECT * FROM (SELECT id, status, amount, weight FROM orders WHERE {}) s",
    "SELECT status, count(*), count(amount), sum(amount), min(id), max(amount), avg(weight), min(weight) FROM orders WHERE {} GROUP BY status",
    "SELECT sum(amount), sum(weight), avg(amount), min(status), max(id) FROM orders WHERE {}",
    "SELECT count(DISTINCT customer_id), sum(DISTINCT amount), count(*) FROM orders WHERE {}",
    "SELECT c.region, count(*), sum(o.amount) FROM (SELECT * FROM orders WHERE {}) o JOIN customers c ON o.customer_id = c.id GROUP BY c.region",
    "SELECT o.id, c.name FROM (SELECT * FROM orders WHERE {}) o LEFT JOIN customers c ON o.customer_id = c.id AND c.region = 'north'",
    "SELECT name FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE {})",
    "SELECT name FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND {})",
    "SELECT id FROM orders WHERE {} ORDER BY amount DESC NULLS LAST, id LIMIT 7",
    "SELECT id, sum(amount) OVER (PARTITION BY status ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders WHERE {}",
    "SELECT customer_id, sum(amount) FROM orders WHERE {} GROUP BY customer_id HAVING count(*) > 3",
    "SELECT CASE WHEN amount > 0 THEN 'in' WHEN amount < 0 THEN 'out' ELSE 'none' END, count(*) FROM orders WHERE {} GROUP BY 1",
    "SELECT id FROM orders WHERE {} EXCEPT SELECT id FROM orders WHERE amount > 100 UNION ALL SELECT id FROM customers WHERE id < 3",
];

#[test]
fn queries_answer_as_sqlite_does() {
    for seed in seeds(4) {
        let replay =
            format!("FRESHBENCH_TEST_SEED={seed} cargo test --features sql --lib queries_answer_as_sqlite_does");
        let mut random = Random(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = catalog();
        let mut warehouse = Warehouse::create(folder.path(), &catalog, small()).expect("a warehouse");
        let tables = fill(&mut random, &mut warehouse, &catalog);
        let sqlite = sqlite(&catalog, &tables);
        let session = session(&warehouse.reader().version());
        for turn in 0..42 {
            let query = QUERIES[turn % QUERIES.len()];
            let (ours, theirs) = condition(&mut random, 2);
            let ours = query.replace("{}", &ours);
            let (mut found, mut wanted) =
                (lines(&session, &ours), sqlite_lines(&sqlite, &query.replace("{}", &theirs)));
            if !query.contains("ORDER BY amount") {
                found.sort_unstable();
                wanted.sort_unstable();
            }
            assert_eq!(found, wanted, "{ours}\n{replay}");
        }
    }
}

/// From a folder, the columns come out of Parquet, one projection at a time.
#[test]
fn an_opened_folder_answers_as_sqlite_does() {
    let mut random = Random(77);
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = catalog();
    let mut warehouse = Warehouse::create(folder.path(), &catalog, small()).expect("a warehouse");
    let tables = fill(&mut random, &mut warehouse, &catalog);
    warehouse.checkpoint().expect("checkpoint");
    let sqlite = sqlite(&catalog, &tables);
    let reader = crate::sink::WarehouseReader::open(folder.path()).expect("a reader");
    let session = session(&reader.version());
    for query in QUERIES {
        let (ours, theirs) = condition(&mut random, 1);
        let ours = query.replace("{}", &ours);
        let (mut found, mut wanted) = (lines(&session, &ours), sqlite_lines(&sqlite, &query.replace("{}", &theirs)));
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{ours}");
    }
}
