//! Startup and authentication.
//!
//! Source: "Message Flow", "SASL Authentication" and "Message Formats" in the chapter on the frontend/backend protocol
//! of PostgreSQL's documentation; channel binding by RFC 5929 (`tls-server-end-point`).

use super::{Mode, Wire, cstr, error};
use crate::source::SourceError;
use crate::source::postgres::options::{ChannelBinding, PgOptions};
use postgres_protocol::authentication::{md5_hash, sasl};
use sha2::{Digest, Sha256, Sha384, Sha512};

const PROTOCOL: u32 = 196_608;

/// What the server may ask for, by the number in its `R` message.
mod ask {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// From the startup message to the first `ReadyForQuery`.
pub(super) fn start(wire: &mut Wire, options: &PgOptions, mode: Mode) -> Result<(), SourceError> {
    let mut message = vec![0; 4];
    message.extend_from_slice(&PROTOCOL.to_be_bytes());
    let replication = (mode == Mode::Replication).then_some(("replication", "database"));
    // Nothing that a pooler might refuse or drop: the session is prepared by statements.
    let who = [
        ("user", options.user.as_str()),
        ("database", options.database.as_str()),
        ("application_name", options.application_name.as_str()),
        ("client_encoding", "UTF8"),
    ];
    for (name, value) in who.into_iter().chain(replication) {
        cstr(&mut message, name);
        cstr(&mut message, value);
    }
    message.push(0);
    let length = (message.len() as u32).to_be_bytes();
    message[..4].copy_from_slice(&length);
    wire.write(&message)?;
    let mut exchange = Exchange { options, scram: None, proven: false, bound: false };
    loop {
        let frame = wire.next_message().map_err(at_login)?;
        match frame.tag {
            b'R' => {
                let body = wire.buffer.slice(frame.body).to_vec();
                if let Some(answer) = exchange.answer(wire, &body)? {
                    wire.write_message(b'p', &answer)?;
                }
            }
            b'K' => wire.keep_key(frame.body),
            b'Z' => return Ok(()),
            _ => {}
        }
    }
}

/// What a server's refusal means before there is a session.
fn at_login(error: SourceError) -> SourceError {
    match error {
        SourceError::Postgres { operation: error::STATEMENT, place, mut reason, sqlstate } => {
            if reason.contains("unsupported startup parameter: replication") {
                reason.push_str("; this is a pooler without replication connections: name the server itself");
            } else if reason.contains("unsupported startup parameter") {
                reason.push_str("; this is a pooler: name the server itself, or have the pooler ignore that parameter");
            }
            SourceError::Postgres { operation: "log in to", place, reason, sqlstate }
        }
        other => other,
    }
}

struct Exchange<'a> {
    options: &'a PgOptions,
    scram: Option<sasl::ScramSha256>,
    /// Whether the server has proven that it knows the password.
    proven: bool,
    /// Whether the proof is bound to the server's certificate.
    bound: bool,
}

impl Exchange<'_> {
    fn answer(&mut self, wire: &Wire, body: &[u8]) -> Result<Option<Vec<u8>>, SourceError> {
        let refused = |reason: &str| wire.refused("log in to", reason.to_owned(), None);
        let Some((code, rest)) = body.split_first_chunk::<4>() else { return Err(wire.nonsense("an empty request")) };
        let failed = |cause: std::io::Error| wire.refused("log in to", cause.to_string(), None);
        let code = u32::from_be_bytes(*code);
        let proof = matches!(code, ask::SASL | ask::SASL_CONTINUE | ask::SASL_FINAL);
        if self.options.channel_binding == ChannelBinding::Require && !self.bound && !proof {
            return Err(refused(
                "channel_binding=require, and the server asks for no proof that is bound to its certificate",
            ));
        }
        match code {
            ask::OK if self.scram.is_some() && !self.proven => {
                Err(refused("the server skipped the proof that it knows the password"))
            }
            ask::OK => Ok(None),
            ask::CLEARTEXT if !wire.stream.is_private() => {
                Err(refused("the server asks for the password in clear over an open line; use sslmode=require"))
            }
            ask::CLEARTEXT => self.password(wire).map(|password| Some(with_nul(password))),
            ask::MD5 => {
                let Some(salt) = rest.first_chunk::<4>() else { return Err(wire.nonsense("a request without a salt")) };
                let hash = md5_hash(self.options.user.as_bytes(), self.password(wire)?, *salt);
                Ok(Some(with_nul(hash.as_bytes())))
            }
            ask::SASL => self.begin_scram(wire, rest).map(Some),
            ask::SASL_CONTINUE => {
                let Some(scram) = &mut self.scram else { return Err(wire.nonsense("an answer out of turn")) };
                scram.update(rest).map_err(failed)?;
                Ok(Some(scram.message().to_vec()))
            }
            ask::SASL_FINAL => {
                let Some(scram) = &mut self.scram else { return Err(wire.nonsense("an answer out of turn")) };
                scram.finish(rest).map_err(failed)?;
                self.proven = true;
                Ok(None)
            }
            _ => Err(refused(
                "the server asks for a kind of authentication that is not known here; \
                 use scram-sha-256, md5 or password in its pg_hba.conf",
            )),
        }
    }

    fn password(&self, wire: &Wire) -> Result<&[u8], SourceError> {
        let password = self.options.password().map(|password| password.reveal().as_bytes());
        let missing = "the server asks for a password and none was found; set PGPASSWORD or write it to .pgpass";
        password.ok_or_else(|| wire.refused("log in to", missing.to_owned(), None))
    }

    fn begin_scram(&mut self, wire: &Wire, mechanisms: &[u8]) -> Result<Vec<u8>, SourceError> {
        let offered = |name: &[u8]| mechanisms.split(|&byte| byte == 0).any(|offer| offer == name);
        let (plain, plus) = (&b"SCRAM-SHA-256"[..], &b"SCRAM-SHA-256-PLUS"[..]);
        let wanted = self.options.channel_binding;
        let certificate = wire.stream.certificate().filter(|_| wanted != ChannelBinding::Disable);
        let hash = certificate.and_then(|certificate| end_point_hash(certificate));
        self.bound = hash.is_some() && offered(plus);
        if wanted == ChannelBinding::Require && !self.bound {
            let reason = "channel_binding=require needs TLS, and a server that offers SCRAM-SHA-256-PLUS";
            return Err(wire.refused("log in to", reason.to_owned(), None));
        }
        let (mechanism, binding) = match hash {
            Some(hash) if offered(plus) => (plus, sasl::ChannelBinding::tls_server_end_point(hash)),
            Some(_) => (plain, sasl::ChannelBinding::unrequested()),
            None => (plain, sasl::ChannelBinding::unsupported()),
        };
        if !offered(mechanism) {
            let reason = "the server offers no way of authentication that is known here; use scram-sha-256";
            return Err(wire.refused("log in to", reason.to_owned(), None));
        }
        let scram = sasl::ScramSha256::new(self.password(wire)?, binding);
        let first = scram.message();
        let mut answer = with_nul(mechanism);
        answer.extend_from_slice(&(first.len() as u32).to_be_bytes());
        answer.extend_from_slice(first);
        self.scram = Some(scram);
        Ok(answer)
    }
}

fn with_nul(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.push(0);
    out
}

/// The hash of the certificate by its own signature's hash function, SHA-256 in place of weaker ones. `None` where there
/// is no such function (RFC 5929, section 4.1).
fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    // ecdsa-with-SHA2 1.2.840.10045.4.3.x and RSA 1.2.840.113549.1.1.x, as the bytes of an object identifier.
    let oid = signature_algorithm(certificate)?;
    let hash = match oid {
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, which] => *which,
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01] => 2,
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, which] => match which {
            4 | 5 | 11 => 2,
            12 => 3,
            13 => 4,
            _ => return None,
        },
        _ => return None,
    };
    match hash {
        2 => Some(Sha256::digest(certificate).to_vec()),
        3 => Some(Sha384::digest(certificate).to_vec()),
        4 => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { algorithm OBJECT IDENTIFIER, .. }, .. }
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (outer, _) = der(certificate, SEQUENCE)?;
    let (_, rest) = der(outer, SEQUENCE)?;
    let (algorithm, _) = der(rest, SEQUENCE)?;
    der(algorithm, OBJECT_IDENTIFIER).map(|(oid, _)| oid)
}

/// The content of the first element, which must have this tag, and what stands behind it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (octets, rest) =
            rest.split_at_checked(usize::from(first & 0x7F)).filter(|(octets, _)| octets.len() <= 4)?;
        (octets.iter().fold(0, |length, &octet| length << 8 | usize::from(octet)), rest)
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}
