//! What the application does: tables, initial rows and a seeded stream of transactions.
//!
//! Everything is a function of the settings: the same seed gives the same rows and the same stream on every machine
//! and with any number of clients or threads. No I/O but reading a definition file. A definition is a TOML file;
//! the ones in `datasets/` are built in.
//!
//! ```
//! use freshbench::workload::{Overrides, Workload};
//!
//! let workload = Workload::load("orders", &Overrides { rows: Some(100), ..Overrides::default() })?;
//! let first = workload.stream().next().ok_or("the stream has no end")?;
//! assert!(first.statements.iter().all(|s| workload.catalog().table(s.table()).is_some()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arrival;
mod definition;
mod digest;
mod distribution;
mod elementary;
mod error;
mod keyed;
mod orders;
mod orders_stream;
mod quantity;
mod random;
mod settings;
mod statement;
mod stream;
mod transform_spec;

pub use arrival::Arrivals;
pub use definition::built_in_names;
pub use distribution::{KeyDistribution, RowsPerTxn};
pub use error::WorkloadError;
pub use quantity::{parse_bytes, parse_duration, parse_rate};
pub use settings::{Model, Overrides, Settings, Shares, TxnKind};
pub use statement::{Assign, BASE_TIME, ClientId, Invariant, LANES, PlannedTxn, Statement, Term, TxnIndex};
pub use stream::{InitialRows, Stream};
pub use transform_spec::{ColumnSpec, Comparison, Derive, FilterSpec, FilterTest, HashKind, Literal, TransformSpec};

use crate::model::{Catalog, TableId};
use definition::Definition;
use digest::StreamHash;
use error::closest;
use std::sync::OnceLock;
use stream::Rows;

/// A resolved workload: settings, tables, initial rows, the stream and what must hold of it.
#[derive(Clone, Debug)]
pub struct Workload {
    settings: Settings,
    transforms: Vec<TransformSpec>,
    /// Where the definition stands, and in which lines its transforms begin.
    file: String,
    transform_lines: Vec<usize>,
    catalog: Catalog,
    rows: Rows,
    invariants: OnceLock<Vec<Invariant>>,
    items: OnceLock<u64>,
}

impl Workload {
    /// Loads a built-in workload by name (`orders`, `ycsb-a` to `ycsb-f`), or a TOML file, and puts the overrides in.
    ///
    /// # Errors
    /// [`WorkloadError`]: no such workload, a file that can't be read, or a setting that is unknown, lacks its unit
    /// or is out of range, with the file and the line.
    pub fn load(name_or_path: &str, overrides: &Overrides) -> Result<Workload, WorkloadError> {
        Workload::resolve(Definition::find(name_or_path)?, overrides)
    }

    fn resolve(mut definition: Definition, overrides: &Overrides) -> Result<Workload, WorkloadError> {
        overrides.apply(&mut definition.settings)?;
        let settings = &definition.settings;
        let (rows, catalog) = match settings.model {
            Model::Orders => (Rows::Orders(orders::Shop::new(settings)), orders::catalog()),
            Model::Keyed => {
                let records = keyed::Records::new(settings);
                let catalog = records.catalog();
                (Rows::Keyed(records), catalog)
            }
        };
        for (place, spec) in definition.transforms.iter().enumerate() {
            check_transform(spec, &catalog).map_err(|message| definition.transform_error(place, message))?;
        }
        let Definition { settings, transforms, transform_lines, file } = definition;
        let (invariants, items) = (OnceLock::new(), OnceLock::new());
        Ok(Workload { settings, transforms, file, transform_lines, catalog, rows, invariants, items })
    }

    /// What is wrong with the transform at `place` of [`Workload::transforms`], with the file and the line.
    pub fn transform_error(&self, place: usize, message: String) -> WorkloadError {
        definition::transform_error(&self.file, &self.transform_lines, place, message)
    }

    /// The resolved settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The tables, parents before children. Every table ends in `updated_at`, a timestamp stamped with
    /// [`BASE_TIME`] + [`PlannedTxn::intended`] whenever a row is inserted or updated.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The place of the `updated_at` column; 0 if there is no such table.
    pub fn cursor_column(&self, table: TableId) -> usize {
        self.catalog.table(table).and_then(|schema| schema.column_index("updated_at")).unwrap_or(0)
    }

    /// The rows of a table at the start, made as they are asked for; none if there is no such table.
    pub fn initial_rows(&self, table: TableId) -> InitialRows {
        InitialRows::new(&self.rows, table)
    }

    /// How many rows [`Workload::initial_rows`] gives. For `order_items` the first call goes through every order
    /// once.
    pub fn initial_row_count(&self, table: TableId) -> u64 {
        match (&self.rows, table) {
            (Rows::Orders(shop), orders::CUSTOMERS) => shop.customers,
            (Rows::Orders(shop), orders::PRODUCTS) => shop.products,
            (Rows::Orders(shop), orders::ORDERS) => shop.orders,
            (Rows::Orders(shop), orders::ITEMS) => *self.items.get_or_init(|| shop.initial_items().0),
            (Rows::Keyed(records), keyed::USERTABLE) => records.rows,
            _ => 0,
        }
    }

    /// The transactions, without end: stop by [`PlannedTxn::intended`] or by count.
    pub fn stream(&self) -> Stream {
        Stream::new(&self.settings, &self.rows)
    }

    /// What holds before the stream and after every commit of it. The first call goes through every order once.
    pub fn invariants(&self) -> &[Invariant] {
        self.invariants.get_or_init(|| match &self.rows {
            Rows::Orders(shop) => shop.invariants(),
            Rows::Keyed(_) => Vec::new(),
        })
    }

    /// 32 hexadecimal digits over everything that decides rows, stream and transforms.
    pub fn config_hash(&self) -> String {
        digest::config_hash(&self.settings, &self.transforms)
    }

    /// 32 hexadecimal digits over the first `txns` transactions, in a canonical encoding.
    pub fn stream_digest(&self, txns: u64) -> String {
        let mut hash = StreamHash::new();
        let mut stream = self.stream();
        for _ in 0..txns {
            if let Some(txn) = stream.next() {
                hash.transaction(&txn);
            }
        }
        hash.hex()
    }

    /// 32 hexadecimal digits over the rows of a table at the start.
    pub fn initial_digest(&self, table: TableId) -> String {
        let mut hash = StreamHash::new();
        for row in self.initial_rows(table) {
            hash.row(&row);
        }
        hash.hex()
    }

    /// How rows become rows of the derived systems: the definition's `[[transform]]` tables, in its order. Their
    /// tables and columns exist.
    pub fn transforms(&self) -> &[TransformSpec] {
        &self.transforms
    }
}

/// Checks that a transform names tables and columns that there are.
fn check_transform(spec: &TransformSpec, catalog: &Catalog) -> Result<(), String> {
    let unknown = |what: &str, name: &str, known: Vec<&str>| {
        let hint = closest(name, known.iter().copied()).map(|k| format!("; did you mean `{k}`?")).unwrap_or_default();
        format!("no {what} is called `{name}`{hint} (there are {})", known.join(", "))
    };
    let Some((_, schema)) = catalog.find(&spec.table) else {
        return Err(unknown("table", &spec.table, catalog.tables.iter().map(|table| table.name.as_str()).collect()));
    };
    let mut columns: Vec<&str> = spec.filter.iter().map(|filter| filter.column.as_str()).collect();
    for column in &spec.columns {
        match column {
            ColumnSpec::Keep { column, .. } | ColumnSpec::Drop { column } => columns.push(column),
            ColumnSpec::Derive { from: Derive::YearOf(column) | Derive::Length(column), .. } => columns.push(column),
            ColumnSpec::Derive { from: Derive::Product([left, right]), .. } => columns.extend([left.as_str(), right]),
            ColumnSpec::Derive { from: Derive::Constant(_), .. } => {}
        }
    }
    match columns.into_iter().find(|name| schema.column_index(name).is_none()) {
        Some(name) => {
            let known = schema.columns.iter().map(|column| column.name.as_str()).collect();
            Err(unknown(&format!("column of `{}`", spec.table), name, known))
        }
        None => Ok(()),
    }
}
