//! Aggregates over the live rows of a table: the questions a dashboard asks, and the invariants of a workload.

use super::WarehouseError;
use super::chunk::Slot;
use super::columns::{IntegerColumn, TableShape};
use super::version::Version;
use crate::model::{ColumnType, TableId};
use arrow_array::{Array, RecordBatch};

/// What to compute over all live rows. Columns are places in the table; they are 64-bit integers or timestamps
/// (microseconds). NULLs are left out, as in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The number of rows.
    Count,
    /// The sum of a column.
    Sum(usize),
    /// The sum of the product of two columns, over the rows where neither is NULL.
    SumProduct(usize, usize),
    /// The smallest value of a column.
    Min(usize),
    /// The largest value of a column.
    Max(usize),
}

impl Version {
    /// Computes `aggregates`, an answer each in their order. `None` where SQL says NULL: no value to aggregate.
    /// A count is never `None`. Sums are exact: 128 bits.
    ///
    /// # Errors
    /// When table or columns do not fit, a segment can't be read, or a sum of products is beyond 128 bits.
    pub fn aggregate(&self, table: TableId, aggregates: &[Aggregate]) -> Result<Vec<Option<i128>>, WarehouseError> {
        let table = self.table(table)?;
        for aggregate in aggregates {
            check(&table.shape, *aggregate)?;
        }
        let mut answers: Vec<Option<i128>> = aggregates
            .iter()
            .map(|aggregate| if *aggregate == Aggregate::Count { Some(i128::from(table.rows)) } else { None })
            .collect();
        if aggregates.iter().all(|aggregate| *aggregate == Aggregate::Count) {
            return Ok(answers);
        }
        for slot in table.slots.iter().filter(|slot| slot.live() > 0) {
            let batch = slot.chunk.batch()?;
            for (answer, aggregate) in answers.iter_mut().zip(aggregates) {
                add(answer, *aggregate, &batch, slot).ok_or_else(|| {
                    WarehouseError::mismatch(table.shape.name(), format!("{aggregate:?} is beyond 128 bits"))
                })?;
            }
        }
        Ok(answers)
    }
}

fn check(shape: &TableShape, aggregate: Aggregate) -> Result<(), WarehouseError> {
    let columns = match aggregate {
        Aggregate::Count => [None, None],
        Aggregate::Sum(a) | Aggregate::Min(a) | Aggregate::Max(a) => [Some(a), None],
        Aggregate::SumProduct(a, b) => [Some(a), Some(b)],
    };
    for place in columns.into_iter().flatten() {
        let column = shape.schema.columns.get(place);
        if !column.is_some_and(|c| {
            matches!(c.column_type, ColumnType::Int64 | ColumnType::Timestamp | ColumnType::LocalTimestamp)
        }) {
            let what = format!("{aggregate:?}: column number {place} is missing or not a 64-bit integer or timestamp");
            return Err(WarehouseError::mismatch(shape.name(), what));
        }
    }
    Ok(())
}

fn wide(batch: &RecordBatch, column: usize) -> Option<&[i64]> {
    match IntegerColumn::of(batch.columns().get(column)?)? {
        IntegerColumn::Wide(values) => Some(values),
        IntegerColumn::Days(_) => None,
    }
}

/// Adds one chunk to an answer; `None` when the answer overflows.
fn add(answer: &mut Option<i128>, aggregate: Aggregate, batch: &RecordBatch, slot: &Slot) -> Option<()> {
    let part = match aggregate {
        Aggregate::Count => return Some(()),
        Aggregate::Sum(column) => sum(wide(batch, column)?, &Mask::of(batch, &[column], slot)),
        Aggregate::SumProduct(a, b) => sum_product(wide(batch, a)?, wide(batch, b)?, &Mask::of(batch, &[a, b], slot))?,
        Aggregate::Min(column) => least(wide(batch, column)?, &Mask::of(batch, &[column], slot), |v| v),
        Aggregate::Max(column) => least(wide(batch, column)?, &Mask::of(batch, &[column], slot), |v| !v).map(|v| !v),
    };
    *answer = match (*answer, part, aggregate) {
        (answer, None, _) => answer,
        (None, part, _) => part,
        (Some(a), Some(b), Aggregate::Min(_)) => Some(a.min(b)),
        (Some(a), Some(b), Aggregate::Max(_)) => Some(a.max(b)),
        (Some(a), Some(b), _) => Some(a.checked_add(b)?),
    };
    Some(())
}

/// The rows that count: live, and not NULL in any of the columns.
enum Mask {
    All,
    Words(Vec<u64>),
}

impl Mask {
    fn of(batch: &RecordBatch, columns: &[usize], slot: &Slot) -> Mask {
        let nulls = columns.iter().filter_map(|&column| batch.columns().get(column)?.nulls());
        let nulls: Vec<_> = nulls.filter(|nulls| nulls.null_count() > 0).collect();
        if slot.deleted.count() == 0 && nulls.is_empty() {
            return Mask::All;
        }
        let mut words = slot.deleted.live_words(slot.chunk.rows);
        for nulls in nulls {
            for (word, valid) in words.iter_mut().zip(nulls.inner().bit_chunks().iter_padded()) {
                *word &= valid;
            }
        }
        Mask::Words(words)
    }
}

/// An integer shifted to the unsigned range, which keeps the order and lets sums be made of unsigned halves.
fn biased(value: i64) -> u64 {
    (value as u64) ^ (1 << 63)
}

/// Sums the high and the low halves apart, which vectorises where a 128-bit sum does not. Up to 2^31 values.
fn sum(values: &[i64], mask: &Mask) -> Option<i128> {
    let (mut high, mut low, mut count) = (0u64, 0u64, 0u64);
    let mut dense = |values: &[i64]| {
        for &value in values {
            high += biased(value) >> 32;
            low += biased(value) & 0xffff_ffff;
        }
        count += values.len() as u64;
    };
    match mask {
        Mask::All => dense(values),
        Mask::Words(words) => {
            let (mut masked_high, mut masked_low, mut masked_count) = (0u64, 0u64, 0u64);
            for (values, &word) in values.chunks(64).zip(words) {
                match word {
                    0 => {}
                    u64::MAX => dense(values),
                    _ => {
                        for (bit, &value) in values.iter().enumerate() {
                            let keep = biased(value) & (word >> bit & 1).wrapping_neg();
                            masked_high += keep >> 32;
                            masked_low += keep & 0xffff_ffff;
                        }
                        masked_count += u64::from(word.count_ones());
                    }
                }
            }
            high += masked_high;
            low += masked_low;
            count += masked_count;
        }
    }
    let total = (i128::from(high) << 32) + i128::from(low) - (i128::from(count) << 63);
    (count > 0).then_some(total)
}

/// The sum of the products, `None` inside when no row counts; `None` when it is beyond 128 bits.
fn sum_product(a: &[i64], b: &[i64], mask: &Mask) -> Option<Option<i128>> {
    let dense = |total: i128, a: &[i64], b: &[i64]| {
        let mut products = a.iter().zip(b).map(|(&a, &b)| i128::from(a) * i128::from(b));
        products.try_fold(total, i128::checked_add)
    };
    let Mask::Words(words) = mask else { return Some((!a.is_empty()).then_some(dense(0, a, b)?)) };
    let (mut total, mut count) = (0i128, 0);
    for ((a, b), &word) in a.chunks(64).zip(b.chunks(64)).zip(words) {
        count += word.count_ones();
        if word == u64::MAX {
            total = dense(total, a, b)?;
        } else if word != 0 {
            for (bit, (&a, &b)) in a.iter().zip(b).enumerate() {
                let keep = i64::from(word >> bit & 1 == 1);
                total = total.checked_add(i128::from(a * keep) * i128::from(b))?;
            }
        }
    }
    Some((count > 0).then_some(total))
}

/// The least of `by(value)`; with `by` the bitwise complement, the complement of the greatest value.
fn least(values: &[i64], mask: &Mask, by: impl Fn(i64) -> i64) -> Option<i128> {
    let found = match mask {
        Mask::All => values.iter().map(|&value| by(value)).min(),
        Mask::Words(words) => {
            let mut least: Option<i64> = None;
            for (values, &word) in values.chunks(64).zip(words) {
                for (bit, &value) in values.iter().enumerate() {
                    if word >> bit & 1 == 1 {
                        least = Some(least.map_or(by(value), |least| least.min(by(value))));
                    }
                }
            }
            least
        }
    };
    found.map(i128::from)
}
