//! Aggregates over the live rows of a table: the questions a dashboard asks, and the invariants of a workload.

use super::WarehouseError;
use super::chunk::Slot;
use super::columns::{IntegerColumn, TableShape};
use super::version::Version;
use crate::model::{ColumnType, TableId};
use arrow_array::{Array, RecordBatch};
use fearless_simd::{Level, dispatch};
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
            for (answer, aggregate) in answers.iter_mut().zip(aggregates) {
                add(answer, *aggregate, &piece).ok_or_else(|| {
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

impl Piece<'_> {
    fn of(slot: &Slot) -> Result<Piece<'_>, WarehouseError> {
        let live = (slot.deleted.count() > 0).then(|| slot.deleted.live_words(slot.chunk.rows));
        Ok(Piece { slot, batch: slot.chunk.batch()?, live })
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

/// Adds one chunk to an answer; `None` when the answer overflows.
fn add(answer: &mut Option<i128>, aggregate: Aggregate, piece: &Piece<'_>) -> Option<()> {
    let part = match aggregate {
        Aggregate::Count => return Some(()),
        Aggregate::Sum(column) => {
            let (values, mask) = (piece.wide(column)?, piece.mask(&[column]));
            match near(piece.slot, column) {
                Some(least) => sum::<true>(values, &mask, least),
                None => sum::<false>(values, &mask, 0),
            }
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

/// The exact sum of 64-bit values, made in four lanes, which vectorise with and without a mask where a 128-bit sum does not. It keeps
/// the sum modulo 2^64, and where the values are not [`near`] to each other the sum of their upper halves, from which that of
/// the lower halves follows. Right for up to 2^31 values. What is added one by one goes to a lane of its own, or the
/// compiler would take the four apart.
#[derive(Default)]
struct Sum<const NEAR: bool> {
    all: [u64; 4],
    upper: [u64; 4],
    all_single: u64,
    upper_single: u64,
}

/// The column's least value in the chunk, if the sum of the distances of all its values to that fits 64 bits, going by ranges that are known
/// already: then the rest modulo 2^64 says what the sum is.
fn near(slot: &Slot, column: usize) -> Option<i64> {
    let (least, greatest) = slot.chunk.known_ranges()?.get(column).copied().flatten()?;
    greatest.abs_diff(least).checked_mul(slot.chunk.rows as u64).map(|_| least)
}

impl<const NEAR: bool> Sum<NEAR> {
    /// Biased only where halves are summed: a sum modulo 2^64 has no sign.
    #[inline(always)]
    fn word(value: i64) -> u64 {
        if NEAR { value as u64 } else { biased(value) }
    }

    #[inline(always)]
    fn add_four(&mut self, values: [i64; 4], mask: [u64; 4]) {
        let kept: [u64; 4] = std::array::from_fn(|lane| Self::word(values[lane]) & mask[lane]);
        self.all = std::array::from_fn(|lane| self.all[lane].wrapping_add(kept[lane]));
        if !NEAR {
            self.upper = std::array::from_fn(|lane| self.upper[lane].wrapping_add(kept[lane] >> 32));
        }
    }

    #[inline(always)]
    fn add_single(&mut self, value: i64) {
        self.all_single = self.all_single.wrapping_add(Self::word(value));
        if !NEAR {
            self.upper_single = self.upper_single.wrapping_add(Self::word(value) >> 32);
        }
    }

    #[inline(always)]
    fn add_all(&mut self, values: &[i64]) {
        let (fours, rest) = values.as_chunks::<4>();
        for four in fours {
            self.add_four(*four, [u64::MAX; 4]);
        }
        for &value in rest {
            self.add_single(value);
        }
    }

    /// Adds up to 64 values, those with a set bit, one by one.
    #[inline(always)]
    fn add_few(&mut self, values: &[i64], word: u64) {
        for &value in set_bits(word).filter_map(|bit| values.get(bit)) {
            self.add_single(value);
        }
    }

    /// Adds 64 values, those with a set bit, without a branch for each.
    #[inline(always)]
    fn add_masked(&mut self, values: &[i64; 64], mut word: u64) {
        for four in values.as_chunks::<4>().0 {
            self.add_four(*four, MASKS[(word & 15) as usize]);
            word >>= 4;
        }
    }

    /// Adds the values with a set bit, a word for each 64.
    #[inline(always)]
    fn add_kept(&mut self, values: &[i64], words: &[u64], is_few: bool) {
        let (whole, rest) = values.as_chunks::<64>();
        for (values, &word) in whole.iter().zip(words) {
            match word {
                0 => {}
                u64::MAX => self.add_all(values),
                _ if is_few => self.add_few(values, word),
                _ => self.add_masked(values, word),
            }
        }
        if let Some(&word) = words.get(whole.len()) {
            self.add_few(rest, word);
        }
    }

    /// The sum of what was added, given how many values were not masked out, and the least value if they are near to each other.
    fn total(&self, count: u64, least: i64) -> i128 {
        let all = self.all.iter().fold(self.all_single, |sum, &lane| sum.wrapping_add(lane));
        // What the sum is at the least; it is less than 2^64 more.
        let (known, bias) = if NEAR {
            (i128::from(least) * i128::from(count), 0)
        } else {
            let upper = self.upper.iter().fold(self.upper_single, |sum, lane| sum + lane);
            (i128::from(upper) << 32, i128::from(count) << 63)
        };
        known + i128::from(all.wrapping_sub(known as u64)) - bias
    }
}

/// Where fewer than one in so many rows counts, they are cheaper added one by one than all of them under a mask.
const FEW: u64 = 16;

/// The places of the set bits.
fn set_bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// The sum of the values that count; `None` when none does.
fn sum<const NEAR: bool>(values: &[i64], mask: &Mask<'_>, least: i64) -> Option<i128> {
    let (sum, count) = added::<NEAR>(Level::new(), values, mask);
    (count > 0).then(|| sum.total(count, least))
}

/// The adding, compiled for each width of registers that a processor may have: so a masked sum is bound by the memory, as a whole one
/// is, and not by the instructions. Also how many values were added. All that it calls is always inlined, or it would be compiled
/// once, for the narrowest.
fn added<const NEAR: bool>(level: Level, values: &[i64], mask: &Mask<'_>) -> (Sum<NEAR>, u64) {
    dispatch!(level, _ => {
        let mut sum = Sum::<NEAR>::default();
        let mut count = values.len() as u64;
        match mask {
            Mask::All => sum.add_all(values),
            Mask::Words(words) => {
                count = words.iter().map(|word| u64::from(word.count_ones())).sum();
                sum.add_kept(values, words, count < values.len() as u64 / FEW);
            }
        }
        (sum, count)
    })
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
            least in any::<i64>(),
            words in prop_oneof![
                // Of few, of most and of half of the rows.
                prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX),
                    (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a & b),
                    (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a | b)], 5),
                // Of so few that they are added one by one.
                prop::collection::vec((0..64u32).prop_map(|bit| 1 << bit), 5),
            ],
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
            prop_assert_eq!(sum::<false>(&values, &mask, 0), by_value(&values, &is_kept));
            prop_assert_eq!(sum::<false>(&values, &Mask::All, 0), by_value(&values, &|_| true));
            // Near to each other, anywhere: with the greatest distance that is allowed for so many, and all that lie between.
            let span = u64::MAX / values.len().max(1) as u64;
            let least = least.min(i64::MAX.wrapping_sub_unsigned(span));
            let distance = |value: i64| if value == i64::MAX { span } else { biased(value) % span };
            let near: Vec<i64> = values.iter().map(|&value| least.wrapping_add_unsigned(distance(value))).collect();
            prop_assert_eq!(sum::<true>(&near, &mask, least), by_value(&near, &is_kept));
            prop_assert_eq!(sum::<true>(&near, &Mask::All, least), by_value(&near, &|_| true));
            for level in crate::sink::warehouse::columns::levels() {
                let (sum, count) = added::<false>(level, &values, &mask);
                prop_assert_eq!(sum.total(count, 0), by_value(&values, &is_kept).unwrap_or(0));
                let (sum, count) = added::<true>(level, &near, &mask);
                prop_assert_eq!(sum.total(count, least), by_value(&near, &is_kept).unwrap_or(0));
                let (sum, count) = added::<true>(level, &near, &Mask::All);
                prop_assert_eq!(sum.total(count, least), by_value(&near, &|_| true).unwrap_or(0));
            }
        }
    }
}
