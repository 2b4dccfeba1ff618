//! `freshbench warehouse dump`

use super::args::{DumpArgs, DumpFormat};
use super::{Exit, Failure};
use crate::model::text::{write_csv_header, write_csv_row, write_json_row};
use crate::sink::WarehouseReader;
use crate::sink::warehouse::row_values;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::{self, BufWriter, Write};

pub(super) fn dump(arguments: &DumpArgs) -> Result<Exit, Failure> {
    let reader = match arguments.at {
        None => WarehouseReader::open(&arguments.warehouse),
        Some(at) => WarehouseReader::open_at(&arguments.warehouse, at),
    };
    let reader = reader.map_err(Failure::opening)?;
    let version = reader.version();
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
        let mut writer = ArrowWriter::try_new(BufWriter::new(io::stdout()), arrow.clone(), Some(properties))
            .map_err(Failure::error)?;
        for batch in rows {
            writer.write(&batch.map_err(Failure::error)?).map_err(Failure::error)?;
        }
        writer.close().map_err(Failure::error)?;
        return Ok(Exit::Ok);
    }
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut line = String::new();
    let unwritable = |_| Failure::error("a row can't be written as text");
    if arguments.header && arguments.format == DumpFormat::Csv {
        write_csv_header(&mut line, &names).map_err(unwritable)?;
        out.write_all(line.as_bytes())?;
    }
    for batch in rows {
        let batch = batch.map_err(Failure::error)?;
        for row in 0..batch.num_rows() {
            line.clear();
            let values = row_values(&batch, row);
            let values = values.iter().map(|value| value.as_ref());
            match arguments.format {
                DumpFormat::Json => write_json_row(&mut line, &names, values).map_err(unwritable)?,
                _ => write_csv_row(&mut line, values).map_err(unwritable)?,
            }
            out.write_all(line.as_bytes())?;
        }
    }
    out.flush()?;
    Ok(Exit::Ok)
}
