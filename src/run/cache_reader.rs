//! The application's reader of the cache: keys by the workload's own popularity, and what it does with a miss.

use super::RunError;
use super::verify::initial_keys;
use crate::model::{Key, RowValues, TableId, Value, ValueRef};
use crate::plan::Plan;
use crate::probe::{KeyRead, KeyTarget};
use crate::sink::warehouse::row_values;
use crate::sink::{CacheFill, CacheReader, Lookup};
use crate::source::PointReader;
use crate::strategy::Setting;
use crate::transform::TransformSet;
use crate::workload::Statement;
use std::error::Error;
use std::sync::Arc;

/// Keys to read, one after the other and then from the beginning again.
const KEYS: usize = 20_000;
/// Transactions looked through for them.
const TRANSACTIONS_MAX: usize = 200_000;

/// Reads keys from the cache; in the cache-aside mode it loads what it misses from the source and puts it there.
pub(super) struct CacheTarget {
    reader: CacheReader,
    keys: Vec<(TableId, Vec<Value>, Key)>,
    turn: usize,
    loader: Option<Loader>,
}

struct Loader {
    source: PointReader,
    transforms: Arc<TransformSet>,
}

impl CacheTarget {
    /// `None` when the workload names no key that is there at the start.
    pub(super) fn new(plan: &Plan, setting: &Setting, reader: CacheReader) -> Result<Option<CacheTarget>, RunError> {
        let loader = match plan.cache.fill {
            CacheFill::Stream => None,
            CacheFill::Aside => Some(Loader {
                source: PointReader::connect(&setting.source)?,
                transforms: Arc::clone(&setting.transforms),
            }),
        };
        let keys = popular_keys(plan)?;
        Ok((!keys.is_empty()).then_some(CacheTarget { reader, keys, turn: 0, loader }))
    }
}

/// Keys as popular as the workload makes them: those that transactions behind the end of the run work on, as far as
/// they were there at the start. So rows that are inserted meanwhile are not read, which matters where the newest are the
/// most popular.
fn popular_keys(plan: &Plan) -> Result<Vec<(TableId, Vec<Value>, Key)>, RunError> {
    let initial = initial_keys(&plan.workload)?;
    let offered = (plan.warmup + plan.duration).as_secs_f64() * plan.workload.settings().rate_per_s;
    let mut keys = Vec::with_capacity(KEYS);
    for txn in plan.workload.stream().skip(offered.ceil() as usize).take(TRANSACTIONS_MAX) {
        for statement in &txn.statements {
            if let Statement::Update { table, key, .. }
            | Statement::Read { table, key }
            | Statement::Scan { table, from: key, .. }
            | Statement::Delete { table, key } = statement
            {
                let values: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
                let encoded = Key::from_values(&values).map_err(RunError::measuring)?;
                if initial.get(table).is_some_and(|keys| keys.contains(&encoded)) {
                    keys.push((*table, key.clone(), encoded));
                }
            }
        }
        if keys.len() >= KEYS {
            break;
        }
    }
    Ok(keys)
}

impl KeyTarget for CacheTarget {
    fn read(&mut self) -> Result<KeyRead, Box<dyn Error + Send + Sync>> {
        let place = self.turn % self.keys.len().max(1);
        self.turn += 1;
        let (table, values, key) = self.keys.get(place).ok_or("the workload reads and updates no key")?;
        let found = match self.reader.get(*table, key.as_ref())? {
            Lookup::Hit { position, .. } => Some(position),
            Lookup::Miss => {
                if let Some(loader) = &self.loader {
                    loader.load(&self.reader, *table, (values, key))?;
                }
                None
            }
        };
        Ok(KeyRead { table: *table, key: key.clone(), found })
    }
}

impl Loader {
    fn load(
        &self,
        cache: &CacheReader,
        table: TableId,
        (values, key): (&[Value], &Key),
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let transform = self.transforms.table(table)?;
        let (row, position) = self.source.read(table, values, |row, position| {
            let shaped = row.map(|row: &RowValues<'_>| {
                let mut builders = transform.builders(1);
                builders.push(row)?;
                builders.finish()
            });
            (shaped.transpose(), position)
        })?;
        let row = row?.filter(|batch| batch.num_rows() == 1).map(|batch| row_values(&batch, 0));
        let row: Option<Vec<ValueRef<'_>>> = row.as_ref().map(|row| row.iter().map(Value::as_ref).collect());
        cache.fill(table, key.as_ref(), row.as_deref(), position)?;
        Ok(())
    }
}
