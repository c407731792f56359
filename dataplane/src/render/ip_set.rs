//! IP sets: one IP set becomes one kernel set per family, also when a family has no members (it matches nothing).

use std::collections::BTreeMap;

use crate::calc::desired::{IpSet, SetId};
use crate::nft::{Family, Ruleset, Set};
use crate::render::names;

/// Adds every set, or replaces its members by the current ones.
pub(crate) fn render(sets: &BTreeMap<SetId, IpSet>, ruleset: &mut Ruleset) {
    for (id, set) in sets {
        for (family, elements) in [(Family::V4, &set.v4), (Family::V6, &set.v6)] {
            let (name, kind) = names::ip_set(id, set.shape, family);
            ruleset.sets.insert(name, Set { kind, elements: elements.clone() });
        }
    }
}
