//! The units of `images/`: what they promise about order and restarts, and that the boot unit loads what a node saved, or
//! the one before where that has rotted.

use std::fs;
use std::path::Path;
use std::process::Command;

use appliance_tests::ctl::run;
use appliance_tests::eventually::eventually_true;
use appliance_tests::netns::Namespace;
use appliance_tests::node::Node;
use appliance_tests::prerequisites;

use crate::tree;
use crate::world::{ALLOWING, BARE, World};

/// Where the units look for the data directory.
const DATA_DIR: &str = "/var/lib/appliance";

fn unit(name: &str) -> String {
    fs::read_to_string(tree::root().join("images").join(name)).expect("a unit")
}

/// Every value of a directive, lines that go on joined as systemd does.
fn values(unit: &str, directive: &str) -> Vec<String> {
    let joined = unit.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

/// Whether a directive that lists units names this one.
fn names(unit: &str, directive: &str, other: &str) -> bool {
    values(unit, directive).iter().any(|value| value.split_whitespace().any(|name| name == other))
}

/// Runs what the boot unit runs on a host, with another data directory; whether it succeeded.
pub(crate) fn boot(host: &Namespace, data_dir: &Path) -> bool {
    let start = values(&unit("appliance-firewall.service"), "ExecStart");
    let [start] = &start[..] else { panic!("one ExecStart: {start:?}") };
    let script = start.strip_prefix("/bin/sh -c '").and_then(|script| script.strip_suffix('\''));
    let script = script.expect("a shell and its script").replace("$$", "$");
    assert!(script.contains(DATA_DIR) && !script.contains('%'), "{script}");
    let script = script.replace(DATA_DIR, &data_dir.display().to_string());
    run(host.command("/bin/sh").args(["-c", &script]), "").code == 0
}

#[test]
fn the_boot_unit_comes_before_any_interface_and_after_whoever_flushes() {
    let unit = unit("appliance-firewall.service");
    assert_eq!(values(&unit, "DefaultDependencies"), ["no"], "else it waits for basic.target");
    assert!(names(&unit, "Before", "network-pre.target") && names(&unit, "Wants", "network-pre.target"));
    assert!(names(&unit, "After", "nftables.service"), "which begins with flush ruleset");
    assert!(names(&unit, "Before", "shutdown.target") && names(&unit, "Conflicts", "shutdown.target"));
    assert!(names(&unit, "RequiresMountsFor", DATA_DIR) && names(&unit, "WantedBy", "sysinit.target"));
    assert_eq!(
        (values(&unit, "Type"), values(&unit, "RemainAfterExit")),
        (vec!["oneshot".into()], vec!["yes".into()])
    );
    assert!(values(&unit, "ExecStop").is_empty(), "stopping it opens nothing");
    let conditions = values(&unit, "ConditionPathExists");
    assert!(conditions.iter().all(|path| path.starts_with('|')), "any of them will do: {conditions:?}");
    for file in ["ruleset.nft", "ruleset.previous.nft"] {
        assert!(conditions.contains(&format!("|{DATA_DIR}/dataplane/{file}")), "{conditions:?}");
    }
}

#[test]
fn the_node_comes_after_the_boot_unit_and_is_started_again_for_ever() {
    let unit = unit("appliance.service");
    assert!(names(&unit, "After", "appliance-firewall.service"));
    assert_eq!(
        (values(&unit, "Restart"), values(&unit, "StartLimitIntervalSec")),
        (vec!["always".into()], vec!["0".into()])
    );
    assert!(values(&unit, "ExecStop").is_empty() && values(&unit, "ExecStopPost").is_empty());
}

#[test]
fn systemd_takes_the_units_where_there_is_one() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    for name in ["appliance-firewall.service", "appliance.service"] {
        let binary = prerequisites::appliance().display().to_string();
        let path = folder.path().join(name);
        fs::write(&path, unit(name).replace("/usr/bin/appliance", &binary)).expect("write the unit");
        let printed = run(Command::new("systemd-analyze").arg("verify").arg(&path), "");
        assert!(printed.code == 0 && !printed.err.contains(name), "{printed:?}");
    }
}

/// A host whose last policy lets everything in that the one before did not, and whose node does not run.
fn two_generations() -> (World, Node) {
    let mut world = World::enforcing(BARE);
    let saved = world.node.data_dir().join("dataplane");
    let file = |name: &str| fs::read_to_string(saved.join(name)).unwrap_or_default();
    eventually_true("the first to be saved", || file("ruleset.nft").contains("hep/h1-eth0"));
    world.node.apply(ALLOWING);
    eventually_true("the second to be saved", || file("ruleset.nft").contains("projectcalico-default-allow"));
    assert!(!file("ruleset.previous.nft").contains("projectcalico-default-allow"));
    world.node.stop();
    let spare = Node::prepare(&world.h2, "unused", &[]);
    let node = std::mem::replace(&mut world.node, spare);
    (world, node)
}

#[test]
fn the_boot_unit_loads_the_last_policy_and_the_one_before_where_that_has_rotted() {
    let (world, node) = two_generations();
    let data_dir = node.data_dir();
    let file = data_dir.join("dataplane/ruleset.nft");
    let whole = fs::read_to_string(&file).expect("the last policy");
    let booted = |policed: bool| {
        assert_eq!(world.h1.namespace.shell("nft flush ruleset"), "");
        assert!(boot(&world.h1.namespace, &data_dir), "it says that it failed");
        assert_eq!(world.reaches(8055), !policed);
    };
    booted(false);
    for harmed in [
        whole.replace("8", "9"),
        whole.replace("chain", "chaim"),
        whole[..whole.len() / 2].to_owned(),
        String::new(),
    ] {
        fs::write(&file, harmed).expect("harm it");
        booted(true);
    }
    // Neither proves anything: what reaches its end is better than an open host.
    fs::copy(data_dir.join("dataplane/ruleset.previous.nft"), &file).expect("the closed one");
    for name in ["ruleset.nft", "ruleset.previous.nft"] {
        let path = data_dir.join("dataplane").join(name);
        let text = fs::read_to_string(&path).expect("a ruleset");
        fs::write(&path, text.replace("# sha256 ", "# sha512 ")).expect("take the proof away");
    }
    booted(true);
    fs::write(&file, "").expect("empty it");
    fs::remove_file(data_dir.join("dataplane/ruleset.previous.nft")).expect("remove it");
    assert_eq!(world.h1.namespace.shell("nft flush ruleset"), "");
    assert!(!boot(&world.h1.namespace, &data_dir), "nothing was loaded, and it says so");
}
