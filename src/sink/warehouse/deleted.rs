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

    /// All of `rows` rows dead.
    pub(super) fn all(rows: usize) -> Deleted {
        let block = |from: usize| {
            let mut block = [0; BLOCK_WORDS];
            for (place, word) in block.iter_mut().enumerate() {
                let left = rows.saturating_sub(from * BLOCK_BITS + place * WORD_BITS);
                *word = if left >= WORD_BITS { u64::MAX } else { (1 << left) - 1 };
            }
            Some(Arc::new(block))
        };
        Deleted { count: rows, blocks: Arc::new((0..rows.div_ceil(BLOCK_BITS)).map(block).collect()) }
    }

    /// Marks `row` live again; `false` if it is. Only for rows that a merge brings in, bit by bit.
    pub(super) fn revive(&mut self, row: usize) -> bool {
        let Some(Some(block)) = Arc::make_mut(&mut self.blocks).get_mut(row / BLOCK_BITS) else { return false };
        let word = &mut Arc::make_mut(block)[row % BLOCK_BITS / WORD_BITS];
        let bit = 1 << (row % WORD_BITS);
        let was_dead = *word & bit != 0;
        *word &= !bit;
        self.count -= usize::from(was_dead);
        was_dead
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
    fn rows_come_to_life_one_by_one() {
        for rows in [1, 64, 8_192, 10_000] {
            let mut deleted = Deleted::all(rows);
            assert!(deleted.iter().eq(0..rows) && deleted.count() == rows, "{rows} rows");
            let before = deleted.clone();
            assert!(deleted.revive(rows - 1) && !deleted.revive(rows - 1) && !deleted.revive(1_000_000));
            assert!(deleted.iter().eq(0..rows - 1) && deleted.count() == rows - 1 && before.count() == rows);
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
