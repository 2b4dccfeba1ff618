//! Seeded random numbers: xoshiro256++ (Blackman and Vigna 2019), seeded by splitmix64.
//!
//! A stream is named by (seed, purpose, index), so what one row or transaction draws does not depend on which
//! thread makes it, nor on what was drawn before it.

/// What a stream of random numbers is for; streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Purpose {
    Arrivals = 1,
    Transactions = 2,
    Customers = 3,
    Products = 4,
    Orders = 5,
    Notes = 6,
    OpenOrders = 7,
    Records = 8,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: [u64; 4],
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of splitmix64: a bijection that spreads every bit.
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One number out of (seed, purpose, index), where a whole stream would be too much.
pub(super) fn draw(seed: u64, purpose: Purpose, index: u64) -> u64 {
    Family::new(seed, purpose).draw(index)
}

/// All streams of one seed and purpose: the part of their name that does not change is mixed once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    named: u64,
}

impl Family {
    pub(super) fn new(seed: u64, purpose: Purpose) -> Family {
        let named = mix(seed.wrapping_add(GOLDEN_GAMMA)) ^ (purpose as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        Family { named: mix(named) }
    }

    fn draw(self, index: u64) -> u64 {
        mix(self.named.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
    }

    /// The stream with this index.
    #[inline]
    pub(super) fn stream(self, index: u64) -> Random {
        Random::from_start(self.draw(index))
    }
}

/// The letters of [`Random::text`], two for each number of twelve bits, lower six bits first.
static LETTER_PAIRS: [[u8; 2]; 4096] = letter_pairs();

const fn letter_pairs() -> [[u8; 2]; 4096] {
    const LETTERS: [u8; 64] = *b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";
    let mut pairs = [[0; 2]; 4096];
    let mut place = 0;
    while place < pairs.len() {
        pairs[place] = [LETTERS[place % 64], LETTERS[place / 64]];
        place += 1;
    }
    pairs
}

impl Random {
    /// The stream with this name.
    pub(super) fn new(seed: u64, purpose: Purpose, index: u64) -> Random {
        Family::new(seed, purpose).stream(index)
    }

    fn from_start(start: u64) -> Random {
        let mut state = start;
        let mut next = || {
            state = state.wrapping_add(GOLDEN_GAMMA);
            mix(state)
        };
        // Four successive outputs of splitmix64 are never all zero, the one state xoshiro must not have.
        Random { state: [next(), next(), next(), next()] }
    }

    /// 64 random bits.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let t = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= t;
        *s3 = s3.rotate_left(45);
        result
    }

    /// Uniform in `[0, 1)`, in steps of 2^-53.
    #[inline]
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n` (0 for `n` = 0): Lemire's multiplication with rejection, so without bias.
    #[inline]
    pub(super) fn below(&mut self, n: u64) -> u64 {
        let mut product = u128::from(self.next()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n.max(1);
            while (product as u64) < threshold {
                product = u128::from(self.next()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// Uniform in `low..=high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// `length` letters, digits, spaces and full stops, ten out of each random number.
    pub(super) fn text(&mut self, length: usize) -> Box<str> {
        let ten = |ten: &mut [u8], bits: u64| {
            for (place, pair) in ten.chunks_mut(2).enumerate() {
                let letters = LETTER_PAIRS[(bits >> (12 * place)) as usize & 4095];
                pair.copy_from_slice(letters.get(..pair.len()).unwrap_or_default());
            }
        };
        let mut bytes = vec![0; length];
        let mut tens = bytes.chunks_exact_mut(10);
        for chunk in &mut tens {
            ten(chunk, self.next());
        }
        // Drawn even where nothing is left, since what is drawn next depends on it.
        ten(tens.into_remainder(), self.next());
        // Every byte is ASCII; the lossy way is taken only to be free of a panic.
        String::from_utf8(bytes).unwrap_or_default().into_boxed_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_and_xoshiro_give_the_published_numbers() {
        // splitmix64 from state 0, as its authors' C program prints it.
        assert_eq!(mix(GOLDEN_GAMMA), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(GOLDEN_GAMMA.wrapping_mul(2)), 0x6e78_9e6a_a1b9_65f4);
        // xoshiro256++ from state 1, 2, 3, 4: the first outputs, the first by hand: rotl(1 + 4, 23) + 1.
        let mut random = Random { state: [1, 2, 3, 4] };
        assert_eq!(random.next(), (5 << 23) + 1);
        assert_eq!(random.next(), 58_720_359);
        assert_eq!(random.next(), 3_588_806_011_781_223);
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut random = Random::new(42, Purpose::Orders, 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[random.below(7) as usize] += 1;
        }
        // Chi-square, 6 degrees of freedom: 22.5 is passed by one seed in a thousand.
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi < 22.5, "chi-square {chi}, counts {counts:?}");
        assert_eq!((random.below(0), random.below(1)), (0, 0));
        assert!((0..1000).all(|_| (3..=5).contains(&random.between(3, 5))));
    }

    #[test]
    fn streams_are_told_apart_by_each_part_of_their_name() {
        let first = |seed, purpose, index| Random::new(seed, purpose, index).next();
        let base = first(1, Purpose::Orders, 1);
        assert_eq!(base, first(1, Purpose::Orders, 1));
        assert_ne!(base, first(2, Purpose::Orders, 1));
        assert_ne!(base, first(1, Purpose::Notes, 1));
        assert_ne!(base, first(1, Purpose::Orders, 2));
    }

    #[test]
    fn text_has_the_length_asked_for() {
        let mut random = Random::new(1, Purpose::Notes, 0);
        for length in [0, 1, 9, 10, 11, 100] {
            assert_eq!(random.text(length).len(), length);
        }
        // A letter for six bits each, the lowest first, and one number more than whole tens.
        let (mut text, mut numbers) = (Random::new(2, Purpose::Notes, 0), Random::new(2, Purpose::Notes, 0));
        let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";
        let bits = [numbers.next(), numbers.next(), numbers.next()];
        let expected = (0..27).map(|place| char::from(letters[(bits[place / 10] >> (6 * (place % 10))) as usize % 64]));
        assert_eq!(*text.text(27), expected.collect::<String>());
        assert_eq!(text.next(), numbers.next());
    }
}
