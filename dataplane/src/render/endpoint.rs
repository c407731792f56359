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

use std::collections::BTreeSet;

use crate::calc::desired::{EndOfTier, Endpoint, EndpointPolicies, EndpointTier, ProfileRef};
use crate::nft::{Chain, CtState, Expr, Is, Rule};
use crate::render::{Lane, Table, failsafe, names, policy};

/// The policies and profiles that the rendered endpoints ask, by name.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) policies: BTreeSet<&'a str>,
    pub(crate) profiles: BTreeSet<&'a str>,
}

/// Adds the chains of every endpoint for one lane.
pub(crate) fn render<'a>(table: &mut Table<'a>, lane: Lane) -> Asked<'a> {
    let structure = table.structure;
    let mut asked = Asked::default();
    for (name, endpoint) in &structure.endpoints {
        let label = format!("hep/{name} {}", policy::direction(lane));
        let mut chain =
            EndpointChain { table, lane, label, asked: &mut asked, rules: Vec::new(), pass_is_clear: false };
        chain.before_policy();
        match endpoint {
            Endpoint::Denied => chain.deny("policy can not be enforced"),
            Endpoint::Policed(policies) => chain.policed(policies),
        }
        let rules = chain.rules;
        table.add_chain(names::endpoint(lane, name), Chain::new(rules));
    }
    asked
}

/// One endpoint's chain in the making.
struct EndpointChain<'a, 't> {
    table: &'t Table<'a>,
    lane: Lane,
    label: String,
    asked: &'t mut Asked<'a>,
    rules: Vec<Rule>,
    /// Whether the bit of Pass is known not to be set. At first it is not: the mark is anybody's.
    pass_is_clear: bool,
}

/// Whether a packet can come out of a tier undecided.
#[derive(PartialEq, Eq)]
enum After {
    Something,
    Nothing,
}

impl<'a> EndpointChain<'a, '_> {
    fn before_policy(&mut self) {
        let known = Expr::CtState(vec![CtState::Established, CtState::Related]);
        self.push("known connections", vec![known, Expr::accept()]);
        if !self.table.structure.settings.allow_invalid {
            let deny = self.table.deny(self.lane);
            self.push("invalid", vec![Expr::CtState(vec![CtState::Invalid]), Expr::Counter, deny]);
        }
        self.push("failsafes", vec![Expr::jump(failsafe::chain(self.lane))]);
    }

    fn policed(&mut self, policies: &'a EndpointPolicies) {
        for tier in &policies.normal {
            if self.tier(tier) == After::Nothing {
                return;
            }
        }
        for profile in &policies.profiles {
            match profile {
                ProfileRef::Present(name) => {
                    self.asked.profiles.insert(name);
                    self.push(&format!("profile {name}"), vec![Expr::jump(names::profile(self.lane, name))]);
                }
                ProfileRef::Missing(name) => return self.deny(&format!("no profile {name}")),
            }
        }
        self.deny("nothing allowed it");
    }

    fn tier(&mut self, tier: &'a EndpointTier) -> After {
        let policies = if self.lane == Lane::In { &tier.ingress } else { &tier.egress };
        if policies.is_empty() {
            return After::Something;
        }
        let (structure, lane) = (self.table.structure, self.lane);
        let passes = |name: &String| policy::passes(structure, lane, name);
        let tier_passes = policies.iter().any(passes);
        if tier_passes && !self.pass_is_clear {
            self.clear_pass(&format!("before tier {}", tier.name));
        }
        let mut may_have_passed = false;
        for name in policies {
            self.asked.policies.insert(name);
            let mut exprs = self.unless_passed(may_have_passed);
            exprs.push(Expr::jump(names::policy(lane, name)));
            self.push(&format!("{}/{name}", tier.name), exprs);
            may_have_passed |= passes(name);
        }
        if tier.end == EndOfTier::Deny {
            let mut exprs = self.unless_passed(tier_passes);
            exprs.extend([Expr::Counter, self.table.deny(lane)]);
            self.push(&format!("end of tier {}", tier.name), exprs);
            if !tier_passes {
                return After::Nothing;
            }
        }
        if tier_passes {
            self.clear_pass(&format!("after tier {}", tier.name));
        }
        After::Something
    }

    fn unless_passed(&self, may_have_passed: bool) -> Vec<Expr> {
        let clear = Expr::Mark { is: Is::In, mask: self.table.options.marks.pass, value: 0 };
        if may_have_passed { vec![clear] } else { Vec::new() }
    }

    fn clear_pass(&mut self, what: &str) {
        let bit = self.table.options.marks.pass;
        self.push(what, vec![Expr::SetMark { keep: !bit, set: 0 }]);
        self.pass_is_clear = true;
    }

    fn deny(&mut self, what: &str) {
        let deny = self.table.deny(self.lane);
        self.push(what, vec![Expr::Counter, deny]);
    }

    fn push(&mut self, what: &str, exprs: Vec<Expr>) {
        self.rules.push(Rule::new(&format!("{}: {what}", self.label), exprs));
    }
}
