//! What goes wrong between `ctl` and a node, and what the operator reads then.

use std::time::Duration;

use appliance_resources::Kind;
use serde_json::json;

use super::*;

#[test]
fn a_missing_node_is_told_with_what_to_try() {
    let seen = ctl(&["calicoctl", "get", "hep", "--socket", "/nonexistent/appliance.sock"], "");
    assert_eq!((seen.status, seen.out.as_str()), (1, ""));
    assert!(
        seen.err.contains("/nonexistent/appliance.sock") && seen.err.contains("is the node running?"),
        "{seen:?}"
    );
    assert_eq!(seen.err.lines().count(), 1);
    let two = documents(&[HEP1, HEP2]);
    let seen = ctl(&["calicoctl", "apply", "-f", "-", "--socket", "/nonexistent/appliance.sock"], &two);
    assert_eq!(seen.err.lines().count(), 1, "the second object would fare no better: {seen:?}");
}

#[test]
fn a_node_that_says_later_is_asked_again_a_bounded_number_of_times() {
    let lab = Lab::new();
    lab.api.state().busy = 4;
    assert_eq!(lab.ctl("create -f -", HEP1).status, 0);
    lab.api.state().busy = 100;
    lab.api.state().requests.clear();
    let failed = lab.ctl("get hep", "");
    assert_eq!(
        (failed.status, failed.err.as_str()),
        (
            1,
            "the node can not serve this now: no leader elected; `appliance ctl cluster status` says what is missing\n"
        )
    );
    assert_eq!(lab.api.state().requests.len(), 5);
}

#[test]
fn an_unknown_outcome_is_called_unknown_and_not_repeated() {
    let lab = Lab::new();
    lab.api.state().uncertain = true;
    let failed = lab.ctl("create -f -", HEP1);
    assert_eq!(failed.status, 1);
    assert!(failed.err.contains("the outcome is unknown"), "{failed:?}");
    lab.api.state().hang_up = true;
    lab.api.state().requests.clear();
    let failed = lab.ctl("create -f -", HEP1);
    assert!(failed.status == 1 && failed.err.contains("may or may not have been made"), "{failed:?}");
    let posts = lab.api.state().requests.iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(posts, 1);
}

#[test]
fn an_update_that_lost_a_race_is_worked_out_again() {
    let lab = Lab::with(&[HEP1]);
    lab.api.state().meddle = 2;
    assert_eq!(lab.ctl("apply -f -", HEP1B).status, 0);
    assert_eq!(lab.stored("hep endpoint1")["spec"]["node"], "host2");
    lab.api.state().meddle = 100;
    let failed = lab.ctl("apply -f -", HEP1);
    assert_eq!(failed.status, 1);
    assert!(failed.err.contains("HostEndpoint(endpoint1) is contended"), "{failed:?}");
}

fn report(revision: u64) -> serde_json::Value {
    json!({"kind": "NodeReport", "apiVersion": "appliance/v1", "metadata": {"name": "n1"},
           "status": {"revision": revision, "state": "Enforcing"}})
}

#[test]
fn wait_returns_when_every_node_has_the_revision() {
    let lab = Lab::new();
    let api = lab.api.clone();
    api.state().put(Kind::NodeReport, report(0));
    let node = std::thread::spawn(move || {
        // The node enforces the endpoint as soon as it is stored.
        loop {
            let mut state = api.state();
            let key = (Kind::HostEndpoint, String::new(), "endpoint1".to_string());
            if let Some(object) = state.objects.get(&key) {
                let revision = crate::object::version(object).parse().unwrap();
                state.put(Kind::NodeReport, report(revision));
                return;
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(lab.ctl("create -f - --wait", HEP1).status, 0);
    node.join().unwrap();
    let late = lab.ctl("create -f - --wait --timeout 0", HEP2);
    assert_eq!(late.status, 1);
    assert!(late.err.contains("not yet enforced after 0 s by n1 (Enforcing at revision"), "{late:?}");
    let late = lab.ctl("delete hep endpoint2 --wait --timeout 0", "");
    assert_eq!(late.status, 1);
    assert!(late.err.contains("not yet enforced after 0 s by n1"), "{late:?}");
}
