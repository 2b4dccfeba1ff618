//! A session: the tables of one version, a memory limit, threads, and queries that only read.

use super::super::{Version, VersionInfo};
use super::error::SqlError;
use super::exact_sum::exact_sum;
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
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

const CATALOG: &str = "warehouse";
const SCHEMA: &str = "public";
/// The longest query text that is parsed.
const QUERY_BYTES_MAX: usize = 1 << 20;

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
    tables: Arc<[String]>,
    memory_bytes_max: usize,
}

impl fmt::Debug for SqlSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSession").field("tables", &self.tables).finish_non_exhaustive()
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
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).thread_name("sql").build();
        let runtime = runtime.map_err(|cause| engine(cause.into()))?;
        let catalogs = catalogs(version, known).map_err(engine)?;
        let context = context(catalogs, threads, options.memory_bytes_max).map_err(engine)?;
        let mut tables: Vec<String> = version.catalog().tables.iter().map(|table| quoted(&table.name)).collect();
        tables.extend(system::NAMES.iter().map(|name| format!("{}.{name}", system::SCHEMA)));
        Ok(SqlSession { runtime, context, tables: tables.into(), memory_bytes_max: options.memory_bytes_max })
    }

    /// Runs one statement: SELECT, EXPLAIN, SHOW TABLES, SHOW COLUMNS or DESCRIBE. The rows come as they are computed.
    ///
    /// # Errors
    /// When the query is wrong, would do more than read, or can't begin.
    pub fn query(&self, sql: &str) -> Result<SqlRows<'_>, SqlError> {
        if sql.len() > QUERY_BYTES_MAX {
            let what = format!("its text has {} bytes, and 1 MiB is the limit", sql.len());
            return Err(SqlError::Query { what });
        }
        let rows = self.runtime.block_on(async {
            let frame = self.plan(sql).await?;
            let schema = plain::schema(frame.schema().as_arrow());
            let stream = frame.execute_stream().await.map_err(|error| self.sorted(error))?;
            Ok((schema, stream))
        });
        let (schema, stream) = rows?;
        Ok(SqlRows { session: self, stream: Some(stream), schema })
    }

    async fn plan(&self, sql: &str) -> Result<DataFrame, SqlError> {
        let sorted = |error| self.sorted(error);
        let state = self.context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(sorted)?;
        only_reads(&statement)?;
        let plan = state.statement_to_plan(statement).await.map_err(sorted)?;
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads.verify_plan(&plan).map_err(|_| SqlError::Refused { what: "a statement that writes".to_owned() })?;
        self.context.execute_logical_plan(plan).await.map_err(sorted)
    }

    fn sorted(&self, error: DataFusionError) -> SqlError {
        SqlError::of(error, &self.tables, self.memory_bytes_max)
    }
}

/// The rows of a query's answer, in batches. Dropped early, it ends the query.
pub struct SqlRows<'a> {
    session: &'a SqlSession,
    stream: Option<SendableRecordBatchStream>,
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
        let stream = self.stream.as_mut()?;
        let next = self.session.runtime.block_on(stream.next());
        let next = next.map(|batch| batch.and_then(|batch| plain::batch(&batch, &self.schema)));
        if !matches!(next, Some(Ok(_))) {
            self.stream = None;
        }
        next.map(|batch| batch.map_err(|error| self.session.sorted(error)))
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
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_catalog_list(catalogs)
        .with_default_features()
        .with_file_formats(Vec::new())
        .with_table_factories(HashMap::new())
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_udaf(exact_sum());
    Ok(context)
}
