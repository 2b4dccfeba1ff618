//! Tests of the warehouse as a whole, against plain maps.

mod bulk;
mod crash;
mod faults;
mod flips;
mod kept;
mod model;
mod readers;
#[cfg(feature = "sql")]
mod sql;
mod support;
mod types;
