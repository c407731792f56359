//! Which columns the table of each kind has, and what their cells say: calicoctl's, plus NodeReport's. Pure.
//!
//! Cells are read from the JSON object the node sent, so an object from a newer node still shows. Widths are
//! `table.rs`; nothing here fails, an absent field is an empty cell.

use appliance_resources::Kind;
use serde_json::Value;

use super::number::go_float;

/// A cell of network sets is cut to this many characters, as calicoctl does.
const NETS_CHARACTERS_MAX: usize = 80;

/// Where a column appears unless it is asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Always,
    Wide,
    /// Only by `custom-columns`, or NAMESPACE by `-n` and `-A`.
    Asked,
}

/// One column of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    shown: Shown,
    pub(crate) cell: fn(&Value) -> String,
}

const fn always(heading: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { heading, shown: Shown::Always, cell }
}

const fn wide(heading: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { heading, shown: Shown::Wide, cell }
}

const fn asked(heading: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { heading, shown: Shown::Asked, cell }
}

/// All columns of a kind, in the order of the wide table.
fn all(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::HostEndpoint => vec![
            always("NAME", name),
            always("NODE", |o| text(o, "/spec/node")),
            wide("INTERFACE", |o| text(o, "/spec/interfaceName")),
            wide("IPS", |o| joined(o, "/spec/expectedIPs")),
            wide("PROFILES", |o| joined(o, "/spec/profiles")),
        ],
        Kind::GlobalNetworkPolicy => vec![
            always("NAME", name),
            always("TIER", |o| text(o, "/spec/tier")),
            wide("ORDER", order),
            wide("SELECTOR", |o| text(o, "/spec/selector")),
        ],
        Kind::Tier => vec![always("NAME", name), always("ORDER", order)],
        Kind::GlobalNetworkSet => {
            vec![always("NAME", name), wide("NETS", |o| truncated(joined(o, "/spec/nets")))]
        }
        Kind::Profile => vec![always("NAME", name), wide("LABELS", |o| pairs(o, "/spec/labelsToApply"))],
        Kind::Node => vec![
            always("NAME", name),
            wide("ASN", asn),
            wide("IPV4", |o| text(o, "/spec/bgp/ipv4Address")),
            wide("IPV6", |o| text(o, "/spec/bgp/ipv6Address")),
        ],
        Kind::WorkloadEndpoint => workload_endpoint(),
        Kind::ClusterInformation => vec![
            always("NAME", name),
            always("CLUSTERGUID", |o| text(o, "/spec/clusterGUID")),
            always("CLUSTERTYPE", |o| text(o, "/spec/clusterType")),
            always("CALICOVERSION", |o| text(o, "/spec/calicoVersion")),
            always("DATASTOREREADY", |o| text(o, "/spec/datastoreReady")),
        ],
        Kind::NodeReport => vec![
            always("NAME", name),
            always("STATE", |o| text(o, "/status/state")),
            always("REVISION", |o| text(o, "/status/revision")),
            wide("ENDPOINTS", |o| counted(o, "/status/endpoints")),
            wide("REFUSALS", |o| counted(o, "/status/refusals")),
            wide("REPAIRS", |o| text(o, "/status/drift/repairs")),
            wide("MESSAGE", |o| text(o, "/status/message")),
        ],
        _ => vec![always("NAME", name)],
    }
}

fn workload_endpoint() -> Vec<Column> {
    vec![
        wide("NAME", name),
        always("WORKLOAD", workload),
        always("NODE", |o| text(o, "/spec/node")),
        always("NETWORKS", |o| joined(o, "/spec/ipNetworks")),
        always("INTERFACE", |o| text(o, "/spec/interfaceName")),
        wide("PROFILES", |o| joined(o, "/spec/profiles")),
        wide("NATS", nats),
        asked("ORCHESTRATOR", |o| text(o, "/spec/orchestrator")),
    ]
}

/// The columns of the default or the wide table; NAMESPACE goes first when a namespace was asked about.
pub(crate) fn of(kind: Kind, wide: bool, namespace: bool) -> Vec<Column> {
    let shown = |column: &Column| match column.shown {
        Shown::Always => true,
        Shown::Wide => wide,
        Shown::Asked => false,
    };
    let first = (namespace && kind.namespaced()).then(namespace_column);
    first.into_iter().chain(all(kind).into_iter().filter(shown)).collect()
}

/// The columns named by `custom-columns`, or the sentence that says which heading is unknown.
pub(crate) fn named(kind: Kind, headings: &[String]) -> Result<Vec<Column>, String> {
    let mut known = all(kind);
    known.extend(kind.namespaced().then(namespace_column));
    let find = |heading: &String| {
        let found = known.iter().find(|column| column.heading == heading).copied();
        found.ok_or_else(|| {
            let mut valid: Vec<&str> = known.iter().map(|column| column.heading).collect();
            valid.sort_unstable();
            format!("unknown heading {heading}, valid values are: {}", valid.join(", "))
        })
    };
    headings.iter().map(find).collect()
}

fn namespace_column() -> Column {
    asked("NAMESPACE", |o| text(o, "/metadata/namespace"))
}

fn name(object: &Value) -> String {
    text(object, "/metadata/name")
}

/// A scalar as its bare text.
fn text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn joined(object: &Value, pointer: &str) -> String {
    let items = object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn truncated(cell: String) -> String {
    if cell.chars().count() <= NETS_CHARACTERS_MAX {
        return cell;
    }
    let kept: String = cell.chars().take(NETS_CHARACTERS_MAX - 3).collect();
    kept + "..."
}

fn counted(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len).to_string()
}

fn pairs(object: &Value, pointer: &str) -> String {
    let Some(labels) = object.pointer(pointer).and_then(Value::as_object) else { return String::new() };
    let mut pairs: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.sort();
    pairs.join(",")
}

fn order(object: &Value) -> String {
    match object.pointer("/spec/order") {
        Some(Value::Number(number)) => go_float(number),
        _ => "<nil>".to_string(),
    }
}

/// A node's own number, else the global default in parentheses.
fn asn(object: &Value) -> String {
    match text(object, "/spec/bgp/asNumber") {
        number if number.is_empty() => "(64512)".to_string(),
        number => number,
    }
}

fn workload(object: &Value) -> String {
    match text(object, "/spec/workload") {
        workload if workload.is_empty() => text(object, "/spec/pod"),
        workload => workload,
    }
}

fn nats(object: &Value) -> String {
    let nats =
        object.pointer("/spec/ipNATs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let pair = |nat: &Value| format!("{}->{}", text(nat, "/externalIP"), text(nat, "/internalIP"));
    nats.iter().map(pair).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(kind: Kind, is_wide: bool, object: &Value) -> Vec<(&'static str, String)> {
        of(kind, is_wide, false).iter().map(|column| (column.heading, (column.cell)(object))).collect()
    }

    #[test]
    fn a_wide_host_endpoint_joins_its_lists() {
        let object = json!({"metadata": {"name": "endpoint2"}, "spec": {"node": "host1", "interfaceName": "*",
                            "expectedIPs": ["10.0.0.1", "fd00::1"], "profiles": ["prof1", "prof2"]}});
        let expected = [
            ("NAME", "endpoint2"),
            ("NODE", "host1"),
            ("INTERFACE", "*"),
            ("IPS", "10.0.0.1,fd00::1"),
            ("PROFILES", "prof1,prof2"),
        ];
        assert_eq!(
            cells(Kind::HostEndpoint, true, &object),
            expected.map(|(heading, cell)| (heading, cell.to_string()))
        );
    }

    #[test]
    fn orders_are_go_numbers_or_nil() {
        let cell = |order: Value| cells(Kind::Tier, false, &json!({"spec": {"order": order}}))[1].1.clone();
        assert_eq!(cell(json!(1_000_000.0)), "1e+06");
        assert_eq!(cell(json!(100)), "100");
        assert_eq!(cell(Value::Null), "<nil>");
    }

    #[test]
    fn long_network_lists_are_cut_to_eighty_characters() {
        let nets: Vec<String> = (0..100).map(|third| format!("10.0.{third}.0/28")).collect();
        let cell = &cells(Kind::GlobalNetworkSet, true, &json!({"spec": {"nets": nets}}))[1].1;
        assert_eq!(cell, "10.0.0.0/28,10.0.1.0/28,10.0.2.0/28,10.0.3.0/28,10.0.4.0/28,10.0.5.0/28,10.0....");
        assert_eq!(cell.len(), 80);
    }

    #[test]
    fn an_unknown_heading_names_the_valid_ones_in_order() {
        let headings = ["NAME".to_string(), "FOO".to_string()];
        let error = named(Kind::HostEndpoint, &headings).unwrap_err();
        assert_eq!(error, "unknown heading FOO, valid values are: INTERFACE, IPS, NAME, NODE, PROFILES");
    }

    #[test]
    fn the_namespace_comes_first_when_asked_about_and_only_for_namespaced_kinds() {
        assert_eq!(of(Kind::WorkloadEndpoint, false, true)[0].heading, "NAMESPACE");
        assert_eq!(of(Kind::HostEndpoint, false, true)[0].heading, "NAME");
    }
}
