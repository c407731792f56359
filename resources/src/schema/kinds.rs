//! The fields of each kind. One table per object; names and order are those of Calico's own types.

use serde_json::Value;

use super::{Field, Shape, felix};
use crate::{
    field_error::{Cause, Complaint},
    kind::Kind,
    kinds::{global_network_policy::PolicyType, tier::TierAction},
    port::Port,
    protocol::Protocol,
    rule::Action,
};

/// The fields of an object of this kind.
pub(crate) fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::HostEndpoint => HOST_ENDPOINT,
        Kind::GlobalNetworkPolicy => GLOBAL_NETWORK_POLICY,
        Kind::Profile => PROFILE,
        Kind::Tier => TIER,
        Kind::GlobalNetworkSet => GLOBAL_NETWORK_SET,
        Kind::Node => NODE,
        Kind::FelixConfiguration => FELIX_CONFIGURATION,
        Kind::ClusterInformation => CLUSTER_INFORMATION,
        Kind::WorkloadEndpoint => WORKLOAD_ENDPOINT,
        Kind::NodeReport => NODE_REPORT,
    }
}

const API_VERSION: Field = Field::optional("apiVersion", Shape::Text);
const KIND: Field = Field::optional("kind", Shape::Text);
const METADATA: Field = Field::optional("metadata", Shape::Object(OBJECT_META));

const fn text(name: &'static str) -> Field {
    Field::optional(name, Shape::Text)
}

const fn texts(name: &'static str) -> Field {
    Field::optional(name, Shape::List(&Shape::Text))
}

const fn flag(name: &'static str) -> Field {
    Field::optional(name, Shape::Flag)
}

const fn spec(fields: &'static [Field]) -> Field {
    Field::optional("spec", Shape::Object(fields))
}

const OBJECT_META: &[Field] = &[
    text("name"),
    text("generateName"),
    text("namespace"),
    text("uid"),
    text("resourceVersion"),
    Field::optional("generation", Shape::Integer(i64::MIN, i64::MAX)),
    text("creationTimestamp"),
    text("deletionTimestamp"),
    Field::optional("deletionGracePeriodSeconds", Shape::Integer(i64::MIN, i64::MAX)),
    Field::optional("labels", Shape::TextMap),
    Field::optional("annotations", Shape::TextMap),
    texts("finalizers"),
    Field::optional("ownerReferences", Shape::List(&Shape::AnyObject)),
    Field::ignored("selfLink"),
    Field::ignored("managedFields"),
];

const PROTOCOL: Shape = Shape::Scalar(read_protocol, "\"TCP\"");
const PORT: Shape = Shape::Scalar(read_port, "1");
const PORT_NUMBER: Shape = Shape::Integer(0, u16::MAX as i64);

fn read_protocol(value: &Value) -> Result<(), Complaint> {
    Protocol::from_value(value).map(|_| ())
}

fn read_ip_version(value: &Value) -> Result<(), Complaint> {
    match value {
        Value::Number(number) if matches!(number.as_u64(), Some(4 | 6)) => Ok(()),
        Value::Number(_) => Err(Complaint::new(Cause::NotSupported, "supported values: 4, 6")),
        _ => Err(Complaint::new(Cause::TypeInvalid, "must be 4 or 6")),
    }
}

fn read_port(value: &Value) -> Result<(), Complaint> {
    Port::from_value(value).map(|_| ())
}

const ENTITY_RULE: &[Field] = &[
    texts("nets"),
    text("selector"),
    text("namespaceSelector"),
    Field::optional("services", Shape::Object(&[text("name"), text("namespace")])),
    Field::optional("ports", Shape::List(&PORT)),
    texts("notNets"),
    text("notSelector"),
    Field::optional("notPorts", Shape::List(&PORT)),
    Field::optional("serviceAccounts", Shape::Object(&[texts("names"), text("selector")])),
];

/// That a code needs a type is said by validation.
const ICMP: &[Field] =
    &[Field::optional("type", Shape::Integer(0, 254)), Field::optional("code", Shape::Integer(0, 255))];

const RULE: &[Field] = &[
    Field::required("action", Shape::Word(Action::NAMES)),
    Field::optional("ipVersion", Shape::Scalar(read_ip_version, "4")),
    Field::optional("protocol", PROTOCOL),
    Field::optional("icmp", Shape::Object(ICMP)),
    Field::optional("notProtocol", PROTOCOL),
    Field::optional("notICMP", Shape::Object(ICMP)),
    Field::optional("source", Shape::Object(ENTITY_RULE)),
    Field::optional("destination", Shape::Object(ENTITY_RULE)),
    Field::optional("http", Shape::AnyObject),
    Field::optional("metadata", Shape::Object(&[Field::optional("annotations", Shape::TextMap)])),
];

const RULES: Shape = Shape::List(&Shape::Object(RULE));

const HOST_ENDPOINT: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    spec(&[
        text("node"),
        text("interfaceName"),
        texts("expectedIPs"),
        texts("profiles"),
        Field::optional("ports", Shape::List(&Shape::Object(ENDPOINT_PORT))),
    ]),
];

const ENDPOINT_PORT: &[Field] =
    &[text("name"), Field::required("protocol", PROTOCOL), Field::required("port", PORT_NUMBER)];

const GLOBAL_NETWORK_POLICY: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    spec(&[
        text("tier"),
        Field::optional("order", Shape::Number),
        Field::optional("ingress", RULES),
        Field::optional("egress", RULES),
        text("selector"),
        Field::optional("types", Shape::List(&Shape::Word(PolicyType::NAMES))),
        flag("doNotTrack"),
        flag("preDNAT"),
        flag("applyOnForward"),
        text("serviceAccountSelector"),
        text("namespaceSelector"),
        texts("performanceHints"),
    ]),
];

const PROFILE: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    spec(&[
        Field::optional("ingress", RULES),
        Field::optional("egress", RULES),
        Field::optional("labelsToApply", Shape::TextMap),
    ]),
];

const TIER: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    spec(&[
        Field::optional("order", Shape::Number),
        Field::optional("defaultAction", Shape::Word(TierAction::NAMES)),
    ]),
    Field::optional("status", Shape::AnyObject),
];

const GLOBAL_NETWORK_SET: &[Field] = &[API_VERSION, KIND, METADATA, spec(&[texts("nets")])];

const CLUSTER_INFORMATION: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    spec(&[
        text("clusterGUID"),
        text("clusterType"),
        text("calicoVersion"),
        flag("datastoreReady"),
        text("variant"),
    ]),
];

const FELIX_CONFIGURATION: &[Field] = &[API_VERSION, KIND, METADATA, spec(felix::SETTINGS)];

const NODE: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    spec(&[
        Field::optional("addresses", Shape::List(&Shape::Object(&[text("address"), text("type")]))),
        Field::optional("bgp", Shape::Object(NODE_BGP)),
        Field::optional("orchRefs", Shape::List(&Shape::Object(&[text("nodeName"), text("orchestrator")]))),
        text("ipv4VXLANTunnelAddr"),
        text("vxlanTunnelMACAddr"),
        text("ipv6VXLANTunnelAddr"),
        text("vxlanTunnelMACAddrV6"),
        Field::optional("wireguard", Shape::AnyObject),
        Field::optional("interfaces", Shape::List(&Shape::AnyObject)),
    ]),
    Field::optional(
        "status",
        Shape::Object(&[text("wireguardPublicKey"), text("wireguardPublicKeyV6"), texts("podCIDRs")]),
    ),
];

const NODE_BGP: &[Field] = &[
    Field::optional("asNumber", Shape::Any),
    text("ipv4Address"),
    text("ipv6Address"),
    text("ipv4IPIPTunnelAddr"),
    text("routeReflectorClusterID"),
];

const WORKLOAD_ENDPOINT: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    spec(&[
        text("orchestrator"),
        text("workload"),
        text("node"),
        text("containerID"),
        text("pod"),
        text("endpoint"),
        text("serviceAccountName"),
        texts("ipNetworks"),
        Field::optional("ipNATs", Shape::List(&Shape::Object(&[text("internalIP"), text("externalIP")]))),
        text("ipv4Gateway"),
        text("ipv6Gateway"),
        texts("profiles"),
        text("interfaceName"),
        text("mac"),
        Field::optional("ports", Shape::List(&Shape::Object(WORKLOAD_ENDPOINT_PORT))),
        texts("allowSpoofedSourcePrefixes"),
        Field::optional("qosControls", Shape::AnyObject),
    ]),
];

const WORKLOAD_ENDPOINT_PORT: &[Field] = &[
    text("name"),
    Field::required("protocol", PROTOCOL),
    Field::required("port", PORT_NUMBER),
    Field::optional("hostPort", PORT_NUMBER),
    text("hostIP"),
];

const NODE_REPORT: &[Field] =
    &[API_VERSION, KIND, METADATA, Field::optional("status", Shape::Object(NODE_REPORT_STATUS))];

const NODE_REPORT_STATUS: &[Field] = &[
    Field::optional("revision", Shape::Integer(0, i64::MAX)),
    Field::optional("state", Shape::Word(&["WaitingForSync", "Enforcing", "Failed", "Disabled", "Disarmed"])),
    text("message"),
    Field::optional("endpoints", Shape::List(&Shape::Object(ENDPOINT_REPORT))),
    Field::optional(
        "refusals",
        Shape::List(&Shape::Object(&[
            Field::required("kind", Shape::Text),
            Field::required("name", Shape::Text),
            Field::required("reason", Shape::Text),
        ])),
    ),
    Field::optional(
        "drift",
        Shape::Object(&[
            Field::optional("repairs", Shape::Integer(0, i64::MAX)),
            text("lastRepair"),
            text("lastChange"),
        ]),
    ),
];

const ENDPOINT_REPORT: &[Field] = &[
    Field::required("kind", Shape::Text),
    Field::required("name", Shape::Text),
    text("namespace"),
    texts("interfaces"),
    Field::required("state", Shape::Word(&["up", "down", "error"])),
    text("reason"),
    texts("ingressPolicies"),
    texts("egressPolicies"),
    texts("profiles"),
];
