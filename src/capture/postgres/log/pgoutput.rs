//! The messages of pgoutput, borrowed from the read buffer.
//!
//! Source: "Logical Replication Message Formats" in the chapter "Frontend/Backend Protocol" of PostgreSQL's documentation.
//! Protocol version 2 is asked for; what versions 3 and 4 add behind a known message is left unread.

use crate::source::postgres::PgField;
use smallvec::SmallVec;
use std::fmt;

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's own epoch.
const EPOCH_US: i64 = 946_684_800_000_000;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Message<'a> {
    /// The changes of one transaction follow, until its commit.
    Begin,
    /// The end of the transaction that began last.
    Commit(Commit),
    /// What a table looks like from here on.
    Relation { subxid: u32, relation: RelationRef<'a> },
    /// A new row.
    Insert { subxid: u32, relation: u32, new: Tuple<'a> },
    /// A changed row; what is said of the old one depends on the replica identity.
    Update { subxid: u32, relation: u32, old: Option<Tuple<'a>>, new: Tuple<'a> },
    /// A row that went.
    Delete { subxid: u32, relation: u32, old: Tuple<'a> },
    /// Tables that were emptied, all at once.
    Truncate { subxid: u32, relations: Oids<'a> },
    /// `pg_logical_emit_message`.
    Emitted { subxid: u32, transactional: bool, lsn: u64, prefix: &'a str, payload: &'a [u8] },
    /// A piece of a transaction that has not ended.
    StreamStart { xid: u32 },
    /// The end of the piece.
    StreamStop,
    /// The streamed transaction committed.
    StreamCommit { xid: u32, commit: Commit },
    /// The streamed transaction, or one of its savepoints, was rolled back.
    StreamAbort { xid: u32, subxid: u32 },
    /// A type's name, an origin, or what is not known here and means no change.
    Other,
}

/// A commit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    /// The position behind the commit record.
    pub(super) end_lsn: u64,
    /// Microseconds since 1970-01-01.
    pub(super) committed_at: i64,
}

/// A table as the stream describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RelationRef<'a> {
    pub(super) oid: u32,
    pub(super) identity: u8,
    pub(super) columns: u16,
    bytes: &'a [u8],
}

/// A column of a [`RelationRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RelationColumn<'a> {
    pub(super) name: &'a str,
    pub(super) in_identity: bool,
    pub(super) type_oid: u32,
    pub(super) type_modifier: i32,
}

/// A row of values, read one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

/// Oids one behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oids<'a> {
    bytes: &'a [u8],
}

/// The values of one row.
pub(super) type Fields<'a> = SmallVec<[PgField<'a>; 16]>;

/// Bytes that are no message of pgoutput.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// In what.
    pub(super) tag: char,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message {:?} of pgoutput that can't be read", self.tag)
    }
}

/// Reads one message. `in_stream` is whether it stands between the start and the stop of a streamed piece: changes
/// have the number of their (sub)transaction in front there.
#[inline]
pub(super) fn parse(bytes: &[u8], in_stream: bool) -> Result<Message<'_>, Malformed> {
    let tag = bytes.first().copied().unwrap_or(b'?');
    let mut input = Input { bytes: bytes.get(1..).unwrap_or_default() };
    message(tag, &mut input, in_stream).ok_or(Malformed { tag: char::from(tag) })
}

fn message<'a>(tag: u8, input: &mut Input<'a>, in_stream: bool) -> Option<Message<'a>> {
    let subxid = match tag {
        b'I' | b'U' | b'D' | b'T' | b'R' | b'M' if in_stream => input.u32()?,
        _ => 0,
    };
    Some(match tag {
        b'B' => Message::Begin,
        b'C' => Message::Commit(commit(input)?),
        b'I' => {
            let relation = input.u32()?;
            match input.u8()? {
                b'N' => Message::Insert { subxid, relation, new: tuple(input)? },
                _ => return None,
            }
        }
        b'U' => {
            let relation = input.u32()?;
            let (old, mark) = match input.u8()? {
                b'K' | b'O' => (Some(tuple(input)?), input.u8()?),
                mark => (None, mark),
            };
            match mark {
                b'N' => Message::Update { subxid, relation, old, new: tuple(input)? },
                _ => return None,
            }
        }
        b'D' => {
            let relation = input.u32()?;
            match input.u8()? {
                b'K' | b'O' => Message::Delete { subxid, relation, old: tuple(input)? },
                _ => return None,
            }
        }
        b'T' => {
            let (count, _options) = (input.u32()?, input.u8()?);
            Message::Truncate {
                subxid,
                relations: Oids { bytes: input.take(usize::try_from(count).ok()?.checked_mul(4)?)? },
            }
        }
        b'R' => Message::Relation { subxid, relation: relation(input)? },
        b'M' => {
            let (flags, lsn, prefix) = (input.u8()?, input.u64()?, input.cstr()?);
            let length = usize::try_from(input.u32()?).ok()?;
            Message::Emitted { subxid, transactional: flags & 1 == 1, lsn, prefix, payload: input.take(length)? }
        }
        b'S' => Message::StreamStart { xid: input.u32()? },
        b'E' => Message::StreamStop,
        b'c' => Message::StreamCommit { xid: input.u32()?, commit: commit(input)? },
        b'A' => Message::StreamAbort { xid: input.u32()?, subxid: input.u32()? },
        b'O' | b'Y' => Message::Other,
        _ => return None,
    })
}

fn commit(input: &mut Input<'_>) -> Option<Commit> {
    let (_flags, _lsn, end_lsn, at) = (input.u8()?, input.u64()?, input.u64()?, input.u64()?);
    Some(Commit { end_lsn, committed_at: (at as i64).saturating_add(EPOCH_US) })
}

fn relation<'a>(input: &mut Input<'a>) -> Option<RelationRef<'a>> {
    let (oid, _schema, _name, identity) = (input.u32()?, input.cstr()?, input.cstr()?, input.u8()?);
    let relation = RelationRef { oid, identity, columns: input.u16()?, bytes: input.bytes };
    (relation.columns().count() == usize::from(relation.columns)).then_some(relation)
}

/// Walks over the values once, so that every later reader can rely on their lengths.
#[inline]
fn tuple<'a>(input: &mut Input<'a>) -> Option<Tuple<'a>> {
    let columns = input.u16()?;
    let all = input.bytes;
    for _ in 0..columns {
        field(input)?;
    }
    let bytes = all.get(..all.len() - input.bytes.len())?;
    Some(Tuple { columns, bytes })
}

#[inline]
fn field<'a>(input: &mut Input<'a>) -> Option<PgField<'a>> {
    Some(match input.u8()? {
        b'n' => PgField::Null,
        b'u' => PgField::Unchanged,
        kind @ (b'b' | b't') => {
            let length = usize::try_from(input.u32()?).ok()?;
            let bytes = input.take(length)?;
            if kind == b'b' { PgField::Binary(bytes) } else { PgField::Text(bytes) }
        }
        _ => return None,
    })
}

impl<'a> Tuple<'a> {
    /// The values, in column order.
    #[inline]
    pub(super) fn fields(self) -> Fields<'a> {
        let mut input = Input { bytes: self.bytes };
        (0..self.columns).map_while(|_| field(&mut input)).collect()
    }
}

impl<'a> RelationRef<'a> {
    /// The columns, in the stream's order.
    pub(super) fn columns(self) -> impl Iterator<Item = RelationColumn<'a>> {
        let mut input = Input { bytes: self.bytes };
        (0..self.columns).map_while(move |_| {
            let flags = input.u8()?;
            Some(RelationColumn {
                name: input.cstr()?,
                in_identity: flags & 1 == 1,
                type_oid: input.u32()?,
                type_modifier: input.u32()? as i32,
            })
        })
    }
}

impl Oids<'_> {
    pub(super) fn iter(self) -> impl Iterator<Item = u32> {
        self.bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

/// Reads a message to its last value; how many columns, oids or values there were, `None` if it is none. For fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub fn read_pgoutput(bytes: &[u8], in_stream: bool) -> Option<usize> {
    let read = |tuple: Tuple<'_>| {
        let fields = tuple.fields().len();
        assert_eq!(fields, usize::from(tuple.columns));
        fields
    };
    Some(match parse(bytes, in_stream).ok()? {
        Message::Relation { relation, .. } => {
            let columns = relation.columns().count();
            assert_eq!(columns, usize::from(relation.columns));
            columns
        }
        Message::Insert { new, .. } => read(new),
        Message::Update { old, new, .. } => old.map_or(0, read) + read(new),
        Message::Delete { old, .. } => read(old),
        Message::Truncate { relations, .. } => relations.iter().count(),
        _ => 0,
    })
}

struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = tail;
        Some(*head)
    }

    #[inline]
    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(length)?;
        self.bytes = tail;
        Some(head)
    }

    fn cstr(&mut self) -> Option<&'a str> {
        let length = self.bytes.iter().position(|&byte| byte == 0)?;
        let text = self.take(length)?;
        self.u8()?;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_update_with_an_old_key_is_read() {
        let mut bytes = b"U\0\0\0\x07K\0\x01t\0\0\0\x011N\0\x02b\0\0\0\x01\x02u".to_vec();
        let Ok(Message::Update { subxid: 0, relation: 7, old: Some(old), new }) = parse(&bytes, false) else {
            panic!("{:?}", parse(&bytes, false))
        };
        assert_eq!(old.fields().as_slice(), [PgField::Text(b"1")]);
        assert_eq!(new.fields().as_slice(), [PgField::Binary(&[2]), PgField::Unchanged]);
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut], false).is_err(), "cut at {cut}");
        }
        bytes.splice(1..1, [0, 0, 0, 9]);
        assert!(matches!(parse(&bytes, true), Ok(Message::Update { subxid: 9, relation: 7, .. })));
    }

    #[test]
    fn what_later_versions_add_is_left_unread() {
        let abort = b"A\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04";
        assert_eq!(parse(abort, false), Ok(Message::StreamAbort { xid: 1, subxid: 2 }));
    }

    fn message_like() -> impl Strategy<Value = Vec<u8>> {
        let tag = prop::sample::select(b"BCIUDTRMSEcAOY".to_vec());
        let body = prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0), Just(1), prop::sample::select(b"NKObtnu".to_vec())],
            0..80,
        );
        (tag, body).prop_map(|(tag, body)| [vec![tag], body].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop_oneof![message_like(), prop::collection::vec(any::<u8>(), 0..200)],
            in_stream in any::<bool>(),
        ) {
            if let Some(read) = read_pgoutput(&bytes, in_stream) {
                prop_assert!(read <= bytes.len());
            }
        }
    }
}
