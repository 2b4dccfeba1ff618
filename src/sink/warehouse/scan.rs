//! Scans: the live rows of one table in one version, projected and filtered.

use super::WarehouseError;
use super::chunk::{Ranges, Slot};
use super::columns::TableShape;
use super::version::{TableVersion, Version};
use crate::model::{ColumnType, TableId, Value};
use crate::workload::Comparison;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array,
    RecordBatch, Scalar, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::BooleanBuffer;
use arrow_ord::cmp;
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::filter::filter_record_batch;
use std::sync::Arc;

/// One comparison of a column with a literal. NULL satisfies none. Floats compare in IEEE total order: `-0.0 < 0.0`, NaN
/// above all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The column's place in the table.
    pub column: usize,
    /// How to compare.
    pub comparison: Comparison,
    /// What with: a value of the column's type (a decimal with the column's scale).
    pub literal: Value,
}

/// Conditions that all have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The conditions.
    pub conditions: Vec<Condition>,
}

impl Version {
    /// The live rows of `table`, a batch a chunk, in no particular order. `projection` names columns by their place in
    /// the table, in the order wanted; `None` is all of them.
    ///
    /// Chunks whose known minimum and maximum rule a condition out are not read. A batch without dead rows and
    /// without a filter shares memory with the warehouse. When table, columns or filter do not fit, the first and only item
    /// is that error.
    pub fn scan(
        &self,
        table: TableId,
        projection: Option<&[usize]>,
        filter: Option<&Filter>,
    ) -> impl Iterator<Item = Result<RecordBatch, WarehouseError>> + Send + use<> {
        match self.table(table).and_then(|table| Scan::new(table, projection, filter)) {
            Ok(scan) => Either::Scan(scan),
            Err(error) => Either::Failed(Some(error)),
        }
    }
}

enum Either {
    Scan(Scan),
    Failed(Option<WarehouseError>),
}

impl Iterator for Either {
    type Item = Result<RecordBatch, WarehouseError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Either::Scan(scan) => scan.next(),
            Either::Failed(error) => error.take().map(Err),
        }
    }
}

struct Scan {
    table: Arc<TableVersion>,
    place: usize,
    projection: Option<Vec<usize>>,
    conditions: Vec<Prepared>,
}

struct Prepared {
    column: usize,
    comparison: Comparison,
    /// An array of one value.
    literal: ArrayRef,
    /// The literal as an integer, for pruning.
    integer: Option<i64>,
}

impl Scan {
    fn new(
        table: &Arc<TableVersion>,
        projection: Option<&[usize]>,
        filter: Option<&Filter>,
    ) -> Result<Scan, WarehouseError> {
        projected_schema(&table.shape, projection)?;
        let conditions = filter.map_or(&[][..], |filter| &filter.conditions);
        let conditions = conditions.iter().map(|condition| Prepared::new(&table.shape, condition));
        let conditions = conditions.collect::<Result<_, _>>()?;
        Ok(Scan { table: table.clone(), place: 0, projection: projection.map(<[usize]>::to_vec), conditions })
    }

    /// The rows of one slot, `None` when there is none.
    fn batch_of(&self, slot: &Slot) -> Result<Option<RecordBatch>, WarehouseError> {
        let ruled_out =
            |ranges: &Ranges| self.conditions.iter().any(|c| c.rules_out(ranges.get(c.column).copied().flatten()));
        if slot.live() == 0 || slot.chunk.known_ranges().is_some_and(ruled_out) {
            return Ok(None);
        }
        let failed = || WarehouseError::columnar("scan table", self.table.shape.name());
        let batch = slot.chunk.batch()?;
        let mut keep: Option<BooleanBuffer> =
            (slot.deleted.count() > 0).then(|| slot.deleted.live_mask(slot.chunk.rows));
        for condition in &self.conditions {
            let holds = condition.evaluate(&batch).map_err(failed())?;
            keep = Some(match keep {
                Some(mask) => &mask & &holds,
                None => holds,
            });
        }
        let batch = match &self.projection {
            Some(columns) => batch.project(columns).map_err(failed())?,
            None => (*batch).clone(),
        };
        let batch = match keep {
            Some(mask) => filter_record_batch(&batch, &BooleanArray::new(mask, None)).map_err(failed())?,
            None => batch,
        };
        Ok((batch.num_rows() > 0).then_some(batch))
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch, WarehouseError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(slot) = self.table.slots.get(self.place) {
            self.place += 1;
            match self.batch_of(slot) {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {}
                Err(error) => {
                    self.place = usize::MAX;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// The schema of the projected columns.
pub(super) fn projected_schema(shape: &TableShape, projection: Option<&[usize]>) -> Result<SchemaRef, WarehouseError> {
    let Some(columns) = projection else { return Ok(shape.arrow.clone()) };
    let schema = shape.arrow.project(columns);
    schema.map(Arc::new).map_err(|error| WarehouseError::mismatch(shape.name(), format!("projection: {error}")))
}

impl Prepared {
    fn new(shape: &TableShape, condition: &Condition) -> Result<Prepared, WarehouseError> {
        let unfit = |what: String| WarehouseError::mismatch(shape.name(), what);
        let place = condition.column;
        let column =
            shape.schema.columns.get(place).ok_or_else(|| unfit(format!("there is no column number {place}")))?;
        let literal: ArrayRef = match (column.column_type, &condition.literal) {
            (ColumnType::Bool, Value::Bool(v)) => Arc::new(BooleanArray::from(vec![*v])),
            (ColumnType::Int64, Value::Int(v)) => Arc::new(Int64Array::from(vec![*v])),
            (ColumnType::Float64, Value::Float(v)) => Arc::new(Float64Array::from(vec![*v])),
            (ColumnType::Float32, Value::Float32(v)) => Arc::new(Float32Array::from(vec![*v])),
            (ColumnType::LocalTimestamp, Value::LocalTimestamp(v)) => {
                Arc::new(TimestampMicrosecondArray::from(vec![*v]))
            }
            (ColumnType::Decimal { precision, scale }, Value::Decimal(v)) if v.scale == scale => {
                let array = Decimal128Array::from(vec![v.unscaled]).with_precision_and_scale(precision, scale);
                Arc::new(array.map_err(|error| unfit(format!("column {:?}: {error}", column.name)))?)
            }
            (ColumnType::Text, Value::Text(v)) => Arc::new(StringArray::from(vec![&**v])),
            (ColumnType::Bytes, Value::Bytes(v)) => Arc::new(BinaryArray::from(vec![&**v])),
            (ColumnType::Date, Value::Date(v)) => Arc::new(Date32Array::from(vec![*v])),
            (ColumnType::Timestamp, Value::Timestamp(v)) => {
                Arc::new(TimestampMicrosecondArray::from(vec![*v]).with_timezone("UTC"))
            }
            (expected, literal) => {
                let given = literal.as_ref().type_name();
                return Err(unfit(format!("column {:?} is {expected}, and a {given} is no such value", column.name)));
            }
        };
        let integer = match condition.literal {
            Value::Int(v) | Value::Timestamp(v) | Value::LocalTimestamp(v) => Some(v),
            Value::Date(v) => Some(v.into()),
            _ => None,
        };
        Ok(Prepared { column: place, comparison: condition.comparison, literal, integer })
    }

    /// Whether no value within `range` can satisfy the condition.
    fn rules_out(&self, range: Option<(i64, i64)>) -> bool {
        let (Some((low, high)), Some(literal)) = (range, self.integer) else { return false };
        match self.comparison {
            Comparison::Equal => literal < low || literal > high,
            Comparison::NotEqual => low == literal && high == literal,
            Comparison::Less => low >= literal,
            Comparison::LessOrEqual => low > literal,
            Comparison::Greater => high <= literal,
            Comparison::GreaterOrEqual => high < literal,
        }
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanBuffer, ArrowError> {
        let column =
            batch.columns().get(self.column).ok_or_else(|| ArrowError::SchemaError("no such column".into()))?;
        let literal = Scalar::new(&self.literal);
        let holds = match self.comparison {
            Comparison::Equal => cmp::eq(column, &literal),
            Comparison::NotEqual => cmp::neq(column, &literal),
            Comparison::Less => cmp::lt(column, &literal),
            Comparison::LessOrEqual => cmp::lt_eq(column, &literal),
            Comparison::Greater => cmp::gt(column, &literal),
            Comparison::GreaterOrEqual => cmp::gt_eq(column, &literal),
        }?;
        Ok(match holds.nulls() {
            Some(valid) => holds.values() & valid.inner(),
            None => holds.values().clone(),
        })
    }
}
