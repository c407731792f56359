//! Authority: the cluster's own certificate authority and the certificates it issues.
//!
//! Values in, values out: the time is handed in and nothing here touches a disk (`pki` does). One ECDSA P-256 key signs
//! everything; a certificate says who somebody is in its subject, the way Kubernetes reads it: the common name is the
//! user, each organisation a group.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::Host;

/// Until certificates renew by themselves, the authority must outlive the hardware.
const AUTHORITY_LIFETIME: Duration = Duration::days(20 * 365);

/// As long as the authority may be trusted to be looked after; every start renews what is about to end.
const CERTIFICATE_LIFETIME: Duration = Duration::days(5 * 365);

/// A certificate that ends within this time is made anew at the next start.
const RENEW_BEFORE: Duration = Duration::days(90);

/// Hosts whose clocks run behind ours must not find a certificate that is yet to begin.
const CLOCK_SKEW: Duration = Duration::hours(24);

/// The name every node answers to, whatever its address: clients put it in `tls-server-name`.
pub(crate) const COMMON_SERVER_NAME: &str = "appliance";

/// The group whose members may do everything.
pub(crate) const ADMIN_GROUP: &str = "appliance:admin";

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("certificate for {subject} could not be made: {reason}")]
pub(crate) struct IssueError {
    subject: String,
    reason: String,
}

/// The cluster's certificate authority.
#[derive(Debug)]
pub(crate) struct Authority {
    pem: Pem,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as they lie on disk.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pem {
    /// The certificate.
    pub(crate) certificate: String,
    /// Its private key.
    pub(crate) key: String,
}

/// Keys are never printed.
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the authority of a new cluster.
    pub(crate) fn create(cluster_id: &str, now: OffsetDateTime) -> Result<Authority, IssueError> {
        let name = format!("appliance cluster {cluster_id}");
        let failed = |error: rcgen::Error| IssueError { subject: name.clone(), reason: error.to_string() };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(&name, None, now, AUTHORITY_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let pem = Pem { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok(Authority { pem, issuer: Issuer::new(params, key) })
    }

    /// The authority an earlier start made; the reason when these are not its certificate and key.
    pub(crate) fn from_pem(pem: Pem) -> Result<Authority, String> {
        let der = CertificateDer::from_pem_slice(pem.certificate.as_bytes())
            .map_err(|error| format!("no certificate in it: {error}"))?;
        let key = KeyPair::from_pem(&pem.key).map_err(|error| format!("no private key in it: {error}"))?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        if !certificate.is_ca() {
            return Err("not the certificate of an authority".to_owned());
        }
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("certificate and key do not belong together".to_owned());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| error.to_string())?;
        Ok(Authority { pem, issuer })
    }

    /// The authority's own certificate and key.
    pub(crate) fn pem(&self) -> &Pem {
        &self.pem
    }

    /// A certificate for the API of the node that answers to `names`.
    pub(crate) fn issue_server(
        &self,
        node_name: &str,
        names: &[Host],
        now: OffsetDateTime,
    ) -> Result<Pem, IssueError> {
        let failed =
            |error: rcgen::Error| IssueError { subject: node_name.to_owned(), reason: error.to_string() };
        let mut params = params(node_name, None, now, CERTIFICATE_LIFETIME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names =
            names.iter().map(alternative_name).collect::<Result<_, _>>().map_err(failed)?;
        self.issue(params).map_err(failed)
    }

    /// A certificate for a client named `user` in `group`.
    pub(crate) fn issue_client(
        &self,
        user: &str,
        group: &str,
        now: OffsetDateTime,
    ) -> Result<Pem, IssueError> {
        let mut params = params(user, Some(group), now, CERTIFICATE_LIFETIME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params).map_err(|error| IssueError { subject: user.to_owned(), reason: error.to_string() })
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Pem, rcgen::Error> {
        let key = KeyPair::generate()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Why a certificate on disk can not go on serving, in words for the log; `None` when it can.
    pub(crate) fn replace_reason(&self, pem: &Pem, names: &[Host], now: OffsetDateTime) -> Option<String> {
        let unreadable = || Some("it can not be read".to_owned());
        let Ok(der) = CertificateDer::from_pem_slice(pem.certificate.as_bytes()) else { return unreadable() };
        let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return unreadable() };
        let Ok(key) = KeyPair::from_pem(&pem.key) else { return Some("its key can not be read".to_owned()) };
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Some("it does not belong to its key".to_owned());
        }
        if !self.issued(&certificate) {
            return Some("another authority issued it".to_owned());
        }
        let ends = certificate.validity().not_after.to_datetime();
        if ends - now < RENEW_BEFORE {
            return Some(format!("it ends on {}", ends.date()));
        }
        let (mut has, mut wants) = (alternative_names(&certificate), names.to_vec());
        has.sort_by_key(Host::to_string);
        wants.sort_by_key(Host::to_string);
        (has != wants).then(|| "the node's names or addresses changed".to_owned())
    }

    /// Compares names, not signatures: the disk is ours, and a forged file there would still have to fool clients.
    fn issued(&self, certificate: &X509Certificate<'_>) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(self.pem.certificate.as_bytes()) else { return false };
        X509Certificate::from_der(&der)
            .is_ok_and(|(_, authority)| authority.subject().as_raw() == certificate.issuer().as_raw())
    }
}

fn params(name: &str, group: Option<&str>, now: OffsetDateTime, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + lifetime;
    params
}

fn alternative_name(host: &Host) -> Result<SanType, rcgen::Error> {
    Ok(match host {
        Host::Address(address) => SanType::IpAddress(*address),
        Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
    })
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<Host> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(Host::Name((*name).to_owned())),
        GeneralName::IPAddress(bytes) => address(bytes).map(Host::Address),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(host).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

    fn names(names: &[&str]) -> Vec<Host> {
        names.iter().map(|name| name.parse().expect("host")).collect()
    }

    fn authority() -> Authority {
        Authority::create("c0ffee", NOW).expect("created")
    }

    #[test]
    fn an_authority_read_back_issues_what_it_issued_before() {
        let first = authority();
        let again = Authority::from_pem(first.pem().clone()).expect("read back");
        let names = names(&["node-1", "localhost", "10.0.0.1", "fd00::1"]);
        let server = first.issue_server("node-1", &names, NOW).expect("issued");

        assert_eq!(again.replace_reason(&server, &names, NOW), None);
        let reversed: Vec<Host> = names.iter().rev().cloned().collect();
        assert_eq!(again.replace_reason(&server, &reversed, NOW), None, "order does not matter");
    }

    #[test]
    fn a_certificate_is_replaced_for_each_reason_and_the_log_says_which() {
        let authority = authority();
        let one = names(&["node-1", "10.0.0.1"]);
        let server = authority.issue_server("node-1", &one, NOW).expect("issued");
        let reason = |authority: &Authority, pem: &Pem, names: &[Host], now| {
            authority.replace_reason(pem, names, now).expect("must be replaced")
        };

        let moved = names(&["node-1", "10.0.0.2"]);
        assert_eq!(reason(&authority, &server, &moved, NOW), "the node's names or addresses changed");
        let late = NOW + CERTIFICATE_LIFETIME - Duration::days(1);
        assert_eq!(reason(&authority, &server, &one, late), "it ends on 2031-11-19");
        let other = Authority::create("beef", NOW).expect("created");
        assert_eq!(reason(&other, &server, &one, NOW), "another authority issued it");
        let mixed = Pem { key: other.pem().key.clone(), ..server.clone() };
        assert_eq!(reason(&authority, &mixed, &one, NOW), "it does not belong to its key");
        let damaged = Pem { certificate: "x".to_owned(), ..server.clone() };
        assert_eq!(reason(&authority, &damaged, &one, NOW), "it can not be read");
        let keyless = Pem { key: String::new(), ..server };
        assert_eq!(reason(&authority, &keyless, &one, NOW), "its key can not be read");
    }

    #[test]
    fn files_that_are_no_authority_are_refused_with_the_reason() {
        let authority = authority();
        let refusal = |certificate: &str, key: &str| {
            let pem = Pem { certificate: certificate.to_owned(), key: key.to_owned() };
            Authority::from_pem(pem).expect_err("refused")
        };
        let Pem { certificate, key } = authority.pem().clone();
        let client = authority.issue_client("a", ADMIN_GROUP, NOW).expect("issued");
        let other = Authority::create("beef", NOW).expect("created");

        assert!(refusal("", &key).starts_with("no certificate in it"));
        assert!(refusal(&certificate, "").starts_with("no private key in it"));
        assert_eq!(refusal(&client.certificate, &client.key), "not the certificate of an authority");
        assert_eq!(refusal(&certificate, &other.pem().key), "certificate and key do not belong together");
    }
}
