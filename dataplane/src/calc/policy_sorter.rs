//! Policy sorter: the order in which tiers, and the policies inside a tier, are asked.
//!
//! Tiers: those that exist first, then by `order`, one without an order last, then by name. Policies: by `order`, one
//! without an order last, then by the text `name/namespace/kind` byte by byte; so `x-1` comes before `x`, because `-`
//! sorts before `/` (Calico's order, quirk Q7). A tier nobody created still counts: its policies are asked last, and
//! what they leave undecided is denied (quirk Q4).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use appliance_resources::{Kind, Tier, TierAction};

use crate::calc::active_policies::Policy;
use crate::calc::desired::EndOfTier;

/// One tier and the policies of it that were given, in order.
#[derive(Debug)]
pub(crate) struct SortedTier<'a> {
    pub(crate) name: &'a str,
    pub(crate) end: EndOfTier,
    pub(crate) policies: Vec<&'a Policy>,
}

/// Groups policies by tier and puts everything in order.
pub(crate) fn sort<'a>(policies: &[&'a Policy], tiers: &BTreeMap<&str, &Tier>) -> Vec<SortedTier<'a>> {
    let mut grouped: BTreeMap<&'a str, Vec<&'a Policy>> = BTreeMap::new();
    for policy in policies {
        grouped.entry(&policy.tier).or_default().push(policy);
    }
    let mut sorted: Vec<SortedTier<'a>> = grouped
        .into_iter()
        .map(|(name, mut policies)| {
            policies.sort_by(|left, right| {
                by_order(left.order, right.order).then_with(|| tie_break(left).cmp(&tie_break(right)))
            });
            SortedTier { name, end: end_of(tiers.get(name).copied()), policies }
        })
        .collect();
    let rank = |name: &str| tiers.get(name).map(|tier| tier.spec.order);
    sorted.sort_by(|left, right| {
        let by_rank = match (rank(left.name), rank(right.name)) {
            (Some(left), Some(right)) => by_order(left, right),
            (left, right) => left.is_none().cmp(&right.is_none()),
        };
        by_rank.then_with(|| left.name.cmp(right.name))
    });
    sorted
}

fn end_of(tier: Option<&Tier>) -> EndOfTier {
    match tier.and_then(|tier| tier.spec.default_action) {
        Some(TierAction::Pass) => EndOfTier::Pass,
        Some(TierAction::Deny) | None => EndOfTier::Deny,
    }
}

fn by_order(left: Option<f64>, right: Option<f64>) -> Ordering {
    match (left, right) {
        // Adding zero makes the two zeros one; there is no NaN in JSON.
        (Some(left), Some(right)) => (left + 0.0).total_cmp(&(right + 0.0)),
        (left, right) => left.is_none().cmp(&right.is_none()),
    }
}

fn tie_break(policy: &Policy) -> String {
    format!("{}//{}", policy.name, Kind::GlobalNetworkPolicy.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calc::active_policies::{Prepared, Stage};

    fn policy(tier: &str, name: &str, order: Option<f64>) -> Policy {
        Policy {
            name: name.to_owned(),
            tier: tier.to_owned(),
            order,
            stage: Stage::Normal { forward: false },
            ingress: true,
            egress: true,
            prepared: Prepared::Unusable { reason: String::new() },
        }
    }

    fn tier(order: Option<f64>, action: Option<TierAction>) -> Tier {
        let mut tier = Tier::default();
        tier.spec.order = order;
        tier.spec.default_action = action;
        tier
    }

    #[test]
    fn tiers_and_policies_come_in_calicos_order() {
        let tiers = [
            ("zone", tier(Some(1_000_000.0), None)),
            ("default", tier(Some(1_000_000.0), Some(TierAction::Deny))),
            ("app", tier(Some(1_000_000.0), Some(TierAction::Pass))),
            ("first", tier(Some(-1.5), None)),
            ("unordered", tier(None, None)),
        ];
        let by_name: BTreeMap<&str, &Tier> = tiers.iter().map(|(name, tier)| (*name, tier)).collect();
        let policies = [
            policy("gone-b", "p", Some(0.0)),
            policy("gone-a", "p", Some(0.0)),
            policy("unordered", "p", None),
            policy("zone", "p", None),
            policy("app", "p", None),
            policy("default", "x", None),
            policy("default", "x-1", None),
            policy("default", "y", Some(1e9)),
            policy("default", "z", Some(-0.0)),
            policy("default", "a", Some(0.0)),
            policy("first", "p", None),
        ];
        let sorted = sort(&policies.iter().collect::<Vec<_>>(), &by_name);
        let printed: Vec<String> = sorted
            .iter()
            .map(|tier| {
                let names: Vec<&str> = tier.policies.iter().map(|policy| policy.name.as_str()).collect();
                format!("{} {:?}: {}", tier.name, tier.end, names.join(" "))
            })
            .collect();
        assert_eq!(
            printed,
            [
                "first Deny: p",
                "app Pass: p",
                "default Deny: a z y x-1 x",
                "zone Deny: p",
                "unordered Deny: p",
                "gone-a Deny: p",
                "gone-b Deny: p",
            ]
        );
    }
}
