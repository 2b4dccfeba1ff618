//! Reading rows of a table by ordinary statements.

use super::table::{PgTable, select_item};
use super::types::{PgField, PgScratch};
use crate::model::{RowValues, ValueRef};
use crate::source::error::SourceError;
use crate::source::table::quote;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::{FromSql, ToSql, Type};
use ::postgres::{Client, Row};
use std::error::Error;

/// Memory for values that have to be printed, kept from row to row.
pub(crate) type Scratch = PgScratch;

/// Statements for a table, and rows out of their results.
#[derive(Clone, Copy, Debug)]
pub struct TableReader<'a> {
    table: &'a PgTable,
}

/// A value as it stands in the result, in binary form.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw<'a>, Box<dyn Error + Sync + Send>> {
        Ok(Raw(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Raw<'a>, Box<dyn Error + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl<'a> TableReader<'a> {
    /// For this table.
    pub fn new(table: &'a PgTable) -> TableReader<'a> {
        TableReader { table }
    }

    /// The table.
    pub fn table(&self) -> &'a PgTable {
        self.table
    }

    /// Its name, quoted for SQL.
    pub fn quoted(&self) -> String {
        self.table.quoted()
    }

    /// `SELECT` of all columns in schema order `FROM table AS t`.
    pub fn select(&self) -> String {
        format!("SELECT {} FROM {} AS t", self.columns(), self.quoted())
    }

    /// All columns of `t` in schema order, for a SELECT list.
    pub(crate) fn columns(&self) -> String {
        let all = self.table.schema.columns.iter().enumerate();
        let columns: Vec<String> =
            all.map(|(place, column)| self.expression(place, &format!("t.{}", quote(&column.name)))).collect();
        columns.join(", ")
    }

    /// The key columns in key order, for `ORDER BY` and row values.
    pub fn key(&self) -> String {
        let columns: Vec<String> =
            self.table.schema.key_columns().map(|column| format!("t.{}", quote(&column.name))).collect();
        columns.join(", ")
    }

    /// What to select of `reference`, which has the type of the table's column number `column`.
    pub(crate) fn expression(&self, column: usize, reference: &str) -> String {
        self.table.columns.get(column).map_or_else(|| reference.to_owned(), |of| select_item(reference, of.coding))
    }

    /// The whole row that stands in `row` from column `first` on. What `scratch` held is lost.
    ///
    /// # Errors
    /// [`SourceError::Value`] naming table, column and key when a value can't be held.
    pub(crate) fn decode<'r>(
        &self,
        row: &'r Row,
        first: usize,
        scratch: &'r mut PgScratch,
    ) -> Result<RowValues<'r>, SourceError> {
        let fields = self.fields(row, first, 0..self.table.columns.len())?;
        self.table.decode(&fields, scratch)
    }

    /// The key that stands in `row` from column `first` on.
    ///
    /// # Errors
    /// As [`TableReader::decode`].
    pub(crate) fn decode_key<'r>(
        &self,
        row: &'r Row,
        first: usize,
        scratch: &'r mut PgScratch,
    ) -> Result<RowValues<'r>, SourceError> {
        let fields = self.fields(row, first, self.table.schema.key.iter().copied())?;
        self.table.decode_key(&fields, scratch)
    }

    /// The values of these columns, which stand in `row` from place `first` on as [`TableReader::expression`] selects them.
    fn fields<'r>(
        &self,
        row: &'r Row,
        first: usize,
        columns: impl Iterator<Item = usize>,
    ) -> Result<Vec<PgField<'r>>, SourceError> {
        let failed = |error| SourceError::postgres("read a row of table", &self.table.schema.name)(error);
        let field = |(place, column): (usize, usize)| {
            let Raw(bytes) = row.try_get::<_, Raw<'r>>(first + place).map_err(failed)?;
            let of = self.table.columns.get(column);
            Ok(bytes.zip(of).map_or(PgField::Null, |(bytes, of)| of.coding.selected(bytes)))
        };
        columns.enumerate().map(field).collect()
    }

    /// Runs a statement that begins with [`TableReader::select`] and hands each row to `each`. Returns how many.
    ///
    /// # Errors
    /// When the server refuses, a value can't be held, or `each` fails.
    pub fn all<E: From<SourceError>>(
        &self,
        client: &mut Client,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let failed = || SourceError::postgres("read table", &self.table.schema.name);
        let parameters = parameters.iter().map(|parameter| *parameter as &dyn ToSql);
        let mut rows = client.query_raw(sql, parameters).map_err(failed())?;
        let (mut count, mut scratch) = (0, PgScratch::default());
        while let Some(row) = rows.next().map_err(failed())? {
            each(&self.decode(&row, 0, &mut scratch)?)?;
            count += 1;
        }
        Ok(count)
    }
}
