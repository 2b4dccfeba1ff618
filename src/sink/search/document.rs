//! Rows as documents, and back.

use super::SearchError;
use super::shape::{Fields, TableShape};
use crate::model::row::{RowRef, encode_row};
use crate::model::{ColumnType, Decimal, Key, KeyRef, TableId, Value, ValueRef};
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::DataType;
use smallvec::SmallVec;
use std::path::Path;
use tantivy::schema::Value as _;
use tantivy::{TantivyDocument, Term};

/// The longest encoded key that becomes a term; tantivy's own limit is a little more.
pub(super) const KEY_BYTES_MAX: usize = 65_000;

const INT: u8 = 0;
const ENCODED: u8 = 1;

/// The term of a table: its number, big-endian.
pub(super) fn table_term(fields: Fields, table: TableId) -> Term {
    Term::from_field_bytes(fields.terms, &table.0.to_be_bytes())
}

/// The bytes of a key's term: the table's number, the key's kind, and the key so that bytes are in key order.
pub(super) fn key_bytes(table: TableId, key: KeyRef<'_>) -> SmallVec<[u8; 64]> {
    let mut bytes = SmallVec::from_slice(&table.0.to_be_bytes());
    match key {
        KeyRef::Int(key) => {
            bytes.push(INT);
            bytes.extend_from_slice(&((key as u64) ^ (1 << 63)).to_be_bytes());
        }
        KeyRef::Encoded(key) => {
            bytes.push(ENCODED);
            bytes.extend_from_slice(key);
        }
    }
    bytes
}

/// The table and key of a term of [`key_bytes`]; `None` for a table's term.
pub(super) fn key_of_term(term: &[u8]) -> Option<(TableId, Key)> {
    let (table, rest) = term.split_first_chunk::<4>()?;
    let table = TableId(u32::from_be_bytes(*table));
    match rest.split_first()? {
        (&INT, key) => {
            let key = u64::from_be_bytes(key.try_into().ok()?) ^ (1 << 63);
            Some((table, Key::Int(key as i64)))
        }
        (&ENCODED, key) => Some((table, Key::Encoded(key.into()))),
        _ => None,
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Option<T::Native> {
    array.as_any().downcast_ref::<PrimitiveArray<T>>()?.values().get(row).copied()
}

/// The value in `row` of `array`, borrowed; NULL for a row that is not there.
fn value_ref(array: &dyn Array, row: usize) -> ValueRef<'_> {
    if row >= array.len() || array.is_null(row) {
        return ValueRef::Null;
    }
    let any = array.as_any();
    let value = match array.data_type() {
        DataType::Utf8 => any.downcast_ref::<StringArray>().map(|column| ValueRef::Text(column.value(row))),
        DataType::Int64 => primitive::<Int64Type>(array, row).map(ValueRef::Int),
        DataType::Boolean => any.downcast_ref::<BooleanArray>().map(|column| ValueRef::Bool(column.value(row))),
        DataType::Float64 => primitive::<Float64Type>(array, row).map(ValueRef::Float),
        DataType::Float32 => primitive::<Float32Type>(array, row).map(ValueRef::Float32),
        DataType::Decimal128(_, scale) => primitive::<Decimal128Type>(array, row)
            .map(|unscaled| ValueRef::Decimal(Decimal { unscaled, scale: *scale })),
        DataType::Binary => any.downcast_ref::<BinaryArray>().map(|column| ValueRef::Bytes(column.value(row))),
        DataType::Date32 => primitive::<Date32Type>(array, row).map(ValueRef::Date),
        DataType::Timestamp(_, None) => primitive::<TimestampMicrosecondType>(array, row).map(ValueRef::LocalTimestamp),
        DataType::Timestamp(_, _) => primitive::<TimestampMicrosecondType>(array, row).map(ValueRef::Timestamp),
        _ => None,
    };
    value.unwrap_or(ValueRef::Null)
}

fn fits(column_type: ColumnType, data_type: &DataType) -> bool {
    match column_type {
        ColumnType::Bool => *data_type == DataType::Boolean,
        ColumnType::Int64 => *data_type == DataType::Int64,
        ColumnType::Float64 => *data_type == DataType::Float64,
        ColumnType::Float32 => *data_type == DataType::Float32,
        ColumnType::Decimal { precision, scale } => *data_type == DataType::Decimal128(precision, scale),
        ColumnType::Text => *data_type == DataType::Utf8,
        ColumnType::Bytes => *data_type == DataType::Binary,
        ColumnType::Date => *data_type == DataType::Date32,
        ColumnType::LocalTimestamp => *data_type == DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None),
        ColumnType::Timestamp => {
            matches!(data_type, DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some(_)))
        }
    }
}

/// The rows of a batch as documents of a table.
pub(super) struct Rows<'a> {
    table: &'a TableShape,
    fields: Fields,
    columns: Vec<&'a dyn Array>,
    /// How many rows.
    pub(super) len: usize,
    scratch: Vec<u8>,
}

impl<'a> Rows<'a> {
    /// # Errors
    /// When a kept column is missing or of another type, or a key column holds NULL.
    pub(super) fn new(table: &'a TableShape, fields: Fields, batch: &'a RecordBatch) -> Result<Rows<'a>, SearchError> {
        let wrong = |what: String| SearchError::mismatch(table.name(), what);
        if batch.num_columns() != table.schema.columns.len() {
            let (found, wanted) = (batch.num_columns(), table.schema.columns.len());
            return Err(wrong(format!("a batch of {found} columns does not fit the table's {wanted}")));
        }
        let mut columns: Vec<&dyn Array> = Vec::with_capacity(table.kept.len());
        for &place in &table.kept {
            let (Some(array), Some(column)) = (batch.columns().get(place), table.schema.columns.get(place)) else {
                return Err(wrong(format!("a batch has no column number {place}")));
            };
            if !fits(column.column_type, array.data_type()) {
                let (name, wanted, found) = (&column.name, column.column_type, array.data_type());
                return Err(wrong(format!("column {name:?} has type {wanted}, and a batch brings {found}")));
            }
            if !column.nullable && array.null_count() > 0 {
                return Err(wrong(format!("column {:?} holds no NULL, and a batch brings one", column.name)));
            }
            columns.push(array.as_ref());
        }
        Ok(Rows { table, fields, columns, len: batch.num_rows(), scratch: Vec::new() })
    }

    /// The key of a row.
    pub(super) fn key(&self, row: usize) -> Result<Key, SearchError> {
        let values: SmallVec<[ValueRef<'_>; 4]> =
            self.table.key.iter().filter_map(|&at| self.columns.get(at)).map(|array| value_ref(*array, row)).collect();
        Key::from_values(&values).map_err(|error| SearchError::mismatch(self.table.name(), error.to_string()))
    }

    /// The kept values of a row.
    pub(super) fn values(&self, row: usize) -> Vec<Value> {
        self.columns.iter().map(|array| value_ref(*array, row).to_value().unwrap_or(Value::Null)).collect()
    }

    /// A row as a document under the term `key`.
    pub(super) fn document(&mut self, row: usize, key: &[u8]) -> Result<TantivyDocument, SearchError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let values = self.columns.iter().map(|array| value_ref(*array, row));
        let document = document(self.table, self.fields, key, values, &mut scratch);
        self.scratch = scratch;
        document
    }
}

fn document<'a>(
    table: &TableShape,
    fields: Fields,
    key: &[u8],
    values: impl Iterator<Item = ValueRef<'a>> + Clone,
    scratch: &mut Vec<u8>,
) -> Result<TantivyDocument, SearchError> {
    scratch.clear();
    scratch.extend_from_slice(&table.id.0.to_be_bytes());
    encode_row(scratch, values.clone()).map_err(|error| SearchError::mismatch(table.name(), error.to_string()))?;
    let mut document = TantivyDocument::with_capacity(scratch.len() * 2 + key.len() + 16);
    document.add_bytes(fields.terms, &table.id.0.to_be_bytes());
    document.add_bytes(fields.terms, key);
    for (at, value) in values.enumerate() {
        if let ValueRef::Text(text) = value
            && table.words.contains(&at)
        {
            document.add_text(fields.words, text);
        }
    }
    document.add_bytes(fields.row, scratch);
    Ok(document)
}

/// A stored row as a document again, for another generation.
pub(super) fn document_of_row(
    table: &TableShape,
    fields: Fields,
    values: &[Value],
) -> Result<(Key, TantivyDocument), SearchError> {
    let key = key_of_row(table, values)?;
    let bytes = key_bytes(table.id, key.as_ref());
    let document = document(table, fields, &bytes, values.iter().map(Value::as_ref), &mut Vec::new())?;
    Ok((key, document))
}

/// The key of a row of kept values.
pub(super) fn key_of_row(table: &TableShape, values: &[Value]) -> Result<Key, SearchError> {
    let key: SmallVec<[ValueRef<'_>; 4]> =
        table.key.iter().filter_map(|&at| values.get(at)).map(Value::as_ref).collect();
    Key::from_values(&key).map_err(|error| SearchError::mismatch(table.name(), error.to_string()))
}

/// The table and the kept values of a stored document.
pub(super) fn stored_row(
    document: &TantivyDocument,
    fields: Fields,
    dir: &Path,
) -> Result<(TableId, Vec<Value>), SearchError> {
    let corrupt = |what: &str| SearchError::corrupt(dir, what);
    let bytes = document.get_first(fields.row).and_then(|value| value.as_bytes());
    let (table, row) = bytes
        .and_then(|bytes| bytes.split_first_chunk::<4>())
        .ok_or_else(|| corrupt("a document has no stored row"))?;
    let values = RowRef::new(row).values().map_err(|error| corrupt(&error.to_string()))?;
    let values: Option<Vec<Value>> = values.iter().map(|value| value.to_value()).collect();
    let values = values.ok_or_else(|| corrupt("a stored row has a value that was not sent"))?;
    Ok((TableId(u32::from_be_bytes(*table)), values))
}
