//! The flags, as clap reads them.

use super::ab::AbArgs;
use super::compare::CompareArgs;
use super::export::ExportArgs;
use super::history::HistoryCommand;
use super::selftest::SelftestArgs;
use super::sweep::SweepArgs;
use crate::sink::warehouse::VersionAt;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Measures how a warehouse, a search index and a cache are best fed from a database: full refreshes, micro-batches,
/// change data capture or dual writes.
#[derive(Debug, Parser)]
#[command(name = "freshbench", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// No progress on stderr
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 error, 2 usage or bad input, 3 regression, 4 inconclusive, 5 validation failed, 130 interrupted \
                          (what had finished is saved).";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run strategies on a workload and compare them (without flags: about a minute)
    Run(Box<RunArgs>),
    /// Show the race of dual writes step by step, and how often it happens, reproducibly for a seed
    Race(RaceArgs),
    /// Make one HTML file from results: of runs (several side by side), a sweep, a comparison, a history
    Report(ReportArgs),
    /// Sizes x change rates x intervals: break-even and the cheapest strategy for a freshness target
    Sweep(Box<SweepArgs>),
    /// Compare two configurations or two binaries: interleaved runs in fresh processes, and a verdict
    Ab(Box<AbArgs>),
    /// Compare two stored results by their repetitions
    Compare(CompareArgs),
    /// Results over time, and the changes in them
    #[command(subcommand)]
    History(HistoryCommand),
    /// Write results in the formats of other tools
    Export(ExportArgs),
    /// Does the measuring measure? Makes things happen whose figures are known, in about a minute
    Selftest(SelftestArgs),
    /// Load one table of an SQLite or PostgreSQL database into a new warehouse folder, once
    Load(LoadArgs),
    /// Follow tables of a live PostgreSQL that somebody else writes to, measure how fresh the warehouse is, and compare
    Attach(Box<super::attach::AttachArgs>),
    /// List and remove what killed runs and attaches left: databases, slots, publications, triggers, work folders
    Cleanup(super::cleanup::CleanupArgs),
    /// Say what this machine can do, or what a PostgreSQL server lacks and how to mend it (exit 1 when something is missing)
    Doctor(DoctorArgs),
    /// Look into a warehouse folder
    #[command(subcommand)]
    Warehouse(WarehouseCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Subcommand)]
pub(super) enum WarehouseCommand {
    /// Write a table's visible rows to stdout, in key order, values as PostgreSQL writes them
    Dump(DumpArgs),
    /// Ask the tables in SQL (in a build with the feature sql)
    Query(super::query::QueryArgs),
    /// Check every file against the manifest: hashes, rows, statistics, deletion vectors, keys (exit 5 when one is wrong)
    Verify(super::verify::VerifyArgs),
    /// List the versions that can be read
    Versions(super::verify::VersionsArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// Tables for people
    Human,
    /// The whole result
    Json,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The record system: sqlite, or the URL of a PostgreSQL server on which databases may be made, as
    /// postgres://role@host:port/database (the password from the URL, PGPASSWORD, ~/.pgpass or a service file)
    /// [default: sqlite]
    #[arg(long, value_name = "URL")]
    pub(super) source: Option<String>,
    /// Strategies, separated by commas: full-refresh, incremental, cdc-trigger, cdc-log (PostgreSQL), dual-write,
    /// dual-write-versioned, outbox, or all (the control run comes by itself) [default: the first five]
    #[arg(long, value_name = "A,B")]
    pub(super) strategies: Option<String>,
    /// A built-in workload (orders, ycsb-a to ycsb-f) or a definition in a TOML file
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) workload: Option<String>,
    /// Rows of the main table, such as 50k
    #[arg(long, value_name = "COUNT")]
    pub(super) rows: Option<String>,
    /// Transactions offered a second, such as 500 or 500/s
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<String>,
    /// How the starts are spread: fixed or poisson
    #[arg(long, value_name = "KIND")]
    pub(super) arrivals: Option<String>,
    /// Concurrent clients
    #[arg(long, value_name = "N")]
    pub(super) clients: Option<u32>,
    /// Which keys are popular: uniform, zipfian, scrambled-zipfian or latest [default: as the workload says]
    #[arg(long, value_name = "KIND")]
    pub(super) keys: Option<String>,
    /// How long each case is measured, such as 10s
    #[arg(long, value_name = "TIME")]
    pub(super) duration: Option<String>,
    /// How long each case runs before it is measured [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub(super) warmup: Option<String>,
    /// From one batch of full-refresh and incremental to the next [default: 2s, or half of a shorter --duration]
    #[arg(long, value_name = "TIME")]
    pub(super) batch_interval: Option<String>,
    /// Sinks to feed, separated by commas, in the order in which a dual write goes [default: warehouse,search,cache]
    #[arg(long, value_name = "A,B")]
    pub(super) sinks: Option<String>,
    /// From one commit of the search index to the next [default: 100ms]
    #[arg(long, value_name = "TIME")]
    pub(super) search_interval: Option<String>,
    /// Rows that the warehouse keeps in memory at the most, in bytes, such as 500M; what is beyond is read from its files when it
    /// is needed [default: no limit]
    #[arg(long, value_name = "BYTES")]
    pub(super) warehouse_memory: Option<String>,
    /// The share of dead rows, in percent, at which the warehouse rewrites a chunk: less makes scans faster and writes more
    /// [default: 33]
    #[arg(long, value_name = "PERCENT")]
    pub(super) dead_rows: Option<usize>,
    /// Threads that compact and write checkpoints beside the warehouse's writer; with 0 it does it itself [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) compaction_threads: Option<usize>,
    /// The cache: memory, or redis://HOST:PORT where the build has it [default: memory]
    #[arg(long, value_name = "STORE")]
    pub(super) cache: Option<String>,
    /// How the cache is filled: by the change stream, or aside (by readers; changes invalidate) [default: stream]
    #[arg(long, value_name = "HOW")]
    pub(super) cache_fill: Option<String>,
    /// Entries of the cache at the most, such as 10k [default: no limit]
    #[arg(long, value_name = "COUNT")]
    pub(super) cache_entries: Option<String>,
    /// Dual write: the mean time that a client lets pass before each write to a sink [default: 500us]
    #[arg(long, value_name = "TIME")]
    pub(super) think: Option<String>,
    /// Dual write: the probability that a client dies between two of its writes [default: 0]
    #[arg(long, value_name = "P")]
    pub(super) crash_rate: Option<f64>,
    /// The seed of rows and transactions
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Repetitions of each case, interleaved [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) reps: Option<u32>,
    /// The source's durability: full (an fsync a commit), normal or off [default: full]
    #[arg(long, value_name = "LEVEL")]
    pub(super) durability: Option<String>,
    /// When the log is made durable: always, none, or an interval such as 10ms [default: always]
    #[arg(long, value_name = "WHEN")]
    pub(super) log_fsync: Option<String>,
    /// How many of the warehouse's last commits stay readable, at most 65,535 [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) keep_versions: Option<u16>,
    /// The folder for the result [default: a new one below reports/]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Keep databases, logs and warehouses in this folder [default: a temporary one below the result]
    #[arg(long, value_name = "DIR")]
    pub(super) work: Option<PathBuf>,
    /// A short run of about 20 seconds; the other flags still win
    #[arg(long)]
    pub(super) quick: bool,
    #[command(flatten)]
    pub(super) live: LiveArgs,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    pub(super) format: OutputFormat,
    /// Find the highest rate that each strategy sustains, beginning at --rate: bracket, halve, and confirm by a run three times as long
    #[arg(long, requires = "slo")]
    pub(super) find_rate: bool,
    /// For --find-rate: the objective for the commit lag at the slowest sink, such as p99=100ms
    #[arg(long, value_name = "p99=TIME", requires = "find_rate")]
    pub(super) slo: Option<String>,
    /// Leave the control run out; the burden on the source is then not known
    #[arg(long, hide = true)]
    pub(super) no_control: bool,
    /// From one checkpoint of the warehouse to the next, so that tests meet many in a short run [default: 5s, or less, so that
    /// two or more fit the measured time]
    #[arg(long, hide = true, value_name = "TIME")]
    pub(super) checkpoint_interval: Option<String>,
    /// Plant a fault, to see that verification finds it
    #[arg(long, hide = true, value_name = "FAULT")]
    pub(super) plant: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RaceArgs {
    /// A built-in workload or a definition in a TOML file [default: ycsb-a]
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) workload: Option<String>,
    /// Rows of the main table [default: 1k]
    #[arg(long, value_name = "COUNT")]
    pub(super) rows: Option<String>,
    /// Transactions offered a second, in virtual time [default: 2000]
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<String>,
    /// Virtual time that is simulated [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub(super) duration: Option<String>,
    /// Numbers of clients, separated by commas
    #[arg(long, value_name = "N,N", default_value = "1,2,4,8")]
    pub(super) clients: String,
    /// The seed of rows, transactions and the order of steps
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// The sinks, in the order in which a client writes to them [default: warehouse,search,cache]
    #[arg(long, value_name = "A,B")]
    pub(super) sinks: Option<String>,
    /// The mean time that a client lets pass before each write to a sink [default: 500us]
    #[arg(long, value_name = "TIME")]
    pub(super) think: Option<String>,
    /// The probability that a client dies between two of its writes [default: 0]
    #[arg(long, value_name = "P")]
    pub(super) crash_rate: Option<f64>,
    /// Let the sinks refuse a write that is older than what they have
    #[arg(long)]
    pub(super) versioned: bool,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    pub(super) format: OutputFormat,
}

/// For every command that something can be watched of.
#[derive(Debug, Args)]
pub(super) struct LiveArgs {
    /// Show the run in a browser while it goes on, at this port of 127.0.0.1 (0: any that is free), and at /metrics [default port: 7878]
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "7878")]
    pub(super) live: Option<u16>,
    /// Show it to other machines as well: listen on this address, with no protection at all
    #[arg(long, value_name = "ADDRESS", requires = "live")]
    pub(super) live_address: Option<std::net::IpAddr>,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The folder or the result file of run, sweep, ab, compare or history
    #[arg(value_name = "RUN")]
    pub(super) runs: Vec<PathBuf>,
    /// The page [default: beside the file if it is one, as report.html, sweep.html.., else report.html in this folder]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Make an index.html for a folder of runs instead, with a line for each [default: reports]
    #[arg(long)]
    pub(super) index: bool,
}

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// The SQLite database, or postgres://ROLE@HOST:PORT/DATABASE (a password is better in PGPASSWORD or ~/.pgpass)
    #[arg(long, value_name = "FILE.db|URL")]
    pub(super) source: PathBuf,
    /// The table; of PostgreSQL also a view, and [SCHEMA.]NAME with "double quotes" where needed
    #[arg(long, value_name = "NAME")]
    pub(super) table: String,
    /// The columns that tell rows apart; of SQLite also rowid [default: the primary key, or SQLite's rowid]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(super) key: Vec<String>,
    /// The warehouse folder, which must not hold a warehouse yet
    #[arg(long, value_name = "DIR")]
    pub(super) warehouse: PathBuf,
    /// How many of the folder's last commits stay readable
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) keep_versions: u16,
    /// Connections that read side by side [default: one a core]
    #[arg(long, value_name = "N")]
    pub(super) readers: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The server to look over: postgres://ROLE@HOST:PORT/DATABASE [default: none, this machine alone]
    #[arg(long, value_name = "URL")]
    pub(super) source: Option<String>,
    /// Tables, separated by commas [default: all]
    #[arg(long, value_name = "A,B")]
    pub(super) tables: Option<String>,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    pub(super) format: OutputFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DumpFormat {
    /// As PostgreSQL's COPY .. (FORMAT csv) writes it
    Csv,
    /// One JSON object a line
    Json,
    /// An Apache Parquet file
    Parquet,
}

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// The warehouse folder
    #[arg(long, value_name = "DIR")]
    pub(super) warehouse: PathBuf,
    /// The table
    #[arg(long, value_name = "NAME")]
    pub(super) table: String,
    /// Columns, separated by commas [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(super) columns: Vec<String>,
    /// An older version that was kept: a commit, such as 12, or a watermark, as lsn:345 [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub(super) at: Option<VersionAt>,
    /// The form of the rows
    #[arg(long, value_enum, default_value_t = DumpFormat::Csv)]
    pub(super) format: DumpFormat,
    /// CSV: begin with a line of column names
    #[arg(long)]
    pub(super) header: bool,
}
