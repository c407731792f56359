//! The cases of `testdata/`: each directory is a cluster (`input.yaml`), a node of it with its links (`node`), and the
//! table that node must enforce (`golden.nft`).
//!
//! For tests only. The goldens use it from here; those of a real kernel are another crate and include this file by its
//! path, which is why it names our own crate from outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use appliance_dataplane::Update;
use appliance_dataplane::calc::{Calc, Desired};
use appliance_dataplane::interfaces::{Interface, Interfaces};
use appliance_dataplane::render::RenderOptions;
use appliance_resources::{manifest, set_defaults};

pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// All of them, in order of name.
pub(crate) fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(testdata()).expect("list testdata");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("read testdata").path()).collect();
    cases.retain(|case| case.join("input.yaml").exists());
    cases.sort();
    assert!(cases.len() >= 20, "only {} cases found", cases.len());
    cases
}

/// What the node of a case is to enforce.
pub(crate) fn desired(case: &Path) -> Desired {
    let (node, interfaces) = read_node(&fs::read_to_string(case.join("node")).expect("read the node"));
    let text = fs::read_to_string(case.join("input.yaml")).expect("read the input");
    let mut calc = Calc::new(&node);
    for document in manifest::read(&text, "input.yaml").expect("a readable manifest") {
        let mut resource = document.resource;
        set_defaults(&mut resource);
        calc.on_update(Update::Set(Box::new(resource)));
    }
    calc.on_interfaces(&interfaces);
    calc.on_in_sync();
    calc.flush().expect("an answer")
}

/// The first line names the node; every other line is a link: name, `up` or `down`, addresses.
fn read_node(text: &str) -> (String, Interfaces) {
    let mut lines = text.lines();
    let node = lines.next().expect("a node name").to_owned();
    let link = |(line, index): (&str, u32)| {
        let mut words = line.split_whitespace();
        let name = words.next().expect("an interface name").to_owned();
        let up = words.next() == Some("up");
        let addresses = words.map(|address| address.parse().expect("an address")).collect();
        (name, Interface { index, up, addresses })
    };
    (node, lines.zip(1..).map(link).collect())
}

/// A case that has members of the cluster to protect says so by its name.
pub(crate) fn options(case: &Path) -> RenderOptions {
    let mut options = RenderOptions::default();
    if case.ends_with("protected-ports") {
        options.protected.inbound = BTreeSet::from([6443, 2380]);
        let members = ["192.0.2.11:2380", "192.0.2.12:2380", "[fd00::11]:2380"];
        options.protected.outbound = members.map(|member| member.parse().expect("an address")).into();
    }
    options
}
