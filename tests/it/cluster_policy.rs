//! No host opens, whatever becomes of the cluster: a closed port is asked all the time and never answers.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::dice::seed;
use appliance_tests::eventually::eventually_true;
use appliance_tests::netns::Host;
use appliance_tests::over::Over;
use appliance_tests::packets::{self, Listeners};

pub(crate) const CLOSED: u16 = 8055;
pub(crate) const OPEN: u16 = 22;

/// An endpoint on every node that lets nothing in but the failsafes.
pub(crate) fn endpoints(nodes: usize) -> String {
    let endpoint = |number: usize| {
        let (name, address) = (name(number), format!("172.17.0.{}", number + 2));
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: {name}-eth0}}\n\
             spec: {{node: {name}, interfaceName: eth0, expectedIPs: [{address}]}}\n"
        )
    };
    (0..nodes).map(endpoint).collect()
}

/// The ports that datagrams are sent from: none of those that the kernel chooses from, or one of them would now and then
/// belong to a flow that was let in before the host was closed, and goes on for as long as conntrack remembers it.
const FROM: Range<u16> = 10_000..30_000;

/// Sends datagrams at the closed port of every host while `f` runs, and counts the answers.
pub(crate) fn answers_during(stranger: &Host, hosts: &[IpAddr], f: impl FnOnce()) -> (usize, usize) {
    let (stop, sent, answered) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            stranger.namespace.inside(|| {
                let since = Instant::now();
                for (to, from) in hosts.iter().cycle().zip(FROM.cycle()) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // A new port each time: every datagram is a new flow, decided by policy and not by conntrack.
                    let Ok(socket) = UdpSocket::bind(("0.0.0.0", from)) else { continue };
                    socket.set_read_timeout(Some(Duration::from_millis(3))).expect("a time limit");
                    // While the link is cut there may be no neighbour to send to.
                    sent.fetch_add(
                        usize::from(socket.send_to(b"?", (*to, CLOSED)).is_ok()),
                        Ordering::Relaxed,
                    );
                    if socket.recv(&mut [0; 8]).is_ok() {
                        eprintln!(
                            "{to} answered a datagram from port {from}, {:?} after the first",
                            since.elapsed()
                        );
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        let over = Over(&stop);
        f();
        drop(over);
    });
    (sent.into_inner(), answered.into_inner())
}

/// A host that belongs to no cluster, the addresses of those that do, and what answers there as long as it is kept.
pub(crate) fn visited(cluster: &Cluster) -> (Host, Vec<IpAddr>, Vec<Listeners>) {
    let listeners =
        cluster.hosts.iter().map(|host| Listeners::new(&host.namespace, &[CLOSED, OPEN])).collect();
    let hosts = cluster.hosts.iter().map(|host| IpAddr::V4(host.ipv4)).collect();
    (cluster.network.host(99), hosts, listeners)
}

#[test]
fn no_host_opens_while_nodes_die_lose_each_other_and_come_back() {
    let mut cluster = Cluster::form_with(3, Options { seed: seed(), enforce: true, ..Options::default() });
    let (stranger, hosts, _listeners) = visited(&cluster);
    // Known to work before anything is closed, or closed ports would prove nothing.
    assert!(hosts.iter().all(|host| packets::udp(&stranger.namespace, *host, CLOSED)));
    let _ = cluster.nodes[1].ctl_with(&["apply", "-f", "-"], &endpoints(3)).success();
    for host in &hosts {
        eventually_true("every host to be closed", || !packets::udp(&stranger.namespace, *host, CLOSED));
    }
    let (sent, answered) = answers_during(&stranger, &hosts, || {
        let leader = cluster.wait_leader(&[0, 1, 2]);
        cluster.restart(leader);
        cluster.wait_healthy();
        // No quorum anywhere, then a start without one: the last policy is what there is.
        cluster.partition(&[0], &[1, 2]);
        cluster.partition(&[1], &[2]);
        cluster.restart(0);
        thread::sleep(Duration::from_secs(3));
        assert!(packets::tcp(&stranger.namespace, hosts[0], OPEN), "failsafes stay open");
        cluster.network.heal();
        cluster.wait_healthy();
        (0..3).for_each(|number| cluster.nodes[number].kill());
        thread::sleep(Duration::from_millis(300));
        (0..3).for_each(|number| cluster.nodes[number].spawn());
        cluster.wait_healthy();
        let _ = cluster.ctl(0, &["member", "remove", &name(2), "--yes"]).success();
        let _ = cluster.nodes[2].logged("removed");
        cluster.restart(2);
        thread::sleep(Duration::from_secs(1));
    });
    assert!(sent > 300, "only {sent} datagrams were sent: the test proves nothing");
    assert_eq!(answered, 0, "of {sent} datagrams");
    // And the cluster still rules those that are in it.
    let _ = cluster.ctl(0, &["delete", "hep", "h1-eth0"]).success();
    eventually_true("the first host to open", || packets::udp(&stranger.namespace, hosts[0], CLOSED));
    assert!(!packets::udp(&stranger.namespace, hosts[2], CLOSED), "a removed node keeps its last policy");
}

#[test]
fn a_host_without_quorum_repairs_its_ruleset_and_polices_interfaces_that_come() {
    let mut cluster = Cluster::form_with(3, Options { seed: seed(), enforce: true, ..Options::default() });
    let stranger = cluster.network.host(99);
    let _listeners = Listeners::new(&cluster.hosts[0].namespace, &[CLOSED]);
    let host = IpAddr::V4(cluster.hosts[0].ipv4);
    let later = "---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: later}\n\
                 spec: {node: h1, expectedIPs: [10.99.0.1]}\n";
    let _ = cluster.nodes[1].ctl_with(&["apply", "-f", "-"], &(endpoints(3) + later)).success();
    cluster.nodes[0].wait_enforced();
    let closed = || !packets::udp(&stranger.namespace, host, CLOSED);
    eventually_true("the host to be closed", closed);
    let saved = cluster.nodes[0].data_dir().join("dataplane/ruleset.nft");
    let has_endpoint = || fs::read_to_string(&saved).is_ok_and(|text| text.contains("eth0"));
    eventually_true("the ruleset to be saved", has_endpoint);

    (0..3).for_each(|number| cluster.nodes[number].kill());
    let before = cluster.nodes[0].log().len();
    cluster.nodes[0].spawn();
    let namespace = &cluster.hosts[0].namespace;
    let open = || {
        let _ = namespace.shell("nft delete table inet appliance");
        eventually_true("the table to come back", || {
            namespace.shell("nft list tables").contains("inet appliance")
        });
        eventually_true("the host to be closed again", closed);
    };
    let _ = cluster.nodes[0].logged("which stands until the store is known");
    let since = || cluster.nodes[0].log().split_off(before);
    eventually_true("it to enforce again", || since().contains("enforcing in table inet appliance"));
    open();
    let _ = cluster.nodes[0].logged("follows its own copy of the policy");
    namespace.ip(&["link", "add", "eth1", "type", "veth", "peer", "name", "far1"]);
    namespace.ip(&["link", "set", "eth1", "up"]);
    cluster.hosts[0].add_address("eth1", "10.99.0.1".parse().expect("an address"));
    let policed = || namespace.shell("nft list map inet appliance ep_in").contains("\"eth1\"");
    eventually_true("the interface that came to be policed", policed);
    open();
    assert!(policed(), "and it stays so");
    let _ = cluster.nodes[0].logged("put back what was enforced last, from disk");

    (1..3).for_each(|number| cluster.nodes[number].spawn());
    cluster.wait_healthy();
    let _ = cluster.ctl(1, &["delete", "hep", "h1-eth0"]).success();
    eventually_true("the host to open as it is told", || packets::udp(&stranger.namespace, host, CLOSED));
}

#[test]
fn members_reach_each_other_whatever_policy_says() {
    let cluster = Cluster::form_with(3, Options { seed: seed(), enforce: true, ..Options::default() });
    // Not even failsafes.
    let felix = "---\napiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n\
                 spec: {failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []}\n";
    let _ = cluster.nodes[0].ctl_with(&["apply", "-f", "-"], &(endpoints(3) + felix)).success();
    cluster.nodes[0].wait_enforced();
    let stranger = cluster.network.host(99);
    let _listeners = Listeners::new(&cluster.hosts[0].namespace, &[OPEN]);
    eventually_true("everything to be closed", || {
        !packets::tcp(&stranger.namespace, IpAddr::V4(cluster.hosts[0].ipv4), OPEN)
    });
    let leader = cluster.wait_leader(&[0, 1, 2]);
    cluster.freeze(leader);
    // New connections must be made for this, in both directions.
    let _ = cluster.wait_leader(&cluster.others(&[leader]));
    cluster.thaw(leader);
    cluster.wait_healthy();
}
