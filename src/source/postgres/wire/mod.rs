//! The raw frontend/backend protocol, version 3, blocking: for what is too much for an ordinary client, that is
//! `COPY ... TO STDOUT` and the replication stream.
//!
//! Source: the chapter "Frontend/Backend Protocol" of PostgreSQL's documentation, sections "Message Flow", "Streaming
//! Replication Protocol" and "Message Formats".
//!
//! Bytes are read into one buffer and handed out as slices of it; nothing is allocated for a row. A server that says
//! nothing for [`Wire::set_silence_max`] is an error, not a hang. Length fields are held against a limit, and memory is
//! reserved as bytes arrive.

mod auth;
mod buffer;
mod error;
mod stream;

use super::options::PgOptions;
use super::session;
use crate::source::SourceError;
use buffer::{Frame, ReadBuffer};
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};
use stream::Stream;

/// How long a server may say nothing while an answer is due, unless it is set otherwise.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How long a server may take nothing of what is sent to it.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ordinary statements.
    Query,
    /// Ordinary statements, and the commands of the streaming replication protocol (`replication=database`).
    Replication,
}

/// A row of text values; `None` is NULL.
pub type TextRow = Vec<Option<String>>;

/// One connection. When it is dropped in the middle of an answer, the server is asked to cancel; else it is told farewell.
pub struct Wire {
    stream: Stream,
    buffer: ReadBuffer,
    options: PgOptions,
    /// The process and the secret by which its statement can be cancelled.
    key: Option<[u8; 8]>,
    silence_max: Duration,
    state: State,
    /// What the server said how many rows its last COPY sent.
    copied_rows: Option<u64>,
}

/// The number in a command's tag, `COPY 12` and NUL.
fn rows_of_tag(tag: &[u8]) -> Option<u64> {
    std::str::from_utf8(tag.strip_suffix(&[0])?).ok()?.strip_prefix("COPY ")?.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for a statement.
    Ready,
    /// In the middle of an answer.
    Busy,
    /// Both sides copy.
    Streaming,
    /// Ended, or broken.
    Closed,
}

impl Wire {
    /// Connects and logs in. The session has what every session of this program has, as [`PgOptions::connect`]'s: text forms
    /// that do not depend on the server's settings, and a search path of `pg_catalog` alone.
    ///
    /// # Errors
    /// [`SourceError::Postgres`] when the server can't be reached, refuses, or is not who it should be;
    /// [`SourceError::Options`] when the session can't be as values depend on it.
    pub fn connect(options: &PgOptions, mode: Mode) -> Result<Wire, SourceError> {
        options.settle()?;
        let mut wire = Wire::log_in(options, mode)?;
        session::prepare(&mut |sql| wire.query(sql), options, mode)?;
        wire.silence_max = SILENCE_MAX;
        Ok(wire)
    }

    /// Sees that the session still has what values depend on, as before rows are read in its transaction.
    ///
    /// # Errors
    /// [`SourceError::Options`] when it has not.
    pub(crate) fn verify(&mut self) -> Result<(), SourceError> {
        let options = self.options.clone();
        session::verify(&mut |sql| self.query(sql), &options)
    }

    /// Connects and logs in, and changes nothing in the session. An answer has to come within the time for connecting.
    pub(super) fn log_in(options: &PgOptions, mode: Mode) -> Result<Wire, SourceError> {
        let mut wire = Wire {
            stream: Stream::open(options)?,
            buffer: ReadBuffer::new(),
            options: options.clone(),
            key: None,
            silence_max: options.connect_timeout,
            state: State::Busy,
            copied_rows: None,
        };
        auth::start(&mut wire, options, mode)?;
        wire.state = State::Ready;
        Ok(wire)
    }

    /// How long the server may say nothing while an answer is due; 120 s unless set.
    pub fn set_silence_max(&mut self, silence_max: Duration) {
        self.silence_max = silence_max;
    }

    /// Where the connection leads, for messages: no password.
    pub fn place(&self) -> String {
        self.options.place()
    }

    /// Runs one or more statements by the simple protocol and returns the rows of all of them, as text.
    ///
    /// # Errors
    /// [`SourceError::Postgres`] with the server's words. The connection can be used further unless it broke.
    pub fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, SourceError> {
        self.begin(sql)?;
        let mut rows = Vec::new();
        loop {
            let frame = self.next_message()?;
            match frame.tag {
                b'D' => {
                    let row = text_row(self.buffer.slice(frame.body));
                    rows.push(row.ok_or_else(|| self.nonsense("a row that can't be read"))?);
                }
                b'G' | b'W' => return Err(self.nonsense("the start of a copy that was not asked for")),
                b'Z' => {
                    self.state = State::Ready;
                    return Ok(rows);
                }
                // Descriptions, tags of completed commands, rows of a COPY that nobody wants.
                _ => {}
            }
        }
    }

    /// Runs `COPY ... TO STDOUT` and hands the payload of each message to `each`, as a slice of the read buffer: the server
    /// sends a row a message, in binary with the signature in front of the first, in the same message. Nothing promises
    /// that: a message may end anywhere. Returns the bytes of all payloads.
    ///
    /// # Errors
    /// [`SourceError::Postgres`], or what `each` says; then the rest is left unread and the connection is closed, which
    /// ends the server's work.
    pub fn copy_out<E: From<SourceError>>(
        &mut self,
        sql: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.begin(sql)?;
        self.copied_rows = None;
        let mut bytes = 0;
        loop {
            let frame = self.next_message()?;
            match frame.tag {
                b'd' => {
                    bytes += frame.body.len() as u64;
                    if let Err(error) = each(self.buffer.slice(frame.body)) {
                        self.cancel_and_close();
                        return Err(error);
                    }
                }
                b'G' | b'W' => return Err(self.nonsense("the start of another copy").into()),
                b'C' => self.copied_rows = rows_of_tag(self.buffer.slice(frame.body)),
                b'Z' => {
                    self.state = State::Ready;
                    return Ok(bytes);
                }
                _ => {}
            }
        }
    }

    /// How many rows the server says that the last [`Wire::copy_out`] sent.
    pub fn copied_rows(&self) -> Option<u64> {
        self.copied_rows
    }

    /// Sends `START_REPLICATION ...`; afterwards both sides copy: see [`Wire::next_buffered`].
    ///
    /// # Errors
    /// [`SourceError::Postgres`] with the server's words.
    pub fn start_replication(&mut self, sql: &str) -> Result<(), SourceError> {
        self.begin(sql)?;
        loop {
            let frame = self.next_message()?;
            match frame.tag {
                b'W' => {
                    self.state = State::Streaming;
                    return Ok(());
                }
                b'Z' => return Err(self.nonsense("no stream where one was asked for")),
                _ => {}
            }
        }
    }

    /// The payload of the next message of the stream that has been read whole; `None` when the buffer holds none: call
    /// [`Wire::read`] then.
    ///
    /// # Errors
    /// [`SourceError::Postgres`] when the server ended the stream.
    #[inline]
    pub fn next_buffered(&mut self) -> Result<Option<&[u8]>, SourceError> {
        loop {
            match self.next_frame()? {
                None => return Ok(None),
                Some(Frame { tag: b'd', body }) => return Ok(Some(self.buffer.slice(body))),
                Some(Frame { tag: b'c', .. }) => return Err(self.ended("the server ended the stream")),
                Some(_) => {}
            }
        }
    }

    /// Reads once, waiting at most `wait` for something to come, and returns how many bytes came: 0 for nothing yet.
    /// [`Wire::next_buffered`] must have returned `None` before.
    ///
    /// # Errors
    /// [`SourceError::Postgres`] when the connection broke.
    pub fn read(&mut self, wait: Duration) -> Result<usize, SourceError> {
        if self.state == State::Closed {
            return Err(self.ended("the connection is closed; connect again"));
        }
        match self.stream.read(self.buffer.room(), wait) {
            Ok(Some(0)) => Err(self.ended("the server closed the connection; see its log, then connect again")),
            Ok(bytes) => {
                let bytes = bytes.unwrap_or(0);
                self.buffer.filled(bytes);
                Ok(bytes)
            }
            Err(cause) => Err(self.ended(&format!("the connection broke: {cause}; connect again"))),
        }
    }

    /// Bytes that were read and make no whole message yet, or were not asked for.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.pending_bytes()
    }

    /// Bytes that the kernel holds for the next [`Wire::read`]; 0 where it does not say.
    pub fn waiting_bytes(&self) -> u64 {
        self.stream.waiting_bytes()
    }

    /// Whether it is a socket in the file system, whose buffer holds a few hundred messages however short they are.
    pub fn is_unix_socket(&self) -> bool {
        self.stream.is_unix_socket()
    }

    /// Sends one message of our side of the stream.
    ///
    /// # Errors
    /// [`SourceError::Postgres`] when the connection broke or the server takes nothing for 30 s.
    pub fn send(&mut self, payload: &[u8]) -> Result<(), SourceError> {
        self.write_message(b'd', payload)
    }

    /// Closes the connection; every later use is an error.
    pub fn close(&mut self) {
        self.stream.shut_down();
        self.state = State::Closed;
    }

    /// What ends this connection's statement from elsewhere, where the server gave a key for that.
    pub(crate) fn canceller(&self) -> Option<Canceller> {
        self.key.map(|key| Canceller { options: self.options.clone(), key })
    }

    fn begin(&mut self, sql: &str) -> Result<(), SourceError> {
        if self.state != State::Ready {
            return Err(self.ended("the connection is in use or closed; open another"));
        }
        if sql.contains('\0') {
            return Err(self.refused("query", "the statement has a NUL in it".to_owned(), None));
        }
        let mut body = Vec::with_capacity(sql.len() + 1);
        cstr(&mut body, sql);
        self.write_message(b'Q', &body)?;
        self.state = State::Busy;
        Ok(())
    }

    /// Waits for the next message that is not about the session (notices, settings). An error of the server's comes as one,
    /// after the connection has been brought back to where it takes statements.
    fn next_message(&mut self) -> Result<Frame, SourceError> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(frame);
            }
            self.read_or_fail()?;
        }
    }

    fn read_or_fail(&mut self) -> Result<(), SourceError> {
        if self.read(self.silence_max)? == 0 {
            let seconds = self.silence_max.as_secs_f64();
            let reason = format!("it said nothing for {seconds} s; look for locks and for what it is doing");
            self.cancel_and_close();
            return Err(self.refused("hear from", reason, None));
        }
        Ok(())
    }

    #[inline]
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        loop {
            match self.buffer.next_frame() {
                Ok(Some(Frame { tag: b'E', body })) => return Err(self.server_error(body)),
                // Notices, settings and notifications may come at any time.
                Ok(Some(Frame { tag: b'N' | b'S' | b'A', .. })) => {}
                Ok(frame) => return Ok(frame),
                Err(claimed) => return Err(self.broken(&format!("a message of {claimed} bytes"))),
            }
        }
    }

    #[cold]
    fn server_error(&mut self, body: Range<usize>) -> SourceError {
        let error = error::of_fields(self.buffer.slice(body), &self.options);
        if self.state == State::Busy && self.key.is_some() {
            // Only behind the next ReadyForQuery can the next statement be sent.
            let until = Instant::now() + Duration::from_secs(5);
            loop {
                match self.buffer.next_frame() {
                    Ok(Some(Frame { tag: b'Z', .. })) => {
                        self.state = State::Ready;
                        return error;
                    }
                    Ok(Some(_)) => {}
                    Ok(None) if Instant::now() < until => match self.read(Duration::from_millis(500)) {
                        Ok(_) => {}
                        Err(_) => break,
                    },
                    _ => break,
                }
            }
        }
        self.state = State::Closed;
        error
    }

    /// The process that serves this connection, by what it said at login.
    pub(super) fn process_id(&self) -> Option<i32> {
        self.key.and_then(|key| key.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)))
    }

    fn keep_key(&mut self, body: Range<usize>) {
        self.key = self.buffer.slice(body).first_chunk::<8>().copied();
    }

    fn write_message(&mut self, tag: u8, body: &[u8]) -> Result<(), SourceError> {
        let mut message = Vec::with_capacity(body.len() + 5);
        message.push(tag);
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.write(&message)
    }

    fn write(&mut self, message: &[u8]) -> Result<(), SourceError> {
        if self.state == State::Closed {
            return Err(self.ended("the connection is closed; connect again"));
        }
        let written = self.stream.write_all(message, WRITE_MAX);
        written.map_err(|cause| self.ended(&format!("the connection broke: {cause}; connect again")))
    }

    /// Asks the server, over a connection of its own as the protocol has it, to cancel what this one does.
    fn cancel_and_close(&mut self) {
        if let (State::Busy, Some(key)) = (self.state, self.key) {
            // Best effort: closing the socket ends the work too, only later.
            Canceller { options: self.options.clone(), key }.cancel();
        }
        self.state = State::Closed;
    }

    fn refused(&self, operation: &'static str, reason: String, sqlstate: Option<String>) -> SourceError {
        SourceError::Postgres { operation, place: self.options.place(), reason, sqlstate }
    }

    fn ended(&mut self, reason: &str) -> SourceError {
        self.state = State::Closed;
        self.refused("talk to", reason.to_owned(), None)
    }

    /// The server broke the protocol. The connection is closed, since nobody knows where the next message begins.
    #[cold]
    fn broken(&mut self, what: &str) -> SourceError {
        self.state = State::Closed;
        self.nonsense(what)
    }

    fn nonsense(&self, what: &str) -> SourceError {
        let reason = format!("it sent {what}; check that this is a PostgreSQL server of version 14 or newer");
        self.refused("understand", reason, None)
    }
}

/// Asks the server, over a connection of its own that needs no login, to cancel what another one does.
#[derive(Clone)]
pub(crate) struct Canceller {
    options: PgOptions,
    key: [u8; 8],
}

impl Canceller {
    /// Asks once, without an answer.
    pub(crate) fn cancel(&self) {
        let mut request = [0, 0, 0, 16, 4, 210, 22, 46].to_vec();
        request.extend_from_slice(&self.key);
        let options = PgOptions { connect_timeout: Duration::from_secs(2), ..self.options.clone() };
        let _ = Stream::open(&options).map(|mut stream| stream.write_all(&request, Duration::from_secs(2)));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        match self.state {
            State::Ready | State::Streaming => {
                // CopyDone first, so that a stream ends in order; then the farewell. Nobody waits for an answer.
                let farewell: &[u8] =
                    if self.state == State::Streaming { b"c\0\0\0\x04X\0\0\0\x04" } else { b"X\0\0\0\x04" };
                let _ = self.stream.write_all(farewell, Duration::from_millis(200));
            }
            State::Busy => self.cancel_and_close(),
            State::Closed => {}
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever has the key can cancel statements: it is not shown.
        let Wire { stream: _, buffer: _, options, key: _, silence_max, state, copied_rows: _ } = self;
        f.debug_struct("Wire")
            .field("options", options)
            .field("silence_max", silence_max)
            .field("state", state)
            .finish_non_exhaustive()
    }
}

fn cstr(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// The body of a `DataRow` in text form.
fn text_row(body: &[u8]) -> Option<TextRow> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::with_capacity(usize::from(u16::from_be_bytes(*count)).min(body.len()));
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        row.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => None,
            Ok(length) => {
                let (value, tail) = rest.split_at_checked(length)?;
                rest = tail;
                Some(std::str::from_utf8(value).ok()?.to_owned())
            }
        });
    }
    rest.is_empty().then_some(row)
}
