//! The resolved settings of a workload, and the ones a command line may override.

use super::arrival::Arrivals;
use super::distribution::{KeyDistribution, RowsPerTxn};
use super::error::{WorkloadError, closest};
use super::quantity;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which generator makes the rows and transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// A shop: customers, products, orders and their items.
    Orders,
    /// One table of records by key, as in YCSB.
    Keyed,
}

/// A kind of transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TxnKind {
    /// orders: a new order with its items; the products' stock goes down
    Place,
    /// orders: a pending order is paid
    Pay,
    /// orders: a paid order is shipped
    Ship,
    /// orders: an open order goes with its items, the stock is given back
    Cancel,
    /// orders: a product's price changes
    Reprice,
    /// orders: a customer's e-mail address and city change
    Profile,
    /// both: one row is read
    Read,
    /// keyed: one field of a record is updated
    Update,
    /// keyed: a record is inserted
    Insert,
    /// keyed: the oldest record is deleted
    Delete,
    /// keyed: records are read in key order
    Scan,
    /// keyed: a record is read, then one field of it updated
    Rmw,
}

impl TxnKind {
    /// Its name, in definitions and results.
    pub fn name(self) -> &'static str {
        match self {
            TxnKind::Place => "place",
            TxnKind::Pay => "pay",
            TxnKind::Ship => "ship",
            TxnKind::Cancel => "cancel",
            TxnKind::Reprice => "reprice",
            TxnKind::Profile => "profile",
            TxnKind::Read => "read",
            TxnKind::Update => "update",
            TxnKind::Insert => "insert",
            TxnKind::Delete => "delete",
            TxnKind::Scan => "scan",
            TxnKind::Rmw => "rmw",
        }
    }
}

impl Model {
    /// The kinds of transactions it has.
    pub fn kinds(self) -> &'static [TxnKind] {
        use TxnKind::{Cancel, Delete, Insert, Pay, Place, Profile, Read, Reprice, Rmw, Scan, Ship, Update};
        match self {
            Model::Orders => &[Place, Pay, Ship, Cancel, Reprice, Profile, Read],
            Model::Keyed => &[Read, Update, Insert, Delete, Scan, Rmw],
        }
    }

    /// The kind with this name.
    ///
    /// # Errors
    /// Says which kinds there are, and which is meant.
    pub(super) fn kind(self, name: &str) -> Result<TxnKind, String> {
        let names = || self.kinds().iter().map(|kind| kind.name());
        self.kinds().iter().copied().find(|kind| kind.name() == name).ok_or_else(|| {
            let hint = closest(name, names()).map(|kind| format!("; did you mean `{kind}`?")).unwrap_or_default();
            let names: Vec<&str> = names().collect();
            format!("this model has no transactions of kind `{name}`{hint} (kinds: {})", names.join(", "))
        })
    }
}

/// The weights of the kinds of transactions; they need not sum to anything. Kinds without a weight are not there.
pub type Shares = Vec<(TxnKind, f64)>;

/// Everything that decides a workload's rows and stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// The built-in name, or the file's name without its ending.
    pub name: String,
    /// What it models, in words.
    pub about: String,
    /// Where its definition comes from, in words.
    pub origin: String,
    /// The generator.
    pub model: Model,
    /// Rows of the main table at the start (`orders`, `usertable`), 1 to 100 million; the other tables follow.
    pub rows: u64,
    /// Transactions started per second.
    pub rate_per_s: f64,
    /// How the starts are spread.
    pub arrivals: Arrivals,
    /// How long transactions are started for.
    pub duration: Duration,
    /// The application's clients.
    pub clients: u32,
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// Which keys are asked for.
    pub keys: KeyDistribution,
    /// The skew of the zipfian distributions, 0.01 to 0.999.
    pub theta: f64,
    /// Items of an order, or records of one transaction.
    pub rows_per_txn: RowsPerTxn,
    /// The width of an order's note, or of one field of a record.
    pub value_bytes: u32,
    /// Fields of a record (model `keyed`).
    pub fields: u32,
    /// A scan reads 1 to this many rows, each number as likely (model `keyed`).
    pub scan_rows_max: u32,
    /// The kinds of transactions.
    pub shares: Shares,
}

/// Settings given on a command line; they win over the definition's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// See [`Settings::rows`].
    pub rows: Option<u64>,
    /// See [`Settings::rate_per_s`].
    pub rate_per_s: Option<f64>,
    /// See [`Settings::arrivals`].
    pub arrivals: Option<Arrivals>,
    /// See [`Settings::duration`].
    pub duration: Option<Duration>,
    /// See [`Settings::clients`].
    pub clients: Option<u32>,
    /// See [`Settings::seed`].
    pub seed: Option<u64>,
    /// See [`Settings::keys`].
    pub keys: Option<KeyDistribution>,
    /// See [`Settings::theta`].
    pub theta: Option<f64>,
    /// See [`Settings::rows_per_txn`].
    pub rows_per_txn: Option<RowsPerTxn>,
    /// See [`Settings::value_bytes`].
    pub value_bytes: Option<u64>,
    /// See [`Settings::shares`]; by name, and replaces all of the definition's if not empty.
    pub shares: Vec<(String, f64)>,
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Overrides {
    /// Puts the overrides into `settings`, checking their ranges.
    ///
    /// # Errors
    /// [`WorkloadError::Setting`].
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<(), WorkloadError> {
        fn put<T, R>(
            setting: &'static str,
            place: &mut R,
            value: Option<T>,
            check: impl FnOnce(T) -> Result<R, String>,
        ) -> Result<(), WorkloadError> {
            if let Some(value) = value {
                *place = check(value).map_err(|message| WorkloadError::Setting { setting, message })?;
            }
            Ok(())
        }
        put("rows", &mut settings.rows, self.rows.map(signed), quantity::rows)?;
        put("rate", &mut settings.rate_per_s, self.rate_per_s, quantity::rate)?;
        put("arrivals", &mut settings.arrivals, self.arrivals, Ok)?;
        put("duration", &mut settings.duration, self.duration, quantity::duration)?;
        put("clients", &mut settings.clients, self.clients.map(i64::from), quantity::clients)?;
        put("seed", &mut settings.seed, self.seed.map(signed), quantity::seed)?;
        put("keys", &mut settings.keys, self.keys, Ok)?;
        put("theta", &mut settings.theta, self.theta, quantity::theta)?;
        put("rows_per_txn", &mut settings.rows_per_txn, self.rows_per_txn, quantity::rows_per_txn)?;
        put("value_bytes", &mut settings.value_bytes, self.value_bytes, quantity::value_bytes)?;
        if !self.shares.is_empty() {
            let model = settings.model;
            put("shares", &mut settings.shares, Some(&self.shares), |shares| {
                let shares: Result<Shares, String> =
                    shares.iter().map(|(name, weight)| Ok((model.kind(name)?, quantity::share(*weight)?))).collect();
                check_shares(shares?)
            })?;
        }
        Ok(())
    }
}

/// Shares must leave something to do, and name each kind once.
pub(super) fn check_shares(shares: Shares) -> Result<Shares, String> {
    if shares.iter().map(|(_, weight)| weight).sum::<f64>() <= 0.0 {
        return Err("at least one share must be above 0".to_owned());
    }
    for (place, (kind, _)) in shares.iter().enumerate() {
        if shares.iter().take(place).any(|(other, _)| other == kind) {
            return Err(format!("`{}` is named twice", kind.name()));
        }
    }
    Ok(shares)
}
