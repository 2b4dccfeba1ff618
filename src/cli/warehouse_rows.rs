//! What commands that read a warehouse folder share: the version they open, and rows as lines of text.

use super::Failure;
use crate::model::Value;
use crate::model::text::{write_csv_header, write_csv_row, write_json_row};
use crate::output::stream;
use crate::sink::warehouse::{VersionAt, row_values};
use crate::sink::{WarehouseReader, WarehouseVersion};
use arrow_array::RecordBatch;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// The form of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Values separated by commas, below their names if asked for.
    Csv {
        /// Begin with a line of column names.
        header: bool,
    },
    /// A JSON object.
    Json,
}

/// The newest version of the folder, or the kept one that is asked for.
pub(super) fn open_version(folder: &Path, at: Option<VersionAt>) -> Result<Arc<WarehouseVersion>, Failure> {
    let reader = match at {
        None => WarehouseReader::open(folder),
        Some(at) => WarehouseReader::open_at(folder, at),
    };
    Ok(reader.map_err(Failure::opening)?.version())
}

/// Prints rows on stdout, a line each.
pub(super) fn print_lines(
    rows: impl Iterator<Item = Result<RecordBatch, Failure>>,
    names: &[&str],
    form: Line,
) -> Result<(), Failure> {
    let mut out = stream();
    let mut line = String::new();
    let unwritable = |_| Failure::error("a row can't be written as text");
    if form == (Line::Csv { header: true }) {
        write_csv_header(&mut line, names).map_err(unwritable)?;
        out.write_all(line.as_bytes())?;
    }
    for batch in rows {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            line.clear();
            let values = row_values(&batch, row);
            let values = values.iter().map(Value::as_ref);
            match form {
                Line::Json => write_json_row(&mut line, names, values).map_err(unwritable)?,
                Line::Csv { .. } => write_csv_row(&mut line, values).map_err(unwritable)?,
            }
            out.write_all(line.as_bytes())?;
        }
    }
    out.flush()?;
    Ok(())
}
