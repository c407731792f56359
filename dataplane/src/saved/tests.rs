//! What a disk may do to what was saved, and what is made of it.

use super::*;
use crate::nft::{Chain, Expr, Rule};

/// A ruleset that is told from others by its chain.
fn ruleset(chain: &str) -> Ruleset {
    let mut ruleset = Ruleset::new("t");
    ruleset.chains.insert(chain.to_owned(), Chain::new(vec![Rule::new("hep/e drop", vec![Expr::drop()])]));
    ruleset
}

fn scripts(directory: &Path) -> Vec<(String, bool)> {
    let generations = read(directory).unwrap_or_default();
    generations.into_iter().map(|generation| (generation.script, generation.proven)).collect()
}

#[tokio::test]
async fn what_is_on_disk_is_the_last_whole_one_and_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let mut saved = Saved::new(&state);
    assert!(saved.generations().await.unwrap().is_empty());
    let [first, second, third] = ["a", "b", "c"].map(ruleset);
    assert!(saved.is_due(&first));
    saved.write(&first).await.unwrap();
    assert!(!saved.is_due(&first));
    let written = |ruleset: &Ruleset| (script::boot(ruleset), true);
    assert_eq!(scripts(&state), [written(&first)]);
    saved.write(&second).await.unwrap();
    saved.write(&third).await.unwrap();
    assert_eq!(scripts(&state), [written(&third), written(&second)]);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 2);

    // As a crash between the two renamings leaves it.
    fs::remove_file(state.join(FILE)).unwrap();
    assert_eq!(scripts(&state), [written(&second)]);
}

#[tokio::test]
async fn a_flipped_bit_or_a_cut_leaves_the_one_before_and_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut saved = Saved::new(directory.path());
    let [first, second, third] = ["a", "b", "c"].map(ruleset);
    saved.write(&first).await.unwrap();
    saved.write(&second).await.unwrap();
    let (newest, whole) = (directory.path().join(FILE), fs::read(directory.path().join(FILE)).unwrap());
    for bit in 0..whole.len() * 8 {
        let mut harmed = whole.clone();
        harmed[bit / 8] ^= 1 << (bit % 8);
        fs::write(&newest, harmed).unwrap();
        assert_eq!(scripts(directory.path())[0], (script::boot(&first), true), "bit {bit}");
    }
    for length in 0..whole.len() {
        fs::write(&newest, &whole[..length]).unwrap();
        assert_eq!(scripts(directory.path())[0], (script::boot(&first), true), "cut to {length}");
    }
    saved.write(&third).await.unwrap();
    assert_eq!(scripts(directory.path()), [(script::boot(&third), true), (script::boot(&first), true)]);
}

#[test]
fn a_script_of_a_version_before_is_of_use_as_long_as_it_reaches_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let text = script::boot(&ruleset("a"));
    fs::write(directory.path().join(FILE), &text).unwrap();
    assert_eq!(scripts(directory.path()), [(text.clone(), false)]);
    for length in 0..text.len() - 1 {
        fs::write(directory.path().join(FILE), &text[..length]).unwrap();
        let refused = read(directory.path()).expect_err("it would load as less than it was").to_string();
        assert!(refused.contains("neither ruleset.nft nor ruleset.previous.nft"), "{refused}");
    }
}

#[tokio::test]
async fn the_revision_is_the_last_one_announced_or_nobody_knows() {
    let directory = tempfile::tempdir().unwrap();
    let mut saved = Saved::new(directory.path());
    assert_eq!(revision(directory.path()), None);
    for announced in [7, 1_000_000_042, 8] {
        saved.announce(announced).await.unwrap();
        assert_eq!(revision(directory.path()), Some(announced));
    }
    let whole = fs::read(directory.path().join(REVISION)).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut harmed = whole.clone();
        harmed[bit / 8] ^= 1 << (bit % 8);
        fs::write(directory.path().join(REVISION), harmed).unwrap();
        assert_eq!(revision(directory.path()), None, "bit {bit}");
    }
    for torn in ["", "10", "x\n"] {
        fs::write(directory.path().join(REVISION), torn).unwrap();
        assert_eq!(revision(directory.path()), None, "{torn:?}");
    }
    fs::write(directory.path().join(REVISION), "57\n").unwrap();
    assert_eq!(revision(directory.path()), Some(57), "as versions before wrote it");
}

#[tokio::test]
async fn what_is_saved_must_stand_until_the_next_change_is_announced() {
    let directory = tempfile::tempdir().unwrap();
    let mut saved = Saved::new(directory.path());
    let must_stand = |saved: &Saved| saved.must_stand(&read(directory.path()).unwrap()[0]);
    saved.announce(7).await.unwrap();
    saved.write(&ruleset("a")).await.unwrap();
    assert!(must_stand(&saved) && must_stand(&Saved::new(directory.path())));
    saved.announce(8).await.unwrap();
    assert!(!must_stand(&saved), "the kernel may have something newer");
    assert!(saved.is_due(&ruleset("a")), "also the same ruleset is to be known as saved");
    saved.write(&ruleset("a")).await.unwrap();
    assert!(must_stand(&saved));
    assert_eq!(revision(directory.path()), Some(8));
    fs::write(directory.path().join(FILE), script::boot(&ruleset("a"))).unwrap();
    assert!(!must_stand(&saved), "what proves nothing is no measure");
}
