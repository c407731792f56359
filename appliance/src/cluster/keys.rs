//! Keys: what this node shows and whom it trusts, and when any of it is due to be made anew. Pure but for the
//! randomness of keys.
//!
//! [`Keys::renewed`] is the one decision: from what the node has, what the cluster's authorities are and what time it
//! is, to what it should have, with the reasons in words. It never gives up a certificate for one that ends sooner, so
//! a clock that jumps can only renew too early. The node's key stays the same for as long as it is readable: it is
//! what the member's record knows the node by. [`super::keyring`] keeps the result on disk and hands it to TLS.

use std::fmt;

use appliance_consensus::transport::member_uri;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::ca::{self, Authorities};
use super::certificate::Certificate;
use crate::authority::{ADMIN_GROUP, Authority, COMMON_SERVER_NAME, IssueError, Pem, Profile};
use crate::config::Host;

/// A node looks after its own certificate, so it need not live long; a host that was switched off for a month or two
/// still comes back by itself.
pub(crate) const NODE_LIFETIME: Duration = Duration::days(90);

/// The certificate in `admin.kubeconfig`, which is copied to where nobody renews it.
const ADMIN_LIFETIME: Duration = Duration::days(365);

/// The user of `admin.kubeconfig`.
const ADMIN_USER: &str = "admin";

/// What the URI in it has before the member's id. Not the URI of the member, which peers believe: this certificate is
/// copied to where people work.
const ADMIN_OF: &str = "admin-of/";

/// Who a node is, as its certificates say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// The node's name.
    pub(crate) name: String,
    /// Every name and address it answers to.
    pub(crate) hosts: Vec<Host>,
    /// `appliance://<cluster>/<member>`.
    pub(crate) uri: String,
}

impl Who {
    /// The node of this name and raft id, reached on these addresses and on those that every node has.
    pub(crate) fn new(cluster: u128, member: u64, name: &str, reached_on: &[Host]) -> Who {
        Who { name: name.to_owned(), hosts: server_names(name, reached_on), uri: member_uri(cluster, member) }
    }

    /// What says that an administrator's certificate is of this member, and ends with it.
    fn admin_uri(&self) -> String {
        match self.uri.rsplit_once('/') {
            Some((cluster, member)) => format!("{cluster}/{ADMIN_OF}{member}"),
            None => format!("{ADMIN_OF}{}", self.uri),
        }
    }

    /// What its certificate says.
    pub(crate) fn profile(&self) -> Profile<'_> {
        Profile::Node { name: &self.name, hosts: &self.hosts, uri: &self.uri }
    }

    /// Members of one age must not all renew in the same minute: each is early by its own share, the same at every
    /// look.
    fn jitter(&self, lifetime: Duration) -> Duration {
        let digest = Sha256::digest(&self.uri);
        lifetime / 15 * i32::from(digest[0]) / i32::from(u8::MAX)
    }
}

/// Every name and address a node's certificate answers to, each once.
pub(crate) fn server_names(node_name: &str, reached_on: &[Host]) -> Vec<Host> {
    let always = [COMMON_SERVER_NAME, "localhost", "127.0.0.1", "::1"];
    // A node name that is no DNS name can not be dialled either.
    let named = [node_name].into_iter().chain(always).filter_map(|name| name.parse().ok());
    let mut names: Vec<Host> = Vec::new();
    for name in named.chain(reached_on.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What a node shows and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Every authority that is trusted, in PEM.
    pub(crate) bundle: Vec<String>,
    /// What the node shows its peers, and clients too unless `api` says otherwise.
    pub(crate) node: Pem,
    /// A certificate of the authority before, for the same key, for clients that know no other yet.
    pub(crate) api: Option<String>,
    /// What `admin.kubeconfig` holds; a joiner has none until it has the cluster's records.
    pub(crate) admin: Option<Pem>,
}

/// What a member's record tells the others of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// SHA-256 of the public key.
    pub(crate) key: String,
    /// Names the bundle: [`ca::trust_hash`].
    pub(crate) trusts: String,
    /// SHA-256 of the issuing authority's certificate; empty if it is none of the bundle.
    pub(crate) issuer: String,
    /// When the certificate ends.
    pub(crate) expires: OffsetDateTime,
}

/// Keys as they should be, and why they are not as they were.
#[derive(Debug)]
pub(crate) struct Renewal {
    /// The keys.
    pub(crate) keys: Keys,
    /// One sentence for each thing that changed.
    pub(crate) reasons: Vec<Reason>,
}

/// Why something was made anew, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    what: &'static str,
    why: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Keys {
    /// The certificate that clients are shown.
    pub(crate) fn api_certificate(&self) -> &str {
        self.api.as_deref().unwrap_or(&self.node.certificate)
    }

    /// The authority in the bundle that issued a certificate of ours; shown along with it, so that a joiner finds the
    /// key that its token pins.
    pub(crate) fn issuer_of(&self, certificate: &str) -> Option<&str> {
        let issued = Certificate::from_pem(certificate).ok()?;
        let issuer = self.bundle.iter().find(|authority| {
            Certificate::from_pem(authority).is_ok_and(|authority| issued.is_issued_by(&authority))
        });
        issuer.map(String::as_str)
    }

    /// What the member's record should say; nothing if the certificate can not be read.
    pub(crate) fn facts(&self) -> Option<Facts> {
        let certificate = Certificate::from_pem(&self.node.certificate).ok()?;
        let issuer = self.issuer_of(&self.node.certificate).and_then(|pem| Certificate::from_pem(pem).ok());
        Some(Facts {
            key: certificate.key_hash,
            trusts: ca::trust_hash(&self.bundle),
            issuer: issuer.map(|issuer| issuer.fingerprint).unwrap_or_default(),
            expires: certificate.not_after,
        })
    }

    /// What a joiner's token must pin: the authority whose certificate the API shows.
    pub(crate) fn pin(&self) -> Option<String> {
        let issuer = self.issuer_of(self.api_certificate())?;
        Certificate::from_pem(issuer).ok().map(|issuer| issuer.key_hash)
    }

    /// The keys this node should have now. `standing` is what it has, if it has any.
    pub(crate) fn renewed(
        standing: Option<&Keys>,
        authorities: &Authorities,
        who: &Who,
        now: OffsetDateTime,
    ) -> Result<Renewal, IssueError> {
        let mut reasons = Vec::new();
        let mut because = |what, why: Option<String>| {
            let due = why.is_some();
            reasons.extend(why.map(|why| Reason { what, why }));
            due
        };
        let jitter = who.jitter(NODE_LIFETIME);
        let check = |pem: &Pem, authority: &Authority| {
            due(pem, authority, NODE_LIFETIME, jitter, now).or_else(|| unlike(&pem.certificate, who))
        };

        let why = standing.map_or(missing(), |keys| check(&keys.node, &authorities.current));
        let kept_key = standing.map(|keys| keys.node.key.clone()).filter(|key| is_key(key));
        let node = match (because("the node's certificate", why), standing, kept_key) {
            (false, Some(keys), _) => keys.node.clone(),
            (_, _, Some(key)) => {
                let current = &authorities.current;
                let certificate = current.issue_for_key(&who.profile(), &key, NODE_LIFETIME, now)?;
                Pem { certificate, key }
            }
            _ => authorities.current.issue(&who.profile(), NODE_LIFETIME, now)?,
        };

        let standing_api = standing.and_then(|keys| keys.api.as_ref());
        let api = match &authorities.previous {
            None => {
                because(
                    "the certificate of the authority before",
                    standing_api.map(|_| "it is no longer needed".to_owned()),
                );
                None
            }
            Some(previous) => {
                // The certificate from before the rotation goes on serving clients.
                let kept = standing_api.or(standing.map(|keys| &keys.node.certificate));
                let kept =
                    kept.map(|certificate| Pem { certificate: certificate.clone(), key: node.key.clone() });
                let why = kept.as_ref().map_or(missing(), |pem| check(pem, previous));
                match (because("the certificate for clients", why), kept) {
                    (false, Some(kept)) => Some(kept.certificate),
                    _ => Some(previous.issue_for_key(&who.profile(), &node.key, NODE_LIFETIME, now)?),
                }
            }
        };

        let standing_admin = standing.and_then(|keys| keys.admin.as_ref());
        let admin_uri = who.admin_uri();
        let why = standing_admin.map_or(missing(), |pem| {
            due(pem, &authorities.current, ADMIN_LIFETIME, Duration::ZERO, now)
                .or_else(|| unnamed(&pem.certificate, &admin_uri))
        });
        let admin = match (because("the administrator's certificate", why), standing_admin) {
            (false, Some(admin)) => admin.clone(),
            _ => {
                let profile = Profile::Client { user: ADMIN_USER, group: ADMIN_GROUP, of: Some(&admin_uri) };
                authorities.current.issue(&profile, ADMIN_LIFETIME, now)?
            }
        };

        let bundle = authorities.bundle.clone();
        let trusted = standing.map(|keys| ca::trust_hash(&keys.bundle));
        let changed = trusted.is_some_and(|trusted| trusted != ca::trust_hash(&bundle));
        because("the trusted authorities", changed.then(|| format!("they are {} now", bundle.len())));
        Ok(Renewal { keys: Keys { bundle, node, api, admin: Some(admin) }, reasons })
    }
}

fn missing() -> Option<String> {
    Some("there is none yet".to_owned())
}

fn is_key(pem: &str) -> bool {
    rcgen::KeyPair::from_pem(pem).is_ok()
}

/// Why a certificate must be made anew, in words for the log; `None` when it need not.
fn due(
    pem: &Pem,
    authority: &Authority,
    lifetime: Duration,
    jitter: Duration,
    now: OffsetDateTime,
) -> Option<String> {
    let Ok(certificate) = Certificate::from_pem(&pem.certificate) else {
        return Some("it can not be read".to_owned());
    };
    let Ok(key) = rcgen::KeyPair::from_pem(&pem.key) else {
        return Some("its key can not be read".to_owned());
    };
    if certificate.public_key != key.public_key_raw() {
        return Some("it does not belong to its key".to_owned());
    }
    if !certificate.is_issued_by(authority.certificate()) {
        return Some("another authority issued it".to_owned());
    }
    if certificate.not_before > now {
        return Some("it is not valid yet by this host's clock".to_owned());
    }
    // With a clock that is behind, a new one would end sooner than this; then this one stays.
    let later = now + lifetime > certificate.not_after;
    let soon = certificate.not_after - now < lifetime / 3 + jitter;
    (soon && later).then(|| format!("it ends on {}", certificate.not_after.date()))
}

/// Why a node's certificate no longer says who the node is.
fn unlike(certificate: &str, who: &Who) -> Option<String> {
    let certificate = Certificate::from_pem(certificate).ok()?;
    let sorted = |hosts: &[Host]| {
        let mut texts: Vec<String> = hosts.iter().map(Host::to_string).collect();
        texts.sort();
        texts
    };
    if certificate.uris != [who.uri.clone()] {
        return Some("it does not name the node's member id".to_owned());
    }
    (sorted(&certificate.hosts) != sorted(&who.hosts))
        .then(|| "the node's names or addresses changed".to_owned())
}

/// Why an administrator's certificate would outlive the member that keeps it: those of earlier versions name none, and a
/// member that began again has another id.
fn unnamed(certificate: &str, admin_uri: &str) -> Option<String> {
    let certificate = Certificate::from_pem(certificate).ok()?;
    (certificate.uris != [admin_uri]).then(|| "it does not name this member".to_owned())
}

#[cfg(test)]
mod tests {
    use appliance_storage::Revision;
    use time::macros::datetime;

    use super::*;
    use crate::cluster::records::{CaRecord, MemberId, member_of_uri};
    use crate::cluster::seal::SealKey;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);
    const DAY: Duration = Duration::DAY;

    fn who(address: &str) -> Who {
        Who::new(0xc0ffee, 7, "n1", &[address.parse().expect("host")])
    }

    struct World {
        seal: SealKey,
        record: CaRecord,
    }

    impl World {
        fn new() -> World {
            let seal = SealKey::generate().expect("randomness");
            let authority = Authority::create("c0ffee", 1, NOW).expect("created");
            World { record: ca::first(&authority, &seal).expect("sealed"), seal }
        }

        fn renew(&self, standing: Option<&Keys>, who: &Who, now: OffsetDateTime) -> (Keys, Vec<String>) {
            let authorities = Authorities::open(&self.record, Revision(1), &self.seal).expect("opens");
            let Renewal { keys, reasons } = Keys::renewed(standing, &authorities, who, now).expect("renewed");
            (keys, reasons.iter().map(Reason::to_string).collect())
        }
    }

    fn ends(keys: &Keys) -> OffsetDateTime {
        keys.facts().expect("readable").expires
    }

    #[test]
    fn names_are_asked_for_once() {
        let names = server_names("localhost", &["10.0.0.1".parse().expect("host")]);
        let names: Vec<String> = names.iter().map(Host::to_string).collect();
        assert_eq!(names, ["localhost", "appliance", "127.0.0.1", "::1", "10.0.0.1"]);
        assert_eq!(server_names("-odd_", &[]).len(), 4, "a name that can not be dialled is left out");
    }

    #[test]
    fn what_fits_is_kept_and_the_second_look_changes_nothing() {
        let (world, who) = (World::new(), who("10.0.0.1"));
        let (first, reasons) = world.renew(None, &who, NOW);
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        let (second, reasons) = world.renew(Some(&first), &who, NOW + DAY);
        assert_eq!((&second, reasons.len()), (&first, 0));
        let read = Certificate::from_pem(&first.node.certificate).expect("read");
        assert_eq!(read.uris, ["appliance://00000000000000000000000000c0ffee/0000000000000007"]);
        assert_eq!(first.pin(), Some(Certificate::from_pem(&first.bundle[0]).expect("read").key_hash));
    }

    #[test]
    fn a_certificate_is_replaced_for_each_reason_and_the_log_says_which() {
        let (world, here) = (World::new(), who("10.0.0.1"));
        let (keys, _) = world.renew(None, &here, NOW);
        let reason = |keys: &Keys, who: &Who, now| {
            let (renewed, reasons) = world.renew(Some(keys), who, now);
            assert_eq!(world.renew(Some(&renewed), who, now).1, Vec::<String>::new(), "once is enough");
            reasons.into_iter().next().unwrap_or_default()
        };
        let with = |certificate: &str, key: &str| Keys {
            node: Pem { certificate: certificate.to_owned(), key: key.to_owned() },
            ..keys.clone()
        };
        let Pem { certificate, key } = keys.node.clone();
        let other = World::new().renew(None, &here, NOW).0.node;

        let says = |why: &str| format!("the node's certificate: {why}");
        assert_eq!(reason(&keys, &who("10.0.0.2"), NOW), says("the node's names or addresses changed"));
        let moved = Who { uri: member_uri(1, 1), ..here.clone() };
        assert_eq!(reason(&keys, &moved, NOW), says("it does not name the node's member id"));
        assert_eq!(reason(&keys, &here, NOW + 61 * DAY), says("it ends on 2027-02-18"));
        assert_eq!(reason(&keys, &here, NOW + 400 * DAY), says("it ends on 2027-02-18"));
        assert_eq!(
            reason(&with(&other.certificate, &other.key), &here, NOW),
            says("another authority issued it")
        );
        assert_eq!(
            reason(&with(&certificate, &other.key), &here, NOW),
            says("it does not belong to its key")
        );
        assert_eq!(reason(&with("x", &key), &here, NOW), says("it can not be read"));
        assert_eq!(reason(&with(&certificate, ""), &here, NOW), says("its key can not be read"));
    }

    #[test]
    fn the_administrators_certificate_names_the_member_that_keeps_it_and_is_not_the_members() {
        let (world, who) = (World::new(), who("10.0.0.1"));
        let (keys, _) = world.renew(None, &who, NOW);
        let uris = |keys: &Keys| {
            let admin = keys.admin.as_ref().expect("there is one");
            Certificate::from_pem(&admin.certificate).expect("read").uris
        };
        let expected = "appliance://00000000000000000000000000c0ffee/admin-of/0000000000000007";
        assert_eq!(uris(&keys), [expected]);
        assert_eq!(member_of_uri(expected), Some(MemberId(7)));

        let authorities = Authorities::open(&world.record, Revision(1), &world.seal).expect("opens");
        let profile = Profile::Client { user: ADMIN_USER, group: ADMIN_GROUP, of: None };
        let before = authorities.current.issue(&profile, ADMIN_LIFETIME, NOW).expect("issued");
        let before = Keys { admin: Some(before), ..keys.clone() };
        let (after, reasons) = world.renew(Some(&before), &who, NOW);
        assert_eq!(reasons, ["the administrator's certificate: it does not name this member"]);
        assert_eq!((uris(&after), &after.node), (vec![expected.to_owned()], &keys.node));
    }

    #[test]
    fn the_key_outlives_its_certificates() {
        let (world, who) = (World::new(), who("10.0.0.1"));
        let (first, _) = world.renew(None, &who, NOW);
        let (second, _) = world.renew(Some(&first), &who, NOW + 70 * DAY);
        assert_ne!(first.node.certificate, second.node.certificate);
        assert_eq!(first.node.key, second.node.key);
        assert_eq!(first.facts().expect("facts").key, second.facts().expect("facts").key);
    }

    #[test]
    fn renewal_comes_after_two_thirds_of_a_life_and_not_for_all_at_once() {
        let world = World::new();
        let mut days: Vec<i64> = Vec::new();
        for member in 1..=40 {
            let who = Who::new(1, member, "n1", &[]);
            let (keys, _) = world.renew(None, &who, NOW);
            let due = |day: &i64| {
                ends(&world.renew(Some(&keys), &who, NOW + Duration::days(*day)).0) != ends(&keys)
            };
            days.push((0..90).find(due).expect("renewed in time"));
        }
        assert!(days.iter().all(|day| (54..=61).contains(day)), "{days:?}");
        days.sort_unstable();
        days.dedup();
        assert!(days.len() > 3, "{days:?}");
    }

    #[test]
    fn a_clock_that_jumps_never_costs_a_valid_certificate() {
        let (world, who) = (World::new(), who("10.0.0.1"));
        let (keys, _) = world.renew(None, &who, NOW);
        for wrong in [OffsetDateTime::UNIX_EPOCH, NOW - 300 * DAY, NOW + 89 * DAY, NOW + 5_000 * DAY] {
            let (then, _) = world.renew(Some(&keys), &who, wrong);
            let read = Certificate::from_pem(&then.node.certificate).expect("read");
            assert!(
                read.not_before <= NOW && NOW < read.not_after,
                "useful to others, whose clocks are right"
            );
            assert!(ends(&then) >= ends(&keys), "{wrong}");
            let (back, _) = world.renew(Some(&then), &who, NOW);
            let admin = Certificate::from_pem(&back.admin.expect("admin").certificate).expect("read");
            assert!(admin.not_before <= NOW, "{wrong}");
        }
    }

    #[test]
    fn through_a_rotation_clients_see_the_certificate_they_know_and_peers_the_new_one() {
        let (mut world, who) = (World::new(), who("10.0.0.1"));
        let (before, _) = world.renew(None, &who, NOW);
        world.record = ca::begin(&world.record, "c0ffee", &world.seal, NOW).expect("begins");
        let (distributing, reasons) = world.renew(Some(&before), &who, NOW);
        assert_eq!((&distributing.node, distributing.bundle.len()), (&before.node, 2));
        assert_eq!(reasons, ["the trusted authorities: they are 2 now"]);

        world.record = ca::advance(&world.record, &[], false).expect("advances");
        let (issuing, _) = world.renew(Some(&distributing), &who, NOW);
        assert_eq!(issuing.api_certificate(), before.node.certificate);
        assert_ne!(issuing.node.certificate, before.node.certificate);
        assert_eq!(issuing.pin(), before.pin(), "tokens made before go on working");
        let facts = issuing.facts().expect("facts");
        let current = Certificate::from_pem(&world.record.current.certificate).expect("read");
        assert_eq!(facts.issuer, current.fingerprint);
        let late = world.renew(Some(&issuing), &who, NOW + 70 * DAY).0;
        assert_ne!(late.api_certificate(), before.node.certificate, "renewed while nobody finishes");
        assert_eq!(late.pin(), before.pin());

        world.record = ca::advance(&world.record, &[], false).expect("advances");
        world.record = ca::finish(&world.record, &[], false).expect("finishes");
        let (after, _) = world.renew(Some(&issuing), &who, NOW);
        assert_eq!((after.api.as_ref(), after.bundle.len()), (None, 1));
        assert_eq!(after.node, issuing.node, "nothing is issued twice");
        assert_ne!(after.pin(), before.pin());
    }
}
