//! The `freshbench` command.

use std::process::ExitCode;

// Columns of a few hundred KiB come and go with every commit group. The C library's allocator gives such memory back to the system
// each time, and page faults took a tenth of an apply.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    freshbench::cli::main("mimalloc")
}
