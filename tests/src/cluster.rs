//! Clusters: several nodes on a [`Network`] that obeys, formed as an operator forms them: `appliance run`, `appliance
//! ctl token create`, `appliance run --join`. Nothing is known about their insides but what the product tells.
//!
//! Nodes are numbered from 0 in the order in which they joined; their hosts' addresses end in the number plus 2.

use std::fmt::Debug;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::api::Api;
use crate::ctl::Printed;
use crate::netem::{Link, Network};
use crate::netns::Host;
use crate::node::Node;

/// Forming, electing and catching up on two loaded cores: seconds, not minutes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A status is asked for this long; a frozen node answers never.
const STATUS_PATIENCE: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(50);

/// Clusters under load at once, of all tests that run side by side. Each has several nodes and a dozen clients, and a
/// machine with two cores that runs many of them tries nothing but its own scheduler: leaders fall because nobody let
/// them speak.
const AT_ONCE_MAX: usize = 2;

static AT_ONCE: Mutex<usize> = Mutex::new(0);
static ONE_LESS: Condvar = Condvar::new();

/// The right to run a cluster, held as long as it exists.
struct Turn;

impl Turn {
    fn wait() -> Turn {
        let count = AT_ONCE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count =
            ONE_LESS.wait_while(count, |count| *count >= AT_ONCE_MAX).unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *AT_ONCE.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ONE_LESS.notify_one();
    }
}

/// Several nodes and the network between them.
pub struct Cluster {
    /// By number; dropped, and with it killed, before its network.
    pub nodes: Vec<Node>,
    /// Their hosts.
    pub hosts: Vec<Host>,
    /// What is between them.
    pub network: Network,
    arguments: Vec<String>,
    _turn: Turn,
}

/// How a cluster is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the network's losses fall by.
    pub seed: u64,
    /// Whether the nodes police their hosts.
    pub enforce: bool,
    /// More arguments for every `appliance run`.
    pub arguments: Vec<String>,
    /// Environment of every node.
    pub environment: Vec<(String, String)>,
}

impl Cluster {
    /// A formed cluster of `size` nodes that leave the kernel alone, all of them voters.
    ///
    /// # Panics
    /// When it does not form.
    #[must_use]
    pub fn form(size: usize, seed: u64) -> Cluster {
        Cluster::form_with(size, Options { seed, ..Options::default() })
    }

    /// The same, made otherwise.
    ///
    /// # Panics
    /// When it does not form.
    #[must_use]
    pub fn form_with(size: usize, options: Options) -> Cluster {
        let mut cluster = Cluster::prepare(size, options);
        cluster.nodes[0].run();
        for number in 1..size {
            cluster.join(number, 0);
        }
        cluster.wait_healthy();
        cluster
    }

    /// The hosts and the nodes, none of them started; all but the first have no cluster to join yet.
    #[must_use]
    pub fn prepare(size: usize, options: Options) -> Cluster {
        let turn = Turn::wait();
        let network = Network::new(options.seed);
        let mut arguments = options.arguments;
        if !options.enforce {
            arguments.push("--no-enforce".to_owned());
        }
        let mut cluster = Cluster { nodes: Vec::new(), hosts: Vec::new(), network, arguments, _turn: turn };
        for _ in 0..size {
            let number = cluster.add_host();
            for (name, value) in &options.environment {
                cluster.nodes[number].set_environment(name, value);
            }
        }
        cluster
    }

    /// One more host with a node that does not run; its number.
    pub fn add_host(&mut self) -> usize {
        let number = self.nodes.len();
        let host = self.network.host(port(number));
        let address = host.ipv4.to_string();
        let mut arguments = vec!["--advertise-address", &address];
        arguments.extend(self.arguments.iter().map(String::as_str));
        self.nodes.push(Node::prepare(&host, &format!("h{}", number + 1), &arguments));
        self.hosts.push(host);
        number
    }

    /// Starts a node that joins through another with a token of that one, and waits until it is a voter.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn join(&mut self, number: usize, through: usize) {
        self.begin_join(number, through);
        self.wait_role(number, "voter");
    }

    /// Starts a node that joins through another with a token of that one.
    ///
    /// # Panics
    /// When no token is made.
    pub fn begin_join(&mut self, number: usize, through: usize) {
        let token = self.token(through, &[]);
        self.begin_join_with(number, through, &token);
    }

    /// Starts a node that joins through another with this token.
    pub fn begin_join_with(&mut self, number: usize, through: usize, token: &str) {
        let door = format!("{}:6443", self.hosts[through].ipv4);
        self.nodes[number].set_argument("--join", &door);
        self.nodes[number].set_argument("--token", token);
        self.nodes[number].spawn();
    }

    /// A join token, made at a node.
    ///
    /// # Panics
    /// When none is made, or none is printed.
    #[must_use]
    pub fn token(&self, at: usize, arguments: &[&str]) -> String {
        let create = || self.nodes[at].ctl(&[&["token", "create"], arguments].concat());
        let printed = self.eventually("a token", create, |printed| printed.code == 0);
        let words = printed.out.split_whitespace().chain(printed.err.split_whitespace());
        let token =
            words.map(|word| word.trim_matches(['"', '\'', '`'])).find(|word| word.starts_with("at1."));
        token.unwrap_or_else(|| panic!("no token in {printed:#?}")).to_owned()
    }

    /// A client of every node's Unix socket, by number.
    #[must_use]
    pub fn apis(&self) -> Vec<Api> {
        self.nodes.iter().map(|node| Api::new(node.socket())).collect()
    }

    /// What a node says about the cluster; nothing when it does not answer.
    #[must_use]
    pub fn status(&self, number: usize) -> Option<Value> {
        let api = Api::new(self.nodes[number].socket()).with_patience(STATUS_PATIENCE);
        let answer = api.ask("GET", "/cluster/status", None).ok()?;
        (answer.status == 200).then_some(answer.body)
    }

    /// A member's entry in what a node says.
    #[must_use]
    pub fn member_seen_by(&self, observer: usize, number: usize) -> Option<Value> {
        let status = self.status(observer)?;
        let members = status["members"].as_array()?;
        members.iter().find(|member| member["name"] == name(number)).cloned()
    }

    /// The node that these agree leads, if they do.
    #[must_use]
    pub fn leader_according_to(&self, observers: &[usize]) -> Option<usize> {
        let mut leaders = observers.iter().map(|observer| {
            let status = self.status(*observer)?;
            let leader = status["leader"].as_str().filter(|_| status["quorum"] == true)?;
            let members = status["members"].as_array()?;
            let member = members.iter().find(|member| member["id"] == leader)?;
            (0..self.nodes.len()).find(|number| member["name"] == name(*number))
        });
        let first = leaders.next()??;
        leaders.all(|leader| leader == Some(first)).then_some(first)
    }

    /// Waits until these agree on a leader that is one of them.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_leader(&self, among: &[usize]) -> usize {
        let agreed = |leader: &Option<usize>| leader.is_some_and(|leader| among.contains(&leader));
        let leader = self.eventually(
            &format!("{among:?} to agree on a leader"),
            || self.leader_according_to(among),
            agreed,
        );
        leader.unwrap_or_default()
    }

    /// Waits until all that run agree on a leader, see each other, and have the same revision.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_healthy(&self) {
        let running = self.running();
        if let [alone] = running[..]
            && self.nodes.len() == 1
        {
            let serves = || self.ctl(alone, &["get", "nodes"]).code;
            let _ = self.eventually("the only node to serve", serves, |code| *code == 0);
            return;
        }
        let _ = self.wait_leader(&running);
        let seen = || -> Vec<Option<Value>> { running.iter().map(|number| self.status(*number)).collect() };
        let _ = self.eventually("all members to be well", seen, |seen| {
            let same = |status: &Option<Value>| status.as_ref().map(|status| status["revision"].clone());
            seen.iter().all(|status| {
                let members = status.as_ref().and_then(|status| status["members"].as_array());
                same(status).is_some()
                    && members.is_some_and(|members| {
                        let ours =
                            |member: &&Value| running.iter().any(|number| member["name"] == name(*number));
                        members.iter().filter(ours).count() == running.len()
                            && members.iter().filter(ours).all(|member| member["reachable"] == true)
                    })
            })
        });
    }

    /// One of a node's numbers, without the product's name before it; nothing when it does not answer.
    #[must_use]
    pub fn metric(&self, number: usize, name: &str) -> Option<f64> {
        let api = Api::new(self.nodes[number].socket()).with_patience(STATUS_PATIENCE);
        api.metric(&format!("appliance_{name}")).ok().flatten()
    }

    /// Waits until all that run have the same revision, and demands that they have one history up to it.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_same_history(&self) {
        let running = self.running();
        let heads = || running.iter().map(|number| self.history_of(*number)).collect();
        let same = |heads: &Vec<Option<(Value, Value)>>| {
            let revision =
                |head: &Option<(Value, Value)>| head.as_ref().map(|(revision, _)| revision.clone());
            heads.iter().all(|head| head.is_some() && revision(head) == revision(&heads[0]))
        };
        let heads = self.eventually("all members to have the same revision", heads, same);
        assert!(heads.iter().all(|head| *head == heads[0]), "one revision, and not one history: {heads:#?}");
    }

    /// The revision of a node's own copy, and the hash over everything up to it; nothing when it does not tell.
    fn history_of(&self, number: usize) -> Option<(Value, Value)> {
        let file = self.nodes[number].data_dir().with_file_name("history.snapshot");
        let file = file.display().to_string();
        let saved = self.ctl(number, &["snapshot", "save", &file, "--stale", "--force"]);
        let status = self.ctl(number, &["snapshot", "status", &file, "-o", "json"]);
        if saved.code != 0 || status.code != 0 {
            return None;
        }
        let status: Value = serde_json::from_str(&status.out).ok()?;
        Some((status["revision"].clone(), status["chain"].clone()))
    }

    /// Waits until the others, or itself if it is alone, say that a node has this role.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_role(&mut self, number: usize, role: &str) {
        let observer = self.running().into_iter().find(|other| *other != number).unwrap_or(number);
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.nodes[number].must_run();
            let seen = self.member_seen_by(observer, number);
            if seen.as_ref().is_some_and(|member| member["role"] == role) {
                return;
            }
            let name = name(number);
            assert!(
                Instant::now() < deadline,
                "waited {PATIENCE:?} for {name} to be a {role}, but {seen:#?}"
            );
            thread::sleep(PAUSE);
        }
    }

    /// The numbers of the nodes whose process runs.
    #[must_use]
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].pid().is_some()).collect()
    }

    /// All numbers but these.
    #[must_use]
    pub fn others(&self, than: &[usize]) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| !than.contains(number)).collect()
    }

    /// Stops every thread of a node where it is.
    pub fn freeze(&self, number: usize) {
        self.nodes[number].signal(Signal::STOP);
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, number: usize) {
        self.nodes[number].signal(Signal::CONT);
    }

    /// Kills a node and starts it again, not waiting for it to serve.
    pub fn restart(&mut self, number: usize) {
        if self.nodes[number].pid().is_some() {
            self.nodes[number].kill();
        }
        self.nodes[number].spawn();
    }

    /// Cuts these nodes off from those, both ways.
    pub fn partition(&self, these: &[usize], those: &[usize]) {
        self.network.partition(&ports(these), &ports(those));
    }

    /// Cuts the way from these nodes to those, and leaves the way back.
    pub fn cut_one_way(&self, from: &[usize], to: &[usize]) {
        self.network.cut_one_way(&ports(from), &ports(to));
    }

    /// Makes every link among all nodes so.
    pub fn links(&self, link: Link) {
        self.network.among(&ports(&self.others(&[])), link);
    }

    /// `appliance ctl` at a node.
    pub fn ctl(&self, at: usize, arguments: &[&str]) -> Printed {
        self.nodes[at].ctl(arguments)
    }

    /// Asks until the answer satisfies `accept`, with the patience that a cluster needs.
    ///
    /// # Panics
    /// When [`PATIENCE`] runs out; the message carries `what`, the last answer and what every node says.
    pub fn eventually<T: Debug>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> T,
        accept: impl Fn(&T) -> bool,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = ask();
            if accept(&answer) {
                return answer;
            }
            if Instant::now() >= deadline {
                let said: Vec<_> = self.running().into_iter().map(|number| self.status(number)).collect();
                panic!(
                    "waited {PATIENCE:?} for {what}; the last answer was {answer:#?}; the nodes say {said:#?}"
                );
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The node name of a number.
#[must_use]
pub fn name(number: usize) -> String {
    format!("h{}", number + 1)
}

/// The last byte of a node's addresses, which is its port on the network.
#[must_use]
pub fn port(number: usize) -> u8 {
    u8::try_from(number + 2).expect("a handful of nodes")
}

fn ports(numbers: &[usize]) -> Vec<u8> {
    numbers.iter().map(|number| port(*number)).collect()
}
