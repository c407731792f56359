//! get (cases 21 to 39): tables, formats, watches.

use serde_json::json;

use super::*;
use appliance_resources::Kind;

/// Lines without their trailing blanks.
pub(super) fn stripped(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn check(lab: &Lab, words: &str, status: u8, out: &str, err: &str) {
    let seen = lab.ctl(words, "");
    assert_eq!((seen.status, stripped(&seen.out).as_str(), seen.err.as_str()), (status, out, err), "{words}");
}

#[test]
fn lists_are_tables() {
    let lab = Lab::with(&[HEP1, HEP2]);
    check(&lab, "get hep", 0, "NAME        NODE\nendpoint1   host1\nendpoint2   host1\n\n", ""); // 21
    let wide = "NAME        NODE    INTERFACE   IPS                PROFILES\n\
                endpoint1   host1   eth0                           prof1,prof2\n\
                endpoint2   host1   *           10.0.0.1,fd00::1\n\n";
    check(&lab, "get HostEndPoints -o wide", 0, wide, ""); // 22
    let two = "NAME        NODE\nendpoint1   host1\n\nNAME        NODE\nendpoint2   host1\n\n";
    let blah = "resource does not exist: HostEndpoint(blah) with error: <nil>\n";
    check(&lab, "get hep endpoint1 blah endpoint2", 1, two, blah); // 23
    let columns = "NAME        IPS\nendpoint1\nendpoint2   10.0.0.1,fd00::1\n\n";
    check(&lab, "get hep -o custom-columns=NAME,IPS", 0, columns, ""); // 28
    let names = "hostendpoint.projectcalico.org/endpoint1\nhostendpoint.projectcalico.org/endpoint2\n";
    check(&lab, "get hep -o name", 0, names, "");
    check(&lab, "get hep -l type=database", 0, "NAME        NODE\nendpoint1   host1\n\n", "");
}

#[test]
fn an_empty_list_has_a_header_and_a_version() {
    let lab = Lab::new();
    check(&lab, "get hep", 0, "NAME   NODE\n\n", ""); // 24
    let yaml = "apiVersion: projectcalico.org/v3\nitems: []\nkind: HostEndpointList\nmetadata:\n  resourceVersion: \"0\"\n";
    check(&lab, "get hep -o yaml", 0, yaml, ""); // 25
}

#[test]
fn mistakes_are_told_in_calicoctl_words() {
    let lab = Lab::with(&[HEP1]);
    let kind = "failed to get resources: resource type 'somekind' is not supported\n";
    check(&lab, "get somekind somename", 1, "", kind); // 26
    let empty = lab.ctl_words(&["get", "hep", ""], ""); // 27
    assert_eq!(empty, seen(1, "", "failed to get resources: resource name may not be empty\n"));
    let heading = lab.ctl("get hep -o custom-columns=NAME,FOO", ""); // 29
    assert!(
        heading.status == 1 && heading.err.contains("unknown heading FOO, valid values are:"),
        "{heading:?}"
    );
    check(&lab, "get hep -o xml", 1, "", "unrecognized output format 'xml'\n"); // 30
    check(&lab, "get hep -A", 1, "", "HostEndpoint is not namespaced\n"); // 33
    check(&lab, "get hep -a", 1, "", "HostEndpoint is not namespaced\n");
    let namespaced = "cannot use --all-namespace flag for getting a single resource\n";
    check(&lab, "get wep web -A", 1, "", namespaced); // 38
    check(&lab, "get", 1, "", "must specify a resource kind or --filename\n");
}

#[test]
fn an_export_can_be_applied_and_a_list_keeps_its_versions() {
    let lab = Lab::with(&[HEP1]);
    let exported = lab.ctl("get hep endpoint1 -o yaml --export", "").out; // 31
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(!exported.contains(field), "{exported}");
    }
    assert!(exported.contains("type: database"), "{exported}");
    assert_eq!(lab.ctl("apply -f -", &exported).status, 0);
    let list = lab.stored("hep --export"); // 32
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(list["items"][0]["metadata"].get(field).is_some(), "{list}");
    }
}

#[test]
fn tiers_are_listed_as_they_are_evaluated() {
    let lab = Lab::with(&[TIER_ADMIN, TIER_BEFORE]);
    assert_eq!(lab.names("tiers"), ["before", "admin"]); // 34
    check(&lab, "get tiers", 0, "NAME     ORDER\nbefore   100\nadmin    10000\n\n", "");
    check(
        &lab,
        "get tiers --sort-by=.metadata.name -o custom-columns=NAME",
        0,
        "NAME\nadmin\nbefore\n\n",
        "",
    );
}

#[test]
fn namespaces_are_a_column_when_asked_about() {
    let lab = Lab::new();
    for (namespace, name) in [("default", "wep1"), ("test", "wep2")] {
        let object = json!({"kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"node": "n1", "workload": "w", "interfaceName": "cali1", "ipNetworks": ["10.0.0.1/32"]}});
        lab.api.state().put(Kind::WorkloadEndpoint, object);
    }
    // 36 and 37, on the namespaced kind there is.
    let all = "NAMESPACE   WORKLOAD   NODE   NETWORKS      INTERFACE\n\
               default     w          n1     10.0.0.1/32   cali1\n\
               test        w          n1     10.0.0.1/32   cali1\n\n";
    check(&lab, "get wep -A", 0, all, "");
    let plain = "WORKLOAD   NODE   NETWORKS      INTERFACE\nw          n1     10.0.0.1/32   cali1\n\n";
    check(&lab, "get wep", 0, plain, "");
    let one = "NAMESPACE   WORKLOAD   NODE   NETWORKS      INTERFACE\ntest        w          n1     10.0.0.1/32   cali1\n\n";
    check(&lab, "get wep -n test", 0, one, "");
}

#[test]
fn get_by_file_asks_for_what_the_file_names() {
    let lab = Lab::with(&[HEP1, HEP2]);
    let file = lab.file("two.yaml", &documents(&[HEP2, HEP3]));
    let seen = lab.ctl(&format!("get -f {file}"), "");
    assert_eq!(stripped(&seen.out), "NAME        NODE\nendpoint2   host1\n\n");
    assert_eq!(seen.err, "resource does not exist: HostEndpoint(endpoint3) with error: <nil>\n");
    assert_eq!(seen.status, 1);
}

#[test]
fn yaml_of_several_names_is_a_list_that_apply_takes_back() {
    let lab = Lab::with(&[HEP1, HEP2]);
    let yaml = lab.ctl("get hep endpoint1 endpoint2 -o yaml", "").out;
    assert!(yaml.starts_with("- apiVersion: projectcalico.org/v3\n  kind: HostEndpoint\n"), "{yaml}");
    let applied = "Successfully applied 2 'HostEndpoint' resource(s)\n";
    assert_eq!(lab.ctl("apply -f -", &yaml), seen(0, applied, ""));
}

#[test]
fn version_and_completion() {
    let lab = Lab::new();
    let information = json!({"kind": "ClusterInformation", "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": "default"}, "spec": {"calicoVersion": "v0.1.0", "clusterType": ""}});
    let failed = lab.ctl("version", "");
    assert_eq!(failed.status, 1);
    assert!(failed.err.starts_with("unable to retrieve Cluster Version or Type: "), "{failed:?}");
    lab.api.state().put(Kind::ClusterInformation, information);
    let seen = lab.ctl("version", "");
    let client = format!("Client Version:    v{}\n", env!("CARGO_PKG_VERSION"));
    assert!(seen.out.starts_with(&client), "{seen:?}");
    assert!(seen.out.ends_with("Cluster Version:   v0.1.0\nCluster Type:      unknown\n"), "{seen:?}");
    assert_eq!(ctl(&["calicoctl", "version", "--client", "--socket", "/nonexistent"], "").status, 0);
    for shell in ["bash", "zsh", "fish"] {
        let script = ctl(&["calicoctl", "completion", shell], "");
        assert!(script.status == 0 && script.out.contains("appliance") && script.out.contains("calicoctl"));
    }
}

/// Starts from one endpoint; what a second writer does is played by the node between the list and the watch.
#[test]
fn a_watch_prints_the_list_and_then_a_row_for_each_change() {
    let lab = Lab::with(&[HEP1]);
    let api = lab.api.clone();
    let writer = std::thread::spawn(move || {
        // The list has been asked for: whatever comes now is a change.
        while !api
            .state()
            .requests
            .iter()
            .any(|line| line.starts_with("GET") && line.ends_with("/hostendpoints"))
        {
            std::thread::yield_now();
        }
        let mut object = json!({"kind": "HostEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "late"}, "spec": {"node": "host9", "interfaceName": "eth0"}});
        api.state().put(Kind::HostEndpoint, object.clone());
        object["spec"]["node"] = json!("host10");
        api.state().put(Kind::HostEndpoint, object);
    });
    let seen = lab.ctl_until("get hep -w --output-watch-events", 3);
    writer.join().unwrap();
    let expected = "EVENT      NAME        NODE\nADDED      endpoint1   host1\nADDED      late        host9\n\
                    MODIFIED   late        host10\n";
    assert_eq!((seen.status, stripped(&seen.out).as_str()), (0, expected));
}

#[test]
fn a_watch_whose_history_expired_starts_over_without_repeating_itself() {
    let lab = Lab::with(&[HEP1, HEP2]);
    lab.api.state().expire = true;
    let api = lab.api.clone();
    let writer = std::thread::spawn(move || {
        while api.state().expire {
            std::thread::yield_now();
        }
        let object = json!({"kind": "HostEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "late"}, "spec": {"node": "host9", "interfaceName": "eth0"}});
        api.state().put(Kind::HostEndpoint, object);
    });
    let seen = lab.ctl_until("get hep -w -o name", 2);
    writer.join().unwrap();
    let lines: Vec<&str> = seen.out.lines().filter(|line| !line.is_empty()).collect();
    let name = |name: &str| format!("hostendpoint.projectcalico.org/{name}");
    assert_eq!(lines, [name("endpoint1"), name("endpoint2"), name("late")]);
}
