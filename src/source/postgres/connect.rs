//! Ordinary connections.

use super::options::{ChannelBinding, PgHost, PgOptions, SslMode};
use super::wire::{Mode, TextRow};
use super::{session, tls};
use crate::source::SourceError;
use ::postgres::config::{ChannelBinding as Binding, SslMode as Negotiation};
use ::postgres::error::SqlState;
use ::postgres::{Client, Config, NoTls, SimpleQueryMessage};
use rustls::ClientConfig;
use std::time::Duration;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a server that went away may take to come back, and how often it is looked for.
pub const RECONNECT_PATIENCE: Duration = Duration::from_secs(120);
/// See [`RECONNECT_PATIENCE`].
pub const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

const NO_ROOM_ATTEMPTS: u32 = 5;
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

impl PgOptions {
    /// Opens a connection, whose session has what every session of this program has.
    ///
    /// # Errors
    /// [`SourceError::Postgres`] when the server can't be reached, refuses, or is not who it should be;
    /// [`SourceError::Options`] when the session can't be as values depend on it.
    pub fn connect(&self) -> Result<Client, SourceError> {
        self.settle()?;
        let (mut config, here) = (Config::new(), self.here());
        match (&here.host, here.address) {
            (PgHost::Tcp(host), None) => config.host(host),
            (PgHost::Tcp(host), Some(address)) => config.host(host).hostaddr(address),
            (PgHost::Socket(folder), _) => config.host_path(folder),
        };
        config.port(here.port).user(&self.user).dbname(&self.database);
        config.application_name(&self.application_name).connect_timeout(self.connect_timeout);
        config.channel_binding(match self.channel_binding {
            ChannelBinding::Disable => Binding::Disable,
            ChannelBinding::Prefer => Binding::Prefer,
            ChannelBinding::Require => Binding::Require,
        });
        self.keep_alive(&mut config);
        if let Some(password) = &here.password {
            config.password(password.reveal());
        }
        // A socket in the file system has no TLS.
        let tls = if matches!(here.host, PgHost::Socket(_)) { None } else { tls::config(self)? };
        let open = |config: &mut Config| match &tls {
            None => config.ssl_mode(Negotiation::Disable).connect(NoTls),
            Some(tls) => {
                let insists = self.ssl_mode != SslMode::Prefer;
                config.ssl_mode(if insists { Negotiation::Require } else { Negotiation::Prefer });
                config.connect(MakeRustlsConnect::new(ClientConfig::clone(tls)))
            }
        };
        let mut opened = open(&mut config);
        for _ in 0..NO_ROOM_ATTEMPTS {
            let full = opened.as_ref().err().and_then(|error| error.code());
            if full != Some(&SqlState::TOO_MANY_CONNECTIONS) {
                break;
            }
            // One of this program's own that has just ended may still be counted.
            std::thread::sleep(NO_ROOM_PAUSE);
            opened = open(&mut config);
        }
        let mut client = opened.map_err(SourceError::postgres("connect to", self.place()))?;
        session::prepare(&mut |sql| simple(&mut client, sql, self), self, Mode::Query)?;
        Ok(client)
    }

    /// Sees that a session still has what values depend on, as before rows are read in its transaction.
    ///
    /// # Errors
    /// [`SourceError::Options`] when it has not.
    pub(crate) fn verify(&self, client: &mut Client) -> Result<(), SourceError> {
        session::verify(&mut |sql| simple(client, sql, self), self)
    }

    fn keep_alive(&self, config: &mut Config) {
        let keepalive = &self.keepalive;
        config.keepalives(keepalive.on);
        if let Some(idle) = keepalive.idle {
            config.keepalives_idle(idle);
        }
        if let Some(interval) = keepalive.interval {
            config.keepalives_interval(interval);
        }
        if let Some(count) = keepalive.count {
            config.keepalives_retries(count);
        }
        if let Some(timeout) = keepalive.user_timeout {
            config.tcp_user_timeout(timeout);
        }
    }
}

/// Rows of a statement by the simple protocol.
fn simple(client: &mut Client, sql: &str, options: &PgOptions) -> Result<Vec<TextRow>, SourceError> {
    let messages = client.simple_query(sql).map_err(SourceError::postgres("prepare a session at", options.place()))?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}
