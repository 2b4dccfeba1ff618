//! An invariant of somebody else's tables, looked at in every version that is read.

use crate::model::{Catalog, TableId};
use crate::probe::{ProbeRead, ProbeTarget};
use crate::sink::WarehouseReader;
use crate::sink::warehouse::Aggregate;
use crate::source::SourceError;
use std::error::Error;

/// Columns whose sums are equal in every state of the source, as `table.column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EqualSums {
    columns: Vec<String>,
}

impl EqualSums {
    /// Reads `table.column,table.column,..`.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn parse(text: &str) -> Result<EqualSums, String> {
        let columns: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
        let complete = columns.iter().all(|part| part.contains('.') && !part.ends_with('.'));
        if columns.len() < 2 || !complete {
            return Err("expected two or more of table.column, with commas between".to_owned());
        }
        Ok(EqualSums { columns })
    }

    /// The columns, as they were given.
    pub(crate) fn in_words(&self) -> String {
        self.columns.join(",")
    }

    /// Whether the catalog has them.
    pub(super) fn check(&self, catalog: &Catalog) -> Result<(), SourceError> {
        self.places(catalog).map(drop)
    }

    /// What looks at them in the warehouse of this catalog.
    pub(super) fn target(&self, catalog: &Catalog, reader: WarehouseReader) -> Result<SumsProbe, SourceError> {
        Ok(SumsProbe { reader, places: self.places(catalog)? })
    }

    fn places(&self, catalog: &Catalog) -> Result<Vec<(TableId, usize)>, SourceError> {
        let place = |named: &String| -> Option<(TableId, usize)> {
            catalog.iter().find_map(|(id, schema)| {
                let column = named.strip_prefix(schema.name.as_str())?.strip_prefix('.')?;
                Some((id, schema.column_index(column)?))
            })
        };
        let known: Vec<&str> = catalog.tables.iter().map(|schema| schema.name.as_str()).collect();
        let places = self.columns.iter().map(|named| {
            place(named).ok_or_else(|| SourceError::Table {
                what: format!("no followed table has the column {named:?}; the tables are: {}", known.join(", ")),
            })
        });
        places.collect()
    }
}

/// Sums the columns of one version.
pub(super) struct SumsProbe {
    reader: WarehouseReader,
    places: Vec<(TableId, usize)>,
}

impl ProbeTarget for SumsProbe {
    fn read(&self) -> Result<ProbeRead<'_>, Box<dyn Error + Send + Sync>> {
        let version = self.reader.version();
        let mut sums = Vec::with_capacity(self.places.len());
        for &(table, column) in &self.places {
            let sum = version.aggregate(table, &[Aggregate::Sum(column)])?;
            sums.push(sum.first().copied().flatten().unwrap_or(0));
        }
        let equal = sums.windows(2).all(|pair| pair.first() == pair.last());
        Ok(ProbeRead { watermark: version.watermark(), broken: if equal { Vec::new() } else { vec!["equal sums"] } })
    }
}
