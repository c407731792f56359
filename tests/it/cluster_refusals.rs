//! Whoever may not join is refused in clear words, and both ends say the same: the node that wanted in, and the member that
//! it asked.

use std::fs;
use std::net::Ipv4Addr;

use appliance_tests::cluster::{Cluster, Options};
use appliance_tests::dice::seed;
use appliance_tests::netns::Host;
use appliance_tests::node::Node;

use crate::cluster_clocks::{moved_by, step};

/// More than a minute, which the shortest of tokens lives, and less than clocks may differ by.
const PAST_A_MINUTE: i64 = 120;

/// And half a minute, in which the question travels.
const HOUR: i64 = 3_630;

/// What a member logs of a node that it refuses, before the reason.
const MAY_NOT: &str = " may not join: ";

/// What both ends said of a join that was refused.
struct Refused {
    said: String,
    logged: String,
}

/// Lets a node ask, which must end it, and collects what it and the member that it asked have said since.
fn refused(asked: &Node, mut joiner: Node) -> Refused {
    let before = asked.log().len();
    joiner.spawn();
    let status = joiner.wait();
    let said = joiner.log();
    assert_eq!(status.code(), Some(1), "{said}");
    Refused { said, logged: asked.log().split_off(before) }
}

impl Refused {
    /// Demands that the member has logged a reason with these words for this node, and that the node was told the same.
    fn for_the_same(&self, name: &str, from: Ipv4Addr, words: &[&str]) {
        let Refused { said, logged } = self;
        let line = logged.lines().find(|line| line.contains("WARN") && line.contains(MAY_NOT));
        let (who, reason) = line.and_then(|line| line.split_once(MAY_NOT)).unwrap_or_else(|| {
            panic!("the member that was asked says nothing of it: {logged}\n{name} says {said}")
        });
        assert!(who.contains(&format!("node {name} at {from}")), "{who}");
        assert!(words.iter().all(|word| reason.contains(word)), "not for {words:?}, but: {reason}");
        assert!(said.contains(reason), "the member says {reason:?}, and {name} says {said}");
    }
}

/// A cluster of one, whose clock is right as yet, and a stranger's host.
struct World {
    cluster: Cluster,
    clocks: tempfile::TempDir,
    stranger: Host,
}

impl World {
    fn new() -> World {
        let mut cluster = Cluster::prepare(1, Options { seed: seed(), ..Options::default() });
        let clocks = tempfile::tempdir().expect("a directory");
        let stamp = clocks.path().join("member");
        step(&stamp, 0);
        for (variable, value) in moved_by(&stamp) {
            cluster.nodes[0].set_environment(variable, &value);
        }
        cluster.nodes[0].run();
        let stranger = cluster.network.host(77);
        World { cluster, clocks, stranger }
    }

    /// A node of this name on the stranger's host that has this token.
    fn joiner(&self, name: &str, token: &str) -> Node {
        let door = format!("{}:6443", self.cluster.hosts[0].ipv4);
        let own = self.stranger.ipv4.to_string();
        let arguments = ["--no-enforce", "--advertise-address", &own, "--join", &door, "--token", token];
        Node::prepare(&self.stranger, name, &arguments)
    }

    fn refuses(&self, joiner: Node, name: &str, words: &[&str]) {
        refused(&self.cluster.nodes[0], joiner).for_the_same(name, self.stranger.ipv4, words);
    }

    fn tokens(&mut self) {
        let good = self.cluster.token(0, &["--uses", "1"]);
        let parts: Vec<&str> = good.split('.').collect();
        let zeros = "0".repeat(parts[2].len());
        let wrong = format!("{}.{}.{zeros}.{}", parts[0], parts[1], parts[3]);
        self.refuses(self.joiner("h2", &wrong), "h2", &["the token is not valid"]);
        assert!(!self.cluster.nodes[0].log().contains(&zeros), "a secret in the log");

        let revoked = self.cluster.token(0, &[]);
        let id = revoked.split('.').nth(1).expect("an id").to_owned();
        let _ = self.cluster.ctl(0, &["token", "revoke", &id]).success();
        self.refuses(self.joiner("h2", &revoked), "h2", &["the token is not valid", "was revoked"]);

        let number = self.cluster.add_host();
        self.cluster.begin_join_with(number, 0, &good);
        self.cluster.wait_role(number, "voter");
        self.refuses(self.joiner("h3", &good), "h3", &["the token is used up, by h2"]);
    }

    /// The authority that a token pins is not the one that is shown: the joiner ends it there, before it has said who it is.
    fn pins(&self) {
        let token = self.cluster.token(0, &[]);
        let (rest, pin) = token.rsplit_once('.').expect("a pin");
        let other = format!("{rest}.{}", "0".repeat(pin.len()));
        let Refused { said, logged } = refused(&self.cluster.nodes[0], self.joiner("h3", &other));
        let reason = "its certificate authority is not the one that the token pins";
        assert!(said.contains(reason), "{said}");
        let heard = format!("{} does not", self.stranger.ipv4);
        let line = logged.lines().find(|line| line.contains("does not trust this node's certificate"));
        let line = line.unwrap_or_else(|| panic!("the member says nothing of it: {logged}"));
        assert!(line.contains(&heard) && line.contains("join token of another cluster"), "{line}");
    }

    fn names(&self) {
        let token = self.cluster.token(0, &[]);
        let member = self.cluster.member_seen_by(0, 0).expect("a member")["id"].clone();
        let member = member.as_str().expect("an id");
        self.refuses(self.joiner("h1", &token), "h1", &["the node name h1 belongs to member", member]);
    }

    fn versions(&self) {
        for (version, words) in [
            ("older-protocol", ["it speaks protocol 0", "this cluster speaks 1"]),
            ("newer-protocol", ["it speaks protocol 2", "this cluster speaks 1"]),
        ] {
            let mut joiner = self.joiner("h3", &self.cluster.token(0, &[]));
            joiner.set_environment("APPLIANCE_PLANTED_BUG", version);
            let refused = refused(&self.cluster.nodes[0], joiner);
            // Whoever speaks another protocol may tell its name otherwise as well.
            refused.for_the_same("unknown", self.stranger.ipv4, &words);
        }
    }

    fn clocks(&self) {
        let stamp = self.clocks.path().join("joiner");
        for (off, words) in [(HOUR, "60 minutes ahead of"), (-HOUR, "60 minutes behind")] {
            step(&stamp, off);
            let mut joiner = self.joiner("h3", &self.cluster.token(0, &[]));
            for (variable, value) in moved_by(&stamp) {
                joiner.set_environment(variable, &value);
            }
            let refused = refused(&self.cluster.nodes[0], joiner);
            refused.for_the_same("unknown", self.stranger.ipv4, &["its clock is", words]);
        }
    }

    /// The clock of the member goes on, and not the joiner's: a token's end is by the word of whoever lets in.
    fn expiry(&self) {
        let token = self.cluster.token(0, &["--ttl", "60s"]);
        step(&self.clocks.path().join("member"), PAST_A_MINUTE);
        self.refuses(self.joiner("h3", &token), "h3", &["the token expired at"]);
        step(&self.clocks.path().join("member"), 0);
    }
}

#[test]
fn whoever_may_not_join_is_told_why_and_so_is_the_member_that_was_asked() {
    let mut world = World::new();
    world.tokens();
    world.pins();
    world.names();
    world.versions();
    world.clocks();
    world.expiry();
    // With none of it wrong it may.
    let number = world.cluster.add_host();
    world.cluster.join(number, 1);
    let status = world.cluster.status(0).expect("a status");
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "nobody else came in: {status}");
}

#[test]
fn a_node_with_another_clusters_data_is_refused_at_both_ends() {
    let mut cluster = Cluster::prepare(3, Options { seed: seed(), ..Options::default() });
    cluster.nodes[0].run();
    cluster.join(1, 0);
    // Told to join somebody of whom its data says nothing, it will not, and says so there too.
    cluster.nodes[2].run();
    cluster.nodes[2].stop();
    let token = cluster.token(0, &[]);
    cluster.begin_join_with(2, 0, &token);
    let status = cluster.nodes[2].wait();
    let said = cluster.nodes[2].log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to a member of cluster"), "{said}");
    let heard = cluster.nodes[0].logged("its data directory belongs to a member of cluster");
    assert!(heard.contains("WARN") && heard.contains("h3"), "{heard}");

    // Where a member that it knows was, there is one of another cluster now: it asks, and neither believes the other.
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    fs::remove_dir_all(cluster.nodes[0].data_dir()).expect("take its data away");
    cluster.nodes[0].run();
    let token = cluster.token(0, &[]);
    cluster.begin_join_with(1, 0, &token);
    let (before, first) = (cluster.hosts[1].ipv4, cluster.hosts[0].ipv4);
    let heard = cluster.nodes[0].logged(&format!("a connection from {before} was not accepted"));
    assert!(heard.contains("WARN") && heard.contains("to it this member is of another cluster"), "{heard}");
    let refused = || {
        let said = cluster.nodes[1].log();
        let line = |line: &&str| {
            line.contains("is not reached at") && line.contains("no certificate of this cluster")
        };
        said.lines().rfind(line).map(str::to_owned)
    };
    let refused = cluster.eventually("its word for it", refused, Option::is_some).unwrap_or_default();
    assert!(refused.contains("WARN") && refused.contains(&format!("{first}:2380")), "{refused}");
    let status = cluster.status(0).expect("a status");
    assert_eq!(status["members"].as_array().map(Vec::len), Some(1), "{status}");

    cluster.nodes[1].kill();
    fs::remove_dir_all(cluster.nodes[1].data_dir()).expect("do as it says: take the data away");
    cluster.join(1, 0);
}
