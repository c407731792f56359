//! Every golden of `testdata/` in a real kernel: taken as JSON, as the boot script and as the text people read, found
//! again with nothing left to do, and the same table whichever way it came.

use std::fs;
use std::path::Path;

use appliance_dataplane::nft::diff::diff;
use appliance_dataplane::nft::outline::Outline;
use appliance_dataplane::nft::plan::{Begin, plan};
use appliance_dataplane::nft::{Actual, Kernel, Nft, Ruleset, script};
use appliance_dataplane::render::render;

use crate::golden_case::{cases, desired, options};
use crate::listing::{listing_without_handles, sorted_blocks};
use crate::netns::{NFT, Namespace, inside};
use crate::rulesets::TABLE;

fn wanted(case: &Path) -> Ruleset {
    render(&desired(case), &options(case))
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
                let (said, stands) =
                    (Outline::of_script(&script::boot(&wanted)), Outline::of_actual(&listed));
                assert_eq!(said.drift(&stands), [], "{name}: a start would find it changed");
                let by_json = blocks(namespace);

                // Over what is there, as a boot unit would on a host that was not rebooted.
                fs::write(file.path(), script::boot(&wanted)).expect("write the script");
                namespace.run(&format!("nft -f {}", file.path().display()));
                let listed = kernel.list().await.expect("list");
                assert!(diff(&listed, &wanted).is_empty(), "by script, {}", left(&listed));
                assert_eq!(blocks(namespace), by_json, "{name}: the script says something else");
                let (said, stands) =
                    (Outline::of_script(&script::boot(&wanted)), Outline::of_actual(&listed));
                assert_eq!(said.drift(&stands), [], "{name}: a start would find it changed");

                namespace.nft("flush ruleset");
                namespace.run(&format!("nft -f {}", case.join("golden.nft").display()));
                assert_eq!(blocks(namespace), by_json, "{name}: the golden says something else");
                namespace.nft("flush ruleset");
            }
        });
    });
}
