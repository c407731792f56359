//! One member of a set of 100,000: what a change costs from the update to the element the kernel is told.
//!
//! `cargo run --release --example one_member [members]`. Prints medians; asserts that each change is one element.

#![expect(clippy::disallowed_methods, reason = "measuring is what this is for")]

use std::time::{Duration, Instant};

use appliance_dataplane::calc::{Calc, Update};
use appliance_dataplane::interfaces::{Interface, Interfaces};
use appliance_dataplane::nft::Ruleset;
use appliance_dataplane::render::{RenderOptions, refresh, render};
use appliance_resources::{AnyResource, manifest, set_defaults};

/// How many changes a median is taken over.
const CHANGES: u32 = 501;

fn resource(text: &str) -> AnyResource {
    let text = format!("apiVersion: projectcalico.org/v3\n{text}");
    let mut resource = manifest::read(&text, "example").expect("a readable manifest").remove(0).resource;
    set_defaults(&mut resource);
    resource
}

fn client(template: &AnyResource, number: u32) -> AnyResource {
    let AnyResource::HostEndpoint(mut endpoint) = template.clone() else {
        unreachable!("the template is one")
    };
    endpoint.metadata.name = format!("client-{number}");
    endpoint.spec.expected_ips = vec![std::net::Ipv4Addr::from(0x0a00_0000 + number * 2).to_string()];
    endpoint.into()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Changes one member after the other and follows each to the difference of the two tables' sets.
fn measure(
    calc: &mut Calc,
    ruleset: &mut Ruleset,
    mut update: impl FnMut(u32) -> AnyResource,
) -> [Duration; 3] {
    let (mut updates, mut flushes, mut refreshes) = (Vec::new(), Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let resource = Box::new(update(change));
        let before = ruleset.sets.clone();
        let start = Instant::now();
        calc.on_update(Update::Set(resource));
        updates.push(start.elapsed());
        let start = Instant::now();
        let desired = calc.flush().expect("a change");
        flushes.push(start.elapsed());
        let start = Instant::now();
        refresh(ruleset, &desired);
        let changed: usize = ruleset
            .sets
            .iter()
            .map(|(name, set)| set.elements.delta_from(&before[name].elements))
            .map(|delta| delta.added.len() + delta.removed.len())
            .sum();
        refreshes.push(start.elapsed());
        assert_eq!(changed, 1, "one element for one member");
    }
    [median(updates), median(flushes), median(refreshes)]
}

fn main() {
    let members: u32 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let mut calc = Calc::new("h1");
    for text in [
        "kind: HostEndpoint\nmetadata: {name: h1-eth0}\nspec: {node: h1, interfaceName: eth0}",
        "kind: GlobalNetworkPolicy\nmetadata: {name: p}\n\
         spec: {ingress: [{action: Allow, source: {selector: role == 'client'}}]}",
        "kind: GlobalNetworkPolicy\nmetadata: {name: q}\n\
         spec: {ingress: [{action: Allow, source: {selector: role == 'office'}}]}",
    ] {
        calc.on_update(Update::Set(Box::new(resource(text))));
    }
    let template = resource(
        "kind: HostEndpoint\nmetadata: {name: x, labels: {role: client}}\nspec: {node: h2, expectedIPs: [10.0.0.1]}",
    );
    let start = Instant::now();
    for number in 0..members {
        calc.on_update(Update::Set(Box::new(client(&template, number))));
    }
    let mut nets =
        resource("kind: GlobalNetworkSet\nmetadata: {name: n, labels: {role: office}}\nspec: {nets: []}");
    let net = |number: u32| format!("{}/31", std::net::Ipv4Addr::from(0x0b00_0000 + number * 4));
    if let AnyResource::GlobalNetworkSet(set) = &mut nets {
        set.spec.nets = (0..members).map(net).collect();
    }
    calc.on_update(Update::Set(Box::new(nets.clone())));
    let taken = start.elapsed();
    calc.on_interfaces(&Interfaces::from([("eth0".to_owned(), Interface::default())]));
    calc.on_in_sync();
    let start = Instant::now();
    let desired = calc.flush().expect("an answer");
    let first = start.elapsed();
    let start = Instant::now();
    let mut ruleset = render(&desired, &RenderOptions::default());
    println!(
        "{members} endpoints and a network set of {members}: taken in {taken:?}, first flush {first:?}, render {:?}",
        start.elapsed()
    );

    let [update, flush, refresh] =
        measure(&mut calc, &mut ruleset, |change| client(&template, members + change));
    println!(
        "one more endpoint in a set of {members}: update {update:?}, flush {flush:?}, refresh and delta {refresh:?}"
    );
    let [update, flush, refresh] = measure(&mut calc, &mut ruleset, |change| {
        if let AnyResource::GlobalNetworkSet(set) = &mut nets {
            set.spec.nets.insert((members / 2 + change) as usize, net(members + change));
        }
        nets.clone()
    });
    println!(
        "one more net in a network set of {members}: update {update:?}, flush {flush:?}, refresh and delta {refresh:?}"
    );
}
