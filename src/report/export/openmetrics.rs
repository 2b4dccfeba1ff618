//! OpenMetrics text, version 1.0: a gauge a figure, the samples of a family together, `# EOF` last. A unit is given only where its name is one
//! of the standard's base units, since the family's name has to end with it.

use super::{Wanted, figures};
use crate::foreign::{openmetrics_name, openmetrics_text};
use crate::report::RunResult;
use std::collections::BTreeMap;
use std::fmt::Write as _;

struct Family {
    help: String,
    unit: Option<&'static str>,
    samples: Vec<(String, f64)>,
}

pub(super) fn openmetrics(result: &RunResult, wanted: Wanted<'_>) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for figure in figures(result, wanted) {
        let unit = match figure.metric.unit.as_str() {
            "s" => Some("seconds"),
            "bytes" => Some("bytes"),
            "ratio" => Some("ratio"),
            _ => None,
        };
        let mut name = format!("freshbench_{}", openmetrics_name(&figure.metric.id));
        if let Some(unit) = unit.filter(|unit| !name.ends_with(&format!("_{unit}"))) {
            let _ = write!(name, "_{unit}");
        }
        let theta = figure.metric.theta_s.map(|theta| theta.to_string());
        let labels = [
            ("workload", Some(result.config.workload.as_str())),
            ("strategy", Some(figure.case.name.as_str())),
            ("sink", figure.metric.sink.as_deref()),
            ("theta_s", theta.as_deref()),
        ];
        let given =
            labels.iter().filter_map(|(name, value)| Some(format!("{name}=\"{}\"", openmetrics_text((*value)?))));
        let labels = given.collect::<Vec<_>>().join(",");
        let help = format!("{} ({})", figure.metric.id, figure.metric.unit);
        // A figure of the same name in another unit is another family: one has one unit.
        if families.get(&name).is_some_and(|family| family.help != help) {
            let _ = write!(name, "_{}", openmetrics_name(&figure.metric.unit));
        }
        families.entry(name).or_insert(Family { help, unit, samples: Vec::new() }).samples.push((labels, figure.value));
    }
    // A gauge and not an info, which the older text format does not know: the file is then right in both.
    let mut text =
        String::from("# TYPE freshbench_run_info gauge\n# HELP freshbench_run_info The run that the figures are of.\n");
    let _ = writeln!(
        text,
        "freshbench_run_info{{run_id=\"{}\",config_hash=\"{}\",commit=\"{}\",version=\"{}\"}} 1",
        openmetrics_text(&result.run_id),
        openmetrics_text(&result.config.hash),
        openmetrics_text(result.git.commit.as_deref().unwrap_or("")),
        openmetrics_text(&result.env.freshbench)
    );
    for (name, family) in families {
        let _ = writeln!(text, "# TYPE {name} gauge");
        if let Some(unit) = family.unit {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {}", openmetrics_text(&family.help));
        for (labels, value) in family.samples {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    }
    text.push_str("# EOF\n");
    text
}
