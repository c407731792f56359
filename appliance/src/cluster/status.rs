//! Cluster status: what a member knows of the cluster at this moment, as one document. Pure.
//!
//! It is put together from what this member believes (raft, the signs of life of the others) and from the records it
//! has, so that it can be told without a quorum, which is when it is needed most. It says which member answered: two
//! sides of a partition tell two stories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use appliance_consensus::Status;
use appliance_consensus::transport::{OutboundState, PeerConnections};
use appliance_resources::{EnforcementState, NodeReportStatus};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::records::{MemberId, MemberRecord};

/// Members send a sign of life every second; one that missed two of them is not reachable.
const REACHABLE: Duration = Duration::from_millis(3_000);

/// What the cluster looks like from here.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterStatus {
    cluster: String,
    /// Whether, as far as this member knows, anything can be written now.
    quorum: bool,
    leader: Option<MemberId>,
    term: u64,
    revision: u64,
    /// Who answers.
    node: MemberId,
    members: Vec<MemberStatus>,
    autopilot: Autopilot,
    /// What the rest does not say: that there is no quorum, or that this member was removed, it does.
    alarms: Vec<String>,
}

/// The least of it: what one member needs to know of the others' part of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) cluster: String,
    pub(crate) quorum: bool,
}

impl ClusterStatus {
    /// What is told to a node.
    pub(crate) fn standing(&self) -> Standing {
        Standing { cluster: self.cluster.clone(), quorum: self.quorum }
    }
}

/// What the cluster does by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Autopilot {
    replace_after_seconds: Option<u64>,
}

/// A member's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Voter,
    Learner,
    /// Recorded, and not known to raft yet.
    Joining,
    /// This member itself, when the cluster has removed it.
    Removed,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberStatus {
    pub(crate) id: MemberId,
    pub(crate) name: String,
    pub(crate) role: Part,
    leader: bool,
    peer: Vec<String>,
    api: Vec<String>,
    version: String,
    reachable: bool,
    /// Why this member could not send it anything, when it tried last.
    failure: Option<String>,
    last_contact_ms: Option<u64>,
    applied: Option<u64>,
    last: Option<u64>,
    last_term: Option<u64>,
    term: Option<u64>,
    lag: Option<u64>,
    revision: Option<u64>,
    enforced_revision: Option<u64>,
    enforcement: Option<EnforcementState>,
    diverged: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    certificate_expires: Option<OffsetDateTime>,
}

/// Everything that is looked at.
pub(crate) struct Sight<'a> {
    /// The cluster's id.
    pub(crate) cluster: &'a str,
    /// Who looks.
    pub(crate) own: MemberId,
    /// What raft believes.
    pub(crate) raft: &'a Status,
    /// The length of one of raft's ticks.
    pub(crate) tick: Duration,
    /// The revision of this member's store.
    pub(crate) revision: u64,
    /// The members' records.
    pub(crate) records: &'a [MemberRecord],
    /// What each node enforces, by its name.
    pub(crate) reports: &'a BTreeMap<String, NodeReportStatus>,
    /// How long a voter may be silent before it is replaced.
    pub(crate) replace_after: Option<Duration>,
    /// The cluster has removed this member.
    pub(crate) removed: bool,
    /// What an operator should look at.
    pub(crate) alarms: Vec<String>,
    /// The connections to the other members.
    pub(crate) links: &'a BTreeMap<u64, PeerConnections>,
}

impl Sight<'_> {
    /// The document.
    pub(crate) fn status(self) -> ClusterStatus {
        let recorded = self.records.iter().map(|record| record.id);
        let counted = self.raft.voters.iter().chain(&self.raft.outgoing_voters).chain(&self.raft.learners);
        let ids: BTreeSet<MemberId> =
            recorded.chain(counted.map(|id| MemberId(*id))).chain([self.own]).collect();
        let quorum = self.raft.has_quorum() && !self.removed;
        let mut alarms = self.alarms.clone();
        let mut members: Vec<MemberStatus> = ids.into_iter().map(|id| self.member(id)).collect();
        alarms.extend(members.iter().filter(|member| member.diverged).map(|member| {
            format!("the data of member {} ({}) differs from the others'", member.id, member.name)
        }));
        alarms.extend(members.iter().filter_map(|member| self.refusal(member)));
        members.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        ClusterStatus {
            cluster: self.cluster.to_owned(),
            quorum,
            leader: self.raft.leader.filter(|_| !self.removed).map(MemberId),
            term: self.raft.term,
            revision: self.revision,
            node: self.own,
            members,
            autopilot: Autopilot { replace_after_seconds: self.replace_after.map(|after| after.as_secs()) },
            alarms,
        }
    }

    /// A member that answers, and will not speak with this one or is not spoken to: nothing mends that by itself.
    fn refusal(&self, member: &MemberStatus) -> Option<String> {
        let link = self.links.get(&member.id.0).filter(|_| !self.removed)?;
        let OutboundState::Refused { reason } = &link.outbound else { return None };
        Some(format!("no connection to member {} ({}) {reason}", member.id, member.name))
    }

    fn member(&self, id: MemberId) -> MemberStatus {
        let record = self.records.iter().find(|record| record.id == id);
        let report = record.and_then(|record| self.reports.get(&record.name));
        let life = if id == self.own { self.own_life() } else { self.others_life(id) };
        let furthest = self.raft.commit.max(self.raft.applied);
        let own = |list: fn(&MemberRecord) -> Vec<String>| record.map(list).unwrap_or_default();
        MemberStatus {
            id,
            name: record.map(|record| record.name.clone()).unwrap_or_default(),
            role: self.part(id),
            leader: self.raft.leader == Some(id.0) && !self.removed,
            peer: own(|record| record.peer.clone()),
            api: own(|record| record.api.clone()),
            version: record.map(|record| record.version.clone()).unwrap_or_default(),
            reachable: life.silent.is_some_and(|silent| silent <= REACHABLE),
            failure: self.links.get(&id.0).and_then(|link| link.outbound.trouble()).map(str::to_owned),
            last_contact_ms: life.silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
            applied: life.applied,
            last: life.last,
            last_term: life.last_term,
            term: life.term,
            lag: life.applied.map(|applied| furthest.saturating_sub(applied)),
            revision: life.revision,
            enforced_revision: report.map(|report| report.revision),
            enforcement: report.map(|report| report.state),
            diverged: life.diverged,
            certificate_expires: record.and_then(|record| record.certificate_expires),
        }
    }

    fn part(&self, id: MemberId) -> Part {
        if id == self.own && self.removed {
            Part::Removed
        } else if self.raft.voters.contains(&id.0) {
            Part::Voter
        } else if self.raft.learners.contains(&id.0) || self.raft.outgoing_voters.contains(&id.0) {
            Part::Learner
        } else {
            Part::Joining
        }
    }

    fn own_life(&self) -> Life {
        Life {
            silent: Some(Duration::ZERO),
            applied: Some(self.raft.applied),
            last: Some(self.raft.last),
            last_term: Some(self.raft.last_term),
            term: Some(self.raft.term),
            revision: Some(self.revision),
            diverged: self.raft.diverged,
        }
    }

    fn others_life(&self, id: MemberId) -> Life {
        let Some(peer) = self.raft.peers.get(&id.0) else { return Life::default() };
        Life {
            silent: (peer.heard_ticks != u32::MAX).then(|| self.tick.saturating_mul(peer.heard_ticks)),
            applied: peer.beat.map(|beat| beat.applied),
            last: peer.beat.map(|beat| beat.last),
            last_term: peer.beat.map(|beat| beat.last_term),
            term: peer.beat.map(|beat| beat.term),
            revision: peer.beat.map(|beat| beat.revision),
            diverged: peer.beat.is_some_and(|beat| beat.diverged),
        }
    }
}

/// What was last heard of a member.
#[derive(Default)]
struct Life {
    silent: Option<Duration>,
    applied: Option<u64>,
    last: Option<u64>,
    last_term: Option<u64>,
    term: Option<u64>,
    revision: Option<u64>,
    diverged: bool,
}

#[cfg(test)]
mod tests {
    use appliance_consensus::{Beat, PeerStatus, Role};
    use time::macros::datetime;

    use super::*;

    fn record(id: u64, name: &str) -> MemberRecord {
        MemberRecord {
            peer: vec![format!("10.0.0.{id}:2380")],
            api: vec![format!("10.0.0.{id}:6443")],
            version: "0.1.0".to_owned(),
            certificate_expires: Some(datetime!(2027-02-18 12:00 UTC)),
            ..MemberRecord::new(MemberId(id), name, datetime!(2026-11-20 12:00 UTC))
        }
    }

    fn raft() -> Status {
        let beat = Beat { applied: 90, last: 100, last_term: 2, revision: 40, ..Beat::default() };
        let heard = PeerStatus { beat: Some(beat), heard_ticks: 4, ..PeerStatus::default() };
        let silent = PeerStatus { heard_ticks: 100, ..heard };
        let never = PeerStatus { heard_ticks: u32::MAX, ..PeerStatus::default() };
        Status {
            node_id: 1,
            role: Role::Leader,
            leader: Some(1),
            term: 3,
            commit: 100,
            applied: 100,
            last: 101,
            last_term: 3,
            voters: vec![1, 2, 3],
            learners: vec![4],
            peers: [(2, heard), (3, silent), (4, never)].into(),
            ..Status::default()
        }
    }

    fn look(raft: &Status, removed: bool) -> ClusterStatus {
        let records = [record(1, "a"), record(2, "b"), record(3, "c"), record(5, "e")];
        let report = NodeReportStatus {
            revision: 39,
            state: EnforcementState::Enforcing,
            ..NodeReportStatus::default()
        };
        let sight = Sight {
            cluster: "c0ffee",
            own: MemberId(1),
            raft,
            tick: Duration::from_millis(100),
            revision: 42,
            records: &records,
            reports: &[("b".to_owned(), report)].into(),
            replace_after: Some(Duration::from_secs(600)),
            removed,
            alarms: vec!["the disk is slow".to_owned()],
            links: &links(),
        };
        sight.status()
    }

    /// One that is spoken to, one that is away, and one that is somebody else's now.
    fn links() -> BTreeMap<u64, PeerConnections> {
        let away = OutboundState::Dialling { failure: Some("at 10.0.0.3:2380: timed out".to_owned()) };
        let refused = OutboundState::Refused { reason: "at 10.0.0.5:2380: another cluster".to_owned() };
        let there = OutboundState::Connected { address: "10.0.0.2:2380".to_owned() };
        let link = |outbound| PeerConnections {
            outbound,
            inbound: false,
            queued: 0,
            queued_bytes: 0,
            sent: 0,
            sent_bytes: 0,
            received: 0,
            dropped: 0,
            clock_offset_ms: None,
        };
        [(2, there), (3, away), (5, refused)].map(|(id, outbound)| (id, link(outbound))).into()
    }

    #[test]
    fn every_member_is_told_with_what_is_known_of_it() {
        let status = look(&raft(), false);
        assert!(status.quorum && status.leader == Some(MemberId(1)));
        let lines: Vec<_> = status
            .members
            .iter()
            .map(|member| (member.id.0, member.role, member.reachable, member.last_contact_ms, member.lag))
            .collect();
        assert_eq!(
            lines,
            [
                (4, Part::Learner, false, None, None),
                (1, Part::Voter, true, Some(0), Some(0)),
                (2, Part::Voter, true, Some(400), Some(10)),
                (3, Part::Voter, false, Some(10_000), Some(10)),
                (5, Part::Joining, false, None, None),
            ]
        );
        let b = &status.members[2];
        assert_eq!((b.enforced_revision, b.revision), (Some(39), Some(40)));
        let failures: Vec<_> = status.members.iter().map(|member| member.failure.as_deref()).collect();
        let away = "at 10.0.0.3:2380: timed out";
        let refused = "at 10.0.0.5:2380: another cluster";
        assert_eq!(failures, [None, None, None, Some(away), Some(refused)]);
        let refuses = format!("no connection to member 0000000000000005 (e) {refused}");
        assert_eq!(status.alarms, ["the disk is slow", &refuses], "who is away is no alarm of this kind");
    }

    #[test]
    fn it_is_written_as_the_contract_says() {
        let text = serde_json::to_value(look(&raft(), false)).expect("JSON");
        assert_eq!(text["members"][2]["certificateExpires"], "2027-02-18T12:00:00Z");
        assert_eq!(text["members"][2]["role"], "voter");
        assert_eq!(text["members"][2]["enforcement"], "Enforcing");
        assert_eq!(text["autopilot"]["replaceAfterSeconds"], 600);
        assert_eq!(text["node"], "0000000000000001");
    }

    #[test]
    fn without_a_quorum_and_when_removed_it_says_so() {
        let lost = look(&Status { leader: None, quorum_contact: 500, ..raft() }, false);
        assert!(!lost.quorum);
        let removed = look(&raft(), true);
        assert!(!removed.quorum && removed.leader.is_none());
        assert_eq!(
            (lost.alarms, removed.alarms.len()),
            (look(&raft(), false).alarms, 1),
            "said once, and of others only by who speaks with them"
        );
        assert_eq!(removed.members.iter().find(|member| member.id.0 == 1).expect("own").role, Part::Removed);
    }
}
