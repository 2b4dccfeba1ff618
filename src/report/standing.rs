//! How a case stands against the record system, and whether it may be called the best at anything.
//!
//! The one place that decides: the terminal, `summary.md` and the page all ask here.

use super::result::Case;

/// How a case stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A promise was broken, or a difference could not be explained.
    Failed,
    /// The control run: nothing follows the source.
    Alone,
    /// Rows differ at the end, which the strategy does not rule out.
    Differs,
    /// The rows that changed were compared and are the same; of the others nothing is known.
    Partial,
    /// Every sink equals the record system, as the strategy promises, and none was seen to be wrong on the way.
    Equal,
    /// Every sink equals the record system, but that is not to be relied on.
    EqualThisTime {
        /// Times that a key was apart from the record system during the run; zero if it was not seen.
        diverged: u64,
        /// Whether a reader saw a part of a transaction, or a broken invariant.
        torn: bool,
        /// Whether the strategy promises equality at the end.
        promised: bool,
    },
}

impl Standing {
    /// Of a case.
    pub fn of(case: &Case) -> Standing {
        let validation = &case.validation;
        if !validation.passed {
            return Standing::Failed;
        }
        if case.name == "control" {
            return Standing::Alone;
        }
        if !validation.equal {
            return if validation.is_partial() { Standing::Partial } else { Standing::Differs };
        }
        let (diverged, torn) = (diverged(case), seen(case, "consistency.torn_reads"));
        let promised = validation.promise != "none";
        if promised && diverged == 0 && !torn {
            return Standing::Equal;
        }
        Standing::EqualThisTime { diverged, torn, promised }
    }

    /// Whether it may be marked the best at anything: only where equality is promised, was found, and was kept on the way.
    /// Being fast with rows that are right by chance is no merit.
    pub fn may_be_best(self) -> bool {
        self == Standing::Equal
    }

    /// In a few words.
    pub fn in_words(self) -> String {
        match self {
            Standing::Failed => "validation failed".to_owned(),
            Standing::Alone => "nothing follows".to_owned(),
            Standing::Differs => "differs from the source".to_owned(),
            Standing::Partial => "changed rows compared".to_owned(),
            Standing::Equal => "equals the source".to_owned(),
            Standing::EqualThisTime { .. } => {
                let but: Vec<String> = self.reservations();
                format!("equal this time; {}", but.join("; "))
            }
        }
    }

    /// What speaks against relying on rows that are equal at the end.
    pub fn reservations(self) -> Vec<String> {
        let Standing::EqualThisTime { diverged, torn, promised } = self else { return Vec::new() };
        let mut but = Vec::new();
        match diverged {
            0 => {}
            1 => but.push("diverged once".to_owned()),
            times => but.push(format!("diverged {} times", super::headline::count(times as f64))),
        }
        if torn {
            but.push("readers saw parts of transactions".to_owned());
        }
        if !promised {
            but.push("nothing promises it".to_owned());
        }
        but
    }
}

/// Times that a key was apart from the record system during the run.
fn diverged(case: &Case) -> u64 {
    let told: u64 = case
        .divergence
        .iter()
        .map(|sink| {
            sink.races_transient
                + sink.races_permanent
                + sink.partial_failures_transient
                + sink.partial_failures_permanent
        })
        .sum();
    // `divergence` is of one repetition; in another it may have been.
    if told == 0 && seen(case, "consistency.diverged") { 1 } else { told }
}

/// Whether a figure was above zero at any sink, in any repetition.
fn seen(case: &Case, id: &str) -> bool {
    let of = case.metrics.iter().filter(|metric| metric.id == id);
    of.flat_map(|metric| metric.value.iter().chain(&metric.reps)).any(|value| *value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::sample;
    use crate::report::result::SinkDivergence;

    fn case() -> Case {
        sample::run(&[("cdc-trigger", 0.1)]).strategies.remove(0)
    }

    #[test]
    fn only_promised_equality_that_held_all_along_may_be_best() {
        let good = case();
        assert!(Standing::of(&good).may_be_best());
        assert_eq!(Standing::of(&good).in_words(), "equals the source");

        // The dual write of the textbook: 19 races, all repaired by chance, and nothing promises that they are.
        let mut lucky = case();
        lucky.validation.promise = "none".to_owned();
        lucky.divergence = vec![SinkDivergence { races_transient: 19, ..SinkDivergence::default() }];
        assert!(!Standing::of(&lucky).may_be_best());
        assert_eq!(Standing::of(&lucky).in_words(), "equal this time; diverged 19 times; nothing promises it");

        // An incremental that lost no row this time.
        let mut cursor = case();
        cursor.validation.promise = "none".to_owned();
        assert!(!Standing::of(&cursor).may_be_best());
        assert_eq!(Standing::of(&cursor).in_words(), "equal this time; nothing promises it");

        // Promised at the end, and apart on the way: a versioned dual write whose search index was late.
        let mut versioned = case();
        versioned.divergence = vec![SinkDivergence { partial_failures_transient: 1, ..SinkDivergence::default() }];
        assert!(!Standing::of(&versioned).may_be_best());
        assert_eq!(Standing::of(&versioned).in_words(), "equal this time; diverged once");
    }

    #[test]
    fn another_repetition_or_a_torn_read_is_enough() {
        let mut torn = case();
        let mut metric = sample::metric("consistency.torn_reads", 0.0);
        metric.reps = vec![0.0, 0.0, 23.8];
        torn.metrics.push(metric);
        assert!(!Standing::of(&torn).may_be_best());
        let mut diverged = case();
        let mut metric = sample::metric("consistency.diverged", 0.0);
        metric.reps = vec![0.0, 12.0];
        diverged.metrics.push(metric);
        assert!(!Standing::of(&diverged).may_be_best());
        let mut failed = case();
        failed.validation.passed = false;
        assert_eq!(Standing::of(&failed), Standing::Failed);
        let mut differs = case();
        differs.validation.equal = false;
        assert_eq!(Standing::of(&differs), Standing::Differs);
    }
}
