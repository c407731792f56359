//! The columns `kubectl get` prints for each kind, and the cells of one object. Pure: the time is handed in.
//!
//! Names, order and sources are Calico's own printer columns. Kinds without any get Age, as Kubernetes gives a
//! custom resource that defines none. It refuses to decide widths or alignment: kubectl does.

use appliance_resources::Kind;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One column after the name.
struct Column {
    name: &'static str,
    /// The type in OpenAPI's words.
    kind: &'static str,
    description: &'static str,
    source: Source,
}

/// Where a cell comes from.
enum Source {
    /// The value at this JSON pointer; absent prints empty.
    Pointer(&'static str),
    /// The list at this pointer, joined by commas.
    Joined(&'static str),
    /// How many there are in the list at this pointer.
    Count(&'static str),
    /// The reason of the condition of type Ready.
    Ready,
    /// How long ago the object was created.
    Age,
}

const AGE: Column = Column {
    name: "Age",
    kind: "string",
    description: "How long ago the object was created.",
    source: Source::Age,
};

const POLICY: &[Column] = &[
    column("Tier", "string", "/spec/tier", "The tier the policy stands in."),
    column("Order", "number", "/spec/order", "Lower is evaluated first; none is last."),
    AGE,
];

const HOST_ENDPOINT: &[Column] = &[
    column("Node", "string", "/spec/node", "The host of the interface."),
    column("Interface", "string", "/spec/interfaceName", "The interface, or * for all."),
];

const TIER: &[Column] = &[
    column("Order", "number", "/spec/order", "Lower is evaluated first."),
    column("DefaultAction", "string", "/spec/defaultAction", "What happens at the end of the tier."),
    Column {
        name: "Status",
        kind: "string",
        description: "The reason of the Ready condition.",
        source: Source::Ready,
    },
];

const CLUSTER_INFORMATION: &[Column] = &[
    column("Version", "string", "/spec/calicoVersion", "The version of Calico that this speaks."),
    column("Ready", "boolean", "/spec/datastoreReady", "Whether enforcers may read the store."),
    column("Types", "string", "/spec/clusterType", "What the cluster is made of."),
];

const WORKLOAD_ENDPOINT: &[Column] = &[
    column("Node", "string", "/spec/node", "The host of the workload."),
    Column {
        name: "Networks",
        kind: "string",
        description: "The addresses of the workload.",
        source: Source::Joined("/spec/ipNetworks"),
    },
    column("Interface", "string", "/spec/interfaceName", "The host's side of the workload's interface."),
];

const NODE_REPORT: &[Column] = &[
    column("State", "string", "/status/state", "What the enforcer is doing."),
    column("Revision", "integer", "/status/revision", "The revision of the store that is enforced."),
    Column {
        name: "Endpoints",
        kind: "integer",
        description: "How many endpoints are policed here.",
        source: Source::Count("/status/endpoints"),
    },
    AGE,
];

const fn column(
    name: &'static str,
    kind: &'static str,
    pointer: &'static str,
    description: &'static str,
) -> Column {
    Column { name, kind, description, source: Source::Pointer(pointer) }
}

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::GlobalNetworkPolicy => POLICY,
        Kind::HostEndpoint => HOST_ENDPOINT,
        Kind::Tier => TIER,
        Kind::ClusterInformation => CLUSTER_INFORMATION,
        Kind::WorkloadEndpoint => WORKLOAD_ENDPOINT,
        Kind::NodeReport => NODE_REPORT,
        Kind::GlobalNetworkSet | Kind::Profile | Kind::Node | Kind::FelixConfiguration => &[AGE],
    }
}

/// The `columnDefinitions` of a table of this kind.
pub(crate) fn definitions(kind: Kind) -> Value {
    let name = json!({"name": "Name", "type": "string", "format": "name",
        "description": "The name, unique within its kind and namespace.", "priority": 0});
    let others = columns(kind).iter().map(|column| {
        json!({"name": column.name, "type": column.kind, "format": "",
            "description": column.description, "priority": 0})
    });
    std::iter::once(name).chain(others).collect()
}

/// The cells of one object, as it is at `now`.
pub(crate) fn cells(kind: Kind, object: &Value, now: OffsetDateTime) -> Value {
    let name = object.pointer("/metadata/name").cloned().unwrap_or(Value::Null);
    std::iter::once(name)
        .chain(columns(kind).iter().map(|column| cell(&column.source, object, now)))
        .collect()
}

fn cell(source: &Source, object: &Value, now: OffsetDateTime) -> Value {
    match source {
        Source::Pointer(pointer) => object.pointer(pointer).cloned().unwrap_or(Value::Null),
        Source::Joined(pointer) => {
            let items = object.pointer(pointer).and_then(Value::as_array);
            let texts: Vec<&str> = items.into_iter().flatten().filter_map(Value::as_str).collect();
            Value::from(texts.join(","))
        }
        Source::Count(pointer) => {
            Value::from(object.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len))
        }
        Source::Ready => {
            let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
            let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
            ready.map_or(Value::Null, |condition| condition["reason"].clone())
        }
        Source::Age => Value::from(age(object, now)),
    }
}

/// As Kubernetes prints what has no time of birth, or one that can not be read.
const UNKNOWN_AGE: &str = "<unknown>";

fn age(object: &Value, now: OffsetDateTime) -> String {
    let created = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    match created.and_then(|created| OffsetDateTime::parse(created, &Rfc3339).ok()) {
        Some(created) => human_duration((now - created).whole_seconds()),
        None => UNKNOWN_AGE.to_owned(),
    }
}

/// A duration in one or two units, coarser the longer it is: `5s`, `3m20s`, `2d3h`, `5y`.
fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    // Below each limit two units are shown, or the finer one alone; a rest of zero is left out.
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| match seconds % big / small {
        0 => format!("{}{big_unit}", seconds / big),
        rest => format!("{}{big_unit}{rest}{small_unit}", seconds / big),
    };
    match seconds {
        // Clocks of two hosts may differ by a little; by more than that, nothing true can be said.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, "m", 1, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, "h", MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, "d", HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, "y", DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn names(kind: Kind) -> Vec<String> {
        let definitions = definitions(kind);
        let names = definitions.as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned());
        names.collect()
    }

    #[test]
    fn columns_are_calicos() {
        for (kind, expected) in [
            (Kind::GlobalNetworkPolicy, "Name Tier Order Age"),
            (Kind::HostEndpoint, "Name Node Interface"),
            (Kind::GlobalNetworkSet, "Name Age"),
            (Kind::Tier, "Name Order DefaultAction Status"),
            (Kind::ClusterInformation, "Name Version Ready Types"),
            (Kind::NodeReport, "Name State Revision Endpoints Age"),
        ] {
            assert_eq!(names(kind).join(" "), expected, "{kind:?}");
        }
    }

    #[test]
    fn every_definition_has_one_cell() {
        for kind in Kind::ALL {
            let row = cells(*kind, &json!({"metadata": {"name": "x"}}), OffsetDateTime::UNIX_EPOCH);
            assert_eq!(row.as_array().unwrap().len(), names(*kind).len(), "{kind:?}");
            assert_eq!(row[0], "x");
        }
    }

    #[test]
    fn cells_show_what_is_there_and_null_for_what_is_not() {
        let now = datetime!(2026-01-01 00:00:05 UTC);
        let policy = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"tier": "default"}});
        assert_eq!(cells(Kind::GlobalNetworkPolicy, &policy, now), json!(["p", "default", null, "5s"]));
        let tier = json!({"metadata": {"name": "t"}, "spec": {"order": 10, "defaultAction": "Deny"}, "status":
            {"conditions": [{"type": "Ready", "reason": "Ok"}]}});
        assert_eq!(cells(Kind::Tier, &tier, now), json!(["t", 10, "Deny", "Ok"]));
        let report = json!({"metadata": {"name": "n"}, "status": {"state": "Enforcing", "revision": 7,
            "endpoints": [{}, {}]}});
        assert_eq!(cells(Kind::NodeReport, &report, now), json!(["n", "Enforcing", 7, 2, "<unknown>"]));
    }

    #[test]
    fn ages_read_as_kubernetes_writes_them() {
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (8 * 3600, "8h"),
            (48 * 3600 - 1, "47h"),
            (51 * 3600, "2d3h"),
            (8 * 86_400, "8d"),
            (729 * 86_400, "729d"),
            (731 * 86_400, "2y1d"),
            (8 * 365 * 86_400, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }
}
