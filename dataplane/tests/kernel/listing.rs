//! The table as nft lists it, for comparing one with another.

use crate::netns::Namespace;
use crate::rulesets::TABLE;

/// Our table as nft lists it, without counters, which count.
pub(crate) fn listing(namespace: &Namespace) -> String {
    namespace.run(&format!("nft -s -a list table inet {TABLE}"))
}

/// The same without handles, which no two tables share.
pub(crate) fn listing_without_handles(namespace: &Namespace) -> String {
    namespace.run(&format!("nft -s list table inet {TABLE}"))
}

/// A listing block by block, in order of name: a table made anew lists its objects in another order.
pub(crate) fn sorted_blocks(lines: impl Iterator<Item = impl Into<String>>) -> Vec<String> {
    let body: Vec<String> = lines.skip(1).map(Into::into).collect();
    let mut blocks: Vec<String> = body
        .join("\n")
        .split("\n\n")
        .map(|block| block.trim_end_matches(['}', '\n']).trim().to_owned())
        .collect();
    blocks.sort_unstable();
    blocks
}
