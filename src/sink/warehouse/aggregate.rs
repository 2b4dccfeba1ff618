//! Aggregates over the live rows of a table: the questions a dashboard asks, and the invariants of a workload.

use super::WarehouseError;
use super::chunk::Slot;
use super::columns::{IntegerColumn, TableShape};
use super::version::Version;
use crate::model::{ColumnType, TableId};
use arrow_array::{Array, RecordBatch};
use std::borrow::Cow;
use std::sync::Arc;

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
            let piece = Piece::of(slot)?;
            let sums = piece.sums_less_dead(aggregates);
            for ((answer, aggregate), sum) in answers.iter_mut().zip(aggregates).zip(sums) {
                add(answer, *aggregate, &piece, sum).ok_or_else(|| {
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

/// A chunk's rows, and which of them live: words of 64 rows each, none where all do.
struct Piece<'a> {
    slot: &'a Slot,
    batch: Arc<RecordBatch>,
    live: Option<Vec<u64>>,
}

/// If at most one row in so many is dead, a sum over all rows less those of the dead is cheaper than one under a mask.
const FEW_DEAD_PART: usize = 3;

impl Piece<'_> {
    fn of(slot: &Slot) -> Result<Piece<'_>, WarehouseError> {
        let live = (slot.deleted.count() > 0).then(|| slot.deleted.live_words(slot.chunk.rows));
        Ok(Piece { slot, batch: slot.chunk.batch()?, live })
    }

    /// Of each aggregate that is a sum over the live rows, and where few rows are dead, the sum: that of all rows less the dead ones.
    fn sums_less_dead(&self, aggregates: &[Aggregate]) -> Vec<Option<i128>> {
        let few = self.slot.deleted.count() * FEW_DEAD_PART <= self.slot.chunk.rows;
        let Some(live) = self.live.as_deref().filter(|_| few) else { return vec![None; aggregates.len()] };
        let mut sums: Vec<Option<LessDead<'_>>> =
            aggregates.iter().map(|aggregate| self.less_dead(*aggregate)).collect();
        if sums.iter().any(Option::is_some) {
            add_less_dead(live, &mut sums);
        }
        let count = self.slot.live() as u64;
        sums.into_iter().map(|sum| Some(sum?.total(count))).collect()
    }

    fn less_dead(&self, aggregate: Aggregate) -> Option<LessDead<'_>> {
        let Aggregate::Sum(column) = aggregate else { return None };
        let has_nulls = self.batch.columns().get(column)?.null_count() > 0;
        let values = self.wide(column)?;
        (!has_nulls).then(|| LessDead::new(values, is_narrow(self.slot, column)))
    }

    fn wide(&self, column: usize) -> Option<&[i64]> {
        match IntegerColumn::of(self.batch.columns().get(column)?)? {
            IntegerColumn::Wide(values) => Some(values),
            IntegerColumn::Days(_) => None,
        }
    }

    /// The rows that count: live, and not NULL in any of the columns.
    fn mask(&self, columns: &[usize]) -> Mask<'_> {
        let nulls = columns.iter().filter_map(|&column| self.batch.columns().get(column)?.nulls());
        let nulls: Vec<_> = nulls.filter(|nulls| nulls.null_count() > 0).collect();
        if nulls.is_empty() {
            return self.live.as_deref().map_or(Mask::All, |live| Mask::Words(Cow::Borrowed(live)));
        }
        let all_live = || self.slot.deleted.live_words(self.slot.chunk.rows);
        let mut words = self.live.clone().unwrap_or_else(all_live);
        for nulls in nulls {
            for (word, valid) in words.iter_mut().zip(nulls.inner().bit_chunks().iter_padded()) {
                *word &= valid;
            }
        }
        Mask::Words(Cow::Owned(words))
    }
}

/// Which rows count.
enum Mask<'a> {
    All,
    Words(Cow<'a, [u64]>),
}

/// Adds one chunk to an answer, `sum_known` if its sum is known already; `None` when the answer overflows.
fn add(answer: &mut Option<i128>, aggregate: Aggregate, piece: &Piece<'_>, sum_known: Option<i128>) -> Option<()> {
    let part = match aggregate {
        Aggregate::Count => return Some(()),
        Aggregate::Sum(_) if sum_known.is_some() => sum_known,
        Aggregate::Sum(column) => {
            let (values, mask) = (piece.wide(column)?, piece.mask(&[column]));
            if is_narrow(piece.slot, column) { sum::<Narrow>(values, &mask) } else { sum::<Halves>(values, &mask) }
        }
        Aggregate::SumProduct(a, b) => sum_product(piece.wide(a)?, piece.wide(b)?, &piece.mask(&[a, b]))?,
        Aggregate::Min(column) => least(piece.wide(column)?, &piece.mask(&[column]), |v| v),
        Aggregate::Max(column) => least(piece.wide(column)?, &piece.mask(&[column]), |v| !v).map(|v| !v),
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

/// An integer shifted to the unsigned range, which keeps the order and lets sums be made of unsigned halves.
fn biased(value: i64) -> u64 {
    (value as u64) ^ (1 << 63)
}

/// For every pattern of four bits, all ones where the bit is set: a mask for four values.
const MASKS: [[u64; 4]; 16] = {
    let mut masks = [[0; 4]; 16];
    let mut pattern = 0;
    while pattern < 64 {
        if pattern >> 2 >> (pattern & 3) & 1 == 1 {
            masks[pattern >> 2][pattern & 3] = u64::MAX;
        }
        pattern += 1;
    }
    masks
};

/// Whether the sum of any of the column's values in the chunk fits 64 bits, going by ranges that are known already.
fn is_narrow(slot: &Slot, column: usize) -> bool {
    let range = slot.chunk.known_ranges().and_then(|ranges| ranges.get(column).copied().flatten());
    let greatest = range.map(|(low, high)| low.unsigned_abs().max(high.unsigned_abs()));
    greatest.and_then(|greatest| greatest.checked_mul(slot.chunk.rows as u64)).is_some_and(|sum| sum <= i64::MAX as u64)
}

/// Sums in four lanes, which vectorise, with and without a mask, where a 128-bit sum does not.
trait Lanes: Default {
    fn add(&mut self, lane: usize, value: i64, mask: u64);
    /// Takes out a value that was added; in which lane does not matter to the total.
    fn take_out(&mut self, value: i64);
    /// The sum of what was added, given how many values were not masked out.
    fn total(&self, count: u64) -> i128;
}

/// The high and the low halves of biased values, summed apart. Right for up to 2^31 values.
#[derive(Default)]
struct Halves {
    high: [u64; 4],
    low: [u64; 4],
}

impl Lanes for Halves {
    #[inline]
    fn add(&mut self, lane: usize, value: i64, mask: u64) {
        let kept = biased(value) & mask;
        self.high[lane] = self.high[lane].wrapping_add(kept >> 32);
        self.low[lane] = self.low[lane].wrapping_add(kept & 0xffff_ffff);
    }

    #[inline]
    fn take_out(&mut self, value: i64) {
        self.high[0] = self.high[0].wrapping_sub(biased(value) >> 32);
        self.low[0] = self.low[0].wrapping_sub(biased(value) & 0xffff_ffff);
    }

    fn total(&self, count: u64) -> i128 {
        // A lane alone may have wrapped; 2^31 halves together do not.
        let sum = |lanes: &[u64; 4]| i128::from(lanes.iter().fold(0u64, |sum, &lane| sum.wrapping_add(lane)));
        (sum(&self.high) << 32) + sum(&self.low) - (i128::from(count) << 63)
    }
}

/// For values whose sum is known to fit.
#[derive(Default)]
struct Narrow([i64; 4]);

impl Lanes for Narrow {
    #[inline]
    fn add(&mut self, lane: usize, value: i64, mask: u64) {
        self.0[lane] = self.0[lane].wrapping_add(value & mask as i64);
    }

    #[inline]
    fn take_out(&mut self, value: i64) {
        self.0[0] = self.0[0].wrapping_sub(value);
    }

    fn total(&self, _: u64) -> i128 {
        i128::from(self.0.iter().fold(0i64, |sum, &lane| sum.wrapping_add(lane)))
    }
}

fn add_all<L: Lanes>(lanes: &mut L, values: &[i64]) {
    let (fours, rest) = values.as_chunks::<4>();
    fours.iter().for_each(|four| (0..4).for_each(|lane| lanes.add(lane, four[lane], u64::MAX)));
    rest.iter().for_each(|&value| lanes.add(0, value, u64::MAX));
}

/// The places of the set bits.
fn set_bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// Rows whose values fit the first-level cache.
const CACHED_ROWS: usize = 2_048;

/// A sum of all values so far, and of those taken out again.
enum LessDead<'a> {
    Narrow(&'a [i64], Narrow),
    Halves(&'a [i64], Halves),
}

impl<'a> LessDead<'a> {
    fn new(values: &'a [i64], narrow: bool) -> LessDead<'a> {
        if narrow { LessDead::Narrow(values, Narrow::default()) } else { LessDead::Halves(values, Halves::default()) }
    }

    fn add(&mut self, first: usize, dead: &[u16]) {
        match self {
            LessDead::Narrow(values, lanes) => add_block(lanes, values, first, dead),
            LessDead::Halves(values, lanes) => add_block(lanes, values, first, dead),
        }
    }

    fn total(self, count: u64) -> i128 {
        match self {
            LessDead::Narrow(_, lanes) => lanes.total(count),
            LessDead::Halves(_, lanes) => lanes.total(count),
        }
    }
}

/// Adds the block of values that begins at `first`, and takes out the `dead` ones, counted from there.
fn add_block<L: Lanes>(lanes: &mut L, values: &[i64], first: usize, dead: &[u16]) {
    let block = values.get(first..).unwrap_or_default();
    let block = block.get(..CACHED_ROWS).unwrap_or(block);
    add_all(lanes, block);
    // Bits behind the last row are clear, too, and there is nothing to take out.
    dead.iter().filter_map(|&row| block.get(usize::from(row))).for_each(|&value| lanes.take_out(value));
}

/// Block by block, so that the dead rows are found once for all sums and taken out while the values are in the cache.
fn add_less_dead(live: &[u64], sums: &mut [Option<LessDead<'_>>]) {
    let mut dead = [0u16; CACHED_ROWS];
    for (block, words) in live.chunks(CACHED_ROWS / 64).enumerate() {
        let mut count = 0;
        for (first, &word) in (0..).step_by(64).zip(words) {
            for bit in set_bits(!word) {
                dead[count] = first + bit as u16;
                count += 1;
            }
        }
        sums.iter_mut().flatten().for_each(|sum| sum.add(block * CACHED_ROWS, &dead[..count]));
    }
}

/// Of 64 rows, so many are cheaper to treat one by one than all of them under a mask.
const FEW: u32 = 20;

/// Adds up to 64 values, those with a set bit.
fn add_masked<L: Lanes>(lanes: &mut L, values: &[i64], word: u64) {
    if word.count_ones() <= FEW {
        set_bits(word).filter_map(|bit| values.get(bit)).for_each(|&value| lanes.add(0, value, u64::MAX));
        return;
    }
    let (fours, rest) = values.as_chunks::<4>();
    for (place, four) in fours.iter().enumerate() {
        let masks = &MASKS[(word >> (4 * place) & 15) as usize];
        (0..4).for_each(|lane| lanes.add(lane, four[lane], masks[lane]));
    }
    for (bit, &value) in rest.iter().enumerate() {
        lanes.add(0, value, (word >> (4 * fours.len() + bit) & 1).wrapping_neg());
    }
}

/// The sum of the values that count; `None` when none does.
fn sum<L: Lanes>(values: &[i64], mask: &Mask<'_>) -> Option<i128> {
    let mut lanes = L::default();
    let Mask::Words(words) = mask else {
        add_all(&mut lanes, values);
        return (!values.is_empty()).then(|| lanes.total(values.len() as u64));
    };
    let mut count = 0;
    for (values, &word) in values.chunks(64).zip(words.iter()) {
        match word {
            0 => {}
            u64::MAX => add_all(&mut lanes, values),
            _ => add_masked(&mut lanes, values, word),
        }
        count += u64::from(word.count_ones());
    }
    (count > 0).then(|| lanes.total(count))
}

/// The sum of the products, `None` inside when no row counts; `None` when it is beyond 128 bits.
fn sum_product(a: &[i64], b: &[i64], mask: &Mask<'_>) -> Option<Option<i128>> {
    let dense = |total: i128, a: &[i64], b: &[i64]| {
        let mut products = a.iter().zip(b).map(|(&a, &b)| i128::from(a) * i128::from(b));
        products.try_fold(total, i128::checked_add)
    };
    let Mask::Words(words) = mask else { return Some((!a.is_empty()).then_some(dense(0, a, b)?)) };
    let (mut total, mut count) = (0i128, 0);
    for ((a, b), &word) in a.chunks(64).zip(b.chunks(64)).zip(words.iter()) {
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
            for (values, &word) in values.chunks(64).zip(words.iter()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a sum value by value, with words that are empty, full, mixed, and cut off at the last row.
        #[test]
        fn a_masked_sum_is_the_sum_of_the_kept_values(
            values in prop::collection::vec(prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)], 0..300),
            words in prop::collection::vec(
                // Of few, of most and of half of the rows.
                prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a & b),
                    (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a | b)],
                5,
            ),
        ) {
            let mut words = words[..values.len().div_ceil(64)].to_vec();
            if let (Some(last), spare @ 1..) = (words.last_mut(), values.len() % 64) {
                *last &= (1 << spare) - 1;
            }
            let mask = Mask::Words(Cow::Borrowed(&words));
            let is_kept = |row: usize| words[row / 64] >> (row % 64) & 1 == 1;
            let by_value = |values: &[i64], is_kept: &dyn Fn(usize) -> bool| {
                let kept = values.iter().enumerate().filter(|&(row, _)| is_kept(row)).map(|(_, &v)| i128::from(v));
                kept.reduce(|a, b| a + b)
            };
            prop_assert_eq!(sum::<Halves>(&values, &mask), by_value(&values, &is_kept));
            prop_assert_eq!(sum::<Halves>(&values, &Mask::All), by_value(&values, &|_| true));
            let narrow: Vec<i64> = values.iter().map(|value| value >> 10).collect();
            prop_assert_eq!(sum::<Narrow>(&narrow, &mask), by_value(&narrow, &is_kept));
            prop_assert_eq!(sum::<Narrow>(&narrow, &Mask::All), by_value(&narrow, &|_| true));
            // Again and again, for more than one block.
            for times in [1, 20] {
                // A whole number of words, unless it is one time.
                let whole = if times == 1 { values.len() } else { values.len() / 64 * 64 };
                let (many, words) = (values[..whole].repeat(times), words[..whole.div_ceil(64)].repeat(times));
                let is_kept = |row: usize| words[row / 64] >> (row % 64) & 1 == 1;
                let narrow: Vec<i64> = many.iter().map(|value| value >> 10).collect();
                let mut sums = [None, Some(LessDead::new(&many, false)), Some(LessDead::new(&narrow, true))];
                add_less_dead(&words, &mut sums);
                let count = (0..whole * times).filter(|&row| is_kept(row)).count() as u64;
                let totals = sums.map(|sum| Some(sum?.total(count)));
                let expected = |values: &[i64]| Some(by_value(values, &is_kept).unwrap_or(0));
                prop_assert_eq!(totals, [None, expected(&many), expected(&narrow)]);
            }
        }
    }
}
