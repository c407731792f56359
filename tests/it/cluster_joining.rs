//! Joining: through any member, two at once, again after half a join, and after a removal.

use std::fs;
use std::thread;
use std::time::Duration;

use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::ctl::run;
use appliance_tests::dice::{Dice, seed};
use appliance_tests::prerequisites;
use appliance_tests::sets::{self, SETS};

fn prepared(size: usize) -> Cluster {
    Cluster::prepare(size, Options { seed: seed(), ..Options::default() })
}

#[test]
fn two_joins_at_once_and_through_any_member_succeed() {
    let mut cluster = prepared(5);
    cluster.nodes[0].run();
    cluster.join(1, 0);
    let token = cluster.token(1, &[]);
    // One token, both at once, through a member that may not lead.
    for number in [2, 3] {
        cluster.begin_join_with(number, 1, &token);
    }
    for number in [2, 3] {
        cluster.wait_role(number, "voter");
    }
    cluster.join(4, 3);
    cluster.wait_healthy();
}

#[test]
fn a_join_killed_half_way_is_repeated_by_the_same_command() {
    let mut cluster = prepared(3);
    cluster.nodes[0].run();
    let mut dice = Dice::new(seed());
    for number in [1, 2] {
        // One use: a repeated join is the same use.
        let token = cluster.token(0, &["--uses", "1"]);
        for _ in 0..4 {
            cluster.begin_join_with(number, 0, &token);
            thread::sleep(Duration::from_millis(dice.below(600)));
            if cluster.nodes[number].pid().is_some() {
                cluster.nodes[number].kill();
            }
        }
        cluster.begin_join_with(number, 0, &token);
        cluster.wait_role(number, "voter");
    }
    cluster.wait_healthy();
    let status = cluster.status(0).expect("a status");
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
}

#[test]
fn a_removed_node_says_so_and_may_come_back_as_a_new_member_only() {
    let mut cluster = Cluster::form(3, seed());
    let mut watch = cluster.apis()[2].watch(&format!("{SETS}?watch=1")).expect("a watch");
    let _ = cluster.ctl(0, &["member", "remove", &name(2), "--yes"]).success();
    let _ = cluster.nodes[2].logged("removed");
    assert_eq!(watch.next_event(), None, "a watch does not go on where no news come");
    // Wherever it was in becoming a node of its own when this hits it.
    cluster.restart(2);
    let write = || {
        let set = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: no}}";
        cluster.nodes[2].ctl_with(&["create", "-f", "-"], set)
    };
    let refused = cluster.eventually("it to say that it was removed", write, |write| {
        write.code != 0 && write.err.contains("removed")
    });
    assert!(!refused.out.contains("created"), "{refused:?}");
    let set = sets::object("no", None, 1, &[]);
    let answer = cluster.apis()[2].ask("POST", SETS, Some(&set)).expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.to_string().contains("removed from its cluster"), "{answer:?}");
    let status = cluster.status(2).expect("a status");
    assert_eq!(status["quorum"], false, "{status}");
    let local = cluster.apis()[2].ask("GET", "/apis/projectcalico.org/v3/tiers?resourceVersion=0", None);
    assert_eq!(local.expect("an answer").status, 200, "what it has it shows");
    let watch = cluster.apis()[2].ask("GET", &format!("{SETS}?watch=1&resourceVersion=1"), None);
    assert_eq!(watch.expect("an answer").status, 503, "and watches nothing for anybody");
    cluster.nodes[2].kill();
    fs::remove_dir_all(cluster.nodes[2].data_dir()).expect("take its data away");
    cluster.join(2, 1);
    cluster.wait_healthy();
}

#[test]
fn one_of_two_voters_is_reseeded_once_it_votes_no_more_and_not_before() {
    let cluster = Cluster::form(2, seed());
    let before = cluster.member_seen_by(0, 1).expect("a member")["id"].clone();
    let reseed = || cluster.ctl(1, &["node", "reseed", "--yes"]);
    let refused = reseed().failure();
    assert!(refused.contains(&format!("appliance ctl member demote {}", name(1))), "{refused}");
    cluster.wait_healthy();

    let _ = cluster.ctl(0, &["member", "demote", &name(1)]).success();
    let demoted = || cluster.member_seen_by(1, 1).map(|member| member["role"].clone());
    cluster.eventually("it to know", demoted, |role| role.as_ref().is_some_and(|role| role == "learner"));
    let _ = reseed().success();
    let seen =
        || cluster.member_seen_by(0, 1).map(|member| (member["id"].clone(), member["reachable"].clone()));
    cluster.eventually("another member of its name", seen, |seen| {
        seen.as_ref().is_some_and(|(id, reachable)| *id != before && *reachable == true)
    });
    // It has to have caught up; nobody promotes it but an operator.
    let promoted = || cluster.ctl(0, &["member", "promote", &name(1)]).code;
    cluster.eventually("it to vote again", promoted, |code| *code == 0);
    cluster.wait_healthy();
}

#[test]
fn what_the_disk_of_a_removed_host_holds_opens_nothing_also_when_another_has_its_name() {
    let mut cluster = Cluster::form(3, seed());
    let held = tempfile::tempdir().expect("a directory");
    for file in ["admin.kubeconfig", "pki/ca.crt", "pki/node.crt", "pki/node.key"] {
        let to = held.path().join(file.trim_start_matches("pki/"));
        fs::copy(cluster.nodes[2].data_dir().join(file), to).expect("stolen");
    }
    let at = format!("https://{}:6443", cluster.hosts[0].ipv4);
    let as_admin = |cluster: &Cluster| {
        let mut command =
            cluster.hosts[1].namespace.command(&prerequisites::appliance().display().to_string());
        command.args(["ctl", "--server", &at, "--kubeconfig"]).arg(held.path().join("admin.kubeconfig"));
        run(command.args(["token", "list"]), "")
    };
    let as_node = |cluster: &Cluster| {
        let mut command = cluster.hosts[1].namespace.command("curl");
        let resolved = format!("appliance:6443:{}", cluster.hosts[0].ipv4);
        command.args(["-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", &resolved]);
        command
            .current_dir(held.path())
            .args(["--cacert", "ca.crt", "--cert", "node.crt", "--key", "node.key"]);
        let path = format!("/apis/projectcalico.org/v3/nodes/{}", name(2));
        run(command.arg(format!("https://appliance:6443{path}")), "").success()
    };
    let _ = as_admin(&cluster).success();
    assert_eq!(as_node(&cluster), "200");

    let said = cluster.ctl(0, &["member", "remove", &name(2), "--yes"]).success();
    assert!(said.contains("A stolen host"), "{said}");
    assert!(as_admin(&cluster).failure().contains("unauthorized"));
    assert_eq!(as_node(&cluster), "401");
    cluster.nodes[2].kill();
    fs::remove_dir_all(cluster.nodes[2].data_dir()).expect("take its data away");
    cluster.join(2, 1);
    cluster.wait_healthy();
    assert_eq!(as_node(&cluster), "401", "another host has the name");
    assert!(as_admin(&cluster).failure().contains("unauthorized"));
}

#[test]
fn a_node_that_does_not_start_any_more_is_reseeded_by_its_directory() {
    let mut cluster = Cluster::form(3, seed());
    let data_dir = cluster.nodes[2].data_dir();
    let before = cluster.member_seen_by(0, 2).expect("a member")["id"].clone();
    let reseed = |cluster: &Cluster| {
        let directory = data_dir.to_str().expect("printable");
        cluster.nodes[2].ctl(&["node", "reseed", "--yes", "--data-dir", directory])
    };
    assert!(reseed(&cluster).failure().contains("a node runs with it"));

    // As a disk that can not be read where the store is: no damage that anybody would heal from it.
    cluster.nodes[2].kill();
    let store = data_dir.join("store");
    fs::remove_dir_all(&store).expect("lose the store");
    fs::write(&store, "no directory").expect("in its place");
    cluster.nodes[2].spawn();
    assert_eq!(cluster.nodes[2].wait().code(), Some(1), "{}", cluster.nodes[2].log());

    assert!(reseed(&cluster).success().contains("fetches a fresh copy when it is started"));
    cluster.nodes[2].spawn();
    let id = || cluster.member_seen_by(0, 2).map(|member| (member["id"].clone(), member["role"].clone()));
    cluster.eventually("another member of its name to vote", id, |seen| {
        seen.as_ref().is_some_and(|(id, role)| *id != before && *role == "voter")
    });
    cluster.wait_healthy();
}

#[test]
fn a_member_that_is_removed_answers_who_removes_it_and_who_writes_to_it() {
    let cluster = Cluster::form(3, seed());
    let api = &cluster.apis()[2];
    let write = |writer: usize| {
        for number in 0.. {
            let set = sets::object(&format!("w{writer}-{number}"), None, 1, &[]);
            match api.ask("POST", SETS, Some(&set)) {
                Ok(answer) if answer.status == 503 => {
                    assert!(answer.body.to_string().contains("removed from its cluster"), "{answer:?}");
                    assert!(answer.retry_after.is_some(), "{answer:?}");
                    return;
                }
                // What it had handed to the leader when it was removed, nobody here will hear of.
                Ok(answer) => assert!([201, 504].contains(&answer.status), "{answer:?}"),
                // It begins anew as a node that is alone.
                Err(_away) => thread::sleep(Duration::from_millis(5)),
            }
        }
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..8).map(|number| scope.spawn(move || write(number))).collect();
        let told = cluster.ctl(2, &["member", "remove", &name(2), "--yes"]).success();
        assert!(told.contains("is removed"), "{told}");
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    });
}
