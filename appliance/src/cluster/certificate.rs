//! Certificate: what a certificate in PEM says, as far as renewal, rotation and pinning need it. Pure.
//!
//! Reading, never making: [`crate::authority`] makes them. Names are compared as parsed values and authorities by the
//! key identifier their certificates carry, not by verifying signatures: the disk is ours, and what a peer or client
//! shows is verified by rustls.

use std::net::IpAddr;

use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::token::hex;
use crate::config::Host;

/// What we want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// SHA-256 of all of it, in hexadecimal.
    pub(crate) fingerprint: String,
    /// SHA-256 of its SubjectPublicKeyInfo, in hexadecimal.
    pub(crate) key_hash: String,
    /// The public key itself.
    pub(crate) public_key: Vec<u8>,
    /// Valid from then on.
    pub(crate) not_before: OffsetDateTime,
    /// Valid until then.
    pub(crate) not_after: OffsetDateTime,
    /// Whether it may issue others.
    pub(crate) is_authority: bool,
    /// Names and addresses its holder answers to.
    pub(crate) hosts: Vec<Host>,
    /// URIs its holder is.
    pub(crate) uris: Vec<String>,
    /// The first common name.
    pub(crate) common_name: String,
    /// The key identifier of the authority that issued it.
    issuer_key: Option<Vec<u8>>,
    /// Its own.
    subject_key: Option<Vec<u8>>,
}

/// Text that holds no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate in it: {0}")]
pub(crate) struct NotACertificate(String);

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub(crate) fn from_pem(pem: &str) -> Result<Certificate, NotACertificate> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| NotACertificate(error.to_string()))?;
        Certificate::from_der(&der)
    }

    /// Reads one in DER.
    pub(crate) fn from_der(der: &[u8]) -> Result<Certificate, NotACertificate> {
        let (_, read) = X509Certificate::from_der(der).map_err(|error| NotACertificate(error.to_string()))?;
        let (hosts, uris) = alternative_names(&read);
        let names = || read.subject().iter_common_name();
        Ok(Certificate {
            fingerprint: hex(&Sha256::digest(der)),
            key_hash: hex(&Sha256::digest(read.public_key().raw)),
            public_key: read.public_key().subject_public_key.data.to_vec(),
            not_before: read.validity().not_before.to_datetime(),
            not_after: read.validity().not_after.to_datetime(),
            is_authority: read.is_ca(),
            hosts,
            uris,
            common_name: names().find_map(|name| name.as_str().ok()).unwrap_or_default().to_owned(),
            issuer_key: key_identifier(&read, |extension| match extension {
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    authority.key_identifier.as_ref().map(|key| key.0)
                }
                _ => None,
            }),
            subject_key: key_identifier(&read, |extension| match extension {
                ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
                _ => None,
            }),
        })
    }

    /// Whether `authority` issued this one, by the key identifiers in both.
    pub(crate) fn is_issued_by(&self, authority: &Certificate) -> bool {
        self.issuer_key.is_some() && self.issuer_key == authority.subject_key
    }
}

/// Every certificate of a PEM text, each as PEM of its own.
pub(crate) fn split_bundle(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END)
        .filter(|part| part.contains(END))
        .map(|part| format!("{}\n", part.trim_start()))
        .collect()
}

fn key_identifier<'a>(
    certificate: &'a X509Certificate<'a>,
    pick: impl Fn(&'a ParsedExtension<'a>) -> Option<&'a [u8]>,
) -> Option<Vec<u8>> {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| pick(extension.parsed_extension()))
        .map(<[u8]>::to_vec)
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<Host>, Vec<String>) {
    let (mut hosts, mut uris) = (Vec::new(), Vec::new());
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return (hosts, uris) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => hosts.push(Host::Name((*name).to_owned())),
            GeneralName::IPAddress(bytes) => hosts.extend(address(bytes).map(Host::Address)),
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            _ => {}
        }
    }
    (hosts, uris)
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
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::authority::{Authority, Profile};

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

    #[test]
    fn it_reads_what_the_authority_wrote() {
        let authority = Authority::create("c0ffee", 1, NOW).expect("created");
        let hosts: Vec<Host> = ["n1", "10.0.0.1", "fd00::1"].map(|host| host.parse().expect("host")).to_vec();
        let profile = Profile::Node { name: "n1", hosts: &hosts, uri: "appliance://a/b" };
        let pem = authority.issue(&profile, Duration::days(90), NOW).expect("issued");

        let read = Certificate::from_pem(&pem.certificate).expect("read");
        let issuer = Certificate::from_pem(&authority.pem().certificate).expect("read");
        assert_eq!(
            (read.hosts.as_slice(), read.uris.as_slice()),
            (&hosts[..], &["appliance://a/b".to_owned()][..])
        );
        assert_eq!(read.common_name, "system:node:n1");
        assert_eq!(read.not_after, NOW + Duration::days(90));
        assert!(issuer.is_authority && !read.is_authority);
        assert!(read.is_issued_by(&issuer) && !issuer.is_issued_by(&read));
        let other = Authority::create("c0ffee", 1, NOW).expect("created");
        let other = Certificate::from_pem(&other.pem().certificate).expect("read");
        assert!(!read.is_issued_by(&other), "the same name is not the same authority");
    }

    #[test]
    fn a_bundle_comes_apart_into_its_certificates() {
        let pems: Vec<String> = (0..3)
            .map(|n| Authority::create("c0ffee", n, NOW).expect("created").pem().certificate.clone())
            .collect();
        let parts = split_bundle(&format!("# ours\n{}\n\n{}{}junk", pems[0], pems[1], pems[2]));
        let prints = |pems: &[String]| -> Vec<String> {
            pems.iter().map(|pem| Certificate::from_pem(pem).expect("read").fingerprint).collect()
        };
        assert_eq!(prints(&parts), prints(&pems));
        assert!(split_bundle("nothing").is_empty());
        Certificate::from_pem("x").expect_err("no certificate");
        Certificate::from_der(&[0x30; 9]).expect_err("no certificate");
    }
}
