//! Every way we know of to change our table from outside, under a running reconciler: each is put back within about a
//! second and reported with what was changed and by whom.

#![expect(
    clippy::disallowed_methods,
    reason = "that what others change is put back within a second is a promise to operators"
)]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use appliance_dataplane::Report;
use appliance_dataplane::nft::{Actual, Kernel, Nft};

use crate::listing::{listing, listing_without_handles, sorted_blocks};
use crate::netns::{NFT, Namespace, eventually, inside, sh};
use crate::reconciler::{POLICY, Running, block_on, veth};
use crate::rulesets::TABLE;

/// The promise.
const PROMISED: Duration = Duration::from_secs(1);

/// Everything to and from this host over `lo` is denied.
const LOOPBACK: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: lo}
spec: {node: here, interfaceName: lo}
";

/// Whether a packet over `lo` arrives.
fn arrives(port: u16) -> bool {
    let receiver = UdpSocket::bind(("127.0.0.1", port)).expect("bind");
    receiver.set_read_timeout(Some(Duration::from_millis(5))).expect("a time limit");
    // Denied on the way out, sending fails.
    let sent = UdpSocket::bind("127.0.0.1:0").expect("bind").send_to(b"x", ("127.0.0.1", port));
    sent.is_ok() && receiver.recv(&mut [0; 8]).is_ok()
}

#[test]
fn a_table_switched_off_is_woken_and_nothing_else_is_touched() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            let mut running = Running::enforcing(LOOPBACK, None).await;
            let before = listing(namespace);
            assert!(!arrives(7_001), "denied");
            let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
            for round in 1..=3 {
                let generation = kernel.generation().expect("ask").expect("known");
                let changed = Instant::now();
                namespace.nft(&format!("add table inet {TABLE} {{ flags dormant; }}"));
                // The reconciler shares this thread, so nothing has been put back yet.
                assert!(arrives(7_001), "the table is off");
                assert!(kernel.dormant().await.expect("ask"));
                let report = running.reported(|report| report.drift.repairs == round).await;
                assert!(changed.elapsed() < PROMISED, "{:?}", changed.elapsed());
                assert!(!arrives(7_001), "denied again");
                let change = &report.drift.last_change;
                assert!(
                    change.starts_with("the table was switched off (flags dormant) (by nft (pid "),
                    "{change}"
                );
                assert!(change.ends_with("): switched the table off)"), "{change}");
                assert_eq!(listing(namespace), before, "no rule has another handle");
                let now = kernel.generation().expect("ask").expect("known");
                assert_eq!(now, generation.wrapping_add(2), "one commit of theirs and one of ours");
            }
            running.killed().await;
            namespace.nft(&format!("add table inet {TABLE} {{ flags dormant; }}"));
            let mut without = Kernel::without_netlink(NFT.as_ref(), TABLE);
            assert!(without.dormant().await.expect("ask"), "seen without netlink");
            Running::enforcing(LOOPBACK, None).await.killed().await;
            assert!(!arrives(7_001), "a start wakes it");
            assert_eq!(listing(namespace), before);
        });
    });
}

/// The names of things in the table, as changes need them.
struct Names {
    chain: String,
    set: String,
    map: String,
    interface: String,
    target: String,
    dispatcher: String,
    handle: String,
}

impl Names {
    fn of(namespace: &Namespace, known: &Actual) -> Names {
        let text = listing_without_handles(namespace);
        let set = known.sets.iter().find(|(_, set)| format!("{set:?}").contains("192.0.2.0/24"));
        let (map, elements) = known
            .maps
            .iter()
            .find(|(name, elements)| {
                text.contains(&format!("vmap @{name}"))
                    && elements.as_ref().is_some_and(|elements| !elements.is_empty())
            })
            .expect("a map in use");
        let (interface, verdict) = elements.iter().flatten().next().expect("an interface");
        let target = verdict.target().expect("a chain").to_owned();
        let with_handles = namespace.nft(&format!("list chain inet {TABLE} {target}"));
        assert!(with_handles.contains("chain"), "{with_handles}");
        let rules =
            sh(&["ip", "netns", "exec", &namespace.name, NFT, "-a", "list", "chain", "inet", TABLE, &target]);
        let handle = rules
            .lines()
            .filter(|line| line.contains("comment"))
            .find_map(|line| line.rsplit_once("handle "));
        Names {
            chain: known.chains.iter().find(|(_, chain)| chain.rules.len() > 1).expect("a chain").0.clone(),
            set: set.expect("a set of clients").0.clone(),
            map: map.clone(),
            interface: interface.clone(),
            dispatcher: known
                .chains
                .iter()
                .find(|(name, _)| text.contains(&format!("chain {name} {{\n\t\ttype filter hook input")))
                .expect("input")
                .0
                .clone(),
            handle: handle.expect("a rule").1.to_owned(),
            target,
        }
    }
}

/// What to do, and what the report must say was changed.
fn changes(names: &Names) -> Vec<(String, String)> {
    let Names { chain, set, map, interface, target, dispatcher, handle } = names;
    let t = format!("inet {TABLE}");
    let empty = format!("flush table {t}");
    let changed = |what: &str, name: &str| format!("{what} {name} was changed");
    let added = |what: &str, name: &str| format!("{what} {name} was added");
    let deleted = |what: &str, name: &str| format!("{what} {name} was deleted");
    vec![
        (format!("delete rule {t} {target} handle {handle}"), changed("chain", target)),
        (format!("flush chain {t} {chain}"), changed("chain", chain)),
        (format!("delete element {t} {set} {{ 192.0.2.0/24 }}"), changed("set", set)),
        (format!("add element {t} {set} {{ 203.0.113.0/24 }}"), changed("set", set)),
        (format!("add element {t} {set} {{ 203.0.113.0/24 comment \"x\" }}"), changed("set", set)),
        (format!("flush set {t} {set}"), changed("set", set)),
        (format!("delete element {t} {map} {{ \"{interface}\" }}"), changed("map", map)),
        (
            format!(
                "delete element {t} {map} {{ \"{interface}\" }}; add element {t} {map} {{ \"{interface}\" : accept }}"
            ),
            changed("map", map),
        ),
        (format!("add element {t} {map} {{ \"stranger\" : drop }}"), changed("map", map)),
        (empty.clone(), changed("chain", chain)),
        (format!("{empty}; delete set {t} {set}"), deleted("set", set)),
        (format!("{empty}; delete map {t} {map}"), deleted("map", map)),
        (
            format!("{empty}; delete map {t} {map}; add map {t} {map} {{ type ifname : verdict; size 5; }}"),
            changed("map", map),
        ),
        (format!("{empty}; flush map {t} {map}; delete chain {t} {target}"), deleted("chain", target)),
        (
            format!(
                "add chain {t} stranger {{ type filter hook input priority -500; policy accept; }}; add rule {t} stranger accept"
            ),
            added("chain", "stranger"),
        ),
        (
            format!("add chain {t} stranger {{ type filter hook output priority 500; policy drop; }}"),
            added("chain", "stranger"),
        ),
        (
            format!(
                "add chain {t} stranger; add rule {t} stranger accept; insert rule {t} {dispatcher} goto stranger"
            ),
            added("chain", "stranger"),
        ),
        (format!("insert rule {t} {dispatcher} jump {{ accept; }}"), changed("chain", dispatcher)),
        (
            format!("add chain {t} {dispatcher} {{ type filter hook input priority -5; policy drop; }}"),
            changed("chain", dispatcher),
        ),
        (
            format!(
                "{empty}; delete chain {t} {dispatcher}; add chain {t} {dispatcher} {{ type filter hook input priority 77; policy accept; }}"
            ),
            changed("chain", dispatcher),
        ),
        (
            format!("{empty}; delete chain {t} {dispatcher}; add chain {t} {dispatcher}"),
            changed("chain", dispatcher),
        ),
        (
            format!(
                "add quota {t} stranger {{ over 10 mbytes; }}; insert rule {t} {dispatcher} quota name \"stranger\" accept"
            ),
            added("quota", "stranger"),
        ),
        (format!("add limit {t} stranger {{ rate 10/second; }}"), added("limit", "stranger")),
        (
            format!("add ct helper {t} stranger {{ type \"ftp\" protocol tcp; }}"),
            added("ct helper", "stranger"),
        ),
        (
            format!(
                "add map {t} stranger {{ type ipv4_addr : verdict; elements = {{ 10.0.0.1 : goto {target} }}; }}; insert rule {t} {dispatcher} ip saddr vmap @stranger"
            ),
            added("map", "stranger"),
        ),
        (
            format!("add table {t} {{ flags dormant; }}; flush chain {t} {dispatcher}"),
            "the table was switched off".to_owned(),
        ),
        (format!("delete table {t}"), "the table was deleted".to_owned()),
        ("flush ruleset".to_owned(), "the table was deleted".to_owned()),
        (format!("delete table {t}; add table {t}"), deleted("chain", dispatcher)),
    ]
}

/// The table without handles, block by block: a table made anew lists its objects in another order.
fn blocks(namespace: &Namespace) -> Vec<String> {
    sorted_blocks(listing_without_handles(namespace).lines())
}

async fn put_back(namespace: &Namespace, running: &mut Running, change: &str, words: &str) {
    let (wanted, repairs) = (blocks(namespace), running.report.borrow().drift.repairs);
    namespace.nft(change);
    assert_ne!(blocks_or_none(namespace), wanted, "{change} changes nothing, so the test shows nothing");
    let report = running.reported(|report| report.drift.repairs > repairs).await;
    assert_eq!(blocks(namespace), wanted, "after {change}");
    let said = &report.drift.last_change;
    assert!(said.contains(words) && said.contains("(by nft (pid "), "after {change}: {said}");
}

#[test]
fn every_foreign_change_is_put_back_and_named() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
            let mut running = Running::enforcing(POLICY, None).await;
            let count = changes(&Names::of(namespace, &kernel.list().await.expect("list"))).len();
            for at in 0..count {
                // Handles are new after each repair.
                let names = Names::of(namespace, &kernel.list().await.expect("list"));
                let (change, words) = changes(&names).swap_remove(at);
                put_back(namespace, &mut running, &change, &words).await;
            }
            let chains = kernel.list().await.expect("list").chains;
            for chain in chains.keys() {
                let change = format!("insert rule inet {TABLE} {chain} accept");
                put_back(namespace, &mut running, &change, &format!("chain {chain} was changed")).await;
            }
            running.killed().await;
        });
    });
}

/// Someone empties everything as fast as it can for three seconds.
#[test]
fn a_flood_of_flushes_ends_with_the_policy_in_force() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let mut running = Running::enforcing(POLICY, None).await;
            let wanted = blocks(namespace);
            let name = namespace.name.clone();
            let flood =
                "end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do nft flush ruleset; done";
            let flood =
                tokio::task::spawn_blocking(move || sh(&["ip", "netns", "exec", &name, "sh", "-c", flood]));
            flood.await.expect("it ends");
            let ended = Instant::now();
            eventually(async || {
                if blocks_or_none(namespace) == wanted { Ok(()) } else { Err(blocks_or_none(namespace)) }
            })
            .await;
            assert!(ended.elapsed() < PROMISED, "{:?}", ended.elapsed());
            let report = running.reported(|report: &Report| report.drift.repairs > 0).await;
            println!("{} repairs in 3 s", report.drift.repairs);
            assert!(report.drift.repairs < 30, "no pauses: {} repairs", report.drift.repairs);
            assert!(report.drift.last_change.contains("(by nft (pid "), "{}", report.drift.last_change);
            running.killed().await;
        });
    });
}

/// As `blocks`, where the table may be missing.
fn blocks_or_none(namespace: &Namespace) -> Vec<String> {
    if namespace.nft("list tables").contains(TABLE) { blocks(namespace) } else { Vec::new() }
}

/// More announcements than the socket holds: that something was missed is enough to look.
#[test]
fn a_change_among_more_announcements_than_fit_is_put_back() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let mut running = Running::enforcing(POLICY, None).await;
            let (before, wanted) = (listing(namespace), blocks(namespace));
            let dispatcher =
                Names::of(namespace, &Kernel::open(NFT.as_ref(), TABLE).list().await.expect("list"))
                    .dispatcher;
            let many: Vec<String> =
                (0..400_000u32).map(|at| std::net::Ipv4Addr::from(0x0a00_0000 + at).to_string()).collect();
            let file = tempfile::NamedTempFile::new().expect("a file");
            let script = format!(
                "table ip other {{ set s {{ type ipv4_addr; elements = {{ {} }}; }}; }}\ninsert rule inet {TABLE} {dispatcher} accept\n",
                many.join(", ")
            );
            std::fs::write(file.path(), script).expect("write");
            // The reconciler shares this thread and can not read meanwhile.
            namespace.run(&format!("nft -f {}", file.path().display()));
            assert_ne!(listing(namespace), before);
            let changed = Instant::now();
            let report = running.reported(|report| report.drift.repairs == 1).await;
            assert!(changed.elapsed() < PROMISED, "{:?}", changed.elapsed());
            assert_eq!(
                report.drift.last_change,
                format!("chain {dispatcher} was changed"),
                "nobody could be named"
            );
            assert_eq!(blocks(namespace), wanted);
            running.killed().await;
        });
    });
}
