//! Authority: a certificate authority of the cluster and the certificates it issues.
//!
//! Values in, values out: the time is handed in and nothing here touches a disk (`cluster::keys` does). One ECDSA
//! P-256 key signs everything; a certificate says who somebody is in its subject, the way Kubernetes reads it: the
//! common name is the user, each organisation a group. What somebody asks for in a certificate request is not read:
//! the request proves a key, the profile says what its holder is.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

use crate::cluster::certificate::Certificate;
use crate::config::Host;

/// An authority must outlive the hardware; `ctl ca rotate` replaces it sooner.
const AUTHORITY_LIFETIME: Duration = Duration::days(20 * 365);

/// Hosts whose clocks run behind ours must not find a certificate that is yet to begin.
const CLOCK_SKEW: Duration = Duration::hours(24);

/// Bytes of a serial number: random, so that no two certificates of one key are told apart by luck.
const SERIAL_BYTES: usize = 16;

/// The name every node answers to, whatever its address: clients put it in `tls-server-name`.
pub(crate) const COMMON_SERVER_NAME: &str = "appliance";

/// The group whose members may do everything.
pub(crate) const ADMIN_GROUP: &str = "appliance:admin";

/// The group of every node.
pub(crate) const NODE_GROUP: &str = "appliance:node";

/// What the common name of a node's certificate begins with.
pub(crate) const NODE_USER_PREFIX: &str = "system:node:";

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// What was sent is wrong.
    #[error("the certificate request for {subject} is not usable: {reason}")]
    Request {
        /// Whom it was for.
        subject: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something of ours is.
    #[error("certificate for {subject} could not be made: {reason}")]
    Failed {
        /// Whom it was for.
        subject: String,
        /// What went wrong.
        reason: String,
    },
}

/// What the holder of a certificate is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile<'a> {
    /// A member: server and client at once, under its node name, its addresses and the URI of its raft id.
    Node { name: &'a str, hosts: &'a [Host], uri: &'a str },
    /// A client; one that a member made for its own host says so by a URI, and ends with that member.
    Client { user: &'a str, group: &'a str, of: Option<&'a str> },
}

/// One certificate authority.
#[derive(Debug)]
pub(crate) struct Authority {
    pem: Pem,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
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
    /// Makes a new authority: the first of a cluster, or the next one.
    pub(crate) fn create(
        cluster_id: &str,
        generation: u64,
        now: OffsetDateTime,
    ) -> Result<Authority, IssueError> {
        let name = match generation {
            0 | 1 => format!("appliance cluster {cluster_id}"),
            _ => format!("appliance cluster {cluster_id} authority {generation}"),
        };
        let failed = |reason: String| IssueError::Failed { subject: name.clone(), reason };
        let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&name, None);
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + AUTHORITY_LIFETIME;
        params.serial_number = Some(serial().map_err(failed)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| failed(error.to_string()))?;
        let pem = Pem { certificate: certificate.pem(), key: key.serialize_pem() };
        Authority::from_pem(pem).map_err(failed)
    }

    /// An authority that was made before; the reason when these are not its certificate and key.
    pub(crate) fn from_pem(pem: Pem) -> Result<Authority, String> {
        let certificate = Certificate::from_pem(&pem.certificate).map_err(|error| error.to_string())?;
        let key = KeyPair::from_pem(&pem.key).map_err(|error| format!("no private key in it: {error}"))?;
        if !certificate.is_authority {
            return Err("not the certificate of an authority".to_owned());
        }
        if certificate.public_key != key.public_key_raw() {
            return Err("certificate and key do not belong together".to_owned());
        }
        let der = CertificateDer::from_pem_slice(pem.certificate.as_bytes())
            .map_err(|error| format!("no certificate in it: {error}"))?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| error.to_string())?;
        Ok(Authority { pem, certificate, issuer })
    }

    /// The authority's own certificate and key.
    pub(crate) fn pem(&self) -> &Pem {
        &self.pem
    }

    /// What its certificate says.
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// A certificate and the key it is made for.
    pub(crate) fn issue(
        &self,
        profile: &Profile<'_>,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Pem, IssueError> {
        let key = KeyPair::generate().map_err(|error| profile.failed(&error))?;
        let certificate = self.sign(profile, &key, lifetime, now)?;
        Ok(Pem { certificate, key: key.serialize_pem() })
    }

    /// A certificate for a key in PEM.
    pub(crate) fn issue_for_key(
        &self,
        profile: &Profile<'_>,
        key: &str,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<String, IssueError> {
        let key = KeyPair::from_pem(key).map_err(|error| profile.failed(&error))?;
        self.sign(profile, &key, lifetime, now)
    }

    /// A certificate for whoever holds the key of a certificate request. Nothing else the request says is heeded.
    pub(crate) fn issue_for_request(
        &self,
        profile: &Profile<'_>,
        request: &str,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<String, IssueError> {
        let request =
            CertificateSigningRequestParams::from_pem(request).map_err(|error| profile.unusable(&error))?;
        let certificate = self.sign(profile, &request.public_key, lifetime, now)?;
        // The request's signature may say another algorithm than its key is for; such a certificate would be of no
        // use to anybody, and whoever asked should hear it here.
        match Certificate::from_pem(&certificate) {
            Ok(read) if read.public_key == request.public_key.der_bytes() => Ok(certificate),
            _ => Err(profile.unusable(&"its key is of no kind we know")),
        }
    }

    /// A node's certificate begins when the authority did and a client's a day ago: one that was made while the clock
    /// ran ahead is good all the same once it is set right.
    fn sign(
        &self,
        profile: &Profile<'_>,
        key: &impl PublicKeyData,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<String, IssueError> {
        let begins = self.certificate.not_before;
        // A clock before the authority's birth is wrong; what it stamped would have ended for everybody else.
        let now = now.max(begins + CLOCK_SKEW);
        let mut params = profile.params().map_err(|error| profile.failed(&error))?;
        params.not_before = match profile {
            Profile::Node { .. } => begins,
            Profile::Client { .. } => begins.max(now - CLOCK_SKEW),
        };
        params.not_after = now + lifetime;
        params.serial_number = Some(serial().map_err(|error| profile.failed(&error))?);
        let certificate = params.signed_by(key, &self.issuer).map_err(|error| profile.failed(&error))?;
        Ok(certificate.pem())
    }
}

impl Profile<'_> {
    fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        match self {
            Profile::Node { name, hosts, uri } => {
                params.distinguished_name = subject(&format!("{NODE_USER_PREFIX}{name}"), Some(NODE_GROUP));
                params.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
                params.subject_alt_names = hosts.iter().map(alternative_name).collect::<Result<_, _>>()?;
                params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
            }
            Profile::Client { user, group, of } => {
                params.distinguished_name = subject(user, Some(group));
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                let of = of.iter().map(|uri| Ok(SanType::URI((*uri).try_into()?)));
                params.subject_alt_names = of.collect::<Result<_, rcgen::Error>>()?;
            }
        }
        Ok(params)
    }

    fn subject(&self) -> String {
        let (Profile::Node { name: subject, .. } | Profile::Client { user: subject, .. }) = self;
        (*subject).to_owned()
    }

    fn failed(&self, reason: &impl std::fmt::Display) -> IssueError {
        IssueError::Failed { subject: self.subject(), reason: reason.to_string() }
    }

    fn unusable(&self, reason: &impl std::fmt::Display) -> IssueError {
        IssueError::Request { subject: self.subject(), reason: reason.to_string() }
    }
}

fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject
}

fn serial() -> Result<SerialNumber, String> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    // Positive and of full length, as every reader takes it.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn alternative_name(host: &Host) -> Result<SanType, rcgen::Error> {
    Ok(match host {
        Host::Address(address) => SanType::IpAddress(*address),
        Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);
    const DAY: Duration = Duration::DAY;

    fn authority() -> Authority {
        Authority::create("c0ffee", 1, NOW).expect("created")
    }

    fn client() -> Profile<'static> {
        Profile::Client { user: "olga", group: "appliance:operator", of: None }
    }

    fn node() -> Profile<'static> {
        Profile::Node { name: "n1", hosts: &[], uri: "appliance://c/1" }
    }

    fn read(pem: &str) -> Certificate {
        Certificate::from_pem(pem).expect("a certificate")
    }

    #[test]
    fn an_authority_read_back_issues_what_it_issued_before() {
        let first = authority();
        let again = Authority::from_pem(first.pem().clone()).expect("read back");
        let pem = again.issue(&node(), DAY, NOW).expect("issued");
        assert!(read(&pem.certificate).is_issued_by(first.certificate()));
        assert_eq!(again.certificate(), first.certificate());
    }

    #[test]
    fn files_that_are_no_authority_are_refused_with_the_reason() {
        let authority = authority();
        let refusal = |certificate: &str, key: &str| {
            let pem = Pem { certificate: certificate.to_owned(), key: key.to_owned() };
            Authority::from_pem(pem).expect_err("refused")
        };
        let Pem { certificate, key } = authority.pem().clone();
        let issued = authority.issue(&client(), DAY, NOW).expect("issued");
        let other = Authority::create("beef", 1, NOW).expect("created");

        assert!(refusal("", &key).starts_with("no certificate in it"));
        assert!(refusal(&certificate, "").starts_with("no private key in it"));
        assert_eq!(refusal(&issued.certificate, &issued.key), "not the certificate of an authority");
        assert_eq!(refusal(&certificate, &other.pem().key), "certificate and key do not belong together");
    }

    #[test]
    fn a_request_proves_a_key_and_says_nothing_else() {
        let key = KeyPair::generate().expect("key");
        let mut wishes = CertificateParams::new(vec!["evil.example".to_owned()]).expect("params");
        wishes.distinguished_name = subject("admin", Some(ADMIN_GROUP));
        let request = wishes.serialize_request(&key).expect("request").pem().expect("PEM");

        let issued = authority().issue_for_request(&node(), &request, DAY, NOW).expect("issued");
        let issued = read(&issued);
        assert_eq!(issued.public_key, key.public_key_raw());
        assert_eq!((issued.common_name.as_str(), issued.hosts.len()), ("system:node:n1", 0));

        // One character of its signature.
        let broken = {
            let mut lines: Vec<String> = request.lines().map(str::to_owned).collect();
            let last = lines.len() - 2;
            let flipped = if lines[last].starts_with('A') { "B" } else { "A" };
            lines[last].replace_range(0..1, flipped);
            lines.join("\n")
        };
        for odd in ["", "nonsense", &broken, &authority().pem().certificate] {
            authority().issue_for_request(&client(), odd, DAY, NOW).expect_err("refused");
        }
    }

    #[test]
    fn a_wrong_clock_makes_no_certificate_that_a_right_one_refuses() {
        let authority = authority();
        let valid_at = |pem: &str, time| {
            let read = read(pem);
            read.not_before <= time && time < read.not_after
        };
        let ahead = authority.issue(&node(), 90 * DAY, NOW + 400 * DAY).expect("issued");
        assert!(valid_at(&ahead.certificate, NOW), "made a year ahead, good today");
        let behind = authority.issue(&node(), 90 * DAY, OffsetDateTime::UNIX_EPOCH).expect("issued");
        assert!(valid_at(&behind.certificate, NOW + DAY), "made in 1970, good today");
        let client = authority.issue(&client(), DAY, NOW + 400 * DAY).expect("issued");
        assert!(!valid_at(&client.certificate, NOW), "a client's is as long as was asked");
    }

    #[test]
    fn no_two_certificates_share_a_serial_number_and_no_key_is_printed() {
        let authority = authority();
        let key = KeyPair::generate().expect("key").serialize_pem();
        let one = authority.issue_for_key(&node(), &key, DAY, NOW).expect("issued");
        let two = authority.issue_for_key(&node(), &key, DAY, NOW).expect("issued");
        assert_ne!(read(&one).fingerprint, read(&two).fingerprint);
        assert_eq!(read(&one).key_hash, read(&two).key_hash);
        let printed = format!("{authority:?} {:?}", authority.pem());
        assert!(!printed.contains("PRIVATE"), "{printed}");
    }
}
