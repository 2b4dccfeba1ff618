//! The shop's transactions, with what the application remembers between them.

use super::orders::{self, CUSTOMERS, ITEMS, ORDERS, Order, PRODUCTS, Shop, Status, column};
use super::random::{Random, mix};
use super::settings::TxnKind;
use super::statement::{Assign, LANES, Statement};
use crate::model::{TableId, Value};

/// How many open orders of each status are remembered; beyond it a forgotten order stays as it is for good.
const OPEN_ORDERS_MAX: usize = 32_768;

/// What a transaction turned out to be.
pub(super) struct Planned {
    pub(super) kind: TxnKind,
    pub(super) lane: Option<u32>,
    pub(super) statements: Vec<Statement>,
}

/// The shop while it runs. Bounded memory: the numbers of the open orders.
#[derive(Clone, Debug)]
pub(super) struct OrdersStream {
    shop: Shop,
    /// Whether a transaction without an order to work on may place one instead.
    places: bool,
    next_order: u64,
    pending: Vec<u64>,
    paid: Vec<u64>,
}

impl OrdersStream {
    pub(super) fn new(shop: Shop, places: bool) -> OrdersStream {
        let (mut pending, mut paid) = (Vec::new(), Vec::new());
        // The newest open orders of the start.
        for number in (1..=shop.orders).rev() {
            match shop.initial_status(number) {
                Status::Pending if pending.len() < OPEN_ORDERS_MAX => pending.push(number),
                Status::Paid if paid.len() < OPEN_ORDERS_MAX => paid.push(number),
                _ if pending.len() == OPEN_ORDERS_MAX && paid.len() == OPEN_ORDERS_MAX => break,
                _ => {}
            }
        }
        let next_order = shop.orders + 1;
        OrdersStream { shop, places, next_order, pending, paid }
    }

    /// Plans a transaction of this kind, or of another if there is no order for it; `now` in µs UTC.
    pub(super) fn plan(&mut self, kind: TxnKind, now: i64, random: &mut Random) -> Planned {
        match kind {
            TxnKind::Pay => match take(&mut self.pending, random) {
                Some(order) => {
                    remember(&mut self.paid, order, random);
                    advance(kind, order, Status::Paid, now)
                }
                None => self.instead(now, random),
            },
            TxnKind::Ship => match take(&mut self.paid, random) {
                Some(order) => advance(kind, order, Status::Shipped, now),
                None => self.instead(now, random),
            },
            TxnKind::Cancel => {
                let pending = random.below((self.pending.len() + self.paid.len()) as u64) < self.pending.len() as u64;
                match take(if pending { &mut self.pending } else { &mut self.paid }, random) {
                    Some(order) => self.cancel(order, now),
                    None => self.instead(now, random),
                }
            }
            TxnKind::Reprice => self.reprice(now, random),
            TxnKind::Profile => self.profile(now, random),
            TxnKind::Read => {
                let key = vec![number(random.between(1, self.next_order - 1))];
                Planned { kind, lane: None, statements: vec![Statement::Read { table: ORDERS, key }] }
            }
            _ => self.place(now, random),
        }
    }

    /// There is no open order to work on.
    fn instead(&mut self, now: i64, random: &mut Random) -> Planned {
        if self.places { self.place(now, random) } else { self.reprice(now, random) }
    }

    fn place(&mut self, now: i64, random: &mut Random) -> Planned {
        let id = self.next_order;
        self.next_order += 1;
        remember(&mut self.pending, id, random);
        let order = self.shop.order(id);
        let mut statements = Vec::with_capacity(1 + 2 * order.items.len());
        let row = self.shop.order_row(id, &order, Status::Pending, now, now);
        statements.push(Statement::Insert { table: ORDERS, row });
        for (item, line) in order.items.iter().zip(1..) {
            statements.push(Statement::Insert { table: ITEMS, row: orders::item_row(id, line, item, now) });
            statements.push(restock(item.product, -item.quantity, now));
        }
        Planned { kind: TxnKind::Place, lane: Some(lane(ORDERS, id)), statements }
    }

    fn cancel(&self, id: u64, now: i64) -> Planned {
        let Order { items, .. } = self.shop.order(id);
        let mut statements = Vec::with_capacity(1 + 2 * items.len());
        for (item, line) in items.iter().zip(1..) {
            statements.push(Statement::Delete { table: ITEMS, key: vec![number(id), Value::Int(line)] });
            statements.push(restock(item.product, item.quantity, now));
        }
        statements.push(Statement::Delete { table: ORDERS, key: vec![number(id)] });
        Planned { kind: TxnKind::Cancel, lane: Some(lane(ORDERS, id)), statements }
    }

    fn reprice(&self, now: i64, random: &mut Random) -> Planned {
        let product = self.shop.product(random);
        let price = Value::Int(random.between(100, 50_099) as i64);
        let set = vec![(column::PRODUCT_PRICE, Assign::Set(price)), stamp(column::PRODUCT_UPDATED, now)];
        let update = Statement::Update { table: PRODUCTS, key: vec![number(product)], set };
        Planned { kind: TxnKind::Reprice, lane: Some(lane(PRODUCTS, product)), statements: vec![update] }
    }

    fn profile(&self, now: i64, random: &mut Random) -> Planned {
        let customer = self.shop.customer(random);
        let set = vec![
            (column::CUSTOMER_EMAIL, Assign::Set(orders::email(customer, random))),
            (column::CUSTOMER_CITY, Assign::Set(orders::city(random))),
            stamp(column::CUSTOMER_UPDATED, now),
        ];
        let update = Statement::Update { table: CUSTOMERS, key: vec![number(customer)], set };
        Planned { kind: TxnKind::Profile, lane: Some(lane(CUSTOMERS, customer)), statements: vec![update] }
    }
}

fn advance(kind: TxnKind, order: u64, status: Status, now: i64) -> Planned {
    let set = vec![(column::ORDER_STATUS, Assign::Set(status.value())), stamp(column::ORDER_UPDATED, now)];
    let update = Statement::Update { table: ORDERS, key: vec![number(order)], set };
    Planned { kind, lane: Some(lane(ORDERS, order)), statements: vec![update] }
}

fn restock(product: u64, quantity: i64, now: i64) -> Statement {
    let set = vec![(column::PRODUCT_STOCK, Assign::Add(quantity)), stamp(column::PRODUCT_UPDATED, now)];
    Statement::Update { table: PRODUCTS, key: vec![number(product)], set }
}

fn stamp(column: usize, now: i64) -> (usize, Assign) {
    (column, Assign::Set(Value::Timestamp(now)))
}

fn number(id: u64) -> Value {
    Value::Int(id as i64)
}

/// All transactions on one order (or customer, or product's price) share a lane.
fn lane(table: TableId, id: u64) -> u32 {
    (mix(id.wrapping_mul(4) + u64::from(table.0)) % u64::from(LANES)) as u32
}

fn take(open: &mut Vec<u64>, random: &mut Random) -> Option<u64> {
    let place = random.below(open.len() as u64) as usize;
    (place < open.len()).then(|| open.swap_remove(place))
}

fn remember(open: &mut Vec<u64>, order: u64, random: &mut Random) {
    if open.len() < OPEN_ORDERS_MAX {
        open.push(order);
    } else if let Some(forgotten) = open.get_mut(random.below(OPEN_ORDERS_MAX as u64) as usize) {
        *forgotten = order;
    }
}
