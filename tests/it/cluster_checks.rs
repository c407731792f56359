//! The checks of histories find what they are for. A test build of the node can make three mistakes on purpose; each is
//! caught, and the same load without it passes.

use std::thread;
use std::time::Duration;

use appliance_tests::chaos::{Judgement, Plan, Recorded, record};
use appliance_tests::cluster::{Cluster, Options};
use appliance_tests::dice::{Dice, seed};
use appliance_tests::history::revisions::Wrong;
use appliance_tests::history::watches::Broken;

const LOAD: Duration = Duration::from_secs(4);

/// What load on a cluster whose last node makes this mistake, or none does, leaves behind.
fn recorded_with(bug: Option<&str>, nodes: usize) -> Recorded {
    let seed = seed();
    let mut cluster = Cluster::form(nodes, seed);
    if let Some(bug) = bug {
        let last = nodes - 1;
        cluster.nodes[last].set_environment("APPLIANCE_PLANTED_BUG", bug);
        cluster.restart(last);
        let _ = cluster.nodes[last].logged("it makes a mistake on purpose");
        cluster.wait_healthy();
    }
    record(&cluster.apis(), &Plan { pause: Duration::from_millis(2), ..Plan::of(seed, nodes) }, || {
        thread::sleep(LOAD);
    })
}

fn judged(bug: &str, nodes: usize) -> Judgement {
    let judgement = recorded_with(Some(bug), nodes).judge();
    eprintln!("{bug}:\n{judgement}");
    judgement
}

#[test]
fn a_sound_cluster_passes_every_check() {
    recorded_with(None, 3).holds(100);
}

#[test]
fn a_stale_read_is_caught_by_revision_and_by_search() {
    let judgement = judged("stale-read", 3);
    assert!(judgement.by_revision.iter().any(|violation| violation.what == Wrong::Stale));
    assert!(judgement.by_search.is_some_and(|found| found.starts_with("no order explains")));
    assert_eq!(judgement.of_watches, []);
}

#[test]
fn a_lost_write_is_caught_by_revision_and_by_search() {
    let judgement = judged("lost-write", 1);
    assert!(judgement.by_revision.iter().any(|violation| violation.what == Wrong::LostWrite));
    assert!(judgement.by_search.is_some_and(|found| found.starts_with("no order explains")));
    assert_eq!(judgement.of_watches, []);
}

#[test]
fn a_skipped_event_is_caught_by_the_check_of_watches() {
    let judgement = judged("skipped-event", 3);
    assert!(judgement.of_watches.iter().any(|fault| fault.what == Broken::Skipped));
    assert_eq!(judgement.by_search, None, "reads and writes were sound");
}

#[test]
fn a_release_build_can_not_make_these_mistakes() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let manifest = std::fs::read_to_string(workspace.join("Cargo.toml")).expect("read the manifest");
    let release = manifest.split("[profile.release]").nth(1).expect("a release profile");
    assert!(!release.contains("debug-assertions"), "what only test builds contain hangs on debug assertions");
    let planted =
        std::fs::read_to_string(workspace.join("appliance/src/planted.rs")).expect("read planted.rs");
    let before = planted.split("APPLIANCE_PLANTED_BUG\")").next().expect("the variable");
    assert!(
        before.ends_with("#[cfg(debug_assertions)]")
            || before.contains("#[cfg(debug_assertions)]\nmod chosen")
    );
    // Where a release build lies about, it is looked at; making one takes longer than all the tests.
    let binary = appliance_tests::prerequisites::appliance();
    let target = binary.parent().and_then(std::path::Path::parent).expect("the target directory");
    if let Ok(bytes) = std::fs::read(target.join("release/appliance")) {
        let needle = b"APPLIANCE_PLANTED_BUG";
        assert!(
            !bytes.windows(needle.len()).any(|window| window == needle),
            "the release build contains them"
        );
    }
}

#[test]
fn one_node_killed_over_and_over_passes_every_check() {
    let seed = seed();
    let mut cluster = Cluster::form_with(1, Options { seed, ..Options::default() });
    let mut dice = Dice::new(seed);
    let recorded = record(&cluster.apis(), &Plan::of(seed, 1), || {
        for _ in 0..8 {
            thread::sleep(Duration::from_millis(100 + dice.below(500)));
            cluster.restart(0);
        }
    });
    recorded.holds(50);
}
