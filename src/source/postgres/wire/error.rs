//! The server's errors.

use crate::source::SourceError;
use crate::source::postgres::options::PgOptions;

/// The operation of an error to a statement.
pub(super) const STATEMENT: &str = "do this at";

/// The fields of an `ErrorResponse`: message, detail, hint and SQLSTATE.
pub(super) fn of_fields(body: &[u8], options: &PgOptions) -> SourceError {
    let field = |wanted: u8| {
        let found = body.split(|&byte| byte == 0).find(|field| field.first() == Some(&wanted));
        found.and_then(|field| field.get(1..)).map(|text| String::from_utf8_lossy(text).into_owned())
    };
    let extra = |name: &str, wanted| field(wanted).map(|text| format!(" ({name}: {text})")).unwrap_or_default();
    let message = field(b'M').unwrap_or_else(|| "an error without words".to_owned());
    SourceError::Postgres {
        operation: STATEMENT,
        place: options.place(),
        reason: format!("{message}{}{}", extra("detail", b'D'), extra("hint", b'H')),
        sqlstate: field(b'C'),
    }
}
