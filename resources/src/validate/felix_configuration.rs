//! FelixConfiguration: the settings we act on must parse, because a node has no better moment to complain than this.

use regex_lite::Regex;
use serde_json::Value;

use super::{Checker, is_net};
use crate::{
    field_error::Cause,
    kinds::felix_configuration::{
        DEFAULT_NAME, FelixConfiguration, FelixConfigurationSpec, NODE_PREFIX, ProtoPort,
    },
    port::Port,
};

/// Upstream's limit on ranges of node ports.
const NODE_PORT_RANGES_MAX: usize = 7;
/// A word that marks workload interfaces is no longer than an interface's name.
const PREFIX_BYTES_MAX: usize = 15;

pub(super) fn check(checker: &mut Checker, configuration: &FelixConfiguration) {
    let (name, spec) = (&configuration.metadata.name, &configuration.spec);
    if let Some(selector) = &spec.node_selector {
        checker.selector("spec.nodeSelector", selector);
        if name == DEFAULT_NAME || name.starts_with(NODE_PREFIX) {
            let reason = format!(
                "{name:?} says by its name where it applies; a nodeSelector belongs on other objects"
            );
            checker.forbidden("spec.nodeSelector", reason);
        }
    }
    check_failsafes(checker, "spec.failsafeInboundHostPorts", spec.failsafe_inbound_host_ports.as_deref());
    check_failsafes(checker, "spec.failsafeOutboundHostPorts", spec.failsafe_outbound_host_ports.as_deref());
    check_texts(checker, spec);
    if let Some(Value::Array(ranges)) = spec.other.get("kubeNodePortRanges") {
        check_node_ports(checker, ranges);
    }
}

fn check_failsafes(checker: &mut Checker, path: &str, ports: Option<&[ProtoPort]>) {
    for (index, port) in ports.unwrap_or_default().iter().enumerate() {
        if let Some(net) = &port.net {
            checker.optional_text(&format!("{path}[{index}].net"), net, is_net);
        }
    }
}

/// Settings that are texts with a syntax. An empty one says nothing.
fn check_texts(checker: &mut Checker, spec: &FelixConfigurationSpec) {
    let mut check = |name: &str, text: &Option<String>, rule: &dyn Fn(&str) -> Result<(), String>| {
        checker.optional_text(&format!("spec.{name}"), text.as_deref().unwrap_or_default(), rule);
    };
    check("interfacePrefix", &spec.interface_prefix, &prefixes);
    check("interfaceExclude", &spec.interface_exclude, &exclusions);
    check(
        "defaultEndpointToHostAction",
        &spec.default_endpoint_to_host_action,
        &one_of(&["Drop", "Return", "Accept"]),
    );
    check("logActionRateLimit", &spec.log_action_rate_limit, &rate);
    check("nftablesFilterDenyAction", &spec.nftables_filter_deny_action, &one_of(&["Drop", "Reject"]));
    check("nftablesFilterAllowAction", &spec.nftables_filter_allow_action, &one_of(&["Accept", "Return"]));
    check("nftablesMangleAllowAction", &spec.nftables_mangle_allow_action, &one_of(&["Accept", "Return"]));
    check("nftablesRefreshInterval", &spec.nftables_refresh_interval, &duration);
}

/// One of a few words, in any case, as Calico takes them.
fn one_of(words: &'static [&'static str]) -> impl Fn(&str) -> Result<(), String> {
    move |text| match words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        true => Ok(()),
        false => Err(format!("must be one of {}", words.join(", "))),
    }
}

fn prefixes(text: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let prefix = |word: &str| (1..=PREFIX_BYTES_MAX).contains(&word.len()) && word.bytes().all(legal);
    if !text.split(',').all(prefix) {
        return Err(format!(
            "must be prefixes of interface names, each 1 to {PREFIX_BYTES_MAX} letters, digits, '_' or \
                            '-', separated by commas"
        ));
    }
    Ok(())
}

fn exclusions(text: &str) -> Result<(), String> {
    for word in text.split(',') {
        match word.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(pattern) => {
                Regex::new(pattern)
                    .map_err(|error| format!("{word} is not a regular expression: {error}"))?;
            }
            None => super::name::interface(word).map_err(|reason| format!("{word:?} {reason}"))?,
        }
    }
    Ok(())
}

/// `N/second`, `N/minute`, `N/hour` or `N/day`.
fn rate(text: &str) -> Result<(), String> {
    let whole = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|n| n > 0)
    };
    match text.split_once('/') {
        Some((count, "second" | "minute" | "hour" | "day")) if whole(count) => Ok(()),
        _ => Err("must be N/second, N/minute, N/hour or N/day".to_owned()),
    }
}

/// A Go duration of hours, minutes, seconds and milliseconds: `1m30s`, `1.5h`; `0` is none.
fn duration(text: &str) -> Result<(), String> {
    let mut rest = text;
    while !rest.is_empty() && text != "0" {
        let number = rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        let value = &rest[..rest.len() - number.len()];
        let unit = ["ms", "s", "m", "h"].into_iter().find_map(|unit| number.strip_prefix(unit));
        match (value.parse::<f64>(), unit) {
            (Ok(_), Some(after)) => rest = after,
            _ => return Err("must be a duration such as 90s, 1m30s or 500ms".to_owned()),
        }
    }
    Ok(())
}

fn check_node_ports(checker: &mut Checker, ranges: &[Value]) {
    const PATH: &str = "spec.kubeNodePortRanges";
    checker.at_most(PATH, ranges.len(), NODE_PORT_RANGES_MAX);
    for (index, range) in ranges.iter().enumerate() {
        if Port::from_value(range).is_ok_and(|port| port.is_named()) {
            let reason = "node ports are numbers or ranges, not names";
            checker.complain(&format!("{PATH}[{index}]"), Some(range.clone()), Cause::Invalid, reason);
        }
    }
}
