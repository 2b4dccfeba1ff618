//! Answers in the warehouse's own types: what an operator makes of other types, without losing a digit.

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::compute::cast;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use std::sync::Arc;

/// The type that shows every value of `given`; text where no other does.
fn shown(given: &DataType) -> DataType {
    use DataType::*;
    match given {
        Boolean | Int64 | Float32 | Float64 | Utf8 | Binary | Date32 | Decimal128(..) => given.clone(),
        Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 => Int64,
        UInt64 => Decimal128(20, 0),
        Float16 => Float32,
        Decimal32(precision, scale) | Decimal64(precision, scale) => Decimal128(*precision, *scale),
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Timestamp(TimeUnit::Nanosecond, _) => Utf8,
        Timestamp(_, zone) => Timestamp(TimeUnit::Microsecond, zone.clone()),
        _ => Utf8,
    }
}

/// The schema of the answers to come.
pub(super) fn schema(given: &Schema) -> SchemaRef {
    let fields = given.fields().iter().map(|field| Field::new(field.name(), shown(field.data_type()), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A batch under that schema.
pub(super) fn batch(given: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = given.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| as_type(column, field.data_type())).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(given.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

fn as_type(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if column.data_type() == wanted {
        return Ok(column.clone());
    }
    let is_text = matches!(column.data_type(), DataType::Utf8View | DataType::LargeUtf8);
    if *wanted != DataType::Utf8 || is_text {
        return Ok(cast(column, wanted)?);
    }
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    let text = |row| column.is_valid(row).then(|| formatter.value(row).try_to_string()).transpose();
    let texts: Vec<Option<String>> = (0..column.len()).map(text).collect::<std::result::Result<_, _>>()?;
    Ok(Arc::new(StringArray::from(texts)))
}
