//! Endpoint chains: what one endpoint does with a packet, from the first question to the last.
//!
//! In order (policy-semantics 4.5): what belongs to a known connection is accepted, what connection tracking calls
//! invalid is denied, failsafes are accepted, then tier by tier the policies, then the profiles, then everything else
//! is denied. `accept` in a policy's chain ends the matter for this hook, so only two things need a way back: "no rule
//! matched", which is the end of the policy's chain, and Pass.
//!
//! Pass leaves two levels at once (the policy's chain and the rest of the tier), which nftables has no verdict for. It
//! sets a bit of the packet mark and returns; the policies left in the tier and its end ask for that bit. Tiers
//! without a Pass rule are rendered without any of this. Chains of policies are shared by all endpoints, which is why
//! Pass can not simply jump to "the next tier": that is another place for every endpoint.

use crate::calc::desired::{EndOfTier, Endpoint, EndpointPolicies, EndpointTier, ProfileRef};
use crate::nft::{Chain, CtState, Expr, Is, Rule};
use crate::render::{Lane, Table, failsafe, names, policy};

/// Adds the chains of every endpoint for one lane.
pub(crate) fn render(table: &mut Table<'_>, lane: Lane) {
    let structure = table.structure;
    for (name, endpoint) in &structure.endpoints {
        let label = format!("hep/{name} {}", policy::direction(lane));
        let mut rules = before_policy(table, lane, &label);
        match endpoint {
            Endpoint::Denied => {
                rules.push(deny(table, lane, &format!("{label}: policy can not be enforced")))
            }
            Endpoint::Policed(policies) => rules.extend(policed(table, lane, &label, policies)),
        }
        table.add_chain(names::endpoint(lane, name), Chain::new(rules));
    }
}

fn before_policy(table: &Table<'_>, lane: Lane, label: &str) -> Vec<Rule> {
    let known = Expr::CtState(vec![CtState::Established, CtState::Related]);
    let mut rules = vec![Rule::new(&format!("{label}: known connections"), vec![known, Expr::accept()])];
    if !table.structure.settings.allow_invalid {
        let invalid = vec![Expr::CtState(vec![CtState::Invalid]), Expr::Counter, table.deny(lane)];
        rules.push(Rule::new(&format!("{label}: invalid"), invalid));
    }
    rules.push(Rule::new(&format!("{label}: failsafes"), vec![Expr::jump(failsafe::chain(lane))]));
    rules
}

fn policed(table: &Table<'_>, lane: Lane, label: &str, policies: &EndpointPolicies) -> Vec<Rule> {
    let mut rules = Vec::new();
    for tier in &policies.normal {
        if let After::Nothing = render_tier(table, lane, label, tier, &mut rules) {
            return rules;
        }
    }
    for profile in &policies.profiles {
        match profile {
            ProfileRef::Present(name) => {
                let jump = Expr::jump(names::profile(lane, name));
                rules.push(Rule::new(&format!("{label}: profile {name}"), vec![jump]));
            }
            ProfileRef::Missing(name) => {
                rules.push(deny(table, lane, &format!("{label}: no profile {name}")));
                return rules;
            }
        }
    }
    rules.push(deny(table, lane, &format!("{label}: nothing allowed it")));
    rules
}

/// Whether a packet can come out of a tier undecided.
enum After {
    Something,
    Nothing,
}

fn render_tier(
    table: &Table<'_>,
    lane: Lane,
    label: &str,
    tier: &EndpointTier,
    rules: &mut Vec<Rule>,
) -> After {
    let policies = if lane == Lane::In { &tier.ingress } else { &tier.egress };
    if policies.is_empty() {
        return After::Something;
    }
    let bit = table.options.marks.pass;
    let not_passed = Expr::Mark { is: Is::In, mask: bit, value: 0 };
    let clear =
        Rule::new(&format!("{label}: tier {}", tier.name), vec![Expr::SetMark { keep: !bit, set: 0 }]);
    let passes = |name: &String| policy::passes(table.structure, lane, name);
    let tier_passes = policies.iter().any(passes);
    if tier_passes {
        rules.push(clear.clone());
    }
    let mut may_have_passed = false;
    for name in policies {
        let jump = Expr::jump(names::policy(lane, name));
        let exprs = if may_have_passed { vec![not_passed.clone(), jump] } else { vec![jump] };
        rules.push(Rule::new(&format!("{label}: {}/{name}", tier.name), exprs));
        may_have_passed |= passes(name);
    }
    if tier.end == EndOfTier::Deny {
        let mut exprs = if tier_passes { vec![not_passed] } else { Vec::new() };
        exprs.extend([Expr::Counter, table.deny(lane)]);
        rules.push(Rule::new(&format!("{label}: end of tier {}", tier.name), exprs));
        if !tier_passes {
            return After::Nothing;
        }
    }
    if tier_passes {
        rules.push(clear);
    }
    After::Something
}

fn deny(table: &Table<'_>, lane: Lane, label: &str) -> Rule {
    Rule::new(label, vec![Expr::Counter, table.deny(lane)])
}
