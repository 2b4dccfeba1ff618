//! `freshbench warehouse query`

use super::{Exit, Failure};
use crate::sink::warehouse::VersionAt;
use clap::{Args, ValueEnum, value_parser};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum QueryFormat {
    /// A table for people, of 1,000 rows at the most
    Human,
    /// As PostgreSQL's COPY .. (FORMAT csv) writes it
    Csv,
    /// One JSON object a line; numbers with all their digits
    Json,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Tables have their names of the record system (in \"double quotes\" where needed). The schema freshbench \
                        tells of the warehouse itself: freshbench.versions and freshbench.segments. The query only reads: \
                        SELECT, EXPLAIN [ANALYZE], SHOW TABLES, SHOW COLUMNS, DESCRIBE."
)]
pub(super) struct QueryArgs {
    /// The warehouse folder; a writer may be at work in it
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// The query
    #[arg(long, value_name = "QUERY", required_unless_present = "file", conflicts_with = "file")]
    pub(super) sql: Option<String>,
    /// A file with the query; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// A kept version: the commit that made it, such as 12, or a watermark, such as lsn:345 [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub(super) at: Option<VersionAt>,
    /// The form of the rows
    #[arg(long, value_enum, default_value_t = QueryFormat::Human)]
    pub(super) format: QueryFormat,
    /// CSV: begin with a line of column names
    #[arg(long)]
    pub(super) header: bool,
    /// Threads that compute, 64 at the most; 0 is one a core [default: one a core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = value_parser!(u16).range(0..=64))]
    pub(super) threads: u16,
    /// Memory for sorting, joining and grouping, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = value_parser!(u32).range(1..))]
    pub(super) memory_mib: u32,
}

#[cfg(not(feature = "sql"))]
pub(super) fn query(arguments: &QueryArgs) -> Result<Exit, Failure> {
    // The flags mean nothing here, but the same command line is understood by every build.
    let QueryArgs { folder, sql: _, file: _, at: _, format: _, header: _, threads: _, memory_mib: _ } = arguments;
    Err(Failure::usage(format!(
        "can't query {}: this build has no SQL; build it with `cargo build --release --features sql`, or use `warehouse dump`",
        folder.display()
    )))
}

#[cfg(feature = "sql")]
pub(super) use reading::query;

#[cfg(feature = "sql")]
mod reading {
    use super::super::warehouse_rows::{Line, open_version, print_lines};
    use super::{Exit, Failure, QueryArgs, QueryFormat};
    use crate::model::ValueRef;
    use crate::model::text::write_text;
    use crate::output::answer;
    use crate::sink::warehouse::sql::{SqlError, SqlOptions, SqlRows, SqlSession};
    use crate::sink::warehouse::{row_values, versions};
    use arrow_schema::{DataType, Schema};
    use comfy_table::{Cell, CellAlignment, Table, presets};
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::path::Path;

    /// What is read of a file with a query: a little more than a session takes.
    const QUERY_BYTES_MAX: u64 = 1 << 20;
    /// A table for people gets too long for them.
    const HUMAN_ROWS_MAX: usize = 1_000;

    pub(in super::super) fn query(arguments: &QueryArgs) -> Result<Exit, Failure> {
        let sql = match (&arguments.sql, &arguments.file) {
            (Some(sql), _) => sql.clone(),
            (None, Some(file)) => read(file)?,
            (None, None) => return Err(Failure::usage("there is no query; give --sql or --file")),
        };
        let version = open_version(&arguments.folder, arguments.at)?;
        let known = versions(&arguments.folder).map_err(Failure::opening)?;
        let memory_bytes_max = usize::try_from(u64::from(arguments.memory_mib) << 20).unwrap_or(usize::MAX);
        let options = SqlOptions { threads: arguments.threads.into(), memory_bytes_max };
        let session = SqlSession::new(&version, &known, options).map_err(failure)?;
        let rows = session.query(sql.trim()).map_err(failure)?;
        let form = match arguments.format {
            QueryFormat::Human => {
                print_table(rows)?;
                return Ok(Exit::Ok);
            }
            QueryFormat::Csv => Line::Csv { header: arguments.header },
            QueryFormat::Json => Line::Json,
        };
        let names = distinct_names(rows.schema());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        print_lines(rows.map(|batch| batch.map_err(failure)), &names, form)?;
        Ok(Exit::Ok)
    }

    fn failure(error: SqlError) -> Failure {
        match (&error, error.is_the_querys()) {
            (SqlError::Memory { .. }, _) => Failure::error(format!("{error} with --memory-mib")),
            (_, true) => Failure::usage(error),
            (_, false) => Failure::error(error),
        }
    }

    fn read(file: &Path) -> Result<String, Failure> {
        let wrong = |cause: &dyn std::fmt::Display| {
            Failure::usage(format!("can't read the query from {}: {cause}", file.display()))
        };
        let mut text = String::new();
        let count = match file == Path::new("-") {
            true => io::stdin().lock().take(QUERY_BYTES_MAX + 1).read_to_string(&mut text),
            false => File::open(file).and_then(|file| file.take(QUERY_BYTES_MAX + 1).read_to_string(&mut text)),
        };
        match count {
            Ok(count) if count as u64 > QUERY_BYTES_MAX => Err(wrong(&"it is longer than 1 MiB")),
            Ok(_) => Ok(text),
            Err(cause) => Err(wrong(&cause)),
        }
    }

    /// Two columns may have one name, and a JSON object has each name once: the second `id` is `id:1`.
    fn distinct_names(schema: &Schema) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for field in schema.fields() {
            let mut name = field.name().clone();
            let mut number = 0;
            while names.contains(&name) {
                number += 1;
                name = format!("{}:{number}", field.name());
            }
            names.push(name);
        }
        names
    }

    fn print_table(rows: SqlRows<'_>) -> Result<(), Failure> {
        let schema = rows.schema().clone();
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).force_no_tty();
        let aligned = |place: usize, text: String| {
            let is_number = schema.fields().get(place).is_some_and(|field| is_number(field.data_type()));
            Cell::new(text).set_alignment(if is_number { CellAlignment::Right } else { CellAlignment::Left })
        };
        let names = schema.fields().iter().map(|field| printable(field.name()));
        table.set_header(names.enumerate().map(|(place, name)| aligned(place, name)));
        let (mut shown, mut more) = (0, false);
        for batch in rows {
            let batch = batch.map_err(failure)?;
            let room = batch.num_rows().min(HUMAN_ROWS_MAX - shown);
            for row in 0..room {
                let cells = row_values(&batch, row);
                table.add_row(cells.iter().enumerate().map(|(place, value)| aligned(place, cell(value.as_ref()))));
            }
            shown += room;
            more = batch.num_rows() > room;
            if more {
                break;
            }
        }
        let mut out = answer();
        writeln!(out, "{table}")?;
        match (shown, more) {
            (_, true) => writeln!(out, "the first {shown} rows; --format csv or json gives all")?,
            (1, _) => writeln!(out, "1 row")?,
            (count, _) => writeln!(out, "{count} rows")?,
        }
        Ok(())
    }

    fn is_number(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Int64 | DataType::Float32 | DataType::Float64 | DataType::Decimal128(..))
    }

    fn cell(value: ValueRef<'_>) -> String {
        if matches!(value, ValueRef::Null) {
            return "NULL".to_owned();
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = write_text(&mut text, value);
        printable(&text)
    }

    /// What a terminal would take for a command is written out; a line break stays one.
    fn printable(text: &str) -> String {
        crate::foreign::terminal_lines(text).into_owned()
    }
}
