//! A data directory that was copied, and both started: two processes that are one member. Only the later one is heard, the
//! earlier one says why it is not, nothing is lost, and when the copy is gone a restart mends it.

use std::process::Command;

use appliance_tests::cluster::{Cluster, name};
use appliance_tests::ctl::run;
use appliance_tests::dice::seed;
use appliance_tests::node::Node;

#[test]
fn a_copied_data_directory_is_named_by_the_member_it_was_copied_from() {
    let mut cluster = Cluster::form(3, seed());
    let host = cluster.network.host(77);
    let address = host.ipv4.to_string();
    let mut copy = Node::prepare(&host, &name(2), &["--no-enforce", "--advertise-address", &address]);
    cluster.nodes[2].kill();
    let _ =
        run(Command::new("cp").arg("-a").args([cluster.nodes[2].data_dir(), copy.data_dir()]), "").success();
    cluster.nodes[2].spawn();
    cluster.wait_healthy();

    copy.spawn();
    let alarms = || cluster.status(2).map(|status| status["alarms"].to_string()).unwrap_or_default();
    let said = cluster.eventually("the original to say it", alarms, |alarms| alarms.contains("copied"));
    assert!(said.contains(&name(0)) || said.contains(&name(1)), "by whom it is refused: {said}");
    // The two that are a majority go on, whichever of the two processes they hear.
    let set = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: kept}, spec: {}}";
    let _ = cluster.nodes[0].ctl_with(&["create", "-f", "-"], set).success();
    let _ = cluster.nodes[1].object("globalnetworkset", "kept");

    copy.kill();
    cluster.restart(2);
    cluster.wait_healthy();
    let _ = cluster.nodes[2].object("globalnetworkset", "kept");
    cluster.wait_same_history();
}
