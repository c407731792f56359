//! Policy chains: the rules of one policy or profile, one chain per lane, shared by every endpoint that has it.
//!
//! A rule may become several (one per family, one per alternative of its ports) or none (it can match nothing). Every
//! one of them counts. A chain that ends without a verdict returns: the next policy is asked. Only chains that some
//! endpoint asks are rendered.

use appliance_resources::Action;

use crate::calc::desired::{Owner, PolicyRule, Rules, Structure};
use crate::nft::{Chain, Expr, LogLevel, LogPrefix, Rule};
use crate::render::endpoint::Asked;
use crate::render::rule::matches;
use crate::render::{Lane, Table, names};

/// Adds the chains of the policies and profiles that are asked in one lane.
pub(crate) fn render(table: &mut Table<'_>, lane: Lane, asked: &Asked<'_>) {
    let structure = table.structure;
    for name in &asked.policies {
        if let Some(rules) = structure.policies.get(*name) {
            let chain = chain(table, lane, rules, Level::Tier);
            table.add_chain(names::policy(lane, name), chain);
        }
    }
    for name in &asked.profiles {
        if let Some(rules) = structure.profiles.get(*name) {
            let chain = chain(table, lane, rules, Level::Profile);
            table.add_chain(names::profile(lane, name), chain);
        }
    }
}

/// Whether a policy can pass a packet on to the next tier.
pub(crate) fn passes(structure: &Structure, lane: Lane, name: &str) -> bool {
    let rules = structure.policies.get(name).map(|rules| of_lane(rules, lane));
    rules.unwrap_or_default().iter().any(|rule| rule.action == Action::Pass)
}

/// The direction as the operator knows it.
pub(crate) fn direction(lane: Lane) -> &'static str {
    match lane {
        Lane::In => "ingress",
        Lane::Out | Lane::OutDnat => "egress",
    }
}

/// What Pass leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The tier.
    Tier,
    /// This profile only.
    Profile,
}

fn of_lane(rules: &Rules, lane: Lane) -> &[PolicyRule] {
    if lane == Lane::In { &rules.ingress } else { &rules.egress }
}

fn chain(table: &mut Table<'_>, lane: Lane, rules: &Rules, level: Level) -> Chain {
    let mut rendered = Vec::new();
    for (index, rule) in of_lane(rules, lane).iter().enumerate() {
        // Direction and number first: a long name may be cut, they may not.
        let label = format!("{} {index} {}/{}", direction(lane), rules.owner.kind, rules.owner.name);
        let actions = actions(table, lane, &rules.owner, rule.action, level);
        for mut exprs in matches(table, rule) {
            exprs.extend(actions.iter().cloned());
            rendered.push(Rule::new(&label, exprs));
        }
    }
    Chain::new(rendered)
}

fn actions(table: &Table<'_>, lane: Lane, owner: &Owner, action: Action, level: Level) -> Vec<Expr> {
    let settings = &table.structure.settings;
    let mut exprs = vec![Expr::Counter];
    match action {
        Action::Allow => exprs.push(Expr::accept()),
        Action::Deny => exprs.push(table.deny(lane)),
        Action::Pass => {
            if level == Level::Tier {
                exprs.push(Expr::SetMark { keep: u32::MAX, set: table.options.marks.pass });
            }
            exprs.push(Expr::ret());
        }
        Action::Log => {
            let limit = settings.log_rate.map(|limit| Expr::Limit {
                rate: limit.rate,
                per: limit.per,
                burst: limit.burst,
            });
            exprs.extend(limit);
            exprs.push(Expr::Log { prefix: log_prefix(&settings.log_prefix, owner), level: LogLevel::Info });
        }
    }
    exprs
}

/// The configured prefix with Calico's placeholders filled in. What follows a `%` and is none of them stays.
fn log_prefix(configured: &str, owner: &Owner) -> LogPrefix {
    let mut text = String::new();
    let mut characters = configured.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => text.push_str(&owner.tier),
            Some('k') => text.push_str(owner.kind),
            // No namespaces here, so the full name is the name.
            Some('n' | 'p') => text.push_str(&owner.name),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    LogPrefix::new(&format!("{text}: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_prefix_names_the_policy() {
        let owner = Owner { kind: "gnp", tier: "default".to_owned(), name: "web".to_owned() };
        assert_eq!(log_prefix("fw-%t-%k-%n", &owner).as_str(), "fw-default-gnp-web: ");
        assert_eq!(log_prefix("%p 100%% %x %", &owner).as_str(), "web 100%% %x %: ");
    }
}
