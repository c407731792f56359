//! A cluster whose hosts have no IPv4 address and are called by name: joined through an address in brackets and through
//! a name, policed until nothing is open but what a node keeps open for its cluster, and whole again after a member died.

use std::fs;
use std::net::IpAddr;

use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::dice::seed;
use appliance_tests::netns::Host;

/// Runs a program with another `/etc/hosts`, in a mount namespace of its own.
const WITH_HOSTS: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";

/// Nothing in or out of any interface, not even the failsafes.
const SHUT: &str = "
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []}
";

fn dns_name(number: usize) -> String {
    format!("{}.lab", name(number))
}

/// Three hosts that know each other's names and have IPv6 addresses alone; none of the nodes runs.
fn named_hosts(directory: &std::path::Path) -> Cluster {
    let mut cluster = Cluster::prepare(3, Options { seed: seed(), enforce: true, ..Options::default() });
    let line = |(number, host): (usize, &Host)| format!("{} {}\n", host.ipv6, dns_name(number));
    let known: String = cluster.hosts.iter().enumerate().map(line).collect();
    let file = directory.join("hosts");
    fs::write(&file, format!("127.0.0.1 localhost\n::1 localhost\n{known}")).expect("write the names");
    let file = file.display().to_string();
    for number in 0..3 {
        let host = &cluster.hosts[number];
        host.remove_address("eth0", IpAddr::V4(host.ipv4));
        // The first by its address, the others by their names.
        let advertised = if number == 0 { host.ipv6.to_string() } else { dns_name(number) };
        cluster.nodes[number].set_argument("--advertise-address", &advertised);
        cluster.nodes[number].set_wrapper(&["unshare", "--mount", "sh", "-c", WITH_HOSTS, &file]);
    }
    cluster
}

#[test]
fn three_members_without_ipv4_find_each_other_by_name_behind_a_policy_that_shuts_everything() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut cluster = named_hosts(directory.path());
    cluster.nodes[0].run();
    let doors = [format!("[{}]:6443", cluster.hosts[0].ipv6), format!("{}:6443", dns_name(1))];
    for (number, door) in [1, 2].into_iter().zip(doors) {
        let token = cluster.token(number - 1, &[]);
        cluster.nodes[number].set_argument("--join", &door);
        cluster.nodes[number].set_argument("--token", &token);
        cluster.nodes[number].spawn();
        cluster.wait_role(number, "voter");
    }
    cluster.wait_healthy();

    let endpoint = |number: usize| {
        let name = name(number);
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: all-{name}}}\n\
             spec: {{node: {name}, interfaceName: '*'}}\n"
        )
    };
    cluster.nodes[2].apply(&format!("{SHUT}{}", (0..3).map(endpoint).collect::<String>()));
    for node in &cluster.nodes {
        node.wait_enforced();
    }
    // The member that is known by name alone is let through by its address, and what is not said is shut.
    let table = cluster.hosts[1].namespace.shell("nft list table inet appliance");
    assert!(table.contains(&format!("{} . tcp . 2380", cluster.hosts[2].ipv6)), "{table}");
    assert!(!table.contains("tcp . 22 "), "no failsafe is left: {table}");
    // No connection is left from before: what they say to each other is said through what is kept open, in and out.
    for number in 0..3 {
        cluster.nodes[number].kill();
    }
    for number in [1, 2] {
        cluster.nodes[number].spawn();
    }
    let _ = cluster.wait_leader(&[1, 2]);
    cluster.nodes[1].apply(
        "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: written-by-two}, spec: {}}",
    );
    cluster.nodes[0].run();
    cluster.wait_healthy();
    let _ = cluster.nodes[0].object("globalnetworkset", "written-by-two");
}
