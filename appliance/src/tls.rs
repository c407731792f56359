//! TLS of the API: what we show, whom we believe, and who a certificate says its holder is.
//!
//! A client certificate is asked for and not required, since bearer tokens need none; one that is shown must come from
//! the cluster's authority, or the handshake ends there. What an identity may do is `api::caller`'s business.

use std::sync::Arc;

use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::api::caller::{Identity, Role};
use crate::pki::Pki;

/// HTTP/2 lets a client with many watches keep one connection; kubectl and curl are as happy with HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Sessions remembered for resumption: a burst of short-lived kubectl calls; each costs a few hundred bytes.
const SESSIONS_MAX: usize = 128;

/// Why the API can not speak TLS with the keys it has.
#[derive(Debug, thiserror::Error)]
#[error(
    "the API's certificate in the data directory can not be used: {0}; remove pki/server.* to have it made anew"
)]
pub(crate) struct TlsError(String);

/// The server's side of every handshake.
pub(crate) fn server_config(pki: &Pki) -> Result<Arc<ServerConfig>, TlsError> {
    let pem = |error: rustls_pki_types::pem::Error| TlsError(error.to_string());
    let authority = CertificateDer::from_pem_slice(pki.authority.as_bytes()).map_err(pem)?;
    let certificate = CertificateDer::from_pem_slice(pki.server.certificate.as_bytes()).map_err(pem)?;
    let key = PrivateKeyDer::from_pem_slice(pki.server.key.as_bytes()).map_err(pem)?;

    let refused = |error: rustls::Error| TlsError(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut trusted = RootCertStore::empty();
    trusted.add(authority).map_err(refused)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key)
        .map_err(refused)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    Ok(Arc::new(config))
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
    use crate::authority::Authority;

    fn holder(user: &str, group: &str) -> Identity {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::create("c0ffee", now).expect("created");
        let pem = authority.issue_client(user, group, now).expect("issued");
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
