//! Node: addresses that parse, and no routing section that says nothing.

use super::{Checker, is_address, is_net};
use crate::{
    field_error::{Cause, quoted_list},
    kinds::node::{NodeBgp, NodeSpec},
};

/// Where an address of a node may come from.
const ADDRESS_TYPES: &[&str] = &["CalicoNodeIP", "InternalIP", "ExternalIP"];

pub(super) fn check(checker: &mut Checker, spec: &NodeSpec) {
    for (index, address) in spec.addresses.iter().enumerate() {
        let path = format!("spec.addresses[{index}]");
        checker.text(&format!("{path}.address"), &address.address, is_net);
        if !address.r#type.is_empty() && !ADDRESS_TYPES.contains(&address.r#type.as_str()) {
            let reason = format!("supported values: {}", quoted_list(ADDRESS_TYPES.iter().copied()));
            let value = address.r#type.as_str().into();
            checker.complain(&format!("{path}.type"), Some(value), Cause::NotSupported, reason);
        }
    }
    if let Some(bgp) = &spec.bgp {
        if *bgp == NodeBgp::default() {
            checker.complain("spec.bgp", None, Cause::Invalid, "must not be empty when it is given");
        }
        checker.optional_text("spec.bgp.ipv4Address", &bgp.ipv4_address, is_net);
        checker.optional_text("spec.bgp.ipv6Address", &bgp.ipv6_address, is_net);
        checker.optional_text("spec.bgp.ipv4IPIPTunnelAddr", &bgp.ipv4_ipip_tunnel_addr, is_address);
    }
    for (index, reference) in spec.orch_refs.iter().enumerate() {
        if reference.orchestrator.is_empty() {
            let path = format!("spec.orchRefs[{index}].orchestrator");
            checker.required(&path, "orchestrator must be specified");
        }
    }
    checker.optional_text("spec.ipv4VXLANTunnelAddr", &spec.ipv4_vxlan_tunnel_addr, is_address);
    checker.optional_text("spec.ipv6VXLANTunnelAddr", &spec.ipv6_vxlan_tunnel_addr, is_address);
}
