//! The house rules a compiler does not know: every file opens with `//!`, and the pure crates gain no edge.

use std::fs;

use crate::tree::{self, root};

#[test]
fn every_file_says_what_it_is() {
    let mut files = tree::files();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(files.len() > 50, "only {} files found: is the test looking in the right place?", files.len());
    let bare: Vec<_> = files
        .iter()
        .filter(|path| !fs::read_to_string(path).expect("read a source file").starts_with("//!"))
        .collect();
    assert!(bare.is_empty(), "these files do not open with a //! header: {bare:#?}");
}

#[test]
fn the_ground_floors_do_not_know_each_other_nor_the_world() {
    let manifest =
        |of: &str| fs::read_to_string(root().join(of).join("Cargo.toml")).expect("read a manifest");
    let dependencies = |of: &str| {
        let text = manifest(of);
        let from = text.find("[dependencies]").expect("a dependency table");
        let until = text.find("[dev-dependencies]").unwrap_or(text.len());
        text[from..until].to_owned()
    };
    for stranger in ["tokio", "hyper", "sled", "rustix", "appliance-"] {
        assert!(
            !dependencies("resources").contains(stranger),
            "resources is pure and may not use {stranger}"
        );
    }
    for stranger in ["appliance-", "hyper", "raft", "nftables"] {
        assert!(!dependencies("storage").contains(stranger), "storage may not use {stranger}");
    }
    for stranger in ["appliance-storage", "appliance-consensus", "sled", "raft", "hyper"] {
        assert!(!dependencies("dataplane").contains(stranger), "dataplane may not use {stranger}");
    }
}
