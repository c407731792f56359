//! Members come, go, rise and step back while clients write, and a member left behind is brought up to date.

use std::thread;
use std::time::Duration;

use appliance_tests::chaos::{Plan, record};
use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::dice::seed;

#[test]
fn members_join_leave_rise_and_step_back_under_load_and_nothing_is_lost() {
    let seed = seed();
    let mut cluster = Cluster::form(3, seed);
    let recorded = record(&cluster.apis(), &Plan { retries: true, ..Plan::of(seed, 3) }, || {
        let (fourth, fifth) = (cluster.add_host(), cluster.add_host());
        // Through different members, of which one at most leads.
        cluster.join(fourth, 1);
        cluster.join(fifth, 2);
        let _ = cluster.ctl(0, &["member", "demote", &name(fourth)]).success();
        cluster.wait_role(fourth, "learner");
        let _ = cluster.ctl(1, &["member", "promote", &name(fourth)]).success();
        cluster.wait_role(fourth, "voter");
        let leader = cluster.wait_leader(&cluster.running());
        let _ = cluster.ctl(2, &["leader", "transfer", &name((leader + 1) % 3)]).success();
        cluster.eventually(
            "leadership to move",
            || cluster.leader_according_to(&[0, 1, 2]),
            |now| *now == Some((leader + 1) % 3),
        );
        let _ = cluster.ctl(0, &["member", "remove", &name(fifth), "--yes"]).success();
        cluster.nodes[fifth].kill();
        cluster.wait_healthy();
    });
    recorded.holds(60);
}

#[test]
fn a_leader_is_removed_and_a_new_member_takes_its_place_while_nodes_die() {
    let seed = seed();
    let mut cluster = Cluster::form(3, seed);
    // Whoever goes is nobody's node: its clients would only hear that it is none.
    let leader = cluster.wait_leader(&[0, 1, 2]);
    let stay = cluster.others(&[leader]);
    let plan = Plan {
        clients: vec![stay.clone(); 6],
        watchers: vec![stay.clone(); 2],
        retries: true,
        ..Plan::of(seed, 3)
    };
    let apis = cluster.apis();
    // The end asks every node of the list, so the one that goes is not on it.
    let apis: Vec<_> =
        (0..3).map(|number| apis[if number == leader { stay[0] } else { number }].clone()).collect();
    let recorded = record(&apis, &plan, || {
        let _ = cluster.ctl(stay[0], &["member", "remove", &name(leader), "--yes"]).success();
        let _ = cluster.wait_leader(&stay);
        cluster.nodes[leader].kill();
        thread::sleep(Duration::from_secs(1));
        let new = cluster.add_host();
        cluster.begin_join(new, stay[0]);
        // The member that lets it in dies half way.
        thread::sleep(Duration::from_millis(300));
        cluster.restart(stay[0]);
        cluster.wait_role(new, "voter");
        thread::sleep(Duration::from_secs(1));
        cluster.restart(stay[1]);
        cluster.wait_healthy();
        thread::sleep(Duration::from_secs(1));
    });
    recorded.holds(40);
}

/// What a member logs that was given the whole state instead of the log.
const SNAPSHOT_CAME: &str = "received a snapshot of";

/// Waits until the logs of these nodes begin behind the last entry of another's, so that none of them, whoever leads, has
/// the next one for it.
fn wait_cut_behind(cluster: &Cluster, nodes: &[usize], last: f64) {
    for number in nodes {
        let first = || cluster.metric(*number, "raft_log_first_index");
        let _ = cluster.eventually("the log to be cut behind who is away", first, |first| {
            first.is_some_and(|first| first > last + 1.0)
        });
    }
}

#[test]
fn a_member_left_behind_by_a_cut_log_is_sent_a_snapshot_across_another_partition() {
    let seed = seed();
    // So few entries between checkpoints, and so few kept, that the log is cut behind whoever counts as gone.
    let arguments = ["--checkpoint-entries", "100", "--retained-entries", "20"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::form_with(3, Options { seed, arguments, ..Options::default() });
    let plan = Plan { pause: Duration::from_millis(1), ..Plan::of(seed, 3) };
    let mut left_behind = 0;
    let recorded = record(&cluster.apis(), &plan, || {
        let leader = cluster.wait_leader(&[0, 1, 2]);
        let away = cluster.others(&[leader])[0];
        let rest = cluster.others(&[away]);
        left_behind = away;
        cluster.partition(&[away], &rest);
        // Nothing reaches it any more: this is as far as its log goes, but for what it alone believes.
        let last = cluster.metric(away, "raft_log_last_index").expect("its last entry");
        let before = cluster.nodes[away].log().matches(SNAPSHOT_CAME).count();
        wait_cut_behind(&cluster, &rest, last);
        cluster.network.heal();
        thread::sleep(Duration::from_millis(150));
        // Whatever was under way is cut again.
        cluster.partition(&[away], &rest);
        thread::sleep(Duration::from_millis(1_500));
        cluster.network.heal();
        let came = || cluster.nodes[away].log().matches(SNAPSHOT_CAME).count();
        let _ = cluster.eventually("a snapshot to come", came, |count| *count > before);
        cluster.wait_healthy();
    });
    recorded.holds(300);
    cluster.wait_same_history();

    // Whoever comes now finds no log that begins at the beginning.
    let new = cluster.add_host();
    cluster.join(new, left_behind);
    assert!(cluster.nodes[new].log().contains(SNAPSHOT_CAME), "it was let in without a snapshot");
    cluster.wait_healthy();
    cluster.wait_same_history();
}
