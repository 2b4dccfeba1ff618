//! Rows of an Arrow batch become encoded rows; encoded rows become values.

use super::CacheError;
use crate::model::row::encode_row;
use crate::model::{ColumnType, Decimal, Key, KeyColumn, KeyRef, RowRef, TableSchema, Value, ValueRef};
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;
use std::ops::Range;

/// The most columns an encoded row can have.
const COLUMNS_MAX: usize = u16::MAX as usize;

/// Encoded rows, one behind another.
#[derive(Debug, Default)]
pub(super) struct EncodedRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl EncodedRows {
    /// The rows in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, &end)| self.bytes.get(start..end))
    }
}

/// One column of a batch with its type found once, and its NULLs.
struct ColumnView<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Bool(&'a BooleanArray),
    Int(&'a [i64]),
    Float(&'a [f64]),
    Float32(&'a [f32]),
    Decimal(&'a [i128], i8),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Timestamp(&'a [i64]),
    LocalTimestamp(&'a [i64]),
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<&[T::Native]> {
    Some(array.as_any().downcast_ref::<PrimitiveArray<T>>()?.values())
}

impl<'a> ColumnView<'a> {
    /// `None` when the array is not of the column's type.
    fn of(array: &'a ArrayRef, column_type: ColumnType) -> Option<ColumnView<'a>> {
        let any = array.as_any();
        let values = match (column_type, array.data_type()) {
            (ColumnType::Bool, _) => Values::Bool(any.downcast_ref()?),
            (ColumnType::Int64, _) => Values::Int(primitive::<Int64Type>(array)?),
            (ColumnType::Float64, _) => Values::Float(primitive::<Float64Type>(array)?),
            (ColumnType::Float32, _) => Values::Float32(primitive::<Float32Type>(array)?),
            (ColumnType::Decimal { scale, .. }, DataType::Decimal128(_, found)) if *found == scale => {
                Values::Decimal(primitive::<Decimal128Type>(array)?, scale)
            }
            (ColumnType::Decimal { .. }, _) => return None,
            (ColumnType::Text, _) => Values::Text(any.downcast_ref()?),
            (ColumnType::Bytes, _) => Values::Bytes(any.downcast_ref()?),
            (ColumnType::Date, _) => Values::Date(primitive::<Date32Type>(array)?),
            (ColumnType::Timestamp, _) => Values::Timestamp(primitive::<TimestampMicrosecondType>(array)?),
            (ColumnType::LocalTimestamp, DataType::Timestamp(_, None)) => {
                Values::LocalTimestamp(primitive::<TimestampMicrosecondType>(array)?)
            }
            (ColumnType::LocalTimestamp, _) => return None,
        };
        Some(ColumnView { nulls: array.nulls(), values })
    }

    /// The value in `row`, which is below the batch's number of rows.
    #[inline]
    fn value(&self, row: usize) -> ValueRef<'a> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return ValueRef::Null;
        }
        let value = match &self.values {
            Values::Bool(array) => Some(ValueRef::Bool(array.value(row))),
            Values::Int(values) => values.get(row).map(|&value| ValueRef::Int(value)),
            Values::Float(values) => values.get(row).map(|&value| ValueRef::Float(value)),
            Values::Float32(values) => values.get(row).map(|&value| ValueRef::Float32(value)),
            Values::Decimal(values, scale) => {
                values.get(row).map(|&unscaled| ValueRef::Decimal(Decimal { unscaled, scale: *scale }))
            }
            Values::Text(array) => Some(ValueRef::Text(array.value(row))),
            Values::Bytes(array) => Some(ValueRef::Bytes(array.value(row))),
            Values::Date(values) => values.get(row).map(|&value| ValueRef::Date(value)),
            Values::Timestamp(values) => values.get(row).map(|&value| ValueRef::Timestamp(value)),
            Values::LocalTimestamp(values) => values.get(row).map(|&value| ValueRef::LocalTimestamp(value)),
        };
        value.unwrap_or(ValueRef::Null)
    }
}

/// A batch whose columns are known to fit its table.
pub(super) struct BatchView<'a> {
    schema: &'a TableSchema,
    columns: Vec<ColumnView<'a>>,
    rows: usize,
}

impl<'a> BatchView<'a> {
    /// # Errors
    /// [`CacheError::Mismatch`] when a column is missing, of another type, or holds NULL where the table allows none.
    pub(super) fn new(schema: &'a TableSchema, batch: &'a RecordBatch) -> Result<BatchView<'a>, CacheError> {
        let wrong = |what: String| CacheError::mismatch(&schema.name, format!("a batch does not fit: {what}"));
        let (found, wanted) = (batch.num_columns(), schema.columns.len());
        if found != wanted || wanted > COLUMNS_MAX {
            return Err(wrong(format!("{found} columns came, {wanted} are wanted, {COLUMNS_MAX} are possible")));
        }
        let mut columns = Vec::with_capacity(wanted);
        for (column, array) in schema.columns.iter().zip(batch.columns()) {
            let view = ColumnView::of(array, column.column_type).ok_or_else(|| {
                wrong(format!("column {:?} is {}, not {}", column.name, array.data_type(), column.column_type))
            })?;
            if !column.nullable && array.null_count() > 0 {
                return Err(wrong(format!("column {:?} holds NULL, and the table allows none", column.name)));
            }
            columns.push(view);
        }
        Ok(BatchView { schema, columns, rows: batch.num_rows() })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Appends one row, encoded.
    pub(super) fn encode(&self, out: &mut Vec<u8>, row: usize) -> Result<(), CacheError> {
        encode_row(out, self.columns.iter().map(|column| column.value(row)))
            .map_err(|error| CacheError::mismatch(&self.schema.name, error.to_string()))
    }

    pub(super) fn encode_range(&self, range: Range<usize>) -> Result<EncodedRows, CacheError> {
        let mut rows = EncodedRows { bytes: Vec::new(), ends: Vec::with_capacity(range.len()) };
        let count = range.len();
        for (done, row) in range.enumerate() {
            self.encode(&mut rows.bytes, row)?;
            rows.ends.push(rows.bytes.len());
            if done == 0 {
                // The first row is as good a guess as any at the others.
                rows.bytes.reserve(rows.bytes.len().saturating_mul(count).min(1 << 26));
            }
        }
        Ok(rows)
    }

    /// The key of each row.
    pub(super) fn keys(&self) -> Result<KeyColumn, CacheError> {
        let wrong = |error: crate::model::key::KeyError| CacheError::mismatch(&self.schema.name, error.to_string());
        if let Some(ints) = self.int_keys() {
            return Ok(KeyColumn::Int(ints.to_vec()));
        }
        let mut keys = KeyColumn::for_table(self.schema);
        let mut scratch = Vec::new();
        let columns: Vec<_> = self.schema.key.iter().filter_map(|&place| self.columns.get(place)).collect();
        for row in 0..self.rows {
            let values: crate::model::RowValues<'_> = columns.iter().map(|column| column.value(row)).collect();
            keys.push(KeyRef::encode_in(&mut scratch, &values).map_err(wrong)?).map_err(wrong)?;
        }
        Ok(keys)
    }

    fn int_keys(&self) -> Option<&'a [i64]> {
        match (self.schema.key.as_slice(), self.schema.has_int_key()) {
            ([place], true) => match self.columns.get(*place)?.values {
                Values::Int(values) => Some(values),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether `keys` may be the keys of the rows: as many, and equal when they are integers. (Others are not made again.)
    pub(super) fn fits_keys(&self, keys: &KeyColumn) -> Result<(), CacheError> {
        let name = &self.schema.name;
        if keys.len() != self.rows {
            return Err(CacheError::mismatch(
                name,
                format!("{} upserted rows came with {} keys", self.rows, keys.len()),
            ));
        }
        match (keys, self.int_keys()) {
            (KeyColumn::Int(keys), Some(ints)) if keys.as_slice() != ints => {
                Err(CacheError::mismatch(name, "upserted rows came with the keys of other rows"))
            }
            _ => Ok(()),
        }
    }
}

/// The values of an encoded row that the cache itself put there.
pub(super) fn decode(schema: &TableSchema, key: KeyRef<'_>, row: &[u8]) -> Result<Vec<Value>, CacheError> {
    let corrupt = |cause| CacheError::Corrupt { table: schema.name.clone(), key: key.describe(), cause };
    let values = RowRef::new(row).values().map_err(corrupt)?;
    let unchanged = || corrupt(crate::model::CodecError::UnknownTag { tag: 1 });
    values.iter().map(|value| value.to_value().ok_or_else(unchanged)).collect()
}

/// A row that a reader brings, encoded.
pub(super) fn encode_values(
    schema: &TableSchema,
    key: KeyRef<'_>,
    row: &[ValueRef<'_>],
) -> Result<Vec<u8>, CacheError> {
    let wrong = |what: String| CacheError::mismatch(&schema.name, format!("a row to fill in does not fit: {what}"));
    if row.len() != schema.columns.len() {
        return Err(wrong(format!("{} values came, {} are wanted", row.len(), schema.columns.len())));
    }
    if row.iter().any(|value| matches!(value, ValueRef::Unchanged)) {
        return Err(wrong("a value was not sent; fill in whole rows".to_owned()));
    }
    let own = Key::of_row(schema, row).map_err(|error| wrong(error.to_string()))?;
    if own.as_ref() != key {
        return Err(wrong(format!("it has key {}, not {}", own.as_ref().describe(), key.describe())));
    }
    let mut bytes = Vec::with_capacity(16 * row.len());
    encode_row(&mut bytes, row.iter().copied()).map_err(|error| wrong(error.to_string()))?;
    Ok(bytes)
}
