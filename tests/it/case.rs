//! Behaviour cases in the notation of the reference they come from: `x → h1:8055 ✔, x → h1:22/udp ✘, x → h1 ping ✔`.
//!
//! Every packet of a case is on its way at the same time, because each one that policy drops costs the sender its
//! whole patience. A case fails with its name and every answer that was not the expected one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;

use appliance_tests::netns::{Host, Namespace};
use appliance_tests::packets;

use crate::world::World;

/// Someone who can ask and be asked.
pub(crate) struct Party<'a> {
    name: &'static str,
    namespace: &'a Namespace,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

/// Everyone in a case.
pub(crate) struct Parties<'a>(Vec<Party<'a>>);

impl<'a> Parties<'a> {
    pub(crate) fn new(hosts: &[(&'static str, &'a Host)]) -> Parties<'a> {
        let party = |(name, host): &(&'static str, &'a Host)| Party {
            name,
            namespace: &host.namespace,
            ipv4: host.ipv4,
            ipv6: host.ipv6,
        };
        Parties(hosts.iter().map(party).collect())
    }

    /// h1, h2 and x; `h1` is also known as `lo` to itself.
    pub(crate) fn of(world: &'a World) -> Parties<'a> {
        let mut parties = Parties::new(&[("h1", &world.h1), ("h2", &world.h2), ("x", &world.x)]);
        parties.0.push(Party {
            name: "lo",
            namespace: &world.h1.namespace,
            ipv4: Ipv4Addr::LOCALHOST,
            ipv6: Ipv6Addr::LOCALHOST,
        });
        parties
    }

    /// Sends every packet of a case at once and compares what got through and back.
    ///
    /// # Panics
    /// When an answer differs, or `expected` is not in the notation.
    #[track_caller]
    pub(crate) fn play(&self, case: &str, expected: &str) {
        let questions: Vec<&str> = expected.split(',').map(str::trim).collect();
        let wrong: Vec<&str> = thread::scope(|scope| {
            let asked: Vec<_> = questions
                .iter()
                .map(|question| (question, scope.spawn(|| self.ask(question) == question.ends_with('✔'))))
                .collect();
            let right =
                asked.into_iter().map(|(question, answer)| (question, answer.join().expect("an answer")));
            right.filter(|(_, right)| !right).map(|(question, _)| *question).collect()
        });
        assert!(wrong.is_empty(), "{case}: not so: {}", wrong.join(", "));
    }

    fn ask(&self, question: &str) -> bool {
        let words: Vec<&str> = question.split_whitespace().collect();
        match words.as_slice() {
            [from, "→", to, "ping", "✔" | "✘"] => {
                packets::ping(self.party(from).namespace, self.address(to))
            }
            [from, "→", to, "✔" | "✘"] => {
                let (to, port) = to.split_once(':').expect("a port");
                let (port, udp) = port.strip_suffix("/udp").map_or((port, false), |port| (port, true));
                let (from, to) = (self.party(from).namespace, self.address(to));
                let port = port.parse().expect("a port's number");
                if udp { packets::udp(from, to, port) } else { packets::tcp(from, to, port) }
            }
            _ => panic!("not a question: {question:?}"),
        }
    }

    /// `h1` is h1 over IPv4, `h1/6` over IPv6.
    fn address(&self, to: &str) -> IpAddr {
        match to.strip_suffix("/6") {
            Some(name) => self.party(name).ipv6.into(),
            None => self.party(to).ipv4.into(),
        }
    }

    fn party(&self, name: &str) -> &Party<'_> {
        self.0.iter().find(|party| party.name == name).unwrap_or_else(|| panic!("nobody is called {name:?}"))
    }
}
