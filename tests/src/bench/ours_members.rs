//! Our side as a cluster: nodes on hosts of one segment, joined as an operator joins them, with default timers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::Value;

use super::h2::Credentials;
use super::ours;
use crate::api::Api;
use crate::eventually::eventually;
use crate::netns::Host;
use crate::node::Node;

const API: u16 = 6443;

/// A cluster of nodes that leave the kernel alone.
pub struct Ours {
    /// By number.
    pub nodes: Vec<Node>,
    addresses: Vec<Ipv4Addr>,
}

impl Ours {
    /// Forms a cluster of a node on each host, all of them voters. `wrapper` is what each process runs under.
    ///
    /// # Panics
    /// When it does not form.
    #[must_use]
    pub fn form(hosts: &[&Host], wrapper: &[&str]) -> Ours {
        let mut ours = Ours { nodes: Vec::new(), addresses: hosts.iter().map(|host| host.ipv4).collect() };
        for (number, host) in hosts.iter().enumerate() {
            let address = host.ipv4.to_string();
            let arguments = ["--no-enforce", "--advertise-address", &address, "--snapshot-interval", "off"];
            let mut node = Node::prepare(host, &format!("h{}", number + 1), &arguments);
            node.set_wrapper(wrapper);
            if number == 0 {
                node.run();
                ours.nodes.push(node);
            } else {
                node.set_argument("--join", &format!("{}:{API}", ours.addresses[0]));
                node.set_argument("--token", &ours.token());
                node.spawn();
                ours.nodes.push(node);
                ours.wait_voter(number);
            }
        }
        ours
    }

    /// Where a member serves clients.
    #[must_use]
    pub fn address(&self, number: usize) -> SocketAddr {
        (self.addresses[number], API).into()
    }

    /// The admin's credentials, which every member takes.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        ours::credentials(&self.nodes[0])
    }

    /// The member that leads.
    ///
    /// # Panics
    /// When none does for long.
    #[must_use]
    pub fn leader(&self) -> usize {
        let running = || self.nodes.iter().filter(|node| node.pid().is_some());
        let leads = |node: &Node| {
            let status = status(node)?;
            let leader = status["leader"].as_str().filter(|_| status["quorum"] == true)?.to_owned();
            let members = status["members"].as_array()?.clone();
            let member = members.into_iter().find(|member| member["id"] == leader.as_str())?;
            (0..self.nodes.len()).find(|number| member["name"] == format!("h{}", number + 1))
        };
        let known = |number: &usize| self.nodes[*number].pid().is_some();
        eventually(
            "our cluster to have a leader",
            || running().find_map(leads).filter(known),
            Option::is_some,
        )
        .expect("it has")
    }

    fn token(&self) -> String {
        let printed = self.nodes[0].ctl(&["token", "create"]);
        let text = format!("{} {}", printed.out, printed.err);
        let token = text.split_whitespace().find(|word| word.starts_with("at1."));
        token.unwrap_or_else(|| panic!("no token in {printed:?}")).to_owned()
    }

    fn wait_voter(&self, number: usize) {
        let name = format!("h{}", number + 1);
        let role = || {
            let status = status(&self.nodes[0])?;
            let member =
                status["members"].as_array()?.iter().find(|member| member["name"] == name.as_str())?;
            member["role"].as_str().map(str::to_owned)
        };
        let _ = eventually(&format!("{name} to vote"), role, |role| role.as_deref() == Some("voter"));
    }
}

fn status(node: &Node) -> Option<Value> {
    let answer = Api::new(Path::new(&node.socket()).to_owned()).ask("GET", "/cluster/status", None).ok()?;
    (answer.status == 200).then_some(answer.body)
}
