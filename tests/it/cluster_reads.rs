//! What every node promises its clients: fresh reads with a quorum, local ones without, refusals that say when to come
//! back; one effect of a request however often it is sent; watches that go on at any other node.

use std::thread;

use appliance_tests::api::{Answer, Api};
use appliance_tests::cluster::Cluster;
use appliance_tests::dice::seed;
use appliance_tests::eventually::eventually;
use appliance_tests::sets::SETS;
use serde_json::{Value, json};

fn set(name: &str, content: u32) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
        "metadata": {"name": name, "annotations": {"content": content.to_string()}}
    })
}

fn api(cluster: &Cluster, number: usize) -> Api {
    Api::new(cluster.nodes[number].socket())
}

fn created(api: &Api, name: &str) -> Answer {
    let answer = api.ask("POST", SETS, Some(&set(name, 1))).expect("an answer");
    assert_eq!(answer.status, 201, "{answer:?}");
    answer
}

fn version(answer: &Answer) -> &str {
    answer.body["metadata"]["resourceVersion"].as_str().expect("a version")
}

#[test]
fn without_a_quorum_local_reads_are_served_and_everything_else_says_when_to_come_back() {
    let mut cluster = Cluster::form(3, seed());
    let _ = created(&api(&cluster, 0), "before");
    cluster.wait_healthy();
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let left = api(&cluster, 0);
    let linearizable = || left.ask("GET", &format!("{SETS}/before"), None).expect("an answer");
    let read = eventually("reads to be refused", linearizable, |answer| answer.status != 200);
    assert_eq!((read.status, read.retry_after.is_some()), (503, true), "{read:?}");
    let write = left.ask("POST", SETS, Some(&set("after", 1))).expect("an answer");
    assert_eq!((write.status, write.retry_after.is_some()), (503, true), "{write:?}");
    for path in [format!("{SETS}?resourceVersion=0"), format!("{SETS}/before?resourceVersion=0")] {
        let local = left.ask("GET", &path, None).expect("an answer");
        assert!(local.status == 200 && local.body.to_string().contains("before"), "{path}: {local:?}");
    }
    let status = cluster.status(0).expect("a status without quorum");
    assert_eq!(status["quorum"], false, "{status}");
    cluster.nodes[1].spawn();
    let _ = cluster.wait_leader(&[0, 1]);
    let read = left.ask("GET", &format!("{SETS}/after"), None).expect("an answer");
    assert_eq!(read.status, 404, "what was refused was not done: {read:?}");
    let _ = created(&left, "after");
}

#[test]
fn a_request_sent_again_through_an_election_has_one_effect_and_one_answer() {
    let mut cluster = Cluster::form(3, seed());
    for round in 0..3 {
        let leader = cluster.wait_leader(&cluster.running());
        let followers = cluster.others(&[leader]);
        let id = [("appliance-request", format!("{:032x}", 0xabc0 + round))];
        let headers: Vec<(&str, &str)> = id.iter().map(|(name, id)| (*name, id.as_str())).collect();
        let name = format!("once-{round}");
        let ask =
            |number: usize| api(&cluster, number).ask_with("POST", SETS, &headers, Some(&set(&name, 7)));
        // Its answer may be lost with the leader; whatever became of it, the next attempts must find the same.
        thread::scope(|scope| {
            let asked = scope.spawn(|| ask(leader));
            cluster.nodes[leader].signal(rustix::process::Signal::STOP);
            let _ = cluster.wait_leader(&followers);
            let first = eventually(
                "an answer",
                || ask(followers[0]).expect("an answer"),
                |answer| answer.status < 500,
            );
            let second = ask(followers[1]).expect("an answer");
            assert_eq!((first.status, second.status), (201, 201), "{first:?}\n{second:?}");
            assert_eq!(version(&first), version(&second));
            cluster.nodes[leader].signal(rustix::process::Signal::CONT);
            if let Ok(Ok(late)) = asked.join() {
                assert!(late.status >= 500 || version(&late) == version(&first), "{late:?}, not {first:?}");
            }
        });
        cluster.restart(leader);
        cluster.wait_healthy();
        let stands = api(&cluster, leader).ask("GET", &format!("{SETS}/{name}"), None).expect("an answer");
        assert_eq!(stands.body["metadata"]["generation"].as_u64().unwrap_or(1), 1, "{stands:?}");
    }
}

#[test]
fn a_watch_goes_on_at_any_other_node_where_it_stopped() {
    let mut cluster = Cluster::form(3, seed());
    let mut at: u64 = version(&created(&api(&cluster, 0), "w-0")).parse().expect("a number");
    for number in 1..9_usize {
        let node = number % 3;
        // Written at one node, seen at the next, from where the last one stopped.
        let wrote: u64 = version(&created(&api(&cluster, (number + 1) % 3), &format!("w-{number}")))
            .parse()
            .expect("a number");
        let path = format!("{SETS}?watch=1&resourceVersion={at}");
        let mut events = eventually("a watch", || api(&cluster, node).watch(&path).ok(), Option::is_some)
            .expect("a watch");
        let event = events.next_event().expect("an event");
        let seen = event["object"]["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        assert_eq!(
            (event["type"].as_str(), seen),
            (Some("ADDED"), Some(wrote)),
            "at node {node} after {at}: {event}"
        );
        at = wrote;
        if number == 4 {
            let leader = cluster.wait_leader(&[0, 1, 2]);
            cluster.restart(leader);
            cluster.wait_healthy();
        }
    }
}

#[test]
fn what_one_node_acknowledged_every_node_reads_at_once() {
    let cluster = Cluster::form(3, seed());
    for number in 0..12_usize {
        let name = format!("fresh-{number}");
        let wrote = created(&api(&cluster, number % 3), &name);
        for reader in 0..3 {
            let read = api(&cluster, reader).ask("GET", &format!("{SETS}/{name}"), None).expect("an answer");
            assert_eq!((read.status, version(&read)), (200, version(&wrote)), "node {reader}: {read:?}");
        }
    }
}
