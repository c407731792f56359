//! The three documents the project was started from, typed as printed, placeholders filled in.

use appliance_resources::Kind;
use serde_json::json;

use super::*;

/// The first command of the how-to: a list of objects on standard input.
const HOW_TO: &str = r#"- apiVersion: projectcalico.org/v3
  kind: HostEndpoint
  metadata:
    name: <name of endpoint>
    labels:
      role: webserver
      environment: production
  spec:
    interfaceName: eth0
    node: <node name or hostname>
    profiles: [<list of profile IDs>]
    expectedIPs: ["10.0.0.1"]
"#;
/// Its second: by address alone.
const HOW_TO_BY_ADDRESS: &str = r#"- apiVersion: projectcalico.org/v3
  kind: HostEndpoint
  metadata:
    name: <name of endpoint>
    labels:
      role: webserver
      environment: production
  spec:
    node: <node name or hostname>
    profiles: [<list of profile IDs>]
    expectedIPs: ["10.0.0.1"]
"#;
/// The sample of the reference page.
const SAMPLE: &str = "\
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

const CREATED: &str = "Successfully created 1 'HostEndpoint' resource(s)\n";

fn filled(manifest: &str, name: &str, profiles: &str) -> String {
    manifest
        .replace("<name of endpoint>", name)
        .replace("<node name or hostname>", "my-host")
        .replace("<list of profile IDs>", profiles)
}

#[test]
fn the_how_to_creates_by_name_and_by_address() {
    let lab = Lab::new();
    assert_eq!(lab.ctl("create -f -", &filled(HOW_TO, "my-endpoint", "prof1, prof2")), seen(0, CREATED, ""));
    let object = lab.stored("hep my-endpoint");
    assert_eq!(object["spec"]["interfaceName"], "eth0");
    assert_eq!(object["spec"]["profiles"], json!(["prof1", "prof2"]));
    assert_eq!(object["metadata"]["labels"], json!({"environment": "production", "role": "webserver"}));
    let by_address = filled(HOW_TO_BY_ADDRESS, "My_Endpoint.2", "");
    assert_eq!(lab.ctl("create -f -", &by_address), seen(0, CREATED, ""));
    assert!(lab.stored("hep My_Endpoint.2")["spec"].get("interfaceName").is_none());
}

#[test]
fn an_endpoint_without_interface_and_address_is_refused() {
    let neither = filled(HOW_TO_BY_ADDRESS, "x", "").replace("    expectedIPs: [\"10.0.0.1\"]\n", "");
    let failed = Lab::new().ctl("create -f -", &neither);
    assert_eq!(failed.status, 1);
    assert!(
        failed.err.starts_with("failed to create 'HostEndpoint' resource: [error with field "),
        "{failed:?}"
    );
}

#[test]
fn the_sample_is_created_shown_and_exported_as_written() {
    let lab = Lab::new();
    assert_eq!(lab.ctl("create -f -", SAMPLE), seen(0, CREATED, ""));
    for alias in ["hostendpoint", "hostendpoints", "hep", "heps", "HEP", "HostEndpoints"] {
        let names = lab.ctl(&format!("get {alias} -o name"), "");
        assert_eq!(names, seen(0, "hostendpoint.projectcalico.org/some.name\n", ""));
    }
    let exported = lab.ctl("get hep some.name -o yaml --export", "").out;
    let expected = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  labels:
    type: production
  name: some.name
spec:
  expectedIPs:
  - 192.168.0.1
  - 192.168.0.2
  interfaceName: eth0
  node: myhost
  ports:
  - name: some-port
    port: 1234
    protocol: TCP
  - name: another-port
    port: 5432
    protocol: UDP
  profiles:
  - profile1
  - profile2
";
    assert_eq!(exported, expected);
}

/// Workload, endpoint, address, MAC, profiles: the rows of the published table.
const PUBLISHED: [(&str, &str, &str, &str, &[&str]); 5] = [
    (
        "0d01b3f020fcadfd0090fcbbbbef9658acb26f71c1cb812827afafc625c5ae1a",
        "d79123c4784511e5bd1a080027f532f6",
        "192.168.1.4/32",
        "d6:43:59:f7:93:d3",
        &[],
    ),
    (
        "26d5636108f8e46b0b9d663522c26f05e52acecf11bb10104dfbd9047ad502b6",
        "d50c35bc784511e5bd1a080027f532f6",
        "192.168.1.3/32",
        "0e:61:2a:84:30:51",
        &["PROF"],
    ),
    (
        "838a52d2809845a1092c9cb0f8ff5a09437339cbd39b597924eaefacbf50b4ae",
        "d0bd03d8784511e5bd1a080027f532f6",
        "192.168.0.1/32",
        "b6:bc:87:55:54:a0",
        &["PROF"],
    ),
    (
        "b75d50055975385f0f26ecfc545e91c10a911dbfff4894a03510a617c4b232fc",
        "d2b58ef8784511e5bd1a080027f532f6",
        "192.168.1.2/32",
        "f2:42:82:f6:1f:a4",
        &["PROF"],
    ),
    (
        "ccc8d2e81b8ef7d4eeb8634e61ed515da47f7d5d7803f40408af21c002f379db",
        "d9d6c3a0784511e5bd1a080027f532f6",
        "192.168.1.5/32",
        "f6:ed:d8:c5:dd:ac",
        &[],
    ),
];

fn published() -> Lab {
    let lab = Lab::new();
    for (workload, endpoint, address, mac, profiles) in PUBLISHED {
        let name = workload_endpoint_name(["calico", "docker", workload, endpoint]);
        let object = json!({"kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"node": "calico", "orchestrator": "docker", "workload": workload, "endpoint": endpoint,
                     "interfaceName": "cali1", "mac": mac, "ipNetworks": [address], "profiles": profiles}});
        lab.api.state().put(Kind::WorkloadEndpoint, object);
    }
    let endpoints: Vec<_> = PUBLISHED
        .iter()
        .map(|row| workload_endpoint_name(["calico", "docker", row.0, row.1]))
        .map(|name| json!({"kind": "WorkloadEndpoint", "name": name, "namespace": "default", "state": "up"}))
        .collect();
    let report = json!({"kind": "NodeReport", "apiVersion": "appliance/v1", "metadata": {"name": "calico"},
                        "status": {"revision": 1, "state": "Enforcing", "endpoints": endpoints}});
    lab.api.state().put(Kind::NodeReport, report);
    for profile in ["PROF", "WEB"] {
        let object = json!({"kind": "Profile", "apiVersion": "projectcalico.org/v3", "metadata": {"name": profile},
                            "spec": {}});
        lab.api.state().put(Kind::Profile, object);
    }
    lab
}

#[test]
fn the_published_tables_byte_for_byte() {
    let lab = published();
    let counted = include_str!("../../testdata/endpoint_show.txt");
    assert_eq!(lab.ctl("endpoint show", ""), seen(0, counted, ""));
    let detailed = include_str!("../../testdata/endpoint_show_detailed.txt");
    assert_eq!(lab.ctl("endpoint show --detailed", ""), seen(0, detailed, ""));
    let one = include_str!("../../testdata/endpoint_show_one.txt");
    let words = "endpoint show --endpoint=d79123c4784511e5bd1a080027f532f6 --detailed";
    assert_eq!(lab.ctl(words, ""), seen(0, one, ""));
}

#[test]
fn the_published_profile_commands_byte_for_byte() {
    let lab = published();
    let endpoint = "endpoint d79123c4784511e5bd1a080027f532f6 profile";
    assert_eq!(lab.ctl(&format!("{endpoint} set PROF"), ""), seen(0, "Profile(s) PROF set.\n\n", ""));
    assert_eq!(lab.ctl(&format!("{endpoint} append WEB"), ""), seen(0, "Profile(s) WEB appended.\n\n", ""));
    let shown = "+------+\n| Name |\n+------+\n| PROF |\n| WEB  |\n+------+\n\n";
    assert_eq!(lab.ctl(&format!("{endpoint} show"), ""), seen(0, shown, ""));
    assert_eq!(
        lab.ctl(&format!("{endpoint} remove WEB PROF"), ""),
        seen(0, "Profile(s) WEB,PROF removed.\n\n", "")
    );
}
