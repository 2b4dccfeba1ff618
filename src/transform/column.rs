//! One output column under construction: a typed Arrow builder.

use super::error::ValueFault;
use crate::model::row::EachValue;
use crate::model::{CodecError, Column, ColumnType, Decimal, ValueRef};
use arrow_array::ArrayRef;
use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_schema::{DataType, Field, TimeUnit};
use std::sync::Arc;

/// The most bytes of text or binary data that one column of one batch may hold (Arrow's offsets are `i32`).
pub(super) const CHUNK_BYTES_MAX: usize = i32::MAX as usize;
/// The most digits of an Arrow `Decimal128`.
const DECIMAL_DIGITS_MAX: u8 = 38;
const ZONE: &str = "UTC";

/// The Arrow type that holds a column type.
///
/// | column | Arrow |
/// |---|---|
/// | bool | Boolean |
/// | int64 | Int64 |
/// | float64 | Float64 |
/// | float32 | Float32 |
/// | decimal(p,s) | Decimal128(p,s) |
/// | text | Utf8 |
/// | bytes | Binary |
/// | date | Date32 |
/// | timestamp | Timestamp(Microsecond, "UTC") |
/// | local_timestamp | Timestamp(Microsecond) |
pub fn arrow_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Float32 => DataType::Float32,
        ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
        ColumnType::Text => DataType::Utf8,
        ColumnType::Bytes => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(ZONE.into())),
        ColumnType::LocalTimestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

/// The Arrow field that holds a column.
pub fn arrow_field(column: &Column) -> Field {
    Field::new(&column.name, arrow_type(column.column_type), column.nullable)
}

/// Values of one output column, not yet frozen.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Float32(Float32Builder),
    Decimal { values: Decimal128Builder, scale: i8, unscaled_end: u128 },
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    LocalTimestamp(TimestampMicrosecondBuilder),
}

impl ColumnBuilder {
    /// A builder with room for `capacity` values.
    pub(super) fn new(column_type: ColumnType, capacity: usize) -> ColumnBuilder {
        match column_type {
            ColumnType::Bool => ColumnBuilder::Bool(BooleanBuilder::with_capacity(capacity)),
            ColumnType::Int64 => ColumnBuilder::Int(Int64Builder::with_capacity(capacity)),
            ColumnType::Float64 => ColumnBuilder::Float(Float64Builder::with_capacity(capacity)),
            ColumnType::Float32 => ColumnBuilder::Float32(Float32Builder::with_capacity(capacity)),
            ColumnType::Decimal { precision, scale } => ColumnBuilder::Decimal {
                values: Decimal128Builder::with_capacity(capacity)
                    .with_data_type(DataType::Decimal128(precision, scale)),
                scale,
                unscaled_end: 10u128.pow(u32::from(precision.min(DECIMAL_DIGITS_MAX))),
            },
            ColumnType::Text => ColumnBuilder::Text(StringBuilder::with_capacity(capacity, capacity * 16)),
            ColumnType::Bytes => ColumnBuilder::Bytes(BinaryBuilder::with_capacity(capacity, capacity * 16)),
            ColumnType::Date => ColumnBuilder::Date(Date32Builder::with_capacity(capacity)),
            ColumnType::Timestamp => ColumnBuilder::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(capacity).with_timezone(Arc::<str>::from(ZONE)),
            ),
            ColumnType::LocalTimestamp => {
                ColumnBuilder::LocalTimestamp(TimestampMicrosecondBuilder::with_capacity(capacity))
            }
        }
    }

    /// Adds the next value of an encoded row. After an error nothing was added.
    #[inline]
    pub(super) fn append_next(
        &mut self,
        values: &mut EachValue<'_>,
        nullable: bool,
    ) -> Result<Result<(), ValueFault>, CodecError> {
        // What is expected, nearly always; the rest, and what is wrong, takes the long way.
        let added = match self {
            ColumnBuilder::Int(b) => values.int().map(|v| b.append_value(v)).map(Ok),
            ColumnBuilder::Text(b) => values.text().map(|v| append_text(b, v)),
            ColumnBuilder::Timestamp(b) => values.timestamp().map(|v| b.append_value(v)).map(Ok),
            ColumnBuilder::LocalTimestamp(b) => values.local_timestamp().map(|v| b.append_value(v)).map(Ok),
            ColumnBuilder::Float(b) => values.float().map(|v| b.append_value(v)).map(Ok),
            ColumnBuilder::Date(b) => values.date().map(|v| b.append_value(v)).map(Ok),
            ColumnBuilder::Decimal { values: b, scale, unscaled_end } => {
                values.decimal().map(|v| append_decimal(b, v, *scale, *unscaled_end))
            }
            ColumnBuilder::Bool(_) | ColumnBuilder::Float32(_) | ColumnBuilder::Bytes(_) => None,
        };
        match added {
            Some(added) => Ok(added),
            None => Ok(self.append(values.next().unwrap_or(Err(CodecError::CutOff { wanted: 1, left: 0 }))?, nullable)),
        }
    }

    /// Adds a value. After an error nothing was added.
    #[inline]
    pub(super) fn append(&mut self, value: ValueRef<'_>, nullable: bool) -> Result<(), ValueFault> {
        match (self, value) {
            (ColumnBuilder::Int(b), ValueRef::Int(v)) => b.append_value(v),
            (ColumnBuilder::Text(b), ValueRef::Text(v)) => append_text(b, v)?,
            (ColumnBuilder::Timestamp(b), ValueRef::Timestamp(v))
            | (ColumnBuilder::LocalTimestamp(b), ValueRef::LocalTimestamp(v)) => b.append_value(v),
            (ColumnBuilder::Float(b), ValueRef::Float(v)) => b.append_value(v),
            (ColumnBuilder::Float32(b), ValueRef::Float32(v)) => b.append_value(v),
            (ColumnBuilder::Bool(b), ValueRef::Bool(v)) => b.append_value(v),
            (ColumnBuilder::Date(b), ValueRef::Date(v)) => b.append_value(v),
            (ColumnBuilder::Decimal { values, scale, unscaled_end }, ValueRef::Decimal(v)) => {
                append_decimal(values, v, *scale, *unscaled_end)?;
            }
            (ColumnBuilder::Bytes(b), ValueRef::Bytes(v)) => {
                check_room(b.values_slice().len(), v.len())?;
                b.append_value(v);
            }
            (builder, ValueRef::Null) if nullable => builder.append_null(),
            (_, ValueRef::Null) => return Err(ValueFault::Null),
            (_, ValueRef::Unchanged) => return Err(ValueFault::Unresolved),
            (_, other) => return Err(ValueFault::WrongType { found: other.type_name() }),
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match self {
            ColumnBuilder::Bool(b) => b.append_null(),
            ColumnBuilder::Int(b) => b.append_null(),
            ColumnBuilder::Float(b) => b.append_null(),
            ColumnBuilder::Float32(b) => b.append_null(),
            ColumnBuilder::Decimal { values, .. } => values.append_null(),
            ColumnBuilder::Text(b) => b.append_null(),
            ColumnBuilder::Bytes(b) => b.append_null(),
            ColumnBuilder::Date(b) => b.append_null(),
            ColumnBuilder::Timestamp(b) | ColumnBuilder::LocalTimestamp(b) => b.append_null(),
        }
    }

    /// Freezes the values without copying them, and starts again.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Bool(b) => ArrayBuilder::finish(b),
            ColumnBuilder::Int(b) => ArrayBuilder::finish(b),
            ColumnBuilder::Float(b) => ArrayBuilder::finish(b),
            ColumnBuilder::Float32(b) => ArrayBuilder::finish(b),
            ColumnBuilder::Decimal { values, .. } => ArrayBuilder::finish(values),
            ColumnBuilder::Text(b) => ArrayBuilder::finish(b),
            ColumnBuilder::Bytes(b) => ArrayBuilder::finish(b),
            ColumnBuilder::Date(b) => ArrayBuilder::finish(b),
            ColumnBuilder::Timestamp(b) | ColumnBuilder::LocalTimestamp(b) => ArrayBuilder::finish(b),
        }
    }
}

#[inline]
fn append_text(builder: &mut StringBuilder, value: &str) -> Result<(), ValueFault> {
    check_room(builder.values_slice().len(), value.len())?;
    builder.append_value(value);
    Ok(())
}

#[inline]
fn append_decimal(
    builder: &mut Decimal128Builder,
    value: Decimal,
    scale: i8,
    unscaled_end: u128,
) -> Result<(), ValueFault> {
    builder.append_value(checked_decimal(value, scale, unscaled_end)?);
    Ok(())
}

#[inline]
fn check_room(used: usize, more: usize) -> Result<(), ValueFault> {
    if more <= CHUNK_BYTES_MAX - used { Ok(()) } else { Err(ValueFault::ChunkFull { bytes_max: CHUNK_BYTES_MAX }) }
}

/// The unscaled digits if the decimal has the column's scale and no more digits than the column.
///
/// Another scale is refused, not adapted: `1.5` and `1.50` are different values here.
fn checked_decimal(v: Decimal, scale: i8, unscaled_end: u128) -> Result<i128, ValueFault> {
    if v.scale != scale {
        return Err(ValueFault::WrongScale { found: v.scale, wanted: scale });
    }
    if v.unscaled.unsigned_abs() >= unscaled_end { Err(ValueFault::TooManyDigits) } else { Ok(v.unscaled) }
}
