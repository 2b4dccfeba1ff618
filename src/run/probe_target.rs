//! What the probers read: the workload's invariants in one version of the warehouse, a word in one of the search index.

use crate::model::TableId;
use crate::probe::{ProbeRead, ProbeTarget};
use crate::sink::warehouse::Aggregate;
use crate::sink::{SearchReader, WarehouseReader};
use crate::transform::TransformSet;
use crate::workload::Workload;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Sum {
    coefficient: i128,
    table: TableId,
    aggregate: Aggregate,
}

struct Check {
    name: String,
    sums: Vec<Sum>,
    equals: i128,
}

/// Reads the newest version and checks one of the invariants that the transform leaves checkable, each in turn: a read
/// sums whole columns, and checking all of them at each read would cost more CPU than measuring may take.
pub(super) struct WarehouseProbe {
    reader: WarehouseReader,
    checks: Vec<Check>,
    turn: AtomicUsize,
    /// A table to read when there is no invariant, so that a read is a read.
    any_table: Option<TableId>,
}

impl WarehouseProbe {
    pub(super) fn new(reader: WarehouseReader, workload: &Workload, transforms: &TransformSet) -> WarehouseProbe {
        let column = |table: TableId, source: usize| -> Option<usize> {
            // A sum over filtered rows is not the invariant's sum.
            let transform = transforms.table(table).ok().filter(|transform| !transform.has_filter())?;
            let outputs = 0..transform.output().columns.len();
            outputs.into_iter().find(|&output| transform.passes_through(output) == Some(source))
        };
        let checks = workload.invariants().iter().filter_map(|invariant| {
            let sums = invariant.terms.iter().map(|term| {
                let aggregate = match term.factors.as_slice() {
                    [] => transforms.table(term.table).ok().filter(|t| !t.has_filter()).map(|_| Aggregate::Count)?,
                    [one] => Aggregate::Sum(column(term.table, *one)?),
                    [one, other] => Aggregate::SumProduct(column(term.table, *one)?, column(term.table, *other)?),
                    _ => return None,
                };
                Some(Sum { coefficient: i128::from(term.coefficient), table: term.table, aggregate })
            });
            let sums: Option<Vec<Sum>> = sums.collect();
            Some(Check { name: invariant.name.clone(), sums: sums?, equals: invariant.equals })
        });
        let any_table = workload.catalog().iter().next().map(|(table, _)| table);
        WarehouseProbe { reader, checks: checks.collect(), turn: AtomicUsize::new(0), any_table }
    }
}

impl WarehouseProbe {
    /// How many invariants are checked.
    pub(super) fn invariants(&self) -> usize {
        self.checks.len()
    }
}

impl ProbeTarget for WarehouseProbe {
    fn read(&self) -> Result<ProbeRead<'_>, Box<dyn Error + Send + Sync>> {
        let version = self.reader.version();
        let mut broken = Vec::new();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(check) = self.checks.get(turn % self.checks.len().max(1)) {
            let mut total = 0;
            for sum in &check.sums {
                let value = version.aggregate(sum.table, std::slice::from_ref(&sum.aggregate))?;
                total += sum.coefficient * value.first().copied().flatten().unwrap_or(0);
            }
            if total != check.equals {
                broken.push(check.name.as_str());
            }
        }
        if let (true, Some(table)) = (self.checks.is_empty(), self.any_table) {
            version.aggregate(table, &[Aggregate::Count])?;
        }
        Ok(ProbeRead { watermark: version.watermark(), broken })
    }
}

/// Searches the newest version for a word, as a person would.
pub(super) struct SearchProbe {
    reader: SearchReader,
    turn: AtomicUsize,
}

/// Words to search for, not so common that ranking their hits would be what is measured: two letters or digits, which
/// some in ten thousand of the generated texts have.
const WORDS: [&str; 4] = ["qz", "k7", "wx", "9b"];
/// Hits asked for: a page.
const PAGE: usize = 10;

impl SearchProbe {
    pub(super) fn new(reader: SearchReader) -> SearchProbe {
        SearchProbe { reader, turn: AtomicUsize::new(0) }
    }
}

impl ProbeTarget for SearchProbe {
    fn read(&self) -> Result<ProbeRead<'_>, Box<dyn Error + Send + Sync>> {
        let view = self.reader.view();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(word) = WORDS.get(turn % WORDS.len()) {
            std::hint::black_box(view.search(word, PAGE)?);
        }
        Ok(ProbeRead { watermark: view.watermark(), broken: Vec::new() })
    }
}
