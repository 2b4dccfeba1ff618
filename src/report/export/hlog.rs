//! The log format of HdrHistogram, version 1.3 (its `HistogramLogWriter`): a line for a histogram, with the tag first, start and length in
//! seconds, the largest value in milliseconds, and the payload that result.json holds as well. The values in the payload are nanoseconds.

use super::{ExportError, ExportFile};
use crate::foreign::terminal;
use crate::report::RunResult;
use crate::stats::Histogram;
use std::fmt::Write as _;

pub(super) fn files(result: &RunResult) -> Result<Vec<ExportFile>, ExportError> {
    let mut text = String::from("#[Histogram log format version 1.3]\n");
    let _ = writeln!(
        text,
        "#[freshbench {} on workload {}, values in ns]",
        terminal(&result.run_id),
        terminal(&result.config.workload)
    );
    text.push_str("\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n");
    let mut lines = 0;
    for case in result.strategies.iter().filter(|case| case.validation.passed) {
        for entry in &case.histograms {
            let place = entry.sink.as_deref().map_or(String::new(), |sink| format!("/{sink}"));
            let tag = format!("{}/{}{place}", case.name, entry.id);
            let histogram = Histogram::decode(&entry.data).map_err(|cause| ExportError(format!("{tag}: {cause}")))?;
            let max_ms = histogram.max().unwrap_or_default().as_secs_f64() * 1e3;
            let length = result.config.duration_s;
            // A comma or a space would end the tag.
            let tag = terminal(&tag).replace([',', ' '], "_");
            let _ = writeln!(text, "Tag={tag},{:.3},{length:.3},{max_ms:.6},{}", 0.0, entry.data);
            lines += 1;
        }
    }
    if lines == 0 {
        return Err(ExportError("the result holds no histogram of a strategy that passed its validation".to_owned()));
    }
    Ok(vec![ExportFile { name: "result.hlog".to_owned(), text }])
}
