//! Primary keys, made for comparing and hashing.
//!
//! A key of one integer column is that integer. Every other key is encoded so that the order of the bytes is
//! the order of the keys: each value as a type byte and a big-endian payload with the sign flipped; text and
//! bytes with `00` escaped as `00 FF` and ended by `00 00`.

use super::schema::TableSchema;
use super::text;
use super::value::{Decimal, Value, ValueRef};
use std::fmt;

/// A key that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// One integer column.
    Int(i64),
    /// Anything else, in the order-preserving encoding of this module.
    Encoded(Box<[u8]>),
}

/// A key that borrows its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRef<'a> {
    /// See [`Key::Int`].
    Int(i64),
    /// See [`Key::Encoded`].
    Encoded(&'a [u8]),
}

impl Key {
    /// The key made of the key columns' values, in key order.
    ///
    /// # Errors
    /// [`KeyError`] when there is no value, or one is NULL or not sent.
    pub fn from_values(values: &[ValueRef<'_>]) -> Result<Key, KeyError> {
        if let [ValueRef::Int(v)] = values {
            return Ok(Key::Int(*v));
        }
        let mut bytes = Vec::with_capacity(16 * values.len());
        for &value in values {
            encode(&mut bytes, value)?;
        }
        if bytes.is_empty() { Err(KeyError::Missing) } else { Ok(Key::Encoded(bytes.into())) }
    }

    /// The key of a whole row of `schema`'s table.
    ///
    /// # Errors
    /// [`KeyError`] when a key column's value is missing, NULL or not sent.
    pub fn of_row(schema: &TableSchema, row: &[ValueRef<'_>]) -> Result<Key, KeyError> {
        if let [index] = schema.key.as_slice()
            && let Some(ValueRef::Int(v)) = row.get(*index)
        {
            return Ok(Key::Int(*v));
        }
        let mut values = super::RowValues::new();
        for &index in &schema.key {
            values.push(*row.get(index).ok_or(KeyError::Missing)?);
        }
        Key::from_values(&values)
    }

    /// Borrows the key.
    pub fn as_ref(&self) -> KeyRef<'_> {
        match self {
            Key::Int(v) => KeyRef::Int(*v),
            Key::Encoded(bytes) => KeyRef::Encoded(bytes),
        }
    }
}

impl<'a> KeyRef<'a> {
    /// The key made of the key columns' values, in key order, encoded into `scratch` (cleared first) so that
    /// making many keys allocates nothing.
    ///
    /// # Errors
    /// As [`Key::from_values`].
    pub fn encode_in(scratch: &'a mut Vec<u8>, values: &[ValueRef<'_>]) -> Result<KeyRef<'a>, KeyError> {
        if let [ValueRef::Int(v)] = values {
            return Ok(KeyRef::Int(*v));
        }
        scratch.clear();
        for &value in values {
            encode(scratch, value)?;
        }
        if scratch.is_empty() { Err(KeyError::Missing) } else { Ok(KeyRef::Encoded(scratch)) }
    }

    /// An owned copy.
    pub fn to_key(self) -> Key {
        match self {
            KeyRef::Int(v) => Key::Int(v),
            KeyRef::Encoded(bytes) => Key::Encoded(bytes.into()),
        }
    }
}

/// Characters of a text, or bytes, of a key's value that a message shows.
const SHOWN_MAX: usize = 60;

impl KeyRef<'_> {
    /// The values that the key was made of, in key order; `None` if its bytes are no key's.
    pub fn values(self) -> Option<Vec<Value>> {
        let mut rest = match self {
            KeyRef::Int(v) => return Some(vec![Value::Int(v)]),
            KeyRef::Encoded(bytes) => bytes,
        };
        let mut values = Vec::new();
        while let Some((&tag, behind)) = rest.split_first() {
            let (value, behind) = decode(tag, behind)?;
            values.push(value);
            rest = behind;
        }
        Some(values)
    }

    /// The key for a message: its values, long ones cut, `, ` between.
    pub fn describe(self) -> String {
        let Some(values) = self.values() else { return "whose bytes are damaged".to_owned() };
        let shown = values.into_iter().map(|value| match value {
            Value::Text(text) if text.chars().nth(SHOWN_MAX).is_some() => {
                let head: String = text.chars().take(SHOWN_MAX).collect();
                format!("{head:?}... ({} bytes)", text.len())
            }
            Value::Bytes(bytes) if bytes.len() > SHOWN_MAX => {
                let head = Value::Bytes(bytes.iter().copied().take(SHOWN_MAX).collect());
                format!("{}... ({} bytes)", text::describe(&head), bytes.len())
            }
            value => text::describe(&value),
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

/// One value of an encoded key, and what is behind it; undoes [`encode`].
fn decode(tag: u8, bytes: &[u8]) -> Option<(Value, &[u8])> {
    fn fixed<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
        bytes.split_first_chunk::<N>().map(|(head, rest)| (*head, rest))
    }
    let signed = |bytes| fixed::<8>(bytes).map(|(v, rest)| ((u64::from_be_bytes(v) ^ (1 << 63)) as i64, rest));
    Some(match tag {
        2 => fixed::<1>(bytes).map(|([v], rest)| (Value::Bool(v == 1), rest))?,
        3 => signed(bytes).map(|(v, rest)| (Value::Int(v), rest))?,
        4 => {
            let (bits, rest) = fixed::<8>(bytes).map(|(v, rest)| (u64::from_be_bytes(v), rest))?;
            let bits = if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits };
            (Value::Float(f64::from_bits(bits)), rest)
        }
        5 => {
            let ([scale], rest) = fixed::<1>(bytes)?;
            let (unscaled, rest) = fixed::<16>(rest)?;
            let unscaled = (u128::from_be_bytes(unscaled) ^ (1 << 127)) as i128;
            (Value::Decimal(Box::new(Decimal { unscaled, scale: (scale ^ 0x80) as i8 })), rest)
        }
        6 => {
            let (text, rest) = unescaped(bytes)?;
            (Value::Text(String::from_utf8(text).ok()?.into()), rest)
        }
        7 => unescaped(bytes).map(|(bytes, rest)| (Value::Bytes(bytes.into()), rest))?,
        8 => fixed::<4>(bytes).map(|(v, rest)| (Value::Date((u32::from_be_bytes(v) ^ (1 << 31)) as i32), rest))?,
        9 => signed(bytes).map(|(v, rest)| (Value::Timestamp(v), rest))?,
        10 => {
            let (bits, rest) = fixed::<4>(bytes).map(|(v, rest)| (u32::from_be_bytes(v), rest))?;
            let bits = if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits };
            (Value::Float32(f32::from_bits(bits)), rest)
        }
        11 => signed(bytes).map(|(v, rest)| (Value::LocalTimestamp(v), rest))?,
        _ => return None,
    })
}

/// Bytes that [`escaped`] wrote, and what is behind their end.
fn unescaped(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    loop {
        match bytes {
            [0, 0, rest @ ..] => return Some((out, rest)),
            [0, 0xFF, rest @ ..] => {
                out.push(0);
                bytes = rest;
            }
            [0, ..] | [] => return None,
            [byte, rest @ ..] => {
                out.push(*byte);
                bytes = rest;
            }
        }
    }
}

fn encode(out: &mut Vec<u8>, value: ValueRef<'_>) -> Result<(), KeyError> {
    match value {
        ValueRef::Null | ValueRef::Unchanged => return Err(KeyError::Missing),
        ValueRef::Bool(v) => out.extend_from_slice(&[2, u8::from(v)]),
        ValueRef::Int(v) => ordered(out, 3, &((v as u64) ^ (1 << 63)).to_be_bytes()),
        ValueRef::Float(v) => {
            let bits = v.to_bits();
            let flipped = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
            ordered(out, 4, &flipped.to_be_bytes());
        }
        ValueRef::Decimal(v) => {
            ordered(out, 5, &[(v.scale as u8) ^ 0x80]);
            out.extend_from_slice(&((v.unscaled as u128) ^ (1 << 127)).to_be_bytes());
        }
        ValueRef::Text(v) => escaped(out, 6, v.as_bytes()),
        ValueRef::Bytes(v) => escaped(out, 7, v),
        ValueRef::Date(v) => ordered(out, 8, &((v as u32) ^ (1 << 31)).to_be_bytes()),
        ValueRef::Timestamp(v) => ordered(out, 9, &((v as u64) ^ (1 << 63)).to_be_bytes()),
        ValueRef::Float32(v) => {
            let bits = v.to_bits();
            let flipped = if bits >> 31 == 1 { !bits } else { bits | (1 << 31) };
            ordered(out, 10, &flipped.to_be_bytes());
        }
        ValueRef::LocalTimestamp(v) => ordered(out, 11, &((v as u64) ^ (1 << 63)).to_be_bytes()),
    }
    Ok(())
}

fn ordered(out: &mut Vec<u8>, tag: u8, payload: &[u8]) {
    out.push(tag);
    out.extend_from_slice(payload);
}

fn escaped(out: &mut Vec<u8>, tag: u8, payload: &[u8]) {
    out.push(tag);
    for &byte in payload {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Many keys of one table, packed: integers side by side, or encoded bytes with offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyColumn {
    /// Keys of one integer column.
    Int(Vec<i64>),
    /// Other keys; key `i` is `bytes[ends[i-1]..ends[i]]`.
    Encoded {
        /// The encoded keys one behind another.
        bytes: Vec<u8>,
        /// Where each key ends.
        ends: Vec<usize>,
    },
}

impl KeyColumn {
    /// An empty column for the keys of `schema`'s table.
    pub fn for_table(schema: &TableSchema) -> KeyColumn {
        if schema.has_int_key() {
            KeyColumn::Int(Vec::new())
        } else {
            KeyColumn::Encoded { bytes: Vec::new(), ends: Vec::new() }
        }
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`KeyError::WrongKind`] when an integer meets a column of encoded keys, or the reverse.
    pub fn push(&mut self, key: KeyRef<'_>) -> Result<(), KeyError> {
        match (self, key) {
            (KeyColumn::Int(keys), KeyRef::Int(v)) => keys.push(v),
            (KeyColumn::Encoded { bytes, ends }, KeyRef::Encoded(v)) => {
                bytes.extend_from_slice(v);
                ends.push(bytes.len());
            }
            _ => return Err(KeyError::WrongKind),
        }
        Ok(())
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        match self {
            KeyColumn::Int(keys) => keys.len(),
            KeyColumn::Encoded { ends, .. } => ends.len(),
        }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Key `index`, if there are so many.
    pub fn get(&self, index: usize) -> Option<KeyRef<'_>> {
        match self {
            KeyColumn::Int(keys) => keys.get(index).copied().map(KeyRef::Int),
            KeyColumn::Encoded { bytes, ends } => {
                let end = *ends.get(index)?;
                let start = if index == 0 { 0 } else { *ends.get(index - 1)? };
                bytes.get(start..end).map(KeyRef::Encoded)
            }
        }
    }

    /// All keys in order.
    pub fn iter(&self) -> impl Iterator<Item = KeyRef<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Why values make no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// A key value is absent, NULL or was not sent.
    Missing,
    /// The key is of another kind than the column of keys.
    WrongKind,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::Missing => "a primary key value is missing or NULL",
            KeyError::WrongKind => "a primary key value has another type than the schema says",
        })
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(values: &[ValueRef<'_>]) -> Key {
        Key::from_values(values).expect("a key")
    }

    #[test]
    fn one_integer_is_kept_inline_and_nothing_is_no_key() {
        assert_eq!(key(&[ValueRef::Int(-7)]), Key::Int(-7));
        assert_eq!(Key::from_values(&[]), Err(KeyError::Missing));
        assert_eq!(Key::from_values(&[ValueRef::Null]), Err(KeyError::Missing));
    }

    #[test]
    fn a_key_is_shown_as_its_values() {
        let decimal = Decimal { unscaled: -150, scale: 2 };
        let values = [
            ValueRef::Text("a\0b"),
            ValueRef::Int(i64::MIN),
            ValueRef::Bool(true),
            ValueRef::Float(-0.0),
            ValueRef::Float32(1.5),
            ValueRef::Decimal(decimal),
            ValueRef::Bytes(&[0, 255, 0]),
            ValueRef::Date(-1),
            ValueRef::Timestamp(-1),
            ValueRef::LocalTimestamp(1),
        ];
        let own: Vec<Value> = values.iter().map(|value| value.to_value().expect("sent")).collect();
        assert_eq!(key(&values).as_ref().values(), Some(own));
        assert_eq!(key(&[ValueRef::Text("1"), ValueRef::Int(-7)]).as_ref().describe(), "\"1\", -7");
        assert_eq!(Key::Int(3).as_ref().describe(), "3");
        assert_eq!(KeyRef::Encoded(&[6, 49]).describe(), "whose bytes are damaged");
        let long = "x".repeat(1_000);
        assert!(key(&[ValueRef::Text(&long)]).as_ref().describe().ends_with("x\"... (1000 bytes)"));
    }

    proptest! {
        #[test]
        fn encoded_order_is_value_order(a in any::<(i64, String)>(), b in any::<(i64, String)>()) {
            let encode = |k: &(i64, String)| key(&[ValueRef::Int(k.0), ValueRef::Text(&k.1)]);
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
            let text_first = |k: &(i64, String)| key(&[ValueRef::Text(&k.1), ValueRef::Int(k.0)]);
            prop_assert_eq!(text_first(&a).cmp(&text_first(&b)), (&a.1, a.0).cmp(&(&b.1, b.0)));
        }
    }
}
