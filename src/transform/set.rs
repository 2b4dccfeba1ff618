//! The transforms of a whole catalog.

use super::compile;
use super::error::TransformError;
use super::table::TableTransform;
use crate::model::{Catalog, TableId};
use crate::workload::TransformSpec;

/// One transform a table. A table has the same number in the source's catalog and in the output's.
#[derive(Clone, Debug)]
pub struct TransformSet {
    tables: Vec<TableTransform>,
    output: Catalog,
}

impl TransformSet {
    /// Transforms that change nothing.
    pub fn identity(catalog: &Catalog) -> TransformSet {
        TransformSet::from_tables(catalog.iter().map(|(id, table)| TableTransform::identity(id, table)).collect())
    }

    /// Compiles the definitions; a table without one passes through unchanged.
    ///
    /// # Errors
    /// [`TransformError::Definition`] naming the place and the remedy; also for a definition of an unknown table, two
    /// of one table, and two tables that would have one name in the sinks.
    pub fn compile(catalog: &Catalog, specs: &[TransformSpec]) -> Result<TransformSet, TransformError> {
        let assigned = compile::assign(catalog, specs)?;
        let tables: Vec<TableTransform> = catalog
            .iter()
            .zip(assigned)
            .map(|((id, table), spec)| TableTransform::compile(id, table, spec))
            .collect::<Result<_, _>>()?;
        let set = TransformSet::from_tables(tables);
        for (id, table) in set.output.iter() {
            if set.output.find(&table.name).is_some_and(|(first, _)| first != id) {
                let place = format!("transforms, table {:?}", table.name);
                let reason = "two tables would have this name in the sinks; rename one of them".to_owned();
                return Err(TransformError::Definition { place, reason });
            }
        }
        Ok(set)
    }

    /// The first definition that can't be compiled, by its place, and why; `None` if [`TransformSet::compile`] takes them all.
    pub fn first_wrong(catalog: &Catalog, specs: &[TransformSpec]) -> Option<(usize, TransformError)> {
        // One that is right alone may be the second of a table, or give a name that is taken.
        let up_to = |place: usize| TransformSet::compile(catalog, specs.get(..=place)?).err().map(|why| (place, why));
        (0..specs.len()).find_map(up_to)
    }

    fn from_tables(tables: Vec<TableTransform>) -> TransformSet {
        let output = Catalog { tables: tables.iter().map(|t| t.output().clone()).collect() };
        TransformSet { tables, output }
    }

    /// The sinks' tables.
    pub fn output(&self) -> &Catalog {
        &self.output
    }

    /// The transform of a table.
    ///
    /// # Errors
    /// [`TransformError::UnknownTable`].
    pub fn table(&self, table: TableId) -> Result<&TableTransform, TransformError> {
        self.tables.get(table.index()).ok_or(TransformError::UnknownTable { table: table.0 })
    }

    /// All transforms, by table number.
    pub fn iter(&self) -> impl Iterator<Item = &TableTransform> {
        self.tables.iter()
    }
}
