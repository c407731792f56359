//! Members of sets by netlink: many messages in one batch, large sets, and what happens when the kernel says no.

use std::net::Ipv4Addr;

use appliance_dataplane::nft::diff::diff;
use appliance_dataplane::nft::plan::{Begin, plan};
use appliance_dataplane::nft::{
    Actual, Delta, Element, Family, Kernel, Nft, NftError, Operation, Ruleset, SetKind, Transaction,
};
use ipnet::{IpNet, Ipv4Net};

use crate::netns::{NFT, inside};
use crate::rulesets::{TABLE, set};

const MANY: u32 = 100_000;

/// `count` disjoint prefixes, some of them neighbours.
fn prefixes(count: u32) -> Vec<Element> {
    let net = |number: u32| Ipv4Net::new(Ipv4Addr::from(number << 8), 25 + (number % 8) as u8).unwrap();
    (0..count).map(|number| Element::Net(IpNet::V4(net(number).trunc()))).collect()
}

fn of(kind: SetKind, elements: impl IntoIterator<Item = Element>) -> Ruleset {
    let mut wanted = Ruleset::new(TABLE);
    wanted.sets.insert("s".into(), set(kind, elements));
    wanted
}

async fn become_by_book(kernel: &mut Kernel, shadow: &mut Actual, wanted: &Ruleset) {
    for transaction in plan(&shadow.clone(), wanted, Begin::Whole) {
        kernel.run(&transaction).await.unwrap();
        shadow.replay(&transaction);
    }
}

#[test]
fn a_hundred_thousand_members_are_added_and_removed_in_one_batch() {
    for kind in [SetKind::Nets(Family::V4), SetKind::Addresses(Family::V4)] {
        inside(|_, runtime| {
            runtime.block_on(async {
                let members = match kind {
                    SetKind::Nets(_) => prefixes(MANY),
                    _ => (0..MANY).map(|number| Element::address(Ipv4Addr::from(number).into())).collect(),
                };
                let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
                let mut shadow = Actual::default();
                become_by_book(&mut kernel, &mut shadow, &of(kind, members[..1].to_vec())).await;
                let full = of(kind, members.clone());
                become_by_book(&mut kernel, &mut shadow, &full).await;
                assert!(diff(&kernel.list().await.unwrap(), &full).is_empty());
                let mut one_less = full.clone();
                one_less.sets.get_mut("s").unwrap().elements.remove(&members[50_000]);
                become_by_book(&mut kernel, &mut shadow, &one_less).await;
                assert!(diff(&kernel.list().await.unwrap(), &one_less).is_empty());
                become_by_book(&mut kernel, &mut shadow, &of(kind, [])).await;
                assert!(diff(&kernel.list().await.unwrap(), &of(kind, [])).is_empty());
            });
        });
    }
}

#[test]
fn a_refused_member_takes_the_whole_batch_with_it_and_is_named() {
    inside(|_, runtime| {
        runtime.block_on(async {
            let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
            let kind = SetKind::Nets(Family::V4);
            let wanted = of(kind, prefixes(10));
            become_by_book(&mut kernel, &mut Actual::default(), &wanted).await;
            let change = |set: &str, added: Vec<Element>| Operation::ChangeSet {
                name: set.into(),
                kind,
                delta: Delta { added, removed: Vec::new() },
            };
            let good = Element::Net("200.0.0.0/8".parse().unwrap());
            let overlapping = Element::Net("0.0.0.0/1".parse().unwrap());
            let operations = vec![change("s", vec![good, overlapping])];
            let refused = kernel.run(&Transaction { table: TABLE.into(), operations }).await;
            assert!(
                matches!(&refused, Err(NftError::Refused(reason)) if reason.starts_with("set s: ")),
                "{refused:?}"
            );
            let operations = vec![change("s", vec![good]), change("missing", vec![good])];
            let stale = kernel.run(&Transaction { table: TABLE.into(), operations }).await;
            assert!(
                matches!(&stale, Err(NftError::Stale(reason)) if reason.contains("missing")),
                "{stale:?}"
            );
            assert!(diff(&kernel.list().await.unwrap(), &wanted).is_empty());
        });
    });
}
