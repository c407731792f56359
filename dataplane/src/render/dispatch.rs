//! Dispatch: from the name of an interface to the chain of the endpoint that governs it, in one lookup.
//!
//! An interface that is not in the map goes on to the rule for all interfaces, or passes: what no endpoint governs is
//! left alone. The map is a hash, so an element comes and goes atomically for packets.

use crate::nft::{Verdict, VerdictMap};
use crate::render::{Lane, Table, names};

/// Adds the map of one lane.
pub(crate) fn render(table: &mut Table<'_>, lane: Lane) {
    let to_chain = |endpoint: &String| Verdict::Goto(names::endpoint(lane, endpoint));
    let elements = table
        .structure
        .interfaces
        .iter()
        .map(|(interface, endpoint)| (interface.clone(), to_chain(endpoint)))
        .collect();
    table.ruleset.maps.insert(names::dispatch(lane).to_owned(), VerdictMap { elements });
}
