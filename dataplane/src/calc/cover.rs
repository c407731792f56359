//! Cover: the smallest choice among a set's members that matches the same addresses, kept up to date member by member.
//!
//! The kernel's interval sets refuse overlapping elements, and members of a selector's set overlap as a matter of
//! course (a network set's /16 and an endpoint inside it). Prefixes either nest or are disjoint, so the members that no
//! other member contains are disjoint, together match every address any member matches, and none of them can be left
//! out. Adjacent prefixes are deliberately not joined into a shorter one: the operator finds in the kernel what they
//! wrote, and a set of single addresses stays one (a hash, the cheapest set to change).
//!
//! Members are counted, one per contributor. A change costs O((1 + k) log n), k being the members it hides or uncovers.
//! One cover serves one family; mixing families is harmless (they never nest) but the caller splits them anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::nft::{Element, Elements};

/// A counted set of prefixes and its cover.
///
/// * Every count is at least 1.
/// * `shown` holds exactly the members no other member contains.
/// * `elements` holds exactly `shown`, in the persistent form that is handed out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cover {
    counts: BTreeMap<IpNet, u32>,
    shown: BTreeSet<IpNet>,
    /// How many of `shown` are prefixes rather than single addresses.
    prefixes: usize,
    elements: Elements,
}

impl Cover {
    /// Counts one more contributor of `net`.
    pub(crate) fn add(&mut self, net: IpNet) {
        let count = self.counts.entry(net).or_insert(0);
        *count += 1;
        if *count > 1 || self.container(&net).is_some() {
            return;
        }
        let hidden: Vec<IpNet> =
            self.shown.range(net..).take_while(|member| net.contains(*member)).copied().collect();
        for member in hidden {
            self.hide(member);
        }
        self.show(net);
    }

    /// Counts one contributor of `net` less. A member nobody contributed is left as it is.
    pub(crate) fn remove(&mut self, net: IpNet) {
        let Some(count) = self.counts.get_mut(&net) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.counts.remove(&net);
        if !self.shown.contains(&net) {
            return;
        }
        self.hide(net);
        for member in self.outermost_inside(net) {
            self.show(member);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Whether every element is a single address.
    pub(crate) fn only_addresses(&self) -> bool {
        self.prefixes == 0
    }

    /// The cover as it stands; cheap to clone.
    pub(crate) fn elements(&self) -> &Elements {
        &self.elements
    }

    /// The shown member that contains `net`. Shown members are disjoint, so only the last one that does not begin
    /// after `net` can.
    fn container(&self, net: &IpNet) -> Option<&IpNet> {
        self.shown.range(..=*net).next_back().filter(|member| member.contains(net))
    }

    /// The members inside `net` that no other member inside it contains. In the order of prefixes a container comes
    /// directly before what it contains, so each step jumps behind the one just found.
    fn outermost_inside(&self, net: IpNet) -> Vec<IpNet> {
        let mut found = Vec::new();
        let mut from = Some(net);
        while let Some(start) = from {
            let Some((member, _)) = self.counts.range(start..).next() else { break };
            if !net.contains(member) {
                break;
            }
            found.push(*member);
            from = after(member);
        }
        found
    }

    fn show(&mut self, net: IpNet) {
        self.shown.insert(net);
        self.prefixes += usize::from(!is_address(&net));
        self.elements.insert(Element::Net(net));
    }

    fn hide(&mut self, net: IpNet) {
        self.shown.remove(&net);
        self.prefixes -= usize::from(!is_address(&net));
        self.elements.remove(&Element::Net(net));
    }
}

/// The widest prefix that begins directly behind `net`; none behind the last address of a family.
fn after(net: &IpNet) -> Option<IpNet> {
    match net.broadcast() {
        IpAddr::V4(last) => {
            let next = u32::from(last).checked_add(1)?;
            IpNet::new(IpAddr::V4(Ipv4Addr::from(next)), 0).ok()
        }
        IpAddr::V6(last) => {
            let next = u128::from(last).checked_add(1)?;
            IpNet::new(IpAddr::V6(Ipv6Addr::from(next)), 0).ok()
        }
    }
}

fn is_address(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// `net` with its host bits cleared; a prefix of length zero in two halves, which interval sets can hold everywhere
/// and which lets a set with "everything" be a set like any other.
pub(crate) fn members_of(net: IpNet) -> Vec<IpNet> {
    let net = net.trunc();
    if net.prefix_len() > 0 {
        return vec![net];
    }
    net.subnets(1).map(Iterator::collect).unwrap_or_default()
}

/// The members of `nets` that no other one contains: what a literal list of a rule becomes.
pub(crate) fn outermost(nets: &[IpNet]) -> Vec<IpNet> {
    let sorted: BTreeSet<IpNet> = nets.iter().map(IpNet::trunc).collect();
    let mut kept: Vec<IpNet> = Vec::with_capacity(sorted.len());
    for net in sorted {
        if !kept.last().is_some_and(|last| last.contains(&net)) {
            kept.push(net);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn shown(cover: &Cover) -> Vec<String> {
        cover.elements().iter().map(Element::to_string).collect()
    }

    #[test]
    fn a_broader_member_hides_and_uncovers() {
        let mut cover = Cover::default();
        for member in ["10.0.0.9/32", "10.0.0.0/24", "10.0.0.128/25", "10.0.0.9/32"] {
            cover.add(net(member));
        }
        assert_eq!(shown(&cover), ["10.0.0.0/24"]);
        cover.remove(net("10.0.0.0/24"));
        assert_eq!(shown(&cover), ["10.0.0.9", "10.0.0.128/25"]);
        cover.remove(net("10.0.0.9/32"));
        assert_eq!(shown(&cover), ["10.0.0.9", "10.0.0.128/25"], "one contributor is left");
        cover.remove(net("10.0.0.9/32"));
        cover.remove(net("10.0.0.128/25"));
        assert!(cover.is_empty() && shown(&cover).is_empty() && cover.only_addresses());
    }

    #[test]
    fn the_last_prefix_of_a_family_has_nothing_behind_it() {
        let mut cover = Cover::default();
        for member in ["255.255.255.255/32", "255.255.255.0/24", "ffff::/16", "ffff:ffff::/32"] {
            cover.add(net(member));
        }
        cover.remove(net("255.255.255.0/24"));
        cover.remove(net("ffff::/16"));
        assert_eq!(shown(&cover), ["255.255.255.255", "ffff:ffff::/32"]);
    }

    #[test]
    fn everything_is_two_halves() {
        assert_eq!(members_of(net("0.0.0.0/0")), [net("0.0.0.0/1"), net("128.0.0.0/1")]);
        assert_eq!(members_of(net("::/0")), [net("::/1"), net("8000::/1")]);
        assert_eq!(members_of(net("10.0.0.7/8")), [net("10.0.0.0/8")]);
    }

    /// Prefixes crowded into a few bits, so that nesting, neighbours and repeats are the rule.
    fn crowded() -> impl Strategy<Value = IpNet> {
        (any::<bool>(), 0u8..=255, 22u8..=32).prop_map(|(six, host, length)| {
            let text = if six {
                format!("fd00::{host:x}/{}", 96 + length)
            } else {
                format!("10.0.0.{host}/{length}")
            };
            text.parse::<IpNet>().unwrap().trunc()
        })
    }

    proptest! {
        /// Whatever the history: the elements are disjoint, all of them are members, and they match exactly the
        /// addresses the members match.
        #[test]
        fn the_cover_is_exact_and_disjoint(steps in proptest::collection::vec((crowded(), any::<bool>()), 0..120)) {
            let mut cover = Cover::default();
            let mut plain: Vec<IpNet> = Vec::new();
            for (member, add) in steps {
                if add {
                    plain.push(member);
                    cover.add(member);
                } else {
                    if let Some(at) = plain.iter().position(|other| *other == member) {
                        plain.swap_remove(at);
                    }
                    cover.remove(member);
                }
                let elements: Vec<IpNet> = cover
                    .elements()
                    .iter()
                    .map(|element| match element {
                        Element::Net(net) => *net,
                        other => panic!("{other} in a cover"),
                    })
                    .collect();
                prop_assert_eq!(&elements, &outermost(&plain));
                for (index, one) in elements.iter().enumerate() {
                    prop_assert!(plain.contains(one));
                    prop_assert!(elements[index + 1..].iter().all(|other| !one.contains(other) && !other.contains(one)));
                }
                for member in &plain {
                    prop_assert!(elements.iter().any(|one| one.contains(member)));
                }
                prop_assert_eq!(cover.only_addresses(), elements.iter().all(is_address));
            }
        }
    }
}
