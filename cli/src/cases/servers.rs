//! Several servers: who is asked when one does not answer, and that a write has one effect.

use serde_json::json;

use super::tls::{authority, kubeconfig};
use super::*;

/// Two members of one cluster, and the arguments that name both.
fn pair(folder: &tempfile::TempDir) -> (FakeApi, Vec<String>) {
    let ours = authority();
    let (api, first) = FakeApi::listen_tls(ours.server.clone());
    let second = api.also_listen_tls(ours.server.clone());
    let config = kubeconfig(folder, "own", first, &ours, "");
    let servers = format!("https://127.0.0.1:{first},https://127.0.0.1:{second}");
    (api, vec!["--kubeconfig".to_string(), config, "--server".to_string(), servers])
}

fn ctl_at(words: &str, at: &[String], stdin: &str) -> Seen {
    let line: Vec<&str> =
        ["calicoctl"].into_iter().chain(words.split(' ')).chain(at.iter().map(String::as_str)).collect();
    ctl(&line, stdin)
}

#[test]
fn a_write_whose_connection_breaks_goes_to_the_next_server_under_the_same_id() {
    let folder = tempfile::tempdir().unwrap();
    let (api, at) = pair(&folder);
    for fault in ["hang up", "uncertain"] {
        api.state().objects.clear();
        api.state().ids.clear();
        (api.state().hang_up, api.state().uncertain) = (fault == "hang up", fault == "uncertain");
        let created = seen(0, "Successfully created 1 'HostEndpoint' resource(s)\n", "");
        assert_eq!(ctl_at("create -f -", &at, HEP1), created, "{fault}");
        let ids = api.state().ids.clone();
        assert!(ids.len() == 2 && ids[0] == ids[1] && ids[0].len() == 32, "{fault}: {ids:?}");
    }
}

#[test]
fn different_writes_have_different_ids() {
    let lab = Lab::with(&[HEP1]);
    assert_eq!(lab.ctl("apply -f -", &documents(&[HEP1B, HEP2])).status, 0);
    let ids: std::collections::BTreeSet<String> = lab.api.state().ids.iter().cloned().collect();
    assert_eq!((ids.len(), lab.api.state().ids.len()), (3, 3));
}

#[test]
fn a_server_that_can_not_serve_passes_on_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (api, at) = pair(&folder);
    api.state().busy = 1;
    assert_eq!(ctl_at("get hep", &at, "").status, 0);
    assert_eq!(api.state().requests.len(), 2);
    api.state().busy = u32::MAX;
    api.state().requests.clear();
    let failed = ctl_at("get hep", &at, "");
    assert_eq!((failed.status, api.state().requests.len()), (1, 10), "five times each: {failed:?}");
}

#[test]
fn the_status_of_a_cluster_is_asked_of_who_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let (api, at) = pair(&folder);
    let status = |node: &str, quorum: bool| {
        json!({"cluster": "c1", "quorum": quorum, "leader": null, "term": 1, "revision": 1, "node": node, "members": [
            {"id": "1", "name": "n1", "role": "voter", "reachable": quorum},
            {"id": "2", "name": "n2", "role": "voter", "reachable": quorum}], "alarms": []})
    };
    let answers = vec![(200, status("1", false)), (200, status("2", true))];
    api.state().cluster.insert("GET /cluster/status".to_string(), answers);
    let seen = ctl_at("cluster status", &at, "");
    assert_eq!(
        (seen.status, seen.err.as_str()),
        (0, "n1 sees no quorum; this is what n2 sees.\n"),
        "{seen:?}"
    );
    api.state().cluster.insert("GET /cluster/status".to_string(), vec![(200, status("1", false))]);
    assert_eq!(ctl_at("cluster status", &at, "").status, 1);
}

#[test]
fn what_a_member_does_to_itself_is_never_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (api, at) = pair(&folder);
    api.state().hang_up = true;
    let seen = ctl_at("leader transfer", &at, "");
    assert!(seen.status == 1 && seen.err.contains("may or may not have been made"), "{seen:?}");
    assert_eq!(api.state().ids.len(), 1);
}

#[test]
fn a_watch_goes_on_at_another_server_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (api, at) = pair(&folder);
    assert_eq!(ctl_at("create -f -", &at, HEP1).status, 0);
    let late = api.clone();
    let writer = std::thread::spawn(move || {
        // One watch has been opened and has ended: the next is the resumption.
        let opened =
            |api: &FakeApi| api.state().requests.iter().filter(|line| line.contains("watch=true")).count();
        while opened(&late) == 0 {
            std::thread::yield_now();
        }
        let object = json!({"kind": "HostEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "late"}, "spec": {"node": "host9", "interfaceName": "eth0"}});
        late.state().put(appliance_resources::Kind::HostEndpoint, object);
    });
    let line: Vec<&str> = ["calicoctl", "get", "hep", "-w", "-o", "name"]
        .into_iter()
        .chain(at.iter().map(String::as_str))
        .collect();
    let parsed = Calicoctl::try_parse_from(line).unwrap();
    let mut world = World::captured(&parsed.args, "");
    world.console.close_after(2);
    let status = crate::execute(parsed.args, &mut world);
    writer.join().unwrap();
    let (out, _) = world.console.take();
    let names: Vec<&str> = out.lines().collect();
    let expected = ["hostendpoint.projectcalico.org/endpoint1", "hostendpoint.projectcalico.org/late"];
    assert_eq!((status, names.as_slice()), (0, expected.as_slice()));
    assert_eq!(
        api.state().requests.iter().filter(|line| !line.contains("watch") && line.starts_with("GET")).count(),
        1
    );
}

#[test]
fn a_kubeconfig_lists_the_servers_that_kubectl_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority();
    let (_api, port) = FakeApi::listen_tls(ours.server.clone());
    let extension = format!(
        ", extensions: [{{name: appliance, extension: {{servers: [\"https://127.0.0.1:1\", \
         \"https://127.0.0.1:{port}\"]}}}}, {{name: other, extension: {{servers: 7}}}}]"
    );
    let config = kubeconfig(&folder, "several", 1, &ours, &extension);
    let seen = ctl(&["calicoctl", "get", "hep", "--kubeconfig", &config], "");
    assert_eq!((seen.status, seen.err.as_str()), (0, ""));
}

#[test]
fn what_a_node_warns_of_is_told_once_on_standard_error() {
    let lab = Lab::new();
    lab.api.state().warning = Some("299 - \"spec.x is not used any more\"");
    let seen = lab.ctl("create -f -", &documents(&[HEP1, HEP2]));
    assert_eq!((seen.status, seen.err.as_str()), (0, "Warning: spec.x is not used any more\n"));
    let watched = lab.ctl_until("get hep -w -o name", 1);
    assert_eq!(watched.err, "Warning: spec.x is not used any more\n");
}
