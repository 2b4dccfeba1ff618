//! Definitions become transforms, with every name and type checked.

use super::cast::{Cast, has_cast};
use super::error::TransformError;
use super::expr::Expr;
use super::filter::{Filter, Test};
use super::literal;
use super::table::TableTransform;
use crate::model::{Catalog, Column, ColumnType, TableId, TableSchema, Value};
use crate::workload::{ColumnSpec, Derive, FilterSpec, FilterTest, Literal, TransformSpec};

/// Names at most this far apart are offered as what was meant.
const SUGGESTION_DISTANCE_MAX: usize = 3;

/// Compiles one table's definition.
pub(super) fn compile(
    table: TableId,
    source: &TableSchema,
    spec: &TransformSpec,
) -> Result<TableTransform, TransformError> {
    Compiler { source, spec }.compile(table)
}

/// The definition of each table, by table number.
pub(super) fn assign<'a>(
    catalog: &Catalog,
    specs: &'a [TransformSpec],
) -> Result<Vec<Option<&'a TransformSpec>>, TransformError> {
    let mut assigned = vec![None; catalog.tables.len()];
    for spec in specs {
        let place = format!("transform of table {:?}", spec.table);
        let Some((id, _)) = catalog.find(&spec.table) else {
            let names = catalog.tables.iter().map(|t| t.name.as_str());
            return Err(TransformError::Definition { place, reason: unknown("table", &spec.table, names) });
        };
        if let Some(slot) = assigned.get_mut(id.index())
            && slot.replace(spec).is_some()
        {
            let reason = "the table has two transforms; put them into one".to_owned();
            return Err(TransformError::Definition { place, reason });
        }
    }
    Ok(assigned)
}

struct Compiler<'a> {
    source: &'a TableSchema,
    spec: &'a TransformSpec,
}

impl Compiler<'_> {
    fn compile(&self, table: TableId) -> Result<TableTransform, TransformError> {
        self.check_named_once()?;
        let mut columns = Vec::new();
        let mut exprs = Vec::new();
        let mut key_places = vec![None; self.source.columns.len()];
        for (place, column) in self.source.columns.iter().enumerate() {
            if let Some((output, expr)) = self.source_column(place, column)? {
                if let Some(slot) = key_places.get_mut(place) {
                    *slot = Some(columns.len());
                }
                columns.push(output);
                exprs.push(expr);
            }
        }
        for spec in &self.spec.columns {
            if let ColumnSpec::Derive { name, from } = spec {
                let (output, expr) = self.derived(name, from)?;
                columns.push(output);
                exprs.push(expr);
            }
        }
        let key = self.source.key.iter().filter_map(|&place| key_places.get(place).copied().flatten()).collect();
        let name = self.spec.rename_table.as_ref().unwrap_or(&self.source.name);
        let output = TableSchema::new(name, columns, key).map_err(|e| self.error("", e.to_string()))?;
        let filter = self.spec.filter.as_ref().map(|filter| self.filter(filter)).transpose()?;
        Ok(TableTransform::from_parts(table, self.source, output, exprs, filter))
    }

    /// Every named source column exists and is named once.
    fn check_named_once(&self) -> Result<(), TransformError> {
        let mut named = Vec::new();
        for spec in &self.spec.columns {
            let (ColumnSpec::Keep { column, .. } | ColumnSpec::Drop { column }) = spec else { continue };
            self.find(column, column)?;
            if named.contains(&column) {
                return Err(self.error(column, "it is named twice; put both into one entry".to_owned()));
            }
            named.push(column);
        }
        Ok(())
    }

    /// What becomes of a source column; `None` if it is dropped.
    fn source_column(&self, place: usize, column: &Column) -> Result<Option<(Column, Expr)>, TransformError> {
        let named = self.spec.columns.iter().find(|spec| match spec {
            ColumnSpec::Keep { column: name, .. } | ColumnSpec::Drop { column: name } => *name == column.name,
            ColumnSpec::Derive { .. } => false,
        });
        let is_key = self.source.key.contains(&place);
        match named {
            Some(ColumnSpec::Keep { rename, hash, cast, scaled, .. }) => {
                let cast = cast.map(|to| Cast { to, scaled: *scaled });
                if is_key && (hash.is_some() || cast.is_some_and(|c| c.to != column.column_type)) {
                    let reason =
                        "it is part of the primary key, which may be renamed but not hashed or cast: rows are \
                                  found by it; derive another column from it if you need one"
                            .to_owned();
                    return Err(self.error(&column.name, reason));
                }
                self.kept(place, column, rename.as_ref(), hash.is_some(), cast).map(Some)
            }
            Some(_) if is_key => {
                let reason = "it is part of the primary key and can't be dropped: rows are found by it".to_owned();
                Err(self.error(&column.name, reason))
            }
            Some(_) => Ok(None),
            None => Ok(Some((column.clone(), Expr::Column(place)))),
        }
    }

    fn kept(
        &self,
        place: usize,
        column: &Column,
        rename: Option<&String>,
        hash: bool,
        cast: Option<Cast>,
    ) -> Result<(Column, Expr), TransformError> {
        let from = column.column_type;
        if hash && !matches!(from, ColumnType::Text | ColumnType::Bytes) {
            let reason = format!("it is {from}; only text and bytes columns can be hashed");
            return Err(self.error(&column.name, reason));
        }
        let before_cast = if hash { ColumnType::Text } else { from };
        let cast = cast.filter(|cast| cast.scaled || cast.to != before_cast);
        if let Some(cast) = cast
            && !has_cast(before_cast, cast)
        {
            let how = if cast.scaled { "a scaled cast" } else { "a cast" };
            let reason = format!("there is no {} from {before_cast} to {}", how.trim_start_matches("a "), cast.to);
            return Err(self.error(&column.name, reason));
        }
        let name = rename.unwrap_or(&column.name).clone();
        let column_type = cast.map_or(before_cast, |cast| cast.to);
        let expr = if hash || cast.is_some() { Expr::Keep { column: place, hash, cast } } else { Expr::Column(place) };
        Ok((Column { name, column_type, nullable: column.nullable }, expr))
    }

    fn derived(&self, name: &str, from: &Derive) -> Result<(Column, Expr), TransformError> {
        let input = |column: &str, allowed: &[ColumnType]| {
            let (place, found) = self.find(name, column)?;
            if allowed.contains(&found.column_type) {
                return Ok((place, found.nullable));
            }
            let wanted: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let reason = format!("column {column:?} is {}, not {}", found.column_type, wanted.join(" or "));
            Err(self.error(name, reason))
        };
        let ((expr, nullable), column_type) = match from {
            Derive::YearOf(column) => {
                let (place, nullable) =
                    input(column, &[ColumnType::Date, ColumnType::Timestamp, ColumnType::LocalTimestamp])?;
                ((Expr::YearOf(place), nullable), ColumnType::Int64)
            }
            Derive::Length(column) => {
                let (place, nullable) = input(column, &[ColumnType::Text, ColumnType::Bytes])?;
                ((Expr::Length(place), nullable), ColumnType::Int64)
            }
            Derive::Product([a, b]) => {
                let (a, a_nullable) = input(a, &[ColumnType::Int64])?;
                let (b, b_nullable) = input(b, &[ColumnType::Int64])?;
                ((Expr::Product(a, b), a_nullable || b_nullable), ColumnType::Int64)
            }
            Derive::Constant(literal) => {
                let (value, column_type) = match literal {
                    Literal::Bool(v) => (Value::Bool(*v), ColumnType::Bool),
                    Literal::Int(v) => (Value::Int(*v), ColumnType::Int64),
                    Literal::Float(v) => (Value::Float(*v), ColumnType::Float64),
                    Literal::Text(v) => (Value::text(v.as_str()), ColumnType::Text),
                };
                ((Expr::Constant(value), false), column_type)
            }
        };
        Ok((Column { name: name.to_owned(), column_type, nullable }, expr))
    }

    fn filter(&self, spec: &FilterSpec) -> Result<Filter, TransformError> {
        let place = || format!("transform of table {:?}, filter", self.spec.table);
        let Some(column) = self.source.column_index(&spec.column) else {
            let names = self.source.columns.iter().map(|c| c.name.as_str());
            return Err(TransformError::Definition { place: place(), reason: unknown("column", &spec.column, names) });
        };
        let test = match &spec.test {
            FilterTest::IsNull => Test::IsNull,
            FilterTest::IsNotNull => Test::IsNotNull,
            FilterTest::Compare(comparison, literal) => {
                let column_type = self.source.columns.get(column).map_or(ColumnType::Text, |c| c.column_type);
                let value = literal::of_type(literal, column_type).map_err(|wanted| TransformError::Definition {
                    place: place(),
                    reason: format!("column {:?} is {column_type} and takes {wanted}", spec.column),
                })?;
                Test::Compare(*comparison, value)
            }
        };
        Ok(Filter { column, test })
    }

    fn find(&self, place: &str, column: &str) -> Result<(usize, &Column), TransformError> {
        let found = self.source.column_index(column).and_then(|index| Some((index, self.source.columns.get(index)?)));
        found.ok_or_else(|| {
            let names = self.source.columns.iter().map(|c| c.name.as_str());
            self.error(place, unknown("column", column, names))
        })
    }

    fn error(&self, column: &str, reason: String) -> TransformError {
        let table = &self.spec.table;
        let place = match column {
            "" => format!("transform of table {table:?}"),
            _ => format!("transform of table {table:?}, column {column:?}"),
        };
        TransformError::Definition { place, reason }
    }
}

/// "there is no column "x"", and what is closest to it, or all there are.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let closest = known.iter().map(|other| (strsim::damerau_levenshtein(name, other), *other)).min();
    match closest {
        Some((distance, other)) if distance <= SUGGESTION_DISTANCE_MAX && distance < name.len() => {
            format!("there is no {what} {name:?}; did you mean {other:?}?")
        }
        _ => format!("there is no {what} {name:?}; there are {}", known.join(", ")),
    }
}
