//! The authority's record: what it means for every member, and the steps of its rotation. Pure.
//!
//! # The rotation
//!
//! ```text
//!            rotate                all trust both           all hold one of the new      finish
//!  stable ──────────► distributing ──────────────► issuing ───────────────────────► stable ───► stable
//!  current            current, next                current = next, previous          + previous   current
//! ```
//!
//! Between members nothing ever breaks: nobody shows a certificate of the next authority before everybody has said
//! that they trust it, and nobody stops trusting the last one before everybody has said that they show one of the
//! next. Clients are not ours to ask, so for them the last authority stays until somebody says `finish`: its clients
//! are let in, and what the API shows to clients is a certificate of *it*, not of the new one. A kubeconfig made in
//! the meantime carries both and works before and after.
//!
//! Each step is a function from the record and the members' records to the next record; [`super::renewal`] takes it on
//! the leader, in a transaction that compares the record, so a crash or a new leader repeats a step or finds it done.
//! It refuses to hold keys in the clear: [`Authorities::open`] unseals them for the moment they are needed.

use appliance_storage::Revision;
use time::OffsetDateTime;

use super::certificate::{Certificate, NotACertificate};
use super::records::{CaKey, CaPhase, CaRecord, MemberRecord, Other};
use super::seal::{SealError, SealKey};
use super::token::hex;
use crate::authority::{Authority, IssueError, Pem};

use sha2::{Digest, Sha256};

/// Why the authority of a record can not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    /// The sealed key.
    #[error("the authority's key in the store {0}; pki/seal.key must be the one of this cluster's members")]
    Sealed(#[from] SealError),
    /// The certificate.
    #[error("the authority's certificate in the store can not be read: {0}")]
    Certificate(#[from] NotACertificate),
    /// What was unsealed.
    #[error("the authority's record in the store is damaged: {0}")]
    Damaged(String),
    /// A new one could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// Why a rotation does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RotateRefusal {
    /// One at a time.
    #[error(
        "the rotation before is not finished: certificates of the authority before are still trusted; renew what they \
         are used for, then \"appliance ctl ca rotate --finish\""
    )]
    Unfinished,
    /// A step waits for members.
    #[error(
        "the rotation waits for {}; with --force it goes on without them: remove them then (\"appliance ctl member remove\"), and \
         let them join again, with empty data directories, when they return",
        .0.join(", ")
    )]
    Waiting(Vec<String>),
    /// There is none.
    #[error("no rotation is under way")]
    NotRotating,
}

/// The authorities of a record, unsealed.
#[derive(Debug)]
pub(crate) struct Authorities {
    /// The revision of the record: what a transaction compares that relies on these.
    pub(crate) revision: Revision,
    /// Issues certificates for members.
    pub(crate) current: Authority,
    /// Issues what the API shows to clients, until a rotation is finished.
    pub(crate) previous: Option<Authority>,
    /// Everything that is trusted, in PEM.
    pub(crate) bundle: Vec<String>,
}

impl Authorities {
    /// Unseals what the record holds.
    pub(crate) fn open(
        record: &CaRecord,
        revision: Revision,
        seal: &SealKey,
    ) -> Result<Authorities, CaError> {
        let previous = record.previous.first().map(|key| unseal(key, seal)).transpose()?;
        Ok(Authorities {
            revision,
            current: unseal(&record.current, seal)?,
            previous,
            bundle: bundle(record),
        })
    }
}

/// The record of a cluster's first authority.
pub(crate) fn first(authority: &Authority, seal: &SealKey) -> Result<CaRecord, CaError> {
    Ok(CaRecord {
        generation: 1,
        current: close(authority, seal)?,
        next: None,
        previous: Vec::new(),
        phase: CaPhase::Stable,
        other: Other::new(),
    })
}

/// An authority as the record keeps it.
fn close(authority: &Authority, seal: &SealKey) -> Result<CaKey, CaError> {
    let Pem { certificate, key } = authority.pem();
    let purpose = purpose(&authority.certificate().fingerprint);
    Ok(CaKey { certificate: certificate.clone(), sealed_key: seal.seal(&purpose, key.as_bytes())? })
}

fn unseal(key: &CaKey, seal: &SealKey) -> Result<Authority, CaError> {
    let fingerprint = Certificate::from_pem(&key.certificate)?.fingerprint;
    let plain = seal.open(&purpose(&fingerprint), &key.sealed_key)?;
    let plain = String::from_utf8(plain).map_err(|_| CaError::Damaged("the key is no PEM".to_owned()))?;
    Authority::from_pem(Pem { certificate: key.certificate.clone(), key: plain }).map_err(CaError::Damaged)
}

/// A sealed key opens only beside its own certificate.
fn purpose(fingerprint: &str) -> Vec<u8> {
    format!("appliance/ca/{fingerprint}").into_bytes()
}

/// Every authority that is trusted, the one that signs first.
pub(crate) fn bundle(record: &CaRecord) -> Vec<String> {
    let next = record.next.iter();
    std::iter::once(&record.current)
        .chain(next)
        .chain(&record.previous)
        .map(|key| key.certificate.clone())
        .collect()
}

/// One name for a set of trusted authorities, whatever their order: what a member says it trusts.
pub(crate) fn trust_hash(bundle: &[String]) -> String {
    let fingerprint = |pem: &String| Certificate::from_pem(pem).ok().map(|read| read.fingerprint);
    let mut fingerprints: Vec<String> = bundle.iter().filter_map(fingerprint).collect();
    fingerprints.sort();
    hex(&Sha256::digest(fingerprints.join(" ")))
}

/// Begins a rotation; one that is under way is left as it is.
pub(crate) fn begin(
    record: &CaRecord,
    cluster_id: &str,
    seal: &SealKey,
    now: OffsetDateTime,
) -> Result<CaRecord, BeginError> {
    match (record.phase, record.previous.is_empty()) {
        (CaPhase::Stable, true) => {
            let next = Authority::create(cluster_id, record.generation + 1, now).map_err(CaError::from)?;
            let next = Some(close(&next, seal)?);
            Ok(CaRecord { next, phase: CaPhase::Distributing, ..record.clone() })
        }
        (CaPhase::Stable, false) => Err(RotateRefusal::Unfinished.into()),
        (CaPhase::Distributing | CaPhase::Issuing, _) => Ok(record.clone()),
    }
}

/// Why no rotation began.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    /// Because of the one before.
    #[error(transparent)]
    Refused(#[from] RotateRefusal),
    /// Because of something of ours.
    #[error(transparent)]
    Failed(#[from] CaError),
}

/// Which members the current step waits for; in a stable cluster, which ones `finish` would wait for.
pub(crate) fn waiting_for(record: &CaRecord, members: &[MemberRecord]) -> Vec<String> {
    let trusted = trust_hash(&bundle(record));
    let issuer = Certificate::from_pem(&record.current.certificate).map(|read| read.fingerprint);
    let done = |member: &MemberRecord| match record.phase {
        CaPhase::Distributing => member.trusts == trusted,
        CaPhase::Issuing => issuer.as_ref() == Ok(&member.issuer),
        CaPhase::Stable => record.previous.is_empty() || issuer.as_ref() == Ok(&member.issuer),
    };
    members.iter().filter(|member| !done(member)).map(|member| member.name.clone()).collect()
}

/// The next step, if there is one and nobody is waited for, or `force` says not to.
pub(crate) fn advance(record: &CaRecord, members: &[MemberRecord], force: bool) -> Option<CaRecord> {
    if !force && !waiting_for(record, members).is_empty() {
        return None;
    }
    match (record.phase, &record.next) {
        (CaPhase::Distributing, Some(next)) => Some(CaRecord {
            generation: record.generation + 1,
            current: next.clone(),
            next: None,
            previous: std::iter::once(&record.current).chain(&record.previous).cloned().collect(),
            phase: CaPhase::Issuing,
            other: record.other.clone(),
        }),
        (CaPhase::Issuing, _) => Some(CaRecord { phase: CaPhase::Stable, ..record.clone() }),
        // Distributing nothing is a record that somebody broke; there is nothing to wait for.
        (CaPhase::Distributing, None) => Some(CaRecord { phase: CaPhase::Stable, ..record.clone() }),
        (CaPhase::Stable, _) => None,
    }
}

/// Stops trusting the authority before. Repeating it changes nothing.
pub(crate) fn finish(
    record: &CaRecord,
    members: &[MemberRecord],
    force: bool,
) -> Result<CaRecord, RotateRefusal> {
    let waiting = waiting_for(record, members);
    match record.phase {
        // Nobody is shown the next one yet; to drop the last now would leave nothing that is trusted.
        CaPhase::Distributing => Err(RotateRefusal::Waiting(waiting)),
        CaPhase::Issuing | CaPhase::Stable if !force && !waiting.is_empty() => {
            Err(RotateRefusal::Waiting(waiting))
        }
        CaPhase::Stable if record.previous.is_empty() => Err(RotateRefusal::NotRotating),
        CaPhase::Issuing | CaPhase::Stable => {
            Ok(CaRecord { previous: Vec::new(), phase: CaPhase::Stable, ..record.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::authority::Profile;
    use crate::cluster::records::MemberId;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

    fn seal() -> SealKey {
        SealKey::generate().expect("randomness")
    }

    fn start(seal: &SealKey) -> CaRecord {
        first(&Authority::create("c0ffee", 1, NOW).expect("created"), seal).expect("sealed")
    }

    fn begun(record: &CaRecord, seal: &SealKey) -> CaRecord {
        begin(record, "c0ffee", seal, NOW).expect("begins")
    }

    fn fingerprint(key: &CaKey) -> String {
        Certificate::from_pem(&key.certificate).expect("read").fingerprint
    }

    /// A member as it is between two looks at the record: what it trusts, and what it shows.
    #[derive(Clone)]
    struct Member {
        record: MemberRecord,
        bundle: Vec<String>,
        shows: Certificate,
    }

    impl Member {
        fn new(name: &str, record: &CaRecord, seal: &SealKey) -> Member {
            let plain = MemberRecord::new(MemberId(1), name, NOW);
            let authority = Authorities::open(record, Revision(1), seal).expect("opens");
            let mut member =
                Member { record: plain, bundle: Vec::new(), shows: authority.current.certificate().clone() };
            member.follow(record, seal);
            member.publish();
            member
        }

        /// Does what the record says.
        fn follow(&mut self, record: &CaRecord, seal: &SealKey) {
            let authorities = Authorities::open(record, Revision(1), seal).expect("opens");
            let profile = Profile::Node { name: &self.record.name, hosts: &[], uri: "appliance://c/1" };
            let pem = authorities.current.issue(&profile, Duration::DAY, NOW).expect("issued");
            self.shows = Certificate::from_pem(&pem.certificate).expect("read");
            self.bundle = authorities.bundle;
        }

        /// Says so, for all to read.
        fn publish(&mut self) {
            self.record.trusts = trust_hash(&self.bundle);
            let issuer = self.bundle.iter().map(|pem| Certificate::from_pem(pem).expect("read"));
            let issuer = issuer.into_iter().find(|authority| self.shows.is_issued_by(authority));
            self.record.issuer = issuer.map(|authority| authority.fingerprint).unwrap_or_default();
        }

        fn trusts(&self, other: &Member) -> bool {
            let authority = |pem: &String| Certificate::from_pem(pem).expect("read");
            self.bundle.iter().any(|pem| other.shows.is_issued_by(&authority(pem)))
        }
    }

    #[test]
    fn a_key_is_stored_sealed_and_opens_with_the_clusters_key_alone() {
        let seal = seal();
        let record = start(&seal);
        let text = serde_json::to_string(&record).expect("JSON");
        assert!(!text.contains("PRIVATE") && !format!("{record:?}").contains("PRIVATE"));
        let opened = Authorities::open(&record, Revision(1), &seal).expect("opens");
        assert_eq!(opened.current.certificate().fingerprint, fingerprint(&record.current));
        let stranger = SealKey::generate().expect("randomness");
        assert!(matches!(
            Authorities::open(&record, Revision(1), &stranger),
            Err(CaError::Sealed(SealError::NotOurs))
        ));
        let swapped = CaRecord {
            current: CaKey { certificate: start(&seal).current.certificate, ..record.current.clone() },
            ..record
        };
        Authorities::open(&swapped, Revision(1), &seal).expect_err("a key opens beside its certificate only");
    }

    /// Every order in which three members may look at the record and publish what they did, driven by seeds: whatever
    /// the order, any two members can always connect.
    #[test]
    fn no_order_of_steps_leaves_two_members_that_do_not_trust_each_other() {
        let seal = seal();
        for seed in 0..60_u64 {
            let mut record = start(&seal);
            let mut members: BTreeMap<&str, Member> =
                ["a", "b", "c"].map(|name| (name, Member::new(name, &record, &seal))).into();
            record = begun(&record, &seal);
            let (mut random, mut finished, mut steps) = (seed, false, 0);
            while !finished {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let member = members.values_mut().nth((random >> 33) as usize % 3).expect("a member");
                match (random >> 40) % 4 {
                    0 | 1 => member.follow(&record, &seal),
                    2 => member.publish(),
                    _ => {
                        let said: Vec<_> = members.values().map(|member| member.record.clone()).collect();
                        if let Some(next) = advance(&record, &said, false) {
                            record = next;
                        } else if let Ok(next) = finish(&record, &said, false) {
                            (record, finished) = (next, true);
                        }
                    }
                }
                for (one, other) in members.values().flat_map(|m| members.values().map(move |o| (m, o))) {
                    assert!(one.trusts(other), "seed {seed}, step {steps}, {:?}", record.phase);
                }
                steps += 1;
                assert!(steps < 10_000, "seed {seed}: the rotation never ends");
            }
            assert_eq!((record.generation, record.previous.len()), (2, 0));
        }
    }

    #[test]
    fn a_step_waits_for_whom_it_names_and_force_goes_on_without() {
        let seal = seal();
        let record = start(&seal);
        let (mut a, b) = (Member::new("a", &record, &seal), Member::new("b", &record, &seal));
        let record = begun(&record, &seal);
        a.follow(&record, &seal);
        a.publish();
        let members = [a.record.clone(), b.record.clone()];
        assert_eq!(waiting_for(&record, &members), ["b"]);
        assert_eq!(advance(&record, &members, false), None);
        assert_eq!(finish(&record, &members, true), Err(RotateRefusal::Waiting(vec!["b".to_owned()])));

        let issuing = advance(&record, &members, true).expect("forced");
        assert_eq!((issuing.phase, issuing.generation), (CaPhase::Issuing, 2));
        assert_eq!(trust_hash(&bundle(&issuing)), trust_hash(&bundle(&record)), "the same are trusted");
        let stable = advance(&issuing, &members, true).expect("forced");
        assert_eq!(stable.phase, CaPhase::Stable);
        assert!(matches!(
            begin(&stable, "c", &seal, NOW),
            Err(BeginError::Refused(RotateRefusal::Unfinished))
        ));
        assert!(matches!(finish(&stable, &members, false), Err(RotateRefusal::Waiting(_))));
        let done = finish(&stable, &members, true).expect("forced");
        assert_eq!(bundle(&done).len(), 1);
        assert_eq!(finish(&done, &members, true), Err(RotateRefusal::NotRotating));
    }

    #[test]
    fn until_the_end_clients_are_shown_a_certificate_of_the_authority_they_know() {
        let seal = seal();
        let stable = start(&seal);
        let known = fingerprint(&stable.current);
        let shown = |record: &CaRecord| {
            let authorities = Authorities::open(record, Revision(1), &seal).expect("opens");
            authorities.previous.unwrap_or(authorities.current).certificate().fingerprint.clone()
        };
        let distributing = begun(&stable, &seal);
        let issuing = advance(&distributing, &[], false).expect("nobody to wait for");
        let waiting = advance(&issuing, &[], false).expect("nobody to wait for");
        for record in [&stable, &distributing, &issuing, &waiting] {
            assert_eq!(shown(record), known, "{:?}", record.phase);
        }
        let finished = finish(&waiting, &[], false).expect("finishes");
        assert_eq!(shown(&finished), fingerprint(&finished.current));
        assert_ne!(shown(&finished), known);
        assert_eq!(
            begin(&issuing, "c", &seal, NOW).expect("under way"),
            issuing,
            "repeating changes nothing"
        );
    }
}
