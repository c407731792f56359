//! Diff: what separates our table in the kernel from the one we want. Says what changes, not in which order: `plan`.

use std::collections::BTreeMap;

use crate::nft::actual::{Actual, ActualChain, ActualHook, ActualSet};
use crate::nft::ruleset::{Chain, Delta, Ruleset, Set, SetKind, Verdict};

/// The differences, borrowed from both sides.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// The table is missing.
    pub table_missing: bool,
    /// Sets to create.
    pub new_sets: BTreeMap<&'a str, &'a Set>,
    /// Sets whose members are known to differ.
    pub changed_sets: BTreeMap<&'a str, (SetKind, Delta)>,
    /// Sets that hold something we can not read, to be emptied and filled.
    pub refilled_sets: BTreeMap<&'a str, &'a Set>,
    /// Maps to create.
    pub new_maps: Vec<&'a str>,
    /// Interfaces to point elsewhere: map, interface, whether the interface is in the map now, verdict.
    pub map_elements: Vec<MapElement<'a>>,
    /// Interfaces to remove: map and interface.
    pub stale_map_elements: Vec<(&'a str, &'a str)>,
    /// Chains to create.
    pub new_chains: BTreeMap<&'a str, &'a Chain>,
    /// Chains to rewrite.
    pub changed_chains: BTreeMap<&'a str, &'a Chain>,
    /// Sets nobody wants.
    pub stale_sets: Vec<&'a str>,
    /// Maps nobody wants.
    pub stale_maps: Vec<&'a str>,
    /// Chains nobody wants, and whether they are hooked.
    pub stale_chains: Vec<(&'a str, bool)>,
    /// Objects of kinds we never make.
    pub strays: Vec<(&'a str, &'a str)>,
    /// Objects under a name of ours that can not become what we want by any change short of making them anew.
    pub misfits: Vec<&'a str>,
}

/// One interface to point to a verdict.
#[derive(Debug)]
pub struct MapElement<'a> {
    /// The map.
    pub map: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// Where to.
    pub verdict: &'a Verdict,
    /// Whether the map holds the interface already, so that it must be removed in the same transaction.
    pub replaces: bool,
}

/// What separates `actual` from `wanted`.
pub fn diff<'a>(actual: &'a Actual, wanted: &'a Ruleset) -> Changes<'a> {
    let mut changes = Changes { table_missing: !actual.table, ..Changes::default() };
    for (name, set) in &wanted.sets {
        changes.set(name, actual.sets.get(name), set);
    }
    for (name, map) in &wanted.maps {
        changes.map(name, actual.maps.get(name), &map.elements);
    }
    for (name, chain) in &wanted.chains {
        changes.chain(name, actual.chains.get(name), chain);
    }
    changes.stale_sets = stale(&actual.sets, &wanted.sets);
    changes.stale_maps = stale(&actual.maps, &wanted.maps);
    let stale_chains = actual.chains.iter().filter(|(name, _)| !wanted.chains.contains_key(*name));
    changes.stale_chains =
        stale_chains.map(|(name, chain)| (&name[..], chain.hook != ActualHook::None)).collect();
    changes.strays = actual.strays.iter().map(|(kind, name)| (&kind[..], &name[..])).collect();
    changes
}

impl<'a> Changes<'a> {
    /// Whether the kernel has exactly what we want.
    pub fn is_empty(&self) -> bool {
        !self.table_missing
            && self.new_sets.is_empty()
            && self.changed_sets.is_empty()
            && self.refilled_sets.is_empty()
            && self.new_maps.is_empty()
            && self.map_elements.is_empty()
            && self.stale_map_elements.is_empty()
            && self.new_chains.is_empty()
            && self.changed_chains.is_empty()
            && self.stale_sets.is_empty()
            && self.stale_maps.is_empty()
            && self.stale_chains.is_empty()
            && self.strays.is_empty()
            && self.misfits.is_empty()
    }

    fn set(&mut self, name: &'a str, actual: Option<&'a ActualSet>, wanted: &'a Set) {
        match actual {
            None => {
                self.new_sets.insert(name, wanted);
            }
            Some(ActualSet::Known(set)) if set.kind == wanted.kind => {
                let delta = wanted.elements.delta_from(&set.elements);
                if !delta.is_empty() {
                    self.changed_sets.insert(name, (wanted.kind, delta));
                }
            }
            Some(ActualSet::Unreadable(kind)) if *kind == wanted.kind => {
                self.refilled_sets.insert(name, wanted);
            }
            Some(_) => self.misfits.push(name),
        }
    }

    fn map(
        &mut self,
        name: &'a str,
        actual: Option<&'a Option<BTreeMap<String, Verdict>>>,
        wanted: &'a BTreeMap<String, Verdict>,
    ) {
        let known = match actual {
            None => {
                self.new_maps.push(name);
                None
            }
            Some(Some(elements)) => Some(elements),
            Some(None) => return self.misfits.push(name),
        };
        for (interface, verdict) in wanted {
            let now = known.and_then(|elements| elements.get(interface));
            if now != Some(verdict) {
                self.map_elements.push(MapElement { map: name, interface, verdict, replaces: now.is_some() });
            }
        }
        let gone =
            known.into_iter().flat_map(|elements| elements.keys()).filter(|key| !wanted.contains_key(*key));
        self.stale_map_elements.extend(gone.map(|interface| (name, &interface[..])));
    }

    fn chain(&mut self, name: &'a str, actual: Option<&ActualChain>, wanted: &'a Chain) {
        match actual {
            None => {
                self.new_chains.insert(name, wanted);
            }
            Some(chain) if chain.hook != wanted.hook.into() => self.misfits.push(name),
            Some(chain) => {
                let same = chain.rules.len() == wanted.rules.len()
                    && chain.rules.iter().zip(&wanted.rules).all(|(rule, wanted)| rule.is(wanted));
                if !same {
                    self.changed_chains.insert(name, wanted);
                }
            }
        }
    }
}

fn stale<'a, A, W>(actual: &'a BTreeMap<String, A>, wanted: &BTreeMap<String, W>) -> Vec<&'a str> {
    actual.keys().filter(|name| !wanted.contains_key(*name)).map(String::as_str).collect()
}
