//! Rule scanner: from a policy's rules as written to rules ready for rendering, and the IP sets they need.
//!
//! This is where texts end: ranges become prefixes, selectors become IP sets named by what they hold. What can not be
//! enforced is an error for the whole policy, never a rule left out: a policy short of a rule is another policy.
//!
//! Namespaces and service accounts are labels by the time we see them (`projectcalico.org/namespace`, `pcns.…`,
//! `pcsa.…`), so their selectors are rewritten and joined to the plain one, on the syntax tree (policy-semantics 2.5).

use std::collections::BTreeMap;

use appliance_resources::{
    EntityRule, Icmp, Port, Protocol, ProtocolName, Rule, Selector, labels,
    selector::{Expr, hashed_id},
};
use ipnet::IpNet;

use crate::calc::cover::outermost;
use crate::calc::desired::{EntityMatch, IcmpMatch, PolicyRule, SetId};
use crate::nft::{Family, PortRange};

/// What an IP set holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SetSpec {
    /// The addresses of everything the selector picks.
    Addresses(Selector),
    /// The named ports of every endpoint the selector picks.
    NamedPorts {
        /// Which endpoints.
        selector: Selector,
        /// The name.
        port: String,
        /// Only ports of this protocol; any of them otherwise.
        protocol: Option<u8>,
    },
}

impl SetSpec {
    /// Which items contribute.
    pub(crate) fn selector(&self) -> &Selector {
        match self {
            SetSpec::Addresses(selector) | SetSpec::NamedPorts { selector, .. } => selector,
        }
    }

    fn id(&self) -> SetId {
        let text = match self {
            SetSpec::Addresses(selector) => selector.unique_id(),
            SetSpec::NamedPorts { selector, port, protocol } => {
                let protocol = protocol.map_or_else(|| "any".to_owned(), |number| number.to_string());
                hashed_id("n", &format!("{},{protocol},{port}", selector.unique_id()))
            }
        };
        SetId(text.into())
    }
}

/// Why a rule can not be enforced. The caller says which rule of what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("application-layer matches (http) need a proxy, and there is none")]
    Http,
    #[error("service matches need Kubernetes services, and there are none")]
    Services,
    #[error("{text:?} is not a range of addresses")]
    Net { text: String },
    #[error("{0}")]
    Selector(#[from] appliance_resources::SelectorError),
    #[error("an ICMP code was given without a type")]
    CodeWithoutType,
    #[error("ports were given for a protocol that has none")]
    PortsWithoutProtocol,
    #[error("ipVersion {0} does not exist")]
    IpVersion(u8),
}

/// Prepares the rules of one direction and collects the IP sets they need.
pub(crate) fn scan(
    rules: &[Rule],
    sets: &mut BTreeMap<SetId, SetSpec>,
) -> Result<Vec<PolicyRule>, (usize, ScanError)> {
    rules
        .iter()
        .enumerate()
        .map(|(index, rule)| scan_rule(rule, sets).map_err(|error| (index, error)))
        .collect()
}

fn scan_rule(rule: &Rule, sets: &mut BTreeMap<SetId, SetSpec>) -> Result<PolicyRule, ScanError> {
    if rule.http.is_some() {
        return Err(ScanError::Http);
    }
    let has_numbers =
        |entity: &EntityRule| entity.ports.iter().chain(&entity.not_ports).any(|port| !port.is_named());
    let portable = rule.protocol.is_some_and(|protocol| protocol.supports_ports());
    if !portable && (has_numbers(&rule.source) || has_numbers(&rule.destination)) {
        return Err(ScanError::PortsWithoutProtocol);
    }
    Ok(PolicyRule {
        action: rule.action,
        family: family(rule)?,
        protocol: rule.protocol.map(|protocol| protocol.number()),
        not_protocol: rule.not_protocol.map(|protocol| protocol.number()),
        icmp: icmp(rule.icmp)?,
        not_icmp: icmp(rule.not_icmp)?,
        source: scan_entity(&rule.source, rule.protocol, sets)?,
        destination: scan_entity(&rule.destination, rule.protocol, sets)?,
    })
}

/// The one family the rule names outright: by `ipVersion`, or by an ICMP protocol given by name. Lists of addresses
/// restrict it further; that is seen when it is rendered.
fn family(rule: &Rule) -> Result<Option<Family>, ScanError> {
    match (rule.ip_version, rule.protocol) {
        (Some(4), _) => Ok(Some(Family::V4)),
        (Some(6), _) => Ok(Some(Family::V6)),
        (Some(other), _) => Err(ScanError::IpVersion(other)),
        (None, Some(Protocol::Name(ProtocolName::Icmp))) => Ok(Some(Family::V4)),
        (None, Some(Protocol::Name(ProtocolName::IcmpV6))) => Ok(Some(Family::V6)),
        (None, _) => Ok(None),
    }
}

fn icmp(icmp: Option<Icmp>) -> Result<Option<IcmpMatch>, ScanError> {
    match icmp {
        None | Some(Icmp { r#type: None, code: None }) => Ok(None),
        Some(Icmp { r#type: Some(kind), code }) => Ok(Some(IcmpMatch { kind, code })),
        Some(Icmp { r#type: None, code: Some(_) }) => Err(ScanError::CodeWithoutType),
    }
}

fn scan_entity(
    entity: &EntityRule,
    protocol: Option<Protocol>,
    sets: &mut BTreeMap<SetId, SetSpec>,
) -> Result<EntityMatch, ScanError> {
    if entity.services.is_some() {
        return Err(ScanError::Services);
    }
    let mut need = |spec: SetSpec| {
        let id = spec.id();
        sets.insert(id.clone(), spec);
        id
    };
    let positive = positive_selector(entity)?;
    let negative = selector(&entity.not_selector)?;
    let (set, not_set) = match (positive.clone(), negative) {
        (Some(positive), Some(negative)) => (Some(positive.and(negative.negated())), None),
        (positive, negative) => (positive, negative),
    };
    let owners = positive.unwrap_or_else(Selector::all);
    let mut named = |ports: &[Port]| -> Vec<SetId> {
        let names = ports.iter().filter_map(|port| match port {
            Port::Named(name) => Some(name.clone()),
            Port::Range { .. } => None,
        });
        let protocol = protocol.map(|protocol| protocol.number());
        let spec = |port| SetSpec::NamedPorts { selector: owners.clone(), port, protocol };
        names.map(|name| need(spec(name))).collect()
    };
    let (named_ports, not_named_ports) = (named(&entity.ports), named(&entity.not_ports));
    Ok(EntityMatch {
        nets: nets(&entity.nets)?,
        not_nets: nets(&entity.not_nets)?,
        set: set.map(|selector| need(SetSpec::Addresses(selector))),
        not_set: not_set.map(|selector| need(SetSpec::Addresses(selector))),
        ports: ranges(&entity.ports),
        named_ports,
        not_ports: ranges(&entity.not_ports),
        not_named_ports,
    })
}

/// Everything an entity says positively about who is meant: selector, namespaces and service accounts.
fn positive_selector(entity: &EntityRule) -> Result<Option<Selector>, ScanError> {
    let mut parts: Vec<Selector> = selector(&entity.selector)?.into_iter().collect();
    if let Some(namespaces) = selector(&entity.namespace_selector)? {
        parts.push(namespace_selector(&namespaces));
    }
    if let Some(accounts) = &entity.service_accounts {
        if !accounts.names.is_empty() {
            let names: Vec<String> = accounts.names.iter().map(|name| format!("'{name}'")).collect();
            parts.push(format!("{} in {{{}}}", labels::SERVICE_ACCOUNT, names.join(", ")).parse()?);
        }
        if let Some(selector) = selector(&accounts.selector)? {
            parts.push(selector.with_label_prefix(labels::SERVICE_ACCOUNT_PREFIX));
        }
    }
    Ok(parts.into_iter().reduce(Selector::and))
}

/// A rule's namespaceSelector as a selector over what we index.
fn namespace_selector(namespaces: &Selector) -> Selector {
    match namespaces.expr() {
        Expr::Global => Selector::has(labels::NAMESPACE).negated(),
        _ => namespaces.with_label_prefix(labels::NAMESPACE_PREFIX).with_all_as(labels::NAMESPACE),
    }
}

/// The selector by which a GlobalNetworkPolicy picks its endpoints. One that asks for namespaces picks only what is in
/// one, one that asks for service accounts reads `all()` as "all that have one": no host endpoint has either.
pub(crate) fn policy_selector(main: &str, namespaces: &str, accounts: &str) -> Result<Selector, ScanError> {
    let mut parts: Vec<Selector> =
        selector(main)?.into_iter().filter(|main| *main.expr() != Expr::All).collect();
    let rewrite = |parts: &mut Vec<Selector>, label| {
        parts.iter_mut().for_each(|part| *part = part.with_all_as(label));
    };
    if let Some(namespaces) = selector(namespaces)? {
        parts.push(namespaces.with_label_prefix(labels::NAMESPACE_PREFIX));
        rewrite(&mut parts, labels::NAMESPACE);
        let in_one = Selector::has(labels::NAMESPACE);
        if parts.last() != Some(&in_one) {
            parts.push(in_one);
        }
    }
    if let Some(accounts) = selector(accounts)? {
        parts.push(accounts.with_label_prefix(labels::SERVICE_ACCOUNT_PREFIX));
        rewrite(&mut parts, labels::SERVICE_ACCOUNT);
    }
    Ok(parts.into_iter().reduce(Selector::and).unwrap_or_else(Selector::all))
}

/// A field that holds a selector; blank is none.
fn selector(text: &str) -> Result<Option<Selector>, ScanError> {
    if text.trim().is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) }
}

fn nets(texts: &[String]) -> Result<Vec<IpNet>, ScanError> {
    let parse = |text: &String| {
        appliance_resources::Cidr::parse_lenient(text)
            .map(|cidr| cidr.0.trunc())
            .map_err(|_| ScanError::Net { text: text.clone() })
    };
    Ok(outermost(&texts.iter().map(parse).collect::<Result<Vec<IpNet>, ScanError>>()?))
}

/// The numeric ports of a list, sorted, with overlapping and neighbouring ones joined: no two left are one range, so
/// the single ports among them make a set without intervals.
fn ranges(ports: &[Port]) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = ports
        .iter()
        .filter_map(|port| match port {
            Port::Range { min, max } => Some(PortRange { min: *min, max: *max }),
            Port::Named(_) => None,
        })
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.min <= last.max.saturating_add(1) => last.max = last.max.max(range.max),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_policy(main: &str, namespaces: &str, accounts: &str, expected: &str) {
        assert_eq!(policy_selector(main, namespaces, accounts).unwrap().canonical(), expected);
    }

    #[test]
    fn policy_selectors_are_converted_on_the_tree() {
        check_policy("", "", "", "all()");
        check_policy("a == 'all()'", "", "", r#"a == "all()""#);
        check_policy("", "all()", "", "has(projectcalico.org/namespace)");
        check_policy(
            "a == 'all()'",
            "env == 'prod' || !has(x)",
            "",
            r#"((a == "all()" && (pcns.env == "prod" || !has(pcns.x))) && has(projectcalico.org/namespace))"#,
        );
        check_policy("all()", "", "team == 'a'", r#"pcsa.team == "a""#);
        check_policy("", "", "all()", "has(projectcalico.org/serviceaccount)");
    }

    #[test]
    fn entities_become_sets_shared_by_meaning() {
        let mut sets = BTreeMap::new();
        let entity = EntityRule {
            selector: "role=='web'".to_owned(),
            not_selector: "role == \"bad\"".to_owned(),
            namespace_selector: "global()".to_owned(),
            ports: vec![Port::Named("http".to_owned()), Port::single(80), Port::Range { min: 70, max: 90 }],
            ..EntityRule::default()
        };
        let matched = scan_entity(&entity, Some(Protocol::TCP), &mut sets).unwrap();
        assert_eq!(matched.ports, [PortRange { min: 70, max: 90 }]);
        assert_eq!(matched.named_ports.len(), 1);
        let texts: Vec<String> = sets.values().map(|spec| spec.selector().canonical()).collect();
        let positive = r#"role == "web" && !has(projectcalico.org/namespace)"#;
        assert!(texts.contains(&format!("({positive})")), "named ports leave notSelector out: {texts:?}");
        assert_eq!(sets[&matched.set.unwrap()].selector().restrictions().len(), 2);
        assert_eq!(matched.not_set, None, "merged into the positive set");
    }

    #[test]
    fn what_can_not_be_enforced_is_an_error() {
        let mut rule = Rule::new(appliance_resources::Action::Allow);
        rule.destination.ports = vec![Port::single(80)];
        assert_eq!(scan(&[rule.clone()], &mut BTreeMap::new()), Err((0, ScanError::PortsWithoutProtocol)));
        rule.protocol = Some(Protocol::TCP);
        assert!(scan(&[rule.clone()], &mut BTreeMap::new()).is_ok());
        rule.http = Some(serde_json::json!({}));
        assert_eq!(scan(&[rule], &mut BTreeMap::new()), Err((0, ScanError::Http)));
    }
}
