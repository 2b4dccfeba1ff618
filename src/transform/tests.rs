//! Definitions against hand-computed rows, and against the messages they give.

use super::*;
use crate::model::row::encode_row;
use crate::model::{Catalog, Column, ColumnType, Decimal, RowRef, TableId, TableSchema, Value, ValueRef};
use crate::workload::TransformSpec;
use ValueRef::{Int, Null, Text};
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use proptest::prelude::*;

fn customers() -> TableSchema {
    let columns = vec![
        Column::required("id", ColumnType::Int64),
        Column::required("email", ColumnType::Text),
        Column::nullable("name", ColumnType::Text),
        Column::required("credit_cents", ColumnType::Int64),
        Column::required("created_at", ColumnType::Timestamp),
        Column::nullable("internal", ColumnType::Bytes),
    ];
    TableSchema::new("customers", columns, vec![0]).unwrap()
}

fn compile(text: &str) -> Result<TransformSet, TransformError> {
    let spec: TransformSpec = toml::from_str(&format!("table = 'customers'\n{text}")).unwrap();
    TransformSet::compile(&Catalog { tables: vec![customers()] }, &[spec])
}

fn one(text: &str) -> TableTransform {
    compile(text).unwrap().table(TableId(0)).unwrap().clone()
}

fn row(id: i64, name: ValueRef<'static>, cents: i64) -> [ValueRef<'static>; 6] {
    [Int(id), Text("abc"), name, Int(cents), ValueRef::Timestamp(1_735_689_600_000_000), ValueRef::Bytes(b"\x00")]
}

fn ints(batch: &RecordBatch, column: &str) -> Vec<Option<i64>> {
    batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn every_operation_gives_the_hand_computed_row() {
    let transform = one(r#"
        rename_table = "customer"
        filter = { column = "name", op = "is not null" }
        columns = [
            { column = "email", hash = "sha256" },
            { column = "name", as = "full_name" },
            { column = "credit_cents", as = "credit", type = "decimal(12,2)", scaled = true },
            { column = "internal", drop = true },
            { as = "signup_year", derive = { year_of = "created_at" } },
            { as = "letters", derive = { length = "name" } },
            { as = "square", derive = { product = ["credit_cents", "id"] } },
            { as = "region", derive = { constant = "eu" } },
        ]"#);
    let names: Vec<_> = transform.output().columns.iter().map(|c| c.name.as_str()).collect();
    let wanted = ["id", "email", "full_name", "credit", "created_at", "signup_year", "letters", "square", "region"];
    assert_eq!((transform.output().name.as_str(), names.as_slice()), ("customer", wanted.as_slice()));
    assert_eq!(transform.output().key, [0]);

    let mut builders = transform.builders(8);
    assert_eq!(builders.push(&row(3, Text("Zoë"), -1999)), Ok(Kept::Yes));
    assert_eq!(builders.push(&row(4, Null, 5)), Ok(Kept::FilteredOut));
    assert_eq!(builders.len(), 1);
    let batch = builders.finish().unwrap();
    assert_eq!((batch.num_rows(), batch.schema()), (1, transform.arrow_schema()));
    let email = batch.column(1).as_string::<i32>();
    assert_eq!(email.value(0), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(batch.column(3).as_primitive::<Decimal128Type>().value_as_string(0), "-19.99");
    assert_eq!(ints(&batch, "signup_year"), [Some(2025)]);
    assert_eq!(ints(&batch, "letters"), [Some(3)]);
    assert_eq!(ints(&batch, "square"), [Some(-5997)]);
    assert_eq!(batch.column(8).as_string::<i32>().value(0), "eu");
    assert_eq!(builders.finish().unwrap().num_rows(), 0, "the builders start again");
}

#[test]
fn identity_keeps_every_type_and_null() {
    let types = [
        ColumnType::Int64,
        ColumnType::Bool,
        ColumnType::Float64,
        ColumnType::Decimal { precision: 5, scale: 2 },
        ColumnType::Text,
        ColumnType::Bytes,
        ColumnType::Date,
        ColumnType::Timestamp,
    ];
    let mut columns: Vec<_> = types.iter().enumerate().map(|(n, t)| Column::nullable(&format!("c{n}"), *t)).collect();
    columns[0].nullable = false;
    let transform = TableTransform::identity(TableId(0), &TableSchema::new("t", columns, vec![0]).unwrap());
    assert!(transform.is_identity());
    let full = [
        Int(1),
        ValueRef::Bool(true),
        ValueRef::Float(-0.0),
        ValueRef::Decimal(Decimal { unscaled: 99_999, scale: 2 }),
        Text(""),
        ValueRef::Bytes(b""),
        ValueRef::Date(i32::MAX),
        ValueRef::Timestamp(i64::MIN),
    ];
    let mut nulls = [Null; 8];
    nulls[0] = Int(2);
    let mut builders = transform.builders(2);
    builders.push(&full).unwrap();
    builders.push(&nulls).unwrap();
    let batch = builders.finish().unwrap();
    for (place, column) in batch.columns().iter().enumerate() {
        assert_eq!(*column.data_type(), arrow_type(types[place]));
        assert!(column.is_valid(0) && (place == 0 || column.is_null(1)), "column {place}");
    }
    for (place, wrong) in [(3, Decimal { unscaled: 1, scale: 1 }), (3, Decimal { unscaled: 100_000, scale: 2 })] {
        let mut row = full;
        row[place] = ValueRef::Decimal(wrong);
        assert!(transform.builders(1).push(&row).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_bad_value_names_table_column_and_key_and_poisons_the_batch() {
    let mut builders = one("").builders(4);
    builders.push(&row(1, Null, 1)).unwrap();
    let mut bad = row(42, Null, 1);
    bad[1] = ValueRef::Float(1.5);
    let error = builders.push(&bad).unwrap_err().to_string();
    assert!(["\"customers\"", "(42)", "\"email\"", "float"].iter().all(|part| error.contains(part)), "{error}");
    assert!(matches!(builders.finish(), Err(TransformError::Poisoned { .. })));
    assert!(matches!(one("").builders(1).push(&[Int(1)]), Err(TransformError::RowWidth { found: 1, wanted: 6, .. })));
    let mut bad = row(43, Null, 1);
    bad[1] = Null;
    assert!(matches!(one("").builders(1).push(&bad), Err(TransformError::Row { fault: ValueFault::Null, .. })));
    let product = one("columns = [{ as = 'p', derive = { product = ['id', 'credit_cents'] } }]");
    let error = product.builders(1).push(&row(i64::MAX, Null, 2)).unwrap_err().to_string();
    assert!(error.contains("overflows") && error.contains("\"p\""), "{error}");
}

#[test]
fn definitions_are_checked_with_a_remedy() {
    for (text, part) in [
        ("columns = [{ column = 'emial', hash = 'sha256' }]", "did you mean \"email\"?"),
        ("columns = [{ column = 'zzzzzzzz', drop = true }]", "there are id, email"),
        ("filter = { column = 'nam', op = 'is null' }", "filter: there is no column \"nam\"; did you mean \"name\"?"),
        ("filter = { column = 'credit_cents', op = '<', value = 'x' }", "takes a whole number"),
        ("filter = { column = 'created_at', op = '<', value = '2025-02-30T00:00:00Z' }", "takes a UTC timestamp"),
        ("filter = { column = 'internal', op = '<', value = 1 }", "no comparison"),
        ("columns = [{ column = 'id', drop = true }]", "primary key"),
        ("columns = [{ column = 'id', type = 'text' }]", "primary key"),
        ("columns = [{ column = 'credit_cents', hash = 'sha256' }]", "only text and bytes"),
        ("columns = [{ column = 'created_at', type = 'bool' }]", "no cast from timestamp to bool"),
        ("columns = [{ column = 'email', type = 'decimal(5,2)', scaled = true }]", "no scaled cast from text"),
        ("columns = [{ column = 'email', as = 'name' }]", "names column \"name\" twice"),
        ("columns = [{ column = 'email' }, { column = 'email', drop = true }]", "named twice"),
        ("columns = [{ as = 'y', derive = { year_of = 'name' } }]", "not date or timestamp"),
    ] {
        let error = compile(text).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("\"customers\""), "{text}: {error}");
    }
    let spec: TransformSpec = toml::from_str("table = 'custmers'").unwrap();
    let catalog = Catalog { tables: vec![customers()] };
    let error = TransformSet::compile(&catalog, std::slice::from_ref(&spec)).unwrap_err().to_string();
    assert!(error.contains("did you mean \"customers\""), "{error}");
}

/// (type from, literal value, type to, text of the result or a part of the error)
#[test]
fn casts_are_exact_or_an_error() {
    use ColumnType::{Bool, Bytes, Date, Float64, Int64, Timestamp};
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let d = |unscaled, scale| ValueRef::Decimal(Decimal { unscaled, scale });
    let cases = [
        (Int64, Int(1999), decimal(12, 2), Ok("1999.00")),
        (Int64, Int(1999), decimal(5, 2), Err("1999")),
        (Int64, Int(2), Bool, Err("no exact bool")),
        (Int64, Int(1), Bool, Ok("t")),
        (Int64, Int(-7), Float64, Ok("-7")),
        (Bool, ValueRef::Bool(true), ColumnType::Text, Ok("true")),
        (Float64, ValueRef::Float(1.5), Int64, Err("1.5")),
        (Float64, ValueRef::Float(-3.0), Int64, Ok("-3")),
        (Float64, ValueRef::Float(9.3e18), Int64, Err("9.3e+18")),
        (Float64, ValueRef::Float(f64::NAN), Int64, Err("NaN")),
        (decimal(5, 2), d(150, 2), decimal(5, 1), Ok("1.5")),
        (decimal(5, 2), d(155, 2), decimal(5, 1), Err("1.55")),
        (decimal(5, 2), d(-300, 2), Int64, Ok("-3")),
        (decimal(5, 2), d(10, 2), Float64, Ok("0.1")),
        (Date, ValueRef::Date(-1), Timestamp, Ok("1969-12-31 00:00:00+00")),
        (Date, ValueRef::Date(i32::MAX), Timestamp, Ok("infinity")),
        (Timestamp, ValueRef::Timestamp(-1), Date, Ok("1969-12-31")),
        (ColumnType::Text, Text(" 12 "), Int64, Ok("12")),
        (ColumnType::Text, Text("twelve"), Int64, Err("twelve")),
        (ColumnType::Text, Text("é"), Bytes, Ok("\\xc3a9")),
        (Bytes, ValueRef::Bytes(b"\xc3"), ColumnType::Text, Ok("\\xc3")),
    ];
    for (from, value, to, wanted) in cases {
        assert!(super::cast::has_cast(from, super::cast::Cast { to, scaled: false }), "{from} to {to}");
        let mut scratch = String::new();
        match (super::cast::cast(value, super::cast::Cast { to, scaled: false }, &mut scratch), wanted) {
            (Ok(got), Ok(wanted)) => assert_eq!(crate::model::text::Text(got).to_string(), wanted, "{value:?}"),
            (Err(got), Err(part)) => assert!(got.to_string().contains(part), "{value:?} to {to}: {got}"),
            (got, wanted) => panic!("{value:?} to {to}: {got:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn filters_compare_as_sql_does() {
    let passes = |op: &str, literal: &str, cents: i64| {
        let text = format!("filter = {{ column = 'credit_cents', op = '{op}', value = {literal} }}");
        one(&text).builders(1).push(&row(1, Null, cents)).unwrap() == Kept::Yes
    };
    assert!(passes("=", "5", 5) && !passes("!=", "5", 5) && passes("<=", "5", 5) && !passes("<", "5", 5));
    assert!(passes(">", "-1", 0) && passes(">=", "0", 0));
    let at = |text: &str| {
        let text = format!("filter = {{ column = 'created_at', op = '=', value = '{text}' }}");
        one(&text).builders(1).push(&row(1, Null, 1)).unwrap()
    };
    assert_eq!(at("2025-01-01T00:00:00Z"), Kept::Yes);
    assert_eq!(at("2025-01-01T00:00:00.000001+00:00"), Kept::FilteredOut);
    let null = one("filter = { column = 'name', op = '!=', value = 'x' }");
    assert_eq!(null.builders(1).push(&row(1, Null, 1)), Ok(Kept::FilteredOut), "NULL is not unequal to anything");
}

/// A column of each type, every other one nullable.
fn every_type() -> TableSchema {
    let types = [
        ColumnType::Int64,
        ColumnType::Bool,
        ColumnType::Float64,
        ColumnType::Float32,
        ColumnType::Decimal { precision: 4, scale: 2 },
        ColumnType::Text,
        ColumnType::Bytes,
        ColumnType::Date,
        ColumnType::Timestamp,
        ColumnType::LocalTimestamp,
    ];
    let column = |(place, column_type)| Column {
        nullable: place % 2 == 1,
        ..Column::required(&format!("c{place}"), column_type)
    };
    TableSchema::new("t", types.into_iter().enumerate().map(column).collect(), vec![0]).unwrap()
}

/// A value of the type that the column at `place` of [`every_type`] has, if `place` has a column; else one of none.
fn value_of(place: usize, drawn: i64) -> Value {
    match place {
        0 => Value::Int(drawn),
        1 => Value::Bool(drawn % 2 == 0),
        2 => Value::Float(f64::from_bits(drawn as u64)),
        3 => Value::Float32(f32::from_bits(drawn as u32)),
        // Of five digits or of another scale at times: both are refused.
        4 => Value::Decimal(Box::new(Decimal {
            unscaled: i128::from(drawn % 10_050),
            scale: 2 - i8::from(drawn % 37 == 0),
        })),
        5 => Value::text(format!("{drawn}é")),
        6 => Value::Bytes(drawn.to_le_bytes()[..(drawn & 7) as usize].into()),
        7 => Value::Date(drawn as i32),
        8 => Value::Timestamp(drawn),
        9 => Value::LocalTimestamp(drawn),
        _ => Value::Null,
    }
}

proptest! {
    /// Which is put together from its values, the long way.
    #[test]
    fn an_encoded_row_becomes_what_its_values_do(
        rows in prop::collection::vec(
            // One value in a hundred or so is of some other type, or NULL; one row in a few hundred is too short or too long.
            (prop::collection::vec((any::<i64>(), prop::option::weighted(0.01, 0..11usize)), 10..=10), prop_oneof![300 => Just(10), 1 => 0..13usize]),
            0..30,
        ),
    ) {
        let set = TransformSet::identity(&Catalog { tables: vec![every_type()] });
        let transform = set.table(TableId(0)).unwrap();
        let (mut by_value, mut encoded) = (transform.builders(4), transform.builders(4));
        let mut failed = false;
        for (drawn, width) in rows {
            let mut row: Vec<Value> =
                drawn.iter().enumerate().map(|(place, &(drawn, other))| value_of(other.unwrap_or(place), drawn)).collect();
            row.resize(width, Value::Null);
            let mut bytes = Vec::new();
            encode_row(&mut bytes, row.iter().map(Value::as_ref)).unwrap();
            let refs: Vec<ValueRef<'_>> = row.iter().map(Value::as_ref).collect();
            let said = |pushed: Result<Kept, TransformError>| pushed.map_err(|error| error.to_string());
            let (wanted, found) = (said(by_value.push(&refs)), said(encoded.push_encoded(RowRef::new(&bytes)).unwrap()));
            prop_assert_eq!(&found, &wanted);
            failed = wanted.is_err();
            if failed {
                break;
            }
        }
        prop_assert_eq!(encoded.len(), by_value.len());
        match (encoded.finish(), by_value.finish()) {
            (Ok(found), Ok(wanted)) => prop_assert!(!failed && found == wanted),
            (found, wanted) => prop_assert!(failed && found.is_err() && wanted.is_err()),
        }
    }
}
