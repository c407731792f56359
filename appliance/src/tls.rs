//! TLS: what we show, whom we believe, and who a certificate says its holder is.
//!
//! Two doors. At the API a client certificate is asked for and not required, since bearer tokens need none; between
//! members both sides must show one. What is shown must come from an authority of the cluster, or the handshake ends
//! there. The chain we show ends with the authority's own certificate, so that a joiner, who knows nothing but its
//! key's hash, finds it. What an identity may do is `api::caller`'s business.

use std::sync::Arc;

use appliance_consensus::transport::PeerTls;
use rustls::client::ClientConfig;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::api::caller::{Identity, Proof, Role};
use crate::cluster::certificate::Certificate;
use crate::cluster::keys::Keys;

/// HTTP/2 lets a client with many watches keep one connection; kubectl and curl are as happy with HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Sessions remembered for resumption: a burst of short-lived kubectl calls; each costs a few hundred bytes. They are
/// forgotten with the configuration, so that nobody resumes past a change of what is trusted.
const SESSIONS_MAX: usize = 128;

/// Why there is no TLS with the keys there are.
#[derive(Debug, thiserror::Error)]
#[error(
    "the node's certificate in the data directory can not be used: {0}; remove pki/node.crt and pki/api.crt to have \
     it made anew"
)]
pub(crate) struct TlsError(String);

/// The API's side of every handshake.
pub(crate) fn api_config(keys: &Keys) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = shown(keys, keys.api_certificate())?;
    let clients = WebPkiClientVerifier::builder_with_provider(trusted(keys)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(failed)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(failed)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    Ok(Arc::new(config))
}

/// Both sides of a handshake between members.
pub(crate) fn peer_tls(keys: &Keys) -> Result<PeerTls, TlsError> {
    let members =
        WebPkiClientVerifier::builder_with_provider(trusted(keys)?, provider()).build().map_err(failed)?;
    let (chain, key) = shown(keys, &keys.node.certificate)?;
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_client_cert_verifier(members)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(failed)?;
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(trusted(keys)?)
        .with_client_auth_cert(chain, key)
        .map_err(failed)?;
    Ok(PeerTls { server: Arc::new(server), client: Arc::new(client) })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// Every authority of the cluster.
fn trusted(keys: &Keys) -> Result<Arc<RootCertStore>, TlsError> {
    let mut trusted = RootCertStore::empty();
    for pem in &keys.bundle {
        trusted.add(CertificateDer::from_pem_slice(pem.as_bytes()).map_err(failed)?).map_err(failed)?;
    }
    Ok(Arc::new(trusted))
}

/// A certificate of ours with its authority behind it, and the key.
fn shown(
    keys: &Keys,
    certificate: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = PrivateKeyDer::from_pem_slice(keys.node.key.as_bytes()).map_err(failed)?;
    let chain = std::iter::once(certificate).chain(keys.issuer_of(certificate));
    let chain: Result<_, _> = chain.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes())).collect();
    Ok((chain.map_err(failed)?, key))
}

/// Who the holder of a verified certificate is: the common name is the user, an organisation of ours the role. A
/// certificate without a role of ours is nobody's.
pub(crate) fn identity(certificates: Option<&[CertificateDer<'_>]>) -> Identity {
    let Some(certificate) = certificates.and_then(<[_]>::first) else { return Identity::Anonymous };
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Identity::Anonymous };
    let subject = certificate.subject();
    let name = subject.iter_common_name().find_map(|name| name.as_str().ok());
    let role = subject.iter_organization().filter_map(|group| group.as_str().ok()).find_map(role_of(name));
    match (name, role) {
        (Some(name), Some(role)) => Identity::User { name: name.to_owned(), role },
        _ => Identity::Anonymous,
    }
}

/// The member that a verified certificate names by its URI, if it is a member's.
pub(crate) fn member(certificates: Option<&[CertificateDer<'_>]>) -> Option<String> {
    let certificate = Certificate::from_der(certificates?.first()?).ok()?;
    certificate.uris.into_iter().next()
}

/// How long the holder of a verified certificate is who it says: no longer than that.
pub(crate) fn proof(certificates: Option<&[CertificateDer<'_>]>) -> Proof {
    let certificate = certificates.and_then(<[_]>::first);
    match certificate.and_then(|certificate| Certificate::from_der(certificate).ok()) {
        Some(certificate) => Proof::Certificate { ends: certificate.not_after },
        None => Proof::Connection,
    }
}

/// A node's certificate carries its name as Kubernetes writes it: `system:node:<name>`.
fn role_of(name: Option<&str>) -> impl Fn(&str) -> Option<Role> {
    let node = name.and_then(|name| name.strip_prefix("system:node:")).map(str::to_owned);
    move |group| {
        let roles = [Role::Admin, Role::Operator, Role::Viewer].into_iter();
        roles.chain(node.clone().map(Role::Node)).find(|role| role.group() == group)
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::authority::{Authority, Profile};

    fn holder(user: &str, group: &str) -> Identity {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::create("c0ffee", 1, now).expect("created");
        let profile = Profile::Client { user, group, of: None };
        let pem = authority.issue(&profile, time::Duration::DAY, now).expect("issued");
        let der = CertificateDer::from_pem_slice(pem.certificate.as_bytes()).expect("PEM");
        identity(Some(&[der]))
    }

    fn user(name: &str, role: Role) -> Identity {
        Identity::User { name: name.to_owned(), role }
    }

    #[test]
    fn common_name_is_the_user_and_organisation_the_role() {
        assert_eq!(holder("admin", "appliance:admin"), user("admin", Role::Admin));
        assert_eq!(holder("olga", "appliance:operator"), user("olga", Role::Operator));
        assert_eq!(holder("vera", "appliance:viewer"), user("vera", Role::Viewer));
        let node = user("system:node:n1", Role::Node("n1".to_owned()));
        assert_eq!(holder("system:node:n1", "appliance:node"), node);
    }

    #[test]
    fn whoever_has_no_role_of_ours_is_nobody() {
        assert_eq!(identity(None), Identity::Anonymous);
        assert_eq!(identity(Some(&[CertificateDer::from(vec![0; 8])])), Identity::Anonymous);
        assert_eq!(holder("admin", "system:masters"), Identity::Anonymous);
        assert_eq!(holder("n1", "appliance:node"), Identity::Anonymous, "a node's name must say so");
    }
}
