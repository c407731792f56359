//! The network that clusters are tried on does what it is told: else a partition that cut nothing would prove nothing.

use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use appliance_tests::eventually::eventually_true;
use appliance_tests::netem::{Link, Network};
use appliance_tests::netns::Host;
use appliance_tests::packets::{self, Listeners};

const PORT: u16 = 8055;

/// Sends numbered datagrams to a host, and returns the numbers in the order in which they came.
fn sent(from: &Host, to: &Host, count: u32, pause: Duration) -> Vec<u32> {
    let receiver = to.namespace.inside(|| UdpSocket::bind(("0.0.0.0", 9000)).expect("a socket"));
    receiver.set_read_timeout(Some(Duration::from_millis(500))).expect("a time limit");
    let sender = from.namespace.inside(|| UdpSocket::bind(("0.0.0.0", 0)).expect("a socket"));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                sender.send_to(&number.to_be_bytes(), (to.ipv4, 9000)).expect("send");
                thread::sleep(pause);
            }
        });
        let mut came = Vec::new();
        let mut buffer = [0; 4];
        while receiver.recv(&mut buffer).is_ok() {
            came.push(u32::from_be_bytes(buffer));
        }
        came
    })
}

#[test]
fn hosts_reach_each_other_unless_a_link_is_cut_and_a_cut_may_be_one_way() {
    let network = Network::new(1);
    let (a, b, c) = (network.host(2), network.host(3), network.host(4));
    let _listeners = [&a, &b, &c].map(|host| Listeners::new(&host.namespace, &[PORT]));
    let tcp = |from: &Host, to: &Host| packets::tcp(&from.namespace, IpAddr::V4(to.ipv4), PORT);
    assert!(tcp(&a, &b) && tcp(&b, &c) && packets::tcp(&a.namespace, IpAddr::V6(c.ipv6), PORT));
    network.partition(&[2], &[3, 4]);
    assert!(!tcp(&a, &b) && !tcp(&c, &a) && tcp(&b, &c));
    network.heal();
    eventually_true("the links to be good again", || tcp(&a, &b) && tcp(&c, &a));
    network.cut_one_way(&[2], &[3]);
    assert!(sent(&a, &b, 3, Duration::ZERO).is_empty());
    assert_eq!(sent(&b, &a, 3, Duration::ZERO).len(), 3, "the way back is open");
    assert_eq!(sent(&a, &c, 3, Duration::ZERO).len(), 3, "and so are others");
}

#[test]
fn a_bad_link_loses_repeats_delays_and_reorders_as_much_as_it_should() {
    let network = Network::new(2);
    let (a, b) = (network.host(2), network.host(3));
    let pause = Duration::from_micros(300);
    assert_eq!(sent(&a, &b, 300, pause), (0..300).collect::<Vec<_>>(), "a good link loses nothing");
    network.set(2, 3, Link { loss: 30, ..Link::default() });
    let came = sent(&a, &b, 300, pause).len();
    assert!((150..270).contains(&came), "{came} of 300 came though 30 of 100 are lost");
    network.set(2, 3, Link { duplicate: 30, ..Link::default() });
    let came = sent(&a, &b, 300, pause).len();
    assert!((330..450).contains(&came), "{came} of 300 came though 30 of 100 come twice");
    network.set(2, 3, Link { delay: Duration::from_millis(60), ..Link::default() });
    let asked = Instant::now();
    assert_eq!(sent(&a, &b, 20, pause).len(), 20);
    assert!(
        asked.elapsed() >= Duration::from_millis(560),
        "it takes its time, and then the receiver's patience"
    );
    network.set(2, 3, Link { jitter: Duration::from_millis(20), ..Link::default() });
    let came = sent(&a, &b, 300, pause);
    // A busy machine's socket may overflow when many come at once.
    assert!(
        came.len() > 200 && !came.is_sorted(),
        "{} of 300 came, and some overtake others: {came:?}",
        came.len()
    );
}

#[test]
fn a_narrow_link_lets_so_much_through_and_no_more() {
    let network = Network::new(3);
    let (a, b) = (network.host(2), network.host(3));
    network.set(2, 3, Link { rate: Some(4_000), ..Link::default() });
    let (passed, _) = network.counted();
    let came = sent(&a, &b, 300, Duration::from_millis(2));
    let (through, lost) = network.counted();
    // About 54 bytes each: two seconds' worth at most, with what the queue holds.
    assert!(!came.is_empty() && came.len() < 200 && lost > 0, "{} came, {lost} lost", came.len());
    assert!(through > passed);
}
