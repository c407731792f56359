//! What is left when a cluster is gone: a snapshot file, or one member. Either becomes a cluster again, with every record
//! and under another name, and no client can take the one for the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use appliance_tests::api::Api;
use appliance_tests::cluster::Cluster;
use appliance_tests::ctl::{self, Printed};
use appliance_tests::dice::seed;
use appliance_tests::eventually::eventually;
use appliance_tests::netns::{Host, Lan};
use appliance_tests::node::Node;
use appliance_tests::prerequisites;
use appliance_tests::sets::{SETS, revision};
use serde_json::{Value, json};

use crate::writers::object;

/// How far a restored revision is above the snapshot's.
const JUMP: u64 = 1_000_000_000;

fn create(api: &Api, name: &str, content: u64) -> u64 {
    let answer = api.ask("POST", SETS, Some(&object(name, None, content))).expect("an answer");
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    revision(&answer.body)
}

fn list(api: &Api) -> Value {
    api.ask("GET", SETS, None).expect("a list").body
}

fn offline(arguments: &[&str]) -> Printed {
    let mut command = Command::new(prerequisites::appliance());
    command.arg("ctl").arg("snapshot").args(arguments);
    ctl::run(&mut command, "")
}

fn restore(file: &Path, data_dir: &Path, more: &[&str]) -> Printed {
    let (file, data_dir) = (file.display().to_string(), data_dir.display().to_string());
    offline(&[&["restore", &file, "--data-dir", &data_dir, "-o", "json"], more].concat())
}

fn json(printed: Printed) -> Value {
    serde_json::from_str(&printed.success()).expect("JSON")
}

fn cluster(node: &Node) -> String {
    let text = fs::read_to_string(node.data_dir().join("identity.json")).expect("the identity");
    let identity: Value = serde_json::from_str(&text).expect("JSON");
    identity["clusterId"].as_str().expect("a cluster").to_owned()
}

/// Two clients' kubeconfigs, with a certificate and with a bearer token, and where they are used.
struct Clients {
    folder: tempfile::TempDir,
}

impl Clients {
    fn of(node: &Node) -> Clients {
        let clients = Clients { folder: tempfile::tempdir().expect("a directory") };
        for (name, more) in [("certificate", None), ("token", Some("--token"))] {
            let file = clients.folder.path().join(name).display().to_string();
            let words = ["kubeconfig", "--role", "viewer", "-o", &file].into_iter().chain(more);
            let _ = node.ctl(&words.collect::<Vec<_>>()).success();
        }
        clients
    }

    /// What `ctl get` says to each of them.
    fn ask(&self, from: &Host) -> [Printed; 2] {
        ["certificate", "token"].map(|name| self.ask_with(name, from, &[]))
    }

    fn ask_with(&self, name: &str, from: &Host, more: &[&str]) -> Printed {
        let mut command = from.namespace.command(&prerequisites::appliance().display().to_string());
        command.arg("ctl").arg("--kubeconfig").arg(self.folder.path().join(name)).args(more);
        ctl::run(command.args(["get", "globalnetworksets", "-o", "name"]), "")
    }
}

/// Waits until the node has written a snapshot of this revision or a later one.
fn snapshot_of(node: &Node, revision: u64) -> PathBuf {
    let newest = || {
        let files = fs::read_dir(node.data_dir().join("snapshots")).ok()?;
        let reaches = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let number = name.strip_suffix(".snap").and_then(|name| name.split_once("-r")?.1.parse().ok());
            number.is_some_and(|number: u64| number >= revision)
        };
        files.filter_map(|file| Some(file.ok()?.path())).find(reaches)
    };
    eventually("a snapshot by itself", newest, Option::is_some).expect("it is there")
}

/// A version of the old cluster is expired in the new one, not misunderstood.
fn expired(api: &Api, version: u64) {
    let path = format!("{SETS}?watch=1&resourceVersion={version}");
    match api.watch(&path) {
        Err(error) => assert!(error.to_string().contains("410"), "{error}"),
        Ok(mut events) => {
            let event = events.next_event().expect("an event");
            assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()), "{event}");
        }
    }
}

#[test]
fn a_file_that_a_node_made_by_itself_becomes_a_cluster_elsewhere() {
    let lan = Lan::new();
    let arguments = ["--no-enforce", "--snapshot-interval", "1s", "--snapshot-keep", "2"];
    let mut node = Node::start_with(&lan.host(2), "h1", &arguments);
    let api = Api::new(node.socket());
    let written = create(&api, "kept", 7);
    let file = snapshot_of(&node, written);
    create(&api, "too-late", 8);
    let before = list(&api);
    node.kill();

    let status = json(offline(&["status", &file.display().to_string(), "-o", "json"]));
    assert_eq!(status["cluster"], cluster(&node).as_str());
    let mut other = Node::prepare(&lan.host(3), "h2", &["--no-enforce"]);
    let restored = json(restore(&file, &other.data_dir(), &["--node-name", "h2"]));
    let number = |value: &Value| value["revision"].as_u64().expect("a number");
    // At least: the clock counts too, for this host can not see what others made of the same file.
    assert!(number(&restored) >= number(&status) + JUMP, "{restored}");
    let again = Node::prepare(&lan.host(4), "h3", &["--no-enforce"]);
    let again = json(restore(&file, &again.data_dir(), &["--node-name", "h3"]));
    assert!(number(&again) >= number(&restored), "{again}");
    assert_eq!(restored["quarantine"], Value::Null);
    assert!(restored["authority"].as_str().is_some_and(|text| text.starts_with("new")), "{restored}");
    other.run();

    assert_ne!(cluster(&other), cluster(&node));
    let api = Api::new(other.socket());
    let after = list(&api);
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("items").iter();
        items.map(|item| item["metadata"]["name"].to_string()).collect()
    };
    assert_eq!((names(&before).len(), names(&after)), (2, vec!["\"kept\"".to_owned()]));
    assert!(revision(&after) > JUMP, "{}", revision(&after));
    for version in [written, revision(&before), revision(&before) + 100] {
        expired(&api, version);
    }
    assert!(create(&api, "after", 9) > revision(&after));
    let information = other.object("clusterinformation", "default");
    assert_eq!(information["spec"]["clusterGUID"], cluster(&other).as_str());
    other.stop();
    other.run();
    assert_eq!(names(&list(&api)).len(), 2);
}

#[test]
fn a_stopped_nodes_directory_is_restored_in_place_and_nobody_elses() {
    let lan = Lan::new();
    let host = lan.host(2);
    let mut node = Node::start_with(&host, "h1", &["--no-enforce", "--snapshot-interval", "1s"]);
    let api = Api::new(node.socket());
    let clients = Clients::of(&node);
    assert!(clients.ask(&host).iter().all(|printed| printed.code == 0), "{:?}", clients.ask(&host));
    let written = create(&api, "kept", 7);
    let file = snapshot_of(&node, written);
    let refused = restore(&file, &node.data_dir(), &[]);
    assert!(refused.code != 0 && refused.err.contains("in use"), "{refused:?}");
    create(&api, "lost", 8);
    node.stop();

    let foreign = tempfile::tempdir().expect("a directory");
    fs::write(foreign.path().join("thesis.tex"), "x").expect("a file");
    let refused = restore(&file, foreign.path(), &[]);
    assert!(refused.code != 0 && refused.err.contains("thesis.tex"), "{refused:?}");
    let mut harmed = fs::read(&file).expect("the snapshot");
    harmed.truncate(harmed.len() - 1);
    fs::write(foreign.path().join("harmed.snap"), harmed).expect("a file");
    let refused = restore(&foreign.path().join("harmed.snap"), &node.data_dir(), &[]);
    assert!(refused.code != 0 && refused.err.contains("ends too early"), "{refused:?}");

    let refused = restore(&file, &node.data_dir(), &["--revision-jump", "0"]);
    assert!(refused.code != 0 && refused.err.contains("--revision-jump 0 is too little"), "{refused:?}");

    let kubeconfig = fs::read_to_string(node.kubeconfig()).expect("the kubeconfig");
    let before = cluster(&node);
    // What the member was asked to do before the disaster is not asked of the new one, which has nobody to do it with.
    fs::write(node.data_dir().join("reseed"), "asked for\n").expect("the wish");
    fs::write(node.data_dir().join("join.json"), "half a join").expect("the beginning of a join");
    let restored = json(restore(&file, &node.data_dir(), &[]));
    assert_eq!(restored["node"], "h1");
    assert!(restored["authority"].as_str().is_some_and(|text| text.starts_with("kept")), "{restored}");
    assert!(restored["tokens"].as_str().is_some_and(|text| text.starts_with("none")), "{restored}");
    let quarantine = PathBuf::from(restored["quarantine"].as_str().expect("what was before"));
    for part in ["store", "wal", "identity.json"] {
        assert!(quarantine.join(part).exists(), "{part}");
    }
    node.run();
    assert_ne!(cluster(&node), before);
    assert!(!node.data_dir().join("reseed").exists() && quarantine.join("reseed").exists());
    assert_eq!(list(&api)["items"].as_array().map(Vec::len), Some(1));
    let authority = |text: &str| {
        let line = text.lines().find(|line| line.contains("certificate-authority-data"));
        line.unwrap_or_default().to_owned()
    };
    let now = fs::read_to_string(node.kubeconfig()).expect("the kubeconfig");
    assert_eq!(authority(&now), authority(&kubeconfig));
    // A token may have been revoked since the snapshot was made, so none comes back with it.
    let [certificate, token] = clients.ask(&host);
    assert!(certificate.success().contains("kept"));
    assert!(token.failure().contains("Unauthorized"), "a token of a backup");
}

#[test]
fn the_same_file_restored_again_shows_no_number_a_second_time() {
    let lan = Lan::new();
    let mut node = Node::start_with(&lan.host(2), "h1", &["--no-enforce", "--snapshot-interval", "1s"]);
    let api = Api::new(node.socket());
    let written = create(&api, "kept", 7);
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::copy(snapshot_of(&node, written), file.path()).expect("the backup");
    let mut seen = Vec::new();
    for round in 0..3 {
        node.stop();
        // A leap longer than the clock is worth, so that only the directory tells how far it went.
        let more = ["--revision-jump", "1000000000000"];
        let _ = json(restore(file.path(), &node.data_dir(), if round == 0 { &more } else { &[] }));
        node.run();
        let listed = list(&api);
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "the backup's records and no others");
        let last = seen.last().copied().unwrap_or(written);
        assert!(revision(&listed) > last, "{} after {last}", revision(&listed));
        // A client that watches from what it saw last hears that it must list anew, not the other cluster's events.
        for version in &seen {
            expired(&api, *version);
        }
        seen.push(revision(&listed));
        for number in 0..3 {
            seen.push(create(&api, &format!("of-round-{round}-{number}"), round));
        }
    }
}

/// The key in the directory opens every authority that there ever was; what was exchanged for a reason stays away.
#[test]
fn a_backup_does_not_bring_an_authority_back_that_was_rotated_out() {
    let lan = Lan::new();
    let host = lan.host(2);
    let mut node = Node::start_with(&host, "h1", &["--no-enforce", "--snapshot-interval", "1s"]);
    let api = Api::new(node.socket());
    let clients = Clients::of(&node);
    let written = create(&api, "kept", 7);
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::copy(snapshot_of(&node, written), file.path()).expect("the backup");

    let rotate = |body: &Value| api.ask("POST", "/cluster/ca/rotate", Some(body)).expect("an answer").status;
    assert_eq!(rotate(&json!({})), 200);
    let authority = || api.ask("GET", "/cluster/ca", None).expect("an answer").body;
    let _ = eventually("the new authority", authority, |state| {
        state["phase"] == "stable" && state["generation"] == 2
    });
    assert_eq!(rotate(&json!({"finish": true})), 200);
    let trusted = || fs::read_to_string(node.data_dir().join("pki/ca.crt")).expect("the authorities");
    let _ = eventually("the old one to be gone", trusted, |text| text.matches("BEGIN").count() == 1);
    node.stop();

    let restored = json(restore(file.path(), &node.data_dir(), &[]));
    let said = restored["authority"].as_str().unwrap_or_default();
    assert!(said.starts_with("new") && said.contains("rotated out"), "{restored}");
    node.run();
    assert_eq!(list(&api)["items"].as_array().map(Vec::len), Some(1));
    let [certificate, _] = clients.ask(&host);
    assert!(certificate.failure().contains("certificate"), "what the old authority signed");
}

#[test]
fn with_the_sealing_key_the_authority_comes_along_to_another_host() {
    let lan = Lan::new();
    let mut node = Node::start_with(&lan.host(2), "h1", &["--no-enforce", "--snapshot-interval", "1s"]);
    let clients = Clients::of(&node);
    let written = create(&Api::new(node.socket()), "kept", 7);
    let file = snapshot_of(&node, written);
    node.stop();

    let host = lan.host(3);
    let mut other = Node::prepare(&host, "h2", &["--no-enforce"]);
    fs::create_dir_all(other.data_dir().join("pki")).expect("a directory");
    fs::copy(node.data_dir().join("pki/seal.key"), other.data_dir().join("pki/seal.key")).expect("the key");
    let restored = json(restore(&file, &other.data_dir(), &["--node-name", "h2"]));
    assert!(restored["authority"].as_str().is_some_and(|text| text.starts_with("kept")), "{restored}");
    other.run();
    assert_eq!(list(&Api::new(other.socket()))["items"].as_array().map(Vec::len), Some(1));
    let authority =
        |node: &Node| fs::read_to_string(node.data_dir().join("pki/ca.crt")).expect("the authority");
    assert_eq!(authority(&other), authority(&node));
    let there = format!("https://{}:6443", host.ipv4);
    assert!(clients.ask_with("certificate", &host, &["--server", &there]).success().contains("kept"));
}

#[test]
fn a_survivor_goes_on_alone_once() {
    let lan = Lan::new();
    let mut node = Node::start_with(&lan.host(2), "h1", &["--no-enforce"]);
    let api = Api::new(node.socket());
    let written = create(&api, "kept", 7);
    let before = (cluster(&node), list(&api));
    node.kill();

    // A member that waits for a fresh copy can be asked nothing; the flag comes before the waiting.
    fs::write(node.data_dir().join("reseed"), "the log is gone\n").expect("the wish");
    node.set_environment("APPLIANCE_FORCE_NEW_CLUSTER", "true");
    node.run();
    let alone = cluster(&node);
    assert_ne!(alone, before.0);
    let after = list(&api);
    assert_eq!(after["items"], before.1["items"], "every record, with its version");
    assert!(revision(&after) > JUMP);
    expired(&api, written);
    let newer = create(&api, "after", 9);

    node.kill();
    node.run();
    assert_eq!(cluster(&node), alone, "a flag that was forgotten does nothing");
    assert_eq!(revision(&list(&api)) / JUMP, newer / JUMP);
    let _ = node.logged("has acted on this data directory before");
}

/// The other two lead and write on: whoever set the flag meant this host, and would make a second cluster of it.
#[test]
fn the_flag_beside_a_living_majority_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::form(3, seed());
    cluster.wait_healthy();
    create(&Api::new(cluster.nodes[2].socket()), "kept", 7);
    let (before, was) = (self::cluster(&cluster.nodes[2]), cluster.member_seen_by(0, 2).expect("a member"));
    cluster.nodes[2].stop();
    let files = || {
        let entries = fs::read_dir(cluster.nodes[2].data_dir()).expect("the directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    let found = files();

    let mut flagged = cluster.hosts[2].namespace.command(&prerequisites::appliance().display().to_string());
    let run = cluster.nodes[2].run_command();
    let refused = flagged.args(run.get_args()).arg("--force-new-cluster").output().expect("it ends");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("says that the cluster has a quorum"), "{said}");
    assert!(said.contains("start without the flag") && said.contains("snapshot restore"), "{said}");
    assert_eq!((files(), self::cluster(&cluster.nodes[2])), (found, before.clone()));

    cluster.nodes[2].run();
    cluster.wait_healthy();
    assert_eq!(self::cluster(&cluster.nodes[2]), before);
    assert_eq!(cluster.member_seen_by(0, 2).expect("a member")["id"], was["id"]);
    assert_eq!(list(&Api::new(cluster.nodes[2].socket()))["items"].as_array().map(Vec::len), Some(1));

    // With nobody to say so it acts.
    for number in 0..3 {
        cluster.nodes[number].kill();
    }
    cluster.nodes[2].set_environment("APPLIANCE_FORCE_NEW_CLUSTER", "true");
    cluster.nodes[2].run();
    assert_ne!(self::cluster(&cluster.nodes[2]), before);
}

#[test]
fn two_of_three_are_gone_for_good_and_the_survivor_takes_new_members() {
    let mut cluster_of_three = Cluster::form(3, seed());
    let cluster = &mut cluster_of_three;
    let api = Api::new(cluster.nodes[2].socket());
    let clients = Clients::of(&cluster.nodes[0]);
    create(&api, "kept", 7);
    cluster.wait_healthy();
    let before = self::cluster(&cluster.nodes[2]);
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();

    // While the lost ones were heard a moment ago it may only be an election, and is refused as one.
    let status = || cluster.status(2);
    let _ = cluster.eventually("the quorum to be gone", status, |status| {
        status.as_ref().is_some_and(|status| {
            let members = status["members"].as_array().expect("members").iter();
            let heard = members.filter(|member| member["reachable"] == true).count();
            status["quorum"] == false && heard == 1
        })
    });
    let printed = cluster.ctl(2, &["recover", "--yes", "--cluster", &before]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let alone = || cluster.status(2);
    let status = cluster.eventually("the survivor to serve alone", alone, |status| {
        let status = status.as_ref().unwrap_or(&Value::Null);
        status["quorum"] == true && status["cluster"] != before.as_str()
    });
    assert_eq!(status.expect("a status")["members"].as_array().map(Vec::len), Some(1));
    let now = list(&api);
    assert_eq!(now["items"].as_array().map(Vec::len), Some(1));
    assert!(revision(&now) > JUMP);
    create(&api, "alone", 8);
    // The kubeconfigs name all members; the lost ones do not answer, and the survivor is who it was.
    for printed in clients.ask(&cluster.hosts[2]) {
        assert!(printed.success().contains("alone"));
    }

    // One of the dead comes back, and is of a cluster that is no more; it disturbs nobody.
    cluster.nodes[0].spawn();
    let number = cluster.add_host();
    cluster.begin_join(number, 2);
    let seen = || cluster.member_seen_by(2, number);
    let _ = cluster.eventually("the new member to vote", seen, |member| {
        member.as_ref().is_some_and(|member| member["role"] == "voter")
    });
    let joined = || list(&Api::new(cluster.nodes[number].socket()))["items"].as_array().map(Vec::len);
    let _ = cluster.eventually("the new member to have everything", joined, |items| *items == Some(2));
    assert_ne!(self::cluster(&cluster.nodes[0]), self::cluster(&cluster.nodes[2]));
    assert!(cluster.status(0).is_none_or(|status| status["quorum"] == false));
}

#[test]
fn a_flag_on_a_new_directory_never_acts() {
    let lan = Lan::new();
    let mut node = Node::prepare(&lan.host(2), "h1", &["--no-enforce"]);
    node.set_environment("APPLIANCE_FORCE_NEW_CLUSTER", "true");
    node.run();
    let first = cluster(&node);
    node.stop();
    node.run();
    assert_eq!(cluster(&node), first);
}
