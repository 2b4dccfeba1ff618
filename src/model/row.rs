//! Encoded rows: a row as bytes, read back value by value without copying.
//!
//! Format of one row, all integers little-endian: `u16` count of values, then for each value a tag
//! byte and its payload (`tag` below). Text and bytes carry a `u32` length. The same bytes
//! travel from capture through the log to the column builders, so no stage makes row objects.

use super::RowValues;
use super::value::{Decimal, ValueRef};
use std::fmt;

mod tag {
    pub const NULL: u8 = 0;
    pub const UNCHANGED: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const TRUE: u8 = 3;
    pub const INT: u8 = 4;
    pub const FLOAT: u8 = 5;
    pub const DECIMAL: u8 = 6;
    pub const TEXT: u8 = 7;
    pub const BYTES: u8 = 8;
    pub const DATE: u8 = 9;
    pub const TIMESTAMP: u8 = 10;
    pub const FLOAT32: u8 = 11;
    pub const LOCAL_TIMESTAMP: u8 = 12;
}

/// Appends one row to `out`.
///
/// # Errors
/// [`CodecError::TooLong`] when there are more than 65,535 values or one value has more than 4 GiB;
/// `out` is then as it was.
pub fn encode_row<'a>(out: &mut Vec<u8>, values: impl IntoIterator<Item = ValueRef<'a>>) -> Result<(), CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    let mut count = 0usize;
    for value in values {
        if let Err(error) = encode_value(out, value) {
            out.truncate(start);
            return Err(error);
        }
        count += 1;
    }
    match u16::try_from(count) {
        Ok(count) => {
            out[start..start + 2].copy_from_slice(&count.to_le_bytes());
            Ok(())
        }
        Err(_) => {
            out.truncate(start);
            Err(CodecError::TooLong { what: "row", length: count })
        }
    }
}

fn encode_value(out: &mut Vec<u8>, value: ValueRef<'_>) -> Result<(), CodecError> {
    match value {
        ValueRef::Null => out.push(tag::NULL),
        ValueRef::Unchanged => out.push(tag::UNCHANGED),
        ValueRef::Bool(false) => out.push(tag::FALSE),
        ValueRef::Bool(true) => out.push(tag::TRUE),
        ValueRef::Int(v) => fixed(out, tag::INT, &v.to_le_bytes()),
        ValueRef::Float(v) => fixed(out, tag::FLOAT, &v.to_bits().to_le_bytes()),
        ValueRef::Float32(v) => fixed(out, tag::FLOAT32, &v.to_bits().to_le_bytes()),
        ValueRef::Decimal(v) => {
            fixed(out, tag::DECIMAL, &v.scale.to_le_bytes());
            out.extend_from_slice(&v.unscaled.to_le_bytes());
        }
        ValueRef::Text(v) => long(out, tag::TEXT, v.as_bytes())?,
        ValueRef::Bytes(v) => long(out, tag::BYTES, v)?,
        ValueRef::Date(v) => fixed(out, tag::DATE, &v.to_le_bytes()),
        ValueRef::Timestamp(v) => fixed(out, tag::TIMESTAMP, &v.to_le_bytes()),
        ValueRef::LocalTimestamp(v) => fixed(out, tag::LOCAL_TIMESTAMP, &v.to_le_bytes()),
    }
    Ok(())
}

fn fixed(out: &mut Vec<u8>, tag: u8, payload: &[u8]) {
    out.push(tag);
    out.extend_from_slice(payload);
}

fn long(out: &mut Vec<u8>, tag: u8, payload: &[u8]) -> Result<(), CodecError> {
    let Ok(length) = u32::try_from(payload.len()) else {
        return Err(CodecError::TooLong { what: "value", length: payload.len() });
    };
    fixed(out, tag, &length.to_le_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// One encoded row, borrowed from a buffer or a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef<'a> {
    bytes: &'a [u8],
}

impl<'a> RowRef<'a> {
    /// Takes `bytes` as one encoded row. They are checked while they are read.
    pub fn new(bytes: &'a [u8]) -> RowRef<'a> {
        RowRef { bytes }
    }

    /// The encoded bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// All values, in column order.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are not a row.
    pub fn values(self) -> Result<RowValues<'a>, CodecError> {
        let mut input = Input { bytes: self.bytes };
        let count = usize::from(u16::from_le_bytes(input.array()?));
        let mut values = RowValues::new();
        for _ in 0..count {
            values.push(input.value()?);
        }
        input.end()?;
        Ok(values)
    }

    /// The values one by one, in column order, and how many there are.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes do not begin as a row does. What is behind the last value is not looked at.
    #[inline]
    pub fn each_value(self) -> Result<EachValue<'a>, CodecError> {
        let mut input = Input { bytes: self.bytes };
        let left = usize::from(u16::from_le_bytes(input.array()?));
        Ok(EachValue { input, left })
    }

    /// The value at `place` if it is an integer, and whether some value of the row was not sent: what [`RowRef::pick`] gives for
    /// this one place. `None` if it is something else, which is passed over without a look into it.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are not a row.
    #[inline]
    pub fn pick_int(self, place: usize) -> Result<Option<(i64, bool)>, CodecError> {
        let mut input = Input { bytes: self.bytes };
        let count = usize::from(u16::from_le_bytes(input.array()?));
        let (mut found, mut open) = (None, false);
        for at in 0..count {
            if at == place && input.bytes.first() == Some(&tag::INT) {
                input.take(1)?;
                found = Some(i64::from_le_bytes(input.array()?));
            } else {
                open |= input.pass_over()? == tag::UNCHANGED;
            }
        }
        input.end()?;
        Ok(found.map(|key| (key, open)))
    }

    /// Puts the values at `places` into `picked`, in that order, NULL for a place the row does not have; passes over the
    /// others without looking into them (whether their text is UTF-8 is found when they are read). Says whether some
    /// value of the row was not sent.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are not a row.
    pub fn pick(self, places: &[usize], picked: &mut RowValues<'a>) -> Result<bool, CodecError> {
        let mut input = Input { bytes: self.bytes };
        let count = usize::from(u16::from_le_bytes(input.array()?));
        picked.clear();
        picked.resize(places.len(), ValueRef::Null);
        let mut open = false;
        for at in 0..count {
            if !places.contains(&at) {
                open |= input.pass_over()? == tag::UNCHANGED;
                continue;
            }
            let value = input.value()?;
            open |= matches!(value, ValueRef::Unchanged);
            for (target, _) in picked.iter_mut().zip(places).filter(|&(_, &place)| place == at) {
                *target = value;
            }
        }
        input.end()?;
        Ok(open)
    }
}

/// The values of an encoded row that are still to be read.
///
/// Who knows what type comes next, as the builder of a column does, asks for that type ([`EachValue::int`] and so on). It gets the value
/// in a register; a [`ValueRef`] would be written to memory byte by byte and read back in wider pieces, which stalls the processor
/// until the writes are done. Each of these gives `None`, and has read nothing, if the next value is something else, is
/// damaged, or there is none: the iterator says what it is.
#[derive(Clone, Debug)]
pub struct EachValue<'a> {
    input: Input<'a>,
    left: usize,
}

impl<'a> EachValue<'a> {
    /// The next value, if it is [`ValueRef::Int`].
    #[inline]
    pub fn int(&mut self) -> Option<i64> {
        self.fixed(tag::INT).map(i64::from_le_bytes)
    }

    /// The next value, if it is [`ValueRef::Float`].
    #[inline]
    pub fn float(&mut self) -> Option<f64> {
        self.fixed(tag::FLOAT).map(|bits| f64::from_bits(u64::from_le_bytes(bits)))
    }

    /// The next value, if it is [`ValueRef::Decimal`].
    #[inline]
    pub fn decimal(&mut self) -> Option<Decimal> {
        let [scale, unscaled @ ..] = self.fixed::<17>(tag::DECIMAL)?;
        Some(Decimal { unscaled: i128::from_le_bytes(unscaled), scale: i8::from_le_bytes([scale]) })
    }

    /// The next value, if it is [`ValueRef::Date`].
    #[inline]
    pub fn date(&mut self) -> Option<i32> {
        self.fixed(tag::DATE).map(i32::from_le_bytes)
    }

    /// The next value, if it is [`ValueRef::Timestamp`].
    #[inline]
    pub fn timestamp(&mut self) -> Option<i64> {
        self.fixed(tag::TIMESTAMP).map(i64::from_le_bytes)
    }

    /// The next value, if it is [`ValueRef::LocalTimestamp`].
    #[inline]
    pub fn local_timestamp(&mut self) -> Option<i64> {
        self.fixed(tag::LOCAL_TIMESTAMP).map(i64::from_le_bytes)
    }

    /// The next value, if it is [`ValueRef::Text`].
    #[inline]
    pub fn text(&mut self) -> Option<&'a str> {
        let (head, rest) = self.input.bytes.split_first_chunk::<5>()?;
        let [found, length @ ..] = *head;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(length) as usize)?;
        if found != tag::TEXT || self.left == 0 {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        (self.input.bytes, self.left) = (rest, self.left - 1);
        Some(text)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, tag: u8) -> Option<[u8; N]> {
        let (&found, rest) = self.input.bytes.split_first()?;
        let (&value, rest) = rest.split_first_chunk::<N>()?;
        if found != tag || self.left == 0 {
            return None;
        }
        (self.input.bytes, self.left) = (rest, self.left - 1);
        Some(value)
    }
}

impl<'a> Iterator for EachValue<'a> {
    type Item = Result<ValueRef<'a>, CodecError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.input.value())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for EachValue<'_> {}

/// A cursor over encoded bytes. Every read is checked against what is left.
#[derive(Clone, Debug)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// Refuses bytes that are left.
    #[inline]
    fn end(&self) -> Result<(), CodecError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(CodecError::TrailingBytes { count: self.bytes.len() }) }
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let Some((head, tail)) = self.bytes.split_at_checked(length) else {
            return Err(CodecError::CutOff { wanted: length, left: self.bytes.len() });
        };
        self.bytes = tail;
        Ok(head)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let Some((head, tail)) = self.bytes.split_first_chunk::<N>() else {
            return Err(CodecError::CutOff { wanted: N, left: self.bytes.len() });
        };
        self.bytes = tail;
        Ok(*head)
    }

    /// Passes over one value; gives its tag.
    #[inline]
    fn pass_over(&mut self) -> Result<u8, CodecError> {
        let [tag] = self.array()?;
        let length = match tag {
            tag::NULL | tag::UNCHANGED | tag::FALSE | tag::TRUE => 0,
            tag::INT | tag::FLOAT | tag::TIMESTAMP | tag::LOCAL_TIMESTAMP => 8,
            tag::DATE | tag::FLOAT32 => 4,
            tag::DECIMAL => 17,
            tag::TEXT | tag::BYTES => u32::from_le_bytes(self.array()?) as usize,
            tag => return Err(CodecError::UnknownTag { tag }),
        };
        self.take(length)?;
        Ok(tag)
    }

    #[inline]
    fn long(&mut self) -> Result<&'a [u8], CodecError> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }

    #[inline]
    fn value(&mut self) -> Result<ValueRef<'a>, CodecError> {
        let [tag] = self.array::<1>()?;
        Ok(match tag {
            tag::NULL => ValueRef::Null,
            tag::UNCHANGED => ValueRef::Unchanged,
            tag::FALSE => ValueRef::Bool(false),
            tag::TRUE => ValueRef::Bool(true),
            tag::INT => ValueRef::Int(i64::from_le_bytes(self.array()?)),
            tag::FLOAT => ValueRef::Float(f64::from_bits(u64::from_le_bytes(self.array()?))),
            tag::DECIMAL => {
                let scale = i8::from_le_bytes(self.array()?);
                ValueRef::Decimal(Decimal { unscaled: i128::from_le_bytes(self.array()?), scale })
            }
            tag::TEXT => ValueRef::Text(std::str::from_utf8(self.long()?).map_err(|_| CodecError::NotUtf8)?),
            tag::BYTES => ValueRef::Bytes(self.long()?),
            tag::DATE => ValueRef::Date(i32::from_le_bytes(self.array()?)),
            tag::TIMESTAMP => ValueRef::Timestamp(i64::from_le_bytes(self.array()?)),
            tag::FLOAT32 => ValueRef::Float32(f32::from_bits(u32::from_le_bytes(self.array()?))),
            tag::LOCAL_TIMESTAMP => ValueRef::LocalTimestamp(i64::from_le_bytes(self.array()?)),
            other => return Err(CodecError::UnknownTag { tag: other }),
        })
    }
}

/// Why bytes are not an encoded row or change, or a row can't be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes end inside a value.
    CutOff {
        /// Bytes wanted.
        wanted: usize,
        /// Bytes left.
        left: usize,
    },
    /// A tag byte that this build does not know.
    UnknownTag {
        /// The byte.
        tag: u8,
    },
    /// Text that is not UTF-8.
    NotUtf8,
    /// Bytes behind the end of a row.
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A row or value beyond the format's limit.
    TooLong {
        /// What.
        what: &'static str,
        /// Its length.
        length: usize,
    },
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::CutOff { wanted, left } => write!(f, "the bytes end early: {wanted} wanted, {left} left"),
            CodecError::UnknownTag { tag } => write!(f, "unknown tag {tag:#04x}"),
            CodecError::NotUtf8 => f.write_str("text is not UTF-8"),
            CodecError::TrailingBytes { count } => write!(f, "{count} bytes behind the end"),
            CodecError::TooLong { what, length } => {
                write!(f, "a {what} of length {length} is beyond the format's limit")
            }
        }
    }
}

impl std::error::Error for CodecError {}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::super::change::tests::any_value;
    use super::*;
    use proptest::prelude::*;

    /// A row with the values that were not sent as `None`.
    fn encoded(row: &[Option<Value>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let values = row.iter().map(|value| value.as_ref().map_or(ValueRef::Unchanged, |value| value.as_ref()));
        encode_row(&mut bytes, values).unwrap();
        bytes
    }

    /// The values, each asked for by every type before it is taken whatever it is. A damaged one ends it.
    fn by_type(bytes: &[u8]) -> Vec<ValueRef<'_>> {
        let mut each = RowRef::new(bytes).each_value().unwrap();
        let mut values = Vec::new();
        loop {
            let found = (each.int().map(ValueRef::Int))
                .or_else(|| each.float().map(ValueRef::Float))
                .or_else(|| each.decimal().map(ValueRef::Decimal))
                .or_else(|| each.date().map(ValueRef::Date))
                .or_else(|| each.timestamp().map(ValueRef::Timestamp))
                .or_else(|| each.local_timestamp().map(ValueRef::LocalTimestamp))
                .or_else(|| each.text().map(ValueRef::Text));
            match found.map(Ok).or_else(|| each.next()) {
                Some(Ok(value)) => values.push(value),
                Some(Err(_)) | None => return values,
            }
        }
    }

    proptest! {
        #[test]
        fn each_way_of_reading_gives_the_same_values(
            row in prop::collection::vec(prop::option::weighted(0.9, any_value()), 0..20),
            places in prop::collection::vec(0..24usize, 0..5),
        ) {
            let bytes = encoded(&row);
            let values = RowRef::new(&bytes).values()?;
            prop_assert_eq!(RowRef::new(&bytes).each_value()?.len(), row.len());
            let one_by_one = RowRef::new(&bytes).each_value()?.collect::<Result<RowValues<'_>, _>>()?;
            prop_assert_eq!(&one_by_one, &values);
            prop_assert_eq!(by_type(&bytes), values.to_vec());
            // What is behind the last value is none, however much it looks like one.
            let behind = encoded(&[Some(Value::Int(1)), Some(Value::Text("x".into())), Some(Value::Date(1))]);
            for from in [2, 2 + 9] {
                let longer = [&bytes, &behind[from..]].concat();
                prop_assert_eq!(by_type(&longer), values.to_vec());
            }
            // What was in it before is no part of the answer.
            let mut picked = RowValues::from_elem(ValueRef::Int(-1), 3);
            let open = RowRef::new(&bytes).pick(&places, &mut picked)?;
            let wanted: RowValues<'_> =
                places.iter().map(|&place| values.get(place).copied().unwrap_or(ValueRef::Null)).collect();
            prop_assert_eq!((picked, open), (wanted, row.contains(&None)));
            for place in places {
                let wanted = match values.get(place) {
                    Some(&ValueRef::Int(value)) => Some((value, row.contains(&None))),
                    _ => None,
                };
                prop_assert_eq!(RowRef::new(&bytes).pick_int(place)?, wanted);
            }
        }

        #[test]
        fn a_cut_or_longer_row_is_refused(
            row in prop::collection::vec(prop::option::weighted(0.9, any_value()), 0..20),
            places in prop::collection::vec(0..24usize, 0..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = encoded(&row);
            let mut picked = RowValues::new();
            let short = RowRef::new(&bytes[..cut.index(bytes.len())]);
            prop_assert!(short.values().is_err() && short.pick(&places, &mut picked).is_err());
            prop_assert!(places.iter().all(|&place| short.pick_int(place).is_err()));
            prop_assert!(short.each_value().and_then(|values| values.collect::<Result<RowValues<'_>, _>>()).is_err());
            let longer = [&bytes[..], &[0]].concat();
            let mut picked = RowValues::new();
            let wanted = CodecError::TrailingBytes { count: 1 };
            prop_assert_eq!(RowRef::new(&longer).values().unwrap_err(), wanted.clone());
            prop_assert_eq!(RowRef::new(&longer).pick(&places, &mut picked).unwrap_err(), wanted.clone());
            prop_assert!(places.iter().all(|&place| RowRef::new(&longer).pick_int(place) == Err(wanted.clone())));
        }
    }

    #[test]
    fn text_is_looked_into_only_where_it_is_picked() {
        let mut bytes = Vec::new();
        encode_row(&mut bytes, [ValueRef::Int(7), ValueRef::Text("x")]).unwrap();
        *bytes.last_mut().unwrap() = 0xFF;
        let (row, mut picked) = (RowRef::new(&bytes), RowValues::new());
        assert_eq!(row.pick(&[0], &mut picked), Ok(false));
        assert_eq!(picked.as_slice(), [ValueRef::Int(7)]);
        assert_eq!(row.pick(&[1], &mut picked), Err(CodecError::NotUtf8));
        assert_eq!(row.values(), Err(CodecError::NotUtf8));
        assert_eq!((by_type(&bytes), row.pick_int(0)), (vec![ValueRef::Int(7)], Ok(Some((7, false)))));
    }
}
