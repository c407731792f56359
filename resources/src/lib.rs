//! The resource model (essay follows with the rest of the crate).

pub mod builtin;
pub mod cidr;
pub mod decode;
pub mod defaults;
pub mod effective;
pub mod field_error;
mod icmp;
pub mod key;
pub mod kind;
pub mod kinds;
pub mod labels;
pub mod list;
pub mod manifest;
pub mod meta;
pub mod patch;
pub mod port;
pub mod protocol;
pub mod resource;
pub mod rule;
mod schema;
pub mod selector;
pub mod status;
pub mod validate;
pub mod yaml;

pub use crate::{
    cidr::Cidr,
    decode::{DecodeError, Decoded, Unknown},
    defaults::set_defaults,
    field_error::{Cause, FieldError, FieldErrors},
    key::ResourceKey,
    kind::Kind,
    kinds::{
        cluster_information::{ClusterInformation, ClusterInformationSpec},
        felix_configuration::{FelixConfiguration, FelixConfigurationSpec, ProtoPort},
        global_network_policy::{GlobalNetworkPolicy, GlobalNetworkPolicySpec, PolicyType},
        global_network_set::{GlobalNetworkSet, GlobalNetworkSetSpec},
        host_endpoint::{EndpointPort, HostEndpoint, HostEndpointSpec},
        node::{Node, NodeAddress, NodeBgp, NodeSpec, NodeStatus, OrchRef},
        node_report::{
            DriftReport, EndpointReport, EndpointState, EnforcementState, NodeReport, NodeReportStatus,
            Refusal,
        },
        profile::{Profile, ProfileSpec},
        tier::{Tier, TierAction, TierSpec},
        workload_endpoint::{IpNat, WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec},
    },
    labels::Labels,
    list::List,
    meta::{ListMeta, ObjectMeta},
    port::Port,
    protocol::{Protocol, ProtocolName},
    resource::{AnyResource, Resource},
    rule::{Action, EntityRule, Icmp, Rule, RuleMetadata, ServiceAccountMatch, ServiceMatch},
    selector::{Restriction, Selector, SelectorError},
    status::{Reason, Status, StatusCause, StatusDetails},
    validate::validate,
};
