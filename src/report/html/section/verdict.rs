//! What came out: the validation first, then one sentence a strategy.

use super::section;
use crate::report::html::block::{Block, Item, Section};
use crate::report::html::palette::color_of;
use crate::report::result::{Case, RunResult};
use crate::report::standing::Standing;

/// What must be said before any figure.
pub fn alarms(run: &RunResult) -> Vec<String> {
    let mut alarms: Vec<String> = Vec::new();
    for case in run.strategies.iter().filter(|case| !case.validation.passed) {
        alarms.push(format!(
            "VALIDATION FAILED in {}: {}: {}. Its figures are not worth comparing.",
            run.run_id,
            case.name,
            case.validation.failures.join("; ")
        ));
    }
    alarms.extend(run.caveats().map(|caveat| format!("CAUTION in {}: {caveat}.", run.run_id)));
    if !run.complete {
        alarms.push(format!(
            "{} is INCOMPLETE: it was interrupted or is still going on; this page holds the cases that had finished.",
            run.run_id
        ));
    }
    alarms
}

/// How a case stands, in a few words, and the class that shows it.
pub fn standing(case: &Case) -> (&'static str, String) {
    let standing = Standing::of(case);
    let class = match standing {
        Standing::Failed => "failed",
        Standing::Alone | Standing::Partial => "plain",
        Standing::Equal => "good",
        Standing::Differs | Standing::EqualThisTime { .. } => "differs",
    };
    (class, standing.in_words())
}

/// The section.
pub fn verdict(run: &RunResult, prefix: &str) -> Section {
    let mut items: Vec<Item> = Vec::new();
    for failed in [true, false] {
        items.extend(run.strategies.iter().filter(|case| case.validation.passed != failed).map(|case| {
            let (class, badge) = standing(case);
            Item {
                color: Some(color_of(&case.name)),
                term: case.name.clone(),
                class,
                badge,
                text: case.sentence.replace(" us ", " µs "),
            }
        }));
    }
    section(prefix, "verdict", "Verdict", "What came out", vec![Block::Items(items)])
}
