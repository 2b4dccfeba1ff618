//! The derived systems of one case: made together, fed each on its own.

use super::{Setting, StrategyError};
use crate::sink::{
    Cache, CacheReader, SearchIndex, SearchReader, Sink, SinkError, SinkKind, Warehouse, WarehouseReader,
};

/// The sinks that a case feeds.
#[derive(Debug, Default)]
pub(super) struct Sinks {
    pub(super) warehouse: Option<Warehouse>,
    pub(super) search: Option<SearchIndex>,
    pub(super) cache: Option<Cache>,
}

/// Handles that read the sinks of a case.
#[derive(Clone, Debug, Default)]
pub struct SinkReaders {
    /// The warehouse, if it is fed.
    pub warehouse: Option<WarehouseReader>,
    /// The search index, if it is fed.
    pub search: Option<SearchReader>,
    /// The cache, if it is fed.
    pub cache: Option<CacheReader>,
}

/// Work to be done for each sink, whichever kind it is.
pub(super) trait ForEachSink {
    fn sink<S: Sink>(&mut self, sink: S) -> Result<(), StrategyError>;
}

impl Sinks {
    /// Makes the sinks of the setting, all empty.
    pub(super) fn create(setting: &Setting) -> Result<Sinks, StrategyError> {
        let mut sinks = Sinks::default();
        for kind in &setting.sinks {
            match kind {
                SinkKind::Warehouse => {
                    let (folder, options) = (setting.warehouse_folder(), setting.warehouse.clone());
                    sinks.warehouse = Some(Warehouse::create(&folder, setting.output(), options)?);
                }
                SinkKind::Search => {
                    let (folder, options) = (setting.search_folder(), setting.search.clone());
                    let made = SearchIndex::create(&folder, setting.output(), options);
                    sinks.search = Some(made.map_err(SinkError::from)?);
                }
                SinkKind::Cache => {
                    let made = Cache::create(setting.output(), setting.cache.clone());
                    sinks.cache = Some(made.map_err(SinkError::from)?);
                }
            }
        }
        Ok(sinks)
    }

    /// Opens the sinks of the setting that keep their state; an in-process cache begins empty.
    pub(super) fn open(setting: &Setting) -> Result<Sinks, StrategyError> {
        let mut sinks = Sinks::default();
        for kind in &setting.sinks {
            match kind {
                SinkKind::Warehouse => {
                    let (folder, options) = (setting.warehouse_folder(), setting.warehouse.clone());
                    sinks.warehouse = Some(Warehouse::open(&folder, options)?);
                }
                SinkKind::Search => {
                    let opened = SearchIndex::open(&setting.search_folder(), setting.search.clone());
                    sinks.search = Some(opened.map_err(SinkError::from)?);
                }
                SinkKind::Cache => {
                    let opened = Cache::open(setting.output(), setting.cache.clone());
                    sinks.cache = Some(opened.map_err(SinkError::from)?);
                }
            }
        }
        Ok(sinks)
    }

    pub(super) fn readers(&self) -> SinkReaders {
        SinkReaders {
            warehouse: self.warehouse.as_ref().map(Sink::reader),
            search: self.search.as_ref().map(Sink::reader),
            cache: self.cache.as_ref().map(Sink::reader),
        }
    }

    /// Gives each sink to `work`, in the order of [`SinkKind::ALL`].
    pub(super) fn each(self, work: &mut impl ForEachSink) -> Result<(), StrategyError> {
        self.warehouse.map_or(Ok(()), |sink| work.sink(sink))?;
        self.search.map_or(Ok(()), |sink| work.sink(sink))?;
        self.cache.map_or(Ok(()), |sink| work.sink(sink))
    }
}
