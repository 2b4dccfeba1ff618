//! What a session lets in: one statement that reads.

use super::error::SqlError;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement;

/// Lets a statement pass that reads, and refuses every other.
///
/// This looks at the words; the plan is looked over as well, for what hides inside (`SELECT .. INTO`, `WITH x AS (DELETE ..)`).
pub(super) fn only_reads(parsed: &Parsed) -> Result<(), SqlError> {
    let refused = |what: &str| Err(SqlError::Refused { what: what.to_owned() });
    match parsed {
        Parsed::Explain(explain) => only_reads(&explain.statement),
        Parsed::CreateExternalTable(_) => refused("CREATE EXTERNAL TABLE"),
        Parsed::CopyTo(_) => refused("COPY"),
        Parsed::Reset(_) => refused("RESET"),
        Parsed::Statement(statement) => match statement.as_ref() {
            Statement::Query(_)
            | Statement::ExplainTable { .. }
            | Statement::ShowTables { .. }
            | Statement::ShowColumns { .. } => Ok(()),
            Statement::Explain { statement, .. } => only_reads(&Parsed::Statement(statement.clone())),
            other => {
                let text = other.to_string();
                let words: Vec<&str> = text.split_whitespace().take(2).collect();
                refused(&match words.as_slice() {
                    ["CREATE" | "DROP" | "ALTER" | "SHOW", second, ..] => format!("{} {second}", words[0]),
                    [first, ..] => (*first).to_owned(),
                    [] => "an empty statement".to_owned(),
                })
            }
        },
    }
}
