//! The shop: its tables, and every order as a function of its number.
//!
//! An order, its items and a product's list price are functions of (seed, number). So no table is held, and a
//! cancelled order's items are known again without having been kept.

use super::distribution::{KeyChooser, RowsPerTxn};
use super::random::{Purpose, Random, draw};
use super::settings::Settings;
use super::statement::{BASE_TIME, Invariant, Term};
use crate::model::{Catalog, Column, ColumnType, TableId, TableSchema, Value};
use smallvec::SmallVec;

pub(super) const CUSTOMERS: TableId = TableId(0);
pub(super) const PRODUCTS: TableId = TableId(1);
pub(super) const ORDERS: TableId = TableId(2);
pub(super) const ITEMS: TableId = TableId(3);

/// Places of the columns that statements name.
pub(super) mod column {
    pub const CUSTOMER_EMAIL: usize = 2;
    pub const CUSTOMER_CITY: usize = 3;
    pub const CUSTOMER_UPDATED: usize = 5;
    pub const PRODUCT_PRICE: usize = 2;
    pub const PRODUCT_STOCK: usize = 3;
    pub const PRODUCT_UPDATED: usize = 4;
    pub const ORDER_STATUS: usize = 2;
    pub const ORDER_TOTAL: usize = 3;
    pub const ORDER_UPDATED: usize = 7;
    pub const ITEM_QUANTITY: usize = 3;
    pub const ITEM_PRICE: usize = 4;
}

const ORDERS_A_CUSTOMER: u64 = 5;
const ORDERS_A_PRODUCT: u64 = 50;
const YEAR_US: i64 = 365 * 86_400 * 1_000_000;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Paid,
    Shipped,
}

impl Status {
    pub(super) fn value(self) -> Value {
        Value::from(match self {
            Status::Pending => "pending",
            Status::Paid => "paid",
            Status::Shipped => "shipped",
        })
    }
}

/// One line of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) product: u64,
    pub(super) quantity: i64,
    pub(super) price_cents: i64,
}

/// An order as its number decides it.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) customer: u64,
    /// Sorted by product, so that transactions lock products in one order.
    pub(super) items: SmallVec<[Item; 16]>,
}

impl Order {
    fn total_cents(&self) -> i64 {
        self.items.iter().map(|item| item.quantity * item.price_cents).sum()
    }
}

/// The shop. Numbers of customers, products and orders start at 1.
#[derive(Clone, Debug)]
pub(super) struct Shop {
    pub(super) seed: u64,
    pub(super) customers: u64,
    pub(super) products: u64,
    pub(super) orders: u64,
    rows_per_order: RowsPerTxn,
    note_bytes: usize,
    customer_keys: KeyChooser,
    product_keys: KeyChooser,
}

impl Shop {
    pub(super) fn new(settings: &Settings) -> Shop {
        let customers = (settings.rows / ORDERS_A_CUSTOMER).max(1);
        let products = (settings.rows / ORDERS_A_PRODUCT).max(1);
        Shop {
            seed: settings.seed,
            customers,
            products,
            orders: settings.rows,
            rows_per_order: settings.rows_per_txn,
            note_bytes: settings.value_bytes as usize,
            customer_keys: KeyChooser::new(settings.keys, settings.theta, customers, 0),
            product_keys: KeyChooser::new(settings.keys, settings.theta, products, 0),
        }
    }

    /// Draws a customer by popularity.
    pub(super) fn customer(&self, random: &mut Random) -> u64 {
        1 + self.customer_keys.draw(random, 0, self.customers)
    }

    /// Draws a product by popularity.
    pub(super) fn product(&self, random: &mut Random) -> u64 {
        1 + self.product_keys.draw(random, 0, self.products)
    }

    /// The order's stream, and its quantities first: how many items there are and what they sum to costs no more.
    fn quantities(&self, order: u64) -> (Random, SmallVec<[i64; 16]>) {
        let mut random = Random::new(self.seed, Purpose::Orders, order);
        let items = self.rows_per_order.draw(&mut random);
        let quantities = (0..items).map(|_| 1 + random.below(5) as i64).collect();
        (random, quantities)
    }

    /// The order with this number.
    pub(super) fn order(&self, number: u64) -> Order {
        let (mut random, quantities) = self.quantities(number);
        let customer = self.customer(&mut random);
        let mut items: SmallVec<[Item; 16]> = quantities
            .into_iter()
            .map(|quantity| {
                let product = self.product(&mut random);
                // The price agreed on: the list price less 0 to 20 per cent.
                let price_cents = self.list_price(product) * (100 - random.below(21) as i64) / 100;
                Item { product, quantity, price_cents }
            })
            .collect();
        items.sort_by_key(|item| item.product);
        Order { customer, items }
    }

    /// A product's price at the start, 1.00 to 500.99 with most of them low.
    fn list_price(&self, product: u64) -> i64 {
        let bits = draw(self.seed, Purpose::Products, product);
        let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
        100 + (unit * unit * unit * 50_000.0) as i64
    }

    /// Where an order of the start stands: 6 in 100 pending, 6 paid, the rest shipped.
    pub(super) fn initial_status(&self, order: u64) -> Status {
        match draw(self.seed, Purpose::OpenOrders, order) % 100 {
            0..6 => Status::Pending,
            6..12 => Status::Paid,
            _ => Status::Shipped,
        }
    }

    /// When the row with this number out of `rows` came to be: evenly over the year before the run, in µs UTC.
    fn initial_created(number: u64, rows: u64) -> i64 {
        let past = u128::from(rows.saturating_sub(number) + 1) * YEAR_US as u128 / u128::from(rows + 1);
        BASE_TIME.0 - past as i64
    }

    /// A customer's row at the start.
    pub(super) fn customer_row(&self, number: u64) -> Vec<Value> {
        let mut random = Random::new(self.seed, Purpose::Customers, number);
        let created = Shop::initial_created(number, self.customers);
        let name = random.text(12);
        vec![
            Value::Int(number as i64),
            Value::Text(name),
            email(number, &mut random),
            city(&mut random),
            Value::Timestamp(created),
            Value::Timestamp(created),
        ]
    }

    /// A product's row at the start.
    pub(super) fn product_row(&self, number: u64) -> Vec<Value> {
        let mut random = Random::new(self.seed, Purpose::Products, number);
        vec![
            Value::Int(number as i64),
            Value::Text(random.text(20)),
            Value::Int(self.list_price(number)),
            Value::Int(self.initial_stock(number)),
            Value::Timestamp(Shop::initial_created(number, self.products)),
        ]
    }

    fn initial_stock(&self, product: u64) -> i64 {
        1_000_000 + (draw(self.seed, Purpose::Products, product) % 1_000_000) as i64
    }

    /// The order's row; `created` and `updated` in µs UTC.
    pub(super) fn order_row(
        &self,
        number: u64,
        order: &Order,
        status: Status,
        created: i64,
        updated: i64,
    ) -> Vec<Value> {
        let mut random = Random::new(self.seed, Purpose::Notes, number);
        let note = if random.below(4) == 0 { Value::Null } else { Value::Text(random.text(self.note_bytes)) };
        vec![
            Value::Int(number as i64),
            Value::Int(order.customer as i64),
            status.value(),
            Value::Int(order.total_cents()),
            Value::Int(order.items.len() as i64),
            note,
            Value::Timestamp(created),
            Value::Timestamp(updated),
        ]
    }

    /// An order's row at the start.
    pub(super) fn initial_order_row(&self, number: u64) -> Vec<Value> {
        let created = Shop::initial_created(number, self.orders);
        let status = self.initial_status(number);
        // Touched again before the run started, at any time since, if it is no longer pending.
        let since = (BASE_TIME.0 - created).max(1) as u64;
        let updated = match status {
            Status::Pending => created,
            Status::Paid | Status::Shipped => created + (draw(self.seed, Purpose::Orders, number) % since) as i64,
        };
        self.order_row(number, &self.order(number), status, created, updated)
    }

    /// The rows of an initial order's items.
    pub(super) fn initial_item_rows(&self, number: u64) -> Vec<Vec<Value>> {
        let created = Shop::initial_created(number, self.orders);
        let items = self.order(number).items;
        items.iter().zip(1..).map(|(item, line)| item_row(number, line, item, created)).collect()
    }

    /// How many items the initial orders have, and the sum of their quantities.
    pub(super) fn initial_items(&self) -> (u64, i128) {
        (1..=self.orders).fold((0, 0), |(items, sum), number| {
            let (_, quantities) = self.quantities(number);
            (items + quantities.len() as u64, sum + i128::from(quantities.iter().sum::<i64>()))
        })
    }

    /// What holds at every commit. Reads every initial order once: about 20 ns each.
    pub(super) fn invariants(&self) -> Vec<Invariant> {
        let stock: i128 = (1..=self.products).map(|number| i128::from(self.initial_stock(number))).sum();
        let (_, sold) = self.initial_items();
        let term = |coefficient, table, factors: &[usize]| Term { coefficient, table, factors: factors.to_vec() };
        vec![
            Invariant {
                name: "the orders' totals equal the worth of their items".to_owned(),
                terms: vec![
                    term(1, ORDERS, &[column::ORDER_TOTAL]),
                    term(-1, ITEMS, &[column::ITEM_QUANTITY, column::ITEM_PRICE]),
                ],
                equals: 0,
            },
            Invariant {
                name: "what is in stock and what is ordered stay the same in sum".to_owned(),
                terms: vec![term(1, PRODUCTS, &[column::PRODUCT_STOCK]), term(1, ITEMS, &[column::ITEM_QUANTITY])],
                equals: stock + sold,
            },
        ]
    }
}

/// An item's row; `updated` in µs UTC.
pub(super) fn item_row(order: u64, line: i64, item: &Item, updated: i64) -> Vec<Value> {
    vec![
        Value::Int(order as i64),
        Value::Int(line),
        Value::Int(item.product as i64),
        Value::Int(item.quantity),
        Value::Int(item.price_cents),
        Value::Timestamp(updated),
    ]
}

pub(super) fn email(customer: u64, random: &mut Random) -> Value {
    Value::text(format!("c{customer}.{:08x}@example.com", random.next() as u32))
}

/// A city, or NULL for one customer in five.
pub(super) fn city(random: &mut Random) -> Value {
    // Spelled in more than ASCII on purpose: text has to travel as it is.
    const CITIES: [&str; 12] = [
        "Amsterdam",
        "Berlin",
        "Graz",
        "Kraków",
        "Lyon",
        "Málaga",
        "Oslo",
        "Porto",
        "Reykjavík",
        "Turku",
        "Zürich",
        "京都",
    ];
    let place = random.below(CITIES.len() as u64 * 5 / 4);
    CITIES.get(place as usize).map_or(Value::Null, |city| Value::from(*city))
}

/// The shop's tables, in [`TableId`] order: parents before children.
pub(super) fn catalog() -> Catalog {
    use ColumnType::{Int64, Text, Timestamp};
    let table = |name: &str, columns: &[(&str, ColumnType, bool)], key: &[usize]| TableSchema {
        name: name.to_owned(),
        columns: columns
            .iter()
            .map(|&(name, column_type, nullable)| Column { name: name.to_owned(), column_type, nullable })
            .collect(),
        key: key.to_vec(),
    };
    let customers = [
        ("id", Int64, false),
        ("name", Text, false),
        ("email", Text, false),
        ("city", Text, true),
        ("created_at", Timestamp, false),
        ("updated_at", Timestamp, false),
    ];
    let products = [
        ("id", Int64, false),
        ("name", Text, false),
        ("price_cents", Int64, false),
        ("stock", Int64, false),
        ("updated_at", Timestamp, false),
    ];
    let orders = [
        ("id", Int64, false),
        ("customer_id", Int64, false),
        ("status", Text, false),
        ("total_cents", Int64, false),
        ("item_count", Int64, false),
        ("note", Text, true),
        ("created_at", Timestamp, false),
        ("updated_at", Timestamp, false),
    ];
    let items = [
        ("order_id", Int64, false),
        ("line_no", Int64, false),
        ("product_id", Int64, false),
        ("quantity", Int64, false),
        ("price_cents", Int64, false),
        ("updated_at", Timestamp, false),
    ];
    let tables = vec![
        table("customers", &customers, &[0]),
        table("products", &products, &[0]),
        table("orders", &orders, &[0]),
        table("order_items", &items, &[0, 1]),
    ];
    Catalog { tables }
}
