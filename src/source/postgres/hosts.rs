//! The places at which a server may be: `host`, `hostaddr` and `port`, each one or a list.

use super::options::{Environment, PgHost, PgOptions, invalid};
use super::parameters::Taken;
use super::passfile;
use super::secret::Secret;
use crate::source::SourceError;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where Debian's and many others' servers have their socket.
pub(super) const SOCKET_FOLDER: &str = "/var/run/postgresql";
const PORT: u16 = 5432;

/// One place at which a server may be, and the password there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PgPlace {
    pub(super) host: PgHost,
    /// Where to go in place of asking for the host's address.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) password: Option<Secret>,
}

/// The places in the order in which they are named: the first, and the others.
pub(super) fn read(given: &Taken) -> Result<(PgPlace, Vec<PgPlace>), SourceError> {
    let list = |name: &str| -> Vec<String> {
        given.get(name).map(|text| text.split(',').map(|item| item.trim().to_owned()).collect()).unwrap_or_default()
    };
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = hosts.len().max(addresses.len()).max(1);
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(invalid("has not as many hosts as hostaddrs"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(invalid("has not as many ports as hosts"));
    }
    let item = |list: &[String], place: usize| list.get(place).cloned().filter(|text| !text.is_empty());
    let origin = given.origin("port");
    let number = |text: String| {
        let number = text.parse::<u16>().ok().filter(|port| *port > 0);
        number.ok_or_else(|| invalid(&format!("has a port{origin} that is no number from 1 to 65535")))
    };
    let at = |place: usize| -> Result<PgPlace, SourceError> {
        let port = if ports.len() == 1 { item(&ports, 0) } else { item(&ports, place) };
        let address = item(&addresses, place).map(|text| {
            text.parse::<IpAddr>().map_err(|_| invalid("has a hostaddr that is no address, as 192.0.2.1 is one"))
        });
        let address = address.transpose()?;
        let host = host(item(&hosts, place), address)?;
        Ok(PgPlace { host, address, port: port.map(number).transpose()?.unwrap_or(PORT), password: None })
    };
    Ok((at(0)?, (1..count).map(at).collect::<Result<_, _>>()?))
}

fn host(name: Option<String>, address: Option<IpAddr>) -> Result<PgHost, SourceError> {
    Ok(match (name, address) {
        (Some(name), None) if name.starts_with('@') => {
            return Err(invalid("names a socket outside of the file system; name the server's folder or host"));
        }
        (Some(name), None) if name.starts_with('/') => PgHost::Socket(PathBuf::from(name)),
        (Some(name), _) => PgHost::Tcp(name),
        (None, Some(address)) => PgHost::Tcp(address.to_string()),
        (None, None) if PathBuf::from(SOCKET_FOLDER).is_dir() => PgHost::Socket(PathBuf::from(SOCKET_FOLDER)),
        (None, None) => PgHost::Tcp("localhost".to_owned()),
    })
}

/// The password that was given, else for each place what the password file has.
pub(super) fn find_passwords(
    options: &mut PgOptions,
    given: &Taken,
    environment: Environment<'_>,
) -> Result<(), SourceError> {
    let (user, database) = (options.user.clone(), options.database.clone());
    for place in std::iter::once(&mut options.first).chain(&mut options.others) {
        place.password = match given.get("password") {
            Some(password) => Some(Secret::new(password)),
            None => {
                let file = given.get("passfile").map(PathBuf::from);
                let host = match &place.host {
                    PgHost::Tcp(host) => host.clone(),
                    // The default folder goes by the name of the host that it stands for.
                    PgHost::Socket(folder) if folder.as_os_str() == SOCKET_FOLDER => "localhost".to_owned(),
                    PgHost::Socket(folder) => folder.display().to_string(),
                };
                passfile::look_up(file, &[host, place.port.to_string(), database.clone(), user.clone()], environment)?
            }
        };
    }
    Ok(())
}
