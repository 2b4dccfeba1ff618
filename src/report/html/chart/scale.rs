//! From a value to its place along an axis, and where an axis has its ticks.

/// How values are laid along an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Equal steps.
    Linear {
        /// The value at the axis' begin.
        low: f64,
        /// The value at its end.
        high: f64,
    },
    /// Equal factors.
    Log {
        /// The value at the axis' begin, above zero.
        low: f64,
        /// The value at its end.
        high: f64,
    },
    /// Shares by `log(1 / (1 - p))`: the same length for 90 %, 99 %, 99.9 %.
    Nines {
        /// How many nines the axis holds.
        most: f64,
    },
}

impl Scale {
    /// A linear axis from 0 that has room for all values.
    pub fn from_zero(values: impl Iterator<Item = f64>) -> Scale {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        Scale::Linear { low: 0.0, high: if most > 0.0 { most * 1.04 } else { 1.0 } }
    }

    /// A linear axis around all values.
    pub fn around(values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = ends(values).unwrap_or((0.0, 1.0));
        let room = match high - low {
            0.0 if high == 0.0 => 1.0,
            // One value alone gets room by its own size, so that a time of some ms does not lie in a whole second.
            0.0 => high.abs() * 0.5,
            span => span * 0.05,
        };
        Scale::Linear { low: low - room, high: high + room }
    }

    /// A logarithmic axis of whole decades around all values above zero, not below `least`.
    pub fn decades(values: impl Iterator<Item = f64>, least: f64) -> Scale {
        let (low, high) = ends(values.filter(|value| *value > 0.0)).unwrap_or((1e-3, 1.0));
        let low = 10f64.powf(low.max(least).log10().floor());
        let high = 10f64.powf(high.max(low).log10().ceil());
        Scale::Log { low, high: if high > low { high } else { low * 10.0 } }
    }

    /// A logarithmic axis that is a little longer than the values are.
    pub fn factors(values: impl Iterator<Item = f64>, least: f64) -> Scale {
        let (low, high) = ends(values.filter(|value| *value > 0.0)).unwrap_or((1e-3, 1.0));
        let low = low.max(least);
        let room = (high.max(low) / low).powf(0.08).max(1.25);
        Scale::Log { low: low / room, high: high.max(low) * room }
    }

    /// Where a value is, from 0 to 1; what does not fit is put at the end.
    pub fn place(self, value: f64) -> f64 {
        let place = match self {
            Scale::Linear { low, high } => (value - low) / (high - low),
            Scale::Log { low, high } => (value.max(low) / low).ln() / (high / low).ln(),
            Scale::Nines { most } => -(1.0 - value).max(1e-12).log10() / most,
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// At most about `wanted` ticks at round values.
    pub fn ticks(self, wanted: usize) -> Vec<f64> {
        let wanted = wanted.max(2);
        match self {
            Scale::Linear { low, high } => linear_ticks(low, high, wanted),
            Scale::Log { low, high } => log_ticks(low, high, wanted),
            Scale::Nines { most } => {
                let ticks = (0..=most.floor() as i32).map(|nines| 1.0 - 10f64.powi(-nines));
                ticks.collect()
            }
        }
    }
}

fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

fn linear_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let rough = (high - low) / wanted as f64;
    if !rough.is_finite() || rough <= 0.0 {
        return vec![low];
    }
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * unit).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(unit * 10.0);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last.min(first + 100)).map(|n| n as f64 * step).collect()
}

fn log_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let (first, last) = ((low.log10() - 1e-9).ceil() as i32, (high.log10() + 1e-9).floor() as i32);
    let decades = (last - first + 1).max(0) as usize;
    if decades < 3 {
        let between = (first - 1..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power)));
        let inside: Vec<f64> = between.filter(|tick| *tick >= low * 0.999 && *tick <= high * 1.001).collect();
        // A single tick says nothing of an axis: its ends do.
        return if inside.len() >= 2 { inside } else { vec![low, high] };
    }
    let step = decades.div_ceil(wanted).max(1);
    (first..=last).step_by(step).map(|power| 10f64.powi(power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_from_the_definition() {
        assert_eq!(Scale::Linear { low: 0.0, high: 4.0 }.place(1.0), 0.25);
        let log = Scale::Log { low: 0.001, high: 10.0 };
        assert!((log.place(0.1) - 0.5).abs() < 1e-12);
        assert_eq!((log.place(0.0), log.place(99.0)), (0.0, 1.0));
        let nines = Scale::Nines { most: 4.0 };
        assert!((nines.place(0.99) - 0.5).abs() < 1e-9);
        assert_eq!((nines.place(0.0), nines.place(1.0)), (0.0, 1.0));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Scale::Linear { low: 0.0, high: 8.0 }.ticks(4), [0.0, 2.0, 4.0, 6.0, 8.0]);
        let ticks = Scale::Log { low: 1e-4, high: 10.0 }.ticks(8);
        assert_eq!(ticks.len(), 6);
        assert!((ticks[1] - 1e-3).abs() < 1e-12);
        assert_eq!(Scale::Log { low: 1e-6, high: 100.0 }.ticks(4).len(), 3);
        let close = Scale::Log { low: 3.0, high: 12.0 }.ticks(5);
        assert_eq!(close.len(), 2);
        let nines = Scale::Nines { most: 3.5 }.ticks(5);
        assert_eq!(nines.iter().map(|p| (p * 1000.0).round()).collect::<Vec<_>>(), [0.0, 900.0, 990.0, 999.0]);
    }

    #[test]
    fn strange_values_make_no_strange_axis() {
        let odd = [f64::NAN, f64::INFINITY];
        assert_eq!(Scale::from_zero(odd.into_iter()), Scale::Linear { low: 0.0, high: 1.0 });
        assert!(Scale::decades(odd.into_iter(), 1e-6).ticks(5).len() >= 2);
        let point = Scale::around([5.0].into_iter());
        assert!(point.place(5.0) > 0.4 && point.place(5.0) < 0.6);
        assert_eq!(point.place(f64::NAN), 0.0);
    }
}
