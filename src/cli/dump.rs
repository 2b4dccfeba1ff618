//! `freshbench warehouse dump`

use super::args::{DumpArgs, DumpFormat};
use super::warehouse_rows::{Line, open_version, print_lines};
use super::{Exit, Failure};
use crate::output::stream;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::io::{self, Write};

/// Bytes of a row group that are gathered in memory before it ends.
const ROW_GROUP_BYTES_MAX: usize = 128 << 20;

pub(super) fn dump(arguments: &DumpArgs) -> Result<Exit, Failure> {
    let version = open_version(&arguments.warehouse, arguments.at)?;
    let Some((table, schema)) = version.catalog().find(&arguments.table) else {
        let known: Vec<&str> = version.catalog().tables.iter().map(|table| table.name.as_str()).collect();
        return Err(Failure::usage(format!(
            "no table {:?} in this warehouse; it has: {}",
            arguments.table,
            known.join(", ")
        )));
    };
    let mut projection = Vec::new();
    for name in &arguments.columns {
        let Some(index) = schema.column_index(name) else {
            let known: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
            let table = &arguments.table;
            return Err(Failure::usage(format!("no column {name:?} in table {table:?}; it has: {}", known.join(", "))));
        };
        projection.push(index);
    }
    let projection = (!projection.is_empty()).then_some(projection);
    let rows = version.rows_in_key_order(table, projection.as_deref()).map_err(Failure::error)?;
    let arrow = rows.schema().clone();
    let names: Vec<&str> = arrow.fields().iter().map(|field| field.name().as_str()).collect();
    if arguments.format == DumpFormat::Parquet {
        let level = ZstdLevel::try_new(3).map_err(Failure::error)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let mut writer = ArrowWriter::try_new(stream(), arrow.clone(), Some(properties)).map_err(unwritten)?;
        for batch in rows {
            writer.write(&batch.map_err(Failure::error)?).map_err(unwritten)?;
            if writer.in_progress_size() > ROW_GROUP_BYTES_MAX {
                writer.flush().map_err(unwritten)?;
            }
        }
        writer.into_inner().map_err(unwritten)?.flush()?;
        return Ok(Exit::Ok);
    }
    let form = match arguments.format {
        DumpFormat::Json => Line::Json,
        _ => Line::Csv { header: arguments.header },
    };
    print_lines(rows.map(|batch| batch.map_err(Failure::error)), &names, form)?;
    Ok(Exit::Ok)
}

/// What stdout says goes through Parquet's own errors.
fn unwritten(error: ParquetError) -> Failure {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => Failure::from(*cause),
            Err(cause) => Failure::error(cause),
        },
        error => Failure::error(error),
    }
}
