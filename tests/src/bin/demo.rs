//! `make demo`: the README's tour on two hosts in network namespaces, with real packets, leaving nothing behind.

use std::net::IpAddr;

use appliance_tests::netns::{Host, Lan};
use appliance_tests::node::Node;
use appliance_tests::packets::{self, Listeners};

/// Ports on which both hosts answer.
const PORTS: [u16; 4] = [22, 53, 80, 443];

/// What is asked of the network before and after each step.
const QUESTIONS: [(&str, Ask); 8] = [
    ("client → host  ssh    tcp/22   IPv4", |lan| {
        packets::tcp(&lan.client.namespace, IpAddr::V4(lan.host.ipv4), 22)
    }),
    ("client → host  http   tcp/80   IPv4", |lan| {
        packets::tcp(&lan.client.namespace, IpAddr::V4(lan.host.ipv4), 80)
    }),
    ("client → host  http   tcp/80   IPv6", |lan| {
        packets::tcp(&lan.client.namespace, IpAddr::V6(lan.host.ipv6), 80)
    }),
    ("client → host  https  tcp/443  IPv4", |lan| {
        packets::tcp(&lan.client.namespace, IpAddr::V4(lan.host.ipv4), 443)
    }),
    ("client → host  ping            IPv4", |lan| {
        packets::ping(&lan.client.namespace, IpAddr::V4(lan.host.ipv4))
    }),
    ("host → client  dns    udp/53   IPv4", |lan| {
        packets::udp(&lan.host.namespace, IpAddr::V4(lan.client.ipv4), 53)
    }),
    ("host → client  http   tcp/80   IPv4", |lan| {
        packets::tcp(&lan.host.namespace, IpAddr::V4(lan.client.ipv4), 80)
    }),
    ("host → client  http   tcp/80   IPv6", |lan| {
        packets::tcp(&lan.host.namespace, IpAddr::V6(lan.client.ipv6), 80)
    }),
];

type Ask = fn(&Demo) -> bool;

const ENDPOINT: &str = "- apiVersion: projectcalico.org/v3
  kind: HostEndpoint
  metadata:
    name: my-host-eth0
    labels:
      role: webserver
      environment: production
  spec:
    interfaceName: eth0
    node: my-host
    expectedIPs: [\"172.17.0.2\"]
";

const POLICY: &str = "apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata:
  name: customers
  labels: {who: customer}
spec:
  nets: [172.17.0.9/32, \"fd17::/64\"]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: allow-http
spec:
  selector: role == 'webserver'
  ingress:
  - action: Allow
    protocol: TCP
    source: {selector: who == 'customer'}
    destination: {ports: [80]}
";

struct Demo {
    host: Host,
    client: Host,
    node: Node,
    _lan: Lan,
    _listeners: [Listeners; 2],
}

fn main() {
    let demo = Demo::start();
    println!(
        "Two hosts on a LAN of their own, in network namespaces: my-host (172.17.0.2) runs the appliance,"
    );
    println!("client (172.17.0.9) does not. Both answer on {PORTS:?}.");
    let mut columns = vec![("nothing", demo.ask())];

    demo.type_and_show(&["create", "-f", "-"], ENDPOINT);
    demo.node.wait_enforced();
    columns.push(("endpoint", demo.ask()));

    demo.type_and_show(&["apply", "-f", "-"], POLICY);
    demo.node.wait_enforced();
    columns.push(("+ policy", demo.ask()));
    demo.type_and_show(&["get", "hostendpoints", "-o", "wide"], "");
    demo.type_and_show(&["endpoint", "show", "--detailed"], "");

    demo.type_and_show(&["delete", "hostendpoint", "my-host-eth0"], "");
    demo.node.wait_enforced();
    columns.push(("deleted", demo.ask()));
    print_table(&columns);
}

impl Demo {
    fn start() -> Demo {
        let lan = Lan::new();
        let (host, client) = (lan.host(2), lan.host(9));
        let listeners = [&host, &client].map(|of| Listeners::new(&of.namespace, &PORTS));
        let node = Node::start(&host, "my-host");
        Demo { host, client, node, _lan: lan, _listeners: listeners }
    }

    fn ask(&self) -> Vec<bool> {
        QUESTIONS.iter().map(|(_, ask)| ask(self)).collect()
    }

    fn type_and_show(&self, arguments: &[&str], input: &str) {
        println!("\nmy-host# appliance ctl {}", arguments.join(" "));
        print!("{input}");
        let printed = self.node.ctl_with(arguments, input);
        print!("{}{}", printed.out, printed.err);
        assert_eq!(printed.code, 0, "the tour stops here");
    }
}

fn print_table(columns: &[(&str, Vec<bool>)]) {
    println!("\nWhat got through, step by step:\n");
    print!("{:38}", "");
    columns.iter().for_each(|(title, _)| print!("{title:>10}"));
    println!();
    for (index, (question, _)) in QUESTIONS.iter().enumerate() {
        print!("{question:38}");
        columns.iter().for_each(|(_, answers)| print!("{:>10}", if answers[index] { "yes" } else { "-" }));
        println!();
    }
    println!("\nssh in and DNS out are failsafes: no policy closes them. The namespaces are gone now.");
}
