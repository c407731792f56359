//! Which interface an endpoint governs, and what an endpoint without policy lets through: failsafes and nothing else.

use std::net::{IpAddr, Ipv4Addr};

use appliance_tests::eventually::{eventually, eventually_true};
use appliance_tests::packets;

use crate::world::{ALLOWING, BARE, World, object};

#[test]
fn a_bare_endpoint_drops_all_but_failsafes_in_both_directions_and_families() {
    let world = World::new();
    assert!(world.reaches(8055) && world.reaches6(8055) && world.gets_out(8055), "no endpoint, no policing");

    world.node.apply(BARE);
    for port in [8055, 443] {
        assert!(!world.reaches(port), "in over IPv4 to {port}");
        assert!(!world.reaches6(port), "in over IPv6 to {port}");
        assert!(!world.gets_out(port), "out over IPv4 to {port}");
        assert!(!world.gets_out6(port), "out over IPv6 to {port}");
    }
    assert!(!world.pings() && !world.reaches_udp(8055));
    assert!(world.reaches(22) && world.reaches6(22), "ssh in is a failsafe");
    assert!(!world.gets_out(22), "ssh out is not");
    assert!(packets::udp(&world.h1.namespace, IpAddr::V4(world.x.ipv4), 53), "DNS out is a failsafe");
    assert!(packets::udp(&world.h1.namespace, IpAddr::V6(world.x.ipv6), 53), "over IPv6 too");
    assert!(packets::tcp(&world.h1.namespace, Ipv4Addr::LOCALHOST.into(), 8055), "lo has no endpoint");

    world.node.delete("hostendpoint", "h1-eth0");
    assert!(
        world.reaches(8055) && world.reaches6(8055) && world.gets_out(8055) && world.pings(),
        "deleting opens"
    );
}

#[test]
fn an_endpoint_by_address_follows_the_address() {
    let world = World::new();
    world.lan.plug(&world.h1.namespace, "eth1", 102);
    let moving: IpAddr = Ipv4Addr::new(172, 17, 0, 77).into();
    let staying: IpAddr = Ipv4Addr::new(172, 17, 0, 78).into();
    world.h1.add_address("eth0", moving);
    world.h1.add_address("eth1", staying);
    world.node.apply(&object("HostEndpoint", "name: by-address", "node: h1, expectedIPs: [172.17.0.77]"));
    assert!(!world.reaches(8055), "the address is on eth0, so eth0 is policed, all of it");
    assert!(!world.reaches6(8055), "and in both families");

    world.h1.remove_address("eth0", moving);
    world.h1.add_address("eth1", moving);
    eventually_true("eth0 to open when the address has left it", || world.reaches(8055));
    let report = eventually(
        "the report to say where the endpoint is now",
        || world.node.report(),
        |report| report["status"]["endpoints"][0]["interfaces"][0] == "eth1",
    );
    assert_eq!(report["status"]["endpoints"][0]["state"], "up", "{report:#}");
}

#[test]
fn a_wildcard_endpoint_covers_what_no_other_does() {
    let world = World::new();
    world.node.apply(&object(
        "HostEndpoint",
        "name: all, labels: {ep: h1}",
        "node: h1, interfaceName: \"*\"",
    ));
    assert!(!world.reaches(8055) && !world.gets_out(8055), "policed like a named one");
    assert!(world.reaches(22), "failsafes hold");
    assert!(!packets::tcp(&world.h1.namespace, Ipv4Addr::LOCALHOST.into(), 8055), "lo is an interface too");

    world.node.apply(ALLOWING);
    assert!(world.reaches(8055) && world.gets_out(8055), "an endpoint of its own replaces the wildcard");
}

#[test]
fn the_smallest_name_wins_and_the_loser_takes_over() {
    let world = World::enforcing(&format!(
        "{}{}",
        object("HostEndpoint", "name: bbb", "node: h1, expectedIPs: [172.17.0.2]"),
        object(
            "HostEndpoint",
            "name: aaa",
            "node: h1, interfaceName: eth0, profiles: [projectcalico-default-allow]"
        ),
    ));
    assert!(world.reaches(8055), "aaa governs, and allows");
    world.node.delete("hep", "aaa");
    assert!(!world.reaches(8055), "bbb takes over, and does not");
}

#[test]
fn a_name_that_is_not_there_matches_nothing_until_it_is() {
    let world = World::enforcing(&object(
        "HostEndpoint",
        "name: later",
        "node: h1, interfaceName: eth9, expectedIPs: [172.17.0.2]",
    ));
    assert!(world.reaches(8055), "an address never stands in for a name");
    assert_eq!(world.node.report()["status"]["endpoints"][0]["state"], "error");

    world.lan.plug(&world.h1.namespace, "eth9", 109);
    eventually_true("the report to say up", || {
        world.node.report()["status"]["endpoints"][0]["state"] == "up"
    });
    assert!(world.reaches(8055), "eth0 is still nobody's");
}

#[test]
fn an_endpoint_of_another_node_changes_nothing_here() {
    let world = World::enforcing(&object("HostEndpoint", "name: other", "node: h2, interfaceName: eth0"));
    assert!(world.reaches(8055) && world.gets_out(8055));
    let report = world.node.report();
    assert!(report["status"]["endpoints"].as_array().is_none_or(Vec::is_empty), "{report:#}");
}
