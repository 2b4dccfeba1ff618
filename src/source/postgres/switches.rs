//! Settings that the parameter `options` asks for.
//!
//! Source: `options` in the section "Parameter Key Words" of PostgreSQL's documentation of libpq; words are split as the
//! server's `pg_split_opts` does, and switches are those of the chapter on `postgres` that set a named parameter.

use super::session;
use crate::source::SourceError;

/// A setting of the server by its name, and the value that is asked for.
pub(super) type Setting = (String, String);

/// Reads `-c name=value`, `-cname=value` and `--name=value`; `origin` says where the text was given, for messages.
///
/// # Errors
/// For what is no such thing, and for a setting that this program needs to be otherwise: by the setting's name.
pub(super) fn read(text: &str, origin: &str) -> Result<Vec<Setting>, SourceError> {
    let refused = |what: String| SourceError::Options { what: format!("can't do as options{origin} ask: {what}") };
    let mut settings: Vec<Setting> = Vec::new();
    let mut words = split(text).into_iter();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") if word == "-c" => words.next().unwrap_or_default(),
            Some(pair) => pair.to_owned(),
            // The word itself is not repeated: what is no setting might be a secret.
            None => return Err(refused("they are more than settings; write each as -c name=value".to_owned())),
        };
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| is_name(name)) else {
            return Err(refused("a setting has no name or no value; write each as -c name=value".to_owned()));
        };
        // The server takes a - in a name for a _.
        let name = name.replace('-', "_");
        if let Some(needed) = session::needed(&name)
            && !needed.eq_ignore_ascii_case(value)
        {
            let why = format!(
                "{name} is set to {needed:?} in every session, since values or their safe arrival depend on it"
            );
            return Err(refused(format!("{why}; leave it out")));
        }
        settings.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        settings.push((name, value.to_owned()));
    }
    Ok(settings)
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    !name.is_empty() && name.chars().all(letter)
}

/// Words are separated by blanks; `\` takes the next letter as it is.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    // What the C library's isspace() takes for a blank.
    let is_blank = |letter: char| matches!(letter, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
    loop {
        while letters.next_if(|letter| is_blank(*letter)).is_some() {}
        if letters.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(letter) = letters.next_if(|letter| !is_blank(*letter)) {
            if letter == '\\' { word.extend(letters.next()) } else { word.push(letter) }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Vec<Setting> {
        read(text, "").unwrap()
    }

    #[test]
    fn words_are_split_as_the_server_splits_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(settings(""), []);
        assert_eq!(settings(" \t\n "), []);
        assert_eq!(
            settings("-c a.b=1 -ca.c=x=y --work-mem=2MB"),
            [pair("a.b", "1"), pair("a.c", "x=y"), pair("work_mem", "2MB")]
        );
        assert_eq!(settings(r"-c a.b=one\ two\\three\'"), [pair("a.b", r"one two\three'")]);
        assert_eq!(settings(r"-c a.b=end\"), [pair("a.b", "end")]);
        // The last one counts.
        assert_eq!(settings("-c geqo=on --GEQO=off -c a.b="), [pair("GEQO", "off"), pair("a.b", "")]);
        for refused in ["-c", "-c a", "--", "--a", "-c =1", "-e", "-Oc a=1", "a=1", "-S 64", "--a b=1", "-c a;b=1"] {
            assert!(read(refused, "").is_err(), "{refused}");
        }
    }

    #[test]
    fn what_values_depend_on_is_not_up_to_the_user() {
        for refused in ["DateStyle=German", "date-style=x", "TIMEZONE=CET", "statement_timeout=1", "row_security=on"] {
            let ran = read(&format!("-c {refused}"), " of PGOPTIONS");
            if refused.starts_with("date-") {
                // No such name: the server says so.
                assert!(ran.is_ok());
            } else {
                let said = ran.unwrap_err().to_string();
                let name = refused.split('=').next().unwrap();
                assert!(said.contains("of PGOPTIONS") && said.contains(name), "{said}");
            }
        }
        assert_eq!(settings("-c timezone=utc -c statement_timeout=0").len(), 2);
    }
}
