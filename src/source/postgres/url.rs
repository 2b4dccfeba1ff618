//! Connection strings as libpq reads them: URLs, and `keyword=value` words.
//!
//! Source: the section "Connection Strings" of PostgreSQL's documentation of libpq. As there, `+` is no blank, `#` begins
//! no fragment, and the first `@` ends role and password.

use super::options::invalid;
use super::parameters;
use crate::source::SourceError;
use percent_encoding::percent_decode_str;

/// What a connection string says, in the order in which it says it: parameters and their values.
pub(super) type Given = Vec<(String, String)>;

const REMEDY: &str = "write postgres://role:password@host:port/database and percent-encode what is special";

/// Whether `text` is meant as the way to a PostgreSQL server, and not as a file's path.
pub(super) fn is_meant(text: &str) -> bool {
    let first = text.split_once('=').map(|(name, _)| name.trim());
    text.starts_with("postgres:") || text.starts_with("postgresql:") || first.is_some_and(parameters::is_known)
}

/// Reads either form. No error repeats a value: it might be a secret.
pub(super) fn read(text: &str) -> Result<Given, SourceError> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let given = match rest {
        Some(rest) => url(rest)?,
        None if text.starts_with("postgres:") || text.starts_with("postgresql:") || !is_meant(text) => {
            return Err(invalid("does not begin with postgres://"));
        }
        None => words(text)?,
    };
    match given.iter().any(|(_, value)| value.contains('\0')) {
        true => Err(invalid("has a NUL in it")),
        false => Ok(given),
    }
}

fn url(rest: &str) -> Result<Given, SourceError> {
    let mut given = Given::new();
    let mut put = |name: &str, text: &str| -> Result<(), SourceError> {
        if !text.is_empty() {
            given.push((name.to_owned(), decoded(text)?));
        }
        Ok(())
    };
    let stop = rest.find(['@', '/']).filter(|&at| rest[at..].starts_with('@'));
    let rest = match stop.map(|at| (&rest[..at], &rest[at + 1..])) {
        Some((who, _)) if who.contains('?') => {
            // libpq would take all of it for the role's name; and it may be the end of a password.
            return Err(invalid(&format!("has an @ among its parameters; write it as %40: {REMEDY}")));
        }
        Some((who, rest)) => {
            let (user, password) = who.split_once(':').unwrap_or((who, ""));
            put("user", user)?;
            put("password", password)?;
            rest
        }
        None => rest,
    };
    let (hosts, ports, rest) = places(rest)?;
    // Commas alone say nothing.
    put("host", if hosts.bytes().all(|byte| byte == b',') { "" } else { &hosts })?;
    put("port", if ports.bytes().all(|byte| byte == b',') { "" } else { &ports })?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.contains('@') {
        // libpq would take it for a part of the database's name; and it may be the end of a password.
        return Err(invalid(&format!("has an @ after a /; write the / of a password as %2F: {REMEDY}")));
    }
    put("dbname", path.strip_prefix('/').unwrap_or(path))?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| invalid("has a parameter without a value"))?;
        if value.contains('=') {
            return Err(invalid("has a parameter with two =; write the second as %3D"));
        }
        let (name, value) = (decoded(name)?, decoded(value)?);
        given.push(if name == "ssl" && value == "true" {
            ("sslmode".to_owned(), "require".to_owned())
        } else {
            (name, value)
        });
    }
    Ok(given)
}

/// The hosts and their ports, each list separated by commas, and what follows them.
fn places(mut rest: &str) -> Result<(String, String, &str), SourceError> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    loop {
        let host;
        if let Some(inner) = rest.strip_prefix('[') {
            let Some((address, behind)) = inner.split_once(']') else {
                return Err(invalid("has a [ without its ]"));
            };
            if address.is_empty() || !behind.is_empty() && !behind.starts_with([':', '/', '?', ',']) {
                return Err(invalid(&format!("has no address between [ and ], or more after it; {REMEDY}")));
            }
            (host, rest) = (address, behind);
        } else {
            (host, rest) = rest.split_at(rest.find([':', '/', '?', ',']).unwrap_or(rest.len()));
        }
        hosts.push_str(host);
        if let Some(behind) = rest.strip_prefix(':') {
            let (port, behind) = behind.split_at(behind.find(['/', '?', ',']).unwrap_or(behind.len()));
            ports.push_str(port);
            rest = behind;
        }
        let Some(behind) = rest.strip_prefix(',') else { return Ok((hosts, ports, rest)) };
        rest = behind;
        hosts.push(',');
        ports.push(',');
    }
}

fn decoded(text: &str) -> Result<String, SourceError> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut hexadecimal = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(hexadecimal() && hexadecimal()) {
            return Err(invalid(&format!("has a % without two hexadecimal digits after it; {REMEDY}")));
        }
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| invalid("has escapes that are no UTF-8"))
}

/// `keyword = value` words; a value may stand in `'`, and `\` takes the next letter as it is.
fn words(text: &str) -> Result<Given, SourceError> {
    let mut given = Given::new();
    let mut letters = text.chars().peekable();
    let is_blank = |letter: &char| letter.is_ascii_whitespace();
    loop {
        while letters.next_if(is_blank).is_some() {}
        if letters.peek().is_none() {
            return Ok(given);
        }
        let mut name = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=' && !letter.is_ascii_whitespace()) {
            name.push(letter);
        }
        while letters.next_if(is_blank).is_some() {}
        if letters.next() != Some('=') {
            return Err(invalid("has a keyword without = and a value"));
        }
        while letters.next_if(is_blank).is_some() {}
        let quoted = letters.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match letters.next() {
                Some('\'') if quoted => break,
                Some(letter) if !quoted && letter.is_ascii_whitespace() => break,
                Some('\\') => value.extend(letters.next()),
                Some(letter) => value.push(letter),
                None if quoted => return Err(invalid("has a ' without its end")),
                None => break,
            }
        }
        given.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> String {
        let given = read(text).unwrap();
        given.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        for (url, wanted) in [
            ("postgres://", ""),
            ("postgresql://h", "host=h"),
            ("postgres://u@", "user=u"),
            ("postgres://u:p@h:1/d", "user=u|password=p|host=h|port=1|dbname=d"),
            ("postgres://u:p+q:r%40s@h/a+b#c", "user=u|password=p+q:r@s|host=h|dbname=a+b#c"),
            ("postgres://:p@/d", "password=p|dbname=d"),
            ("postgres://%2Ftmp%2Fa:1/d", "host=/tmp/a|port=1|dbname=d"),
            ("postgres://a:1,b,[::1]:3/d", "host=a,b,::1|port=1,,3|dbname=d"),
            ("postgres://a,b", "host=a,b"),
            ("postgres://:5/?host=h", "port=5|host=h"),
            ("postgres://h?ssl=true&user=a%26b", "host=h|sslmode=require|user=a&b"),
            ("postgres://h/?options=-c%20a.b%3D1", "host=h|options=-c a.b=1"),
        ] {
            assert_eq!(given(url), wanted, "{url}");
        }
        for refused in [
            "postgres:",
            "postgres:h",
            "postgres://[::1",
            "postgres://[]",
            "postgres://[::1]x",
            "postgres://h/%2",
            "postgres://%zz",
            "postgres://h/%00",
            "postgres://h/%FF",
            "postgres://h?user",
            "postgres://h?user=a=b",
            "postgres://h?a=b@c",
            "mysql://h",
        ] {
            assert!(read(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn words_are_read_as_libpq_reads_them() {
        for (text, wanted) in [
            ("host=h  port = 5\tuser= 'a b' ", "host=h|port=5|user=a b"),
            (r"password='it\'s \\ one' dbname=a\ b", r"password=it's \ one|dbname=a b"),
            ("user='' host=h=i", "user=|host=h=i"),
        ] {
            assert_eq!(given(text), wanted, "{text}");
        }
        for refused in ["host", "host=h user", "host='h", "file.db", "a=b.db"] {
            assert!(read(refused).is_err(), "{refused}");
        }
        assert!(!is_meant("a=b.db") && !is_meant("shop.db") && is_meant("host=h") && is_meant("postgres://"));
    }
}
