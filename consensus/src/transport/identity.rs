//! Identity: which member of which cluster a certificate belongs to. Pure.
//!
//! A node's certificate carries its identity as a URI among its names. That the certificate is genuine is TLS's
//! business and was checked before anything here is asked.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::CertificateDer;
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
};

/// The server name a dialler asks for. Every node's certificate carries it, since members are dialled by whatever
/// address they have at the moment; which member answered is read from its [`member_uri`].
pub const SERVER_NAME: &str = "appliance";

/// What the URI of a member starts with.
const SCHEME: &str = "appliance://";

/// The URI that a member's certificate must carry among its names: `appliance://<cluster>/<member>`, in 32 and 16
/// hexadecimal digits.
pub fn member_uri(cluster: u128, member: u64) -> String {
    format!("{SCHEME}{cluster:032x}/{member:016x}")
}

/// Why there is no TLS with a peer: in rustls's words, and, where they tell it, in those of a cluster.
pub(crate) fn no_tls(error: &io::Error) -> String {
    let meaning = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        // A bad signature is what an authority of the same name comes out as: that of a rotation before, for one.
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "; what it shows is no certificate of this cluster"
        }
        Some(Error::AlertReceived(AlertDescription::UnknownCA)) => {
            "; to it this member is of another cluster"
        }
        _ => "",
    };
    format!("no TLS: {error}{meaning}")
}

/// A member as its certificate names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) cluster: u128,
    pub(crate) member: u64,
}

impl Identity {
    /// The identity in a certificate; `None` when it carries none, several, or is not to be read.
    pub(crate) fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Identity> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut found = None;
        for extension in certificate.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                continue;
            };
            for name in &names.general_names {
                let GeneralName::URI(uri) = name else { continue };
                let Some(identity) = Identity::of_uri(uri) else { continue };
                if found.replace(identity).is_some_and(|before| before != identity) {
                    return None;
                }
            }
        }
        found
    }

    /// Reads exactly what [`member_uri`] writes, and nothing looser: two spellings of one member would be two members
    /// to whoever compares the text.
    fn of_uri(uri: &str) -> Option<Identity> {
        let (cluster, member) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        let cluster = u128::from_str_radix(cluster, 16).ok()?;
        let member = u64::from_str_radix(member, 16).ok()?;
        (member_uri(cluster, member) == uri).then_some(Identity { cluster, member })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, string::Ia5String};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(*uri).unwrap()));
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    #[test]
    fn a_member_is_read_from_its_certificate() {
        let uri = member_uri(0xc1, 0xffff_0000_0000_0001);
        assert_eq!(uri, "appliance://000000000000000000000000000000c1/ffff000000000001");
        let identity = Identity { cluster: 0xc1, member: 0xffff_0000_0000_0001 };
        assert_eq!(Identity::of_certificate(&certificate(&["https://example.org/", &uri])), Some(identity));
        assert_eq!(Identity::of_certificate(&certificate(&[&uri, &uri])), Some(identity));
    }

    #[test]
    fn a_certificate_of_nobody_or_of_two_is_nobodys() {
        let (one, two) = (member_uri(1, 1), member_uri(1, 2));
        assert_eq!(Identity::of_certificate(&certificate(&[])), None);
        assert_eq!(Identity::of_certificate(&certificate(&[&one, &two])), None);
        assert_eq!(Identity::of_certificate(&CertificateDer::from(vec![0x30; 64])), None);
        for spelling in [
            "appliance://1/1",
            "appliance://000000000000000000000000000000C1/0000000000000001",
            "appliance://000000000000000000000000000000c1/0000000000000001/",
            "appliance://+00000000000000000000000000000c1/0000000000000001",
        ] {
            assert_eq!(Identity::of_certificate(&certificate(&[spelling])), None, "{spelling}");
        }
    }
}
