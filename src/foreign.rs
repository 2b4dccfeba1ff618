//! Foreign text made safe for each medium that it is shown in.
//!
//! Names of tables and columns, keys, values, workloads, URLs, file names, what a server says: none of it was written here, and
//! each medium has its own signs that mean more than themselves. A terminal obeys control sequences, and shows text between
//! marks of direction in another order; Markdown has links, pipes and HTML; a spreadsheet calculates. Whatever prints foreign
//! text sends it through the function of its medium here, the whole of it, at the place where it is printed.
//!
//! JSON needs none of this, since its writer escapes by itself, and the page's templates do as well. **Data is not text to be
//! shown**: `warehouse dump` and the rows of `warehouse query --format csv` and `json` stay exact to the byte.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character does something else than to be seen where it stands: control characters of both ranges, marks of direction,
/// separators of lines, and what has no width and is no part of a script's spelling.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether text has nothing in it that a terminal would obey.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(acts)
}

fn spelled(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| acts(c) && !stays(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // `\n` for a line's end, `\u{1b}` for ESC: what is there is seen, and does nothing.
        if acts(c) && !stays(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// For a terminal, as one line: what would act is spelled out, `\u{1b}` for ESC and `\n` for a line's end.
pub fn terminal(text: &str) -> Cow<'_, str> {
    spelled(text, |_| false)
}

/// For a terminal, of a text whose lines are our own: as [`terminal`], and its lines stay.
pub fn terminal_lines(text: &str) -> Cow<'_, str> {
    spelled(text, |c| c == '\n')
}

/// For Markdown (CommonMark, and GitHub's tables), as text within a line or a cell: no markup, no HTML, no link.
pub fn markdown(text: &str) -> String {
    let plain = terminal(text);
    let mut out = String::with_capacity(plain.len() + 16);
    let mut before = None;
    let mut rest = plain.chars().peekable();
    while let Some(c) = rest.next() {
        let between_words = |next: Option<&char>| {
            before.is_some_and(char::is_alphanumeric) && next.is_some_and(|next| next.is_alphanumeric())
        };
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Within a word it means nothing, and figures' names are full of it.
            '_' if between_words(rest.peek()) => out.push('_'),
            '(' if before == Some(']') => out.push_str("\\("),
            // As a list, a heading or a line only at the start.
            '#' | '-' | '+' | '=' if before.is_none() => out.extend(['\\', c]),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => out.extend(['\\', c]),
            // Bare addresses become links.
            ':' if rest.peek() == Some(&'/') => out.push_str("&#58;"),
            '.' if ends_in_www(&out) => out.push_str("&#46;"),
            '@' => out.push_str("&#64;"),
            c => out.push(c),
        }
        before = Some(c);
    }
    out
}

fn ends_in_www(text: &str) -> bool {
    text.len().checked_sub(3).and_then(|at| text.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case("www"))
}

/// For Markdown, as code within a line, with the backticks. Text with backticks or HTML in it comes as [`markdown`] has it: not every
/// reader of Markdown agrees where code ends. Not for a cell of a table.
pub fn markdown_code(text: &str) -> String {
    let plain = terminal(text);
    if plain.contains(['`', '<']) || plain.trim().len() != plain.len() || plain.is_empty() {
        return markdown(text);
    }
    format!("`{plain}`")
}

/// For Markdown, lines of our own as a block of text.
pub fn markdown_block(text: &str) -> String {
    let plain = terminal_lines(text);
    let fence = "`".repeat(longest_run(&plain).max(2) + 1);
    let end = if plain.ends_with('\n') || plain.is_empty() { "" } else { "\n" };
    format!("{fence}text\n{plain}{end}{fence}\n")
}

/// The most backticks in a row.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// For a field of a CSV that people open: what a spreadsheet would calculate begins with an apostrophe, what would act is spelled out.
/// Without the quotes: see [`csv_quoted`].
pub fn csv_text(text: &str) -> Cow<'_, str> {
    let plain = terminal(text);
    let begins = plain.trim_start().chars().next();
    // Also as East Asian keyboards write them.
    let calculates = |c| matches!(c, '=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}');
    if begins.is_some_and(calculates) { Cow::Owned(format!("'{plain}")) } else { plain }
}

/// A field as RFC 4180 wants it: in quotes when it holds one, a comma or a line's end. Does not make it safe.
pub fn csv_quoted(field: &str) -> Cow<'_, str> {
    if field.contains(['"', ',', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", field.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(field)
    }
}

/// [`csv_text`] in the quotes that it needs.
pub fn csv_field(text: &str) -> String {
    csv_quoted(&csv_text(text)).into_owned()
}

/// For a value of a label, or a help text, in OpenMetrics (1.0, section 5.2), without the quotes.
pub fn openmetrics_text(text: &str) -> String {
    terminal(text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A name of a metric in OpenMetrics: letters, digits and underscores.
pub fn openmetrics_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// A string of YAML, with its quotes: as JSON writes it, which YAML 1.2 reads.
pub fn yaml_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a String can't fail.
            c if acts(c) && u32::from(c) <= 0xffff => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c if acts(c) => drop(write!(out, "\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 12] = [
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "\u{1b}]8;;http://evil.example\u{1b}\\click\u{1b}]8;;\u{1b}\\",
        "\u{9b}31m",
        "a\u{202e}cod.exe",
        "line\nfreshbench: all is well\r",
        "=HYPERLINK(\"http://evil.example\")",
        " +1",
        "@SUM(A1)",
        "a|b`c`<img src=x onerror=alert(1)>[x](http://evil.example)",
        "x\"} 1\nforged_metric 2",
        "\u{2066}hidden\u{2069}\u{200b}\u{feff}",
        "```\n<script>",
    ];

    fn acts_nowhere(text: &str) -> bool {
        text.chars().all(|c| !acts(c))
    }

    #[test]
    fn nothing_that_acts_is_left_for_any_medium() {
        for text in HOSTILE {
            assert!(acts_nowhere(&terminal(text)), "{text:?}");
            assert!(acts_nowhere(&markdown(text)), "{text:?}");
            assert!(acts_nowhere(&markdown_code(text)), "{text:?}");
            assert!(acts_nowhere(&csv_field(text)), "{text:?}");
            assert!(acts_nowhere(&openmetrics_text(text)), "{text:?}");
            assert!(acts_nowhere(&yaml_string(text)), "{text:?}");
            assert!(!csv_text(text).starts_with(['=', '+', '-', '@']), "{text:?}");
        }
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["orders", "Z\u{fc}rich \u{5d0}\u{5d1} \u{4e2d}\u{6587}", "cost.cpu_s_per_1k_changes", "a b, c (d)"]
        {
            assert_eq!(terminal(text), text);
            assert_eq!(markdown(text), text);
            assert_eq!(csv_text(text), text);
            assert_eq!(openmetrics_text(text), text);
            assert!(is_plain(text));
        }
        assert_eq!(terminal_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
    }

    #[test]
    fn each_medium_has_its_own_signs() {
        assert_eq!(terminal("a\u{1b}[31m\nb\u{202e}"), "a\\u{1b}[31m\\nb\\u{202e}");
        assert_eq!(
            markdown("a|b`c`<i>[x](http://h) _e_ @me"),
            "a\\|b\\`c\\`&lt;i&gt;\\[x\\]\\(http&#58;//h) \\_e\\_ &#64;me"
        );
        assert_eq!(markdown("# a"), "\\# a");
        assert_eq!(markdown("see www.evil.example"), "see www&#46;evil.example");
        assert_eq!(markdown_code("a"), "`a`");
        assert_eq!(markdown_code("a`b"), "a\\`b");
        assert_eq!(markdown_code("<i>|"), "&lt;i&gt;\\|");
        assert_eq!(markdown_block("a ```\nb\n"), "````text\na ```\nb\n````\n");
        assert_eq!(csv_field("=1,\"2\""), "\"'=1,\"\"2\"\"\"");
        assert_eq!(csv_field("-"), "'-");
        assert_eq!(openmetrics_text("a\"b\\c\nd"), "a\\\"b\\\\c\\\\nd");
        assert_eq!(openmetrics_name("a.b-c d\n\u{e9}"), "a_b_c_d__");
        assert_eq!(yaml_string("a\"\\\u{1b}\n"), "\"a\\\"\\\\\\u001b\\u000a\"");
    }
}
