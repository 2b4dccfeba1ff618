//! The `freshbench` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    freshbench::cli::main()
}
