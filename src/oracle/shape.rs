//! The oracle's own reading of transform definitions: what a source row should look like in a derived system.

use super::civil::{day_of_text, microsecond_of_text, year_of_day};
use super::error::OracleError;
use super::number::Number;
use super::table::{ExpectedTable, key_text};
use crate::model::{Catalog, Column, ColumnType, TableId, TableSchema, Value, text};
use crate::workload::{ColumnSpec, Comparison, Derive, FilterSpec, FilterTest, Literal, TransformSpec};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

/// What the derived systems should hold for each table: the workload's transform definitions, read column by column
/// and row by row, as plainly as possible. Slow on purpose.
#[derive(Clone, Debug)]
pub struct Shape {
    specs: Vec<Option<TransformSpec>>,
}

impl Shape {
    /// Reads the definitions. A table without one keeps its rows as they are.
    pub fn new(catalog: &Catalog, specs: &[TransformSpec]) -> Shape {
        let find = |table: &TableSchema| specs.iter().find(|spec| spec.table == table.name).cloned();
        Shape { specs: catalog.tables.iter().map(find).collect() }
    }

    /// What a derived system should hold, given what the record system holds.
    ///
    /// # Errors
    /// [`OracleError::Transform`] for a row that has no such form, [`OracleError::NoKey`].
    pub fn apply(&self, id: TableId, source: &ExpectedTable) -> Result<ExpectedTable, OracleError> {
        let Some(Some(spec)) = self.specs.get(id.index()) else { return Ok(source.clone()) };
        let schema = &source.schema;
        let definition =
            |reason: String| OracleError::Transform { table: schema.name.clone(), key: String::new(), reason };
        let rules = rules(spec, schema);
        let place_of =
            |key: &usize| rules.iter().position(|rule| matches!(rule, Rule::Keep { place, .. } if place == key));
        let key: Option<Vec<usize>> = schema.key.iter().map(place_of).collect();
        let key = key.ok_or_else(|| definition("a key column is dropped".to_owned()))?;
        let columns = rules.iter().map(|rule| rule.column(schema)).collect();
        let name = spec.rename_table.as_ref().unwrap_or(&schema.name).clone();
        let mut table = ExpectedTable::new(&TableSchema { name, columns, key });
        for row in source.rows.values() {
            let wrong =
                |reason| OracleError::Transform { table: schema.name.clone(), key: key_text(schema, row), reason };
            if passes(spec.filter.as_ref(), schema, row).map_err(wrong)? {
                let row: Vec<Value> =
                    rules.iter().map(|rule| rule.value(schema, row)).collect::<Result<_, _>>().map_err(wrong)?;
                table.rows.insert(table.key_of(&row)?, row);
            }
        }
        Ok(table)
    }
}

/// How one column of the derived system comes about.
enum Rule<'a> {
    Keep { place: usize, name: &'a str, hash: bool, cast: Option<ColumnType>, scaled: bool },
    Derive { name: &'a str, from: &'a Derive },
}

/// The source's columns in order without the dropped ones, then the derived ones.
fn rules<'a>(spec: &'a TransformSpec, schema: &'a TableSchema) -> Vec<Rule<'a>> {
    let mut rules = Vec::new();
    for (place, source) in schema.columns.iter().enumerate() {
        let mut rule = Some(Rule::Keep { place, name: &source.name, hash: false, cast: None, scaled: false });
        for spec in &spec.columns {
            match spec {
                ColumnSpec::Keep { column, rename, hash, cast, scaled } if *column == source.name => {
                    let name = rename.as_deref().unwrap_or(column);
                    rule = Some(Rule::Keep { place, name, hash: hash.is_some(), cast: *cast, scaled: *scaled });
                }
                ColumnSpec::Drop { column } if *column == source.name => rule = None,
                _ => {}
            }
        }
        rules.extend(rule);
    }
    for spec in &spec.columns {
        if let ColumnSpec::Derive { name, from } = spec {
            rules.push(Rule::Derive { name, from });
        }
    }
    rules
}

impl Rule<'_> {
    fn column(&self, schema: &TableSchema) -> Column {
        let (name, column_type) = match self {
            Rule::Keep { place, name, hash, cast, .. } => {
                let source = schema.columns.get(*place).map_or(ColumnType::Text, |c| c.column_type);
                (name, cast.unwrap_or(if *hash { ColumnType::Text } else { source }))
            }
            Rule::Derive { name, from } => {
                let column_type = match from {
                    Derive::YearOf(_) | Derive::Length(_) | Derive::Product(_) => ColumnType::Int64,
                    Derive::Constant(Literal::Int(_)) => ColumnType::Int64,
                    Derive::Constant(Literal::Bool(_)) => ColumnType::Bool,
                    Derive::Constant(Literal::Float(_)) => ColumnType::Float64,
                    Derive::Constant(Literal::Text(_)) => ColumnType::Text,
                };
                (name, column_type)
            }
        };
        Column { name: (*name).to_owned(), column_type, nullable: true }
    }

    fn value(&self, schema: &TableSchema, row: &[Value]) -> Result<Value, String> {
        match self {
            Rule::Keep { place, hash, cast, scaled, .. } => {
                let value = row.get(*place).ok_or("the row is too short")?;
                if *value == Value::Null {
                    return Ok(Value::Null);
                }
                let value = if *hash { hashed(value)? } else { value.clone() };
                match cast {
                    None => Ok(value),
                    Some(to) => cast_value(&value, *to, *scaled)
                        .ok_or_else(|| format!("{} has no {to} form", text::describe(&value))),
                }
            }
            Rule::Derive { from, .. } => derived(from, schema, row),
        }
    }
}

fn named<'a>(schema: &TableSchema, row: &'a [Value], column: &str) -> Result<&'a Value, String> {
    let place = schema.columns.iter().position(|c| c.name == column);
    place.and_then(|place| row.get(place)).ok_or_else(|| format!("there is no column {column:?}"))
}

fn hashed(value: &Value) -> Result<Value, String> {
    let digest = match value {
        Value::Text(v) => Sha256::digest(v.as_bytes()),
        Value::Bytes(v) => Sha256::digest(v),
        other => return Err(format!("{} can't be hashed", text::describe(other))),
    };
    Ok(Value::text(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

fn derived(from: &Derive, schema: &TableSchema, row: &[Value]) -> Result<Value, String> {
    let refuse = |value: &Value| Err(format!("nothing can be derived from {}", text::describe(value)));
    match from {
        Derive::Constant(Literal::Bool(v)) => Ok(Value::Bool(*v)),
        Derive::Constant(Literal::Int(v)) => Ok(Value::Int(*v)),
        Derive::Constant(Literal::Float(v)) => Ok(Value::Float(*v)),
        Derive::Constant(Literal::Text(v)) => Ok(Value::text(v.as_str())),
        Derive::Length(column) => match named(schema, row, column)? {
            Value::Null => Ok(Value::Null),
            Value::Text(v) => Ok(Value::Int(v.chars().map(|_| 1).sum())),
            Value::Bytes(v) => Ok(Value::Int(v.iter().map(|_| 1).sum())),
            other => refuse(other),
        },
        Derive::YearOf(column) => {
            let day = match named(schema, row, column)? {
                Value::Null => return Ok(Value::Null),
                Value::Date(v) if ![i32::MAX, i32::MIN].contains(v) => i64::from(*v),
                Value::Timestamp(v) | Value::LocalTimestamp(v) if ![i64::MAX, i64::MIN].contains(v) => whole_days(*v),
                other => return refuse(other),
            };
            let year = year_of_day(day);
            Ok(Value::Int(if year < 1 { year - 1 } else { year }))
        }
        Derive::Product([a, b]) => match (named(schema, row, a)?, named(schema, row, b)?) {
            (Value::Null, _) | (_, Value::Null) => Ok(Value::Null),
            (Value::Int(a), Value::Int(b)) => i64::try_from(i128::from(*a) * i128::from(*b))
                .map(Value::Int)
                .map_err(|_| "a product overflows".to_owned()),
            (other, _) => refuse(other),
        },
    }
}

fn whole_days(us: i64) -> i64 {
    let day = 24 * 3600 * 1_000_000;
    if us < 0 && us % day != 0 { us / day - 1 } else { us / day }
}

fn cast_value(value: &Value, to: ColumnType, scaled: bool) -> Option<Value> {
    let number = || match value {
        Value::Int(v) => Number::parse(&v.to_string()),
        Value::Bool(v) => Number::parse(if *v { "1" } else { "0" }),
        Value::Decimal(v) => Number::of_decimal(**v),
        // The standard library writes floats without an exponent, with digits that may be more than are exact but
        // are exact for whole numbers.
        Value::Float(v) if v.is_finite() && *v == v.trunc() => Number::parse(&format!("{v:.0}")),
        _ => None,
    };
    match (to, value) {
        (ColumnType::Text, Value::Text(_)) | (ColumnType::Int64, Value::Int(_)) => Some(value.clone()),
        (ColumnType::Float64, Value::Float(_)) | (ColumnType::Bool, Value::Bool(_)) => Some(value.clone()),
        (ColumnType::Date, Value::Date(_)) | (ColumnType::Timestamp, Value::Timestamp(_)) => Some(value.clone()),
        (ColumnType::Bytes, Value::Bytes(_)) | (ColumnType::Float32, Value::Float32(_)) => Some(value.clone()),
        (ColumnType::LocalTimestamp, Value::LocalTimestamp(_)) => Some(value.clone()),
        (ColumnType::Text, Value::Bool(v)) => Some(Value::text(v.to_string())),
        (ColumnType::Text, other) => Some(Value::text(text::describe(other))),
        (ColumnType::Bytes, Value::Text(v)) => Some(Value::Bytes(v.bytes().collect())),
        (ColumnType::Int64, Value::Text(v)) => v.trim().parse().ok().map(Value::Int),
        (ColumnType::Float64, Value::Text(v)) => v.trim().parse().ok().map(Value::Float),
        (ColumnType::Decimal { precision, scale }, Value::Int(v)) if scaled => {
            let digits = Number::of_decimal(crate::model::Decimal { unscaled: i128::from(*v), scale })?;
            digits.to_decimal(precision, scale)
        }
        (ColumnType::Decimal { precision, scale }, Value::Int(_) | Value::Decimal(_)) => {
            number()?.to_decimal(precision, scale)
        }
        (ColumnType::Int64, Value::Bool(_) | Value::Decimal(_) | Value::Float(_)) => number()?.to_int().map(Value::Int),
        (ColumnType::Float64, Value::Int(_) | Value::Decimal(_)) => {
            number()?.to_string().parse().ok().map(Value::Float)
        }
        (ColumnType::Bool, Value::Int(0)) => Some(Value::Bool(false)),
        (ColumnType::Bool, Value::Int(1)) => Some(Value::Bool(true)),
        (ColumnType::Timestamp, Value::Date(v)) => match *v {
            i32::MAX => Some(Value::Timestamp(i64::MAX)),
            i32::MIN => Some(Value::Timestamp(i64::MIN)),
            v => i64::try_from(i128::from(v) * 86_400_000_000).ok().map(Value::Timestamp),
        },
        (ColumnType::Date, Value::Timestamp(v)) => match *v {
            i64::MAX => Some(Value::Date(i32::MAX)),
            i64::MIN => Some(Value::Date(i32::MIN)),
            v => i32::try_from(whole_days(v)).ok().map(Value::Date),
        },
        _ => None,
    }
}

fn passes(filter: Option<&FilterSpec>, schema: &TableSchema, row: &[Value]) -> Result<bool, String> {
    let Some(filter) = filter else { return Ok(true) };
    let value = named(schema, row, &filter.column)?;
    match &filter.test {
        FilterTest::IsNull => Ok(*value == Value::Null),
        FilterTest::IsNotNull => Ok(*value != Value::Null),
        FilterTest::Compare(..) if *value == Value::Null => Ok(false),
        FilterTest::Compare(comparison, literal) => {
            let order = order(value, literal)
                .ok_or_else(|| format!("{} can't be compared with {literal:?}", text::describe(value)))?;
            Ok(match comparison {
                Comparison::Equal => order == Ordering::Equal,
                Comparison::NotEqual => order != Ordering::Equal,
                Comparison::Less => order == Ordering::Less,
                Comparison::LessOrEqual => order != Ordering::Greater,
                Comparison::Greater => order == Ordering::Greater,
                Comparison::GreaterOrEqual => order != Ordering::Less,
            })
        }
    }
}

/// SQL's order of a value and a literal.
fn order(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Bool(a), Literal::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Literal::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Literal::Float(b)) => Some(float_order(*a, *b)),
        (Value::Float(a), Literal::Int(b)) => Some(float_order(*a, *b as f64)),
        (Value::Float32(a), Literal::Float(b)) => Some(float_order(f64::from(*a), *b)),
        (Value::Float32(a), Literal::Int(b)) => Some(float_order(f64::from(*a), *b as f64)),
        (Value::Decimal(a), Literal::Int(b)) => Some(Number::of_decimal(**a)?.compare(&Number::parse(&b.to_string())?)),
        (Value::Decimal(a), Literal::Float(b)) => {
            Some(Number::of_decimal(**a)?.compare(&Number::parse(&b.to_string())?))
        }
        (Value::Text(a), Literal::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Date(a), Literal::Text(b)) => Some(i64::from(*a).cmp(&day_of_text(b)?)),
        (Value::Timestamp(a) | Value::LocalTimestamp(a), Literal::Text(b)) => Some(a.cmp(&microsecond_of_text(b)?)),
        _ => None,
    }
}

/// NaN equals NaN and is above every other number, as in PostgreSQL.
fn float_order(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if a < b => Ordering::Less,
        (false, false) if a > b => Ordering::Greater,
        (false, false) => Ordering::Equal,
    }
}
