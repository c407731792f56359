//! Shield: the smallest ruleset that lets through nothing the wanted one would not.
//!
//! When our table vanishes (`nft flush ruleset`) and what we want is large, loading it takes a while. The shield goes
//! first: the base chains as they are, and behind them every chain cut off with a drop at the first rule that would need
//! a large set, or where the shield has become large itself. What is evaluated before a cut is the policy's own, so
//! established connections, failsafes and small policies keep working; the rest is denied until the whole is back.
//! It holds no interval set, so it may be created and hooked in one transaction.

use std::collections::{BTreeSet, VecDeque};

use crate::nft::ruleset::{Chain, Expr, Rule, Ruleset, Set, VerdictMap};

/// Above this many rules and set members together, loading is slow enough (measured: 20 to 40 ms at about this size) to
/// be worth a shield.
const LARGE: usize = 2_000;
/// Rules the shield may hold before it cuts; loading so many stays below 30 ms.
const RULES_MAX: usize = 1_000;
/// A hash set up to this size is carried along; failsafes are such.
const SET_MAX: usize = 256;

/// Whether loading `wanted` from nothing takes long enough to be worth a shield.
pub fn worthwhile(wanted: &Ruleset) -> bool {
    let members: usize = wanted.sets.values().map(|set| set.elements.len()).sum();
    let rules: usize = wanted.chains.values().map(|chain| chain.rules.len()).sum();
    members + rules > LARGE
}

/// The shield of `wanted`.
pub fn shield(wanted: &Ruleset) -> Ruleset {
    let mut shield = Ruleset::new(&wanted.table);
    let mut waiting: VecDeque<&str> =
        wanted.chains.iter().filter(|(_, chain)| chain.hook.is_some()).map(|(name, _)| &name[..]).collect();
    let mut seen: BTreeSet<&str> = waiting.iter().copied().collect();
    let mut left = RULES_MAX;
    while let Some(name) = waiting.pop_front() {
        let Some(chain) = wanted.chains.get(name) else { continue };
        let kept = kept(wanted, chain, left);
        left = left.saturating_sub(kept.len());
        for rule in &kept {
            shield.take_along(wanted, rule);
            waiting.extend(targets(wanted, rule).into_iter().filter(|target| seen.insert(target)));
        }
        let cut = chain.hook.is_none() && kept.len() < chain.rules.len();
        let rules = kept.into_iter().cloned().chain(cut.then(denied)).collect();
        shield.chains.insert(name.to_owned(), Chain { hook: chain.hook, rules });
    }
    shield
}

/// The rules of `chain` before the first that needs a large set; none if they are too many. A base chain is never cut,
/// for a drop there would reach interfaces nobody asked us to police: it goes without such rules.
fn kept<'a>(wanted: &Ruleset, chain: &'a Chain, left: usize) -> Vec<&'a Rule> {
    let small =
        |rule: &&Rule| !rule.exprs.iter().filter_map(Expr::set).any(|set| is_large(wanted.sets.get(set)));
    match chain.hook {
        Some(_) => chain.rules.iter().filter(small).collect(),
        None if chain.rules.len() > left => Vec::new(),
        None => chain.rules.iter().take_while(small).collect(),
    }
}

fn denied() -> Rule {
    Rule::new("policy is being restored", vec![Expr::Counter, Expr::drop()])
}

fn is_large(set: Option<&Set>) -> bool {
    set.is_none_or(|set| set.kind.is_interval() || set.elements.len() > SET_MAX)
}

fn targets<'a>(wanted: &'a Ruleset, rule: &'a Rule) -> Vec<&'a str> {
    let mut targets = Vec::new();
    for expr in &rule.exprs {
        match expr {
            Expr::Verdict(verdict) => targets.extend(verdict.target()),
            Expr::Dispatch { map, .. } => {
                let elements = wanted.maps.get(map).into_iter().flat_map(|map| map.elements.values());
                targets.extend(elements.filter_map(|verdict| verdict.target()));
            }
            _ => {}
        }
    }
    targets
}

impl Ruleset {
    /// Copies the sets and maps `rule` names.
    fn take_along(&mut self, wanted: &Ruleset, rule: &Rule) {
        for expr in &rule.exprs {
            if let Some((name, set)) = expr.set().and_then(|name| wanted.sets.get_key_value(name)) {
                self.sets.insert(name.clone(), set.clone());
            }
            if let Expr::Dispatch { map, .. } = expr {
                let elements = wanted.maps.get(map).map(|map| map.elements.clone()).unwrap_or_default();
                self.maps.insert(map.clone(), VerdictMap { elements });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::ruleset::{
        ChainKind, CtState, Element, Elements, Family, Hook, HookPoint, Is, SetKind, Side, Verdict,
    };
    use crate::nft::script::{Comments, ruleset};

    fn rule(exprs: Vec<Expr>) -> Rule {
        Rule::new("", exprs)
    }

    fn in_set(set: &str) -> Expr {
        Expr::AddressSet { side: Side::Source, is: Is::In, family: Family::V4, set: set.to_owned() }
    }

    #[test]
    fn what_needs_a_large_set_is_denied_and_the_rest_is_as_wanted() {
        let mut wanted = Ruleset::new("t");
        let net: Elements = [Element::Net("10.0.0.0/8".parse().unwrap())].into_iter().collect();
        wanted.sets.insert("nets".into(), Set { kind: SetKind::Nets(Family::V4), elements: net });
        let failsafes: Elements = [Element::ProtocolPort { protocol: 6, port: 22 }].into_iter().collect();
        wanted.sets.insert("fs".into(), Set { kind: SetKind::ProtocolPorts, elements: failsafes });
        let elements = [("eth0".to_owned(), Verdict::Goto("ep".into()))].into();
        wanted.maps.insert("in".into(), VerdictMap { elements });
        let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Input, priority: -5 };
        let dispatch = Expr::Dispatch { side: Side::Source, map: "in".into() };
        let established = rule(vec![Expr::CtState(vec![CtState::Established]), Expr::accept()]);
        wanted.chains.insert("input".into(), Chain::base(hook, vec![established, rule(vec![dispatch])]));
        let failsafe = Expr::ProtocolPortSet { side: Side::Destination, is: Is::In, set: "fs".into() };
        let endpoint = vec![
            rule(vec![failsafe, Expr::accept()]),
            rule(vec![Expr::jump("p1")]),
            rule(vec![Expr::jump("p2")]),
        ];
        wanted.chains.insert("ep".into(), Chain::new(endpoint));
        let first = vec![rule(vec![Expr::NfProto(Family::V6), Expr::accept()])];
        wanted.chains.insert("p1".into(), Chain::new(first));
        let second = vec![rule(vec![in_set("nets"), Expr::drop()]), rule(vec![Expr::accept()])];
        wanted.chains.insert("p2".into(), Chain::new(second));
        wanted.chains.insert("unreached".into(), Chain::default());
        let text = "table inet t {
  set fs {
    type inet_proto . inet_service
    elements = { 6 . 22 }
  }

  map in {
    type ifname : verdict
    elements = { \"eth0\" : goto ep }
  }

  chain ep {
    meta l4proto . th dport @fs accept
    jump p1
    jump p2
  }

  chain input {
    type filter hook input priority -5; policy accept;
    ct state established accept
    iifname vmap @in
  }

  chain p1 {
    meta nfproto ipv6 accept
  }

  chain p2 {
    counter drop comment \"policy is being restored\"
  }
}
";
        assert_eq!(ruleset(&shield(&wanted), Comments::Labels), text);
    }

    #[test]
    fn a_shield_of_many_endpoints_stays_small() {
        let mut wanted = Ruleset::new("t");
        let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Input, priority: -5 };
        let jumps = (0..300).map(|number| rule(vec![Expr::jump(format!("c{number}"))])).collect();
        wanted.chains.insert("input".into(), Chain::base(hook, jumps));
        for number in 0..300 {
            wanted.chains.insert(format!("c{number}"), Chain::new(vec![rule(vec![Expr::accept()]); 10]));
        }
        let shield = shield(&wanted);
        assert_eq!(shield.chains.len(), 301, "every chain that is jumped to exists");
        let rules: usize = shield.chains.values().map(|chain| chain.rules.len()).sum();
        assert!(worthwhile(&wanted) && rules < RULES_MAX + 301, "{rules}");
    }
}
