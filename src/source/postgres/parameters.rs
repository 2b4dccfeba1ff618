//! Every parameter that libpq knows, and what becomes of it here: it is taken up, or refused by its name. None is
//! accepted and passed over.
//!
//! Sources: the sections "Parameter Key Words" and "Environment Variables" of PostgreSQL's documentation of libpq, of the
//! versions 14 to 18.

use super::options::{Environment, invalid};
use super::url::Given;
use crate::source::SourceError;
use std::collections::BTreeMap;

/// What becomes of a parameter that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It does what it does in libpq.
    Used,
    /// These values (in whatever case) ask for what is done anyway; any other is refused, for this reason.
    Only(&'static [&'static str], &'static str),
    /// It can't be had, for this reason.
    Refused(&'static str),
}

const NO_GSS: &str = "GSSAPI is not supported; use a password or a certificate";
const NEWER: &str = "it is not supported; leave it out";
const UTF8: &[&str] = &["utf8", "utf-8", "unicode", "auto"];
const NO: &[&str] = &["0", "no", "off", "false"];

/// Name, environment variable, fate.
const PARAMETERS: &[(&str, &str, Fate)] = &[
    ("host", "PGHOST", Fate::Used),
    ("hostaddr", "PGHOSTADDR", Fate::Used),
    ("port", "PGPORT", Fate::Used),
    ("dbname", "PGDATABASE", Fate::Used),
    ("user", "PGUSER", Fate::Used),
    ("password", "PGPASSWORD", Fate::Used),
    ("passfile", "PGPASSFILE", Fate::Used),
    ("service", "PGSERVICE", Fate::Used),
    ("connect_timeout", "PGCONNECT_TIMEOUT", Fate::Used),
    ("options", "PGOPTIONS", Fate::Used),
    ("application_name", "PGAPPNAME", Fate::Used),
    ("fallback_application_name", "", Fate::Used),
    ("client_encoding", "PGCLIENTENCODING", Fate::Only(UTF8, "sessions use UTF8, whose text is that of any other")),
    ("target_session_attrs", "PGTARGETSESSIONATTRS", Fate::Used),
    ("keepalives", "", Fate::Used),
    ("keepalives_idle", "", Fate::Used),
    ("keepalives_interval", "", Fate::Used),
    ("keepalives_count", "", Fate::Used),
    ("tcp_user_timeout", "", Fate::Used),
    ("channel_binding", "PGCHANNELBINDING", Fate::Used),
    ("sslmode", "PGSSLMODE", Fate::Used),
    ("requiressl", "PGREQUIRESSL", Fate::Used),
    ("sslrootcert", "PGSSLROOTCERT", Fate::Used),
    ("sslcert", "PGSSLCERT", Fate::Used),
    ("sslkey", "PGSSLKEY", Fate::Used),
    ("sslcrl", "PGSSLCRL", Fate::Used),
    ("sslsni", "PGSSLSNI", Fate::Used),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Fate::Used),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Fate::Used),
    ("sslpassword", "", Fate::Refused("an encrypted key can't be read; decrypt it: openssl pkey -in KEY -out PLAIN")),
    (
        "sslcrldir",
        "PGSSLCRLDIR",
        Fate::Refused("a folder of revocation lists can't be read; name one file with sslcrl"),
    ),
    (
        "sslcompression",
        "PGSSLCOMPRESSION",
        Fate::Only(&["0"], "TLS is never compressed, since that gives secrets away"),
    ),
    ("requirepeer", "PGREQUIREPEER", Fate::Refused("who owns the server's process is not looked at")),
    ("replication", "", Fate::Only(NO, "replication connections are made where they are needed")),
    ("gssencmode", "PGGSSENCMODE", Fate::Only(&["disable", "prefer"], NO_GSS)),
    ("krbsrvname", "PGKRBSRVNAME", Fate::Refused(NO_GSS)),
    ("gsslib", "PGGSSLIB", Fate::Refused(NO_GSS)),
    // Of version 16 and later: an older psql refuses them as well.
    ("gssdelegation", "PGGSSDELEGATION", Fate::Refused(NO_GSS)),
    ("require_auth", "PGREQUIREAUTH", Fate::Refused("it is not supported; channel_binding=require asks for SCRAM")),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS", Fate::Refused("hosts are tried in the order given; leave it out")),
    ("sslcertmode", "PGSSLCERTMODE", Fate::Refused(NEWER)),
    ("sslnegotiation", "PGSSLNEGOTIATION", Fate::Refused("TLS is negotiated as it always was; leave it out")),
    ("min_protocol_version", "PGMINPROTOCOLVERSION", Fate::Refused("protocol 3.0 is spoken; leave it out")),
    ("max_protocol_version", "PGMAXPROTOCOLVERSION", Fate::Refused("protocol 3.0 is spoken; leave it out")),
    ("servicefile", "", Fate::Refused("set PGSERVICEFILE")),
    ("sslkeylogfile", "", Fate::Refused(NEWER)),
    ("scram_client_key", "", Fate::Refused(NEWER)),
    ("scram_server_key", "", Fate::Refused(NEWER)),
    ("oauth_issuer", "", Fate::Refused(NEWER)),
    ("oauth_client_id", "", Fate::Refused(NEWER)),
    ("oauth_client_secret", "", Fate::Refused(NEWER)),
    ("oauth_scope", "", Fate::Refused(NEWER)),
    ("oauth_ca_file", "PGOAUTHCAFILE", Fate::Refused(NEWER)),
    // libpq sets these in the session; they have no parameter.
    ("", "PGDATESTYLE", Fate::Only(&["iso", "iso, mdy"], "values are read with DateStyle ISO; unset it")),
    ("", "PGTZ", Fate::Only(&["utc"], "values are read with TimeZone UTC; unset it")),
    ("", "PGGEQO", Fate::Used),
];

/// Whether libpq has a parameter of this name.
pub(super) fn is_known(name: &str) -> bool {
    !name.is_empty() && PARAMETERS.iter().any(|(known, ..)| *known == name)
}

/// What nobody but the server is to see.
const SECRET: &[&str] = &["password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"];

/// Whether a parameter of this name is known, and its value may be shown.
pub(super) fn is_public(name: &str) -> bool {
    is_known(name) && !SECRET.contains(&name)
}

/// The environment variables that say how a server is reached, but for passwords.
pub fn public_variables() -> impl Iterator<Item = &'static str> {
    let of_parameters = PARAMETERS.iter().filter(|(name, variable, _)| !variable.is_empty() && !SECRET.contains(name));
    of_parameters.map(|(_, variable, _)| *variable).chain(["PGSERVICEFILE", "PGSYSCONFDIR"])
}

/// Parameters that are taken up, and for each where it was given: nothing for the connection string itself, else the
/// variable or the service.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<&'static str, (String, String)>);

impl Taken {
    /// Takes up what was given in one place. Within a connection string the last one of a name counts; what an earlier place
    /// gave stays.
    ///
    /// # Errors
    /// For a parameter that is unknown or can't be had, by its name alone: the value might be a secret.
    pub(super) fn add(&mut self, given: Given, origin: &str) -> Result<(), SourceError> {
        let mut taken = BTreeMap::new();
        for (name, value) in given {
            let (name, value) = match (name.as_str(), value.starts_with('1')) {
                // The old name for two of the modes.
                ("requiressl", true) => ("sslmode".to_owned(), "require".to_owned()),
                ("requiressl", false) => ("sslmode".to_owned(), "prefer".to_owned()),
                _ => (name, value),
            };
            let Some((name, _, fate)) = PARAMETERS.iter().find(|(known, ..)| !name.is_empty() && *known == name) else {
                let what = format!("has the unknown parameter {name:?}{origin}; see libpq's \"Parameter Key Words\"");
                return Err(invalid(&what));
            };
            check(&format!("the parameter {name}{origin}"), &value, *fate)?;
            taken.insert(*name, (value, origin.to_owned()));
        }
        for (name, value) in taken {
            self.0.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// Takes up what the environment gives.
    ///
    /// # Errors
    /// As [`Taken::add`], naming the variable.
    pub(super) fn add_environment(&mut self, environment: Environment<'_>) -> Result<(), SourceError> {
        for (name, variable, fate) in PARAMETERS.iter().filter(|(_, variable, _)| !variable.is_empty()) {
            if self.0.contains_key(name) {
                continue;
            }
            if let Some(value) = environment(variable) {
                check(&format!("the variable {variable}"), &value, *fate)?;
                let key = if name.is_empty() { variable } else { name };
                self.0.insert(key, (value, format!(" of {variable}")));
            }
        }
        Ok(())
    }

    /// The value, unless it is not given or empty, which stands for the default.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Where it was given, for messages: empty, or as ` of PGPORT`.
    pub(super) fn origin(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |(_, origin)| origin)
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, SourceError> {
        let parse = |text: &str| text.trim().parse::<i32>().map(i64::from);
        let number = self.get(name).map(parse).transpose();
        number.map_err(|_| invalid(&format!("has a {name}{} that is no number", self.origin(name))))
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, SourceError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let origin = self.origin(name);
                Err(invalid(&format!("has the {name} {text:?}{origin}; known are {}", known.join(", "))))
            }
        }
    }
}

fn check(subject: &str, value: &str, fate: Fate) -> Result<(), SourceError> {
    let refused = |why: &str| Err(SourceError::Options { what: format!("can't do as {subject} asks: {why}") });
    match fate {
        Fate::Used => Ok(()),
        Fate::Only(..) | Fate::Refused(_) if value.is_empty() => Ok(()),
        Fate::Only(values, _) if values.iter().any(|known| known.eq_ignore_ascii_case(value)) => Ok(()),
        Fate::Only(_, why) | Fate::Refused(why) => refused(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key words of the documentation of libpq, of version 18 and, for what went, 13.
    const DOCUMENTED: &str = "host hostaddr port dbname user password passfile require_auth channel_binding connect_timeout \
        client_encoding options application_name fallback_application_name keepalives keepalives_idle \
        keepalives_interval keepalives_count tcp_user_timeout replication gssencmode sslmode requiressl sslnegotiation \
        sslcompression sslcert sslkey sslkeylogfile sslpassword sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer \
        ssl_min_protocol_version ssl_max_protocol_version min_protocol_version max_protocol_version krbsrvname gsslib \
        gssdelegation scram_client_key scram_server_key service servicefile target_session_attrs load_balance_hosts \
        oauth_issuer oauth_client_id oauth_client_secret oauth_scope";
    /// Variables that are read elsewhere, and one that chooses the language of libpq's own messages.
    const ELSEWHERE: [&str; 3] = ["PGSERVICEFILE", "PGSYSCONFDIR", "PGLOCALEDIR"];

    #[test]
    fn every_documented_parameter_has_its_fate_once() {
        for name in DOCUMENTED.split_whitespace() {
            assert_eq!(PARAMETERS.iter().filter(|(known, ..)| *known == name).count(), 1, "{name}");
        }
        for (name, variable, _) in PARAMETERS {
            let same = PARAMETERS.iter().filter(|(other, of, _)| (other, of) == (name, variable)).count();
            assert!(same == 1 && (!name.is_empty() || !variable.is_empty()), "{name} {variable}");
        }
    }

    #[test]
    fn the_installed_libpq_reads_no_variable_that_is_unknown_here() {
        let places =
            ["/usr/lib/x86_64-linux-gnu/libpq.so.5", "/usr/lib/aarch64-linux-gnu/libpq.so.5", "/usr/lib/libpq.so.5"];
        let Some(library) = places.iter().find_map(|path| std::fs::read(path).ok()) else {
            eprintln!("SKIPPED: there is no libpq; apt-get install libpq5");
            return;
        };
        let texts = library.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
        let is_variable = |text: &&str| {
            let rest = text.strip_prefix("PG").unwrap_or_default();
            !text.starts_with("PGRES_") && rest.len() > 1 && rest.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        };
        let variables: Vec<&str> = texts.filter(is_variable).collect();
        assert!(variables.len() > 25 && variables.contains(&"PGHOST"), "{variables:?}");
        for variable in variables {
            let known = PARAMETERS.iter().any(|(_, known, _)| *known == variable) || ELSEWHERE.contains(&variable);
            assert!(known, "{variable}");
        }
    }

    #[test]
    fn what_is_used_is_read_and_nothing_else_is_taken() {
        // A parameter that is taken up and then read nowhere would be ignored.
        let sources = [
            include_str!("options.rs"),
            include_str!("hosts.rs"),
            include_str!("tls.rs"),
            include_str!("parameters.rs"),
        ];
        for (name, variable, _) in PARAMETERS.iter().filter(|(_, _, fate)| *fate == Fate::Used) {
            let key = if name.is_empty() { variable } else { name };
            let reads = [
                format!("get(\"{key}\")"),
                format!("word(\"{key}\""),
                format!("number(\"{key}\")"),
                format!("positive(\"{key}\")"),
                format!("list(\"{key}\")"),
                format!("named(\"{key}\")"),
            ];
            let read = |source: &&str| reads.iter().any(|read| source.contains(read));
            assert!(sources.iter().any(read), "{key}");
        }
        let mut taken = Taken::default();
        for (name, _, fate) in PARAMETERS.iter().filter(|(name, ..)| !name.is_empty()) {
            let given = vec![((*name).to_owned(), "x".to_owned())];
            let refused = taken.add(given, "").err().map(|error| error.to_string());
            assert_eq!(refused.is_none(), *fate == Fate::Used, "{name}");
            assert!(refused.is_none_or(|said| said.contains(name)), "{name}");
        }
    }
}
