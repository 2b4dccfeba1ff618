//! Tests of the log: what goes in comes out, and nothing else, whatever happens to the files.

mod round_trip;
