//! What a server's certificate is held against.

use super::options::{PgOptions, SslMode};
use crate::source::SourceError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// The configuration for `options`; `None` where no TLS is wanted at all.
///
/// # Errors
/// When certificates are asked for and can't be had.
pub(in crate::source) fn config(options: &PgOptions) -> Result<Option<Arc<ClientConfig>>, SourceError> {
    let verify = match options.ssl_mode {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer => Verify::Nothing,
        SslMode::Require if options.ssl_root_cert.is_none() => Verify::Nothing,
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
            let built = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            Some(built.map_err(|cause| unusable(&cause))?)
        }
    };
    let verifier = Verifier { verify, authority, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| unusable(&cause))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Some(Arc::new(config)))
}

fn roots(options: &PgOptions) -> Result<RootCertStore, SourceError> {
    let mut store = RootCertStore::empty();
    match &options.ssl_root_cert {
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
