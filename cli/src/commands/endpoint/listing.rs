//! What an endpoint is to the old commands: host, orchestrator, workload and ID, made from today's objects.
//!
//! A HostEndpoint's orchestrator is `host`, its workload its node, its ID its name. States come from the NodeReports.
//! Everything but the three requests is pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;

use appliance_resources::Kind;
use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;
use crate::object;
use crate::target::{Target, collection_path};

/// Exact values; absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) host: Option<String>,
    pub(super) orchestrator: Option<String>,
    pub(super) workload: Option<String>,
    pub(super) endpoint: Option<String>,
}

/// One endpoint, as the old commands see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) target: Target,
    pub(super) host: String,
    pub(super) orchestrator: String,
    pub(super) workload: String,
    pub(super) id: String,
    pub(super) addresses: Vec<String>,
    pub(super) mac: Option<String>,
    pub(super) profiles: Vec<String>,
    pub(super) state: String,
}

/// State by kind, namespace and name, as the nodes reported it.
type States = BTreeMap<(String, String, String), String>;

/// Every endpoint that passes the filter, in table order.
pub(super) async fn list(client: &Client, filter: &Filter) -> Result<Vec<Endpoint>, ClientError> {
    let reports = client.get(&collection_path(Kind::NodeReport, None)).await?;
    let states = states(object::items(&reports));
    let hosts = client.get(&collection_path(Kind::HostEndpoint, None)).await?;
    let workloads = client.get(&collection_path(Kind::WorkloadEndpoint, None)).await?;
    let hosts = object::items(&hosts).iter().map(|object| host_endpoint(object, &states));
    let workloads = object::items(&workloads).iter().map(|object| workload_endpoint(object, &states));
    let mut endpoints: Vec<Endpoint> =
        hosts.chain(workloads).filter(|endpoint| filter.matches(endpoint)).collect();
    endpoints.sort_by(Endpoint::table_order);
    Ok(endpoints)
}

impl Filter {
    fn matches(&self, endpoint: &Endpoint) -> bool {
        let passes =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        passes(&self.host, &endpoint.host)
            && passes(&self.orchestrator, &endpoint.orchestrator)
            && passes(&self.workload, &endpoint.workload)
            && passes(&self.endpoint, &endpoint.id)
    }
}

impl Endpoint {
    /// From left to right through the columns that tell endpoints apart.
    fn table_order(&self, other: &Endpoint) -> Ordering {
        let columns = |endpoint: &Endpoint| {
            let Endpoint { host, orchestrator, workload, id, .. } = endpoint.clone();
            (host, orchestrator, workload, id)
        };
        columns(self).cmp(&columns(other))
    }
}

pub(super) fn host_endpoint(object: &Value, states: &States) -> Endpoint {
    let node = text(object, "/spec/node");
    let mut addresses: Vec<String> =
        strings(object, "/spec/expectedIPs").iter().map(|ip| as_network(ip)).collect();
    sort_addresses(&mut addresses);
    Endpoint {
        target: Target { kind: Kind::HostEndpoint, namespace: None, name: object::name(object).to_string() },
        workload: node.clone(),
        host: node,
        orchestrator: "host".to_string(),
        id: object::name(object).to_string(),
        addresses,
        mac: None,
        profiles: strings(object, "/spec/profiles"),
        state: state(Kind::HostEndpoint, object, states),
    }
}

pub(super) fn workload_endpoint(object: &Value, states: &States) -> Endpoint {
    let first_of = |pointers: &[&str]| {
        pointers.iter().map(|pointer| text(object, pointer)).find(|text| !text.is_empty()).unwrap_or_default()
    };
    let mut addresses: Vec<String> =
        strings(object, "/spec/ipNetworks").iter().map(|ip| as_network(ip)).collect();
    sort_addresses(&mut addresses);
    let namespace = text(object, "/metadata/namespace");
    Endpoint {
        target: Target {
            kind: Kind::WorkloadEndpoint,
            namespace: Some(namespace),
            name: object::name(object).to_string(),
        },
        host: text(object, "/spec/node"),
        orchestrator: text(object, "/spec/orchestrator"),
        workload: first_of(&["/spec/workload", "/spec/pod"]),
        id: first_of(&["/spec/endpoint", "/metadata/name"]),
        addresses,
        mac: Some(text(object, "/spec/mac")).filter(|mac| !mac.is_empty()),
        profiles: strings(object, "/spec/profiles"),
        state: state(Kind::WorkloadEndpoint, object, states),
    }
}

/// The states of all endpoints, out of every node's report.
pub(super) fn states(reports: &[Value]) -> States {
    let endpoints =
        reports.iter().filter_map(|report| report.pointer("/status/endpoints").and_then(Value::as_array));
    let entry = |endpoint: &Value| {
        let key = (text(endpoint, "/kind"), text(endpoint, "/namespace"), text(endpoint, "/name"));
        (key, text(endpoint, "/state"))
    };
    endpoints.flatten().map(entry).collect()
}

/// The word of the old command for what the node reported. Of an endpoint nobody reported, a host's is `unknown`; a
/// workload's is `active`, as the old command showed what its orchestrator had set up and not what a host enforced.
fn state(kind: Kind, object: &Value, states: &States) -> String {
    let key = (kind.name().to_string(), text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    let word = match states.get(&key).map(String::as_str) {
        Some("up") => "active",
        Some("down") => "inactive",
        Some("error") => "error",
        _ if kind == Kind::WorkloadEndpoint => "active",
        _ => "unknown",
    };
    word.to_string()
}

/// A bare address is a network of one.
fn as_network(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => format!("{address}/32"),
        Ok(IpAddr::V6(_)) => format!("{address}/128"),
        Err(_) => address.to_string(),
    }
}

/// IPv4 before IPv6, each by number; the old command left the order open.
fn sort_addresses(addresses: &mut [String]) {
    addresses.sort_by_key(|network| network.split('/').next().and_then(|ip| ip.parse::<IpAddr>().ok()));
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string()
}

fn strings(object: &Value, pointer: &str) -> Vec<String> {
    let items = object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_string).collect()
}
