//! Goldens: every case of `testdata/` renders to its `golden.nft`, followed by what the node tells the operator.
//!
//! `UPDATE_GOLDENS=1 cargo test -p appliance-dataplane golden` writes them anew; read the difference before it is
//! committed.

use std::fs;
use std::path::Path;

use appliance_resources::EndpointState;

use super::golden_case::{cases, desired, options, testdata};
use super::*;
use crate::nft::script::{self, Comments};

fn printed(case: &Path) -> String {
    let desired = desired(case);
    let mut text = script::ruleset(&render(&desired, &options(case)), Comments::Labels);
    text.push('\n');
    for endpoint in &desired.report.endpoints {
        let state = match endpoint.state {
            EndpointState::Up => "up",
            EndpointState::Down => "down",
            EndpointState::Error => "error",
        };
        text.push_str(&format!("# {} {}: {state}", endpoint.kind, endpoint.name));
        for (word, list) in [
            ("on", &endpoint.interfaces),
            ("ingress", &endpoint.ingress_policies),
            ("egress", &endpoint.egress_policies),
            ("profiles", &endpoint.profiles),
        ] {
            if !list.is_empty() {
                text.push_str(&format!("; {word} {}", list.join(" ")));
            }
        }
        if !endpoint.reason.is_empty() {
            text.push_str(&format!(" ({})", endpoint.reason));
        }
        text.push('\n');
    }
    for refusal in &desired.report.refusals {
        text.push_str(&format!("# refused: {} {}: {}\n", refusal.kind, refusal.name, refusal.reason));
    }
    for notice in &desired.notices {
        text.push_str(&format!("# WARN {notice}\n"));
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs the test says whether to rewrite the goldens")]
fn every_case_renders_to_its_golden() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let text = printed(&case);
        let golden = case.join("golden.nft");
        if update {
            fs::write(&golden, &text).expect("write the golden");
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            wrong.push(format!("{} is now:\n{text}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Chains and sets a rule names exist, and nothing is there that nobody names.
#[test]
fn every_table_is_complete_and_holds_nothing_idle() {
    for case in cases() {
        let ruleset = render(&desired(&case), &options(&case));
        let rules = || ruleset.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs);
        let mut sets: BTreeSet<&str> = rules().filter_map(Expr::set).collect();
        let verdicts = rules().filter_map(|expr| match expr {
            Expr::Verdict(verdict) => Some(verdict),
            _ => None,
        });
        let from_maps = ruleset.maps.values().flat_map(|map| map.elements.values());
        let mut chains: BTreeSet<&str> =
            verdicts.chain(from_maps).filter_map(|verdict| verdict.target()).collect();
        chains.extend(["input", "output", "postrouting"]);
        let there: BTreeSet<&str> = ruleset.chains.keys().map(String::as_str).collect();
        assert_eq!(chains, there, "{}", case.display());
        // The cluster's addresses appear family by family; a rule may need one of them only.
        sets.extend(ruleset.sets.keys().map(String::as_str).filter(|name| name.starts_with(['s', 'p'])));
        let there: BTreeSet<&str> = ruleset.sets.keys().map(String::as_str).collect();
        assert_eq!(sets, there, "{}", case.display());
    }
}

/// The kernel publishes an interval set's content a moment after the rules of the same transaction, so a rule may only
/// use those that were filled before: named ones.
#[test]
fn rules_hold_no_anonymous_interval_set() {
    for case in cases() {
        let ruleset = render(&desired(&case), &options(&case));
        for expr in ruleset.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs) {
            let atomic = match expr {
                Expr::Address { nets, .. } => nets.len() == 1,
                Expr::Port { ports, .. } => {
                    let single = ports.iter().all(|range| range.min == range.max);
                    let apart = ports.windows(2).all(|pair| pair[0].max + 1 < pair[1].min);
                    ports.len() == 1 || (single && apart)
                }
                _ => true,
            };
            assert!(atomic, "{}: {expr:?}", case.display());
        }
    }
}

/// Following a change of members only needs no rendering, and comes to the same.
#[test]
fn refreshing_is_rendering_when_only_members_changed() {
    let case = testdata().join("policy-by-label");
    let desired = desired(&case);
    let mut refreshed = render(&desired, &options(&case));
    let mut changed = desired.clone();
    for set in changed.sets.values_mut() {
        set.v4.insert(crate::nft::Element::address("192.0.2.200".parse().expect("an address")));
    }
    assert_ne!(render(&changed, &options(&case)), refreshed);
    refresh(&mut refreshed, &changed);
    assert_eq!(render(&changed, &options(&case)), refreshed);
}
