//! What is wrong with a workload's definition.

use std::fmt;
use std::path::PathBuf;

/// Why a workload could not be loaded.
#[derive(Debug)]
pub enum WorkloadError {
    /// The name is neither a built-in workload nor a file.
    Unknown {
        /// What was asked for.
        name: String,
        /// The built-in names.
        known: Vec<&'static str>,
        /// The built-in name that is spelled most like it.
        suggestion: Option<String>,
    },
    /// The file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is larger than any definition is.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size read.
        limit_bytes: u64,
    },
    /// Something in the file is wrong.
    Definition {
        /// The file, or `built-in orders`.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong there, and what would be right.
        message: String,
    },
    /// An override is wrong.
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkloadError::Unknown { name, known, suggestion } => {
                write!(f, "no workload and no file is called {name:?}")?;
                if let Some(suggestion) = suggestion {
                    write!(f, "; did you mean `{suggestion}`?")?;
                }
                write!(f, " (built in: {})", known.join(", "))
            }
            WorkloadError::Read { path, cause } => {
                write!(f, "cannot read the workload {}: {cause}; check the path and its permissions", path.display())
            }
            WorkloadError::TooLarge { path, limit_bytes } => write!(
                f,
                "the workload {} has more than the {limit_bytes} bytes that a definition may have; is it another file?",
                path.display()
            ),
            WorkloadError::Definition { file, line, message } => write!(f, "{file}:{line}: {message}"),
            WorkloadError::Setting { setting, message } => write!(f, "workload setting `{setting}`: {message}"),
        }
    }
}

impl std::error::Error for WorkloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WorkloadError::Read { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// The known word spelled most like `word`, if one is like enough.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3 + 1)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
