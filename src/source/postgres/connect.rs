//! Ordinary connections.

use super::options::{PgHost, PgOptions, SslMode};
use super::tls;
use crate::source::SourceError;
use ::postgres::config::SslMode as Negotiation;
use ::postgres::{Client, Config, NoTls};
use rustls::ClientConfig;
use std::time::Duration;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a server that went away may take to come back, and how often it is looked for.
pub const RECONNECT_PATIENCE: Duration = Duration::from_secs(120);
/// See [`RECONNECT_PATIENCE`].
pub const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// What every session of this program has: text forms that do not depend on the server's settings, and a search path on
/// which nobody can plant a function.
pub(super) const SESSION: &str = "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
    SET extra_float_digits = 1; SET bytea_output = 'hex'; SET search_path = pg_catalog; SET xmloption = 'content'";

/// A database without an encoding may hold any bytes. They come as they are, so that a value that is not UTF-8 is refused where its
/// table, column and row are known; the server would refuse it without a word of where it is.
pub(super) const BYTES_AS_THEY_ARE: &str = "SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) \
    WHERE pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'";

impl PgOptions {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`SourceError::Postgres`] when the server can't be reached, refuses, or is not who it should be.
    pub fn connect(&self) -> Result<Client, SourceError> {
        let mut config = Config::new();
        match &self.host {
            PgHost::Tcp(host) => config.host(host),
            PgHost::Socket(folder) => config.host_path(folder),
        };
        config.port(self.port).user(&self.user).dbname(&self.database);
        config.application_name("freshbench").connect_timeout(self.connect_timeout);
        if let Some(password) = &self.password {
            config.password(password.reveal());
        }
        // A socket in the file system has no TLS.
        let tls = if matches!(self.host, PgHost::Socket(_)) { None } else { tls::config(self)? };
        let failed = || SourceError::postgres("connect to", self.place());
        let opened = match tls {
            None => config.ssl_mode(Negotiation::Disable).connect(NoTls),
            Some(tls) => {
                let insists = self.ssl_mode != SslMode::Prefer;
                config.ssl_mode(if insists { Negotiation::Require } else { Negotiation::Prefer });
                config.connect(MakeRustlsConnect::new(ClientConfig::clone(&tls)))
            }
        };
        let mut client = opened.map_err(failed())?;
        client.batch_execute(SESSION).map_err(failed())?;
        client.batch_execute(BYTES_AS_THEY_ARE).map_err(failed())?;
        Ok(client)
    }
}
