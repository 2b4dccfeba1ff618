//! One colour and one sign for each strategy, the same in every chart and on every page.

/// Strategies in the order of their colours; the style sheet has one for each, in both schemes.
const NAMES: [&str; 8] = [
    "control",
    "full-refresh",
    "incremental",
    "cdc-trigger",
    "cdc-log",
    "dual-write",
    "dual-write-versioned",
    "outbox",
];

/// How many colours there are.
pub const COLORS: usize = 12;

/// The colour of a strategy; those that are not known share the last ones by their name.
pub fn color_of(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).unwrap_or_else(|| {
        let sum: usize = name.bytes().map(usize::from).sum();
        NAMES.len() + sum % (COLORS - NAMES.len())
    })
}

/// The colour of the n-th of several things that are no strategies.
pub fn nth_color(n: usize) -> usize {
    const ORDER: [usize; 7] = [3, 1, 5, 2, 7, 4, 6];
    ORDER.get(n % ORDER.len()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_colour() {
        assert_eq!(color_of("cdc-trigger"), 3);
        assert!((8..COLORS).contains(&color_of("something new")));
        assert!(color_of("") < COLORS);
    }
}
