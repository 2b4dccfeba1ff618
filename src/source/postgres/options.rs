//! How to reach a server.
//!
//! A parameter is taken from the URL, else from the service that `service` or `PGSERVICE` names, else from the environment,
//! else it has libpq's default. A password that is in none of them is looked up in the password file. Sources: the
//! sections "Connection Strings", "Environment Variables", "The Password File" and "The Connection Service File" of
//! PostgreSQL's documentation of libpq.

use super::passfile;
use super::secret::Secret;
use super::service;
use crate::source::SourceError;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Where Debian's and many others' servers have their socket.
const SOCKET_FOLDER: &str = "/var/run/postgresql";
const PORT: u16 = 5432;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of TLS is asked for; the meanings are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it, unverified; over a socket in the file system none.
    Prefer,
    /// TLS or nothing. Verified as by `verify-ca` when there is a root certificate.
    Require,
    /// TLS with a certificate that a trusted authority signed, for whatever host.
    VerifyCa,
    /// TLS with a certificate that a trusted authority signed for this very host.
    VerifyFull,
}

impl SslMode {
    fn parse(text: &str) -> Option<SslMode> {
        Some(match text {
            "disable" => SslMode::Disable,
            // `allow` begins without TLS; a server that insists on TLS is reached by `prefer` as well.
            "allow" | "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => return None,
        })
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PgHost {
    /// A name or an address.
    Tcp(String),
    /// The folder of a socket in the file system.
    Socket(PathBuf),
}

/// How to reach one database of one server. `Debug` shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgOptions {
    /// Where the server listens.
    pub host: PgHost,
    /// Its port.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The role's password, where one was found.
    pub password: Option<Secret>,
    /// How much of TLS is asked for.
    pub ssl_mode: SslMode,
    /// The file of certificates of trusted authorities; `None` for the system's.
    pub ssl_root_cert: Option<PathBuf>,
    /// The longest time that connecting may take.
    pub connect_timeout: Duration,
}

/// The process's environment, or a test's.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl PgOptions {
    /// Whether `text` is meant as the URL of a PostgreSQL server.
    pub fn is_url(text: &str) -> bool {
        text.starts_with("postgres:") || text.starts_with("postgresql:")
    }

    /// Reads `postgres://user:password@host:port/database?parameter=value&..`, with the process's environment.
    ///
    /// # Errors
    /// [`SourceError::Options`], which never repeats the URL.
    pub fn parse(url: &str) -> Result<PgOptions, SourceError> {
        PgOptions::parse_in(url, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`PgOptions::parse`], with another environment.
    ///
    /// # Errors
    /// As [`PgOptions::parse`].
    pub fn parse_in(url: &str, environment: Environment<'_>) -> Result<PgOptions, SourceError> {
        let mut given = of_url(url)?;
        let named = given.get("service").cloned().or_else(|| environment("PGSERVICE"));
        if let Some(name) = named {
            for (parameter, value) in service::read(&name, environment)? {
                given.entry(parameter).or_insert(value);
            }
        }
        let value = |parameter: &str, variable: &str| given.get(parameter).cloned().or_else(|| environment(variable));
        let host = match given.get("hostaddr").cloned().or_else(|| value("host", "PGHOST")) {
            Some(host) if host.starts_with('/') => PgHost::Socket(PathBuf::from(host)),
            Some(host) if host.contains(',') => return Err(invalid("names several hosts; give the one to follow")),
            Some(host) => PgHost::Tcp(host),
            None if PathBuf::from(SOCKET_FOLDER).is_dir() => PgHost::Socket(PathBuf::from(SOCKET_FOLDER)),
            None => PgHost::Tcp("localhost".to_owned()),
        };
        let port = match value("port", "PGPORT") {
            Some(port) => port.parse().map_err(|_| invalid(&format!("has the port {port:?}; give a number")))?,
            None => PORT,
        };
        let login = || environment("USER").or_else(|| environment("LOGNAME"));
        let user = value("user", "PGUSER").or_else(login).ok_or_else(|| invalid("names no role; write role@host"))?;
        let database = value("dbname", "PGDATABASE").unwrap_or_else(|| user.clone());
        let ssl_mode = match value("sslmode", "PGSSLMODE") {
            Some(mode) => SslMode::parse(&mode).ok_or_else(|| {
                let known = "disable, prefer, require, verify-ca, verify-full";
                invalid(&format!("has the sslmode {mode:?}; known are {known}"))
            })?,
            None => SslMode::Prefer,
        };
        let connect_timeout = match value("connect_timeout", "PGCONNECT_TIMEOUT") {
            Some(text) => {
                let seconds: u64 = text.parse().map_err(|_| invalid("has a connect_timeout that is no number"))?;
                if seconds == 0 { CONNECT_TIMEOUT } else { Duration::from_secs(seconds) }
            }
            None => CONNECT_TIMEOUT,
        };
        let mut options = PgOptions {
            host,
            port,
            user,
            database,
            password: value("password", "PGPASSWORD").map(Secret::new),
            ssl_mode,
            ssl_root_cert: root_cert(value("sslrootcert", "PGSSLROOTCERT"), environment),
            connect_timeout,
        };
        if options.password.is_none() {
            let file = value("passfile", "PGPASSFILE").map(PathBuf::from);
            options.password = passfile::look_up(file, &options, environment)?;
        }
        Ok(options)
    }

    /// The same server and role, another database.
    pub fn with_database(&self, database: &str) -> PgOptions {
        PgOptions { database: database.to_owned(), ..self.clone() }
    }

    /// Role, host, port and database, for messages and results: no password, no parameter.
    pub fn place(&self) -> String {
        let host = match &self.host {
            PgHost::Tcp(host) if host.contains(':') => format!("[{host}]"),
            PgHost::Tcp(host) => host.clone(),
            PgHost::Socket(folder) => folder.display().to_string(),
        };
        format!("postgres://{}@{host}:{}/{}", self.user, self.port, self.database)
    }
}

/// A URL without its password, for command lines in results: scheme, role, host, database, and those of its parameters that are
/// known and no secret. Where a secret might be mistaken for something else, nothing of it.
pub fn without_secret(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(not a URL)".to_owned() };
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if behind.contains('@') {
        return format!("{scheme}://(hidden)");
    }
    let (role, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (login.split(':').next().filter(|role| !role.is_empty()), place),
        None => (None, authority),
    };
    let role = role.map_or(String::new(), |role| format!("{role}@"));
    let behind = behind.split('#').next().unwrap_or_default();
    let (path, parameters) = behind.split_once('?').unwrap_or((behind, ""));
    // By its name as it is written: one that is spelled in another way is left out.
    let public = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        name != "password" && KNOWN.contains(&name)
    };
    let parameters: Vec<&str> = parameters.split('&').filter(public).collect();
    let parameters = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
    format!("{scheme}://{role}{place}{path}{parameters}")
}

/// `sslrootcert`, else the file in the home folder, if it is there; `system` stands for the system's certificates.
fn root_cert(given: Option<String>, environment: Environment<'_>) -> Option<PathBuf> {
    match given {
        Some(name) if name == "system" => None,
        Some(path) => Some(PathBuf::from(path)),
        None => {
            environment("HOME").map(|home| PathBuf::from(home).join(".postgresql/root.crt")).filter(|p| p.is_file())
        }
    }
}

const KNOWN: [&str; 16] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "service",
    "passfile",
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "application_name",
    "options",
    "target_session_attrs",
    "keepalives",
    "channel_binding",
];

fn of_url(url: &str) -> Result<BTreeMap<String, String>, SourceError> {
    if !PgOptions::is_url(url) {
        return Err(invalid("does not begin with postgres://"));
    }
    let parsed = Url::parse(url).map_err(|cause| invalid(&format!("can't be read ({cause}); {REMEDY}")))?;
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| invalid("has escapes that are no UTF-8"))?;
        if decoded.contains('\0') { Err(invalid("has a NUL in it")) } else { Ok(decoded.into_owned()) }
    };
    let mut given = BTreeMap::new();
    let mut put = |name: &str, text: &str| -> Result<(), SourceError> {
        if !text.is_empty() {
            given.insert(name.to_owned(), decoded(text)?);
        }
        Ok(())
    };
    put("user", parsed.username())?;
    put("password", parsed.password().unwrap_or_default())?;
    put("host", parsed.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']'))?;
    put("port", &parsed.port().map(|port| port.to_string()).unwrap_or_default())?;
    put("dbname", parsed.path().trim_start_matches('/'))?;
    for (name, value) in parsed.query_pairs() {
        if !KNOWN.contains(&name.as_ref()) {
            // The name alone: the value might be a secret under a misspelt name.
            return Err(invalid(&format!("has the unknown parameter {name:?}; known are {}", KNOWN.join(", "))));
        }
        if value.contains('\0') {
            return Err(invalid("has a NUL in it"));
        }
        given.insert(name.into_owned(), value.into_owned());
    }
    Ok(given)
}

const REMEDY: &str = "write postgres://role:password@host:port/database and percent-encode what is special";

/// About a URL that must not be repeated.
pub(super) fn invalid(what: &str) -> SourceError {
    SourceError::Options { what: format!("the PostgreSQL URL {what}") }
}
