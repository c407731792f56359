//! A voter that is lost for good is replaced by a learner that has caught up: after a while, never below three voters,
//! never when the cluster could not spare another one, and not at all where the operator has switched it off.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use appliance_tests::api::Api;
use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::dice::seed;
use appliance_tests::sets::SETS;
use serde_json::{Value, json};

/// What the nodes are told: a voter that is silent for so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// Silence is counted in heartbeats, from the last one that was heard.
const HEARTBEATS: Duration = Duration::from_millis(300);

/// Long enough for a change that must not come to have come.
const WATCHED: Duration = Duration::from_millis(3_500);

const PAUSE: Duration = Duration::from_millis(50);

/// Every member's role by its name, as this node knows it.
type Roles = BTreeMap<String, String>;

fn roles(cluster: &Cluster, observer: usize) -> Option<Roles> {
    let status = cluster.status(observer)?;
    let members = status["members"].as_array()?.iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(members.map(|member| (text(&member["name"]), text(&member["role"]))).collect())
}

fn expected(voters: &[usize], learners: &[usize]) -> Roles {
    let of = |numbers: &[usize], role: &str| -> Vec<(String, String)> {
        numbers.iter().map(|number| (name(*number), role.to_owned())).collect()
    };
    [of(voters, "voter"), of(learners, "learner")].concat().into_iter().collect()
}

/// Watches the members until they are so, and demands of every moment of it that three vote at least.
fn become_so(cluster: &Cluster, observer: usize, voters: &[usize], learners: &[usize]) {
    let wanted = expected(voters, learners);
    let ask = || {
        let roles = roles(cluster, observer);
        if let Some(roles) = &roles {
            let voting = roles.values().filter(|role| *role == "voter").count();
            assert!(voting >= 3, "below three voters: {roles:?}");
        }
        roles
    };
    let _ = cluster
        .eventually(&format!("the members to be {wanted:?}"), ask, |roles| roles.as_ref() == Some(&wanted));
}

/// Demands that the members are so, and stay so.
fn stay_so(cluster: &Cluster, observer: usize, voters: &[usize], learners: &[usize]) {
    let wanted = expected(voters, learners);
    let since = Instant::now();
    while since.elapsed() < WATCHED {
        if let Some(roles) = roles(cluster, observer) {
            assert_eq!(roles, wanted, "changed after {:?}", since.elapsed());
        }
        thread::sleep(PAUSE);
    }
    assert_eq!(roles(cluster, observer).as_ref(), Some(&wanted));
}

/// The cluster takes a write, at this member.
fn write(cluster: &Cluster, at: usize, set: &str) {
    let object =
        json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet", "metadata": {"name": set}});
    let answer = Api::new(cluster.nodes[at].socket()).ask("POST", SETS, Some(&object)).expect("an answer");
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[test]
fn a_lost_voter_is_replaced_by_a_learner_after_a_while_and_never_when_it_should_not() {
    let arguments = vec!["--replace-lost-voters-after".to_owned(), format!("{}s", LOST_AFTER.as_secs())];
    let mut cluster = Cluster::form_with(3, Options { seed: seed(), arguments, ..Options::default() });
    let leader = cluster.wait_leader(&[0, 1, 2]);
    let [first, second] = cluster.others(&[leader])[..] else { panic!("two followers") };

    // Nobody could take its place: it stays a voter, for two would be fewer than three.
    cluster.nodes[first].kill();
    stay_so(&cluster, leader, &[0, 1, 2], &[]);
    let fourth = cluster.add_host();
    cluster.begin_join(fourth, leader);
    become_so(&cluster, leader, &[leader, second, fourth], &[first]);
    write(&cluster, fourth, "with-the-fourth");

    // It was only away: there is room for its vote.
    cluster.nodes[first].spawn();
    become_so(&cluster, leader, &[leader, second, fourth, first], &[]);
    cluster.wait_healthy();

    a_replacement_takes_its_time(&mut cluster, [first, second, fourth]);
    two_too_many_are_lost(&mut cluster);
    and_it_can_be_switched_off(&mut cluster);
}

/// A learner that is there soon waits until the voter counts as lost.
fn a_replacement_takes_its_time(cluster: &mut Cluster, may_go: [usize; 3]) {
    let leader = cluster.wait_leader(&cluster.running());
    let lost = may_go.into_iter().find(|number| *number != leader).expect("a follower");
    let rest = cluster.others(&[lost]);
    let token = cluster.token(leader, &[]);
    let fifth = cluster.add_host();
    let since = Instant::now();
    cluster.nodes[lost].kill();
    // Else the newcomer finds five voters that are well, as far as anybody knows, and is one of them.
    let silent = || cluster.member_seen_by(leader, lost).map(|member| member["reachable"] == false);
    let _ = cluster.eventually("it to be silent", silent, |silent| *silent == Some(true));
    cluster.begin_join_with(fifth, leader, &token);
    become_so(cluster, leader, &[&rest[..], &[fifth]].concat(), &[lost]);
    let waited = since.elapsed();
    assert!(waited + HEARTBEATS >= LOST_AFTER, "it was given up after {waited:?}");
    write(cluster, fifth, "with-the-fifth");
}

/// With a quorum gone nothing is replaced, whoever is there to take a place; with the quorum back, it is.
fn two_too_many_are_lost(cluster: &mut Cluster) {
    let leader = cluster.wait_leader(&cluster.running());
    let learner = *cluster.others(&cluster.running()).first().expect("the one that was replaced");
    let voters = cluster.running();
    let [back, gone] = cluster.others(&[leader, learner])[1..] else { panic!("four voters") };
    cluster.nodes[back].kill();
    cluster.nodes[gone].kill();
    // Before it knows, the leader has no reason not to let the learner vote.
    let quorum = || cluster.status(leader).map(|status| status["quorum"].clone());
    let _ = cluster
        .eventually("two of four to be no quorum", quorum, |quorum| *quorum == Some(Value::Bool(false)));
    cluster.nodes[learner].spawn();
    stay_so(cluster, leader, &voters, &[learner]);

    cluster.nodes[back].spawn();
    become_so(cluster, leader, &cluster.others(&[gone]), &[gone]);
    cluster.wait_healthy();
    write(cluster, learner, "with-a-quorum-again");
}

/// Switched off, a learner is one voter more, and the lost one stays one.
fn and_it_can_be_switched_off(cluster: &mut Cluster) {
    let away = *cluster.others(&cluster.running()).first().expect("the one that is lost");
    for number in cluster.others(&[away]) {
        cluster.nodes[number].set_argument("--replace-lost-voters-after", "off");
        cluster.restart(number);
        cluster.wait_healthy();
    }
    let leader = cluster.wait_leader(&cluster.running());
    let status = cluster.status(leader).expect("a status");
    assert!(status["autopilot"]["replaceAfterSeconds"].is_null(), "{status}");
    let lost = cluster.others(&[leader, away])[0];
    cluster.nodes[lost].kill();
    cluster.nodes[away].set_argument("--replace-lost-voters-after", "off");
    cluster.nodes[away].spawn();
    become_so(cluster, leader, &cluster.others(&[]), &[]);
    stay_so(cluster, leader, &cluster.others(&[]), &[]);
    write(cluster, away, "with-it-off");
}
