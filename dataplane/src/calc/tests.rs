//! Facts about calc as a whole: what it answers does not depend on how it was told.

use std::collections::BTreeMap;

use appliance_resources::{AnyResource, Kind, ResourceKey, manifest, set_defaults};
use proptest::prelude::*;

use super::*;
use crate::interfaces::{Interface, Interfaces};
use crate::nft::Element;

/// Reads one resource as an operator would write it.
fn resource(text: &str) -> AnyResource {
    let text = format!("apiVersion: projectcalico.org/v3\n{text}");
    let document = manifest::read(&text, "test").expect("a readable manifest").remove(0);
    let mut resource = document.resource;
    set_defaults(&mut resource);
    resource
}

fn set(text: &str) -> Update {
    Update::Set(Box::new(resource(text)))
}

fn gone(kind: Kind, name: &str) -> Update {
    Update::Gone(ResourceKey::global(kind, name))
}

fn links(addresses: &[(&str, &str)]) -> Interfaces {
    let interface = |address: &str| Interface {
        index: 1,
        up: true,
        addresses: address.split(' ').map(|address| address.parse().expect("an address")).collect(),
    };
    addresses.iter().map(|(name, address)| ((*name).to_owned(), interface(address))).collect()
}

fn in_sync(updates: Vec<Update>) -> Calc {
    let mut calc = Calc::new("h1");
    updates.into_iter().for_each(|update| calc.on_update(update));
    calc.on_interfaces(&links(&[("eth0", "172.17.0.2"), ("lo", "127.0.0.1")]));
    calc.on_in_sync();
    calc
}

const ENDPOINT: &str =
    "kind: HostEndpoint\nmetadata: {name: h1-eth0, labels: {ep: h1}}\nspec: {node: h1, interfaceName: eth0}";
const FROM_CLIENTS: &str = "kind: GlobalNetworkPolicy\nmetadata: {name: clients}\nspec: {selector: has(ep), \
     ingress: [{action: Allow, source: {selector: role == 'client'}}]}";

fn client(name: &str, address: &str) -> Update {
    set(&format!(
        "kind: HostEndpoint\nmetadata: {{name: {name}, labels: {{role: client}}}}\n\
         spec: {{node: h2, expectedIPs: [{address}]}}"
    ))
}

#[test]
fn nothing_is_said_before_everything_is_known() {
    let mut calc = Calc::new("h1");
    calc.on_update(set(ENDPOINT));
    assert_eq!(calc.flush(), None, "not in sync");
    calc.on_in_sync();
    assert_eq!(calc.flush(), None, "no interfaces seen");
    calc.on_interfaces(&Interfaces::new());
    assert!(calc.flush().is_some());
    assert_eq!(calc.flush(), None, "nothing changed");
}

#[test]
fn a_member_changes_members_and_nothing_else() {
    let mut calc = in_sync(vec![set(ENDPOINT), set(FROM_CLIENTS), client("h2", "192.0.2.1")]);
    let before = calc.flush().expect("an answer");
    calc.on_update(client("h3", "192.0.2.2"));
    let after = calc.flush().expect("an answer");
    assert!(Arc::ptr_eq(&before.structure, &after.structure));
    assert!(Arc::ptr_eq(&before.report, &after.report));
    let (id, set) = after.sets.iter().next().expect("one set");
    let delta = set.v4.delta_from(&before.sets[id].v4);
    assert_eq!(delta.added, [Element::address("192.0.2.2".parse().expect("an address"))]);
    assert_eq!(delta.removed, []);
    calc.on_update(client("h4", "192.0.2.2"));
    assert_eq!(calc.flush(), None, "the address was there already");
    calc.on_update(gone(Kind::HostEndpoint, "h3"));
    assert_eq!(calc.flush(), None, "h4 still brings it");
}

#[test]
fn a_set_that_gains_a_prefix_is_another_kernel_set() {
    let mut calc = in_sync(vec![set(ENDPOINT), set(FROM_CLIENTS), client("h2", "192.0.2.1")]);
    let before = calc.flush().expect("an answer");
    calc.on_update(set(
        "kind: GlobalNetworkSet\nmetadata: {name: n, labels: {role: client}}\nspec: {nets: [192.0.2.0/24]}",
    ));
    let wider = calc.flush().expect("an answer");
    assert_ne!(before.structure, wider.structure);
    calc.on_update(gone(Kind::GlobalNetworkSet, "n"));
    assert_eq!(calc.flush().expect("an answer").structure, before.structure);
}

#[test]
fn an_invalid_endpoint_is_missing_and_told_once() {
    let mut calc = in_sync(vec![set(ENDPOINT)]);
    assert_eq!(calc.flush().expect("an answer").structure.interfaces.len(), 1);
    let invalid = "kind: HostEndpoint\nmetadata: {name: h1-eth0}\nspec: {node: h1}";
    calc.on_update(set(invalid));
    let answer = calc.flush().expect("an answer");
    assert!(answer.structure.interfaces.is_empty());
    assert_eq!(answer.notices.len(), 1);
    let notice = &answer.notices[0];
    for part in ["Validation failed", "h1-eth0", "treating as missing", "expectedIPs"] {
        assert!(notice.contains(part), "{notice}");
    }
    assert_eq!(answer.report.endpoints, []);
    assert_eq!(answer.report.refusals.len(), 1);
    calc.on_update(set(invalid));
    assert_eq!(calc.flush(), None, "told already");
}

#[test]
fn what_is_not_enforced_as_written_is_told_once() {
    let lists = "kind: HostEndpoint\nmetadata: {name: h1-eth0}\nspec: {node: h1, interfaceName: eth0, profiles: [nope]}";
    let mut calc = in_sync(vec![set(lists)]);
    let answer = calc.flush().expect("an answer");
    assert_eq!(answer.notices.len(), 1);
    assert!(answer.notices[0].starts_with("Profile nope: it does not exist"), "{}", answer.notices[0]);
    calc.on_update(set("kind: Tier\nmetadata: {name: t}\nspec: {order: 1}"));
    assert_eq!(calc.flush(), None, "told already");
    calc.on_update(set("kind: Profile\nmetadata: {name: nope}\nspec: {ingress: [{action: Allow}]}"));
    assert_eq!(calc.flush().expect("an answer").report.refusals, []);
}

#[test]
fn a_status_is_no_change() {
    let mut calc = in_sync(vec![set("kind: Node\nmetadata: {name: h1}")]);
    calc.flush().expect("an answer");
    calc.on_update(set(
        "kind: Node\nmetadata: {name: h1, resourceVersion: '7'}\nstatus: {podCIDRs: [10.0.0.0/8]}",
    ));
    assert_eq!(calc.flush(), None);
}

/// Everything that can exist under a name in the property test; the first is "nothing".
const UNIVERSE: &[(&str, &[&str])] = &[
    (
        "HostEndpoint a",
        &[
            "spec: {node: h1, interfaceName: eth0}",
            "spec: {node: h1, expectedIPs: [172.17.0.2], profiles: [p]}",
            "spec: {node: h2, expectedIPs: [172.17.0.2], ports: [{name: web, protocol: TCP, port: 80}]}",
            "spec: {node: h1}",
        ],
    ),
    (
        "HostEndpoint b",
        &[
            "spec: {node: h1, interfaceName: eth0, expectedIPs: [172.17.0.2, 10.0.0.1]}",
            "spec: {node: h1, interfaceName: '*', profiles: [nope]}",
            "spec: {node: h3, expectedIPs: [10.0.0.1, fd00::1], profiles: [p], ports: [{name: web, protocol: UDP, port: 53}]}",
        ],
    ),
    (
        "GlobalNetworkSet n",
        &[
            "spec: {nets: [10.0.0.0/8, 10.0.0.1/32]}",
            "spec: {nets: [10.0.0.1/32, 0.0.0.0/0]}",
            "spec: {nets: [10.0.0.1/32, fd00::/8, nonsense]}",
        ],
    ),
    (
        "GlobalNetworkPolicy x",
        &[
            "spec: {selector: all(), ingress: [{action: Allow, source: {selector: role == 'x'}}]}",
            "spec: {tier: t, selector: role == 'x', egress: [{action: Pass, protocol: TCP, destination: {ports: [web]}}]}",
            "spec: {order: 1, selector: has(role), ingress: [{action: Deny, http: {methods: [GET]}}]}",
        ],
    ),
    (
        "GlobalNetworkPolicy y",
        &[
            "spec: {order: 5, ingress: [{action: Deny, source: {notSelector: has(role)}}]}",
            "spec: {doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}]}",
            "spec: {tier: t, applyOnForward: true, ingress: [{action: Log}], egress: [{action: Allow}]}",
        ],
    ),
    ("Tier t", &["spec: {order: 3}", "spec: {order: 3000000, defaultAction: Pass}"]),
    (
        "Profile p",
        &[
            "spec: {labelsToApply: {role: x}, ingress: [{action: Allow}]}",
            "spec: {egress: [{action: Deny, destination: {selector: role == 'y'}}]}",
        ],
    ),
    (
        "FelixConfiguration default",
        &["spec: {interfaceExclude: eth0}", "spec: {failsafeInboundHostPorts: [], ipv6Support: false}"],
    ),
];

const LABELS: [&str; 3] = ["{}", "{role: x}", "{role: y}"];

/// The update that puts choice `choice` of `UNIVERSE[at]`, with some labels, in place; 0 removes it.
fn update(at: usize, choice: usize, labels: usize) -> Update {
    let (identity, bodies) = UNIVERSE[at];
    let (kind, name) = identity.split_once(' ').expect("kind and name");
    match choice.checked_sub(1) {
        None => gone(Kind::from_name(kind).expect("a kind"), name),
        Some(body) => {
            let labels = if kind == "FelixConfiguration" { "{}" } else { LABELS[labels] };
            set(&format!(
                "kind: {kind}\nmetadata: {{name: {name}, labels: {labels}}}\n{}",
                bodies[body % bodies.len()]
            ))
        }
    }
}

fn some_links() -> impl Strategy<Value = Interfaces> {
    prop_oneof![
        Just(links(&[("eth0", "172.17.0.2"), ("eth1", "10.0.0.1")])),
        Just(links(&[("eth0", "172.17.0.9"), ("eth1", "172.17.0.2 fd00::2")])),
        Just(links(&[("lo", "127.0.0.1")])),
    ]
}

/// What one way of telling ends in. Notices are about the way, not the end.
fn told(updates: &[Update], flush_every: usize, before: &Interfaces, after: &Interfaces) -> Desired {
    let mut calc = Calc::new("h1");
    let mut last = None;
    calc.on_interfaces(before);
    calc.on_in_sync();
    for (index, update) in updates.iter().enumerate() {
        calc.on_update(update.clone());
        if (index + 1) % flush_every == 0 {
            last = calc.flush().or(last);
        }
    }
    calc.on_interfaces(after);
    last = calc.flush().or(last);
    Desired { notices: Vec::new(), ..last.expect("an answer") }
}

proptest! {
    /// Forward with all the history, in any other order without it, with everything twice, in any cuts: one answer.
    #[test]
    fn the_answer_depends_on_the_state_only(
        history in proptest::collection::vec((0..UNIVERSE.len(), 0usize..5, 0usize..3), 0..40),
        cut in 1usize..9,
        turn in any::<prop::sample::Index>(),
        before in some_links(),
        after in some_links(),
    ) {
        let steps: Vec<Update> = history.iter().map(|(at, choice, labels)| update(*at, *choice, *labels)).collect();
        let end: BTreeMap<usize, Update> =
            history.iter().zip(&steps).map(|((at, ..), update)| (*at, update.clone())).collect();
        let mut end: Vec<Update> = end.into_values().collect();
        let from_scratch = told(&end, usize::MAX, &after, &after);
        prop_assert_eq!(&told(&steps, cut, &before, &after), &from_scratch, "forward");
        let twice: Vec<Update> = steps.iter().flat_map(|update| [update.clone(), update.clone()]).collect();
        prop_assert_eq!(&told(&twice, cut, &before, &after), &from_scratch, "twice");
        end.reverse();
        prop_assert_eq!(&told(&end, cut, &before, &after), &from_scratch, "reversed");
        let middle = if end.is_empty() { 0 } else { turn.index(end.len()) };
        end.rotate_left(middle);
        prop_assert_eq!(&told(&end, 1, &before, &after), &from_scratch, "turned");
    }
}
