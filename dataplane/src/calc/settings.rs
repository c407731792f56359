//! Settings: what the FelixConfigurations that apply to this node come to, in the types that rendering reads.
//!
//! Which object wins which field is `appliance_resources::effective`'s to say; where none says anything, Calico's own
//! default stands. A text that does not parse has been refused by validation; should one get here, the default stands.

use std::collections::BTreeMap;

use appliance_resources::kinds::felix_configuration::{
    FAILSAFE_INBOUND, FAILSAFE_OUTBOUND, FelixConfiguration, ProtoPort,
};
use appliance_resources::{Labels, effective};
use regex_lite::Regex;

use crate::calc::desired::{Failsafe, LogRate, Settings};
use crate::nft::Per;

/// Calico's default for `logActionRateLimitBurst`.
const LOG_BURST: u32 = 5;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            failsafe_inbound: failsafes(FAILSAFE_INBOUND),
            failsafe_outbound: failsafes(FAILSAFE_OUTBOUND),
            workload_prefixes: vec!["cali".to_owned()],
            allow_invalid: false,
            ipv6: true,
            log_prefix: "calico-packet".to_owned(),
            log_rate: None,
            reject: false,
        }
    }
}

/// The settings of the node called `node`, which carries `labels`.
pub(crate) fn effective(
    configurations: &BTreeMap<String, &FelixConfiguration>,
    node: &str,
    labels: &Labels,
) -> (Settings, InterfaceExclude) {
    let spec = effective::effective(node, labels, configurations.values().copied()).spec;
    let default = Settings::default();
    let burst = spec.log_action_rate_limit_burst.unwrap_or(LOG_BURST);
    let settings = Settings {
        failsafe_inbound: spec
            .failsafe_inbound_host_ports
            .as_deref()
            .map_or(default.failsafe_inbound, failsafes),
        failsafe_outbound: spec
            .failsafe_outbound_host_ports
            .as_deref()
            .map_or(default.failsafe_outbound, failsafes),
        workload_prefixes: spec.interface_prefix.as_deref().map_or(default.workload_prefixes, words),
        allow_invalid: spec.disable_conntrack_invalid_check.unwrap_or(default.allow_invalid),
        ipv6: spec.ipv6_support.unwrap_or(default.ipv6),
        log_prefix: spec.log_prefix.unwrap_or(default.log_prefix),
        log_rate: spec.log_action_rate_limit.and_then(|rate| log_rate(&rate, burst)),
        // Calico takes its actions in any case.
        reject: spec.nftables_filter_deny_action.is_some_and(|action| action.eq_ignore_ascii_case("Reject")),
    };
    (settings, InterfaceExclude::parse(spec.interface_exclude.as_deref().unwrap_or("kube-ipvs0")))
}

fn failsafes(ports: &[ProtoPort]) -> Vec<Failsafe> {
    let mut failsafes: Vec<Failsafe> = ports.iter().filter_map(Failsafe::from_config).collect();
    failsafes.sort_unstable();
    failsafes.dedup();
    failsafes
}

/// A comma-separated list.
fn words(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `N/second`, `N/minute`, `N/hour` or `N/day`. The kernel wants a burst of at least one packet.
fn log_rate(text: &str, burst: u32) -> Option<LogRate> {
    let (rate, unit) = text.split_once('/')?;
    let per = match unit {
        "second" => Per::Second,
        "minute" => Per::Minute,
        "hour" => Per::Hour,
        "day" => Per::Day,
        _ => return None,
    };
    let rate = rate.parse().ok().filter(|rate| *rate > 0)?;
    Some(LogRate { rate, per, burst: burst.max(1) })
}

/// Interfaces that host endpoints are never resolved to: exact names, and regular expressions between slashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterfaceExclude {
    names: Vec<String>,
    patterns: Vec<Regex>,
}

impl InterfaceExclude {
    fn parse(list: &str) -> InterfaceExclude {
        let mut exclude = InterfaceExclude::default();
        for word in words(list) {
            let pattern = word.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
            match pattern {
                Some(pattern) => exclude.patterns.extend(Regex::new(pattern)),
                None => exclude.names.push(word),
            }
        }
        exclude
    }

    /// Whether `interface` is excluded.
    pub(crate) fn contains(&self, interface: &str) -> bool {
        self.names.iter().any(|name| name == interface)
            || self.patterns.iter().any(|pattern| pattern.is_match(interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(name: &str, edit: impl FnOnce(&mut FelixConfiguration)) -> (String, FelixConfiguration) {
        let mut configuration = FelixConfiguration::default();
        configuration.metadata.name = name.to_owned();
        edit(&mut configuration);
        (name.to_owned(), configuration)
    }

    fn settle(objects: &[(String, FelixConfiguration)], labels: &[(&str, &str)]) -> Settings {
        let by_name = objects.iter().map(|(name, object)| (name.clone(), object)).collect();
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        effective(&by_name, "h1", &labels).0
    }

    #[test]
    fn the_most_specific_object_that_has_the_field_wins() {
        let objects = [
            configuration("default", |object| {
                object.spec.log_prefix = Some("everyone".to_owned());
                object.spec.ipv6_support = Some(false);
            }),
            configuration("younger", |object| {
                object.spec.node_selector = Some("rack == 'a'".to_owned());
                object.metadata.creation_timestamp = Some("2026-02-01T00:00:00Z".to_owned());
                object.spec.log_prefix = Some("younger".to_owned());
            }),
            configuration("older", |object| {
                object.spec.node_selector = Some("rack == 'a'".to_owned());
                object.metadata.creation_timestamp = Some("2026-01-01T00:00:00Z".to_owned());
                object.spec.log_prefix = Some("older".to_owned());
            }),
            configuration("node.h1", |object| object.spec.failsafe_inbound_host_ports = Some(vec![])),
            configuration("node.h2", |object| object.spec.log_prefix = Some("another host".to_owned())),
        ];
        let here = settle(&objects, &[("rack", "a")]);
        assert_eq!(here.log_prefix, "older");
        assert!(!here.ipv6);
        assert_eq!(here.failsafe_inbound, [], "an empty list is a list");
        assert_eq!(here.failsafe_outbound, Settings::default().failsafe_outbound);
        assert_eq!(settle(&objects, &[]).log_prefix, "everyone");
    }

    #[test]
    fn rates_and_exclusions_are_read_as_calico_writes_them() {
        assert_eq!(log_rate("10/minute", 0), Some(LogRate { rate: 10, per: Per::Minute, burst: 1 }));
        assert_eq!(log_rate("10/week", 5), None);
        assert_eq!(log_rate("0/second", 5), None);
        let exclude = InterfaceExclude::parse("kube-ipvs0, /^veth[0-9]+$/");
        let hits = ["kube-ipvs0", "veth12", "vethx", "eth0"].map(|name| exclude.contains(name));
        assert_eq!(hits, [true, true, false, false]);
    }
}
