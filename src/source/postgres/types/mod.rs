//! Values out of PostgreSQL, in its binary and in its text form.
//!
//! | PostgreSQL | catalog type |
//! |---|---|
//! | bool | Bool |
//! | int2, int4, int8, oid, xid, cid | Int64 |
//! | float4, float8 | Float32, Float64 |
//! | numeric(p,s) that 38 digits hold | Decimal; NaN and the infinities are refused |
//! | any other numeric | Text, digit by digit as PostgreSQL prints it |
//! | text, varchar, char(n), name, json, jsonb, enums, uuid, time, timetz, interval | Text, as PostgreSQL prints it |
//! | bytea | Bytes |
//! | date | Date |
//! | timestamptz, timestamp | Timestamp, LocalTimestamp; beyond the year 294246 they are refused |
//! | a domain | as its base type |
//! | everything else: arrays, ranges, composites, inet, bit, money, xml, tsvector, regclass, ... | Text, by its output function |
//!
//! The forms are those of a session with `DateStyle = ISO`, `IntervalStyle = postgres`, `TimeZone = UTC`,
//! `bytea_output = hex` and `extra_float_digits = 1`. Binary forms: the types' `send` functions, told for COPY in the
//! section "Binary Format" of COPY's reference page, and in the sources below `src/backend/utils/adt`.

mod binary;
mod print;
mod textual;

use crate::model::{ColumnType, ValueRef};
use std::ops::Range;

/// How the values of one column become values of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgCoding {
    /// bool
    Bool,
    /// int2
    Int2,
    /// int4
    Int4,
    /// int8
    Int8,
    /// An unsigned number of 32 bits: oid, xid, cid.
    Oid,
    /// float4
    Float4,
    /// float8
    Float8,
    /// numeric with a declared precision and scale that fit 128 bits.
    Decimal {
        /// Digits in all, at most 38.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// Any other numeric, as text.
    Numeric,
    /// A type whose binary form is its text.
    Text,
    /// jsonb: a version byte, and text.
    Jsonb,
    /// bytea
    Bytea,
    /// date
    Date,
    /// time without time zone, as text
    Time,
    /// time with time zone, as text
    TimeTz,
    /// timestamp without time zone
    Timestamp,
    /// timestamp with time zone
    TimestampTz,
    /// interval, as text
    Interval {
        /// Whether the server knows infinite intervals, as from version 17 on.
        infinite: bool,
    },
    /// uuid, as text
    Uuid,
    /// Text by the type's output function, since the binary form is not decoded here.
    Output,
}

/// One value as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgField<'a> {
    /// SQL NULL.
    Null,
    /// An unchanged large value that was not sent.
    Unchanged,
    /// In text form.
    Text(&'a [u8]),
    /// In binary form.
    Binary(&'a [u8]),
}

/// Memory for values that have to be printed or unescaped, kept from row to row.
#[derive(Clone, Debug, Default)]
pub struct PgScratch {
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
}

/// A decoded value, or where in a [`PgScratch`] it lies.
#[derive(Clone, Debug)]
pub(super) enum Decoded<'a> {
    Value(ValueRef<'a>),
    Text(Range<usize>),
    Bytes(Range<usize>),
}

impl<'a> Decoded<'a> {
    pub(super) fn resolve(self, scratch: &'a PgScratch) -> ValueRef<'a> {
        // The ranges were made by appending to this very scratch.
        match self {
            Decoded::Value(value) => value,
            Decoded::Text(range) => ValueRef::Text(scratch.text.get(range).unwrap_or_default()),
            Decoded::Bytes(range) => ValueRef::Bytes(scratch.bytes.get(range).unwrap_or_default()),
        }
    }
}

/// A value that its column's catalog type does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgMisfit {
    /// What arrived.
    pub found: String,
    /// What the column holds.
    pub wanted: String,
}

impl PgMisfit {
    fn new(found: impl Into<String>, wanted: impl Into<String>) -> PgMisfit {
        PgMisfit { found: found.into(), wanted: wanted.into() }
    }
}

/// Oids of the types with a coding of their own; see `pg_type.dat`.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const OID: u32 = 26;
    pub(super) const XID: u32 = 28;
    pub(super) const CID: u32 = 29;
    pub(super) const JSON: u32 = 114;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const BPCHAR: u32 = 1042;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const DATE: u32 = 1082;
    pub(super) const TIME: u32 = 1083;
    pub(super) const TIMESTAMP: u32 = 1114;
    pub(super) const TIMESTAMPTZ: u32 = 1184;
    pub(super) const INTERVAL: u32 = 1186;
    pub(super) const TIMETZ: u32 = 1266;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const UUID: u32 = 2950;
    pub(super) const JSONB: u32 = 3802;
}

/// A version of the server from which on intervals may be infinite, as `server_version_num` has it.
const INFINITE_INTERVALS: i32 = 170_000;

impl PgCoding {
    /// The coding of a column of type `base` (no domain) with this type modifier. `kind` is `pg_type.typtype`.
    pub fn of(base: u32, modifier: i32, kind: char, server_version: i32) -> PgCoding {
        match base {
            oid::BOOL => PgCoding::Bool,
            oid::BYTEA => PgCoding::Bytea,
            oid::INT2 => PgCoding::Int2,
            oid::INT4 => PgCoding::Int4,
            oid::INT8 => PgCoding::Int8,
            oid::OID | oid::XID | oid::CID => PgCoding::Oid,
            oid::FLOAT4 => PgCoding::Float4,
            oid::FLOAT8 => PgCoding::Float8,
            oid::NUMERIC => numeric(modifier),
            oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::JSON => PgCoding::Text,
            oid::JSONB => PgCoding::Jsonb,
            oid::DATE => PgCoding::Date,
            oid::TIME => PgCoding::Time,
            oid::TIMETZ => PgCoding::TimeTz,
            oid::TIMESTAMP => PgCoding::Timestamp,
            oid::TIMESTAMPTZ => PgCoding::TimestampTz,
            oid::INTERVAL => PgCoding::Interval { infinite: server_version >= INFINITE_INTERVALS },
            oid::UUID => PgCoding::Uuid,
            _ if kind == 'e' => PgCoding::Text,
            _ => PgCoding::Output,
        }
    }

    /// The catalog's type for such a column.
    pub fn column_type(self) -> ColumnType {
        match self {
            PgCoding::Bool => ColumnType::Bool,
            PgCoding::Int2 | PgCoding::Int4 | PgCoding::Int8 | PgCoding::Oid => ColumnType::Int64,
            PgCoding::Float4 => ColumnType::Float32,
            PgCoding::Float8 => ColumnType::Float64,
            // Both are at most 38.
            PgCoding::Decimal { precision, scale } => ColumnType::Decimal { precision, scale: scale as i8 },
            PgCoding::Bytea => ColumnType::Bytes,
            PgCoding::Date => ColumnType::Date,
            PgCoding::Timestamp => ColumnType::LocalTimestamp,
            PgCoding::TimestampTz => ColumnType::Timestamp,
            PgCoding::Numeric
            | PgCoding::Text
            | PgCoding::Jsonb
            | PgCoding::Time
            | PgCoding::TimeTz
            | PgCoding::Interval { .. }
            | PgCoding::Uuid
            | PgCoding::Output => ColumnType::Text,
        }
    }

    /// Whether the type's own binary form is decoded here. Of others only the text form is.
    pub fn is_native(self) -> bool {
        self != PgCoding::Output
    }

    /// A value of such a column as it arrives in a binary result of [`select_item`](super::table::select_item). Every reader of
    /// a SELECT list takes its values through here.
    #[inline]
    pub(super) fn selected(self, bytes: &[u8]) -> PgField<'_> {
        if self.is_native() { PgField::Binary(bytes) } else { PgField::Text(bytes) }
    }

    /// Decodes one value; what has to be printed or unescaped is appended to `scratch`.
    ///
    /// # Errors
    /// [`PgMisfit`] for what the catalog's type does not hold, and for bytes that are no such value.
    #[inline]
    pub(super) fn decode<'a>(self, field: PgField<'a>, scratch: &mut PgScratch) -> Result<Decoded<'a>, PgMisfit> {
        match field {
            PgField::Null => Ok(Decoded::Value(ValueRef::Null)),
            PgField::Unchanged => Ok(Decoded::Value(ValueRef::Unchanged)),
            PgField::Binary(bytes) => binary::decode(self, bytes, scratch),
            PgField::Text(bytes) => textual::decode(self, bytes, scratch),
        }
    }

    /// Decodes one value and borrows it from where it lies; `scratch` is cleared first.
    ///
    /// # Errors
    /// As [`super::PgTable::decode`], without the place.
    pub fn value<'a>(self, field: PgField<'a>, scratch: &'a mut PgScratch) -> Result<ValueRef<'a>, PgMisfit> {
        scratch.clear();
        let decoded = self.decode(field, scratch)?;
        Ok(decoded.resolve(scratch))
    }

    fn wanted(self) -> String {
        match self {
            PgCoding::Timestamp | PgCoding::TimestampTz => "a timestamp before the year 294247".to_owned(),
            PgCoding::Decimal { precision, scale } => {
                format!("finite decimals of {precision} digits, {scale} of them behind the point")
            }
            PgCoding::Output => "text (its binary form is not decoded)".to_owned(),
            other => other.column_type().to_string(),
        }
    }
}

impl PgScratch {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.bytes.clear();
    }
}

/// The type modifier of numeric(p,s) is `(p << 16 | s & 0x7ff) + 4`, the scale signed; see `numeric.c`.
fn numeric(modifier: i32) -> PgCoding {
    const HEADER: i32 = 4;
    const DIGITS_MAX: i32 = 38;
    if modifier < HEADER {
        return PgCoding::Numeric;
    }
    let (precision, scale) = (((modifier - HEADER) >> 16) & 0xffff, (((modifier - HEADER) & 0x7ff) ^ 1024) - 1024);
    // A negative scale rounds before the point and prints none; a scale beyond the precision has zeros behind the point.
    let digits = if scale < 0 { precision - scale } else { precision.max(scale) };
    match (u8::try_from(digits), u8::try_from(scale.max(0))) {
        (Ok(precision), Ok(scale)) if digits <= DIGITS_MAX => PgCoding::Decimal { precision, scale },
        _ => PgCoding::Numeric,
    }
}

/// Bytes that came, for a message.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 60 => format!("{text:?}"),
        Ok(_) => format!("a text of {} bytes", bytes.len()),
        Err(error) => {
            const SHOWN_MAX: usize = 16;
            // From the first byte that is wrong on, or a little before.
            let from = error.valid_up_to().saturating_sub(SHOWN_MAX / 2).min(bytes.len());
            let part: String = bytes.iter().skip(from).take(SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect();
            format!("{} bytes that are not UTF-8 (\\x{part} at byte {from})", bytes.len())
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, PgMisfit> {
    std::str::from_utf8(bytes)
        .map_err(|_| PgMisfit::new(shown(bytes), "text in UTF-8; the database's encoding is another"))
}
