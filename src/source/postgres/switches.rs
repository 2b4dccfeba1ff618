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
