//! Every golden of `testdata/` in a real kernel: taken as JSON, as the boot script and as the text people read, found
//! again with nothing left to do, and the same table whichever way it came.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use appliance_dataplane::Update;
use appliance_dataplane::calc::Calc;
use appliance_dataplane::interfaces::{Interface, Interfaces};
use appliance_dataplane::nft::diff::diff;
use appliance_dataplane::nft::plan::{Begin, plan};
use appliance_dataplane::nft::{Actual, Kernel, Nft, Ruleset, script};
use appliance_dataplane::render::{RenderOptions, render};
use appliance_resources::{manifest, set_defaults};

use crate::listing::{listing_without_handles, sorted_blocks};
use crate::netns::{NFT, Namespace, inside};
use crate::rulesets::TABLE;

fn cases() -> Vec<PathBuf> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let entries = fs::read_dir(testdata).expect("list testdata");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("read testdata").path()).collect();
    cases.retain(|case| case.join("golden.nft").exists());
    cases.sort();
    assert!(cases.len() >= 20, "only {} goldens found", cases.len());
    cases
}

/// As `render::golden` reads a case: the first line of `node` names it, every other one is a link.
fn wanted(case: &Path) -> Ruleset {
    let node = fs::read_to_string(case.join("node")).expect("read the node");
    let mut lines = node.lines();
    let mut calc = Calc::new(lines.next().expect("a node name"));
    let link = |(line, index): (&str, u32)| {
        let mut words = line.split_whitespace();
        let name = words.next().expect("an interface name").to_owned();
        let up = words.next() == Some("up");
        (
            name,
            Interface { index, up, addresses: words.map(|word| word.parse().expect("an address")).collect() },
        )
    };
    let interfaces: Interfaces = lines.zip(1..).map(link).collect();
    let text = fs::read_to_string(case.join("input.yaml")).expect("read the input");
    for document in manifest::read(&text, "input.yaml").expect("a readable manifest") {
        let mut resource = document.resource;
        set_defaults(&mut resource);
        calc.on_update(Update::Set(Box::new(resource)));
    }
    calc.on_interfaces(&interfaces);
    calc.on_in_sync();
    let mut options = RenderOptions::default();
    if case.ends_with("protected-ports") {
        options.protected.inbound = BTreeSet::from([6443, 2380]);
        let members = ["192.0.2.11:2380", "192.0.2.12:2380", "[fd00::11]:2380"];
        options.protected.outbound = members.map(|member| member.parse().expect("an address")).into();
    }
    render(&calc.flush().expect("an answer"), &options)
}

/// The table as nft lists it, its blocks in order of name, fingerprints left out.
fn blocks(namespace: &Namespace) -> Vec<String> {
    let fingerprint =
        |comment: &str| comment.len() >= 16 && comment.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit);
    let plain = |line: &str| match line.split_once(" comment \"") {
        Some((rule, comment)) if fingerprint(comment) => match comment[16..].trim_start() {
            "\"" => rule.to_owned(),
            label => format!("{rule} comment \"{label}"),
        },
        _ => line.to_owned(),
    };
    sorted_blocks(listing_without_handles(namespace).lines().map(plain))
}

#[test]
fn every_golden_loads_and_is_found_again() {
    inside(|namespace, runtime| {
        runtime.block_on(async {
            let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
            let file = tempfile::NamedTempFile::new().expect("a file");
            for case in cases() {
                let (wanted, name) = (wanted(&case), case.display());
                for transaction in plan(&Actual::default(), &wanted, Begin::Whole) {
                    kernel.run(&transaction).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                }
                let left = |listed: &Actual| format!("{name}: {:#?}", diff(listed, &wanted));
                let listed = kernel.list().await.expect("list");
                assert!(diff(&listed, &wanted).is_empty(), "by JSON, {}", left(&listed));
                let by_json = blocks(namespace);

                // Over what is there, as a boot unit would on a host that was not rebooted.
                fs::write(file.path(), script::boot(&wanted)).expect("write the script");
                namespace.run(&format!("nft -f {}", file.path().display()));
                let listed = kernel.list().await.expect("list");
                assert!(diff(&listed, &wanted).is_empty(), "by script, {}", left(&listed));
                assert_eq!(blocks(namespace), by_json, "{name}: the script says something else");

                namespace.nft("flush ruleset");
                namespace.run(&format!("nft -f {}", case.join("golden.nft").display()));
                assert_eq!(blocks(namespace), by_json, "{name}: the golden says something else");
                namespace.nft("flush ruleset");
            }
        });
    });
}
