//! A histogram of durations that keeps count of what it could not hold exactly.

use super::nanos;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use std::fmt;
use std::time::Duration;

/// The longest duration a histogram holds: one hour. Longer ones are counted at it.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// The longest text [`Histogram::decode`] takes, in bytes.
const ENCODED_BYTES_MAX: usize = 16 << 20;

/// Durations in nanoseconds from 0 to one hour, to three significant digits (an HdrHistogram).
///
/// Recording never fails and never panics. What does not fit is held at the end of the range and counted beside:
/// longer than [`LONGEST`] in [`Histogram::saturated`], below zero in [`Histogram::negative`]. Right-censored
/// values are recorded at the length observed so far and counted in [`Histogram::censored`]. Mean, smallest and
/// largest are exact (also beyond an hour); quantiles are exact to 0.1 %.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: hdrhistogram::Histogram<u64>,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
    censored: u64,
    negative: u64,
    saturated: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Histogram {
        #[expect(clippy::expect_used, reason = "the bounds are constants that the crate accepts, as every test shows")]
        let counts = hdrhistogram::Histogram::new_with_bounds(1, nanos(LONGEST), 3)
            .expect("1 ns to 1 h with 3 digits are valid bounds");
        Histogram { counts, sum_ns: 0, min_ns: u64::MAX, max_ns: 0, censored: 0, negative: 0, saturated: 0 }
    }

    /// Counts one duration.
    pub fn record(&mut self, length: Duration) {
        let ns = nanos(length);
        if length > LONGEST {
            self.saturated += 1;
        }
        self.counts.saturating_record(ns);
        self.sum_ns += u128::from(ns);
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Counts a value of which only is known that it is at least `observed`.
    pub fn record_censored(&mut self, observed: Duration) {
        self.censored += 1;
        self.record(observed);
    }

    /// Counts a value below zero, as zero.
    pub fn record_negative(&mut self) {
        self.negative += 1;
        self.record(Duration::ZERO);
    }

    /// Adds everything that `other` counted.
    pub fn merge(&mut self, other: &Histogram) {
        // Fails only for a decoded one of a foreign, wider range: then value by value, held to this range.
        if self.counts.add(&other.counts).is_err() {
            for value in other.counts.iter_recorded() {
                self.counts.saturating_record_n(value.value_iterated_to(), value.count_at_value());
            }
        }
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.censored += other.censored;
        self.negative += other.negative;
        self.saturated += other.saturated;
    }

    /// How many values, of every kind.
    pub fn len(&self) -> u64 {
        self.counts.len()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them are right-censored.
    pub fn censored(&self) -> u64 {
        self.censored
    }

    /// How many of them were below zero.
    pub fn negative(&self) -> u64 {
        self.negative
    }

    /// How many of them were longer than [`LONGEST`].
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// The value at quantile `q` in `0..=1` by nearest rank, to 0.1 %; `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.is_empty() {
            return None;
        }
        let ns = self.counts.value_at_quantile(q.clamp(0.0, 1.0));
        Some(Duration::from_nanos(ns.clamp(self.min_ns, self.max_ns)))
    }

    /// How many of them are at most `length`, to 0.1 % of it.
    pub fn count_at_most(&self, length: Duration) -> u64 {
        self.counts.count_between(0, nanos(length))
    }

    /// The sum of them, in seconds; exact, but for what [`Histogram::decode`] gives.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// The exact mean; `None` when empty.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.sum_ns.checked_div(u128::from(self.len()))?;
        Some(Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The exact smallest value; `None` when empty.
    pub fn min(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.min_ns))
    }

    /// The exact largest value; `None` when empty.
    pub fn max(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.max_ns))
    }

    /// The counts as HdrHistogram V2, deflated, in base64: `"hdr-v2-deflate-base64"` of a result file.
    /// The counts beside (censored, negative, saturated) are not in it.
    ///
    /// # Errors
    /// [`HistogramError`] when the serializer fails.
    pub fn encode(&self) -> Result<String, HistogramError> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.counts, &mut bytes)
            .map_err(|cause| HistogramError::Encode { cause: Box::new(cause) })?;
        Ok(STANDARD.encode(bytes))
    }

    /// Reads what [`Histogram::encode`] wrote. Mean, smallest and largest are then those of the counts, to 0.1 %.
    ///
    /// # Errors
    /// [`HistogramError`] when `text` is too long, not base64, or not such a histogram.
    pub fn decode(text: &str) -> Result<Histogram, HistogramError> {
        if text.len() > ENCODED_BYTES_MAX {
            return Err(HistogramError::TooLong { bytes: text.len() });
        }
        let decode = |cause: Box<dyn std::error::Error + Send + Sync>| HistogramError::Decode { cause };
        let bytes = STANDARD.decode(text).map_err(|cause| decode(Box::new(cause)))?;
        let counts: hdrhistogram::Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|cause| decode(Box::new(cause)))?;
        let mut histogram = Histogram::new();
        if !counts.is_empty() {
            histogram.min_ns = counts.min();
            histogram.max_ns = counts.max();
            histogram.sum_ns = (counts.mean() * counts.len() as f64) as u128;
        }
        histogram.counts = counts;
        Ok(histogram)
    }
}

/// What went wrong with an encoded histogram.
#[derive(Debug)]
#[non_exhaustive]
pub enum HistogramError {
    /// The serializer failed.
    Encode {
        /// Why.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The text is not an encoded histogram.
    Decode {
        /// Why.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The text is longer than any histogram of this program.
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl fmt::Display for HistogramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HistogramError::Encode { .. } => f.write_str("encoding a histogram failed; please report it as a bug"),
            HistogramError::Decode { .. } => f.write_str(
                "decoding a histogram failed: the text is not hdr-v2-deflate-base64; is the result file damaged?",
            ),
            HistogramError::TooLong { bytes } => write!(
                f,
                "decoding a histogram failed: {bytes} bytes are more than the limit of {ENCODED_BYTES_MAX}; is the result file damaged?"
            ),
        }
    }
}

impl std::error::Error for HistogramError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HistogramError::Encode { cause } | HistogramError::Decode { cause } => Some(cause.as_ref()),
            HistogramError::TooLong { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn near(seen: Option<Duration>, wanted: Duration) -> bool {
        seen.is_some_and(|seen| (seen.as_secs_f64() / wanted.as_secs_f64() - 1.0).abs() <= 0.001)
    }

    #[test]
    fn the_quantiles_of_one_to_a_thousand() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|n| histogram.record(ms(n)));
        assert!(near(histogram.quantile(0.5), ms(500)), "{:?}", histogram.quantile(0.5));
        assert!(near(histogram.quantile(0.9), ms(900)));
        assert!(near(histogram.quantile(0.99), ms(990)));
        assert!(near(histogram.quantile(0.999), ms(999)));
        assert_eq!(histogram.mean(), Some(Duration::from_micros(500_500)));
        assert_eq!((histogram.min(), histogram.max()), (Some(ms(1)), Some(ms(1000))));
    }

    #[test]
    fn an_empty_one_has_no_figures() {
        let histogram = Histogram::new();
        assert!(histogram.is_empty());
        assert_eq!(histogram.quantile(0.5), None);
        assert_eq!((histogram.mean(), histogram.min(), histogram.max()), (None, None, None));
    }

    #[test]
    fn the_ends_of_the_range_are_held_and_counted() {
        let mut histogram = Histogram::new();
        histogram.record(Duration::ZERO);
        histogram.record(LONGEST);
        histogram.record(LONGEST * 5);
        histogram.record(Duration::MAX);
        histogram.record_negative();
        histogram.record_censored(ms(3));
        assert_eq!(histogram.len(), 6);
        assert_eq!((histogram.saturated(), histogram.negative(), histogram.censored()), (2, 1, 1));
        assert_eq!(histogram.quantile(0.0), Some(Duration::ZERO));
        assert_eq!(histogram.max(), Some(Duration::from_nanos(u64::MAX)));
    }

    #[test]
    fn merging_two_halves_gives_the_whole() {
        let (mut whole, mut odd, mut even) = (Histogram::new(), Histogram::new(), Histogram::new());
        for n in 1..=501 {
            whole.record(ms(n));
            if n % 2 == 1 { odd.record(ms(n)) } else { even.record(ms(n)) }
        }
        odd.record_censored(ms(9000));
        whole.record_censored(ms(9000));
        even.merge(&odd);
        assert_eq!(even.counts, whole.counts);
        assert_eq!((even.mean(), even.min(), even.max()), (whole.mean(), whole.min(), whole.max()));
        assert_eq!(even.censored(), 1);
        even.merge(&Histogram::new());
        assert_eq!((even.len(), even.min()), (502, Some(ms(1))));
    }

    #[test]
    fn an_encoded_one_comes_back() -> Result<(), HistogramError> {
        let mut histogram = Histogram::new();
        (1..=300).for_each(|n| histogram.record(ms(n * n)));
        let text = histogram.encode()?;
        // The cookie of a deflated V2 histogram, as every HdrHistogram tool shows it.
        assert!(text.starts_with("HISTFAAA"), "{text}");
        let back = Histogram::decode(&text)?;
        assert_eq!(back.counts, histogram.counts);
        assert!(near(back.mean(), histogram.mean().unwrap_or_default()));
        assert!(Histogram::decode(&Histogram::new().encode()?)?.is_empty());
        assert!(matches!(Histogram::decode("!"), Err(HistogramError::Decode { .. })));
        assert!(matches!(Histogram::decode("AAAA"), Err(HistogramError::Decode { .. })));
        assert!(matches!(Histogram::decode(&"A".repeat(17 << 20)), Err(HistogramError::TooLong { .. })));
        Ok(())
    }
}
