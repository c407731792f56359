//! Local endpoints: which HostEndpoint of this node governs which interface, and in what state each one is.
//!
//! Calico's rules (policy-semantics 4.1): an endpoint with an interface name matches that interface and nothing else;
//! one without matches every interface that has one of its addresses; among all that match an interface the smallest
//! name wins, the others are inactive there. `*` endpoints compete among themselves for all other interfaces.
//! Workload interfaces and excluded ones are never matched by name or address.
//!
//! One step further than Calico: an interface that an endpoint names is governed before it exists, so that nothing
//! passes in the moment it appears. The endpoint's reported state is still `error` until then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use appliance_resources::{EndpointState, HostEndpoint, kinds::host_endpoint::ANY_INTERFACE};

use crate::calc::desired::Settings;
use crate::calc::settings::InterfaceExclude;
use crate::interfaces::Interfaces;

/// Who governs what, and how everyone is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resolution {
    /// The governing endpoint by interface.
    pub(crate) interfaces: BTreeMap<String, String>,
    /// The endpoint for all other interfaces.
    pub(crate) any_interface: Option<String>,
    /// Every endpoint of this node.
    pub(crate) states: BTreeMap<String, LocalState>,
}

/// How one endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LocalState {
    /// The existing interfaces it governs; `*` for the endpoint of all others.
    pub(crate) interfaces: Vec<String>,
    pub(crate) state: EndpointState,
    /// Why it is not up.
    pub(crate) reason: String,
}

impl Resolution {
    /// The endpoints that govern something.
    pub(crate) fn governing(&self) -> BTreeSet<&str> {
        self.interfaces.values().chain(&self.any_interface).map(String::as_str).collect()
    }
}

/// Resolves the endpoints of this node.
pub(crate) fn resolve(
    endpoints: &BTreeMap<&str, &HostEndpoint>,
    interfaces: &Interfaces,
    settings: &Settings,
    exclude: &InterfaceExclude,
) -> Resolution {
    let candidates: BTreeMap<&str, Candidate<'_>> =
        endpoints.iter().map(|(name, endpoint)| (*name, Candidate::new(endpoint))).collect();
    let named = candidates.values().filter_map(|candidate| match candidate {
        Candidate::Named(interface) => Some(*interface),
        Candidate::Addressed(_) | Candidate::Any => None,
    });
    let matchable = |name: &&str| !exclude.contains(name) && workload_prefix(settings, name).is_none();
    let all: BTreeSet<&str> = interfaces.keys().map(String::as_str).chain(named).filter(matchable).collect();
    let mut resolution = Resolution::default();
    for interface in all {
        // Ordered by name, so the first match is the winner.
        let winner = candidates.iter().find(|(_, candidate)| candidate.matches(interface, interfaces));
        if let Some((name, _)) = winner {
            resolution.interfaces.insert(interface.to_owned(), (*name).to_owned());
        }
    }
    let any = candidates.iter().find(|(_, candidate)| matches!(candidate, Candidate::Any));
    resolution.any_interface = any.map(|(name, _)| (*name).to_owned());
    let states: BTreeMap<String, LocalState> = candidates
        .iter()
        .map(|(name, candidate)| {
            ((*name).to_owned(), state(name, candidate, &resolution, interfaces, settings, exclude))
        })
        .collect();
    resolution.states = states;
    resolution
}

/// What an endpoint asks for.
enum Candidate<'a> {
    Named(&'a str),
    Addressed(BTreeSet<IpAddr>),
    Any,
}

impl<'a> Candidate<'a> {
    fn new(endpoint: &'a HostEndpoint) -> Candidate<'a> {
        match endpoint.spec.interface_name.as_str() {
            ANY_INTERFACE => Candidate::Any,
            "" => Candidate::Addressed(
                endpoint.spec.expected_ips.iter().filter_map(|address| address.parse().ok()).collect(),
            ),
            name => Candidate::Named(name),
        }
    }

    fn matches(&self, interface: &str, interfaces: &Interfaces) -> bool {
        match self {
            Candidate::Named(name) => *name == interface,
            Candidate::Addressed(expected) => {
                interfaces.get(interface).is_some_and(|found| !found.addresses.is_disjoint(expected))
            }
            Candidate::Any => false,
        }
    }
}

fn state(
    name: &str,
    candidate: &Candidate<'_>,
    resolution: &Resolution,
    interfaces: &Interfaces,
    settings: &Settings,
    exclude: &InterfaceExclude,
) -> LocalState {
    let error = |reason: String| LocalState { interfaces: vec![], state: EndpointState::Error, reason };
    if let Candidate::Any = candidate {
        return match resolution.any_interface.as_deref() {
            Some(winner) if winner != name => error(format!("HostEndpoint {winner} governs all interfaces")),
            _ => LocalState {
                interfaces: vec![ANY_INTERFACE.to_owned()],
                state: EndpointState::Up,
                reason: String::new(),
            },
        };
    }
    let governed: Vec<String> = resolution
        .interfaces
        .iter()
        .filter(|(interface, winner)| *winner == name && interfaces.contains_key(*interface))
        .map(|(interface, _)| interface.clone())
        .collect();
    if governed.is_empty() {
        return error(why_nothing(candidate, resolution, interfaces, settings, exclude));
    }
    let down: Vec<&str> = governed.iter().filter(|name| !interfaces[*name].up).map(String::as_str).collect();
    if down.is_empty() {
        return LocalState { interfaces: governed, state: EndpointState::Up, reason: String::new() };
    }
    let reason = format!("down: {}", down.join(", "));
    LocalState { interfaces: governed, state: EndpointState::Down, reason }
}

fn why_nothing(
    candidate: &Candidate<'_>,
    resolution: &Resolution,
    interfaces: &Interfaces,
    settings: &Settings,
    exclude: &InterfaceExclude,
) -> String {
    match candidate {
        Candidate::Named(name) => {
            if let Some(prefix) = workload_prefix(settings, name) {
                return format!("{name} is a workload interface (its name begins with {prefix})");
            }
            if exclude.contains(name) {
                return format!("{name} is excluded by interfaceExclude");
            }
            match (interfaces.contains_key(*name), resolution.interfaces.get(*name)) {
                (true, Some(winner)) => format!("{name} is governed by HostEndpoint {winner}"),
                _ => format!("there is no interface {name}"),
            }
        }
        Candidate::Addressed(expected) => {
            let carriers: Vec<&str> = interfaces
                .iter()
                .filter(|(_, interface)| !interface.addresses.is_disjoint(expected))
                .map(|(name, _)| name.as_str())
                .collect();
            let winner = carriers.iter().find_map(|name| Some((name, resolution.interfaces.get(*name)?)));
            match (winner, carriers.is_empty()) {
                (Some((name, winner)), _) => format!("{name} is governed by HostEndpoint {winner}"),
                (None, false) => {
                    format!("excluded by interfaceExclude or a workload's: {}", carriers.join(", "))
                }
                (None, true) => {
                    let texts: Vec<String> = expected.iter().map(IpAddr::to_string).collect();
                    format!("no interface has {}", texts.join(" or "))
                }
            }
        }
        Candidate::Any => String::new(),
    }
}

/// The prefix that makes `interface` a workload's, if one does.
fn workload_prefix<'a>(settings: &'a Settings, interface: &str) -> Option<&'a str> {
    settings.workload_prefixes.iter().map(String::as_str).find(|prefix| interface.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::Interface;

    fn endpoint(interface: &str, expected: &[&str]) -> HostEndpoint {
        let mut endpoint = HostEndpoint::default();
        endpoint.spec.interface_name = interface.to_owned();
        endpoint.spec.expected_ips = expected.iter().map(|address| (*address).to_owned()).collect();
        endpoint
    }

    fn links(links: &[(&str, bool, &[&str])]) -> Interfaces {
        let interface = |up: bool, addresses: &[&str]| Interface {
            index: 1,
            up,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        links.iter().map(|(name, up, addresses)| ((*name).to_owned(), interface(*up, addresses))).collect()
    }

    /// Resolves and prints: who governs what, then each endpoint's state.
    #[track_caller]
    fn check(endpoints: &[(&str, HostEndpoint)], interfaces: &Interfaces, expected: &[&str]) {
        let by_name = endpoints.iter().map(|(name, endpoint)| (*name, endpoint)).collect();
        let (settings, exclude) =
            crate::calc::settings::effective(&BTreeMap::new(), "h1", &Default::default());
        let resolution = resolve(&by_name, interfaces, &settings, &exclude);
        let mut lines: Vec<String> =
            resolution.interfaces.iter().map(|(interface, name)| format!("{interface} <- {name}")).collect();
        lines.extend(resolution.any_interface.iter().map(|name| format!("* <- {name}")));
        lines.extend(resolution.states.iter().map(|(name, state)| {
            let word = match state.state {
                EndpointState::Up => "up",
                EndpointState::Down => "down",
                EndpointState::Error => "error",
            };
            format!("{name} {word} [{}] {}", state.interfaces.join(" "), state.reason).trim_end().to_owned()
        }));
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_smallest_name_wins_whether_by_name_or_by_address() {
        let links = links(&[("eth0", true, &["172.17.0.2"])]);
        check(
            &[("aaa", endpoint("", &["172.17.0.2"])), ("bbb", endpoint("eth0", &[]))],
            &links,
            &["eth0 <- aaa", "aaa up [eth0]", "bbb error [] eth0 is governed by HostEndpoint aaa"],
        );
    }

    #[test]
    fn an_address_finds_every_interface_and_a_wrong_name_none() {
        let links = links(&[("eth0", true, &["10.0.0.1", "fd00::1"]), ("eth1", false, &["10.0.1.1"])]);
        check(
            &[
                ("x", endpoint("", &["fd00:0::1", "10.0.1.1"])),
                ("y", endpoint("eth9", &["10.0.0.1"])),
                ("z", endpoint("", &["10.9.9.9"])),
            ],
            &links,
            &[
                "eth0 <- x",
                "eth1 <- x",
                "eth9 <- y",
                "x down [eth0 eth1] down: eth1",
                "y error [] there is no interface eth9",
                "z error [] no interface has 10.9.9.9",
            ],
        );
    }

    #[test]
    fn one_wildcard_governs_the_rest_and_workload_interfaces_are_nobodys() {
        let links = links(&[
            ("cali1", true, &["10.65.0.1"]),
            ("kube-ipvs0", true, &["10.96.0.1"]),
            ("lo", true, &[]),
        ]);
        check(
            &[
                ("a", endpoint("*", &[])),
                ("b", endpoint("*", &[])),
                ("c", endpoint("cali1", &[])),
                ("d", endpoint("", &["10.96.0.1"])),
            ],
            &links,
            &[
                "* <- a",
                "a up [*]",
                "b error [] HostEndpoint a governs all interfaces",
                "c error [] cali1 is a workload interface (its name begins with cali)",
                "d error [] excluded by interfaceExclude or a workload's: kube-ipvs0",
            ],
        );
    }
}
