//! The `endpoint` commands (cases 61 to 68) over the fixture of the reference's transcripts.

use appliance_resources::Kind;
use serde_json::json;

use super::*;

/// host, orchestrator, workload, endpoint, profiles.
const FIXTURE: [(&str, &str, &str, &str, &[&str]); 6] = [
    ("host1", "docker", "wlA", "ep-a1", &["PROF"]),
    ("host1", "docker", "wlA", "ep-a2", &["PROF", "WEB"]),
    ("host1", "docker", "wlC", "dup", &["PROF"]),
    ("host1", "libnetwork", "libnetwork", "ep-z", &["PROF"]),
    ("host2", "docker", "wlB", "ep-b1", &[]),
    ("host2", "docker", "wlD", "dup", &["PROF"]),
];

fn fixture() -> Lab {
    let lab = Lab::new();
    for (host, orchestrator, workload, endpoint, profiles) in FIXTURE {
        let object = json!({"kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": workload_endpoint_name([host, orchestrator, workload, endpoint]), "namespace": "default"},
            "spec": {"node": host, "orchestrator": orchestrator, "workload": workload, "endpoint": endpoint,
                     "interfaceName": "cali1", "profiles": profiles, "ipNetworks": ["192.168.1.3/32"]}});
        lab.api.state().put(Kind::WorkloadEndpoint, object);
    }
    for profile in ["PROF", "WEB", "DB"] {
        let object = json!({"kind": "Profile", "apiVersion": "projectcalico.org/v3", "metadata": {"name": profile},
                            "spec": {}});
        lab.api.state().put(Kind::Profile, object);
    }
    lab
}

fn stored_profiles(lab: &Lab, name: &str) -> serde_json::Value {
    lab.stored(&format!("wep {name}"))["spec"]["profiles"].clone()
}

#[test]
fn show_counts_per_host_and_orchestrator() {
    let lab = fixture();
    let table = "\
+----------+-----------------+---------------------+---------------------+
| Hostname | Orchestrator ID | Number of Workloads | Number of Endpoints |
+----------+-----------------+---------------------+---------------------+
|  host1   |      docker     |          2          |          3          |
|  host1   |    libnetwork   |          1          |          1          |
|  host2   |      docker     |          2          |          2          |
+----------+-----------------+---------------------+---------------------+

";
    assert_eq!(lab.ctl("endpoint show", ""), seen(0, table, "")); // 61
    let empty = "\
+----------+-----------------+---------------------+---------------------+
| Hostname | Orchestrator ID | Number of Workloads | Number of Endpoints |
+----------+-----------------+---------------------+---------------------+
+----------+-----------------+---------------------+---------------------+

";
    assert_eq!(lab.ctl("endpoint show --host=nohost", ""), seen(0, empty, "")); // 62
}

#[test]
fn host_endpoints_are_endpoints_of_the_orchestrator_host() {
    let lab = Lab::with(&[HEP2]);
    let report = json!({"kind": "NodeReport", "apiVersion": "appliance/v1", "metadata": {"name": "host1"},
        "status": {"revision": 1, "state": "Enforcing", "endpoints": [
            {"kind": "HostEndpoint", "name": "endpoint2", "interfaces": ["eth0"], "state": "up"}]}});
    let detailed = |state: &str| {
        let table = "\
+----------+-----------------+-------------+-------------+-------------+------+----------+---------+
| Hostname | Orchestrator ID | Workload ID | Endpoint ID |  Addresses  | MAC  | Profiles |  State  |
+----------+-----------------+-------------+-------------+-------------+------+----------+---------+
|  host1   |       host      |    host1    |  endpoint2  | 10.0.0.1/32 | None |          | unknown |
|          |                 |             |             | fd00::1/128 |      |          |         |
+----------+-----------------+-------------+-------------+-------------+------+----------+---------+

";
        match state {
            "active" => table
                .replace("---------+\n", "--------+\n")
                .replace("  State  |", " State  |")
                .replace("unknown", "active")
                .replace("|         |\n", "|        |\n"),
            _ => table.to_string(),
        }
    };
    assert_eq!(lab.ctl("endpoint show --detailed", ""), seen(0, &detailed("unknown"), ""));
    lab.api.state().put(Kind::NodeReport, report);
    assert_eq!(lab.ctl("endpoint show --orchestrator=host --detailed", ""), seen(0, &detailed("active"), ""));
}

#[test]
fn profiles_are_shown_appended_and_removed() {
    let lab = fixture();
    let table = "+------+\n| Name |\n+------+\n| PROF |\n| WEB  |\n+------+\n\n";
    assert_eq!(lab.ctl("endpoint ep-a2 profile show", ""), seen(0, table, "")); // 63
    let none = "Endpoint has no profiles associated with it.\n";
    assert_eq!(lab.ctl("endpoint ep-b1 profile show", ""), seen(0, none, ""));
    let appended = "Profile(s) WEB, PROF appended.\n\n";
    assert_eq!(lab.ctl("endpoint ep-b1 profile append WEB PROF", ""), seen(0, appended, "")); // 64
    assert_eq!(stored_profiles(&lab, "host2-docker-wlB-ep--b1"), json!(["WEB", "PROF"]));
    let there = "Profile WEB is already in endpoint profile list\n\n";
    assert_eq!(lab.ctl("endpoint ep-b1 profile append DB WEB", ""), seen(0, there, ""));
    assert_eq!(stored_profiles(&lab, "host2-docker-wlB-ep--b1"), json!(["WEB", "PROF"]));
    let not_there = "Profile DB is not in endpoint profile list.\n\n";
    assert_eq!(lab.ctl("endpoint ep-a2 profile remove PROF DB", ""), seen(0, not_there, "")); // 65
    assert_eq!(stored_profiles(&lab, "host1-docker-wlA-ep--a2"), json!(["PROF", "WEB"]));
}

#[test]
fn several_matches_need_a_filter() {
    let lab = fixture();
    let several = "More than 1 endpoint matches the provided criteria.  Please provide additional\nparameters to refine \
                   the search.\n\n";
    assert_eq!(lab.ctl("endpoint dup profile append WEB", ""), seen(1, several, "")); // 66
    assert_eq!(lab.ctl("endpoint dup profile set WEB", ""), seen(1, several, ""));
    let one_line = "More than 1 endpoint matches the provided criteria. Please provide additional parameters to refine \
                    the search.\n";
    assert_eq!(lab.ctl("endpoint dup profile remove WEB", ""), seen(1, one_line, ""));
    let show = format!("Failed to list profiles in endpoint.\n\n{several}");
    assert_eq!(lab.ctl("endpoint dup profile show", ""), seen(1, &show, ""));
    let appended = "Profile(s) WEB appended.\n\n";
    assert_eq!(lab.ctl("endpoint dup profile append WEB --host=host1", ""), seen(0, appended, ""));
    assert_eq!(stored_profiles(&lab, "host1-docker-wlC-dup"), json!(["PROF", "WEB"]));
}

#[test]
fn nothing_set_removes_all() {
    let lab = fixture();
    let removed = "Removed all profiles from endpoint.\n\n";
    assert_eq!(lab.ctl("endpoint ep-b1 profile set", ""), seen(0, removed, "")); // 67
    assert_eq!(lab.ctl("endpoint ep-a2 profile set", ""), seen(0, removed, ""));
    let none = "Endpoint has no profiles associated with it.\n";
    assert_eq!(lab.ctl("endpoint ep-a2 profile show", ""), seen(0, none, ""));
    let nothing = "No profile specified.\n\n";
    assert_eq!(lab.ctl("endpoint nope profile append", ""), seen(0, nothing, ""));
}

#[test]
fn unknown_endpoints_and_profiles_have_the_old_words() {
    let lab = fixture();
    let append = "Failed to append profiles to endpoint.\n\nEndpoint nope is unknown to Calico.\n\n";
    assert_eq!(lab.ctl("endpoint nope profile append WEB", ""), seen(1, append, "")); // 68
    let remove = "Failed to remove profiles from endpoint.\n\nEndpoint could not be found.\n\n";
    assert_eq!(lab.ctl("endpoint nope profile remove WEB", ""), seen(1, remove, ""));
    let set = "Failed to set profiles for endpoint.\n\nEndpoint could not be found.\n\n";
    assert_eq!(lab.ctl("endpoint nope profile set PROF", ""), seen(1, set, ""));
    let show = "Failed to list profiles in endpoint.\n\nEndpoint nope is unknown to Calico.\n\n";
    assert_eq!(lab.ctl("endpoint nope profile show", ""), seen(1, show, ""));

    let missing = "Profile with name NOPE was not found.\n";
    for verb in ["append", "set", "remove"] {
        assert_eq!(lab.ctl(&format!("endpoint ep-a1 profile {verb} NOPE"), ""), seen(1, missing, ""));
    }
    let twice = "Profile with name DB was specified more than once.\n";
    assert_eq!(lab.ctl("endpoint ep-a1 profile append DB DB", ""), seen(1, twice, ""));
    let bad = "Profile names must be < 40 character long and can only contain numbers, letters,\ndots, dashes and \
               underscores.\n\n";
    assert_eq!(lab.ctl("endpoint ep-a1 profile append a/b", ""), seen(1, bad, ""));
}

#[test]
fn a_reference_to_a_deleted_profile_can_be_removed() {
    let lab = fixture();
    assert_eq!(lab.ctl("delete profile PROF", "").status, 0);
    let removed = "Profile(s) PROF removed.\n\n";
    assert_eq!(lab.ctl("endpoint ep-a2 profile remove PROF", ""), seen(0, removed, ""));
    assert_eq!(stored_profiles(&lab, "host1-docker-wlA-ep--a2"), json!(["WEB"]));
}

#[test]
fn words_that_make_no_command_show_the_usage() {
    let lab = Lab::new();
    let usage = lab.ctl("endpoint a1 profile drop X", "");
    assert_eq!((usage.status, usage.out.as_str()), (1, ""));
    assert!(usage.err.starts_with("Usage:\n  calicoctl endpoint show [--host=<HOSTNAME>]"), "{usage:?}");
}
