//! A session: the tables of one version, a memory limit, threads, and queries that only read.

use super::super::{Version, VersionInfo};
use super::error::SqlError;
use super::exact_sum::exact_sum;
use super::float_literal::DecimalsBesideFloats;
use super::plain;
use super::statement::only_reads;
use super::system;
use super::table::WarehouseTable;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider,
};
use datafusion::common::DataFusionError;
use datafusion::config::Dialect;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::Analyzer;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

const CATALOG: &str = "warehouse";
const SCHEMA: &str = "public";
/// The longest query text that is parsed.
const QUERY_BYTES_MAX: usize = 64 << 10;
/// Expressions are evaluated by recursion, and `a + a + ..` is as deep as it is long. Memory that is not touched costs nothing.
const STACK_BYTES: usize = 256 << 20;
/// Batches that may be computed ahead of the reader.
const BATCHES_AHEAD: usize = 2;

/// What a session may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlOptions {
    /// Threads, and so partitions of a scan. 0: one a core.
    pub threads: usize,
    /// Memory for the operators (sorts, joins, groups) of a query; the warehouse's own rows are not counted.
    pub memory_bytes_max: usize,
}

impl Default for SqlOptions {
    fn default() -> SqlOptions {
        SqlOptions { threads: 0, memory_bytes_max: 1 << 30 }
    }
}

/// Asks a version questions in SQL. Tables carry their names of the catalog, in the schema `public`; what the warehouse knows of
/// itself is in the schema `freshbench`.
pub struct SqlSession {
    runtime: tokio::runtime::Runtime,
    context: SessionContext,
    sorter: Sorter,
}

impl fmt::Debug for SqlSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSession").field("tables", &self.sorter.tables).finish_non_exhaustive()
    }
}

impl SqlSession {
    /// A session over `version`, which it holds; `known` is what `freshbench.versions` shows.
    ///
    /// # Errors
    /// When threads can't be started, or the version's segments can't be listed.
    pub fn new(version: &Arc<Version>, known: &[VersionInfo], options: SqlOptions) -> Result<SqlSession, SqlError> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        let engine = SqlError::Engine;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_stack_size(STACK_BYTES)
            .thread_name("sql")
            .build();
        let runtime = runtime.map_err(|cause| engine(cause.into()))?;
        let catalogs = catalogs(version, known).map_err(engine)?;
        let context = context(catalogs, threads, options.memory_bytes_max).map_err(engine)?;
        let mut tables: Vec<String> = version.catalog().tables.iter().map(|table| quoted(&table.name)).collect();
        tables.extend(system::NAMES.iter().map(|name| format!("{}.{name}", system::SCHEMA)));
        let sorter = Sorter { tables: tables.into(), memory_bytes_max: options.memory_bytes_max };
        Ok(SqlSession { runtime, context, sorter })
    }

    /// Runs one statement: SELECT, EXPLAIN, SHOW TABLES, SHOW COLUMNS or DESCRIBE. The rows come as they are computed.
    ///
    /// # Errors
    /// When the query is wrong, would do more than read, or can't begin.
    pub fn query(&self, sql: &str) -> Result<SqlRows<'_>, SqlError> {
        if sql.len() > QUERY_BYTES_MAX {
            let what = format!("its text has {} bytes, and 64 KiB is the limit", sql.len());
            return Err(SqlError::Query { what });
        }
        // On the session's own threads, whose stacks are deep enough for deep queries.
        let (context, sorter, sql) = (self.context.clone(), self.sorter.clone(), sql.to_owned());
        let begun = self.runtime.spawn(async move {
            let frame = plan(&context, &sorter, &sql).await?;
            let schema = plain::schema(frame.schema().as_arrow());
            let stream = frame.execute_stream().await.map_err(|error| sorter.sorted(error))?;
            Ok((schema, stream))
        });
        let (schema, mut stream) = self.runtime.block_on(begun).map_err(ended)??;
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let task = self.runtime.spawn(async move {
            while let Some(batch) = stream.next().await {
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
        });
        Ok(SqlRows { session: self, batches, task: Some(task), schema })
    }
}

/// A task that did not come to its end: the engine panicked.
fn ended(cause: JoinError) -> SqlError {
    SqlError::Engine(DataFusionError::External(Box::new(cause)))
}

async fn plan(context: &SessionContext, sorter: &Sorter, sql: &str) -> Result<DataFrame, SqlError> {
    let sorted = |error| sorter.sorted(error);
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect).map_err(sorted)?;
    only_reads(&statement)?;
    let plan = state.statement_to_plan(statement).await.map_err(sorted)?;
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reads.verify_plan(&plan).map_err(|_| SqlError::Refused { what: "a statement that writes".to_owned() })?;
    context.execute_logical_plan(plan).await.map_err(sorted)
}

/// Sorts errors, knowing what there is.
#[derive(Clone, Debug)]
struct Sorter {
    tables: Arc<[String]>,
    memory_bytes_max: usize,
}

impl Sorter {
    fn sorted(&self, error: DataFusionError) -> SqlError {
        SqlError::of(error, &self.tables, self.memory_bytes_max)
    }
}

/// The rows of a query's answer, in batches. Dropped early, it ends the query.
pub struct SqlRows<'a> {
    session: &'a SqlSession,
    batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    /// `None` once the rows are at their end.
    task: Option<JoinHandle<()>>,
    schema: SchemaRef,
}

impl fmt::Debug for SqlRows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlRows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl SqlRows<'_> {
    /// The answer's columns, in the types that the warehouse has. Two may have the same name.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Iterator for SqlRows<'_> {
    type Item = Result<RecordBatch, SqlError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.task.as_ref()?;
        let sorted = |error| self.session.sorter.sorted(error);
        match self.batches.blocking_recv() {
            Some(Ok(batch)) => Some(plain::batch(&batch, &self.schema).map_err(sorted)),
            Some(Err(error)) => {
                self.task = None;
                Some(Err(sorted(error)))
            }
            // Only a task that came to its end has given all rows.
            None => {
                let end = self.session.runtime.block_on(self.task.take()?);
                end.err().map(|cause| Err(ended(cause)))
            }
        }
    }
}

/// A table's name as a query has to write it.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn catalogs(version: &Arc<Version>, known: &[VersionInfo]) -> Result<Arc<dyn CatalogProviderList>, DataFusionError> {
    let tables = MemorySchemaProvider::new();
    for (table, schema) in version.tables.iter().zip(&version.catalog().tables) {
        tables.register_table(schema.name.clone(), Arc::new(WarehouseTable::new(table.clone())))?;
    }
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(tables))?;
    catalog.register_schema(system::SCHEMA, Arc::new(system::tables(version, known)?))?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Ok(Arc::new(catalogs))
}

/// DataFusion without anything that reaches a file: no formats, no table factories, no object stores, no spilling.
fn context(
    catalogs: Arc<dyn CatalogProviderList>,
    threads: usize,
    memory_bytes_max: usize,
) -> Result<SessionContext, DataFusionError> {
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(memory_bytes_max, 1.0)
        .with_disk_manager_builder(disk)
        .build_arc()?;
    if let Ok(files) = url::Url::parse("file:///") {
        runtime.deregister_object_store(&files)?;
    }
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(threads);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    // As in PostgreSQL, 0.1 is a decimal: compared with a decimal column it must not become a binary float.
    options.sql_parser.parse_float_as_decimal = true;
    // `timestamptz` has to show as the warehouse has it.
    options.execution.time_zone = Some("+00:00".to_owned());
    let mut rules = Analyzer::new().rules;
    rules.insert(0, Arc::new(DecimalsBesideFloats));
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_catalog_list(catalogs)
        .with_default_features()
        .with_analyzer_rules(rules)
        .with_file_formats(Vec::new())
        .with_table_factories(HashMap::new())
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_udaf(exact_sum());
    Ok(context)
}
