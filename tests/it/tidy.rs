//! The house rules a compiler does not know: every file opens with `//!`, and the pure crates gain no edge.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("list a directory") {
        let path = entry.expect("read a directory entry").path();
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with(".git") {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
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
