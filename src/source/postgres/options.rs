//! How to reach a server.
//!
//! A parameter is taken from the URL, else from the service that `service` or `PGSERVICE` names, else from the environment,
//! else it has libpq's default. A password that is in none of them is looked up in the password file. Sources: the
//! sections "Connection Strings", "Environment Variables", "The Password File" and "The Connection Service File" of
//! PostgreSQL's documentation of libpq. What becomes of each parameter stands in `parameters`.

use super::hosts::{self, PgPlace};
use super::parameters::{self, Taken};
use super::patience::PgPatience;
use super::reach::Reached;
use super::secret::Secret;
use super::switches::{self, Setting};
use super::tls::Credentials;
use super::{service, url};
use crate::source::SourceError;
use std::path::PathBuf;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What `connect_timeout=0` asks for: no limit.
const NO_LIMIT: Duration = Duration::from_secs(30 * 86_400);

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

/// The words of libpq. `allow` begins without TLS; a server that insists on TLS is reached by `prefer` as well.
const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("allow", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// Whether the proof of a password has to be bound to the server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// It is not.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// It has to be; so there is no login without TLS, or without a password of the SCRAM kind.
    Require,
}

const CHANNEL_BINDINGS: &[(&str, ChannelBinding)] =
    &[("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)];

/// The kind of server that is asked for; the meanings are those of libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSession {
    /// Any.
    #[default]
    Any,
    /// One whose sessions may write.
    ReadWrite,
    /// One whose sessions may not write.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One in recovery.
    Standby,
    /// One in recovery, if there is one, else any.
    PreferStandby,
}

const TARGETS: &[(&str, TargetSession)] = &[
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
    ("prefer-standby", TargetSession::PreferStandby),
];

/// What the system asks a silent TCP connection; `None` is the system's own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keepalive {
    pub(super) on: bool,
    pub(super) idle: Option<Duration>,
    pub(super) interval: Option<Duration>,
    pub(super) count: Option<u32>,
    /// How long sent bytes may stay without an answer.
    pub(super) user_timeout: Option<Duration>,
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
    /// Where it is, or may be: then one of these places is chosen at the first connection, and kept.
    pub(super) first: PgPlace,
    pub(super) others: Vec<PgPlace>,
    pub(super) reached: Reached,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// How much of TLS is asked for.
    pub ssl_mode: SslMode,
    pub(super) credentials: Credentials,
    pub(super) channel_binding: ChannelBinding,
    /// The longest time that connecting may take.
    pub connect_timeout: Duration,
    pub(super) keepalive: Keepalive,
    /// What the sessions are called in the server's views.
    pub(super) application_name: String,
    /// Settings that the user wants in every session.
    pub(super) settings: Vec<Setting>,
    pub(super) target: TargetSession,
    /// How long statements may wait for others' transactions.
    pub patience: PgPatience,
}

/// The process's environment, or a test's.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl PgOptions {
    /// Whether `text` is meant as the way to a PostgreSQL server: a URL, or `keyword=value` words.
    pub fn is_url(text: &str) -> bool {
        url::is_meant(text)
    }

    /// Reads `postgres://user:password@host:port/database?parameter=value&..`, or `host=.. user=..`, with the process's
    /// environment.
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
    pub fn parse_in(text: &str, environment: Environment<'_>) -> Result<PgOptions, SourceError> {
        let mut given = Taken::default();
        given.add(url::read(text)?, "")?;
        if let Some(name) = given.get("service").map(str::to_owned).or_else(|| environment("PGSERVICE")) {
            given.add(service::read(&name, environment)?, &format!(" of the service {name:?}"))?;
        }
        given.add_environment(environment)?;
        let login = || environment("USER").or_else(|| environment("LOGNAME"));
        let user = given.get("user").map(str::to_owned).or_else(login);
        let user = user.ok_or_else(|| invalid("names no role; write role@host"))?;
        let ssl_mode = match given.word("sslmode", SSL_MODES)? {
            Some(mode) => mode,
            // The old variable; other values of it mean nothing.
            None if given.get("requiressl").is_some_and(|old| old.starts_with('1')) => SslMode::Require,
            None => SslMode::Prefer,
        };
        let name = given.get("application_name").or_else(|| given.get("fallback_application_name"));
        let (first, others) = hosts::read(&given)?;
        let mut options = PgOptions {
            first,
            others,
            reached: Reached::default(),
            database: given.get("dbname").map_or_else(|| user.clone(), str::to_owned),
            user,
            ssl_mode,
            credentials: Credentials::read(&given, environment, ssl_mode)?,
            channel_binding: given.word("channel_binding", CHANNEL_BINDINGS)?.unwrap_or_default(),
            connect_timeout: connect_timeout(given.number("connect_timeout")?),
            keepalive: keepalive(&given)?,
            application_name: name.unwrap_or("freshbench").to_owned(),
            settings: switches::read(given.get("options").unwrap_or_default(), given.origin("options"))?,
            target: given.word("target_session_attrs", TARGETS)?.unwrap_or_default(),
            patience: PgPatience::default(),
        };
        if given.get("PGGEQO").is_some() && !options.settings.iter().any(|(name, _)| name.eq_ignore_ascii_case("geqo"))
        {
            options.settings.extend(given.get("PGGEQO").map(|value| ("geqo".to_owned(), value.to_owned())));
        }
        hosts::find_passwords(&mut options, &given, environment)?;
        Ok(options)
    }

    /// The same server, role and database, for statements that wait for so long.
    #[must_use]
    pub fn with_patience(&self, patience: PgPatience) -> PgOptions {
        PgOptions { patience, ..self.clone() }
    }

    /// The same server and role, another database.
    pub fn with_database(&self, database: &str) -> PgOptions {
        PgOptions { database: database.to_owned(), reached: self.reached.of_server(), ..self.clone() }
    }

    /// Every place at which it may be.
    pub(super) fn places(&self) -> impl Iterator<Item = &PgPlace> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Where the server listens; before the first connection the first place that was named.
    pub fn host(&self) -> &PgHost {
        &self.here().host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.here().port
    }

    /// The role's password, where one was found.
    pub fn password(&self) -> Option<&Secret> {
        self.here().password.as_ref()
    }

    /// Role, host, port and database, for messages and results: no password, no parameter.
    pub fn place(&self) -> String {
        let shown = |place: &PgPlace| match &place.host {
            PgHost::Tcp(host) if host.contains(':') => format!("[{host}]:{}", place.port),
            PgHost::Tcp(host) => format!("{host}:{}", place.port),
            PgHost::Socket(folder) => format!("{}:{}", folder.display(), place.port),
        };
        let places = match self.reached.place() {
            Some(_) => shown(self.here()),
            None => self.places().map(shown).collect::<Vec<_>>().join(","),
        };
        format!("postgres://{}@{places}/{}", self.user, self.database)
    }
}

fn connect_timeout(seconds: Option<i64>) -> Duration {
    match seconds.map(u64::try_from) {
        None => CONNECT_TIMEOUT,
        Some(Err(_) | Ok(0)) => NO_LIMIT,
        Some(Ok(seconds)) => Duration::from_secs(seconds).min(NO_LIMIT),
    }
}

/// Zero and less stand for the system's own choice.
fn keepalive(given: &Taken) -> Result<Keepalive, SourceError> {
    let positive = |name: &str| -> Result<Option<u64>, SourceError> {
        Ok(given.number(name)?.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0))
    };
    Ok(Keepalive {
        on: given.number("keepalives")? != Some(0),
        idle: positive("keepalives_idle")?.map(Duration::from_secs),
        interval: positive("keepalives_interval")?.map(Duration::from_secs),
        count: positive("keepalives_count")?.and_then(|count| u32::try_from(count).ok()),
        user_timeout: positive("tcp_user_timeout")?.map(Duration::from_millis),
    })
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
        parameters::is_public(name)
    };
    let parameters: Vec<&str> = parameters.split('&').filter(public).collect();
    let parameters = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
    format!("{scheme}://{role}{place}{path}{parameters}")
}

/// About a URL that must not be repeated.
pub(super) fn invalid(what: &str) -> SourceError {
    SourceError::Options { what: format!("the PostgreSQL URL {what}") }
}
