//! The stream of transactions and the streams of initial rows.

use super::arrival::Schedule;
use super::keyed::{KeyedStream, Records, USERTABLE};
use super::orders::{CUSTOMERS, ITEMS, ORDERS, PRODUCTS, Shop};
use super::orders_stream::OrdersStream;
use super::random::{Family, Purpose};
use super::settings::{Settings, TxnKind};
use super::statement::{BASE_TIME, PlannedTxn, TxnIndex};
use crate::model::{TableId, Value};

/// What makes the rows.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    Orders(Shop),
    Keyed(Records),
}

/// The transactions of a workload, in order and without end. The same for a seed whoever runs it.
///
/// Holds no row: at most the numbers of 65,536 open orders.
#[derive(Clone, Debug)]
pub struct Stream {
    schedule: Schedule,
    randoms: Family,
    index: u64,
    /// Kinds with the running sum of their shares; the last sum is all of them.
    kinds: Vec<(TxnKind, f64)>,
    generator: Generator,
}

#[derive(Clone, Debug)]
enum Generator {
    Orders(OrdersStream),
    Keyed(KeyedStream),
}

impl Stream {
    pub(super) fn new(settings: &Settings, rows: &Rows) -> Stream {
        let mut sum = 0.0;
        let present = settings.shares.iter().filter(|(_, weight)| *weight > 0.0);
        let kinds: Vec<(TxnKind, f64)> = present
            .map(|&(kind, weight)| {
                sum += weight;
                (kind, sum)
            })
            .collect();
        let places = kinds.iter().any(|(kind, _)| *kind == TxnKind::Place);
        let generator = match rows {
            Rows::Orders(shop) => Generator::Orders(OrdersStream::new(shop.clone(), places)),
            Rows::Keyed(records) => Generator::Keyed(KeyedStream::new(records.clone())),
        };
        let schedule = Schedule::new(settings.arrivals, settings.rate_per_s, settings.seed);
        let randoms = Family::new(settings.seed, Purpose::Transactions);
        Stream { schedule, randoms, index: 0, kinds, generator }
    }
}

impl Iterator for Stream {
    type Item = PlannedTxn;

    fn next(&mut self) -> Option<PlannedTxn> {
        let index = self.index;
        self.index += 1;
        let intended = self.schedule.next();
        let now = BASE_TIME.0 + intended.as_micros() as i64;
        let mut random = self.randoms.stream(index);
        let (last, sum) = *self.kinds.last()?;
        let point = random.unit() * sum;
        let kind = self.kinds.iter().find(|(_, up_to)| point < *up_to).map_or(last, |(kind, _)| *kind);
        let planned = match &mut self.generator {
            Generator::Orders(orders) => orders.plan(kind, now, &mut random),
            Generator::Keyed(records) => records.plan(kind, now, &mut random),
        };
        Some(PlannedTxn {
            index: TxnIndex(index),
            kind: planned.kind.name(),
            lane: planned.lane,
            intended,
            statements: planned.statements,
        })
    }
}

/// The rows of one table at the start, in key order for the shop's tables, by number for records.
#[derive(Clone, Debug)]
pub struct InitialRows {
    rows: Rows,
    table: TableId,
    next: u64,
    last: u64,
    items: std::vec::IntoIter<Vec<Value>>,
}

impl InitialRows {
    pub(super) fn new(rows: &Rows, table: TableId) -> InitialRows {
        let (next, last) = match (rows, table) {
            (Rows::Orders(shop), CUSTOMERS) => (1, shop.customers),
            (Rows::Orders(shop), PRODUCTS) => (1, shop.products),
            (Rows::Orders(shop), ORDERS | ITEMS) => (1, shop.orders),
            (Rows::Keyed(records), USERTABLE) => (1, records.rows),
            _ => (1, 0),
        };
        InitialRows { rows: rows.clone(), table, next, last, items: Vec::new().into_iter() }
    }
}

impl Iterator for InitialRows {
    type Item = Vec<Value>;

    fn next(&mut self) -> Option<Vec<Value>> {
        loop {
            if let Some(row) = self.items.next() {
                return Some(row);
            }
            if self.next > self.last {
                return None;
            }
            let number = self.next;
            self.next += 1;
            match (&self.rows, self.table) {
                (Rows::Keyed(records), _) => return Some(records.initial_row(number - 1)),
                (Rows::Orders(shop), CUSTOMERS) => return Some(shop.customer_row(number)),
                (Rows::Orders(shop), PRODUCTS) => return Some(shop.product_row(number)),
                (Rows::Orders(shop), ORDERS) => return Some(shop.initial_order_row(number)),
                (Rows::Orders(shop), _) => self.items = shop.initial_item_rows(number).into_iter(),
            }
        }
    }
}
