//! Rows out of the payload of `COPY ... TO STDOUT (FORMAT binary)`.
//!
//! Source: the section "Binary Format" of COPY's reference page: a signature of 11 bytes, flags, the length of an extension;
//! then for each row a count of fields, and for each field its length (-1 for NULL) and bytes; a count of -1 ends it.

use super::table::PgTable;
use super::types::{PgCoding, PgField};
use crate::source::SourceError;
use smallvec::SmallVec;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of the extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// A flag in the upper half changes what follows.
const CRITICAL_FLAGS: u32 = 0xFFFF_0000;

/// Fields of one row, in the order of the SELECT list.
type Fields<'a> = SmallVec<[PgField<'a>; 16]>;

/// Cuts the payload of one COPY of [`PgTable::copy_sql`] into rows, wherever its messages end.
#[derive(Debug)]
pub struct PgCopyRows {
    name: String,
    codings: Vec<PgCoding>,
    /// The beginning of what is not whole yet.
    carry: Vec<u8>,
    state: State,
    rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    Ended,
}

/// What stands at the head of the bytes.
enum Head<'a> {
    /// A row, whose fields are told apart; this is behind it.
    Row(&'a [u8]),
    End,
    CutOff,
}

impl PgCopyRows {
    /// For the rows of `table`.
    pub fn new(table: &PgTable) -> PgCopyRows {
        PgCopyRows {
            name: table.schema.name.clone(),
            codings: table.columns.iter().map(|column| column.coding).collect(),
            carry: Vec::new(),
            state: State::Header,
            rows: 0,
        }
    }

    /// Takes the payload of one message and hands each row that is whole to `each`.
    ///
    /// # Errors
    /// [`SourceError::Table`] when it is no such payload, or what `each` says.
    #[inline]
    pub fn feed<E>(
        &mut self,
        payload: &[u8],
        each: &mut impl FnMut(&[PgField<'_>]) -> Result<(), E>,
        wrap: impl Fn(SourceError) -> E,
    ) -> Result<(), E> {
        if self.carry.is_empty() {
            let used = self.rows_of(payload, each, &wrap)?;
            self.carry.extend_from_slice(payload.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.carry);
        joined.extend_from_slice(payload);
        let used = self.rows_of(&joined, each, &wrap)?;
        joined.drain(..used);
        self.carry = joined;
        Ok(())
    }

    /// The number of rows, if the payload ended as it should.
    ///
    /// # Errors
    /// [`SourceError::Table`] when rows are missing.
    pub fn finish(&self) -> Result<u64, SourceError> {
        if self.state == State::Ended && self.carry.is_empty() { Ok(self.rows) } else { Err(self.nonsense()) }
    }

    /// How many of the bytes were used.
    fn rows_of<E>(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(&[PgField<'_>]) -> Result<(), E>,
        wrap: &impl Fn(SourceError) -> E,
    ) -> Result<usize, E> {
        let mut rest = bytes;
        if self.state == State::Header {
            match self.header(rest).map_err(wrap)? {
                Some(behind) => rest = behind,
                None => return Ok(0),
            }
            self.state = State::Rows;
        }
        let mut fields = Fields::new();
        while self.state == State::Rows {
            match self.head(rest, &mut fields).map_err(wrap)? {
                Head::Row(behind) => {
                    each(&fields)?;
                    self.rows += 1;
                    rest = behind;
                }
                Head::End => {
                    self.state = State::Ended;
                    rest = &[];
                }
                Head::CutOff => break,
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// What comes behind the header; `None` when not all of it has arrived.
    fn header<'a>(&self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, SourceError> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let (signature, numbers) = header.split_at(SIGNATURE.len());
        let number = |place: usize| {
            numbers.get(place..place + 4).and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
        };
        if signature != SIGNATURE || number(0) & CRITICAL_FLAGS != 0 {
            return Err(self.nonsense());
        }
        Ok(rest.get(number(4) as usize..))
    }

    #[inline]
    fn head<'a>(&self, bytes: &'a [u8], fields: &mut Fields<'a>) -> Result<Head<'a>, SourceError> {
        fields.clear();
        let Some((count, mut rest)) = bytes.split_first_chunk::<2>() else { return Ok(Head::CutOff) };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            return Ok(Head::End);
        }
        if usize::try_from(count) != Ok(self.codings.len()) {
            return Err(self.nonsense());
        }
        for coding in &self.codings {
            let Some((length, behind)) = rest.split_first_chunk::<4>() else { return Ok(Head::CutOff) };
            rest = behind;
            let length = match i32::from_be_bytes(*length) {
                -1 => {
                    fields.push(PgField::Null);
                    continue;
                }
                length => usize::try_from(length).map_err(|_| self.nonsense())?,
            };
            let Some((field, behind)) = rest.split_at_checked(length) else { return Ok(Head::CutOff) };
            rest = behind;
            fields.push(coding.selected(field));
        }
        Ok(Head::Row(rest))
    }

    #[cold]
    fn nonsense(&self) -> SourceError {
        let what = format!(
            "what the server sent of table {:?} is not the binary form of COPY, or ends early; is it a PostgreSQL server?",
            self.name
        );
        SourceError::Table { what }
    }
}
