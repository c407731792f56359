//! Names of chains and sets: stable, recognisable, short, and never the same for two things.
//!
//! A chain is named after what it is and whose it is: `ep_h1-eth0_in`, `pi_allow-ssh`. Resource names can be 253
//! characters long; one that would make the whole too long is cut and ends in a hash instead. Such a name has exactly
//! the maximum length and an unhashed one never has, so no resource can be named into another's place. Sets have no
//! name of their own in the API and are named by a hash of what they hold.

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::calc::desired::{SetId, SetShape, Width};
use crate::nft::{Family, SetKind};
use crate::render::Lane;

/// The kernel takes 255; half a terminal line is what people can still read.
const NAME_BYTES: usize = 60;
/// 80 bits: two things that share a hash will not come up by chance.
const HASH_CHARACTERS: usize = 20;

/// Where an interface's packets go when they arrive, and when they leave.
pub(crate) fn dispatch(lane: Lane) -> &'static str {
    match lane {
        Lane::In => "ep_in",
        Lane::Out => "ep_out",
        Lane::OutDnat => "ep_dnat",
    }
}

/// The chain of one endpoint.
pub(crate) fn endpoint(lane: Lane, name: &str) -> String {
    let suffix = match lane {
        Lane::In => "_in",
        Lane::Out => "_out",
        Lane::OutDnat => "_dnat",
    };
    bounded("ep_", name, suffix)
}

/// The chain of one policy.
pub(crate) fn policy(lane: Lane, name: &str) -> String {
    let prefix = match lane {
        Lane::In => "pi_",
        Lane::Out => "po_",
        Lane::OutDnat => "pd_",
    };
    bounded(prefix, name, "")
}

/// The chain of one profile.
pub(crate) fn profile(lane: Lane, name: &str) -> String {
    let prefix = match lane {
        Lane::In => "ri_",
        Lane::Out => "ro_",
        Lane::OutDnat => "rd_",
    };
    bounded(prefix, name, "")
}

/// The kernel set of an IP set for one family. Another kind of set is another name: a set's kind is fixed for its life.
pub(crate) fn ip_set(id: &SetId, shape: SetShape, family: Family) -> (String, SetKind) {
    let hash = hash(&id.0);
    let digit = digit(family);
    let width = match (shape, family) {
        (SetShape::NamedPorts, _) => return (format!("p{digit}_{hash}"), SetKind::AddressPorts(family)),
        (SetShape::Addresses { v4, .. }, Family::V4) => v4,
        (SetShape::Addresses { v6, .. }, Family::V6) => v6,
    };
    match width {
        Width::Single => (format!("s{digit}_{hash}"), SetKind::Addresses(family)),
        Width::Prefixes => (format!("s{digit}n_{hash}"), SetKind::Nets(family)),
    }
}

/// The kernel set of a list of ranges written in a rule. Named by its content, so that another list is another set and
/// can be filled before the rule that uses it is put in force.
pub(crate) fn literal(family: Family, nets: &[IpNet]) -> (String, SetKind) {
    let text: Vec<String> = nets.iter().map(IpNet::to_string).collect();
    let name = format!("n{}_{}", digit(family), hash(&text.join(",")));
    let single = nets.iter().all(|net| net.prefix_len() == net.max_prefix_len());
    (name, if single { SetKind::Addresses(family) } else { SetKind::Nets(family) })
}

fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

fn bounded(prefix: &str, name: &str, suffix: &str) -> String {
    let room = NAME_BYTES - prefix.len() - suffix.len();
    if name.len() < room {
        return format!("{prefix}{name}{suffix}");
    }
    let kept: String = name.chars().filter(char::is_ascii).take(room - HASH_CHARACTERS - 1).collect();
    format!("{prefix}{kept}_{}{suffix}", hash(name))
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..HASH_CHARACTERS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_can_not_be_imitated() {
        let long = "a".repeat(253);
        let cut = policy(Lane::In, &long);
        assert_eq!(cut.len(), NAME_BYTES);
        assert_ne!(cut, policy(Lane::In, &"a".repeat(252)));
        let imitation = cut.strip_prefix("pi_").unwrap();
        assert_ne!(policy(Lane::In, imitation), cut, "a policy called like the cut name gets a hash too");
        assert_eq!(policy(Lane::In, "allow-ssh"), "pi_allow-ssh");
        assert_eq!(endpoint(Lane::Out, "h1-eth0"), "ep_h1-eth0_out");
    }

    #[test]
    fn a_set_that_changes_its_kind_changes_its_name() {
        let id = SetId("s:x".into());
        let name = |width| ip_set(&id, SetShape::Addresses { v4: width, v6: Width::Single }, Family::V4).0;
        assert_ne!(name(Width::Single), name(Width::Prefixes));
        assert_ne!(name(Width::Single), ip_set(&id, SetShape::NamedPorts, Family::V4).0);
    }
}
