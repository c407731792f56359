//! The resource model: what an operator can write down, and what it means.
//!
//! # What a resource is
//!
//! A resource is an object with a [`Kind`], [`ObjectMeta`] and a `spec` (a [`NodeReport`] has a `status` instead). The
//! kinds are a closed list; [`AnyResource`] is the enum over them, and [`ResourceKey`] (kind, namespace, name) says which
//! one is meant. Nine kinds are Calico's `projectcalico.org/v3`, with Calico's field names, number-or-string rules and
//! storage keys, so that data and habits move both ways. One, the [`NodeReport`], is ours.
//!
//! Values in a resource are as the operator wrote them: a range is a string that has been checked, a selector too. They
//! are parsed again by whoever needs the parsed form ([`Cidr`], [`Selector`]), because what is stored must print back as
//! it was written.
//!
//! # How text becomes one
//!
//! ```text
//!   YAML, JSON                          JSON                                       AnyResource
//!  ────────────► yaml ─► manifest ──► decode ───► schema ───► serde ──► kinds ──► set_defaults ──► validate
//!                lines    documents   which kind   shape of               types     what is left     what it
//!                         and lists                every field                      out               may hold
//! ```
//!
//! * [`manifest::read`] takes a file apart into objects, each with file, document and line; [`yaml`] does the reading
//!   under bounds and the printing.
//! * [`AnyResource::from_value`] holds an object against the schema. All mistakes of shape are found in one walk, and
//!   where there is one, what validation has to say about the rest is added, so that one answer shows everything.
//! * [`set_defaults`] writes down what an omitted field means. It is idempotent, which is what lets a write that changes
//!   nothing be seen as one.
//! * [`validate`](fn@validate) checks what values may be and what they mean together, and collects every mistake as a
//!   [`FieldError`]: path, value, reason, cause.
//! * [`Status`] is how a refusal travels; its texts are Kubernetes', because clients read them.
//!
//! On the way to the store the API does: decode, default, stamp (uid, time), validate, propose
//! [`AnyResource::to_value`] without `resourceVersion`. On the way from the store everyone decodes with
//! [`Unknown::Drop`] and treats what does not decode or validate as missing.
//!
//! Beside that road: [`Selector`] (the language, its canonical text and id, its restrictions for an index), [`patch`]
//! (RFC 7386 and 6902), [`effective`] (the FelixConfigurations that apply to a node, merged), [`builtin`] (what every
//! cluster starts with), [`List`].
//!
//! # Who may depend on what
//!
//! Everyone may depend on this crate and it depends on nobody: no I/O, no clock, no environment, no threads, no order
//! of iteration that chance decides. `clippy.toml` bans the ways in. Inside, `kinds` and `rule` know only their scalar
//! types; `schema` knows the scalars and nothing of `kinds` beyond their words; `validate` knows everything except
//! where text came from; only `manifest` knows about files, and only their names.
//!
//! # Bounds
//!
//! Everything here meets text from strangers. A selector nests at most 200 deep, a YAML document 64, with a bounded
//! number of nodes and of events its aliases unfold to, 10 MiB a document; a patch has at most 10,000 operations and may
//! neither move more than a request's worth of bytes nor nest the document deeper than it could be read back. No text
//! panics; property tests try.
//!
//! # Questions for a reviewer
//!
//! * Can a value that `validate` accepts fail to compile in the enforcer? Then the API accepts a policy that is not in
//!   force; the check belongs here (see `refuse_unenforced` in `validate/policy.rs` for what is known and refused).
//! * Does a new field stand in three places: the type in `kinds`, the table in `schema`, and a case in
//!   `testdata/validate`? A test compares the first two.
//! * Would a default that is added change objects that are stored already? Then every client-side apply shows a change
//!   that nobody made.
//! * Does a message say what was found, what would be right, and where?

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
    cidr::{Cidr, CidrError},
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
    patch::PatchError,
    port::Port,
    protocol::{Protocol, ProtocolName},
    resource::{AnyResource, Resource},
    rule::{Action, EntityRule, Icmp, Rule, RuleMetadata, ServiceAccountMatch, ServiceMatch},
    selector::{Restriction, Selector, SelectorError},
    status::{Reason, Status, StatusCause, StatusDetails},
    validate::validate,
};
