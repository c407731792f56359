//! The two tables of `endpoint show`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::Endpoint;
use crate::output::bordered::Bordered;

/// One row for each host and orchestrator: how many workloads, how many endpoints.
pub(super) fn per_host(endpoints: &[Endpoint]) -> Bordered {
    let mut groups: BTreeMap<(&str, &str), (BTreeSet<&str>, usize)> = BTreeMap::new();
    for endpoint in endpoints {
        let group = groups.entry((&endpoint.host, &endpoint.orchestrator)).or_default();
        group.0.insert(&endpoint.workload);
        group.1 += 1;
    }
    let row = |((host, orchestrator), (workloads, count)): ((&str, &str), (BTreeSet<&str>, usize))| {
        vec![host.to_string(), orchestrator.to_string(), workloads.len().to_string(), count.to_string()]
    };
    Bordered {
        headings: headings(&["Hostname", "Orchestrator ID", "Number of Workloads", "Number of Endpoints"]),
        rows: groups.into_iter().map(row).collect(),
    }
}

/// One row for each endpoint; they come sorted.
pub(super) fn detailed(endpoints: &[Endpoint]) -> Bordered {
    let row = |endpoint: &Endpoint| {
        vec![
            endpoint.host.clone(),
            endpoint.orchestrator.clone(),
            endpoint.workload.clone(),
            endpoint.id.clone(),
            endpoint.addresses.join("\n"),
            endpoint.mac.clone().unwrap_or_else(|| "None".to_string()),
            endpoint.profiles.join(","),
            endpoint.state.clone(),
        ]
    };
    Bordered {
        headings: headings(&[
            "Hostname",
            "Orchestrator ID",
            "Workload ID",
            "Endpoint ID",
            "Addresses",
            "MAC",
            "Profiles",
            "State",
        ]),
        rows: endpoints.iter().map(row).collect(),
    }
}

fn headings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}
