//! The three documents the project was started from: each of their examples, against its printed output.
//!
//! `000`: creating a host endpoint. `001`: its fields, names and aliases. `002`: the `endpoint` commands.

use appliance_tests::eventually::eventually;
use appliance_tests::netns::Lan;
use appliance_tests::node::Node;

use crate::world::World;

/// Seed 000's manifest as its how-to has it (a list of one object), with values for the placeholders.
fn how_to(name: &str, interface: &str) -> String {
    format!(
        "- apiVersion: projectcalico.org/v3
  kind: HostEndpoint
  metadata:
    name: {name}
    labels:
      role: webserver
      environment: production
  spec:
{interface}    node: h1
    profiles: [prof1]
    expectedIPs: [\"172.17.0.2\"]
"
    )
}

#[test]
fn seed_000_by_interface_name_polices_the_interface() {
    let world = World::new();
    assert!(world.reaches(8055));
    let printed =
        world.node.ctl_with(&["create", "-f", "-"], &how_to("my-host-eth0", "    interfaceName: eth0\n"));
    assert_eq!(printed.success(), "Successfully created 1 'HostEndpoint' resource(s)\n");
    world.node.wait_enforced();
    assert!(!world.reaches(8055), "no policy in place, so traffic is dropped");
    assert!(world.reaches(22), "ssh is not: there is a failsafe");
}

#[test]
fn seed_000_by_address_alone_polices_it_too() {
    let world = World::new();
    let printed = world.node.ctl_with(&["create", "-f", "-"], &how_to("my-host", ""));
    assert_eq!(printed.success(), "Successfully created 1 'HostEndpoint' resource(s)\n");
    world.node.wait_enforced();
    assert!(!world.reaches(8055) && world.reaches(22));
}

#[test]
fn seed_000_the_node_name_is_logged_with_its_source() {
    let lan = Lan::new();
    let node = Node::start(&lan.host(2), "my-host");
    let line = node.logged("node name is");
    assert!(line.contains("node name is my-host (from the command line)"), "{line}");
}

#[test]
fn seed_000_without_interface_and_address_it_is_refused() {
    let world = World::new();
    let manifest = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: eth0, labels: {foo: bar}}
spec: {node: h1, profiles: [prof1]}
";
    let said = world.node.ctl_with(&["create", "-f", "-"], manifest).failure();
    assert!(said.contains("at least one of interfaceName or expectedIPs must be specified"), "{said}");
    assert!(world.reaches(8055), "and nothing is policed");
}

#[test]
fn seed_001_sample_aliases_and_names() {
    let lan = Lan::new();
    let node = Node::start(&lan.host(2), "h1");
    let sample = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: some.name
  labels:
    type: production
spec:
  interfaceName: eth0
  node: myhost
  expectedIPs:
  - 192.168.0.1
  - 192.168.0.2
  profiles:
  - profile1
  - profile2
  ports:
  - name: some-port
    port: 1234
    protocol: TCP
  - name: another-port
    port: 5432
    protocol: UDP
";
    assert_eq!(
        node.ctl_with(&["create", "-f", "-"], sample).success(),
        "Successfully created 1 'HostEndpoint' resource(s)\n"
    );
    for alias in ["hostendpoint", "hostendpoints", "hep", "heps", "HEP", "HostEndpoint"] {
        let table = node.ctl(&["get", alias, "some.name"]).success();
        assert_eq!(table, "NAME        NODE     \nsome.name   myhost   \n\n", "get {alias}");
    }
    let wide = node.ctl(&["get", "hep", "-o", "wide"]).success();
    let expected = "NAME        NODE     INTERFACE   IPS                       PROFILES            \n\
                    some.name   myhost   eth0        192.168.0.1,192.168.0.2   profile1,profile2   \n\n";
    assert_eq!(wide, expected);
    let yaml = node.ctl(&["get", "hep", "some.name", "-o", "yaml", "--export"]).success();
    let spec = &sample[sample.find("spec:").expect("a spec")..];
    for line in spec.lines().filter(|line| line.starts_with("  - 192") || line.contains("port:")) {
        assert!(yaml.contains(line.trim()), "{line} in {yaml}");
    }

    for name in ["Some_Name.1-x", "UPPER", "under_score"] {
        let manifest = sample.replace("some.name", name);
        let _ = node.ctl_with(&["create", "-f", "-"], &manifest).success();
        assert_eq!(node.object("hep", name)["metadata"]["name"], *name);
    }
    let said = node.ctl_with(&["create", "-f", "-"], &sample.replace("some.name", "no/slash")).failure();
    assert!(said.contains("no/slash"), "{said}");
}

/// The five endpoints that seed 002 shows: workload, endpoint, address, MAC, profiles.
const ENDPOINTS: [[&str; 5]; 5] = [
    [
        "0d01b3f020fcadfd0090fcbbbbef9658acb26f71c1cb812827afafc625c5ae1a",
        "d79123c4784511e5bd1a080027f532f6",
        "192.168.1.4/32",
        "d6:43:59:f7:93:d3",
        "",
    ],
    [
        "26d5636108f8e46b0b9d663522c26f05e52acecf11bb10104dfbd9047ad502b6",
        "d50c35bc784511e5bd1a080027f532f6",
        "192.168.1.3/32",
        "0e:61:2a:84:30:51",
        "PROF",
    ],
    [
        "838a52d2809845a1092c9cb0f8ff5a09437339cbd39b597924eaefacbf50b4ae",
        "d0bd03d8784511e5bd1a080027f532f6",
        "192.168.0.1/32",
        "b6:bc:87:55:54:a0",
        "PROF",
    ],
    [
        "b75d50055975385f0f26ecfc545e91c10a911dbfff4894a03510a617c4b232fc",
        "d2b58ef8784511e5bd1a080027f532f6",
        "192.168.1.2/32",
        "f2:42:82:f6:1f:a4",
        "PROF",
    ],
    [
        "ccc8d2e81b8ef7d4eeb8634e61ed515da47f7d5d7803f40408af21c002f379db",
        "d9d6c3a0784511e5bd1a080027f532f6",
        "192.168.1.5/32",
        "f6:ed:d8:c5:dd:ac",
        "",
    ],
];

fn seed_002_world(lan: &Lan) -> Node {
    let node = Node::start(&lan.host(2), "h1");
    for profile in ["PROF", "WEB"] {
        let manifest = format!(
            "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {{name: {profile}}}\nspec: {{}}\n"
        );
        let _ = node.ctl_with(&["create", "-f", "-"], &manifest).success();
    }
    for [workload, endpoint, address, mac, profiles] in ENDPOINTS {
        let manifest = format!(
            "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {{namespace: default}}\n\
             spec: {{node: calico, orchestrator: docker, workload: {workload}, endpoint: {endpoint}, \
             ipNetworks: [{address}], mac: \"{mac}\", profiles: [{profiles}], interfaceName: cali{}}}\n",
            &endpoint[..6]
        );
        let printed = node.ctl_with(&["create", "-f", "-"], &manifest);
        assert_eq!(printed.success(), "Successfully created 1 'WorkloadEndpoint' resource(s)\n");
    }
    node
}

#[test]
fn seed_002_endpoint_show() {
    let lan = Lan::new();
    let node = seed_002_world(&lan);
    let expected = "\
+----------+-----------------+---------------------+---------------------+
| Hostname | Orchestrator ID | Number of Workloads | Number of Endpoints |
+----------+-----------------+---------------------+---------------------+
|  calico  |      docker     |          5          |          5          |
+----------+-----------------+---------------------+---------------------+

";
    assert_eq!(node.ctl(&["endpoint", "show"]).success(), expected);
    assert_eq!(node.ctl(&["endpoint", "show", "--host=calico", "--orchestrator=docker"]).success(), expected);
    let empty = node.ctl(&["endpoint", "show", "--host=nohost"]).success();
    assert_eq!(empty.lines().count(), 5, "{empty}");
}

#[test]
fn seed_002_endpoint_show_detailed() {
    let lan = Lan::new();
    let node = seed_002_world(&lan);
    let rule = "+----------+-----------------+------------------------------------------------------------------+----------------------------------+----------------+-------------------+----------+--------+\n";
    let header = "| Hostname | Orchestrator ID |                           Workload ID                            |           Endpoint ID            |   Addresses    |        MAC        | Profiles | State  |\n";
    let row = |[workload, endpoint, address, mac, profiles]: [&str; 5]| {
        let profiles = if profiles.is_empty() { "    " } else { profiles };
        format!(
            "|  calico  |      docker     | {workload} | {endpoint} | {address} | {mac} |   {profiles}   | active |\n"
        )
    };
    let all: String = ENDPOINTS.map(row).concat();
    let expected = format!("{rule}{header}{rule}{all}{rule}\n");
    assert_eq!(node.ctl(&["endpoint", "show", "--detailed"]).success(), expected);

    let one = format!("{rule}{header}{rule}{}{rule}\n", row(ENDPOINTS[0]));
    let filter = "--endpoint=d79123c4784511e5bd1a080027f532f6";
    assert_eq!(node.ctl(&["endpoint", "show", filter, "--detailed"]).success(), one);
    let filter = format!("--workload={}", ENDPOINTS[0][0]);
    assert_eq!(node.ctl(&["endpoint", "show", &filter, "--detailed"]).success(), one);
}

#[test]
fn seed_002_endpoint_profiles() {
    let lan = Lan::new();
    let node = seed_002_world(&lan);
    let id = "d79123c4784511e5bd1a080027f532f6";
    let says = |arguments: &[&str]| node.ctl(&[&["endpoint", id, "profile"], arguments].concat()).success();
    assert_eq!(says(&["set", "PROF"]), "Profile(s) PROF set.\n\n");
    assert_eq!(says(&["append", "WEB"]), "Profile(s) WEB appended.\n\n");
    let table = "+------+\n| Name |\n+------+\n| PROF |\n| WEB  |\n+------+\n\n";
    assert_eq!(says(&["show"]), table);
    assert_eq!(says(&["remove", "WEB", "PROF"]), "Profile(s) WEB,PROF removed.\n\n");
    assert_eq!(says(&["show"]), "Endpoint has no profiles associated with it.\n");
    let more = ["--host=calico", "--orchestrator=docker", &format!("--workload={}", ENDPOINTS[0][0])];
    assert_eq!(says(&[&["append", "WEB"], &more[..]].concat()), "Profile(s) WEB appended.\n\n");
}

#[test]
fn the_endpoint_commands_know_host_endpoints_and_change_what_is_enforced() {
    let world = World::enforcing(
        "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h1-eth0}
spec: {node: h1, interfaceName: eth0, expectedIPs: [172.17.0.2]}
",
    );
    assert!(!world.reaches(8055));
    let set = ["endpoint", "h1-eth0", "profile", "set", "projectcalico-default-allow", "--host=h1"];
    assert_eq!(world.node.ctl(&set).success(), "Profile(s) projectcalico-default-allow set.\n\n");
    world.node.wait_enforced();
    assert!(world.reaches(8055), "the profile allows");
    let detailed = eventually(
        "the endpoint to be shown as active",
        || world.node.ctl(&["endpoint", "show", "--detailed", "--orchestrator=host"]).success(),
        |table| table.contains("| active |"),
    );
    assert!(detailed.contains("172.17.0.2/32") && detailed.contains("h1-eth0"), "{detailed}");
}
