//! Names of tables, as people and as catalogs write them.

use crate::source::SourceError;
use std::fmt;

/// The schema whose tables go by their bare names.
const PUBLIC: &str = "public";

/// A table as somebody names it: `orders`, `sales.orders`, `"odd.name"`, `"My Schema"."a ""b"""`.
///
/// Without quotes a part is taken as it stands, and if there is no such table, in lower case as SQL would.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTableName {
    /// The schema, where one is given.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// Whether it may also mean the same in lower case.
    pub(super) folds: bool,
}

impl PgTableName {
    /// Reads one name.
    ///
    /// # Errors
    /// [`SourceError::Table`] when it is no name.
    pub fn parse(text: &str) -> Result<PgTableName, SourceError> {
        match PgTableName::parse_list(text)?.as_slice() {
            [name] => Ok(name.clone()),
            _ => Err(unreadable(text)),
        }
    }

    /// Reads names with commas between them.
    ///
    /// # Errors
    /// [`SourceError::Table`] when one of them is no name.
    pub fn parse_list(text: &str) -> Result<Vec<PgTableName>, SourceError> {
        let mut names = Vec::new();
        let mut parts: Vec<Part> = vec![Part::default()];
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let last = parts.last_mut().ok_or_else(|| unreadable(text))?;
            match letter {
                ',' => names.push(name(std::mem::replace(&mut parts, vec![Part::default()]), text)?),
                '.' => parts.push(Part::default()),
                '"' if last.text.trim().is_empty() && !last.quoted => {
                    last.text.clear();
                    last.quoted = true;
                    last.open = true;
                    while let Some(letter) = letters.next() {
                        if letter != '"' {
                            last.text.push(letter);
                        } else if letters.next_if_eq(&'"').is_some() {
                            last.text.push('"');
                        } else {
                            last.open = false;
                            break;
                        }
                    }
                }
                ' ' if last.quoted => {}
                _ if last.quoted => return Err(unreadable(text)),
                other => last.text.push(other),
            }
        }
        names.push(name(parts, text)?);
        Ok(names)
    }
}

#[derive(Default)]
struct Part {
    text: String,
    quoted: bool,
    open: bool,
}

fn name(parts: Vec<Part>, text: &str) -> Result<PgTableName, SourceError> {
    let folds = parts.iter().any(|part| !part.quoted);
    let plain = |part: Part| if part.quoted { part.text } else { part.text.trim().to_owned() };
    if parts.iter().any(|part| part.open) {
        return Err(unreadable(text));
    }
    let mut parts = parts.into_iter().map(plain);
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    let (schema, table) = match (first, second, third) {
        (Some(table), None, None) => (None, table),
        (Some(schema), Some(table), None) => (Some(schema), table),
        _ => return Err(unreadable(text)),
    };
    if table.is_empty() || schema.as_ref().is_some_and(String::is_empty) || table.contains('\0') {
        return Err(unreadable(text));
    }
    Ok(PgTableName { schema, table, folds })
}

fn unreadable(text: &str) -> SourceError {
    let what =
        format!("{text:?} does not name a table; write table or schema.table, with \"double quotes\" where needed");
    SourceError::Table { what }
}

impl fmt::Display for PgTableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", part(schema))?;
        }
        f.write_str(&part(&self.table))
    }
}

/// What a table is called in catalogs, warehouses and messages: the bare name in the schema `public`, else `schema.table`;
/// a part with a dot or a quote in it stands in double quotes. So no two tables of a database share a name.
pub(super) fn model_name(schema: &str, table: &str) -> String {
    if schema == PUBLIC { part(table) } else { format!("{}.{}", part(schema), part(table)) }
}

fn part(text: &str) -> String {
    if text.contains(['.', '"', ',']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_without_a_doubt() {
        let parsed = |text: &str| PgTableName::parse(text).map(|name| (name.schema, name.table)).ok();
        let bare = |table: &str| Some((None, table.to_owned()));
        let full = |schema: &str, table: &str| Some((Some(schema.to_owned()), table.to_owned()));
        assert_eq!(parsed("orders"), bare("orders"));
        assert_eq!(parsed("public.Orders"), full("public", "Orders"));
        assert_eq!(parsed("\"a.b\".\"c \"\"d\"\"\""), full("a.b", "c \"d\""));
        assert_eq!(parsed("with space"), bare("with space"));
        for bad in ["", ".", "a.", ".a", "a.b.c", "\"a", "\"a\"b", "a,b"] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
        let names: Vec<String> =
            PgTableName::parse_list("a, s.b,\"x,y\"").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "s.b", "\"x,y\""]);
        for (schema, table, name) in
            [("public", "a", "a"), ("s", "t", "s.t"), ("public", "s.t", "\"s.t\""), ("public", "q\"", "\"q\"\"\"")]
        {
            assert_eq!(model_name(schema, table), name);
        }
    }
}
