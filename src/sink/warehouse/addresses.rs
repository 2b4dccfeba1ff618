//! At which addresses of its table's address space a chunk's rows are.
//!
//! A row keeps its address for as long as it lives, through every merge: the key index need not hear of merges, and an
//! answer of it holds for every version that has the row. A merged chunk has its rows in the order of their addresses; where
//! dead rows were left out there are gaps, and a row's place is its rank among the addresses present: a bitmap with counts (as in
//! Jacobson, "Space-efficient static trees and graphs", 1989), 2 bits an address, or a sorted list where that is smaller.

use super::index::Address;

const WORD_BITS: u64 = u64::BITS as u64;
/// A bitmap over more addresses for each row than this takes more than the list.
const BITMAP_ADDRESSES_A_ROW_MAX: u64 = size_of::<Address>() as u64 * 8 * WORD_BITS / (size_of::<Word>() as u64 * 8);

/// The ascending addresses of a chunk's rows.
#[derive(Debug)]
pub(super) struct Addresses {
    start: Address,
    end: Address,
    gaps: Gaps,
}

#[derive(Debug)]
enum Gaps {
    None,
    /// A bit for each address from the start on.
    Bitmap(Vec<Word>),
    List(Vec<Address>),
}

#[derive(Clone, Copy, Debug)]
struct Word {
    present: u64,
    /// How many are present before this word.
    before: u64,
}

impl Addresses {
    /// `rows` addresses from `start` on.
    pub(super) fn from(start: Address, rows: usize) -> Addresses {
        Addresses { start, end: start + rows as Address, gaps: Gaps::None }
    }

    /// These addresses, which ascend.
    pub(super) fn of(ascending: Vec<Address>) -> Addresses {
        let (start, end) = ascending.first().zip(ascending.last()).map_or((0, 0), |(first, last)| (*first, last + 1));
        let (rows, span) = (ascending.len() as u64, end - start);
        let gaps = if span == rows {
            Gaps::None
        } else if span <= rows * BITMAP_ADDRESSES_A_ROW_MAX {
            Gaps::Bitmap(bitmap_of(&ascending, start, span))
        } else {
            Gaps::List(ascending)
        };
        Addresses { start, end, gaps }
    }

    /// The first row's.
    pub(super) fn start(&self) -> Address {
        self.start
    }

    /// The address behind the last row's.
    pub(super) fn end(&self) -> Address {
        self.end
    }

    /// Whether there is a row at each address from the start to the end.
    pub(super) fn is_gapless(&self) -> bool {
        matches!(self.gaps, Gaps::None)
    }

    /// The row at an address; `None` where there is none.
    pub(super) fn row_at(&self, address: Address) -> Option<usize> {
        if address < self.start || address >= self.end {
            return None;
        }
        let offset = address - self.start;
        match &self.gaps {
            Gaps::None => Some(offset as usize),
            Gaps::Bitmap(words) => {
                let word = words.get((offset / WORD_BITS) as usize)?;
                let bit = 1 << (offset % WORD_BITS);
                let smaller = (word.present & (bit - 1)).count_ones();
                (word.present & bit != 0).then_some(word.before as usize + smaller as usize)
            }
            Gaps::List(addresses) => addresses.binary_search(&address).ok(),
        }
    }

    /// Reads the word of the bitmap that [`Addresses::row_at`] will look at, if there is a bitmap.
    pub(super) fn touch(&self, address: Address) -> Option<u64> {
        match &self.gaps {
            Gaps::Bitmap(words) => Some(words.get((address.checked_sub(self.start)? / WORD_BITS) as usize)?.present),
            Gaps::None | Gaps::List(_) => None,
        }
    }

    /// All addresses, ascending.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = Address> + '_> {
        match &self.gaps {
            Gaps::None => Box::new(self.start..self.end),
            Gaps::Bitmap(words) => {
                Box::new((self.start..).step_by(WORD_BITS as usize).zip(words).flat_map(|(first, word)| {
                    (0..WORD_BITS).filter(|bit| word.present >> bit & 1 == 1).map(move |bit| first + bit)
                }))
            }
            Gaps::List(addresses) => Box::new(addresses.iter().copied()),
        }
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.gaps {
            Gaps::None => 0,
            Gaps::Bitmap(words) => words.capacity() * size_of::<Word>(),
            Gaps::List(addresses) => addresses.capacity() * size_of::<Address>(),
        }
    }
}

fn bitmap_of(ascending: &[Address], start: Address, span: u64) -> Vec<Word> {
    let mut words = vec![Word { present: 0, before: 0 }; span.div_ceil(WORD_BITS) as usize];
    for address in ascending {
        let offset = address - start;
        words[(offset / WORD_BITS) as usize].present |= 1 << (offset % WORD_BITS);
    }
    let mut before = 0;
    for word in &mut words {
        word.before = before;
        before += u64::from(word.present.count_ones());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check(addresses: &BTreeSet<Address>) {
        let ascending: Vec<Address> = addresses.iter().copied().collect();
        let made = Addresses::of(ascending.clone());
        assert!(made.iter().eq(ascending.iter().copied()));
        assert_eq!((made.start(), made.end()), (ascending[0], ascending[ascending.len() - 1] + 1));
        for (row, &address) in ascending.iter().enumerate() {
            assert_eq!(made.row_at(address), Some(row), "{made:?}");
            for near in [address.wrapping_sub(1), address + 1] {
                assert_eq!(made.row_at(near).is_some(), addresses.contains(&near), "{near} of {made:?}");
            }
        }
        assert!(made.memory_bytes() <= ascending.len() * 9 + 32, "{} bytes: {made:?}", made.memory_bytes());
    }

    #[test]
    fn addresses_without_a_gap_take_no_memory() {
        let made = Addresses::of((7..7_000).collect());
        assert_eq!((made.memory_bytes(), made.row_at(6), made.row_at(7), made.row_at(7_000)), (0, None, Some(0), None));
        assert!(made.iter().eq(Addresses::from(7, 6_993).iter()));
        assert_eq!(Addresses::of(Vec::new()).row_at(0), None);
    }

    #[test]
    fn words_and_their_ends() {
        check(&[64, 127, 128, 191, 193].into());
        check(&[0, 63].into());
        check(&(0..300).filter(|address| address % 3 != 1).collect());
    }

    proptest! {
        #[test]
        fn every_form_says_where_a_row_is(
            start in 0..1_000u64,
            steps in prop::collection::vec(prop_oneof![9 => 1..3u64, 1 => 1..200u64], 1..500),
            apart in prop_oneof![Just(1u64), Just(40), Just(100_000)],
        ) {
            let mut at = start;
            check(&steps.into_iter().map(|step| { at += step * apart; at }).collect());
        }
    }
}
