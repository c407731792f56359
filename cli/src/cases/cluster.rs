//! The commands of the cluster, against a node that answers as a cluster would.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::get::stripped;
use super::*;

fn member(name: &str, role: &str, reachable: bool, applied: u64) -> Value {
    json!({"id": format!("00000000000000{name}"), "name": name, "role": role, "leader": false,
           "peer": [format!("10.0.0.{applied}:2380")], "api": ["10.0.0.1:6443"], "version": "0.1.0",
           "reachable": reachable, "lastContactMs": if reachable { 40 } else { 300_000 }, "applied": applied,
           "last": applied, "lastTerm": 3, "lag": 0, "revision": 40, "enforcedRevision": 40, "enforcement": "Enforcing",
           "diverged": false, "certificateExpires": "2026-03-31T00:00:00Z"})
}

/// Three voters; `n1` is asked and leads, `n3` may be away.
fn healthy() -> Value {
    let mut leader = member("n1", "voter", false, 7);
    (leader["leader"], leader["lastContactMs"]) = (json!(true), Value::Null);
    let members = [leader, member("n2", "voter", true, 7), member("n3", "voter", true, 6)];
    json!({"cluster": "c1", "quorum": true, "leader": "00000000000000n1", "term": 3, "revision": 40,
           "node": "00000000000000n1", "members": members, "autopilot": {"replaceAfterSeconds": null}, "alarms": []})
}

fn without_quorum() -> Value {
    let mut status = healthy();
    (status["quorum"], status["leader"]) = (json!(false), Value::Null);
    for index in [1, 2] {
        status["members"][index]["reachable"] = json!(false);
        status["members"][index]["lastContactMs"] = json!(300_000);
    }
    status["members"][0]["leader"] = json!(false);
    status
}

#[test]
fn a_healthy_cluster_at_a_glance() {
    let lab = Lab::new();
    lab.answers("GET /cluster/status", 200, healthy());
    let seen = lab.ctl("cluster status", "");
    let expected = "\
Cluster:  c1
Quorum:   yes: 3 of 3 voters, 2 needed
Leader:   n1, term 3
Revision: 40, as n1 knows it

NAME   ROLE     CONTACT    APPLIED   LAG   ENFORCED   ENFORCEMENT   CERTIFICATE
n1     leader   here       7         0     40         Enforcing     89d
n2     voter    40ms ago   7         0     40         Enforcing     89d
n3     voter    40ms ago   6         0     40         Enforcing     89d

All is well.
";
    assert_eq!((seen.status, stripped(&seen.out).as_str(), seen.err.as_str()), (0, expected, ""));
    let json = lab.ctl("cluster status -o json", "");
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap(), healthy());
    let wide = lab.ctl("member list -o wide", "");
    assert!(
        wide.status == 0 && wide.out.contains("00000000000000n2") && wide.out.contains("10.0.0.7:2380"),
        "{wide:?}"
    );
}

#[test]
fn a_lost_quorum_is_told_with_what_to_do_and_fails() {
    let lab = Lab::new();
    lab.answers("GET /cluster/status", 200, without_quorum());
    let seen = lab.ctl("cluster status", "");
    let expected = "\
Cluster:  c1
Quorum:   NO: 1 of 3 voters, 2 needed
Leader:   none, term 3
Revision: 40, as n1 knows it

NAME   ROLE    CONTACT       APPLIED   LAG   ENFORCED   ENFORCEMENT   CERTIFICATE
n1     voter   here          7         0     40         Enforcing     89d
n2     voter   LOST 5m ago   7         0     40         Enforcing     89d
n3     voter   LOST 5m ago   6         0     40         Enforcing     89d

What to do:
  - NO QUORUM: 1 of 3 voters can be reached from here, 2 are needed. Nothing can be written; every host keeps enforcing \
what it has, and `appliance ctl get --stale` still reads.
  - Start 1 of: n2 (10.0.0.7:2380, last heard of 5m ago), n3 (10.0.0.6:2380, last heard of 5m ago) (`systemctl start \
appliance` there), or mend the network to them.
  - Only if they are lost for good, on a surviving host: appliance ctl recover
";
    assert_eq!((seen.status, stripped(&seen.out).as_str()), (1, expected));
}

#[test]
fn a_node_that_waits_for_its_data_is_heard_at_once() {
    let lab = Lab::new();
    lab.answers("GET /cluster/status", 200, healthy());
    // A second attempt would be answered.
    lab.api.state().busy = 1;
    let seen = lab.ctl("cluster status", "");
    assert!(seen.status == 1 && seen.err.starts_with("the node can not tell: "), "{seen:?}");
    assert_eq!(lab.ctl("cluster status", "").status, 0);
}

#[test]
fn a_removed_node_says_so_and_is_no_place_to_recover() {
    let lab = Lab::new();
    let mut status = without_quorum();
    status["members"][0]["role"] = json!("removed");
    lab.answers("GET /cluster/status", 200, status);
    let seen = lab.ctl("cluster status", "");
    assert!(
        seen.status == 1 && seen.out.contains("Quorum:   this node was removed from the cluster\n"),
        "{seen:?}"
    );
    let seen = lab.ctl("recover --yes --cluster c1", "");
    assert_eq!(
        seen,
        super::seen(1, "", "n1 was removed from the cluster: recover on a member that was not\n")
    );
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let lab = Lab::new();
    let join = "appliance run --join 10.0.0.1:6443 --token at1.0123456789.s.p";
    let made = json!({"id": "0123456789", "token": "at1.0123456789.s.p", "expires": "2026-01-01T00:15:00Z", "join": join});
    lab.answers("POST /cluster/tokens", 201, made);
    let token = json!({"id": "0123456789", "role": "node", "created": "2026-01-01T00:00:00Z", "createdBy": "root",
                       "expires": "2026-01-01T00:15:00Z", "usesLeft": null, "usedBy": ["n2", "n3"], "description": "rack"});
    lab.answers("GET /cluster/tokens", 200, json!({"items": [token]}));
    lab.answers("DELETE /cluster/tokens/0123456789", 200, json!({"kind": "Status", "status": "Success"}));
    let seen = lab.ctl("token create --ttl 15m --uses 2 --description rack", "");
    let expected = format!(
        "# Good for 2 hosts until 2026-01-01T00:15:00Z. Run this on a host that is to join:\n{join}\n"
    );
    assert_eq!(seen, super::seen(0, &expected, ""));
    let wanted = json!({"ttlSeconds": 900, "uses": 2, "role": "node", "description": "rack"});
    assert_eq!(lab.sent()[0], ("POST /cluster/tokens".to_string(), wanted));
    let seen = lab.ctl("token list", "");
    let expected = "ID           EXPIRES                USES LEFT   USED BY   CREATED BY   DESCRIPTION\n\
                    0123456789   2026-01-01T00:15:00Z   any         n2,n3     root         rack\n\n";
    assert_eq!(stripped(&seen.out), expected);
    let seen = lab.ctl("token revoke 0123456789", "");
    assert_eq!(seen, super::seen(0, "Token 0123456789 is revoked: no host can join with it any more.\n", ""));
    let bad = lab.ctl("token create --ttl soon", "");
    let expected = "--ttl 'soon' is not a duration; examples are 15m, 1h30m, 24h and 30d\n";
    assert_eq!(bad, super::seen(1, "", expected));
}

#[test]
fn a_member_is_removed_only_by_who_means_it() {
    let lab = Lab::new();
    lab.answers("GET /cluster/status", 200, healthy());
    let removed = json!({"message": "n2 is removed; its host keeps enforcing"});
    lab.answers("DELETE /cluster/members/00000000000000n2", 200, removed);
    let question = "n2 (00000000000000n2) will leave the cluster for good; its host keeps enforcing the last policy it knew.";
    let seen = lab.ctl("member remove n2", "yes\n");
    let refused = format!("{question}\nnothing was done: nobody can be asked here; say --yes to do it\n");
    assert_eq!(seen, super::seen(1, "", &refused));
    let seen = lab.ctl_person("member remove n2", "no\n");
    assert_eq!(seen, super::seen(1, "", &format!("{question}\nGo on? Type yes: nothing was done\n")));
    assert_eq!(lab.sent(), []);
    let done = "n2 is removed; its host keeps enforcing\n";
    let seen = lab.ctl_person("member remove n2", "yes\n");
    assert_eq!((seen.status, seen.out.as_str()), (0, done));
    assert_eq!(lab.ctl("member remove 00000000000000n2 --yes", ""), super::seen(0, done, ""));
    let requests: Vec<String> = lab.sent().into_iter().map(|(request, _)| request).collect();
    assert_eq!(requests, ["DELETE /cluster/members/00000000000000n2"; 2]);
    let forced = lab.ctl("member remove n2 --yes --force", "");
    assert!(forced.status != 0 && forced.err.contains("--force"), "a quorum can not be forced: {forced:?}");
    assert_eq!(lab.sent().len(), 2);
    let seen = lab.ctl("member remove nobody --yes", "");
    assert_eq!(seen, super::seen(1, "", "no member 'nobody'; there are n1, n2, n3\n"));
}

#[test]
fn members_are_promoted_and_leadership_moves() {
    let lab = Lab::new();
    lab.answers("POST /cluster/members/n4/promote", 200, json!({"message": "n4 votes", "member": {}}));
    let conflict =
        json!({"kind": "Status", "code": 409, "reason": "Conflict", "message": "n2 is a learner already"});
    lab.answers("POST /cluster/members/n2/demote", 409, conflict);
    lab.answers("POST /cluster/leader", 200, json!({"leader": {"id": "00000000000000n3", "name": "n3"}}));
    assert_eq!(lab.ctl("member promote n4", ""), seen(0, "n4 votes\n", ""));
    assert_eq!(lab.ctl("member demote n2", ""), seen(1, "", "n2 is a learner already\n"));
    assert_eq!(lab.ctl("leader transfer n3", ""), seen(0, "n3 (00000000000000n3) leads.\n", ""));
    assert_eq!(lab.ctl("leader transfer", "").status, 0);
    let sent = lab.sent();
    assert_eq!((&sent[2].1, &sent[3].1), (&json!({"to": "n3"}), &json!({"to": null})));
}

#[test]
fn a_snapshot_is_saved_whole_or_not_at_all() {
    let lab = Lab::new();
    let content = b"rows of a store".repeat(100);
    let whole = [content.as_slice(), &Sha256::digest(&content)].concat();
    let place = lab.folder.path().join("saved.snapshot");
    let save = format!("snapshot save {}", place.display());
    lab.api.state().snapshot = whole[..whole.len() - 1].to_vec();
    let failed = lab.ctl(&save, "");
    assert!(failed.status == 1 && failed.err.contains("hash does not match"), "{failed:?}");
    let left = || std::fs::read_dir(lab.folder.path()).unwrap().count();
    assert_eq!(left(), 1, "only the socket: {failed:?}");

    lab.api.state().snapshot = whole.clone();
    let expected = format!("Saved {}: revision 42, {} bytes, checked.\n", place.display(), whole.len());
    assert_eq!(lab.ctl(&save, ""), seen(0, &expected, ""));
    assert_eq!(std::fs::read(&place).unwrap(), whole);
    let refused = lab.ctl(&save, "");
    let expected =
        format!("{}: there is a file already; it was left as it is, --force replaces it\n", place.display());
    assert_eq!(refused, seen(1, "", &expected));
    assert_eq!(lab.ctl(&format!("{save} --force"), "").status, 0);
    assert_eq!(left(), 2);
}

#[test]
fn snapshots_are_read_and_restored_without_a_node() {
    let seen = ctl(&["calicoctl", "snapshot", "status", "/x/good.snapshot"], "");
    assert_eq!(seen, super::seen(0, "cluster:  c1\nrevision: 42\nbytes:    1000\n", ""));
    let seen = ctl(&["calicoctl", "snapshot", "status", "/x/bad.snapshot"], "");
    assert_eq!(seen, super::seen(1, "", "/x/bad.snapshot: its hash does not match\n"));
    let line =
        ["calicoctl", "snapshot", "restore", "/x/good.snapshot", "--data-dir", "/y", "--node-name", "n9"];
    let seen = ctl(&line, "");
    assert_eq!(seen.status, 0);
    for expected in
        ["node:     n9\n", "revision: 1000000042\n", "--data-dir /y", "appliance ctl token create"]
    {
        assert!(seen.out.contains(expected), "{expected}: {seen:?}");
    }
}

#[test]
fn recovery_is_refused_where_it_is_not_needed_or_not_best() {
    let lab = Lab::new();
    lab.answers("GET /cluster/status", 200, healthy());
    let seen = lab.ctl("recover --yes --cluster c1", "");
    assert!(seen.status == 1 && seen.err.contains("has a quorum: nothing needs recovering"), "{seen:?}");

    let lab = Lab::new();
    let mut status = without_quorum();
    status["members"]
        .as_array_mut()
        .unwrap()
        .extend([member("n4", "voter", true, 9), member("n5", "voter", false, 0)]);
    lab.answers("GET /cluster/status", 200, status);
    let seen = lab.ctl("recover --yes --cluster c1", "");
    let last = seen.err.lines().last();
    let expected = "n4 holds more than n1: run `appliance ctl recover` there, or lose that with --force here";
    assert_eq!((seen.status, last), (1, Some(expected)));
    assert_eq!(lab.sent(), []);
}

#[test]
fn recovery_waits_for_what_may_only_be_an_election_unless_forced() {
    let lab = Lab::new();
    let mut electing = without_quorum();
    electing["members"][1] = member("n2", "voter", true, 7);
    lab.answers("GET /cluster/status", 200, electing.clone());
    let seen = lab.ctl("recover --yes --cluster c1", "");
    let last = seen.err.lines().last().unwrap_or_default();
    let expected = "nothing was done: 2 voters answer and 2 are needed, so an election may be under way.";
    assert!(seen.status == 1 && last.starts_with(expected) && last.ends_with("--force"), "{seen:?}");
    assert_eq!(lab.sent(), []);

    lab.answers("GET /cluster/status", 200, electing);
    lab.answers("POST /cluster/recover", 409, json!({"message": "not now"}));
    let _ = lab.ctl("recover --yes --cluster c1 --force", "");
    assert_eq!(lab.sent(), [("POST /cluster/recover".to_string(), json!({"cluster": "c1", "force": true}))]);
}

#[test]
fn recovery_shows_asks_does_it_and_says_what_to_do_elsewhere() {
    let lab = Lab::new();
    lab.answers("GET /cluster/status", 200, without_quorum());
    let refused = lab.ctl("recover --yes", "");
    let expected = "nothing was done: --yes alone is not enough; to recover, say --yes --cluster c1";
    assert_eq!((refused.status, refused.err.lines().last()), (1, Some(expected)));
    let refused = lab.ctl_person("recover", "c2\n");
    assert!(refused.err.ends_with("nothing was done: 'c2' is not the id of this cluster\n"), "{refused:?}");
    assert_eq!(lab.sent(), []);

    let mut recovered = healthy();
    recovered["members"].as_array_mut().unwrap().truncate(1);
    recovered["revision"] = json!(1_000_041);
    lab.answers("GET /cluster/status", 200, without_quorum());
    lab.answers("GET /cluster/status", 200, recovered);
    lab.api.state().cluster.get_mut("GET /cluster/status").unwrap().remove(0);
    lab.answers("POST /cluster/recover", 202, json!({"message": "n1 starts again alone"}));
    lab.answers("POST /cluster/tokens", 201, json!({"join": "appliance run --join 10.0.0.1:6443 --token T"}));
    let seen = lab.ctl_person("recover", "c1\n");
    let told = stripped(&seen.err);
    for expected in [
        "Cluster c1: 1 of 3 voters can be reached, 2 are needed.\n",
        "NAME   ROLE    STATE   APPLIED   LAST   OF TERM   REVISION\nn1     voter   here    7         7      3         40\n",
        "n3     voter   lost    6         6      3         40\n",
        "Try first: start n2, n3.",
        "every write that only n2, n3 had",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let expected = "Recovered: n1 leads and takes writes, at revision 1000041.\n\n\
                    On each other host that is to belong again (n2, n3):\n  systemctl stop appliance\n  \
                    mkdir /var/lib/appliance.before-recovery\n  \
                    find /var/lib/appliance -mindepth 1 -maxdepth 1 ! -name dataplane -exec mv -t \
                    /var/lib/appliance.before-recovery {} +\n  \
                    appliance run --join 10.0.0.1:6443 --token T\n\
                    The token is good for 24 h. Each host keeps enforcing its last policy meanwhile, also if it reboots: \
                    dataplane/ has it.\n";
    assert_eq!((seen.status, seen.out.as_str()), (0, expected));
    assert_eq!(lab.sent()[0], ("POST /cluster/recover".to_string(), json!({"cluster": "c1"})));
}

#[test]
fn a_reseed_names_the_node_and_asks() {
    let lab = Lab::new();
    lab.answers("GET /cluster/status", 200, healthy());
    lab.answers("POST /cluster/reseed", 202, json!({}));
    let seen = lab.ctl("node reseed", "");
    assert!(seen.status == 1 && seen.err.starts_with("n1 will drop its copy of the state"), "{seen:?}");
    let done = "n1 fetches a fresh copy; `appliance ctl cluster status` shows how far it is.\n";
    assert_eq!(lab.ctl("node reseed --yes", ""), super::seen(0, done, ""));
}

#[test]
fn a_node_that_does_not_start_is_reseeded_by_its_directory_and_nobody_is_asked_over_the_network() {
    let lab = Lab::new();
    let seen = lab.ctl("node reseed --data-dir /d/stopped", "");
    assert!(
        seen.status == 1 && seen.err.starts_with("At its next start the node of /d/stopped will"),
        "{seen:?}"
    );
    let done = "n1 fetches a fresh copy when it is started\n";
    assert_eq!(lab.ctl("node reseed --data-dir /d/stopped --yes", ""), super::seen(0, done, ""));
    let seen = lab.ctl("node reseed --data-dir /d/running --yes", "");
    assert!(seen.status == 1 && seen.err.contains("/d/running: in use"), "{seen:?}");
    assert_eq!(lab.sent(), []);
}

#[test]
fn the_authority_is_replaced_in_two_steps() {
    let lab = Lab::new();
    let answer = |phase: &str, waiting: &[&str]| {
        json!({"generation": 2, "phase": phase, "waitingFor": waiting, "certificates": [
            {"sha256": "aa11bb22cc33dd44ee55", "notAfter": "2046-01-01T00:00:00Z", "state": "current"}]})
    };
    lab.answers("GET /cluster/ca", 200, answer("distributing", &["n3"]));
    lab.answers("POST /cluster/ca/rotate", 200, answer("distributing", &["n3"]));
    let table = "SHA256             STATE     EXPIRES\naa11bb22cc33dd44   current   2046-01-01T00:00:00Z\n\n";
    let expected = format!("{table}Generation 2, distributing. Waiting for: n3\n");
    for words in ["ca status", "ca rotate"] {
        assert_eq!(stripped(&lab.ctl(words, "").out), expected);
    }
    let seen = lab.ctl("ca rotate --finish --yes", "");
    assert!(seen.status == 1 && seen.err.starts_with("n3 would no longer be trusted"), "{seen:?}");
    let asked = lab.ctl("ca rotate --finish --force", "");
    assert!(
        asked.status == 1 && asked.err.contains("n3 will have to be removed, and to join again"),
        "{asked:?}"
    );
    assert_eq!(lab.ctl("ca rotate --finish --force --yes", "").status, 0);
    assert_eq!(lab.ctl("ca rotate --force", "").status, 1, "leaves n3 behind, so somebody must mean it");
    let bodies: Vec<Value> = lab.sent().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [json!({"finish": false, "force": false}), json!({"finish": true, "force": true})]);
}

#[test]
fn a_rotation_that_waits_for_its_end_is_not_called_stable() {
    let lab = Lab::new();
    let certificates = ["current", "previous"].map(
        |state| json!({"sha256": "aa11bb22cc33dd44ee55", "notAfter": "2046-01-01T00:00:00Z", "state": state}),
    );
    let answer = json!({"generation": 2, "phase": "stable", "waitingFor": [], "certificates": certificates,
                        "message": "make new kubeconfigs"});
    lab.answers("GET /cluster/ca", 200, answer);
    let said = lab.ctl("ca status", "").out;
    assert!(said.ends_with("Generation 2, waiting for --finish. make new kubeconfigs\n"), "{said}");
}

#[test]
fn a_kubeconfig_names_every_server_and_ctl_reads_it_back() {
    let lab = Lab::new();
    let answer = json!({"token": "ab1.x.y", "ca": "CA", "servers": ["https://10.0.0.1:6443", "https://[fd00::2]:6443"],
                        "expires": "2026-01-02T00:00:00Z"});
    lab.answers("POST /cluster/credentials", 201, answer);
    let expected = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    extensions:
    - extension:
        servers:
        - https://10.0.0.1:6443
        - https://[fd00::2]:6443
      name: appliance
    server: https://10.0.0.1:6443
    tls-server-name: appliance
  name: appliance
contexts:
- context:
    cluster: appliance
    namespace: default
    user: grafana
  name: appliance
current-context: appliance
kind: Config
users:
- name: grafana
  user:
    token: ab1.x.y
";
    let seen = lab.ctl("kubeconfig --role viewer --user grafana --ttl 30d --token", "");
    assert_eq!(seen, super::seen(0, expected, ""));
    let wanted =
        json!({"user": "grafana", "role": "viewer", "ttlSeconds": 2_592_000, "kind": "token", "csr": null});
    assert_eq!(lab.sent()[0].1, wanted);

    let place = lab.folder.path().join("grafana.kubeconfig").display().to_string();
    let words = format!("kubeconfig --role viewer --user grafana --token -o {place}");
    let told = format!("Wrote {place}: grafana, viewer, until 2026-01-02T00:00:00Z.\n");
    assert_eq!(lab.ctl(&words, ""), super::seen(0, &told, ""));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = lab.ctl(&words, "");
    assert!(refused.status == 1 && refused.err.contains("there is a file already"), "{refused:?}");
    assert_eq!(lab.sent().len(), 2, "no credential is made for a file that can not be written");
}

#[test]
fn a_certificate_goes_into_a_kubeconfig_with_its_key() {
    let lab = Lab::new();
    let answer =
        json!({"certificate": "CERT", "key": "KEY", "ca": "CA", "servers": ["https://10.0.0.1:6443"]});
    lab.answers("POST /cluster/credentials", 201, answer);
    let seen = lab.ctl("kubeconfig --role admin", "");
    for expected in ["client-certificate-data: Q0VSVA==", "client-key-data: S0VZ", "name: admin"] {
        assert!(seen.out.contains(expected), "{seen:?}");
    }
    assert!(!seen.out.contains("extensions"), "{seen:?}");
    assert_eq!(lab.ctl("kubeconfig --role king", "").status, 1);
}

#[test]
fn credentials_are_listed_and_revoked() {
    let lab = Lab::new();
    let one = json!({"id": "c1", "user": "grafana", "role": "viewer", "created": "a", "expires": "b", "createdBy": "root"});
    lab.answers("GET /cluster/credentials", 200, json!({"items": [one]}));
    lab.answers("DELETE /cluster/credentials/c1", 200, json!({"message": "c1 is revoked"}));
    let expected = "ID   USER      ROLE     CREATED   EXPIRES   CREATED BY\nc1   grafana   viewer   a         b         root\n\n";
    let list = stripped(&lab.ctl("credential list", "").out);
    assert_eq!(list.split_whitespace().collect::<Vec<_>>(), expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lab.ctl("credential revoke c1", ""), seen(0, "c1 is revoked\n", ""));
}

#[test]
fn refusals_of_the_cluster_say_what_to_do() {
    for (code, expected) in [
        (403, "connection is unauthorized: only admins"),
        (
            503,
            "the node can not serve this now: only admins; `appliance ctl cluster status` says what is missing",
        ),
        (
            504,
            "the outcome is unknown: only admins; it may or may not have been done, look with `appliance ctl cluster status`",
        ),
    ] {
        let lab = Lab::new();
        lab.answers(
            "POST /cluster/leader",
            code,
            json!({"kind": "Status", "code": code, "message": "only admins"}),
        );
        assert_eq!(lab.ctl("leader transfer", ""), seen(1, "", &format!("{expected}\n")));
    }
    let older = Lab::new().ctl("token list", "");
    assert!(older.err.contains("runs an older version"), "{older:?}");
}

#[test]
fn every_word_has_help_with_an_example() {
    for words in [
        "token create",
        "cluster status",
        "member promote",
        "member demote",
        "member remove",
        "leader transfer",
        "snapshot save",
        "snapshot status",
        "snapshot restore",
        "recover",
        "node reseed",
        "ca rotate",
        "kubeconfig",
    ] {
        let line: Vec<&str> = ["calicoctl"].into_iter().chain(words.split(' ')).chain(["--help"]).collect();
        let seen = ctl(&line, "");
        let example = format!("appliance ctl {words}");
        assert!(
            seen.status == 0 && seen.out.contains("Examples:") && seen.out.contains(&example),
            "{words}: {seen:?}"
        );
    }
}
