//! Desired: what this node should enforce, as a plain, ordered value.
//!
//! It is in three parts that change at different paces. `structure` is everything that becomes chains and rules; it is
//! shared, and two flushes between which only set members changed return the very same one, so that nobody renders or
//! compares a rule for an address. `sets` are the members, each a persistent snapshot. `report` is what the operator
//! reads. No revision is in here: the reconciler knows which revision it had flushed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use appliance_resources::{Action, EndpointReport, ProtoPort, Refusal};
use ipnet::IpNet;

use crate::nft::{Elements, Family, Per, PortRange};

/// Everything this node should enforce and say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// What becomes chains and rules.
    pub structure: Arc<Structure>,
    /// The members of every IP set `structure` names.
    pub sets: BTreeMap<SetId, IpSet>,
    /// What the operator reads.
    pub report: Arc<DesiredReport>,
    /// Lines to log once at WARN. They stand only in the flush in which they arose.
    pub notices: Vec<String>,
}

/// The part of the answer that becomes chains and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Structure {
    /// What the FelixConfigurations that apply to this node come to.
    pub settings: Settings,
    /// The HostEndpoints that govern an interface, or would as soon as it appears, by name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Which endpoint governs which interface. An interface that an endpoint names is here before it exists, so that
    /// there is no open moment when it appears.
    pub interfaces: BTreeMap<String, String>,
    /// The endpoint that governs every other host interface.
    pub any_interface: Option<String>,
    /// The policies those endpoints need, by name.
    pub policies: BTreeMap<String, Arc<Rules>>,
    /// The profiles those endpoints need and that exist, by name.
    pub profiles: BTreeMap<String, Arc<Rules>>,
    /// The IP sets those rules need, and which kernel set each family takes.
    pub sets: BTreeMap<SetId, SetShape>,
}

/// Settings of the enforcer, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What stays open towards this host whatever policy says.
    pub failsafe_inbound: Vec<Failsafe>,
    /// What stays open from this host whatever policy says.
    pub failsafe_outbound: Vec<Failsafe>,
    /// Interfaces whose name begins like this belong to workloads; host endpoints never govern them.
    pub workload_prefixes: Vec<String>,
    /// Packets that connection tracking calls invalid are judged by policy instead of dropped.
    pub allow_invalid: bool,
    /// IPv6 is policed.
    pub ipv6: bool,
    /// The beginning of the line a Log rule writes, with `%t %k %n %p` still in it.
    pub log_prefix: String,
    /// How often Log rules may write.
    pub log_rate: Option<LogRate>,
    /// Denied packets are answered with an ICMP error instead of silence.
    pub reject: bool,
}

/// A port that no policy can close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failsafe {
    /// The transport protocol's number.
    pub protocol: u8,
    /// The destination port.
    pub port: u16,
    /// The other side, when it is not everyone.
    pub net: Option<IpNet>,
}

/// A limit on Log rules, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRate {
    /// Lines per `per`.
    pub rate: u32,
    /// The unit.
    pub per: Per,
    /// Lines above the rate.
    pub burst: u32,
}

/// What one HostEndpoint does with the packets of its interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Its policies and profiles decide.
    Policed(EndpointPolicies),
    /// A policy that selects it can not be rendered; everything is denied, failsafes aside.
    Denied,
}

/// The policies of one endpoint in the order they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointPolicies {
    /// For packets to and from processes of this host. Tiers without a policy for this endpoint are not listed.
    pub normal: Vec<EndpointTier>,
    /// For packets routed through this host (applyOnForward). Kept here for the stage that will render it; `render`
    /// does not read it.
    pub forward: Vec<EndpointTier>,
    /// Asked after the last tier.
    pub profiles: Vec<ProfileRef>,
}

/// One tier as one endpoint sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTier {
    /// Its name.
    pub name: String,
    /// What happens to a packet that none of its policies decided. It happens only in a direction that is governed.
    pub end: EndOfTier,
    /// The policies that govern packets arriving, in order.
    pub ingress: Vec<String>,
    /// The policies that govern packets leaving, in order.
    pub egress: Vec<String>,
}

/// The end of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfTier {
    /// Denied.
    Deny,
    /// The next tier is asked, after the last one the profiles.
    Pass,
}

/// A profile an endpoint lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileRef {
    /// It exists.
    Present(String),
    /// It does not, or it can not be rendered: everything that gets this far is denied.
    Missing(String),
}

/// The rules of one policy or profile, ready to be rendered for either family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who wrote them, for comments and log lines.
    pub owner: Owner,
    /// For packets arriving.
    pub ingress: Vec<PolicyRule>,
    /// For packets leaving.
    pub egress: Vec<PolicyRule>,
}

/// The policy or profile that rules belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Calico's short word: `gnp` or `pro`.
    pub kind: &'static str,
    /// Its tier; for a profile, `profile`.
    pub tier: String,
    /// Its name.
    pub name: String,
}

/// One rule with its texts parsed and its selectors resolved to IP sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// What happens to a packet that matches.
    pub action: Action,
    /// The only family it applies to, if `ipVersion` or an ICMP protocol given by name says so.
    pub family: Option<Family>,
    /// The protocol's number.
    pub protocol: Option<u8>,
    /// Any protocol but this.
    pub not_protocol: Option<u8>,
    /// An ICMP type, perhaps with its code.
    pub icmp: Option<IcmpMatch>,
    /// Any ICMP packet but these.
    pub not_icmp: Option<IcmpMatch>,
    /// Conditions on the source.
    pub source: EntityMatch,
    /// Conditions on the destination.
    pub destination: EntityMatch,
}

/// An ICMP type and perhaps a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpMatch {
    /// The type.
    pub kind: u8,
    /// The code; every code when absent.
    pub code: Option<u8>,
}

/// Conditions on one end of a packet. All hold together; empty lists are no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityMatch {
    /// The address is in one of these.
    pub nets: Vec<IpNet>,
    /// The address is in none of these.
    pub not_nets: Vec<IpNet>,
    /// The address is in this set.
    pub set: Option<SetId>,
    /// The address is not in this set.
    pub not_set: Option<SetId>,
    /// The port is one of these, or `named_ports` matches.
    pub ports: Vec<PortRange>,
    /// Address, protocol and port are in one of these sets, or `ports` matches.
    pub named_ports: Vec<SetId>,
    /// The port is none of these.
    pub not_ports: Vec<PortRange>,
    /// Address, protocol and port are in none of these sets.
    pub not_named_ports: Vec<SetId>,
}

/// Names an IP set by what it holds: equal selectors share one. `s:…` for addresses, `n:…` for named ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub Arc<str>);

impl fmt::Display for SetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The kernel sets that an IP set needs, one per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetShape {
    /// Addresses and prefixes.
    Addresses {
        /// The IPv4 members.
        v4: Width,
        /// The IPv6 members.
        v6: Width,
    },
    /// Address, protocol and port.
    NamedPorts,
}

/// Whether a family's members are all single addresses. It decides between a hash and an interval set, so a set that
/// gains its first prefix or loses its last one changes its shape, and with it its name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Single addresses only (or nothing).
    Single,
    /// At least one prefix.
    Prefixes,
}

/// One IP set: its shape and its members by family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpSet {
    /// The kernel sets it needs.
    pub shape: SetShape,
    /// The IPv4 members.
    pub v4: Elements,
    /// The IPv6 members.
    pub v6: Elements,
}

/// What the operator reads about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DesiredReport {
    /// Every endpoint of this node, sorted by kind, namespace and name.
    pub endpoints: Vec<EndpointReport>,
    /// What is in the store but not enforced as written, sorted by kind and name.
    pub refusals: Vec<Refusal>,
}

impl Failsafe {
    /// Reads a configured failsafe; `None` when its net does not parse, which validation has refused.
    pub(crate) fn from_config(port: &ProtoPort) -> Option<Failsafe> {
        let net = match &port.net {
            Some(text) => Some(appliance_resources::Cidr::parse_lenient(text).ok()?.0.trunc()),
            None => None,
        };
        Some(Failsafe { protocol: port.protocol.number(), port: port.port, net })
    }
}
