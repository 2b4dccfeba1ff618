//! What a server's certificate is held against.

use super::options::{Environment, PgOptions, SslMode, invalid};
use super::parameters::Taken;
use crate::source::SourceError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files and versions that TLS goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Certificates of trusted authorities; `None` for the system's.
    roots: Option<PathBuf>,
    /// Our own certificate and its key.
    own: Option<(PathBuf, PathBuf)>,
    /// Certificates that their authorities took back.
    revoked: Option<PathBuf>,
    /// Whether the server is told which host is meant.
    names_host: bool,
    versions: Vec<&'static SupportedProtocolVersion>,
}

const OLD: u8 = 1;
/// In the order of their age; those before 1.2 are spoken by nobody here.
const VERSIONS: &[(&str, u8)] = &[("TLSv1", 0), ("TLSv1.1", OLD), ("TLSv1.2", 2), ("TLSv1.3", 3)];

impl Credentials {
    /// Takes them from the parameters, else from libpq's default files where those are there.
    ///
    /// # Errors
    /// For what can't be had as it is asked for.
    pub(super) fn read(given: &Taken, environment: Environment<'_>, mode: SslMode) -> Result<Credentials, SourceError> {
        let home = environment("HOME").map(|home| PathBuf::from(home).join(".postgresql"));
        let default = |name: &str| home.as_ref().map(|home| home.join(name)).filter(|path| path.is_file());
        let named = |name: &str| given.get(name).map(PathBuf::from);
        let roots = match given.get("sslrootcert") {
            Some("system") => None,
            Some(path) => Some(PathBuf::from(path)),
            None => default("root.crt"),
        };
        let verifies =
            matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) || mode == SslMode::Require && roots.is_some();
        if named("sslcrl").is_some() && !verifies {
            return Err(invalid("has an sslcrl, which only sslmode=verify-ca and verify-full look at"));
        }
        let key = named("sslkey").or_else(|| default("postgresql.key"));
        let own = match (named("sslcert"), key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => return Err(invalid("has an sslcert and no key for it; name the key with sslkey")),
            (None, key) => default("postgresql.crt").zip(key),
        };
        if own.is_none() && given.get("sslkey").is_some() {
            return Err(invalid("has an sslkey and no certificate; name it with sslcert"));
        }
        Ok(Credentials {
            roots,
            own,
            revoked: named("sslcrl").or_else(|| default("root.crl")).filter(|_| verifies),
            names_host: given.number("sslsni")? != Some(0),
            versions: versions(given)?,
        })
    }
}

fn versions(given: &Taken) -> Result<Vec<&'static SupportedProtocolVersion>, SourceError> {
    let least = given.word("ssl_min_protocol_version", VERSIONS)?.unwrap_or(2);
    let most = given.word("ssl_max_protocol_version", VERSIONS)?.unwrap_or(3);
    match (least, most) {
        (_, 0 | OLD) => Err(invalid("has an ssl_max_protocol_version below TLSv1.2, which is the oldest spoken here")),
        (3, 2) => Err(invalid("has an ssl_min_protocol_version above its ssl_max_protocol_version")),
        (3, _) => Ok(vec![&TLS13]),
        (_, 2) => Ok(vec![&TLS12]),
        _ => Ok(vec![&TLS13, &TLS12]),
    }
}

/// The configuration for `options`; `None` where no TLS is wanted at all.
///
/// # Errors
/// When certificates are asked for and can't be had.
pub(in crate::source) fn config(options: &PgOptions) -> Result<Option<Arc<ClientConfig>>, SourceError> {
    let verify = match options.ssl_mode {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer => Verify::Nothing,
        SslMode::Require if options.credentials.roots.is_none() => Verify::Nothing,
        SslMode::Require | SslMode::VerifyCa => Verify::Authority,
        SslMode::VerifyFull => Verify::AuthorityAndHost,
    };
    let provider = Arc::new(ring::default_provider());
    let unusable =
        |cause: &dyn std::fmt::Display| SourceError::Options { what: format!("TLS can't be set up: {cause}") };
    let authority = match verify {
        Verify::Nothing => None,
        _ => {
            let roots = Arc::new(roots(options)?);
            let mut built = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            if let Some(path) = &options.credentials.revoked {
                built = built.with_crls(revoked(path)?);
            }
            let built = built.build();
            Some(built.map_err(|cause| unusable(&cause))?)
        }
    };
    let verifier = Verifier { verify, authority, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&options.credentials.versions)
        .map_err(|cause| unusable(&cause))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &options.credentials.own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = pem(CertificateDer::pem_file_iter(certificate), certificate, "sslcert")?;
            config.with_client_auth_cert(chain, own_key(key)?).map_err(|cause| unusable(&cause))?
        }
    };
    config.enable_sni = options.credentials.names_host;
    Ok(Some(Arc::new(config)))
}

fn unreadable(path: &Path, parameter: &str, cause: &dyn std::fmt::Display) -> SourceError {
    SourceError::Options { what: format!("can't read {}: {cause}; check {parameter}", path.display()) }
}

/// Everything of one kind in a file, at least one.
fn pem<T>(
    items: Result<impl Iterator<Item = Result<T, pem::Error>>, pem::Error>,
    path: &Path,
    parameter: &str,
) -> Result<Vec<T>, SourceError> {
    let items = items.and_then(Iterator::collect::<Result<Vec<T>, _>>);
    let items = items.map_err(|cause| unreadable(path, parameter, &cause))?;
    if items.is_empty() { Err(unreadable(path, parameter, &"there is none in it")) } else { Ok(items) }
}

fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, SourceError> {
    pem(CertificateRevocationListDer::pem_file_iter(path), path, "sslcrl")
}

/// Our key, unless others may read it: then it is nobody's own any more.
fn own_key(path: &Path) -> Result<PrivateKeyDer<'static>, SourceError> {
    let metadata = std::fs::metadata(path).map_err(|cause| unreadable(path, "sslkey", &cause))?;
    // A key of root's may be read by a group.
    let allowed = if metadata.uid() == 0 { 0o640 } else { 0o600 };
    if metadata.permissions().mode() & 0o777 & !allowed != 0 {
        let what = format!("the key {0} is open to others; run: chmod 600 {0}", path.display());
        return Err(SourceError::Options { what });
    }
    PrivateKeyDer::from_pem_file(path).map_err(|cause| unreadable(path, "sslkey", &cause))
}

fn roots(options: &PgOptions) -> Result<RootCertStore, SourceError> {
    let mut store = RootCertStore::empty();
    match &options.credentials.roots {
        Some(path) => {
            let unusable = |cause: &dyn std::fmt::Display| SourceError::Options {
                what: format!("can't read the root certificates in {}: {cause}; check sslrootcert", path.display()),
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|cause| unusable(&cause))? {
                let certificate = certificate.map_err(|cause| unusable(&cause))?;
                store.add(certificate).map_err(|cause| unusable(&cause))?;
            }
            if store.is_empty() {
                return Err(unusable(&"there is none in it"));
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                let what = "this system has no root certificates; name a file with sslrootcert".to_owned();
                return Err(SourceError::Options { what });
            }
        }
    }
    Ok(store)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verify {
    Nothing,
    Authority,
    AuthorityAndHost,
}

/// Checks what libpq's sslmode asks for. Signatures are checked in every mode, so that the server at least holds the key
/// of the certificate that it shows.
#[derive(Debug)]
struct Verifier {
    verify: Verify,
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        let checked = authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            // The name is checked last, so whoever fails by it alone has an authority's signature.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verify == Verify::Authority => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
