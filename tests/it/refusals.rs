//! Bad input and faults: each a clear error, the right exit code, nothing lost, nothing opened.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use appliance_tests::ctl::run;
use appliance_tests::netns::{Host, Lan};
use appliance_tests::node::Node;
use appliance_tests::prerequisites;

use crate::world::{BARE, World, object, policy};

#[test]
fn bad_manifests_are_refused_with_the_field_and_change_nothing() {
    let world = World::enforcing(BARE);
    let refused = |manifest: &str, expected: &[&str]| {
        let said = world.node.ctl_with(&["apply", "-f", "-"], manifest).failure();
        for text in expected {
            assert!(said.contains(text), "{text:?} is missing in {said:?} for {manifest}");
        }
    };
    refused("kind: [unclosed", &[]);
    refused("", &["no resources specified"]);
    refused(
        "apiVersion: projectcalico.org/v3\nkind: Nothing\nmetadata: {name: x}\n",
        &["unknown resource type (Nothing)"],
    );
    refused(
        "apiVersion: v7\nkind: HostEndpoint\nmetadata: {name: x}\n",
        &["unknown resource type (HostEndpoint)", "v7"],
    );
    refused(&object("HostEndpoint", "name: x", "node: h1, interfaceName: eth0, colour: red"), &["colour"]);
    refused(
        &object("HostEndpoint", "name: x", "node: h1, interfaceName: wibblywobblyeth0"),
        &["wibblywobblyeth0"],
    );
    refused(&object("HostEndpoint", "name: x", "node: h1, expectedIPs: [10.0.0.1/32]"), &["10.0.0.1/32"]);
    refused(&object("HostEndpoint", "name: x", "interfaceName: eth0"), &["node must be specified"]);
    refused(&policy("x", "ingress: [{action: Perhaps}]"), &["Perhaps", "Allow"]);
    refused(
        &policy("x", "ingress: [{action: Allow, protocol: ICMP, destination: {ports: [80]}}]"),
        &["port"],
    );
    refused(&policy("x", "tier: nope, ingress: [{action: Allow}]"), &["Tier(nope)"]);
    refused(&policy("x", "order: first"), &["order"]);
    let good_and_bad =
        format!("{}{}", policy("good", "ingress: [{action: Allow}]"), "---\nkind: HostEndpoint\n");
    refused(&good_and_bad, &[]);
    assert_eq!(world.node.ctl(&["get", "gnp", "good"]).code, 1, "one bad document, and nothing was written");
    world.node.wait_enforced();
    assert!(!world.reaches(8055) && world.reaches(22), "enforcement never moved");
}

#[test]
fn stale_versions_and_duplicates_are_conflicts() {
    let world = World::enforcing(BARE);
    let said = world.node.ctl_with(&["create", "-f", "-"], BARE).failure();
    assert_eq!(
        said,
        "failed to create 'HostEndpoint' resource: [resource already exists: HostEndpoint(h1-eth0) with error: <nil>]\n"
    );
    let old = world.node.ctl(&["get", "hep", "h1-eth0", "-o", "yaml"]).success();
    world.node.apply(&BARE.replace("ep: h1", "ep: changed"));
    let said = world.node.ctl_with(&["replace", "-f", "-"], &old).failure();
    assert!(said.contains("update conflict: HostEndpoint(h1-eth0)"), "{said}");
    assert_eq!(world.node.object("hep", "h1-eth0")["metadata"]["labels"]["ep"], "changed");
    let said = world.node.ctl(&["delete", "hep", "nope"]).failure();
    assert!(said.contains("resource does not exist: HostEndpoint(nope) with error: <nil>"), "{said}");
}

#[test]
fn the_store_protects_what_must_be_there() {
    let world = World::enforcing(&policy("p", "tier: default, ingress: [{action: Allow}]"));
    for (kind, name) in
        [("tier", "default"), ("profile", "projectcalico-default-allow"), ("clusterinfo", "default")]
    {
        let _ = world.node.ctl(&["delete", kind, name]).failure();
        let _ = world.node.ctl(&["get", kind, name]).success();
    }
    world.node.apply(&object("Tier", "name: mine", "order: 7"));
    world.node.apply(&policy("q", "tier: mine"));
    let said = world.node.ctl(&["delete", "tier", "mine"]).failure();
    assert!(said.contains("non-empty tier"), "{said}");
}

#[test]
fn writing_the_same_again_writes_nothing() {
    let world = World::enforcing(BARE);
    let before = world.node.object("hep", "h1-eth0");
    world.node.apply(BARE);
    assert_eq!(world.node.object("hep", "h1-eth0"), before, "not even the resource version moved");
}

/// Runs `appliance run` to its end, which must be an error, and returns what it said.
fn refuses(host: &Host, mut command: Command) -> String {
    let printed = host.namespace.inside(|| run(&mut command, ""));
    assert!(printed.code > 0, "it should have refused to run: {printed:#?}");
    format!("{}{}", printed.out, printed.err)
}

#[test]
fn a_taken_port_and_a_data_directory_in_use_are_told_clearly() {
    let lan = Lan::new();
    let host = lan.host(2);
    let node = Node::start(&host, "h1");
    let said = refuses(&host, Node::prepare(&host, "h2", &[]).run_command());
    assert!(
        said.contains("6443") && said.contains("already in use") && said.contains("--api-listen"),
        "{said}"
    );

    let second = Node::prepare(&host, "h1", &["--api-listen", "127.0.0.1:7443"]);
    let said = refuses(&host, second.run_command_in(&node.data_dir()));
    assert!(said.contains(&node.data_dir().display().to_string()), "{said}");
    let _ = node.ctl(&["get", "nodes"]).success();
}

#[test]
fn a_data_directory_that_cannot_be_one_is_named() {
    let lan = Lan::new();
    let host = lan.host(2);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let said = refuses(&host, Node::prepare(&host, "h1", &[]).run_command_in(file.path()));
    assert!(said.contains(&file.path().display().to_string()), "{said}");
    let said = refuses(&host, Node::prepare(&host, "h1", &[]).run_command_in(Path::new("/proc/nowhere")));
    assert!(said.contains("/proc/nowhere"), "{said}");
}

#[test]
fn a_host_whose_join_was_interrupted_does_not_found_a_cluster_of_its_own() {
    let lan = Lan::new();
    let host = lan.host(2);
    let directory = tempfile::tempdir().expect("a directory");
    for file in ["lock", "join.json"] {
        fs::write(directory.path().join(file), "").expect("written");
    }
    let said = refuses(&host, Node::prepare(&host, "h1", &["--no-enforce"]).run_command_in(directory.path()));
    assert!(said.contains("join.json: a join was begun here") && said.contains("--join HOST:PORT"), "{said}");
    assert!(!directory.path().join("identity.json").exists());
}

#[test]
fn without_nft_or_the_right_to_use_it_the_node_does_not_pretend() {
    let lan = Lan::new();
    let host = lan.host(2);
    let node = Node::prepare(&host, "h1", &[]);
    let mut without_nft = node.run_command();
    without_nft.env("PATH", "/nonexistent");
    let said = refuses(&host, without_nft);
    assert!(said.contains("nft") && said.contains("--no-enforce"), "{said}");

    let run_command = node.run_command();
    let mut without_right = Command::new("setpriv");
    without_right
        .arg("--bounding-set=-net_admin")
        .arg(run_command.get_program())
        .args(run_command.get_args());
    let said = refuses(&host, without_right);
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");

    let store_only = Node::start_with(&host, "h1", &["--no-enforce"]);
    let _ = store_only.ctl_with(&["apply", "-f", "-"], BARE).success();
    assert_eq!(host.namespace.shell("nft list tables"), "", "and --no-enforce leaves the kernel alone");
}

#[test]
fn a_setting_that_does_not_exist_is_named_with_its_file() {
    let lan = Lan::new();
    let host = lan.host(2);
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(file.path(), "dataDirectory: /tmp/x\n").expect("write it");
    let mut command = Command::new(prerequisites::appliance());
    command.args(["run", "--config"]).arg(file.path());
    let said = refuses(&host, command);
    assert!(said.contains("dataDirectory") && said.contains(&file.path().display().to_string()), "{said}");
}

#[test]
fn ctl_without_a_node_says_so() {
    let lan = Lan::new();
    let node = Node::prepare(&lan.host(2), "h1", &[]);
    let said = node.ctl(&["get", "hep"]).failure();
    assert!(said.contains("appliance.sock") && said.contains("appliance run"), "{said}");
}

#[test]
fn the_data_directory_is_for_root_only_and_nothing_secret_is_readable() {
    let lan = Lan::new();
    let node = Node::start(&lan.host(2), "h1");
    let mode =
        |path: &std::path::Path| fs::metadata(path).expect("its metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&node.data_dir()), 0o700);
    assert_eq!(mode(&node.kubeconfig()) & 0o077, 0);
    assert_eq!(mode(&node.socket()) & 0o077, 0);
}
