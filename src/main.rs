//! The `freshbench` command.

fn main() {}
