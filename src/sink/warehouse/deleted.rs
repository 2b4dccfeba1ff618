//! Which rows of a chunk are dead: a bitmap in small blocks that are copied only when they are written to.

use arrow_buffer::{BooleanBuffer, Buffer};
use std::sync::Arc;

const WORD_BITS: usize = 64;
const BLOCK_WORDS: usize = 128;
const BLOCK_BITS: usize = BLOCK_WORDS * WORD_BITS;

type Block = [u64; BLOCK_WORDS];

/// The dead rows of one chunk. A clone shares all blocks, so a published version costs nothing until the writer
/// marks a row: that copies the one block (1 KiB for 8,192 rows) the row is in. A set bit is a dead row.
#[derive(Clone, Debug, Default)]
pub(super) struct Deleted {
    count: usize,
    blocks: Arc<Vec<Option<Arc<Block>>>>,
}

impl Deleted {
    /// Marks `row` dead; `false` if it was dead already.
    pub(super) fn mark(&mut self, row: usize) -> bool {
        let place = row / BLOCK_BITS;
        let blocks = Arc::make_mut(&mut self.blocks);
        if place >= blocks.len() {
            blocks.resize(place + 1, None);
        }
        let block = Arc::make_mut(blocks[place].get_or_insert_with(|| Arc::new([0; BLOCK_WORDS])));
        let word = &mut block[row % BLOCK_BITS / WORD_BITS];
        let bit = 1 << (row % WORD_BITS);
        let was_live = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(was_live);
        was_live
    }

    /// The rows that died since `before`, each as its place among the rows that lived then.
    pub(super) fn since(&self, before: &Deleted) -> Vec<usize> {
        let (mut died, mut lived) = (Vec::new(), 0);
        for (place, block) in self.blocks.iter().enumerate() {
            let old = before.blocks.get(place).and_then(Option::as_ref);
            match block {
                Some(block) if !old.is_some_and(|old| Arc::ptr_eq(old, block)) => {
                    for (index, word) in block.iter().enumerate() {
                        let live = old.map_or(u64::MAX, |old| !old[index]);
                        let smaller = |bit: usize| (live & ((1 << bit) - 1)).count_ones() as usize;
                        died.extend(Bits(word & live).map(|bit| lived + smaller(bit)));
                        lived += live.count_ones() as usize;
                    }
                }
                _ => {
                    let dead: u32 = old.map_or(0, |old| old.iter().map(|word| word.count_ones()).sum());
                    lived += BLOCK_BITS - dead as usize;
                }
            }
        }
        died
    }

    /// Whether `row` is dead.
    pub(super) fn contains(&self, row: usize) -> bool {
        match self.blocks.get(row / BLOCK_BITS) {
            Some(Some(block)) => block[row % BLOCK_BITS / WORD_BITS] >> (row % WORD_BITS) & 1 == 1,
            _ => false,
        }
    }

    /// How many rows are dead.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// One bit a row of `rows`, set for live rows; bits behind the last row are clear.
    pub(super) fn live_words(&self, rows: usize) -> Vec<u64> {
        let mut words = vec![u64::MAX; rows.div_ceil(WORD_BITS)];
        for (place, block) in self.blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            let from = place * BLOCK_WORDS;
            for (word, dead) in words.iter_mut().skip(from).zip(block.iter()) {
                *word = !dead;
            }
        }
        if let (Some(last), spare @ 1..) = (words.last_mut(), rows % WORD_BITS) {
            *last &= (1 << spare) - 1;
        }
        words
    }

    /// The live rows as Arrow's mask for the filter kernels.
    pub(super) fn live_mask(&self, rows: usize) -> BooleanBuffer {
        BooleanBuffer::new(Buffer::from_vec(self.live_words(rows)), 0, rows)
    }

    /// The dead rows, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().enumerate().flat_map(|(place, block)| {
            let words = block.as_deref().map_or(&[][..], |block| &block[..]);
            words
                .iter()
                .enumerate()
                .flat_map(move |(index, &word)| Bits(word).map(move |bit| place * BLOCK_BITS + index * WORD_BITS + bit))
        })
    }

    /// Bytes of memory held by the blocks, shared or not.
    pub(super) fn memory_bytes(&self) -> usize {
        self.blocks.iter().flatten().count() * size_of::<Block>() + self.blocks.len() * size_of::<usize>()
    }
}

impl FromIterator<usize> for Deleted {
    fn from_iter<I: IntoIterator<Item = usize>>(rows: I) -> Deleted {
        let mut deleted = Deleted::default();
        for row in rows {
            deleted.mark(row);
        }
        deleted
    }
}

struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix64;

    #[test]
    fn marks_are_seen_by_the_writer_and_not_by_a_clone_made_before() {
        let mut now = Deleted::default();
        assert!(now.mark(3) && now.mark(20_000) && !now.mark(3));
        let before = now.clone();
        assert!(now.mark(4) && now.mark(8_192));
        assert_eq!(before.iter().collect::<Vec<_>>(), [3, 20_000]);
        assert_eq!(now.iter().collect::<Vec<_>>(), [3, 4, 8_192, 20_000]);
        assert_eq!((before.count(), now.count()), (2, 4));
        assert!(now.contains(4) && !before.contains(4) && !now.contains(1_000_000));
    }

    #[test]
    fn rows_that_died_since_are_counted_among_those_that_lived_then() {
        let rows = 40_000;
        let mut random = SplitMix64::new(1);
        for each in [3, 50, 20_000] {
            let mut before = Deleted::default();
            (0..rows).filter(|_| random.next_u64().is_multiple_of(3)).for_each(|row| _ = before.mark(row));
            let mut now = before.clone();
            assert_eq!(now.since(&before), Vec::<usize>::new());
            (0..rows).filter(|_| random.next_u64().is_multiple_of(each)).for_each(|row| _ = now.mark(row));
            let lived = (0..rows).filter(|&row| !before.contains(row)).enumerate();
            let died: Vec<usize> = lived.filter(|&(_, row)| now.contains(row)).map(|(place, _)| place).collect();
            assert_eq!(now.since(&before), died, "one in {each}");
            assert_eq!(now.since(&Deleted::default()), now.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn live_words_end_at_the_last_row() {
        let deleted: Deleted = [0, 65].into_iter().collect();
        assert_eq!(deleted.live_words(66), [u64::MAX - 1, 0b01]);
        assert_eq!(Deleted::default().live_words(64), [u64::MAX]);
        assert_eq!(deleted.live_mask(66).count_set_bits(), 64);
    }
}
