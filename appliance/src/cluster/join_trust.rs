//! Whom a joiner believes: the authority whose key its token pins, and nobody else.
//!
//! A joiner has no certificate of the cluster, but its token carries the hash of the authority's public key. A member
//! shows the authority's certificate behind its own; the one with that key becomes the only root, and the ordinary
//! verification does the rest, name and dates included. A member that begins again trusts what it has always trusted,
//! and shows who it was.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::Certificate;
use super::keys::Keys;
use crate::tls;

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[error("TLS can not be set up: {0}")]
pub(crate) struct TrustError(String);

impl TrustError {
    fn of(error: impl std::fmt::Display) -> TrustError {
        TrustError(error.to_string())
    }
}

/// Believes members whose authority's key has this hash.
pub(crate) fn pinned(pin: &str) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned { pin: pin.to_owned(), provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::of)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Believes members as members do, and shows this node's certificate.
pub(crate) fn member(keys: &Keys) -> Result<Arc<ClientConfig>, TrustError> {
    tls::peer_tls(keys).map(|tls| tls.client).map_err(TrustError::of)
}

/// Why the other side is not believed; nothing when the connection failed for another reason.
pub(crate) fn blame(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("its certificate authority is not the one that the token pins".to_owned())
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Some("its certificate is not valid yet by this host's clock; set the clock".to_owned()),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Some("its certificate has expired by this host's clock; set the clock".to_owned())
        }
        Error::InvalidCertificate(other) => Some(format!("its certificate is not good: {other:?}")),
        _ => None,
    }
}

#[derive(Debug)]
struct Pinned {
    pin: String,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// The verification with the pinned authority as the only root.
    fn verifier(&self, shown: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let is_pinned = |der: &&CertificateDer<'_>| {
            Certificate::from_der(der).is_ok_and(|read| read.is_authority && read.key_hash == self.pin)
        };
        let authority = shown.iter().find(is_pinned);
        let authority = authority.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.verifier(intermediates)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
