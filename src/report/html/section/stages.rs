//! The stages of the commit lag, as bars.

use super::{followers, in_full, section};
use crate::report::html::block::{Block, Row, Section, Table, View};
use crate::report::html::chart::{Bar, Bars, Part};
use crate::report::html::say;
use crate::report::result::{Case, RunResult};

const STAGES: [&str; 5] = ["capture", "queue", "transform", "apply", "publish"];

/// The mean of each stage of a case at a sink, in seconds; none where it was not measured.
fn means(case: &Case, sink: &str) -> Option<Vec<f64>> {
    STAGES.iter().map(|stage| case.metric_at(&format!("stage.{stage}.mean"), Some(sink))?.value).collect()
}

/// The section; none where no strategy has stages.
pub fn stages(run: &RunResult, prefix: &str) -> Option<Section> {
    let mut bars = Vec::new();
    let mut rows = Vec::new();
    for case in followers(run) {
        for sink in super::sinks(run) {
            let Some(means) = means(case, sink) else { continue };
            let total: f64 = means.iter().sum();
            let name = format!("{}, {}", case.name, in_full(sink));
            let parts = STAGES.iter().zip(&means).map(|(stage, mean)| Part {
                name: (*stage).to_owned(),
                value: *mean,
                tip: format!(
                    "{name}: {stage} {} ({} of the lag)",
                    say::seconds(*mean),
                    say::percent(mean / total.max(1e-12))
                ),
            });
            bars.push(Bar { name: name.clone(), total: say::seconds(total), parts: parts.collect() });
            rows.push(Row::of(name, means.iter().chain([&total]).map(|mean| say::seconds(*mean)).collect::<Vec<_>>()));
        }
    }
    if bars.is_empty() {
        return None;
    }
    let said = bars.iter().map(|bar| {
        let parts = bar.parts.iter().map(|part| format!("{} {}", part.name, say::seconds(part.value)));
        format!("{}: {}", bar.name, parts.collect::<Vec<_>>().join(", "))
    });
    let bars = Bars { said: format!("Stages of the mean commit lag. {}", said.collect::<Vec<_>>().join("; ")), bars };
    let head = ["", "capture", "queue", "transform", "apply", "publish", "commit lag, mean"];
    let table = Table::of("Mean time of a commit in each stage", &head, rows);
    let note = "Each bar is the mean commit lag, whose length stands at its right; the parts are where it was spent.";
    let title = "Where the lag is spent".to_owned();
    let figure = super::figure(format!("{prefix}stages-chart"), title, note, vec![View::bars(&bars)], table);
    let text = "Capture: from the commit until it is read from the source. Queue: until it is durable in the log and the sink's consumer takes it up, the wait for others of its batch included. \
                Transform, apply, publish: until it can be read at the sink. Strategies that work in batches have no such stages: \
                their lag is the wait for the next batch, and the time that the batch takes.";
    Some(section(
        prefix,
        "stages",
        "Stages",
        "Stages of the lag",
        vec![Block::Text(text.to_owned()), Block::Figure(Box::new(figure))],
    ))
}
