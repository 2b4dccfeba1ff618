//! The one way to stdout and stderr.
//!
//! The standard macros panic when nobody reads or nothing more can be written. Here a reader that went away (`| head`) is no
//! failure: an *answer* goes on into nothing, so that the command ends with the exit code that it has something to say by;
//! a *stream* of rows or files ends early, with 0. A full disk and any other refusal of stdout is an error, exit 1.
//! What can't be said on stderr is not said: there is nowhere left to say so.

use crate::foreign::terminal;
use std::fmt::Arguments;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};

/// Bytes that a stream gathers.
const STREAM_BYTES: usize = 1 << 16;

/// Stdout for what a command has to say, whatever becomes of its reader.
#[derive(Debug)]
pub(crate) struct Answer(Stdout);

/// See [`Answer`]. What it holds back of a last line [`end`] writes.
pub(crate) fn answer() -> Answer {
    Answer(io::stdout())
}

fn unless_gone<T>(outcome: io::Result<T>, gone: T) -> io::Result<T> {
    match outcome {
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(gone),
        outcome => outcome,
    }
}

impl Write for Answer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_gone(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_gone(self.0.flush(), ())
    }
}

/// Stdout for data of any size: gathers bytes, and fails when the reader went away. Flush it at the end.
pub(crate) fn stream() -> BufWriter<Stdout> {
    BufWriter::with_capacity(STREAM_BYTES, io::stdout())
}

/// Writes what stdout still holds back; the last thing before the process ends, or nobody would hear that it failed.
///
/// # Errors
/// When stdout refuses, but for a reader that went away.
pub(crate) fn end() -> io::Result<()> {
    answer().flush()
}

/// For [`say`]: whatever is named in the line, it moves no cursor and sets no title.
pub(crate) fn say_line(line: Arguments<'_>) {
    let line = line.to_string();
    // One write: lines of several threads and processes must not mix.
    let _ = io::stderr().lock().write_all(format!("{}\n", terminal(&line)).as_bytes());
}

/// A line on stderr, as `eprintln!`, without a panic where there is no stderr.
macro_rules! say {
    ($($words:tt)*) => { $crate::output::say_line(format_args!($($words)*)) };
}
pub(crate) use say;
