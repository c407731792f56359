//! Actual: our table as the kernel has it, as far as we know.
//!
//! It comes from a listing (`listing`), or from what was committed since (`replay`), which is how the usual change needs
//! no listing. What a listing holds that we can not read is known to exist and otherwise unknown, and gets rewritten.

use std::collections::{BTreeMap, BTreeSet};

use crate::nft::fingerprint::Fingerprint;
use crate::nft::ruleset::{Hook, Rule, Ruleset, Set, SetKind, Verdict};
use crate::nft::transaction::{Operation, Transaction};

/// Our table in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Whether the table exists.
    pub table: bool,
    /// Named sets.
    pub sets: BTreeMap<String, ActualSet>,
    /// Verdict maps; none when it is of another type or could not be read.
    pub maps: BTreeMap<String, Option<BTreeMap<String, Verdict>>>,
    /// Chains.
    pub chains: BTreeMap<String, ActualChain>,
    /// Objects of kinds we never make (`counter`, `quota`, …): kind and name.
    pub strays: BTreeSet<(String, String)>,
}

/// A named set in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActualSet {
    /// Kind and members are known.
    Known(Set),
    /// It is of this kind, but holds something we can not read.
    Unreadable(SetKind),
    /// It is of no kind we make.
    Unknown,
}

/// A chain in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActualChain {
    /// Where it is hooked.
    pub hook: ActualHook,
    /// Its rules in order.
    pub rules: Vec<ActualRule>,
}

/// Where a chain in the kernel is hooked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActualHook {
    /// Nowhere: a regular chain.
    #[default]
    None,
    /// As we would hook it, policy accept.
    Ours(Hook),
    /// In a way we never do.
    Unknown,
}

impl From<Option<Hook>> for ActualHook {
    fn from(hook: Option<Hook>) -> ActualHook {
        hook.map_or(ActualHook::None, ActualHook::Ours)
    }
}

/// A rule in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActualRule {
    /// Committed by this process.
    Committed {
        /// What was committed.
        rule: Rule,
        /// The handle the kernel gave it, once we know.
        handle: Option<u64>,
    },
    /// Listed, with the fingerprint it carries and the handle the kernel gave it.
    Listed {
        /// From its comment.
        fingerprint: Fingerprint,
        /// Never given twice, so the same handle is the same rule.
        handle: u64,
    },
    /// Listed, without a fingerprint of ours.
    Unknown,
}

impl ActualRule {
    /// Whether it is `wanted`, by what we know of it.
    pub fn is(&self, wanted: &Rule) -> bool {
        match self {
            ActualRule::Committed { rule, .. } => rule == wanted,
            ActualRule::Listed { fingerprint, .. } => *fingerprint == Fingerprint::of(wanted),
            ActualRule::Unknown => false,
        }
    }

    /// What it says it is, if it says so.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            ActualRule::Committed { rule, .. } => Some(Fingerprint::of(rule)),
            ActualRule::Listed { fingerprint, .. } => Some(*fingerprint),
            ActualRule::Unknown => None,
        }
    }

    fn handle(&self) -> Option<u64> {
        match self {
            ActualRule::Committed { handle, .. } => *handle,
            ActualRule::Listed { handle, .. } => Some(*handle),
            ActualRule::Unknown => None,
        }
    }
}

impl From<&Rule> for ActualRule {
    fn from(rule: &Rule) -> ActualRule {
        ActualRule::Committed { rule: rule.clone(), handle: None }
    }
}

impl Actual {
    /// The kernel's state after everything of `ruleset` was committed.
    pub fn committed(ruleset: &Ruleset) -> Actual {
        let chain = |chain: &crate::nft::ruleset::Chain| ActualChain {
            hook: chain.hook.into(),
            rules: chain.rules.iter().map(ActualRule::from).collect(),
        };
        Actual {
            table: true,
            sets: ruleset
                .sets
                .iter()
                .map(|(name, set)| (name.clone(), ActualSet::Known(set.clone())))
                .collect(),
            maps: ruleset.maps.iter().map(|(name, map)| (name.clone(), Some(map.elements.clone()))).collect(),
            chains: ruleset.chains.iter().map(|(name, wanted)| (name.clone(), chain(wanted))).collect(),
            strays: BTreeSet::new(),
        }
    }

    /// What the kernel holds once it has taken `transaction`.
    pub fn replay(&mut self, transaction: &Transaction) {
        for operation in &transaction.operations {
            self.replay_one(operation);
        }
    }

    fn replay_one(&mut self, operation: &Operation) {
        match operation {
            Operation::AddTable => self.table = true,
            Operation::DeleteTable => *self = Actual::default(),
            Operation::AddSet { name, set } | Operation::RefillSet { name, set } => {
                self.sets.insert(name.clone(), ActualSet::Known(set.clone()));
            }
            Operation::DeleteSet { name } => {
                self.sets.remove(name);
            }
            Operation::ChangeSet { name, delta, .. } => {
                if let Some(ActualSet::Known(set)) = self.sets.get_mut(name) {
                    delta.apply(&mut set.elements);
                }
            }
            Operation::AddMap { name } => {
                self.maps.entry(name.clone()).or_insert_with(|| Some(BTreeMap::new()));
            }
            Operation::DeleteMap { name } => {
                self.maps.remove(name);
            }
            Operation::AddMapElement { map, interface, verdict } => {
                if let Some(Some(elements)) = self.maps.get_mut(map) {
                    elements.insert(interface.clone(), verdict.clone());
                }
            }
            Operation::DeleteMapElement { map, interface } => {
                if let Some(Some(elements)) = self.maps.get_mut(map) {
                    elements.remove(interface);
                }
            }
            Operation::AddChain { name, hook } => {
                self.chains
                    .entry(name.clone())
                    .or_insert_with(|| ActualChain { hook: (*hook).into(), rules: Vec::new() });
            }
            Operation::FlushChain { name } => {
                if let Some(chain) = self.chains.get_mut(name) {
                    chain.rules.clear();
                }
            }
            Operation::DeleteChain { name } => {
                self.chains.remove(name);
            }
            Operation::AddRule { chain, rule } => {
                if let Some(chain) = self.chains.get_mut(chain) {
                    chain.rules.push(rule.into());
                }
            }
            Operation::DeleteStray { kind, name } => {
                self.strays.remove(&(kind.clone(), name.clone()));
            }
        }
    }
}

impl Actual {
    /// Notes the handles the kernel gave to the rules just committed. A chain of another length is left alone: someone
    /// else was there meanwhile, and an audit will tell.
    pub fn learn(&mut self, handles: &BTreeMap<String, Vec<u64>>) {
        for (name, chain) in &mut self.chains {
            let Some(known) = handles.get(name).filter(|known| known.len() == chain.rules.len()) else {
                continue;
            };
            for (rule, known) in chain.rules.iter_mut().zip(known) {
                if let ActualRule::Committed { handle: handle @ None, .. } = rule {
                    *handle = Some(*known);
                }
            }
        }
    }

    /// Shares the members of `wanted`, which `self` now holds, so that the next comparison finds them identical.
    pub fn share(&mut self, wanted: &Ruleset) {
        for (name, set) in &wanted.sets {
            if let Some(ActualSet::Known(ours)) = self.sets.get_mut(name) {
                ours.elements = set.elements.clone();
            }
        }
    }
}

/// One difference between what we committed and what a listing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift(pub String);

impl Actual {
    /// How `listed` differs from `self`, which is what we committed, in words for the report; empty when someone
    /// touched nothing. Rules are compared by fingerprint, and by handle where both sides know it: a rule put back from
    /// an edited dump keeps its comment, but not its handle.
    pub fn drift(&self, listed: &Actual) -> Vec<Drift> {
        if self.table && !listed.table {
            return vec![Drift("the table was deleted".to_owned())];
        }
        let mut drift = Vec::new();
        compare(&self.sets, &listed.sets, "set", |ours, theirs| ours == theirs, &mut drift);
        compare(&self.maps, &listed.maps, "map", |ours, theirs| ours == theirs, &mut drift);
        compare(&self.chains, &listed.chains, "chain", ActualChain::same, &mut drift);
        drift.extend(listed.strays.iter().map(|(kind, name)| Drift(format!("{kind} {name} was added"))));
        drift
    }

    /// Takes over from a listing what is needed to trust or rewrite: a chain that differs from what we committed is
    /// known from now on only by what was listed, and its rules as unknown if their handles moved.
    pub fn adopt(&mut self, mut listed: Actual) {
        for (name, chain) in &mut listed.chains {
            if let Some(ours) = self.chains.get(name)
                && !ours.same(chain)
            {
                chain.rules.fill(ActualRule::Unknown);
            }
        }
        *self = listed;
    }
}

impl ActualChain {
    fn same(&self, listed: &ActualChain) -> bool {
        let handles_agree =
            |(ours, theirs): (&ActualRule, &ActualRule)| match (ours.handle(), theirs.handle()) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => true,
            };
        self.hook == listed.hook
            && self.rules.len() == listed.rules.len()
            && self.rules.iter().zip(&listed.rules).all(|(ours, theirs)| {
                theirs.fingerprint().is_some() && ours.fingerprint() == theirs.fingerprint()
            })
            && self.rules.iter().zip(&listed.rules).all(handles_agree)
    }
}

fn compare<T>(
    ours: &BTreeMap<String, T>,
    theirs: &BTreeMap<String, T>,
    what: &str,
    same: impl Fn(&T, &T) -> bool,
    drift: &mut Vec<Drift>,
) {
    for (name, ours) in ours {
        match theirs.get(name) {
            None => drift.push(Drift(format!("{what} {name} was deleted"))),
            Some(theirs) if !same(ours, theirs) => drift.push(Drift(format!("{what} {name} was changed"))),
            Some(_) => {}
        }
    }
    let added = theirs.keys().filter(|name| !ours.contains_key(*name));
    drift.extend(added.map(|name| Drift(format!("{what} {name} was added"))));
}
