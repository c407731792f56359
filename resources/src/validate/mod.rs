//! Validation: what a resource may hold once its shape is right.
//!
//! Callers: the API before it proposes, `ctl validate`, and every enforcer once more before it believes the store.
//! Everything wrong is collected, in the order of the document, each with path, value, reason and cause. One object at a
//! time: whether a tier exists or a name is taken is the API's business. Defaults have been filled in before.

mod cluster_information;
mod felix_configuration;
mod host_endpoint;
mod metadata;
pub mod name;
mod network_set;
mod node;
mod policy;
mod rule;
mod tier;
mod workload_endpoint;

use std::{collections::BTreeSet, net::IpAddr, str::FromStr};

use serde_json::Value;

use crate::{
    cidr::Cidr,
    field_error::{Cause, Complaint, FieldErrors},
    resource::AnyResource,
    selector::{Expr, Selector},
};

/// A selector in the API is no longer.
const SELECTOR_CHARACTERS_MAX: usize = 1_024;

/// Checks everything and collects every mistake.
pub fn validate(resource: &AnyResource) -> Result<(), FieldErrors> {
    let mut checker = Checker::default();
    metadata::check(&mut checker, resource);
    match resource {
        AnyResource::HostEndpoint(endpoint) => host_endpoint::check(&mut checker, &endpoint.spec),
        AnyResource::GlobalNetworkPolicy(policy) => policy::check(&mut checker, &policy.spec),
        AnyResource::Profile(profile) => policy::check_profile(&mut checker, &profile.spec),
        AnyResource::Tier(tier) => tier::check(&mut checker, tier),
        AnyResource::GlobalNetworkSet(set) => network_set::check(&mut checker, &set.spec.nets),
        AnyResource::Node(node) => node::check(&mut checker, &node.spec),
        AnyResource::FelixConfiguration(configuration) => {
            felix_configuration::check(&mut checker, configuration)
        }
        AnyResource::ClusterInformation(information) => cluster_information::check(&mut checker, information),
        AnyResource::WorkloadEndpoint(endpoint) => workload_endpoint::check(&mut checker, endpoint),
        // Written by nodes alone, in a shape that decoding has checked.
        AnyResource::NodeReport(_) => {}
    }
    checker.errors.into_result()
}

/// Collects mistakes; every check adds to it and none stops it.
#[derive(Default)]
struct Checker {
    errors: FieldErrors,
}

impl Checker {
    fn complain(&mut self, path: &str, value: Option<Value>, cause: Cause, reason: impl Into<String>) {
        self.errors.add(path, value, Complaint::new(cause, reason));
    }

    fn invalid(&mut self, path: &str, value: impl Into<Value>, reason: impl Into<String>) {
        self.complain(path, Some(value.into()), Cause::Invalid, reason);
    }

    fn required(&mut self, path: &str, reason: impl Into<String>) {
        self.complain(path, None, Cause::Required, reason);
    }

    fn forbidden(&mut self, path: &str, reason: impl Into<String>) {
        self.complain(path, None, Cause::Forbidden, reason);
    }

    /// Holds a text against a rule that gives its own reason.
    fn text(&mut self, path: &str, text: &str, rule: impl Fn(&str) -> Result<(), String>) {
        if let Err(reason) = rule(text) {
            self.invalid(path, text, reason);
        }
    }

    /// Holds a text against a rule unless it is empty, which is "not given".
    fn optional_text(&mut self, path: &str, text: &str, rule: impl Fn(&str) -> Result<(), String>) {
        if !text.is_empty() {
            self.text(path, text, rule);
        }
    }

    /// Holds each text of a list against a rule, and refuses one that is there twice.
    fn set(&mut self, path: &str, texts: &[String], rule: impl Fn(&str) -> Result<(), String>) {
        self.duplicates(path, texts.iter().map(String::as_str));
        for (index, text) in texts.iter().enumerate() {
            // A set may have a hundred thousand members; a path is made only for what needs one.
            if let Err(reason) = rule(text) {
                self.invalid(&format!("{path}[{index}]"), text.as_str(), reason);
            }
        }
    }

    /// Refuses what is in a list twice.
    fn duplicates<'a>(&mut self, path: &str, texts: impl Iterator<Item = &'a str> + Clone) {
        // Lists without duplicates are the rule and may be long; sorting tells that at a fraction of a set's cost.
        let mut sorted: Vec<&str> = texts.clone().collect();
        sorted.sort_unstable();
        if sorted.windows(2).all(|pair| pair[0] != pair[1]) {
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, text) in texts.enumerate() {
            if !seen.insert(text) {
                let at = format!("{path}[{index}]");
                self.complain(&at, Some(text.into()), Cause::Duplicate, "");
            }
        }
    }

    /// Refuses a list that is too long.
    fn at_most(&mut self, path: &str, count: usize, limit: usize) {
        if count > limit {
            self.complain(
                path,
                None,
                Cause::TooLong,
                format!("must have at most {limit} items, has {count}"),
            );
        }
    }

    /// Checks a selector's length and syntax; the tree when both are right.
    fn selector(&mut self, path: &str, text: &str) -> Option<Expr> {
        let length = text.chars().count();
        if length > SELECTOR_CHARACTERS_MAX {
            let reason = format!("must have at most {SELECTOR_CHARACTERS_MAX} characters, has {length}");
            self.complain(path, Some(text.into()), Cause::TooLong, reason);
            return None;
        }
        match Selector::from_str(text) {
            Ok(selector) => Some(selector.expr().clone()),
            Err(error) => {
                self.invalid(path, text, error.to_string());
                None
            }
        }
    }

    /// Checks a selector in which `global()` has no meaning. The test is on the text, as upstream's: it also refuses a
    /// value in quotes that looks like the function, and never lets the function through.
    fn selector_without_global(&mut self, path: &str, text: &str) {
        if self.selector(path, text).is_some() && text.contains("global(") {
            let reason =
                "global() can only be used in the namespaceSelector of a rule's source or destination";
            self.complain(path, Some(text.into()), Cause::Forbidden, reason);
        }
    }
}

/// A plain address.
fn is_address(text: &str) -> Result<(), String> {
    IpAddr::from_str(text)
        .map(|_| ())
        .map_err(|_| "must be an IPv4 or IPv6 address without prefix length".to_owned())
}

/// A range, or a plain address standing for itself.
fn is_net(text: &str) -> Result<(), String> {
    Cidr::parse_lenient(text).map(|_| ()).map_err(|_| "must be an IPv4 or IPv6 address or CIDR".to_owned())
}

/// A range of one, or a plain address.
fn is_host_net(text: &str) -> Result<(), String> {
    match Cidr::parse_lenient(text) {
        Ok(net) if net.is_host() => Ok(()),
        Ok(_) => Err("must be a single address: a prefix length of /32 or /128, or none".to_owned()),
        Err(_) => is_net(text),
    }
}

#[cfg(test)]
mod tests;
