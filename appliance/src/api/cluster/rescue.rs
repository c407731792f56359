//! `POST /cluster/recover` and `POST /cluster/reseed`: a member begins again, without the others or from them. Both leave
//! a wish in the data directory and restart the node, which carries it out before it opens anything.

use appliance_consensus::Status as RaftStatus;
use appliance_resources::Reason;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{decode, refusal};
use crate::api::call::Call;
use crate::api::respond::{self, Refusal};
use crate::api::{Answer, Api};
use crate::cluster::{recover, reseed};

/// A survivor goes on alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recover {
    /// The cluster's id, typed as a confirmation.
    #[serde(default)]
    cluster: String,
    /// Although as many voters answer as a quorum takes.
    #[serde(default)]
    force: bool,
}

fn conflict(message: impl Into<String>) -> Refusal {
    refusal(409, Some(Reason::Conflict), message)
}

/// Makes a new cluster of this member alone, with what it has.
pub(super) fn recover(api: &Api, call: &Call<'_>, body: &Bytes) -> Answer {
    let cluster = api.cluster();
    let wanted: Recover = decode(body)?;
    if wanted.cluster != cluster.cluster_id {
        return Err(conflict(format!(
            "to confirm, say the cluster's id: this member is of cluster {}, the request says {:?}",
            cluster.cluster_id, wanted.cluster
        )));
    }
    lost(&cluster.records.raft().status(), cluster.member.0, wanted.force).map_err(conflict)?;
    wish(recover::ask(&cluster.settings.data_dir))?;
    let by = format!("{} at {}", call.caller.name(), call.caller.address);
    cluster.restart.request(format!("this member goes on without the others, as {by} wants"));
    accepted("this member restarts as the only member of a new cluster with the data it has")
}

/// Drops this member's copy and fetches a fresh one.
pub(super) fn reseed(api: &Api, call: &Call<'_>) -> Answer {
    let cluster = api.cluster();
    if cluster.settings.removed {
        return Err(conflict(
            "this node was removed from the cluster; move all but dataplane/ out of its data directory and join again",
        ));
    }
    spare(&cluster.records.raft().status(), cluster.member.0, &cluster.node_name).map_err(conflict)?;
    let reason = format!("asked for by {} at {}", call.caller.name(), call.caller.address);
    wish(reseed::request(&cluster.settings.data_dir, &reason))?;
    cluster.restart.request("this member fetches a fresh copy");
    accepted("this member restarts and fetches a fresh copy from the others; policy stays in force")
}

/// Whether the quorum is lost for as long as it looks. In the seconds of an election there is none either, and whoever
/// goes on alone then splits a cluster that is well.
fn lost(status: &RaftStatus, own: u64, force: bool) -> Result<(), String> {
    if status.has_quorum() {
        return Err(
            "the cluster has a quorum, so nothing needs to be given up; remove members that are lost instead"
                .to_owned(),
        );
    }
    let heard =
        |voters: &[u64]| voters.iter().filter(|voter| **voter == own || lives(status, **voter)).count();
    let suffices = |voters: &[u64]| voters.is_empty() || heard(voters) > voters.len() / 2;
    if force || !(suffices(&status.voters) && suffices(&status.outgoing_voters)) {
        return Ok(());
    }
    Err(format!(
        "{} of {} voters answer, as many as a quorum takes: an election may be under way, so look again in a few seconds; if \
         it stays so, mend the connections between the members, or say --force (in the body \"force\": true) to split them",
        heard(&status.voters),
        status.voters.len()
    ))
}

/// Whether a member gave a sign of life within two elections.
fn lives(status: &RaftStatus, member: u64) -> bool {
    let patience = appliance_consensus::Config::new(1, "").election_ticks;
    let heard = status.peers.get(&member).map_or(u32::MAX, |peer| peer.heard_ticks);
    usize::try_from(heard).unwrap_or(usize::MAX) <= 2 * patience
}

/// Whether the others can do without this member's copy, which will be gone before the new one is there. They must take
/// in a new member while the vote of this one is still counted and no longer cast, so they alone must be a majority of all.
fn spare(status: &RaftStatus, own: u64, name: &str) -> Result<(), String> {
    let others: Vec<u64> = status.voters.iter().copied().filter(|voter| *voter != own).collect();
    if others.is_empty() {
        return Err("this member has the only copy there is; restore a snapshot instead".to_owned());
    }
    let living = others.iter().filter(|voter| lives(status, **voter)).count();
    let needed = status.voters.len() / 2 + 1;
    if others.len() < needed {
        return Err(format!(
            "without this member the others are no majority of the {} voters and could not take its successor in; let it \
             vote no more first, and again when it has its copy: appliance ctl member demote {name}, then this, then \
             appliance ctl member promote {name}",
            status.voters.len()
        ));
    }
    if !status.has_quorum() || living < needed {
        return Err(format!(
            "only {living} of the {} other voters answer, and {needed} must: without them this copy may be the last",
            others.len()
        ));
    }
    Ok(())
}

fn wish(left: std::io::Result<()>) -> Result<(), Refusal> {
    left.map_err(|error| {
        refusal(500, Some(Reason::InternalError), format!("the data directory can not be written: {error}"))
    })
}

fn accepted(message: &str) -> Answer {
    Ok(respond::json(StatusCode::ACCEPTED, &json!({"message": message})))
}

#[cfg(test)]
mod tests {
    use appliance_consensus::PeerStatus;

    use super::*;

    fn status(heard: &[(u64, u32)]) -> RaftStatus {
        let peer = |(id, heard_ticks): &(u64, u32)| {
            (*id, PeerStatus { heard_ticks: *heard_ticks, ..PeerStatus::default() })
        };
        RaftStatus {
            leader: Some(2),
            voters: std::iter::once(1).chain(heard.iter().map(|(id, _)| *id)).collect(),
            peers: heard.iter().map(peer).collect(),
            ..RaftStatus::default()
        }
    }

    #[test]
    fn a_member_goes_on_alone_only_when_too_few_answer_or_somebody_insists() {
        let electing = |heard: &[(u64, u32)]| RaftStatus { leader: None, ..status(heard) };
        assert!(lost(&status(&[(2, 1), (3, 5)]), 1, true).unwrap_err().contains("has a quorum"));
        let election = lost(&electing(&[(2, 1), (3, 500)]), 1, false).unwrap_err();
        assert!(election.starts_with("2 of 3 voters answer") && election.contains("election"), "{election}");
        assert!(lost(&electing(&[(2, 1), (3, 500)]), 1, true).is_ok());
        assert!(lost(&electing(&[(2, 500), (3, u32::MAX)]), 1, false).is_ok());
        let learner = RaftStatus { voters: vec![2, 3, 4], ..electing(&[(2, 1), (3, 500), (4, 500)]) };
        assert!(lost(&learner, 1, false).is_ok(), "it does not vote itself");
        let joint = RaftStatus { outgoing_voters: vec![1, 7, 8], ..electing(&[(2, 1), (3, 1)]) };
        assert!(lost(&joint, 1, false).is_ok(), "both halves of a change must decide");
    }

    #[test]
    fn a_copy_is_given_up_only_while_the_others_can_do_without_it() {
        let spare = |status: &RaftStatus| spare(status, 1, "n1");
        assert!(spare(&status(&[(2, 1), (3, 5)])).is_ok());
        assert!(spare(&status(&[(2, 1), (3, 500)])).unwrap_err().contains("only 1 of the 2"));
        assert!(spare(&status(&[])).unwrap_err().contains("the only copy"));
        let lost = RaftStatus { leader: None, ..status(&[(2, 1), (3, 1)]) };
        assert!(spare(&lost).is_err(), "without a leader nobody can take the new copy in");
    }

    #[test]
    fn the_others_alone_must_be_a_majority_while_the_vote_is_still_counted() {
        let spare = |status: &RaftStatus| spare(status, 1, "n1");
        let two = spare(&status(&[(2, 1)])).unwrap_err();
        assert!(two.contains("no majority of the 2 voters") && two.contains("member demote n1"), "{two}");
        assert!(spare(&status(&[(2, 1), (3, 1), (4, 500)])).unwrap_err().contains("and 3 must"));
        assert!(spare(&status(&[(2, 1), (3, 1), (4, 1)])).is_ok());
        assert!(spare(&status(&[(2, 1), (3, 1), (4, 1), (5, 500)])).is_ok());
        // A learner's vote is not counted.
        let learner = RaftStatus { voters: vec![2], ..status(&[(2, 1)]) };
        assert!(spare(&learner).is_ok());
    }
}
