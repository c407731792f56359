//! Policies and profiles: their rules, and the flags that only make sense together.

use super::{Checker, metadata::check_labels, name, rule};
use crate::{
    field_error::{Cause, quoted_list},
    kinds::{
        global_network_policy::{ASSUME_NEEDED_ON_EVERY_NODE, GlobalNetworkPolicySpec, PolicyType},
        profile::ProfileSpec,
    },
    rule::Rule,
};

/// A direction has no more rules.
const RULES_MAX: usize = 1_024;

pub(super) fn check(checker: &mut Checker, spec: &GlobalNetworkPolicySpec) {
    checker.optional_text("spec.tier", &spec.tier, name::dns_label);
    check_rules(checker, "spec.ingress", &spec.ingress);
    check_rules(checker, "spec.egress", &spec.egress);
    checker.selector_without_global("spec.selector", &spec.selector);
    checker.duplicates("spec.types", spec.types.iter().map(|direction| direction.as_str()));
    check_stages(checker, spec);
    refuse_unenforced(checker, spec);
    checker.selector_without_global("spec.serviceAccountSelector", &spec.service_account_selector);
    checker.selector_without_global("spec.namespaceSelector", &spec.namespace_selector);
    check_hints(checker, &spec.performance_hints);
}

pub(super) fn check_profile(checker: &mut Checker, spec: &ProfileSpec) {
    check_rules(checker, "spec.ingress", &spec.ingress);
    check_rules(checker, "spec.egress", &spec.egress);
    check_labels(checker, "spec.labelsToApply", &spec.labels_to_apply);
}

fn check_rules(checker: &mut Checker, path: &str, rules: &[Rule]) {
    checker.at_most(path, rules.len(), RULES_MAX);
    for (index, rule) in rules.iter().enumerate() {
        rule::check(checker, &format!("{path}[{index}]"), rule);
    }
}

/// A policy is asked at one stage of a packet's way: untracked, before translation, or normal.
fn check_stages(checker: &mut Checker, spec: &GlobalNetworkPolicySpec) {
    if spec.pre_dnat && spec.do_not_track {
        checker.forbidden("spec.preDNAT", "preDNAT and doNotTrack cannot both be true");
    }
    if spec.pre_dnat && !spec.egress.is_empty() {
        checker.forbidden("spec.egress", "a preDNAT policy cannot have egress rules");
    }
    if spec.pre_dnat && spec.types.contains(&PolicyType::Egress) {
        checker.forbidden("spec.types", "a preDNAT policy cannot have Egress in its types");
    }
    for (flag, path, word) in
        [(spec.do_not_track, "spec.doNotTrack", "doNotTrack"), (spec.pre_dnat, "spec.preDNAT", "preDNAT")]
    {
        if flag && !spec.apply_on_forward {
            checker.invalid(path, true, format!("{word} needs applyOnForward to be true as well"));
        }
    }
}

/// What the enforcer can not compile is refused, because a policy that is stored and not in force is a hole nobody sees.
/// This function goes when the enforcer learns both stages. `applyOnForward` alone is let through: such a policy is a
/// normal policy too.
fn refuse_unenforced(checker: &mut Checker, spec: &GlobalNetworkPolicySpec) {
    if spec.do_not_track {
        checker.forbidden("spec.doNotTrack", "untracked policy is not enforced by this version");
    }
    if spec.pre_dnat {
        checker.forbidden("spec.preDNAT", "pre-DNAT policy is not enforced by this version");
    }
}

fn check_hints(checker: &mut Checker, hints: &[String]) {
    checker.duplicates("spec.performanceHints", hints.iter().map(String::as_str));
    for (index, hint) in hints.iter().enumerate().filter(|(_, hint)| *hint != ASSUME_NEEDED_ON_EVERY_NODE) {
        let reason = format!("supported values: {}", quoted_list([ASSUME_NEEDED_ON_EVERY_NODE]));
        let at = format!("spec.performanceHints[{index}]");
        checker.complain(&at, Some(hint.as_str().into()), Cause::NotSupported, reason);
    }
}
