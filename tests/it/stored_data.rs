//! Data that admission would refuse but that a store may hold: from an older version, or put there by hand.
//!
//! It is written beneath the API, through raft and the store themselves, while the node is stopped.

use std::fs;

use appliance_consensus::{Config, Origin};
use appliance_storage::{Author, ClusterId, Command, Op, Store, StoreOptions};
use appliance_tests::node::Node;
use serde_json::Value;

use crate::world::{BARE, World};

/// Puts one record into a stopped node's store.
fn put(node: &Node, key: &str, value: &str) {
    let identity = fs::read_to_string(node.data_dir().join("identity.json")).expect("read the identity");
    let identity: Value = serde_json::from_str(&identity).expect("the identity is JSON");
    let cluster = identity["clusterId"].as_str().expect("a cluster id");
    let cluster = ClusterId(u128::from_str_radix(cluster, 16).expect("a hexadecimal id").to_be_bytes());
    let options = StoreOptions { cluster: Some(cluster), ..StoreOptions::default() };
    let store = Store::open(&node.data_dir().join("store"), options).expect("open the store");
    let node_id = identity["memberId"].as_str().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let node_id = node_id.expect("a member id of hexadecimal digits");
    let raft = appliance_consensus::start(
        Config::new(node_id, node.data_dir()),
        store,
        Origin::Founder,
        Box::new(drop),
    )
    .expect("start raft");
    let command = Command::Txn {
        author: Author { name: "test".into(), reason: "beneath the API".into(), ..Author::default() },
        compare: vec![],
        then: vec![Op::Put { key: key.into(), value: value.as_bytes().to_vec() }],
        otherwise: vec![],
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        raft.wait_status(|status| status.leader == Some(status.node_id)).await.expect("a leader");
        raft.propose(command.encode()).await.expect("propose");
        raft.stop().await;
    });
}

#[test]
fn an_invalid_endpoint_is_logged_with_its_cause_and_treated_as_missing() {
    let mut world = World::enforcing(BARE);
    assert!(!world.reaches(8055));
    world.node.stop();
    let path = "/calico/resources/v3/projectcalico.org/hostendpoints";
    put(
        &world.node,
        &format!("{path}/eth0"),
        r#"{"apiVersion":"projectcalico.org/v3","kind":"HostEndpoint","metadata":{"name":"eth0","labels":{"foo":"bar"}},
            "spec":{"node":"h1","profiles":["prof1"]}}"#,
    );
    put(&world.node, &format!("{path}/aaa"), "this is not even JSON");
    world.node.run();
    let line = world.node.logged("Validation failed for HostEndpoint eth0");
    assert!(line.contains("WARN") && line.contains("treating as missing"), "{line}");
    assert!(line.contains("at least one of interfaceName or expectedIPs must be specified"), "{line}");
    world.node.wait_enforced();
    assert!(!world.reaches(8055) && world.reaches(22), "the valid endpoint is enforced all the same");
    let report = world.node.report();
    assert!(report["status"]["refusals"].to_string().contains("eth0"), "{report:#}");
}
