//! `freshbench race`

use super::args::{OutputFormat, RaceArgs};
use super::{Exit, Failure};
use crate::output::{answer, say};
use crate::plan::{KeyPopularity, RawPlan, client_counts};
use crate::report::headline::count;
use crate::run::race::{RaceRow, Textbook, simulated, textbook};
use crate::sink::SinkKind;
use comfy_table::{Cell, CellAlignment, Table, presets};
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Workload and size unless told: an update-heavy store of sessions.
const DEFAULT_WORKLOAD: &str = "ycsb-a";
const DEFAULT_ROWS: &str = "1k";
const DEFAULT_RATE: &str = "2000";
const DEFAULT_DURATION: &str = "10s";

pub(super) fn race(arguments: &RaceArgs, quiet: bool) -> Result<Exit, Failure> {
    let or = |given: &Option<String>, default: &str| given.clone().or_else(|| Some(default.to_owned()));
    let raw = RawPlan {
        workload: or(&arguments.workload, DEFAULT_WORKLOAD),
        rows: or(&arguments.rows, DEFAULT_ROWS),
        rate: or(&arguments.rate, DEFAULT_RATE),
        duration: or(&arguments.duration, DEFAULT_DURATION),
        seed: arguments.seed,
        sinks: arguments.sinks.clone(),
        think: arguments.think.clone(),
        crash_rate: arguments.crash_rate,
        ..RawPlan::default()
    };
    let counts = client_counts(&arguments.clients).map_err(Failure::usage)?;
    let plan = raw.resolve("freshbench race".to_owned()).map_err(Failure::usage)?;
    let folder = tempfile::tempdir().map_err(|cause| Failure::error(format!("can't make a folder: {cause}")))?;
    let book = textbook(&folder.path().join("textbook")).map_err(Failure::error)?;
    let mut rows = Vec::new();
    for popularity in KeyPopularity::BOTH {
        for &clients in &counts {
            if !quiet {
                say!("{}, {clients} clients ...", popularity.name());
            }
            let workload = raw.workload_with(popularity, clients).map_err(Failure::usage)?;
            let place = folder.path().join(format!("{}-{clients}", popularity.name().replace(' ', "-")));
            let row = simulated(&plan, &workload, &place, arguments.versioned).map_err(Failure::error)?;
            rows.push((popularity, row));
            let _ = std::fs::remove_dir_all(&place);
        }
    }
    let mut out = answer();
    match arguments.format {
        OutputFormat::Human => write!(out, "{}{}", crate::foreign::terminal_lines(&told(&book)), tabled(&rows))?,
        OutputFormat::Json => {
            let rows: Vec<&RaceRow> = rows.iter().map(|(_, row)| row).collect();
            serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "textbook": book, "simulated": rows }))
                .map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(Exit::Ok)
}

fn told(book: &Textbook) -> String {
    let mut out =
        String::from("X holds 0. Two clients write to the record system and then to each sink themselves:\n\n");
    for (place, step) in book.steps.iter().enumerate() {
        let _ = writeln!(out, "  {}. {step}", place + 1);
    }
    let mut table = new_table();
    let mut header = vec!["X at the end", "record system"];
    header.extend(SinkKind::ALL.map(SinkKind::name));
    table.set_header(header);
    for ending in &book.endings {
        let mut row = vec![ending.way.clone(), ending.source.clone()];
        row.extend(SinkKind::ALL.map(|sink| ending.sinks.get(sink.name()).cloned().unwrap_or_default()));
        table.add_row(row);
    }
    let _ = writeln!(out, "\n{table}\n\nNo call returned an error.");
    for ending in &book.endings {
        for (sink, story) in &ending.raced {
            let _ = writeln!(out, "  {}, {sink}: {story}", ending.way);
        }
    }
    out
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).force_no_tty();
    table
}

fn tabled(rows: &[(KeyPopularity, RaceRow)]) -> String {
    let mut table = new_table();
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let Some((_, first)) = rows.first() else { return String::new() };
    let sinks: Vec<&str> =
        SinkKind::ALL.into_iter().map(SinkKind::name).filter(|sink| first.sinks.contains_key(*sink)).collect();
    let mut header = vec![Cell::new("keys"), right("clients".to_owned()), right("commits".to_owned())];
    header.extend(sinks.iter().map(|sink| right((*sink).to_owned())));
    header.push(right("sinks disagree".to_owned()));
    table.set_header(header);
    for (popularity, row) in rows {
        let mut cells =
            vec![Cell::new(popularity.name()), right(row.clients.to_string()), right(count(row.commits as f64))];
        let counts = sinks.iter().filter_map(|sink| row.sinks.get(*sink));
        cells.extend(counts.map(|counted| {
            let for_good = counted.races[1] + counted.partial_failures[1];
            right(format!("{} ({for_good})", count(counted.per_million_writes.round())))
        }));
        cells.push(right(row.disagreements.to_string()));
        table.add_row(cells);
    }
    format!(
        "\nHow often a key comes apart from the record system, for a million rows written, and in brackets how many keys \
         stay so; simulated in virtual time\n\n{table}\n"
    )
}
