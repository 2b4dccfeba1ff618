//! The rows that a bench was asked for.

/// The number of `FRESHBENCH_BENCH_ROWS`, without it `usual`, and a tenth of that in smoke mode (`--test`); printed, so that
/// no figure stands without it.
///
/// # Panics
/// When the variable holds anything but a number above 0.
#[allow(clippy::panic)] // A bench without its rows has nothing to go on with.
pub fn rows_asked(usual: u64) -> u64 {
    const NAME: &str = "FRESHBENCH_BENCH_ROWS";
    let quick = std::env::args().any(|argument| argument == "--test");
    let rows = match std::env::var_os(NAME) {
        None if quick => usual / 10,
        None => usual,
        Some(text) => match text.to_str().and_then(|text| text.parse().ok()) {
            Some(rows) if rows > 0 => rows,
            _ => panic!("{NAME}={}: expected a number above 0, in digits alone", text.display()),
        },
    };
    println!("{rows} rows");
    rows
}
