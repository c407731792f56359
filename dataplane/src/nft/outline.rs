//! Outline: our table in the words in which a script and a listing can be compared. Pure.
//!
//! A start knows what was enforced last only as the script on disk, and the kernel's table only as a listing. Both name
//! the same sets with the same members, the same maps, and the same chains with the fingerprints of their rules, in
//! order; that is the outline. It refuses to read scripts of anybody but [`script::boot`].

use std::collections::BTreeMap;

use crate::nft::actual::{Actual, ActualHook, ActualSet, Drift};
use crate::nft::fingerprint::Fingerprint;
use crate::nft::script;

/// What stands for something that we never make and can not read.
const UNREADABLE: &str = "?";

/// Kind and name of each object, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline(BTreeMap<String, Vec<String>>);

impl Outline {
    /// Of a script.
    pub fn of_script(script: &str) -> Outline {
        let mut objects = BTreeMap::new();
        let mut object: Option<(String, Vec<String>)> = None;
        for line in script.lines() {
            match (&mut object, line.strip_prefix("  ")) {
                (None, Some(begin)) => {
                    object = begin.strip_suffix(" {").map(|name| (name.to_owned(), Vec::new()))
                }
                (Some(_), Some("}")) => objects.extend(object.take()),
                (Some((_, lines)), Some(inner)) => lines.push(told(inner.trim_start())),
                (_, None) => {}
            }
        }
        Outline(objects)
    }

    /// Of what the kernel has.
    pub fn of_actual(actual: &Actual) -> Outline {
        let mut objects = BTreeMap::new();
        for (name, set) in &actual.sets {
            let lines = match set {
                ActualSet::Known(set) => script::set_lines(set),
                ActualSet::Unreadable(_) | ActualSet::Unknown => vec![UNREADABLE.to_owned()],
            };
            objects.insert(format!("set {name}"), lines);
        }
        for (name, map) in &actual.maps {
            let lines = map.as_ref().map_or_else(|| vec![UNREADABLE.to_owned()], script::map_lines);
            objects.insert(format!("map {name}"), lines);
        }
        for (name, chain) in &actual.chains {
            let hook = match &chain.hook {
                ActualHook::None => None,
                ActualHook::Ours(hook) => Some(script::hook(hook)),
                ActualHook::Unknown => Some(UNREADABLE.to_owned()),
            };
            let rule = |fingerprint: Option<Fingerprint>| {
                fingerprint.map_or_else(|| UNREADABLE.to_owned(), |fingerprint| fingerprint.to_string())
            };
            let rules = chain.rules.iter().map(|known| rule(known.fingerprint()));
            objects.insert(format!("chain {name}"), hook.into_iter().chain(rules).collect());
        }
        objects.extend(actual.strays.iter().map(|(kind, name)| (format!("{kind} {name}"), Vec::new())));
        Outline(objects)
    }

    /// How `standing` differs from this, in words for the report.
    pub fn drift(&self, standing: &Outline) -> Vec<Drift> {
        let word = |(name, lines): (&String, &Vec<String>)| match standing.0.get(name) {
            None => Some(Drift(format!("{name} was deleted"))),
            Some(theirs) => (theirs != lines).then(|| Drift(format!("{name} was changed"))),
        };
        let added = standing.0.keys().filter(|name| !self.0.contains_key(*name));
        self.0.iter().filter_map(word).chain(added.map(|name| Drift(format!("{name} was added")))).collect()
    }

    /// Whether `standing` is what somebody left who emptied a table like this: no rule, or nobody to police.
    pub fn emptied(&self, standing: &Outline) -> bool {
        let emptied = |kind| self.holds(kind) && !standing.holds(kind);
        emptied("chain ") || emptied("map ")
    }

    /// Whether any object of this kind holds a rule or a member.
    fn holds(&self, kind: &str) -> bool {
        let mut objects = self.0.iter().filter(|(name, _)| name.starts_with(kind));
        objects.any(|(_, lines)| lines.iter().any(|line| !line.starts_with("type ")))
    }
}

/// A rule by its fingerprint, everything else as it is.
fn told(line: &str) -> String {
    let comment = line.strip_suffix('"').and_then(|line| line.rsplit_once(" comment \""));
    let fingerprint = comment.and_then(|(_, comment)| Fingerprint::parse(comment));
    fingerprint.map_or_else(|| line.to_owned(), |fingerprint| fingerprint.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::ruleset::{
        Chain, ChainKind, Expr, Family, Hook, HookPoint, Rule, Ruleset, Set, SetKind, Verdict, VerdictMap,
    };
    use crate::nft::{Element, Operation, Transaction};

    fn ruleset() -> Ruleset {
        let mut ruleset = Ruleset::new("t");
        let elements = ["10.0.0.0/8", "192.0.2.1/32"].map(|net| Element::Net(net.parse().unwrap()));
        let nets = Set { kind: SetKind::Nets(Family::V4), elements: elements.into_iter().collect() };
        ruleset.sets.insert("nets".into(), nets);
        let elements = [("eth0".to_owned(), Verdict::Goto("c".into()))].into();
        ruleset.maps.insert("m".into(), VerdictMap { elements });
        ruleset.maps.insert("none".into(), VerdictMap { elements: BTreeMap::new() });
        let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Input, priority: -5 };
        ruleset.chains.insert("c".into(), Chain::new(vec![Rule::new("hep/e drop", vec![Expr::drop()])]));
        ruleset.chains.insert("input".into(), Chain::base(hook, vec![Rule::new("", vec![Expr::accept()])]));
        ruleset
    }

    /// What somebody left of it.
    fn after(operation: Operation) -> Outline {
        let mut actual = Actual::committed(&ruleset());
        let mut transaction = Transaction::new("t");
        transaction.operations.push(operation);
        actual.replay(&transaction);
        Outline::of_actual(&actual)
    }

    #[test]
    fn a_script_and_what_was_loaded_from_it_are_the_same() {
        let saved = Outline::of_script(&script::boot(&ruleset()));
        assert_eq!(saved, Outline::of_actual(&Actual::committed(&ruleset())));
        assert_eq!(saved.0.len(), 5);
    }

    #[test]
    fn what_was_changed_is_told_and_what_was_emptied_is_known() {
        let saved = Outline::of_script(&script::boot(&ruleset()));
        let told =
            |standing: &Outline| saved.drift(standing).into_iter().map(|drift| drift.0).collect::<Vec<_>>();
        let flushed = after(Operation::FlushChain { name: "c".into() });
        assert_eq!(told(&flushed), ["chain c was changed"]);
        assert!(!saved.emptied(&flushed), "another chain still has its rules");
        let unmapped = after(Operation::DeleteMapElement { map: "m".into(), interface: "eth0".into() });
        assert_eq!(told(&unmapped), ["map m was changed"]);
        assert!(saved.emptied(&unmapped) && saved.emptied(&Outline::default()) && !saved.emptied(&saved));
        assert_eq!(told(&after(Operation::AddMap { name: "x".into() })), ["map x was added"]);
        assert_eq!(told(&after(Operation::DeleteMap { name: "none".into() })), ["map none was deleted"]);
    }
}
