//! IpSets: the members of every IP set that active rules need, kept up to date contribution by contribution.
//!
//! Contributors are all HostEndpoints (by `expectedIPs`), WorkloadEndpoints (by `ipNetworks`) and GlobalNetworkSets (by
//! `nets`) of the cluster, wherever they are. A set's content is counted per contributor, so an address two objects
//! bring stays until both have gone, and handed out as a persistent snapshot: an endpoint that comes, goes or changes
//! its labels costs the members it brings, times log n, however large the sets are. A network set that changes costs
//! the nets that changed, after one comparison of the two lists.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use appliance_resources::{AnyResource, Cidr, Labels, Protocol, ResourceKey, labels};
use ipnet::IpNet;

use crate::calc::cover::{Cover, members_of};
use crate::calc::desired::{IpSet, SetId, SetShape, Width};
use crate::calc::label_index::{Change, LabelIndex};
use crate::calc::rule_scanner::SetSpec;
use crate::nft::{Element, Elements};

/// The IP sets in use.
///
/// * `contributors` and the index hold the same items.
/// * A set counts item `i` exactly while the index says that its selector matches `i`.
#[derive(Clone, Debug, Default)]
pub(crate) struct IpSets {
    index: LabelIndex<SetId, Arc<ResourceKey>>,
    contributors: BTreeMap<Arc<ResourceKey>, Arc<AnyResource>>,
    sets: BTreeMap<SetId, ActiveSet>,
}

#[derive(Clone, Debug)]
struct ActiveSet {
    spec: SetSpec,
    members: Members,
}

#[derive(Clone, Debug)]
enum Members {
    Addresses { v4: Cover, v6: Cover },
    NamedPorts { counts: BTreeMap<Element, u32>, v4: Elements, v6: Elements },
}

impl IpSets {
    /// Takes in a resource as it is now, or its absence. Kinds that contribute nothing are ignored.
    pub(crate) fn on_resource(&mut self, key: &ResourceKey, resource: Option<Arc<AnyResource>>) {
        let key = Arc::new(key.clone());
        let before = self.contributors.get(&key).cloned();
        let changes = match &resource {
            Some(new) if contributes(new) => {
                self.contributors.insert(Arc::clone(&key), Arc::clone(new));
                self.index.set_item(Arc::clone(&key), labels_of(new), profiles_of(new).to_vec())
            }
            _ => {
                self.contributors.remove(&key);
                self.index.remove_item(&key)
            }
        };
        let touched: BTreeSet<SetId> = changes.iter().map(|change| change.selector.clone()).collect();
        for Change { selector, matches, .. } in changes {
            let Some(set) = self.sets.get_mut(&selector) else { continue };
            match (matches, &before, &resource) {
                (true, _, Some(new)) => set.contribute(new),
                (false, Some(old), _) => set.withdraw(old),
                _ => {}
            }
        }
        if let (Some(old), Some(new)) = (&before, &resource) {
            let kept = self.index.matched_by(&key).filter(|set| !touched.contains(*set));
            for id in kept {
                if let Some(set) = self.sets.get_mut(id) {
                    set.exchange(old, new);
                }
            }
        }
    }

    /// Takes in the labels a profile hands down; none when it does not exist.
    pub(crate) fn on_profile_labels(&mut self, name: &str, labels: Labels) {
        let changes = self.index.set_parent(name, labels);
        self.apply(changes);
    }

    /// Makes the sets in use exactly these.
    pub(crate) fn set_active(&mut self, wanted: &BTreeMap<SetId, SetSpec>) {
        let idle: Vec<SetId> = self.sets.keys().filter(|id| !wanted.contains_key(*id)).cloned().collect();
        for id in idle {
            self.index.remove_selector(&id);
            self.sets.remove(&id);
        }
        for (id, spec) in wanted {
            if self.sets.contains_key(id) {
                continue;
            }
            self.sets.insert(id.clone(), ActiveSet::new(spec.clone()));
            let changes = self.index.set_selector(id.clone(), spec.selector().clone());
            self.apply(changes);
        }
    }

    /// The kernel sets each IP set takes now.
    pub(crate) fn shapes(&self) -> BTreeMap<SetId, SetShape> {
        self.sets.iter().map(|(id, set)| (id.clone(), set.shape())).collect()
    }

    /// Every IP set as it is now; cheap, for the members are shared.
    pub(crate) fn snapshot(&self) -> BTreeMap<SetId, IpSet> {
        self.sets.iter().map(|(id, set)| (id.clone(), set.snapshot())).collect()
    }

    fn apply(&mut self, changes: Vec<Change<SetId, Arc<ResourceKey>>>) {
        for Change { selector, item, matches } in changes {
            let (Some(set), Some(resource)) = (self.sets.get_mut(&selector), self.contributors.get(&item))
            else {
                continue;
            };
            if matches { set.contribute(resource) } else { set.withdraw(resource) }
        }
    }
}

impl ActiveSet {
    fn new(spec: SetSpec) -> ActiveSet {
        let members = match spec {
            SetSpec::Addresses(_) => Members::Addresses { v4: Cover::default(), v6: Cover::default() },
            SetSpec::NamedPorts { .. } => {
                Members::NamedPorts { counts: BTreeMap::new(), v4: Elements::new(), v6: Elements::new() }
            }
        };
        ActiveSet { spec, members }
    }

    fn contribute(&mut self, resource: &AnyResource) {
        match &mut self.members {
            Members::Addresses { v4, v6 } => {
                nets(addresses_of(resource)).for_each(|net| by_family(v4, v6, &net).add(net));
            }
            Members::NamedPorts { counts, v4, v6 } => {
                for element in named_ports(&self.spec, resource) {
                    let count = counts.entry(element).or_insert(0);
                    *count += 1;
                    if *count == 1 {
                        elements_of(v4, v6, &element).insert(element);
                    }
                }
            }
        }
    }

    fn withdraw(&mut self, resource: &AnyResource) {
        match &mut self.members {
            Members::Addresses { v4, v6 } => {
                nets(addresses_of(resource)).for_each(|net| by_family(v4, v6, &net).remove(net));
            }
            Members::NamedPorts { counts, v4, v6 } => {
                for element in named_ports(&self.spec, resource) {
                    let Some(count) = counts.get_mut(&element) else { continue };
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(&element);
                        elements_of(v4, v6, &element).remove(&element);
                    }
                }
            }
        }
    }

    /// Replaces what a contributor that matches as before brings.
    fn exchange(&mut self, old: &AnyResource, new: &AnyResource) {
        match &mut self.members {
            Members::Addresses { v4, v6 } => {
                let (gone, come) = differing(addresses_of(old), addresses_of(new));
                nets(come).for_each(|net| by_family(v4, v6, &net).add(net));
                nets(gone).for_each(|net| by_family(v4, v6, &net).remove(net));
            }
            Members::NamedPorts { .. } => {
                if addresses_of(old) != addresses_of(new) || ports_of(old) != ports_of(new) {
                    self.contribute(new);
                    self.withdraw(old);
                }
            }
        }
    }

    fn shape(&self) -> SetShape {
        let width = |cover: &Cover| if cover.only_addresses() { Width::Single } else { Width::Prefixes };
        match &self.members {
            Members::Addresses { v4, v6 } => SetShape::Addresses { v4: width(v4), v6: width(v6) },
            Members::NamedPorts { .. } => SetShape::NamedPorts,
        }
    }

    fn snapshot(&self) -> IpSet {
        let (v4, v6) = match &self.members {
            Members::Addresses { v4, v6 } => (v4.elements().clone(), v6.elements().clone()),
            Members::NamedPorts { v4, v6, .. } => (v4.clone(), v6.clone()),
        };
        IpSet { shape: self.shape(), v4, v6 }
    }
}

fn contributes(resource: &AnyResource) -> bool {
    matches!(
        resource,
        AnyResource::HostEndpoint(_) | AnyResource::WorkloadEndpoint(_) | AnyResource::GlobalNetworkSet(_)
    )
}

fn addresses_of(resource: &AnyResource) -> &[String] {
    match resource {
        AnyResource::HostEndpoint(endpoint) => &endpoint.spec.expected_ips,
        AnyResource::WorkloadEndpoint(endpoint) => &endpoint.spec.ip_networks,
        AnyResource::GlobalNetworkSet(set) => &set.spec.nets,
        _ => &[],
    }
}

/// Named ports: name, protocol, number.
fn ports_of(resource: &AnyResource) -> Vec<(&str, Protocol, u16)> {
    match resource {
        AnyResource::HostEndpoint(endpoint) => {
            endpoint.spec.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port)).collect()
        }
        AnyResource::WorkloadEndpoint(endpoint) => {
            endpoint.spec.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port)).collect()
        }
        _ => Vec::new(),
    }
}

fn profiles_of(resource: &AnyResource) -> &[String] {
    match resource {
        AnyResource::HostEndpoint(endpoint) => &endpoint.spec.profiles,
        AnyResource::WorkloadEndpoint(endpoint) => &endpoint.spec.profiles,
        _ => &[],
    }
}

/// The labels selectors see. A workload's own labels can not pretend to be its namespace's or its account's.
fn labels_of(resource: &AnyResource) -> Labels {
    let mut labels = resource.meta().labels.clone();
    if let AnyResource::WorkloadEndpoint(endpoint) = resource {
        labels.retain(|name, _| {
            !name.starts_with(labels::NAMESPACE_PREFIX) && !name.starts_with(labels::SERVICE_ACCOUNT_PREFIX)
        });
        let implied = [
            (labels::NAMESPACE, endpoint.metadata.namespace.as_deref().unwrap_or_default()),
            (labels::ORCHESTRATOR, &endpoint.spec.orchestrator),
            (labels::SERVICE_ACCOUNT, &endpoint.spec.service_account_name),
        ];
        let given = implied.into_iter().filter(|(_, value)| !value.is_empty());
        labels.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    labels
}

/// The members that texts stand for. A text that does not parse was refused by validation and brings nothing.
fn nets(texts: &[String]) -> impl Iterator<Item = IpNet> {
    texts.iter().filter_map(|text| Cidr::parse_lenient(text).ok()).flat_map(|cidr| members_of(cidr.0))
}

/// Each address with each port of the wanted name and protocol, each element once.
fn named_ports(spec: &SetSpec, resource: &AnyResource) -> BTreeSet<Element> {
    let SetSpec::NamedPorts { port: wanted, protocol: only, .. } = spec else { return BTreeSet::new() };
    let ports: Vec<(u8, u16)> = ports_of(resource)
        .into_iter()
        .map(|(name, protocol, port)| (name, protocol.number(), port))
        .filter(|(name, protocol, _)| name == wanted && only.is_none_or(|only| only == *protocol))
        .map(|(_, protocol, port)| (protocol, port))
        .collect();
    let addresses = addresses_of(resource).iter().filter_map(|text| Cidr::parse_lenient(text).ok());
    addresses
        .flat_map(|cidr| {
            let address = cidr.address();
            ports.iter().map(move |(protocol, port)| Element::AddressPort {
                address,
                protocol: *protocol,
                port: *port,
            })
        })
        .collect()
}

/// The parts of two lists that differ, cut at both ends: what is only in one of them is in its part. Lists come sorted
/// and change in a few places, so this saves parsing the rest.
fn differing<'a>(old: &'a [String], new: &'a [String]) -> (&'a [String], &'a [String]) {
    let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    (&old[..old.len() - tail], &new[..new.len() - tail])
}

fn by_family<'a>(v4: &'a mut Cover, v6: &'a mut Cover, net: &IpNet) -> &'a mut Cover {
    match net {
        IpNet::V4(_) => v4,
        IpNet::V6(_) => v6,
    }
}

fn elements_of<'a>(v4: &'a mut Elements, v6: &'a mut Elements, element: &Element) -> &'a mut Elements {
    match element {
        Element::AddressPort { address: IpAddr::V6(_), .. } => v6,
        _ => v4,
    }
}

#[cfg(test)]
mod tests {
    use appliance_resources::{EndpointPort, GlobalNetworkSet, HostEndpoint, WorkloadEndpoint};

    use super::*;

    fn selector(id: &str, selector: &str) -> (SetId, SetSpec) {
        (SetId(id.into()), SetSpec::Addresses(selector.parse().unwrap()))
    }

    fn put(sets: &mut IpSets, resource: impl Into<AnyResource>) {
        let resource = resource.into();
        sets.on_resource(&resource.key(), Some(Arc::new(resource)));
    }

    fn members(sets: &IpSets, id: &str) -> Vec<String> {
        let set = &sets.snapshot()[&SetId(id.into())];
        set.v4.iter().chain(set.v6.iter()).map(Element::to_string).collect()
    }

    #[test]
    fn a_workload_is_found_by_its_namespace_and_not_by_labels_it_made_up() {
        let mut sets = IpSets::default();
        let wanted =
            [selector("ns", "projectcalico.org/namespace == 'prod'"), selector("fake", "has(pcns.env)")];
        sets.set_active(&BTreeMap::from(wanted));
        let mut workload = WorkloadEndpoint::default();
        workload.metadata.name = "w".to_owned();
        workload.metadata.namespace = Some("prod".to_owned());
        workload.metadata.labels = Labels::from([("pcns.env".to_owned(), "prod".to_owned())]);
        workload.spec.ip_networks = vec!["10.65.0.2/32".to_owned()];
        put(&mut sets, workload);
        assert_eq!(members(&sets, "ns"), ["10.65.0.2"]);
        assert_eq!(members(&sets, "fake"), [""; 0]);
    }

    #[test]
    fn a_network_set_that_changes_exchanges_what_differs() {
        let mut sets = IpSets::default();
        sets.set_active(&BTreeMap::from([selector("all", "all()")]));
        let mut set = GlobalNetworkSet::default();
        set.metadata.name = "n".to_owned();
        for (nets, expected) in [
            (
                vec!["10.0.0.0/24", "10.0.1.7/24", "fd00::/64"],
                vec!["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"],
            ),
            (
                vec!["10.0.0.0/24", "10.0.2.0/24", "fd00::/64"],
                vec!["10.0.0.0/24", "10.0.2.0/24", "fd00::/64"],
            ),
            (
                vec!["10.0.2.0/24", "10.0.0.0/24", "fd00::/64"],
                vec!["10.0.0.0/24", "10.0.2.0/24", "fd00::/64"],
            ),
            (vec!["10.0.2.0/24", "10.0.2.9"], vec!["10.0.2.0/24"]),
            (vec![], vec![]),
        ] {
            set.spec.nets = nets.into_iter().map(str::to_owned).collect();
            put(&mut sets, set.clone());
            assert_eq!(members(&sets, "all"), expected);
        }
    }

    #[test]
    fn named_ports_are_counted_like_addresses() {
        let mut sets = IpSets::default();
        let spec = SetSpec::NamedPorts {
            selector: "all()".parse().unwrap(),
            port: "web".to_owned(),
            protocol: Some(6),
        };
        sets.set_active(&BTreeMap::from([(SetId("web".into()), spec)]));
        let mut endpoint = HostEndpoint::default();
        endpoint.spec.expected_ips = vec!["192.0.2.1".to_owned()];
        let port = |protocol, port| EndpointPort { name: "web".to_owned(), protocol, port };
        endpoint.spec.ports =
            vec![port(Protocol::TCP, 80), port(Protocol::TCP, 8080), port(Protocol::UDP, 53)];
        for name in ["a", "b"] {
            endpoint.metadata.name = name.to_owned();
            put(&mut sets, endpoint.clone());
        }
        assert_eq!(members(&sets, "web"), ["192.0.2.1 . 6 . 80", "192.0.2.1 . 6 . 8080"]);
        endpoint.spec.ports.remove(0);
        put(&mut sets, endpoint.clone());
        assert_eq!(members(&sets, "web").len(), 2, "the other endpoint still has it");
        sets.on_resource(&ResourceKey::global(appliance_resources::Kind::HostEndpoint, "a"), None);
        assert_eq!(members(&sets, "web"), ["192.0.2.1 . 6 . 8080"]);
    }
}
