//! Changes and transactions, encoded as they travel.
//!
//! Format of one change: an op byte, the table's `u32`, then length-prefixed (`u32`) rows: the new row for an
//! insert; for an update a flag byte, the old key when the key changed, and the new row; the old key for a
//! delete; nothing for a truncate. Keys are rows of the key columns alone, in key order.

use super::position::{CommitTime, Lsn};
use super::row::{CodecError, Input, RowRef, encode_row};
use super::schema::TableId;
use super::value::ValueRef;

mod op {
    pub const INSERT: u8 = 1;
    pub const UPDATE: u8 = 2;
    pub const DELETE: u8 = 3;
    pub const TRUNCATE: u8 = 4;
}

/// What one commit did, with its place in the commit order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The commit's place in the commit order.
    pub lsn: Lsn,
    /// When the source says it committed.
    pub committed_at: CommitTime,
    /// Its changes, in the order in which they were made.
    pub changes: ChangeBuf,
}

/// Encoded changes in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeBuf {
    bytes: Vec<u8>,
    count: u32,
}

impl ChangeBuf {
    /// An empty buffer.
    pub fn new() -> ChangeBuf {
        ChangeBuf::default()
    }

    /// Takes over bytes that [`ChangeBuf::as_bytes`] gave, checking every change.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are not a sequence of changes.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<ChangeBuf, CodecError> {
        let mut count = 0;
        for change in Changes::new(&bytes) {
            change?;
            count += 1;
        }
        Ok(ChangeBuf { bytes, count })
    }

    /// Adds an insert of a whole row.
    ///
    /// # Errors
    /// [`CodecError::TooLong`]; the buffer is then as it was.
    pub fn push_insert<'a>(
        &mut self,
        table: TableId,
        row: impl IntoIterator<Item = ValueRef<'a>>,
    ) -> Result<(), CodecError> {
        self.push(op::INSERT, table, |bytes| sized_row(bytes, row))
    }

    /// Adds an update to the row `row`; `old_key` is given if and only if the update changed the key.
    ///
    /// # Errors
    /// [`CodecError::TooLong`]; the buffer is then as it was.
    pub fn push_update<'a>(
        &mut self,
        table: TableId,
        old_key: Option<&[ValueRef<'_>]>,
        row: impl IntoIterator<Item = ValueRef<'a>>,
    ) -> Result<(), CodecError> {
        self.push(op::UPDATE, table, |bytes| {
            bytes.push(u8::from(old_key.is_some()));
            if let Some(key) = old_key {
                sized_row(bytes, key.iter().copied())?;
            }
            sized_row(bytes, row)
        })
    }

    /// Adds a delete of the row with this key (the key columns' values, in key order).
    ///
    /// # Errors
    /// [`CodecError::TooLong`]; the buffer is then as it was.
    pub fn push_delete<'a>(
        &mut self,
        table: TableId,
        key: impl IntoIterator<Item = ValueRef<'a>>,
    ) -> Result<(), CodecError> {
        self.push(op::DELETE, table, |bytes| sized_row(bytes, key))
    }

    /// Adds a truncate of the whole table.
    pub fn push_truncate(&mut self, table: TableId) {
        self.bytes.push(op::TRUNCATE);
        self.bytes.extend_from_slice(&table.0.to_le_bytes());
        self.count += 1;
    }

    fn push(
        &mut self,
        op: u8,
        table: TableId,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let start = self.bytes.len();
        self.bytes.push(op);
        self.bytes.extend_from_slice(&table.0.to_le_bytes());
        match body(&mut self.bytes) {
            Ok(()) => {
                self.count += 1;
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no change.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded bytes, with their memory: what [`ChangeBuf::from_bytes`] takes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds the changes of another buffer behind its own.
    pub fn append(&mut self, other: &ChangeBuf) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    /// Forgets all changes and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// The changes, in order.
    pub fn iter(&self) -> Changes<'_> {
        Changes::new(&self.bytes)
    }
}

fn sized_row<'a>(bytes: &mut Vec<u8>, row: impl IntoIterator<Item = ValueRef<'a>>) -> Result<(), CodecError> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    encode_row(bytes, row)?;
    let length = bytes.len() - start - 4;
    let prefix = u32::try_from(length).map_err(|_| CodecError::TooLong { what: "row", length })?;
    bytes[start..start + 4].copy_from_slice(&prefix.to_le_bytes());
    Ok(())
}

/// One change, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRef<'a> {
    /// A new row.
    Insert {
        /// The table.
        table: TableId,
        /// The whole row.
        row: RowRef<'a>,
    },
    /// A row became another.
    Update {
        /// The table.
        table: TableId,
        /// The key before, if the update changed it.
        old_key: Option<RowRef<'a>>,
        /// The row after; values may be [`ValueRef::Unchanged`].
        row: RowRef<'a>,
    },
    /// A row went.
    Delete {
        /// The table.
        table: TableId,
        /// Its key.
        key: RowRef<'a>,
    },
    /// Every row of the table went.
    Truncate {
        /// The table.
        table: TableId,
    },
}

impl ChangeRef<'_> {
    /// The table the change is about.
    pub fn table(&self) -> TableId {
        match *self {
            ChangeRef::Insert { table, .. }
            | ChangeRef::Update { table, .. }
            | ChangeRef::Delete { table, .. }
            | ChangeRef::Truncate { table } => table,
        }
    }
}

/// Reads encoded changes one by one. After an error it ends.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    bytes: &'a [u8],
}

impl<'a> Changes<'a> {
    /// Reads the changes in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Changes<'a> {
        Changes { bytes }
    }

    fn read(&mut self) -> Result<ChangeRef<'a>, CodecError> {
        let mut input = Input { bytes: self.bytes };
        let [code] = input.array::<1>()?;
        let table = TableId(u32::from_le_bytes(input.array()?));
        let change = match code {
            op::INSERT => ChangeRef::Insert { table, row: read_row(&mut input)? },
            op::UPDATE => {
                let old_key = match input.array::<1>()? {
                    [0] => None,
                    [1] => Some(read_row(&mut input)?),
                    [tag] => return Err(CodecError::UnknownTag { tag }),
                };
                ChangeRef::Update { table, old_key, row: read_row(&mut input)? }
            }
            op::DELETE => ChangeRef::Delete { table, key: read_row(&mut input)? },
            op::TRUNCATE => ChangeRef::Truncate { table },
            tag => return Err(CodecError::UnknownTag { tag }),
        };
        self.bytes = input.bytes;
        Ok(change)
    }
}

fn read_row<'a>(input: &mut Input<'a>) -> Result<RowRef<'a>, CodecError> {
    let length = u32::from_le_bytes(input.array()?);
    Ok(RowRef::new(input.take(length as usize)?))
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<ChangeRef<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let change = self.read();
        if change.is_err() {
            self.bytes = &[];
        }
        Some(change)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::value::{Decimal, Value};
    use proptest::prelude::*;

    const T: TableId = TableId(3);

    #[test]
    fn changes_come_back_as_they_went_in() -> Result<(), CodecError> {
        let mut buf = ChangeBuf::new();
        buf.push_insert(T, [ValueRef::Int(1), ValueRef::Text("é\0")])?;
        buf.push_update(T, Some(&[ValueRef::Int(1)]), [ValueRef::Int(2), ValueRef::Unchanged])?;
        buf.push_delete(T, [ValueRef::Int(2)])?;
        buf.push_truncate(T);
        assert_eq!(buf.len(), 4);
        let changes: Vec<_> = buf.iter().collect::<Result<_, _>>()?;
        let ChangeRef::Update { old_key: Some(key), row, .. } = changes[1] else { panic!("{:?}", changes[1]) };
        assert_eq!(key.values()?.as_slice(), [ValueRef::Int(1)]);
        assert_eq!(row.values()?.as_slice(), [ValueRef::Int(2), ValueRef::Unchanged]);
        assert_eq!(changes[3], ChangeRef::Truncate { table: T });
        assert_eq!(ChangeBuf::from_bytes(buf.as_bytes().to_vec())?, buf);
        Ok(())
    }

    #[test]
    fn every_cut_is_an_error_or_fewer_changes() -> Result<(), CodecError> {
        let mut buf = ChangeBuf::new();
        buf.push_insert(T, [ValueRef::Decimal(Decimal { unscaled: -5, scale: 2 }), ValueRef::Bytes(b"xyz")])?;
        for cut in 1..buf.as_bytes().len() {
            assert!(ChangeBuf::from_bytes(buf.as_bytes()[..cut].to_vec()).is_err(), "cut at {cut}");
        }
        Ok(())
    }

    pub(in crate::model) fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            any::<(i128, i8)>().prop_map(|(unscaled, scale)| Value::Decimal(Box::new(Decimal { unscaled, scale }))),
            any::<String>().prop_map(Value::text),
            any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
            any::<i32>().prop_map(Value::Date),
            any::<i64>().prop_map(Value::Timestamp),
            any::<u32>().prop_map(|bits| Value::Float32(f32::from_bits(bits))),
            any::<i64>().prop_map(Value::LocalTimestamp),
        ]
    }

    proptest! {
        #[test]
        fn any_row_comes_back(row in prop::collection::vec(any_value(), 0..20)) {
            let mut bytes = Vec::new();
            encode_row(&mut bytes, row.iter().map(Value::as_ref))?;
            let back: Vec<Value> = RowRef::new(&bytes).values()?.iter().filter_map(|v| v.to_value()).collect();
            prop_assert_eq!(back, row);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for change in Changes::new(&bytes).flatten() {
                if let ChangeRef::Insert { row, .. } = change { let _ = row.values(); }
            }
        }
    }
}
