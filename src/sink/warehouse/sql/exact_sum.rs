//! `sum` of 64-bit integers, exact as the warehouse's own: a `decimal(38,0)`, as PostgreSQL's `sum(bigint)` is a `numeric`.
//! DataFusion's gives a 64-bit integer that wraps around without a word.

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::types::{ArrowPrimitiveType, Decimal128Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Decimal128Array, ListArray, PrimitiveArray};
use arrow_schema::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, internal_datafusion_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use std::collections::BTreeSet;
use std::sync::Arc;

const SUM_TYPE: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

/// DataFusion's `sum`, but for 64-bit integers.
pub(super) fn exact_sum() -> AggregateUDF {
    AggregateUDF::from(ExactSum { inner: Sum::new() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactSum {
    inner: Sum,
}

fn of_integers(types: &[FieldRef]) -> bool {
    types.first().is_some_and(|field| *field.data_type() == DataType::Int64)
}

impl AggregateUDFImpl for ExactSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Int64] => Ok(SUM_TYPE),
            other => self.inner.return_type(other),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (of_integers(args.expr_fields), args.is_distinct) {
            (false, _) => self.inner.accumulator(args),
            (true, false) => Ok(Box::new(Total::default())),
            (true, true) => Ok(Box::new(DistinctTotal::default())),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !of_integers(args.input_fields) {
            return self.inner.state_fields(args);
        }
        if args.is_distinct {
            let item = Field::new_list_field(DataType::Int64, true);
            return Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "sum distinct"), item, false))]);
        }
        let sum = Field::new(format_state_name(args.name, "sum"), SUM_TYPE, true);
        let count = Field::new(format_state_name(args.name, "count"), DataType::Int64, false);
        Ok(vec![Arc::new(sum), Arc::new(count)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match of_integers(args.expr_fields) {
            true => Ok(Box::new(Totals::default())),
            false => self.inner.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (of_integers(args.expr_fields), args.is_distinct) {
            (false, _) => self.inner.create_sliding_accumulator(args),
            (true, false) => Ok(Box::new(Total::default())),
            (true, true) => exec_err!("sum(DISTINCT ..) over a sliding window is not supported"),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn column<T: ArrowPrimitiveType>(values: &[ArrayRef], place: usize) -> Result<&PrimitiveArray<T>> {
    let column = values.get(place).and_then(|column| column.as_any().downcast_ref());
    column.ok_or_else(|| internal_datafusion_err!("sum: column {place} of its input is of another type"))
}

/// An integer shifted to the unsigned range, so that a sum can be made of unsigned halves.
fn biased(value: i64) -> u64 {
    (value as u64) ^ (1 << 63)
}

/// Sums the high and the low halves apart, which vectorises where a 128-bit sum does not. Up to 2^31 values.
fn dense_sum(values: &[i64]) -> i128 {
    let (mut high, mut low) = (0u64, 0u64);
    for &value in values {
        high += biased(value) >> 32;
        low += biased(value) & 0xffff_ffff;
    }
    (i128::from(high) << 32) + i128::from(low) - ((values.len() as i128) << 63)
}

/// The sum and number of the values that are not NULL.
fn sum_of(values: &PrimitiveArray<Int64Type>) -> (i128, i64) {
    let count = values.len() - values.null_count();
    let sum = match values.null_count() {
        0 => dense_sum(values.values()),
        _ => values.iter().flatten().map(i128::from).sum(),
    };
    (sum, count as i64)
}

fn checked(sum: i128) -> Result<i128> {
    // 2^63 values of 64 bits stay far within 38 digits; this is for sums of sums alone.
    if sum.unsigned_abs() >= 10u128.pow(38) { exec_err!("a sum has more than 38 digits") } else { Ok(sum) }
}

fn scalar(sum: Option<i128>) -> ScalarValue {
    ScalarValue::Decimal128(sum, DECIMAL128_MAX_PRECISION, 0)
}

/// A sum, and of how many values: a window that slides takes them out again.
#[derive(Debug, Default)]
struct Total {
    sum: i128,
    count: i64,
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = sum_of(column(values, 0)?);
        self.sum = checked(self.sum + sum)?;
        self.count += count;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = sum_of(column(values, 0)?);
        self.sum = checked(self.sum - sum)?;
        self.count -= count;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(scalar((self.count > 0).then_some(self.sum)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?, ScalarValue::Int64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for sum in column::<Decimal128Type>(states, 0)?.iter().flatten() {
            self.sum = checked(self.sum + sum)?;
        }
        self.count += column::<Int64Type>(states, 1)?.iter().flatten().sum::<i64>();
        Ok(())
    }
}

/// The sum of the different values.
#[derive(Debug, Default)]
struct DistinctTotal {
    values: BTreeSet<i64>,
}

impl Accumulator for DistinctTotal {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.extend(column::<Int64Type>(values, 0)?.iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.values.iter().copied().map(i128::from).sum();
        Ok(scalar((!self.values.is_empty()).then_some(sum)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.len() * 2 * size_of::<i64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut list = ListBuilder::new(Int64Builder::new());
        list.append_value(self.values.iter().copied().map(Some));
        Ok(vec![ScalarValue::List(Arc::new(list.finish()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states.first().and_then(|lists| lists.as_any().downcast_ref::<ListArray>());
        for list in lists.iter().flat_map(|lists| lists.iter()).flatten() {
            self.update_batch(&[list])?;
        }
        Ok(())
    }
}

/// The sums of many groups.
#[derive(Debug, Default)]
struct Totals {
    sums: Vec<i128>,
    counts: Vec<i64>,
}

impl Totals {
    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups, 0);
        self.counts.resize(groups, 0);
    }

    fn add(&mut self, group: usize, sum: i128, count: i64) -> Result<()> {
        if let (Some(sums), Some(counts)) = (self.sums.get_mut(group), self.counts.get_mut(group)) {
            *sums = checked(*sums + sum)?;
            *counts += count;
        }
        Ok(())
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<i128>, Vec<i64>) {
        (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.counts))
    }
}

fn sums_column(sums: Vec<i128>, counts: &[i64]) -> Result<ArrayRef> {
    let values = sums.into_iter().zip(counts).map(|(sum, count)| (*count > 0).then_some(sum));
    let array = values.collect::<Decimal128Array>().with_precision_and_scale(DECIMAL128_MAX_PRECISION, 0)?;
    Ok(Arc::new(array))
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

impl GroupsAccumulator for Totals {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.grow(total_groups);
        let values = column::<Int64Type>(values, 0)?;
        if values.null_count() == 0 && filter.is_none() {
            return groups
                .iter()
                .zip(values.values())
                .try_for_each(|(&group, &value)| self.add(group, value.into(), 1));
        }
        for (row, (&group, value)) in groups.iter().zip(values).enumerate() {
            if let Some(value) = value.filter(|_| passes(filter, row)) {
                self.add(group, value.into(), 1)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = self.take(emit);
        sums_column(sums, &counts)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts) = self.take(emit);
        Ok(vec![sums_column(sums, &counts)?, Arc::new(PrimitiveArray::<Int64Type>::from(counts))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.grow(total_groups);
        let (sums, counts) = (column::<Decimal128Type>(states, 0)?, column::<Int64Type>(states, 1)?);
        for ((&group, sum), count) in groups.iter().zip(sums).zip(counts) {
            self.add(group, sum.unwrap_or(0), count.unwrap_or(0))?;
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = column::<Int64Type>(values, 0)?;
        let kept: Vec<Option<i64>> =
            values.iter().enumerate().map(|(row, value)| value.filter(|_| passes(filter, row))).collect();
        let counts: Vec<i64> = kept.iter().map(|value| i64::from(value.is_some())).collect();
        let sums = kept.into_iter().map(|value| value.map_or(0, i128::from)).collect();
        Ok(vec![sums_column(sums, &counts)?, Arc::new(PrimitiveArray::<Int64Type>::from(counts))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.counts.capacity() * size_of::<i64>()
    }
}
