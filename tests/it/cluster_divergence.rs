//! A member whose data is not what was agreed on is found by its peers' hashes, named, serves nothing any more, and is one
//! of them again by itself, with a fresh copy; the host it polices never opens.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use appliance_tests::api::{Answer, Api};
use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::dice::seed;
use appliance_tests::eventually::eventually_true;
use appliance_tests::netem::Link;
use appliance_tests::over::Over;
use appliance_tests::packets::{self, Listeners};
use appliance_tests::sets::SETS;
use serde_json::{Value, json};

use crate::cluster_policy::{CLOSED, OPEN, answers_during, endpoints};

/// The member that makes the mistake.
const ODD: usize = 2;

/// What consensus says when it stops for it, on that member.
const STOPPED: &str = "this member's data differs from its peers'";

/// What a member logs that was given the whole state instead of the log.
const SNAPSHOT_CAME: &str = "received a snapshot of";

/// A cluster of three, one of which will apply one write otherwise than the others. It polices its hosts, and its logs
/// are so short that a fresh copy is a snapshot.
fn planted() -> Cluster {
    let arguments = ["--checkpoint-entries", "20", "--retained-entries", "5"].map(str::to_owned).to_vec();
    let mut cluster =
        Cluster::form_with(3, Options { seed: seed(), enforce: true, arguments, ..Options::default() });
    cluster.nodes[ODD].set_environment("APPLIANCE_PLANTED_BUG", "diverged");
    cluster.restart(ODD);
    let _ = cluster.nodes[ODD].logged("it makes a mistake on purpose");
    cluster.wait_healthy();
    cluster
}

/// How long packets between members take from when it is to differ: so that it is without its fresh copy for long enough
/// to be asked, and seen by the others, meanwhile.
const WAY: Duration = Duration::from_millis(40);

fn ask_for_truth(api: &Api) -> Option<Answer> {
    api.ask("GET", &format!("{SETS}/diverge-me"), None).ok()
}

/// What a node answers to a linearizable read of the one object; nothing when it serves none.
fn truth(api: &Api) -> Option<String> {
    ask_for_truth(api).filter(|answer| answer.status == 200).map(|answer| truth_in(&answer))
}

fn truth_in(answer: &Answer) -> String {
    answer.body["metadata"]["annotations"]["truth"].to_string()
}

/// Reads at the odd one for as long as `until` is not set; everything that it answered after it had said that it stops.
fn answered_after_it_stopped(cluster: &Cluster, until: &AtomicBool) -> Vec<Answer> {
    let api = Api::new(cluster.nodes[ODD].socket());
    let mut answers = Vec::new();
    while !until.load(Ordering::Relaxed) {
        // In this order: it may stop between the two.
        let stopped = cluster.nodes[ODD].log().contains(STOPPED);
        answers.extend(ask_for_truth(&api).filter(|_| stopped));
    }
    answers
}

/// Demands that it served nothing that it knew to be wrong, and told its clients why and when to come back.
fn it_told_its_clients(answers: &[Answer]) {
    let served = answers.iter().filter(|answer| answer.status == 200);
    let wrong: Vec<String> = served.map(truth_in).filter(|truth| truth != "\"agreed\"").collect();
    assert!(wrong.is_empty(), "it served what it knew to be wrong: {wrong:?}");
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(
        refused.iter().all(|answer| answer.status == 503 && answer.retry_after.is_some()),
        "it answered neither what was agreed on nor 503: {refused:?}"
    );
    let why = |answer: &&Answer| answer.body["message"].to_string().contains("waits for a fresh copy");
    assert!(refused.iter().any(why), "it never said why it serves nothing: {refused:?}");
}

/// Waits until the others show this member as one whose data differs, which they do until it is replaced: to programs and
/// to people.
fn wait_named(cluster: &Cluster, id: &Value) {
    let id = id.as_str().expect("an id");
    let shown = || {
        let printed = cluster.ctl(0, &["cluster", "status"]).out;
        let status = cluster.status(0)?;
        let members = status["members"].as_array()?;
        let member = members.iter().find(|member| member["id"] == id)?;
        Some((member["diverged"].clone(), status["alarms"].to_string(), printed))
    };
    let named = |shown: &Option<(Value, String, String)>| {
        let Some((diverged, alarms, printed)) = shown else { return false };
        let alarm = format!("the data of member {id} ({}) differs", name(ODD));
        let row = |line: &str| line.starts_with(&name(ODD)) && line.contains("DIVERGED");
        *diverged == true && alarms.contains(&alarm) && printed.contains(&alarm) && printed.lines().any(row)
    };
    let _ = cluster.eventually("the others to name it", shown, named);
}

/// Writes what makes the odd one differ, and waits until it is one of them again.
fn diverge_and_mend(cluster: &Cluster, before: &Value) {
    let snapshots = || cluster.nodes[ODD].log().matches(SNAPSHOT_CAME).count();
    let had = snapshots();
    cluster.links(Link { delay: WAY, ..Link::default() });
    let set = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
        "metadata": {"name": "diverge-me", "annotations": {"truth": "agreed"}}, "spec": {}
    });
    let created = Api::new(cluster.nodes[0].socket()).ask("POST", SETS, Some(&set)).expect("an answer");
    assert_eq!(created.status, 201, "{created:?}");
    wait_named(cluster, before);
    let id = before.as_str().expect("an id");
    let named = cluster.nodes[ODD].logged("a fresh copy is fetched from them");
    assert!(named.contains("its history is not that of"), "{named}");
    for other in cluster.others(&[ODD]) {
        let _ = cluster.nodes[other].logged(&format!("member {id} says that its data differs"));
    }
    let seen = || cluster.member_seen_by(0, ODD).map(|member| (member["id"].clone(), member["role"].clone()));
    let _ = cluster.eventually("another member of the same name to vote", seen, |seen| {
        seen.as_ref().is_some_and(|(id, role)| id != before && *role == "voter")
    });
    cluster.network.heal();
    assert!(snapshots() > had, "it is one of them again, and no snapshot came");
}

fn plays(leads: bool) {
    let cluster = planted();
    let leader = if leads { ODD } else { 0 };
    let lead = || {
        let _ = cluster.ctl(0, &["leader", "transfer", &name(leader)]);
        cluster.leader_according_to(&[0, 1, 2])
    };
    let _ = cluster.eventually("the right one to lead", lead, |now| *now == Some(leader));
    let stranger = cluster.network.host(99);
    let _listeners = Listeners::new(&cluster.hosts[ODD].namespace, &[CLOSED, OPEN]);
    let host = IpAddr::V4(cluster.hosts[ODD].ipv4);
    assert!(packets::udp(&stranger.namespace, host, CLOSED), "open before policy");
    let _ = cluster.nodes[0].ctl_with(&["apply", "-f", "-"], &endpoints(3)).success();
    eventually_true("the host to be closed", || !packets::udp(&stranger.namespace, host, CLOSED));

    let before = cluster.member_seen_by(0, ODD).expect("a member")["id"].clone();
    let over = AtomicBool::new(false);
    let (sent, answered) = answers_during(&stranger, &[host], || {
        let answers = thread::scope(|scope| {
            let reader = scope.spawn(|| answered_after_it_stopped(&cluster, &over));
            let given_up = Over(&over);
            diverge_and_mend(&cluster, &before);
            drop(given_up);
            reader.join().expect("the reader")
        });
        it_told_its_clients(&answers);
    });
    assert!(sent > 100, "only {sent} datagrams were sent: that proves nothing");
    assert_eq!(answered, 0, "the host opened, for {answered} of {sent} datagrams");

    cluster.wait_healthy();
    for number in 0..3 {
        let answer = || truth(&Api::new(cluster.nodes[number].socket()));
        let _ = cluster.eventually("what was agreed on", answer, Option::is_some);
        assert_eq!(answer().as_deref(), Some("\"agreed\""), "at {}", name(number));
    }
    cluster.wait_same_history();
    let status = cluster.status(0).expect("a status");
    assert_eq!(
        (status["members"].as_array().map(Vec::len), &status["alarms"]),
        (Some(3), &json!([])),
        "{status}"
    );
}

#[test]
fn a_follower_that_diverges_is_named_serves_no_more_and_begins_again_with_a_snapshot() {
    plays(false);
}

#[test]
fn a_leader_that_diverges_is_named_serves_no_more_and_begins_again_with_a_snapshot() {
    plays(true);
}
