//! etcd of Debian 12 as a cluster: TLS for clients and between members, authorisation on, its own default timers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use super::etcd::{EtcdClients, PASSWORD};
use crate::eventually::{eventually, eventually_true};
use crate::netns::Namespace;

/// Where clients are served.
const CLIENTS: u16 = 2379;

/// Where members speak to each other; appliance's own port is another.
const PEERS: u16 = 2390;

/// Members of one etcd, killed on drop.
pub struct Etcd {
    binary: PathBuf,
    directory: PathBuf,
    wrapper: Vec<String>,
    members: Vec<Member>,
    ca: String,
}

struct Member {
    namespace: Arc<Namespace>,
    address: Ipv4Addr,
    process: Option<Child>,
}

impl Etcd {
    /// Starts a member in each of these namespaces, on the address given, with everything in `directory`, and switches
    /// authorisation on. `wrapper` is what each process runs under.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(
        binary: &Path,
        places: &[(Arc<Namespace>, Ipv4Addr)],
        directory: &Path,
        wrapper: &[&str],
    ) -> Etcd {
        let addresses: Vec<Ipv4Addr> = places.iter().map(|(_, address)| *address).collect();
        let member = |(namespace, address): &(Arc<Namespace>, Ipv4Addr)| Member {
            namespace: Arc::clone(namespace),
            address: *address,
            process: None,
        };
        let mut etcd = Etcd {
            binary: binary.to_owned(),
            directory: directory.to_owned(),
            wrapper: wrapper.iter().map(ToString::to_string).collect(),
            members: places.iter().map(member).collect(),
            ca: certificates(directory, &addresses),
        };
        for number in 0..etcd.members.len() {
            etcd.run(number);
        }
        etcd.authorise();
        etcd
    }

    /// Starts a member, again or for the first time.
    ///
    /// # Panics
    /// When it can not be started.
    pub fn run(&mut self, number: usize) {
        let mut words = self.wrapper.iter().map(PathBuf::from).chain([self.binary.clone()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(self.arguments(number)).stdout(Stdio::null()).stderr(Stdio::null());
        let process = self.members[number].namespace.inside(|| command.spawn()).expect("start etcd");
        self.members[number].process = Some(process);
    }

    fn arguments(&self, number: usize) -> Vec<String> {
        let path = |name: &str| self.directory.join(name).display().to_string();
        let url = |number: usize, port| format!("https://{}:{port}", self.members[number].address);
        let all = 0..self.members.len();
        let cluster: Vec<String> = all.map(|other| format!("m{other}={}", url(other, PEERS))).collect();
        let mut words = vec!["--name".to_owned(), format!("m{number}")];
        let mut set = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        set("data-dir", path(&format!("etcd-{number}")));
        set("logger", "zap".to_owned());
        set("log-level", "error".to_owned());
        for kind in ["listen-client-urls", "advertise-client-urls"] {
            set(kind, url(number, CLIENTS));
        }
        for kind in ["listen-peer-urls", "initial-advertise-peer-urls"] {
            set(kind, url(number, PEERS));
        }
        set("initial-cluster", cluster.join(","));
        for prefix in ["", "peer-"] {
            set(&format!("{prefix}cert-file"), path("server.pem"));
            set(&format!("{prefix}key-file"), path("server.key"));
        }
        set("peer-trusted-ca-file", path("ca.pem"));
        words.push("--peer-client-cert-auth".to_owned());
        words
    }

    /// Kills a member.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, number: usize) {
        let mut process = self.members[number].process.take().expect("a running member");
        super::process::kill_tree(&mut process);
    }

    /// The member that leads.
    ///
    /// # Panics
    /// When there is none for long.
    #[must_use]
    pub fn leader(&self) -> usize {
        let leads = |number: &usize| {
            let status = self.gateway(*number, "maintenance/status", "{}");
            let status: Value = serde_json::from_str(&status.unwrap_or_default()).unwrap_or_default();
            status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
        };
        let running = || (0..self.members.len()).filter(|number| self.members[*number].process.is_some());
        eventually("etcd to have a leader", || running().find(leads), Option::is_some).expect("it has")
    }

    /// How many members it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Where a member serves clients.
    #[must_use]
    pub fn address(&self, number: usize) -> SocketAddr {
        (self.members[number].address, CLIENTS).into()
    }

    /// A member's process, to measure.
    #[must_use]
    pub fn pid(&self, number: usize) -> Option<u32> {
        self.members[number].process.as_ref().map(Child::id)
    }

    /// A member's data directory.
    #[must_use]
    pub fn data_dir(&self, number: usize) -> PathBuf {
        self.directory.join(format!("etcd-{number}"))
    }

    /// Opens `connections` to these members in turn and logs in; records will have `size` bytes.
    ///
    /// # Panics
    /// When one refuses.
    pub async fn connect(&self, at: &[usize], connections: usize, size: usize) -> EtcdClients {
        let addresses: Vec<SocketAddr> = at.iter().map(|number| self.address(*number)).collect();
        EtcdClients::open(&self.ca, &addresses, connections, size).await
    }

    /// The authority of its certificates.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Creates the user `root` and switches authorisation on, through etcd's JSON gateway.
    fn authorise(&self) {
        let post = |path: &str, body: &str| self.gateway(0, &format!("auth/{path}"), body).is_some();
        let user = format!("{{\"name\":\"root\",\"password\":\"{PASSWORD}\"}}");
        eventually_true("etcd to answer", || post("user/add", &user));
        assert!(post("role/add", "{\"name\":\"root\"}"), "etcd: add the role root");
        assert!(post("user/grant", "{\"user\":\"root\",\"role\":\"root\"}"), "etcd: grant the role root");
        assert!(post("enable", "{}"), "etcd: enable authorisation");
    }

    /// What the JSON gateway answers, if it does.
    fn gateway(&self, number: usize, path: &str, body: &str) -> Option<String> {
        let mut curl = Command::new("curl");
        let url = format!("https://{}/v3/{path}", self.address(number));
        curl.args(["-s", "-k", "-f", "-m", "5", "-d", body, &url]);
        let output = self.members[number].namespace.inside(|| curl.output()).ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for process in self.members.iter_mut().filter_map(|member| member.process.as_mut()) {
            super::process::kill_tree(process);
        }
    }
}

/// Makes a CA and one certificate for all members in `directory`; returns the CA.
fn certificates(directory: &Path, addresses: &[Ipv4Addr]) -> String {
    let mut authority = CertificateParams::new(vec!["bench".to_owned()]).expect("CA parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = ["localhost".to_owned(), "127.0.0.1".to_owned()]
        .into_iter()
        .chain(addresses.iter().map(Ipv4Addr::to_string))
        .collect();
    let server = CertificateParams::new(names).expect("parameters");
    let server = server.signed_by(&key, &issuer).expect("a certificate");
    std::fs::write(directory.join("ca.pem"), issuer.pem()).expect("write the authority");
    std::fs::write(directory.join("server.pem"), server.pem()).expect("write the certificate");
    std::fs::write(directory.join("server.key"), key.serialize_pem()).expect("write the key");
    issuer.pem()
}
