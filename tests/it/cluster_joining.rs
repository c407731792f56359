//! Joining: through any member, two at once, again after half a join; and whoever may not is refused in clear words,
//! which both ends say.

use std::fs;
use std::thread;
use std::time::Duration;

use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::dice::{Dice, seed};
use appliance_tests::node::Node;

fn prepared(size: usize) -> Cluster {
    Cluster::prepare(size, Options { seed: seed(), ..Options::default() })
}

/// Starts a node that is refused, and returns what it said and what the member it asked has logged of it.
fn refused(cluster: &mut Cluster, number: usize, token: &str) -> (String, String) {
    let before = cluster.nodes[0].log().len();
    cluster.begin_join_with(number, 0, token);
    let status = cluster.nodes[number].wait();
    let said = cluster.nodes[number].log();
    assert_eq!(status.code(), Some(1), "{said}");
    (said, cluster.nodes[0].log().split_off(before))
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
fn a_wrong_a_revoked_and_a_used_up_token_are_refused_and_both_ends_say_so() {
    let mut cluster = prepared(3);
    cluster.nodes[0].run();
    let good = cluster.token(0, &["--uses", "1"]);
    let parts: Vec<&str> = good.split('.').collect();
    let wrong = format!("{}.{}.{}.{}", parts[0], parts[1], "0".repeat(parts[2].len()), parts[3]);
    let (said, logged) = refused(&mut cluster, 1, &wrong);
    assert!(
        said.contains("token") && logged.contains("token") && logged.contains(&name(1)),
        "{said}\n{logged}"
    );
    assert!(!logged.contains(&"0".repeat(parts[2].len())), "no secret in a log: {logged}");

    let other = format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], "0".repeat(64));
    cluster.begin_join_with(1, 0, &other);
    let _ = cluster.nodes[1].wait();
    let said = cluster.nodes[1].log();
    assert!(
        said.to_lowercase().contains("certificate"),
        "a token of another cluster pins another CA: {said}"
    );

    let revoked = cluster.token(0, &[]);
    let id = revoked.split('.').nth(1).expect("an id").to_owned();
    let _ = cluster.ctl(0, &["token", "revoke", &id]).success();
    let (said, _) = refused(&mut cluster, 1, &revoked);
    assert!(said.contains("token"), "{said}");

    cluster.begin_join_with(1, 0, &good);
    cluster.wait_role(1, "voter");
    let (said, logged) = refused(&mut cluster, 2, &good);
    assert!(said.contains("used") && logged.contains("used"), "{said}\n{logged}");
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_refusal_says_by_whom() {
    let mut cluster = prepared(2);
    cluster.nodes[0].run();
    let token = cluster.token(0, &[]);
    let host = cluster.network.host(77);
    let door = format!("{}:6443", cluster.hosts[0].ipv4);
    let arguments = ["--no-enforce", "--join", &door, "--token", &token];
    let mut impostor = Node::prepare(&host, &name(0), &arguments);
    impostor.spawn();
    let status = impostor.wait();
    let said = impostor.log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&name(0)), "{said}");
    assert!(cluster.nodes[0].log().contains("WARN"), "{}", cluster.nodes[0].log());
    cluster.join(1, 0);
}

#[test]
fn a_node_with_another_clusters_data_is_refused() {
    let mut cluster = prepared(2);
    cluster.nodes[0].run();
    // It has formed a cluster of its own, and is then told to join.
    cluster.nodes[1].run();
    cluster.nodes[1].stop();
    let token = cluster.token(0, &[]);
    cluster.begin_join_with(1, 0, &token);
    let status = cluster.nodes[1].wait();
    let said = cluster.nodes[1].log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cluster"), "{said}");
    fs::remove_dir_all(cluster.nodes[1].data_dir()).expect("do as it says: take the data away");
    cluster.join(1, 0);
}

#[test]
fn a_removed_node_says_so_and_may_come_back_as_a_new_member_only() {
    let mut cluster = Cluster::form(3, seed());
    let _ = cluster.ctl(0, &["member", "remove", &name(2), "--yes"]).success();
    let _ = cluster.nodes[2].logged("removed");
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
    let status = cluster.status(2).expect("a status");
    assert_eq!(status["quorum"], false, "{status}");
    let local = cluster.apis()[2].ask("GET", "/apis/projectcalico.org/v3/tiers?resourceVersion=0", None);
    assert_eq!(local.expect("an answer").status, 200, "what it has it shows");
    cluster.nodes[2].kill();
    fs::remove_dir_all(cluster.nodes[2].data_dir()).expect("take its data away");
    cluster.join(2, 1);
    cluster.wait_healthy();
}
