//! The bytes below the protocol: TCP or a socket in the file system, with TLS where it was agreed on.

use crate::source::SourceError;
use crate::source::postgres::options::{PgHost, PgOptions, SslMode};
use crate::source::postgres::tls;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Asked of the kernel for what it keeps of a stream while nobody reads. The kernel may give less.
const RECEIVE_BYTES: usize = 4 << 20;
/// The code that asks for TLS in place of a startup message.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A connected socket, with a wait for every read.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

#[derive(Debug)]
struct Socket {
    end: End,
    waits: Waits,
}

#[derive(Debug)]
enum End {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What the socket is set to, so that it is set only when that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Unset,
    Never,
    For(Duration),
}

impl Socket {
    fn set_wait(&mut self, wait: Duration) -> io::Result<()> {
        let wanted = if wait.is_zero() { Waits::Never } else { Waits::For(wait) };
        if self.waits == wanted {
            return Ok(());
        }
        let block = self.waits == Waits::Never || self.waits == Waits::Unset;
        match (&self.end, wanted) {
            (End::Tcp(tcp), Waits::For(wait)) => {
                if block {
                    tcp.set_nonblocking(false)?;
                }
                tcp.set_read_timeout(Some(wait))?;
            }
            (End::Unix(unix), Waits::For(wait)) => {
                if block {
                    unix.set_nonblocking(false)?;
                }
                unix.set_read_timeout(Some(wait))?;
            }
            (End::Tcp(tcp), _) => tcp.set_nonblocking(true)?,
            (End::Unix(unix), _) => unix.set_nonblocking(true)?,
        }
        self.waits = wanted;
        Ok(())
    }

    fn set_write_timeout(&self, wait: Duration) -> io::Result<()> {
        match &self.end {
            End::Tcp(tcp) => tcp.set_write_timeout(Some(wait)),
            End::Unix(unix) => unix.set_write_timeout(Some(wait)),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.end {
            End::Tcp(tcp) => tcp.read(out),
            End::Unix(unix) => unix.read(out),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.end {
            End::Tcp(tcp) => tcp.write(bytes),
            End::Unix(unix) => unix.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_nothing_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Stream {
    /// Connects and agrees on TLS as `options` ask.
    pub(super) fn open(options: &PgOptions) -> Result<Stream, SourceError> {
        let refused = |reason: String| SourceError::Postgres {
            operation: "connect to",
            place: options.place(),
            reason,
            sqlstate: None,
        };
        let mut socket = connect(options).map_err(|cause| refused(format!("{cause}; check host, port and server")))?;
        let tcp_host = match options.host() {
            PgHost::Socket(_) => return Ok(Stream { kind: Kind::Plain(socket) }),
            PgHost::Tcp(host) => host,
        };
        let Some(config) = tls::config(options)? else { return Ok(Stream { kind: Kind::Plain(socket) }) };
        let asked = socket.write_all(&SSL_REQUEST).and_then(|()| {
            let mut answer = [0];
            // No more than this byte: what follows it before the handshake would be somebody else's.
            socket.read_exact(&mut answer).map(|()| answer[0])
        });
        match asked.map_err(|cause| refused(format!("no answer to the request for TLS: {cause}")))? {
            b'S' => {
                let kind = handshake(config, tcp_host, socket);
                let kind = kind.map_err(|cause| refused(format!("the TLS handshake failed: {cause}")))?;
                Ok(Stream { kind })
            }
            b'N' if options.ssl_mode == SslMode::Prefer => Ok(Stream { kind: Kind::Plain(socket) }),
            b'N' => Err(refused("the server has no TLS; turn on its setting ssl, or lower sslmode".to_owned())),
            _ => Err(refused("what answers is no PostgreSQL server; check host and port".to_owned())),
        }
    }

    /// Reads what is there, waiting for it at most `wait`; `None` if nothing came. `Some(0)` is the end.
    #[inline]
    pub(super) fn read(&mut self, out: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        loop {
            let read = match &mut self.kind {
                Kind::Plain(socket) => socket.set_wait(wait).and_then(|()| socket.read(out)),
                Kind::Tls(tls) => tls.sock.set_wait(wait).and_then(|()| tls.read(out)),
            };
            return match read {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if is_nothing_yet(&error) => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The end without TLS's own farewell.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(0)),
                Err(error) => Err(error),
            };
        }
    }

    /// Writes everything, waiting at most `wait` for each piece.
    pub(super) fn write_all(&mut self, bytes: &[u8], wait: Duration) -> io::Result<()> {
        // A socket that does not wait for reads would not wait for writes either.
        let written = match &mut self.kind {
            Kind::Plain(socket) => {
                ready_to_write(socket, wait)?;
                socket.write_all(bytes)
            }
            Kind::Tls(tls) => {
                ready_to_write(&mut tls.sock, wait)?;
                tls.write_all(bytes).and_then(|()| tls.flush())
            }
        };
        written.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "the server takes nothing"),
            _ => error,
        })
    }

    /// Ends both directions, which the other side notices at once.
    pub(super) fn shut_down(&mut self) {
        // One that is broken already is as good.
        let _ = match &self.socket().end {
            End::Tcp(tcp) => tcp.shutdown(Shutdown::Both),
            End::Unix(unix) => unix.shutdown(Shutdown::Both),
        };
    }

    /// Whether nobody on the way can read along: TLS, or a socket in the file system.
    pub(super) fn is_private(&self) -> bool {
        match &self.kind {
            Kind::Tls(_) => true,
            Kind::Plain(socket) => match &socket.end {
                End::Unix(_) => true,
                End::Tcp(tcp) => tcp.peer_addr().is_ok_and(|address| address.ip().is_loopback()),
            },
        }
    }

    /// Bytes that have come and were not read; 0 where the kernel does not say.
    pub(super) fn waiting_bytes(&self) -> u64 {
        let waiting = match &self.socket().end {
            End::Tcp(tcp) => rustix::io::ioctl_fionread(tcp),
            End::Unix(unix) => rustix::io::ioctl_fionread(unix),
        };
        waiting.unwrap_or(0)
    }

    pub(super) fn is_unix_socket(&self) -> bool {
        matches!(self.socket().end, End::Unix(_))
    }

    fn socket(&self) -> &Socket {
        match &self.kind {
            Kind::Plain(socket) => socket,
            Kind::Tls(tls) => &tls.sock,
        }
    }

    /// The certificate that the server showed; `None` without TLS.
    pub(super) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.kind {
            Kind::Plain(_) => None,
            Kind::Tls(tls) => tls.conn.peer_certificates().and_then(|chain| chain.first()),
        }
    }
}

fn ready_to_write(socket: &mut Socket, wait: Duration) -> io::Result<()> {
    if !matches!(socket.waits, Waits::For(_)) {
        socket.set_wait(wait)?;
    }
    socket.set_write_timeout(wait)
}

fn handshake(config: Arc<ClientConfig>, host: &str, mut socket: Socket) -> io::Result<Kind> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Kind::Tls(Box::new(StreamOwned::new(connection, socket))))
}

fn connect(options: &PgOptions) -> io::Result<Socket> {
    let wait = options.connect_timeout.max(Duration::from_millis(1));
    let end = match options.host() {
        PgHost::Socket(folder) => End::Unix(UnixStream::connect(folder.join(format!(".s.PGSQL.{}", options.port())))?),
        PgHost::Tcp(host) => End::Tcp(connect_tcp(host, options, wait)?),
    };
    // A hint only: the stream is right with a small buffer as well.
    let _ = match &end {
        End::Tcp(tcp) => socket2::SockRef::from(tcp).set_recv_buffer_size(RECEIVE_BYTES),
        End::Unix(unix) => socket2::SockRef::from(unix).set_recv_buffer_size(RECEIVE_BYTES),
    };
    let mut socket = Socket { end, waits: Waits::Unset };
    socket.set_wait(wait)?;
    socket.set_write_timeout(wait)?;
    Ok(socket)
}

fn connect_tcp(host: &str, options: &PgOptions, wait: Duration) -> io::Result<TcpStream> {
    let until = Instant::now() + wait;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let addresses: Vec<SocketAddr> = match options.here().address {
        Some(address) => vec![SocketAddr::new(address, options.port())],
        None => (host, options.port()).to_socket_addrs()?.collect(),
    };
    for address in addresses {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                keep_alive(&tcp, options)?;
                return Ok(tcp);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A peer whose machine is gone is noticed while nothing is sent, unless that is not wanted.
fn keep_alive(tcp: &TcpStream, options: &PgOptions) -> io::Result<()> {
    let (socket, wanted) = (socket2::SockRef::from(tcp), &options.keepalive);
    if let Some(timeout) = wanted.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    if !wanted.on {
        return socket.set_keepalive(false);
    }
    let mut keepalive = socket2::TcpKeepalive::new();
    if let Some(idle) = wanted.idle {
        keepalive = keepalive.with_time(idle);
    }
    if let Some(interval) = wanted.interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(count) = wanted.count {
        keepalive = keepalive.with_retries(count);
    }
    socket.set_tcp_keepalive(&keepalive)
}
