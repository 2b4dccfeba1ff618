//! A scan as DataFusion's plan: chunks shared out to partitions, filtered and given in batches of 8,192 rows.

use super::super::WarehouseError;
use super::super::chunk::Slot;
use super::super::version::TableVersion;
use super::statistics;
use arrow_array::{Array, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use std::fmt;
use std::sync::Arc;

/// What a scan reads and gives.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The columns of the answer, by their places in the table, in order.
    pub(super) given: Vec<usize>,
    /// The columns of answer and filter, ascending.
    pub(super) read: Vec<usize>,
    pub(super) read_schema: SchemaRef,
    /// Over `read_schema`.
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// Rows that are enough, for each partition.
    pub(super) limit: Option<usize>,
}

/// A scan of some slots of one table.
#[derive(Debug)]
pub(super) struct ChunkScan {
    table: Arc<TableVersion>,
    wanted: Arc<Wanted>,
    /// The slots of each partition.
    parts: Vec<Vec<usize>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ChunkScan {
    /// A scan of `slots`, in at most `partitions` parts of about as many rows each.
    pub(super) fn new(
        table: Arc<TableVersion>,
        slots: Vec<usize>,
        wanted: Wanted,
        partitions: usize,
    ) -> Result<ChunkScan> {
        let schema = Arc::new(table.shape.arrow.project(&wanted.given)?);
        let parts = shared_out(&table.slots, slots, partitions);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(ChunkScan {
            table,
            wanted: Arc::new(wanted),
            parts,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn chunks(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }
}

/// Slots with live rows, in order, in parts of about as many rows each. At least one part, which may be empty.
fn shared_out(all: &[Slot], slots: Vec<usize>, partitions: usize) -> Vec<Vec<usize>> {
    let slots: Vec<(usize, usize)> = slots
        .into_iter()
        .filter_map(|place| Some((place, all.get(place)?.live())))
        .filter(|(_, live)| *live > 0)
        .collect();
    let count = partitions.min(slots.len()).max(1);
    let rows: usize = slots.iter().map(|(_, live)| live).sum();
    let mut parts = vec![Vec::new(); count];
    let mut before = 0;
    for (place, live) in slots {
        // By where the slot's middle lies.
        let part = (before + live / 2) * count / rows.max(1);
        if let Some(part) = parts.get_mut(part.min(count - 1)) {
            part.push(place);
        }
        before += live;
    }
    parts
}

impl DisplayAs for ChunkScan {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chunks, all) = (self.chunks(), self.table.slots.len());
        if form == DisplayFormatType::TreeRender {
            return write!(f, "table={}\nchunks={chunks} of {all}", self.table.shape.name());
        }
        write!(f, "WarehouseScan: table={}, chunks={chunks} of {all}", self.table.shape.name())?;
        write!(f, ", partitions={}, columns={}", self.parts.len(), self.wanted.read.len())?;
        if let Some(filter) = &self.wanted.filter {
            write!(f, ", filter={filter}")?;
        }
        match self.wanted.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ChunkScan {
    fn name(&self) -> &str {
        "WarehouseScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        match &self.wanted.filter {
            Some(filter) => f(filter),
            None => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(slots) = self.parts.get(partition) else {
            return internal_err!("there is no partition {partition} of {}", self.parts.len());
        };
        let counter = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        if partition == 0 {
            counter("chunks_ruled_out").add(self.table.slots.len() - self.chunks());
        }
        let rows = Rows {
            table: self.table.clone(),
            wanted: self.wanted.clone(),
            slots: slots.clone().into_iter(),
            piece: None,
            batch_rows: context.session_config().batch_size().max(1),
            left: self.wanted.limit.unwrap_or(usize::MAX),
            chunks_read: counter("chunks_read"),
            dead_rows: counter("dead_rows"),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let schema = self.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures_util::stream::iter(rows))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        if args.partition().is_some() {
            return Ok(Arc::new(Statistics::new_unknown(&self.schema())));
        }
        let whole = statistics::of_table(&self.table, Some(&self.wanted.given));
        let exact = self.wanted.filter.is_none() && self.wanted.limit.is_none();
        Ok(Arc::new(if exact { whole } else { whole.to_inexact() }))
    }
}

/// The rows of one partition.
struct Rows {
    table: Arc<TableVersion>,
    wanted: Arc<Wanted>,
    slots: std::vec::IntoIter<usize>,
    piece: Option<Piece>,
    batch_rows: usize,
    left: usize,
    chunks_read: Count,
    dead_rows: Count,
    metrics: BaselineMetrics,
}

/// A chunk's wanted columns, which rows of it live, and how far it is given.
struct Piece {
    batch: RecordBatch,
    live: Option<BooleanBuffer>,
    at: usize,
}

impl Rows {
    fn open(&self, place: usize) -> Result<Option<Piece>, DataFusionError> {
        let Some(slot) = self.table.slots.get(place) else { return Ok(None) };
        self.chunks_read.add(1);
        self.dead_rows.add(slot.deleted.count());
        if self.wanted.read.is_empty() {
            // Nothing but the number of rows is asked for.
            let options = RecordBatchOptions::new().with_row_count(Some(slot.live()));
            let batch = RecordBatch::try_new_with_options(self.wanted.read_schema.clone(), Vec::new(), &options)?;
            return Ok(Some(Piece { batch, live: None, at: 0 }));
        }
        let batch = self.columns(slot).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let live = (slot.deleted.count() > 0).then(|| slot.deleted.live_mask(slot.chunk.rows));
        Ok(Some(Piece { batch, live, at: 0 }))
    }

    /// From memory where the rows are there; else only these columns, which are not kept.
    fn columns(&self, slot: &Slot) -> Result<RecordBatch, WarehouseError> {
        if !slot.chunk.is_loaded()
            && let Some(segment) = slot.chunk.segment()
        {
            return segment.read(&self.table.shape, Some(&self.wanted.read));
        }
        let failed = WarehouseError::columnar("scan table", self.table.shape.name());
        slot.chunk.batch()?.project(&self.wanted.read).map_err(failed)
    }

    /// The next rows of the piece that live and pass the filter.
    fn cut(&self, piece: &mut Piece) -> Result<RecordBatch, DataFusionError> {
        let count = self.batch_rows.min(piece.batch.num_rows() - piece.at);
        let batch = piece.batch.slice(piece.at, count);
        let live = piece.live.as_ref().map(|live| live.slice(piece.at, count));
        let live = live.filter(|live| live.count_set_bits() < count);
        piece.at += count;
        let keep = match (&self.wanted.filter, live) {
            (None, live) => live,
            (Some(filter), None) => Some(holds(filter, &batch)?),
            (Some(filter), Some(live)) => match holds(filter, &batch) {
                Ok(holds) => Some(&live & &holds),
                // It may be a dead row that can't be divided by.
                Err(_) => {
                    let batch = filter_record_batch(&batch, &BooleanArray::new(live, None))?;
                    let holds = BooleanArray::new(holds(filter, &batch)?, None);
                    return Ok(filter_record_batch(&self.given(&batch)?, &holds)?);
                }
            },
        };
        let batch = self.given(&batch)?;
        match keep {
            Some(keep) if keep.count_set_bits() < count => {
                Ok(filter_record_batch(&batch, &BooleanArray::new(keep, None))?)
            }
            _ => Ok(batch),
        }
    }

    fn given(&self, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let place = |column: &usize| self.wanted.read.binary_search(column).ok();
        let places: Vec<usize> = self.wanted.given.iter().filter_map(place).collect();
        Ok(batch.project(&places)?)
    }

    fn step(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        while self.left > 0 {
            let Some(mut piece) = self.piece.take() else {
                let Some(place) = self.slots.next() else { return Ok(None) };
                self.piece = self.open(place)?;
                continue;
            };
            let mut batch = self.cut(&mut piece)?;
            if piece.at < piece.batch.num_rows() {
                self.piece = Some(piece);
            }
            if batch.num_rows() > self.left {
                batch = batch.slice(0, self.left);
            }
            self.left -= batch.num_rows();
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

/// The rows for which the filter is true, and not false or unknown.
fn holds(filter: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanBuffer, DataFusionError> {
    let holds = filter.evaluate(batch)?.into_array(batch.num_rows())?;
    let Some(holds) = holds.as_any().downcast_ref::<BooleanArray>() else {
        return internal_err!("a filter gives {} and no boolean", holds.data_type());
    };
    Ok(match holds.nulls() {
        Some(known) => holds.values() & known.inner(),
        None => holds.values().clone(),
    })
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let time = self.metrics.elapsed_compute().clone();
        let _timer = time.timer();
        match self.step() {
            Ok(Some(batch)) => {
                self.metrics.record_output(batch.num_rows());
                Some(Ok(batch))
            }
            Ok(None) => None,
            Err(error) => {
                self.left = 0;
                Some(Err(error))
            }
        }
    }
}
