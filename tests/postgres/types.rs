//! Every type, value by value: what goes in comes out, from both wire forms.

use crate::server::PgServer;
use crate::support::{assert_same, copied, dumped, folder, load};
use freshbench::source::SourceError;
use freshbench::source::postgres::{Mode, PgCopyRows, PgField, PgScratch, PgTable, PgTableName, Wire};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRng, TestRunner};

/// What the columns need.
pub const SETUP: &str = r#"
CREATE TYPE mood AS ENUM ('', 'so, so', 'h"appy', 'größe');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS numeric(10,3) CHECK (VALUE > 0);
CREATE DOMAIN nested AS positive;
CREATE DOMAIN words AS text[];
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TYPE nest AS (p pair, ps pair[], n numeric, m mood, w words);
CREATE DOMAIN moods AS mood CHECK (VALUE <> '');
CREATE DOMAIN pairs AS pair;
CREATE DOMAIN spans AS int4range;
CREATE DOMAIN short AS char(3);
CREATE TABLE "odd ""table" (a int, "b,c" text);
"#;

/// A column type, and literals of it. `matrix` asks the server's catalog whether one of its types is forgotten here.
pub const TYPES: &[(&str, &[&str])] = &[
    ("bool", &["t", "f"]),
    ("int2", &["-32768", "32767", "0"]),
    ("int4", &["-2147483648", "2147483647", "-1"]),
    ("int8", &["-9223372036854775808", "9223372036854775807", "0"]),
    ("oid", &["0", "4294967295"]),
    (
        "float4",
        &["-0", "0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "0.1", "16777216", "1e6", "123456"],
    ),
    ("float8", &["-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "0.1", "1e15", "1e23"]),
    ("numeric(12,2)", &["0", "-0.01", "9999999999.99", "-9999999999.99", "0.50", "12345678.90", "10000", "100000000"]),
    (
        "numeric(38,0)",
        &["99999999999999999999999999999999999999", "-99999999999999999999999999999999999999", "0", "1e37"],
    ),
    ("numeric(38,38)", &["0.99999999999999999999999999999999999999", "-1e-38", "0"]),
    ("numeric(38,19)", &["9999999999999999999.9999999999999999999", "-0.0000000000000000001", "10000"]),
    ("numeric(5,-2)", &["123456", "-9999900", "0"]),
    ("numeric(3,5)", &["0.00999", "-0.00001", "0"]),
    (
        "numeric",
        &[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.000",
            "-0.0001",
            "1e-20",
            "1e30",
            "10000",
            "9999.99990000",
            "123456789012345678901234567890.123456789",
        ],
    ),
    ("numeric(39,1)", &["12345678901234567890123456789012345678.9", "NaN", "0"]),
    ("numeric(1000,500)", &["1.5", "0"]),
    (
        "text",
        &["", " ", "a,b", "a\"b", "x\ny", "x\r\ny", "\\.", "\\N", "é\u{301}\u{10FFFF}", "\u{1}\u{7f}", "NULL", "'"],
    ),
    ("varchar(5)", &["", "12345", "é ü"]),
    ("char(5)", &["", "ab", "12345", "é"]),
    ("bpchar", &["", "ab  "]),
    ("name", &["", "größe"]),
    ("\"char\"", &["", "a", ","]),
    ("bytea", &["\\x", "\\x00", "\\x00ff5c22", "\\xdeadbeef"]),
    (
        "date",
        &[
            "4713-11-24 BC",
            "0001-12-31 BC",
            "0001-01-01",
            "1970-01-01",
            "5874897-12-31",
            "infinity",
            "-infinity",
            "2000-02-29",
        ],
    ),
    ("time", &["00:00:00", "24:00:00", "23:59:59.999999", "12:00:00.5"]),
    ("time(0)", &["12:00:00.6"]),
    ("timetz", &["00:00:00+00", "24:00:00-15:59", "12:30:00.25+05:30", "12:00:00+15:59:59", "01:02:03-00:00:01"]),
    (
        "timestamp",
        &[
            "4713-11-24 00:00:00 BC",
            "0044-03-15 12:00:00.5 BC",
            "2024-02-29 23:59:59.999999",
            "infinity",
            "-infinity",
            "294246-12-31 23:59:59.999999",
        ],
    ),
    (
        "timestamptz",
        &[
            "4713-11-24 00:00:00+00 BC",
            "2024-02-29 23:59:59.999999+05:30",
            "infinity",
            "-infinity",
            "294246-12-31 23:59:59+00",
            "1969-12-31 23:59:59.999999Z",
        ],
    ),
    (
        "interval",
        &[
            "0",
            "1 microsecond",
            "-1 year -1 month +1 day -01:00",
            "178000000 years",
            "-178000000 years",
            "1 year 2 mons -3 days 04:05:06.789",
            "-1 day +25:00:00.1",
            "2562047788:00:54.775807",
            "1 mon",
        ],
    ),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
    ("json", &["null", "{\"a\": 1,  \"a\":2}", "\"\\u0041\"", " [1 , 2]"]),
    ("jsonb", &["null", "{\"b\": 1.50, \"a\": [null, \"x,y\"]}", "\"\\u00e9\"", "1e3"]),
    ("inet", &["127.0.0.1", "10.0.0.0/8", "::1", "fe80::1/64", "1.2.3.4/32"]),
    ("cidr", &["10.0.0.0/8", "1.2.3.4/32", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("mood", &["", "so, so", "h\"appy", "größe"]),
    ("int4[]", &["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[2:3]={5,6}"]),
    ("text[]", &["{}", "{\"\",NULL,\"NULL\",\"a,b\",\"q\\\"uote\",\"back\\\\slash\",\"{brace}\"}", "{{a,b},{c,NULL}}"]),
    ("timestamptz[]", &["{\"2024-01-01 00:00:00+00\",infinity}"]),
    ("float4[]", &["{0.1,-0,NaN}"]),
    ("jsonb[]", &["{\"{\\\"a\\\": null}\"}"]),
    ("positive", &["0.001", "9999999.999"]),
    ("nested", &["1", "2.5"]),
    ("words", &["{a,NULL}"]),
    ("int4range", &["empty", "[1,5)", "(,)", "[1,]"]),
    ("tstzrange", &["[2024-01-01 00:00:00+00,infinity)"]),
    ("floatrange", &["[-0,NaN]"]),
    ("int4multirange", &["{}", "{[1,3),[5,8)}"]),
    ("bit(5)", &["00000", "10101"]),
    ("varbit", &["", "1", "1010101"]),
    ("money", &["-1234567.89", "0"]),
    ("xml", &["<a b=\"c\">d</a>", "text, only"]),
    ("tsvector", &["", "'a' 'b':1A,2", "'it''s':3"]),
    ("tsquery", &["'a' & !'b'"]),
    ("pair", &["(,)", "(1,\"x,y\")", "(,\"\")"]),
    ("point", &["(1.5,-0)"]),
    ("regclass", &["pg_class", "0"]),
    ("regtype", &["integer"]),
    ("pg_lsn", &["16/B374D848"]),
    ("xid", &["4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("cid", &["0", "4294967295"]),
    ("tid", &["(0,1)", "(4294967295,65535)"]),
    ("line", &["{1,-1,0}", "{0,1,-0.5}"]),
    ("lseg", &["[(0,0),(1.5,-2)]"]),
    ("path", &["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"]),
    ("box", &["(3,4),(1,2)"]),
    ("box[]", &["{(3,4),(1,2);(1,1),(0,0)}"]),
    ("polygon", &["((0,0),(1,1),(2,0))"]),
    ("circle", &["<(1,2),3.5>"]),
    ("aclitem", &["postgres=arwdDxt/postgres", "=r/postgres"]),
    ("int2vector", &["1 2 3", ""]),
    ("oidvector", &["1 4294967295", ""]),
    ("refcursor", &["a, \"b\""]),
    ("regproc", &["boolin", "0"]),
    ("regprocedure", &["lower(text)"]),
    ("regoper", &["|/", "0"]),
    ("regoperator", &["+(integer,integer)"]),
    ("regcollation", &["\"C\"", "0"]),
    ("regconfig", &["simple"]),
    ("regdictionary", &["simple"]),
    ("regrole", &["postgres", "0"]),
    ("regnamespace", &["pg_catalog", "0"]),
    ("regclass[]", &["{pg_class,public.every}"]),
    ("jsonpath", &["$.\"a\"[*]?(@ > 1)", "strict $"]),
    ("pg_snapshot", &["10:20:10,14,15", "10:10:"]),
    ("txid_snapshot", &["10:20:10,14,15"]),
    ("int8range", &["[1,9223372036854775807)", "empty"]),
    ("numrange", &["[1.0,2.00]", "(,Infinity)"]),
    ("tsrange", &["[\"2024-01-01 00:00:00\",\"2024-01-02 00:00:00.5\")"]),
    ("daterange", &["[2024-01-01,infinity)", "[,2024-01-01)"]),
    ("int8multirange", &["{[1,3)}"]),
    ("nummultirange", &["{[1.0,2.00],(3,4)}"]),
    ("tsmultirange", &["{}"]),
    ("tstzmultirange", &["{[\"2024-01-01 00:00:00+00\",)}"]),
    ("datemultirange", &["{[2024-01-01,2024-01-05),(,2020-01-01)}"]),
    ("nest", &["(\"(1,\"\"x,y\"\")\",\"{\"\"(,)\"\",\"\"(2,z)\"\"}\",1.50,\"so, so\",\"{a,NULL}\")", "(,,,,)"]),
    ("moods", &["so, so"]),
    ("moods[]", &["{\"so, so\",NULL}"]),
    ("mood[]", &["{größe,\"\"}"]),
    ("pairs", &["(1,x)", "(,)"]),
    ("spans", &["[1,5)", "empty"]),
    ("short", &["a", "abc"]),
    ("positive[]", &["{0.001,NULL}"]),
    ("\"odd \"\"table\"", &["(1,\"x\")", "(,)"]),
    ("numeric[]", &["{1.0,1.00,NaN}"]),
    ("interval[]", &["{\"1 day\",24:00:00}"]),
    ("bit", &["1"]),
    ("bit varying(3)", &["", "101"]),
    ("\"char\"[]", &["{a,\",\"}"]),
    ("xml[]", &["{<a/>}"]),
    ("uuid[]", &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"]),
];

pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table with a column a type; each literal in a row of its own, all other columns NULL, and a row of NULLs.
pub fn make_every_type(server: &PgServer, database: &str) {
    let columns: Vec<String> =
        TYPES.iter().enumerate().map(|(place, (declared, _))| format!("c{place} {declared}")).collect();
    let mut sql = format!("{SETUP}\nCREATE TABLE every (id int8 PRIMARY KEY, {});\n", columns.join(", "));
    sql.push_str("INSERT INTO every VALUES (-1);\n");
    let mut id = 0;
    for (place, (declared, values)) in TYPES.iter().enumerate() {
        for value in *values {
            sql.push_str(&format!("INSERT INTO every (id, c{place}) VALUES ({id}, {}::{declared});\n", literal(value)));
            id += 1;
        }
    }
    server.psql(database, &sql);
}

#[test]
fn every_type_is_dumped_as_the_server_writes_it() {
    let Some(server) = PgServer::start(&[]) else { return };
    make_every_type(&server, "postgres");
    let thousand = format!("{}.{}", "9876543210".repeat(100), "0123456789".repeat(100));
    let long = "日本語, \"text\"\n".repeat(6_000);
    server.psql(
        "postgres",
        &format!(
            "CREATE TABLE large (id int PRIMARY KEY, n numeric, t text, b bytea); \
             INSERT INTO large SELECT 1, '{thousand}', repeat('x', 100000), decode(repeat('00ff', 50000), 'hex'); \
             INSERT INTO large SELECT 2, '-{thousand}', '', ''; INSERT INTO large SELECT 3, NULL, {}, NULL",
            literal(&long)
        ),
    );
    let folder = folder();
    for table in ["every", "large"] {
        let warehouse = load(&server.url("postgres"), table, folder.path(), &[]).unwrap();
        let wanted = copied(&server, "postgres", &format!("SELECT * FROM public.{table} ORDER BY id"));
        assert_same(&dumped(&warehouse, table), &wanted);
    }
}

/// The rows of a table from the binary and from the text form, each in the model's own words.
fn both_forms(server: &PgServer, database: &str, name: &str) -> (Vec<String>, Vec<String>) {
    let mut client = server.options(database).connect().unwrap();
    let table = PgTable::discover(&mut client, &PgTableName::parse(name).unwrap()).unwrap();
    let mut wire = Wire::connect(&server.options(database), Mode::Query).unwrap();
    let mut scratch = PgScratch::default();
    let (mut binary, mut textual) = (Vec::new(), Vec::new());
    let mut rows = PgCopyRows::new(&table);
    let leaf = &table.leaves[0];
    wire.copy_out::<SourceError>(&table.copy_sql(leaf, None, None), &mut |payload| {
        // Cut anywhere, rows stay whole.
        for piece in payload.chunks(7) {
            rows.feed(
                piece,
                &mut |fields| {
                    binary.push(format!("{:?}", table.decode(fields, &mut scratch)?));
                    Ok(())
                },
                |error| error,
            )?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(rows.finish().unwrap(), binary.len() as u64);
    for row in wire.query(&format!("SELECT * FROM {}", leaf.quoted)).unwrap() {
        let field = |value: &'_ Option<String>| value.clone();
        let owned: Vec<Option<String>> = row.iter().map(field).collect();
        let fields: Vec<PgField<'_>> = owned
            .iter()
            .map(|value| value.as_ref().map_or(PgField::Null, |text| PgField::Text(text.as_bytes())))
            .collect();
        textual.push(format!("{:?}", table.decode(&fields, &mut scratch).unwrap()));
    }
    (binary, textual)
}

#[test]
fn the_text_form_means_what_the_binary_form_does() {
    let Some(server) = PgServer::start(&[]) else { return };
    make_every_type(&server, "postgres");
    let (binary, textual) = both_forms(&server, "postgres", "every");
    assert_eq!(binary.len(), 1 + TYPES.iter().map(|(_, values)| values.len()).sum::<usize>());
    for (binary, textual) in binary.iter().zip(&textual) {
        assert_eq!(binary, textual);
    }
}

/// Random values as literals, for the types whose binary form is decoded here.
fn random_row() -> impl Strategy<Value = Vec<Option<String>>> {
    let digits = |most: usize| {
        proptest::collection::vec(0u8..10, 1..=most)
            .prop_map(|digits| digits.into_iter().map(|digit| char::from(b'0' + digit)).collect::<String>())
    };
    let sign = || prop_oneof![Just(""), Just("-")];
    let numeric = (sign(), digits(60), digits(40)).prop_map(|(sign, whole, behind)| format!("{sign}{whole}.{behind}"));
    let scaled = (sign(), digits(19), digits(9)).prop_map(|(sign, whole, behind)| format!("{sign}{whole}.{behind}"));
    let interval = (-1_000_000i32..1_000_000, any::<i32>(), -(1i64 << 60)..1i64 << 60)
        .prop_map(|(months, days, us)| format!("{months} months {days} days {us} microseconds"));
    // Years 4713 BC to 294246.
    let instant =
        (-210_866_803_200_000_000i64..9_223_371_331_200_000_000 - 946_684_800_000_000).prop_map(|us| us.to_string());
    let columns: Vec<BoxedStrategy<String>> = vec![
        any::<i64>().prop_map(|v| v.to_string()).boxed(),
        any::<u32>().prop_map(|bits| format!("{:e}", f32::from_bits(bits))).boxed(),
        any::<u64>().prop_map(|bits| format!("{:e}", f64::from_bits(bits))).boxed(),
        scaled.boxed(),
        numeric.boxed(),
        "[^\\x00]{0,20}".boxed(),
        proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|bytes| format!("\\x{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()))
            .boxed(),
        (-2_440_588i32..10_000_000).prop_map(|days| days.to_string()).boxed(),
        (0i64..=86_400_000_000).prop_map(|us| us.to_string()).boxed(),
        instant.clone().boxed(),
        instant.boxed(),
        interval.boxed(),
        any::<u128>().prop_map(|bits| format!("{bits:032x}")).boxed(),
        proptest::collection::vec(proptest::option::of("[ -~é\n]{0,6}"), 0..4)
            .prop_map(|items| serde_json::to_string(&items).unwrap())
            .boxed(),
    ];
    columns.into_iter().map(|column| proptest::option::weighted(0.9, column)).collect::<Vec<_>>()
}

/// How a literal of [`random_row`] becomes a value.
const RANDOM: [(&str, &str); 14] = [
    ("int8", "$::int8"),
    ("float4", "$::float4"),
    ("float8", "$::float8"),
    ("numeric(30,9)", "$::numeric(30,9)"),
    ("numeric", "$::numeric"),
    ("text", "$"),
    ("bytea", "$::bytea"),
    ("date", "'1970-01-01'::date + $::int4"),
    ("time", "'00:00'::time + ($ || ' microseconds')::interval"),
    ("timestamp", "'1970-01-01'::timestamp + ($ || ' microseconds')::interval"),
    ("timestamptz", "'1970-01-01'::timestamptz + ($ || ' microseconds')::interval"),
    ("interval", "$::interval"),
    ("uuid", "$::uuid"),
    ("jsonb", "$::jsonb"),
];

#[test]
fn random_values_are_dumped_as_the_server_writes_them() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let seed = std::env::var("FRESHBENCH_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}; again with FRESHBENCH_TEST_SEED={seed}");
    let config = Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seeded(seed)));
    let row = random_row();
    let columns: Vec<String> = RANDOM.iter().enumerate().map(|(n, (declared, _))| format!("c{n} {declared}")).collect();
    let mut sql = format!("SET timezone = 'UTC'; CREATE TABLE random (id int PRIMARY KEY, {});", columns.join(", "));
    for id in 0..1_500 {
        let values = row.new_tree(&mut runner).unwrap().current();
        let values: Vec<String> = values
            .iter()
            .zip(RANDOM)
            .map(|(value, (_, expression))| match value {
                Some(value) => expression.replace('$', &literal(value)),
                None => "NULL".to_owned(),
            })
            .collect();
        sql.push_str(&format!("INSERT INTO random VALUES ({id}, {});\n", values.join(", ")));
    }
    let folder = folder();
    let script = folder.path().join("random.sql");
    std::fs::write(&script, sql).unwrap();
    let mut psql = server.program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-d", "postgres", "-f"]).arg(&script);
    let ran = psql.output().unwrap();
    assert!(ran.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&ran.stderr));
    let warehouse = load(&server.url("postgres"), "random", folder.path(), &[]).unwrap();
    assert_same(&dumped(&warehouse, "random"), &copied(&server, "postgres", "SELECT * FROM public.random ORDER BY id"));
    let (binary, textual) = both_forms(&server, "postgres", "random");
    assert!(binary == textual, "seed {seed}: the two forms differ");
}

fn seeded(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}
