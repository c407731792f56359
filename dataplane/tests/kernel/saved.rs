//! The last rulesets on disk and the kernel: what a start puts back, from which of the two, and what it leaves alone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use appliance_dataplane::saved::{self, BEFORE, FILE, PutBack};
use appliance_dataplane::{Options, Reconciler, standing};

use crate::listing::{listing, sorted_blocks};
use crate::netns::{NFT, Namespace, eventually, inside};
use crate::reconciler::{POLICY, Running, veth};
use crate::rulesets::TABLE;

async fn put_back(state: &Path) -> PutBack {
    saved::put_back(NFT.as_ref(), state, TABLE).await.expect("put back")
}

/// What nft lists of the table, blocks in order of name: a script makes them in another order than a plan.
fn table(namespace: &Namespace) -> Vec<String> {
    sorted_blocks(namespace.run("nft -s list ruleset").lines().map(str::to_owned))
}

/// A host as a reconciler left it, with two generations on disk.
async fn left_behind(namespace: &Namespace, state: &Path) -> Vec<String> {
    veth(namespace);
    Running::enforcing(POLICY, Some(state)).await.stopped().await;
    let before = table(namespace);
    let mut again = Running::enforcing(&POLICY.replace("80, 443", "80, 443, 8443"), Some(state)).await;
    again.reported(|report| report.revision == 1).await;
    again.stopped().await;
    assert!(state.join(FILE).exists() && state.join(BEFORE).exists());
    before
}

#[test]
fn a_table_that_is_missing_emptied_or_switched_off_is_put_back_and_any_other_stands() {
    inside(|namespace, runtime| {
        runtime.block_on(async {
            let state = tempfile::tempdir().expect("a directory");
            assert_eq!(put_back(state.path()).await, PutBack::NothingSaved);
            left_behind(namespace, state.path()).await;
            let (last, handles) = (table(namespace), listing(namespace));
            assert_eq!(put_back(state.path()).await, PutBack::Stands);
            assert_eq!(listing(namespace), handles, "no rule has another handle");
            for (change, found) in [
                (format!("delete table inet {TABLE}"), PutBack::Done),
                (format!("flush table inet {TABLE}"), PutBack::Refilled),
                (format!("add table inet {TABLE} {{ flags dormant; }}"), PutBack::Refilled),
            ] {
                namespace.nft(&change);
                assert_eq!(put_back(state.path()).await, found, "after {change}");
                assert_eq!(table(namespace), last, "after {change}");
                let policed = standing::endpoints(NFT.as_ref(), TABLE).await.expect("listed");
                assert_eq!(policed, ["named".to_owned()].into());
            }
        });
    });
}

#[test]
fn a_last_ruleset_that_rotted_leaves_the_host_with_the_one_before() {
    inside(|namespace, runtime| {
        runtime.block_on(async {
            let state = tempfile::tempdir().expect("a directory");
            let before = left_behind(namespace, state.path()).await;
            let file = state.path().join(FILE);
            let whole = fs::read_to_string(&file).expect("the last ruleset");
            assert!(whole.contains("8443"));
            // Valid for nft, and another policy; no script at all; and the first half of one.
            for harmed in
                [whole.replace("8443", "8442"), whole.replace("chain", "chaiN"), whole[..700].to_owned()]
            {
                fs::write(&file, harmed).expect("harm it");
                namespace.nft(&format!("delete table inet {TABLE}"));
                assert_eq!(put_back(state.path()).await, PutBack::Done);
                assert_eq!(table(namespace), before);
            }
        });
    });
}

#[test]
fn what_others_do_to_a_table_that_nobody_rules_yet_is_undone() {
    inside(|namespace, runtime| {
        runtime.block_on(async {
            let state = tempfile::tempdir().expect("a directory");
            left_behind(namespace, state.path()).await;
            let (last, handles) = (table(namespace), listing(namespace));
            let holding = || {
                let state_dir = Some(state.path().to_owned());
                tokio::spawn(Reconciler::hold(Options { state_dir, ..Options::new("") }))
            };
            let held = holding();
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(listing(namespace), handles, "what was left is adopted as it is");
            let stands = async || {
                let now = table(namespace);
                if now == last { Ok(()) } else { Err(now) }
            };
            for change in ["flush ruleset".to_owned(), format!("flush table inet {TABLE}")] {
                namespace.nft(&change);
                eventually(stands).await;
            }
            held.abort();
            let _ = held.await;

            // While nobody looks: one rule less, one more, and a member.
            for change in [
                format!("flush chain inet {TABLE} ep_named_in"),
                format!("insert rule inet {TABLE} input accept"),
                format!("delete element inet {TABLE} ep_in {{ \"veth0\" }}"),
            ] {
                namespace.nft(&change);
                let held = holding();
                eventually(stands).await;
                held.abort();
                let _ = held.await;
            }
        });
    });
}
