//! Tables as Arrow sees them, and Arrow's values as the model's.

use super::WarehouseError;
use super::memory::RowMemory;
use crate::model::{ColumnType, Decimal, Key, KeyColumn, TableId, TableSchema, Value, ValueRef};
use crate::transform::arrow_field;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema, SchemaRef};
use fearless_simd::{Level, dispatch};
use std::sync::{Arc, OnceLock};

/// A table's schema in the forms that every part of the warehouse needs.
#[derive(Debug)]
pub(super) struct TableShape {
    pub(super) id: TableId,
    pub(super) schema: TableSchema,
    pub(super) arrow: SchemaRef,
    /// Where its rows in memory are counted.
    memory: OnceLock<Arc<RowMemory>>,
}

impl TableShape {
    pub(super) fn new(id: TableId, schema: &TableSchema) -> Result<TableShape, WarehouseError> {
        schema.check().map_err(|error| WarehouseError::mismatch(&schema.name, error.to_string()))?;
        let mut fields = Vec::with_capacity(schema.columns.len());
        for column in &schema.columns {
            if !parquet_holds(column.column_type) {
                let what = format!(
                    "column {:?} has type {}, which Parquet can't hold (precision 1 to 38, scale 0 to precision)",
                    column.name, column.column_type
                );
                return Err(WarehouseError::mismatch(&schema.name, what));
            }
            fields.push(arrow_field(column));
        }
        let arrow = Arc::new(Schema::new(fields));
        Ok(TableShape { id, schema: schema.clone(), arrow, memory: OnceLock::new() })
    }

    /// Has the rows counted there. To be said before there are any; until then nothing limits them.
    pub(super) fn count_rows_in(&self, memory: &Arc<RowMemory>) {
        let _ = self.memory.set(memory.clone());
    }

    pub(super) fn row_memory(&self) -> &RowMemory {
        self.memory.get_or_init(Arc::default)
    }

    pub(super) fn name(&self) -> &str {
        &self.schema.name
    }

    /// The batch under this table's own schema.
    ///
    /// # Errors
    /// When the batch's columns have other types or hold NULL where the table allows none.
    pub(super) fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch, WarehouseError> {
        RecordBatch::try_new(self.arrow.clone(), batch.columns().to_vec())
            .map_err(|error| WarehouseError::mismatch(self.name(), format!("a batch does not fit: {error}")))
    }

    /// The place of the key column when the key is one integer.
    pub(super) fn int_key_column(&self) -> Option<usize> {
        if self.schema.has_int_key() { self.schema.key.first().copied() } else { None }
    }

    /// The keys of a batch whose columns are the key columns alone, in key order.
    pub(super) fn keys_of(&self, columns: &[ArrayRef]) -> Result<KeyColumn, WarehouseError> {
        let rows = columns.first().map_or(0, |column| column.len());
        if self.schema.has_int_key()
            && let Some(ints) = columns.first().and_then(|column| column.as_any().downcast_ref())
        {
            let ints: &PrimitiveArray<Int64Type> = ints;
            return Ok(KeyColumn::Int(ints.values().to_vec()));
        }
        let mut keys = KeyColumn::for_table(&self.schema);
        let wrong = |error: crate::model::key::KeyError| WarehouseError::mismatch(self.name(), error.to_string());
        for row in 0..rows {
            let values: Vec<Value> = columns.iter().map(|column| value_at(column, row)).collect();
            let refs: Vec<ValueRef<'_>> = values.iter().map(Value::as_ref).collect();
            let key = Key::from_values(&refs).map_err(wrong)?;
            keys.push(key.as_ref()).map_err(wrong)?;
        }
        Ok(keys)
    }
}

/// Every Arrow type that a column gets, but for decimals out of Parquet's range.
fn parquet_holds(column_type: ColumnType) -> bool {
    match column_type {
        ColumnType::Decimal { precision, scale } => {
            (1..=38).contains(&precision) && (0..=precision as i8).contains(&scale)
        }
        _ => true,
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Option<T::Native> {
    let array = array.as_any().downcast_ref::<PrimitiveArray<T>>()?;
    array.values().get(row).copied()
}

/// The value in `row` of `array`, as the model has it. NULL for a row or a type the warehouse does not have.
pub fn value_at(array: &dyn Array, row: usize) -> Value {
    if row >= array.len() || array.is_null(row) {
        return Value::Null;
    }
    let value = match array.data_type() {
        DataType::Boolean => array.as_any().downcast_ref::<BooleanArray>().map(|column| Value::Bool(column.value(row))),
        DataType::Int64 => primitive::<Int64Type>(array, row).map(Value::Int),
        DataType::Float64 => primitive::<Float64Type>(array, row).map(Value::Float),
        DataType::Float32 => primitive::<Float32Type>(array, row).map(Value::Float32),
        DataType::Decimal128(_, scale) => primitive::<Decimal128Type>(array, row)
            .map(|unscaled| Value::Decimal(Box::new(Decimal { unscaled, scale: *scale }))),
        DataType::Utf8 => array.as_any().downcast_ref::<StringArray>().map(|column| Value::text(column.value(row))),
        DataType::Binary => {
            array.as_any().downcast_ref::<BinaryArray>().map(|column| Value::Bytes(column.value(row).into()))
        }
        DataType::Date32 => primitive::<Date32Type>(array, row).map(Value::Date),
        DataType::Timestamp(_, None) => primitive::<TimestampMicrosecondType>(array, row).map(Value::LocalTimestamp),
        DataType::Timestamp(_, _) => primitive::<TimestampMicrosecondType>(array, row).map(Value::Timestamp),
        _ => None,
    };
    value.unwrap_or(Value::Null)
}

/// The values of one row of `batch`, in its column order.
pub fn row_values(batch: &RecordBatch, row: usize) -> Vec<Value> {
    batch.columns().iter().map(|column| value_at(column, row)).collect()
}

/// A column of integers, dates or timestamps, as 64-bit integers; `None` for any other type.
pub(super) enum IntegerColumn<'a> {
    Wide(&'a [i64]),
    Days(&'a [i32]),
}

impl<'a> IntegerColumn<'a> {
    pub(super) fn of(array: &'a dyn Array) -> Option<IntegerColumn<'a>> {
        let any = array.as_any();
        match array.data_type() {
            DataType::Int64 => any.downcast_ref::<PrimitiveArray<Int64Type>>().map(|a| IntegerColumn::Wide(a.values())),
            DataType::Timestamp(_, _) => {
                any.downcast_ref::<PrimitiveArray<TimestampMicrosecondType>>().map(|a| IntegerColumn::Wide(a.values()))
            }
            DataType::Date32 => {
                any.downcast_ref::<PrimitiveArray<Date32Type>>().map(|a| IntegerColumn::Days(a.values()))
            }
            _ => None,
        }
    }
}

/// The smallest and the largest value of an integer-like column, NULLs left out. `None` when the column is of
/// another type or holds no value: then nothing is known.
pub(super) fn integer_range(array: &dyn Array) -> Option<(i64, i64)> {
    fn of<T: Copy + Ord + Into<i64>>(values: &[T], array: &dyn Array) -> Option<(i64, i64)> {
        if array.null_count() == 0 {
            return extremes(Level::new(), values).map(|(low, high)| (low.into(), high.into()));
        }
        let mut range: Option<(i64, i64)> = None;
        for (row, &value) in values.iter().enumerate() {
            if array.is_valid(row) {
                let value = value.into();
                range = Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
            }
        }
        range
    }
    match IntegerColumn::of(array)? {
        IntegerColumn::Wide(values) => of(values, array),
        IntegerColumn::Days(values) => of(values, array),
    }
}

/// The least and the greatest value, compiled for each width of registers that a processor may have: the narrowest of them have no
/// comparison of 64-bit integers.
fn extremes<T: Copy + Ord>(level: Level, values: &[T]) -> Option<(T, T)> {
    let (&first, rest) = values.split_first()?;
    dispatch!(level, _ => {
        let (mut low, mut high) = (first, first);
        for &value in rest {
            (low, high) = (low.min(value), high.max(value));
        }
        Some((low, high))
    })
}

/// All levels of this processor's registers.
#[cfg(test)]
pub(super) fn levels() -> Vec<Level> {
    let best = Level::new();
    #[cfg(target_arch = "x86_64")]
    {
        use fearless_simd::Simd;
        let narrower =
            [best.as_sse2().map(Simd::level), best.as_sse4_2().map(Simd::level), best.as_avx2().map(Simd::level)];
        narrower.into_iter().flatten().chain([best]).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    vec![best]
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Date32Array, Int64Array};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_range_is_that_of_the_values_with_any_registers(
            wide in prop::collection::vec(prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)], 0..200),
            days in prop::collection::vec(any::<i32>(), 0..200),
            nulls in prop::collection::vec(any::<bool>(), 200),
        ) {
            for level in levels() {
                let mut sorted = wide.clone();
                sorted.sort_unstable();
                prop_assert_eq!(extremes(level, &wide), sorted.first().copied().zip(sorted.last().copied()));
                let mut sorted = days.clone();
                sorted.sort_unstable();
                prop_assert_eq!(extremes(level, &days), sorted.first().copied().zip(sorted.last().copied()));
            }
            let some: Vec<Option<i64>> = wide.iter().zip(&nulls).map(|(&value, &is)| is.then_some(value)).collect();
            let mut sorted: Vec<i64> = some.iter().flatten().copied().collect();
            sorted.sort_unstable();
            prop_assert_eq!(integer_range(&Int64Array::from(some)), sorted.first().copied().zip(sorted.last().copied()));
            let mut sorted: Vec<i64> = days.iter().copied().map(i64::from).collect();
            sorted.sort_unstable();
            prop_assert_eq!(integer_range(&Date32Array::from(days)), sorted.first().copied().zip(sorted.last().copied()));
        }
    }
}
