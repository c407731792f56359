//! Certificates, tokens and the authority, as operators and clients meet them: over real TLS, with `curl`, `kubectl`
//! and `openssl`, and with nothing but the files a node leaves on its disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use appliance_tests::api::Api;
use appliance_tests::cluster::Cluster;
use appliance_tests::ctl::{Printed, program, run};
use appliance_tests::dice::seed;
use appliance_tests::eventually::eventually;
use appliance_tests::netns::{Host, Lan};
use appliance_tests::node::Node;
use serde_json::{Value, json};
use tempfile::TempDir;

const NODES: &str = "/apis/projectcalico.org/v3/nodes";
const ENDPOINTS: &str = "/apis/projectcalico.org/v3/hostendpoints";
const REPORTS: &str = "/apis/appliance/v1/nodereports";

/// A node that leaves the kernel alone, and a directory for what its clients hold.
struct World {
    _lan: Lan,
    host: Host,
    node: Node,
    held: TempDir,
}

/// What a client shows and whom it believes.
struct Client {
    ca: PathBuf,
    certificate: Option<(PathBuf, PathBuf)>,
    token: Option<String>,
}

impl World {
    fn new() -> World {
        let mut world = World::prepare();
        world.node.run();
        world
    }

    fn prepare() -> World {
        let lan = Lan::new();
        let host = lan.host(2);
        let node = Node::prepare(&host, "h1", &["--no-enforce"]);
        let held = tempfile::tempdir().expect("a temporary directory");
        World { _lan: lan, host, node, held }
    }

    fn pki(&self, name: &str) -> PathBuf {
        self.node.data_dir().join("pki").join(name)
    }

    /// A file that only the client has.
    fn hold(&self, name: &str, text: &str) -> PathBuf {
        let path = self.held.path().join(name);
        fs::write(&path, text).expect("written");
        path
    }

    /// The client that has copies of these files as they are now.
    fn client(&self, called: &str, certificate: &str, key: &str) -> Client {
        let copy = |name: &str| {
            let text = fs::read_to_string(self.pki(name)).expect("read");
            self.hold(&format!("{called}-{name}"), &text)
        };
        Client { ca: copy("ca.crt"), certificate: Some((copy(certificate), copy(key))), token: None }
    }

    /// The root's way in.
    fn root(&self, method: &str, path: &str, body: &Value) -> Value {
        let api = Api::new(self.node.socket());
        let answer = api.ask(method, path, Some(body)).expect("an answer");
        assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.body);
        answer.body
    }

    /// The client that was given a credential.
    fn credential(&self, asked: &Value) -> (Client, Value) {
        let made = self.root("POST", "/cluster/credentials", asked);
        let text = |field: &str| made[field].as_str().map(str::to_owned);
        let name = asked["user"].as_str().expect("a user");
        let hold = |field: &str| text(field).map(|text| self.hold(&format!("{name}-{field}"), &text));
        let client = Client {
            ca: hold("ca").expect("authorities"),
            certificate: hold("certificate").zip(hold("key")),
            token: text("token"),
        };
        (client, made)
    }

    fn curl(&self, client: &Client) -> Command {
        let mut command = self.host.namespace.command("curl");
        command
            .args(["-sS", "-m", "20", "--resolve", "appliance:6443:127.0.0.1", "--cacert"])
            .arg(&client.ca);
        if let Some((certificate, key)) = &client.certificate {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        if let Some(token) = &client.token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        command
    }

    /// The code the client is answered with, or what `curl` says when there is no TLS.
    fn asks(&self, client: &Client, method: &str, path: &str, body: &Value) -> String {
        let mut command = self.curl(client);
        command.args(["-o", "/dev/null", "-w", "%{http_code}", "-X", method]);
        let patch = if method == "PATCH" { "merge-patch+json" } else { "json" };
        command.args(["-H", &format!("Content-Type: application/{patch}")]);
        if !body.is_null() {
            command.arg("-d").arg(body.to_string());
        }
        let Printed { out, err, code } = run(command.arg(format!("https://appliance:6443{path}")), "");
        if code == 0 { out } else { format!("curl {code}: {err}") }
    }

    fn gets(&self, client: &Client, path: &str) -> String {
        self.asks(client, "GET", path, &Value::Null)
    }

    fn wait_phase(&self, wanted: &str) -> Value {
        eventually(
            &format!("the rotation to be {wanted}"),
            || self.root("GET", "/cluster/ca", &Value::Null),
            |state| state["phase"] == wanted && state["waitingFor"] == json!([]),
        )
    }
}

#[test]
fn a_nodes_certificate_writes_its_own_node_and_report_and_opens_nothing_else() {
    let world = World::new();
    let node = world.client("node", "node.crt", "node.key");
    let get = |path: &str| world.gets(&node, path);
    let patch =
        |path: &str| world.asks(&node, "PATCH", path, &json!({"metadata": {"labels": {"rack": "7"}}}));
    assert_eq!(get(&format!("{NODES}/h1")), "200");
    assert_eq!(patch(&format!("{NODES}/h1")), "200");
    assert_eq!(world.node.object("node", "h1")["metadata"]["labels"]["rack"], "7");
    assert_eq!(get(&format!("{REPORTS}/h1")), "200");
    assert_eq!(patch(&format!("{REPORTS}/h1")), "200");

    let other =
        json!({"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "h2"}, "spec": {}});
    world.root("POST", NODES, &other);
    let endpoint = json!({"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
        "metadata": {"name": "e"}, "spec": {"node": "h1", "interfaceName": "eth0"}});
    let report = json!({"apiVersion": "appliance/v1", "kind": "NodeReport", "metadata": {"name": "h2"}});
    for (method, path, body) in [
        ("GET", NODES.to_owned(), Value::Null),
        ("GET", format!("{NODES}/h2"), Value::Null),
        ("DELETE", format!("{NODES}/h1"), Value::Null),
        ("POST", REPORTS.to_owned(), report),
        ("GET", REPORTS.to_owned(), Value::Null),
        ("GET", ENDPOINTS.to_owned(), Value::Null),
        ("POST", ENDPOINTS.to_owned(), endpoint),
        ("GET", "/cluster/ca".to_owned(), Value::Null),
        ("GET", "/cluster/tokens".to_owned(), Value::Null),
        ("POST", "/cluster/tokens".to_owned(), json!({})),
        ("POST", "/cluster/credentials".to_owned(), json!({"role": "admin"})),
        ("GET", "/cluster/snapshot".to_owned(), Value::Null),
        ("POST", "/cluster/ca/rotate".to_owned(), json!({})),
        ("POST", "/cluster/recover".to_owned(), json!({})),
    ] {
        assert_eq!(world.asks(&node, method, &path, &body), "403", "{method} {path}");
    }
    // Whether there is a quorum is all it is told there: it asks before it goes on without the others.
    assert_eq!(world.gets(&node, "/cluster/status"), "200");
    assert_eq!(patch(&format!("{NODES}/h2")), "403");
    let posted = world.asks(&node, "POST", NODES, &json!({"metadata": {"name": "h3"}, "spec": {}}));
    assert_eq!(posted, "403", "the name of a new object stands in its body");
}

#[test]
fn credentials_let_in_whom_they_name_until_they_end_or_are_revoked() {
    let world = World::new();
    let endpoint = json!({"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
        "metadata": {"name": "e"}, "spec": {"node": "h1", "interfaceName": "eth0"}});
    let (olga, _) = world.credential(&json!({"user": "olga", "role": "operator", "ttlSeconds": 600}));
    assert_eq!(world.asks(&olga, "POST", ENDPOINTS, &endpoint), "201");
    assert_eq!(world.gets(&olga, "/cluster/tokens"), "403");

    let (vera, made) = world.credential(&json!({"user": "vera", "role": "viewer", "kind": "token"}));
    assert_eq!(world.gets(&vera, ENDPOINTS), "200");
    assert_eq!(world.gets(&vera, "/cluster/status"), "200");
    assert_eq!(world.asks(&vera, "DELETE", &format!("{ENDPOINTS}/e"), &Value::Null), "403");
    let author = world.node.object("hostendpoint", "e")["metadata"]["name"].clone();
    assert_eq!(author, "e", "nothing was deleted");

    let id = made["id"].as_str().expect("an id");
    world.root("DELETE", &format!("/cluster/credentials/{id}"), &Value::Null);
    assert_eq!(world.gets(&vera, ENDPOINTS), "401");
    let guess = Client { token: Some("ab1.0000000000.00000000000000000000000000000000".to_owned()), ..vera };
    assert_eq!(world.gets(&guess, ENDPOINTS), "401");
    assert_eq!(world.gets(&guess, "/readyz"), "200");
    let secret = made["token"].as_str().and_then(|token| token.split('.').nth(2)).expect("a secret");
    assert!(!world.node.log().contains(secret), "no secret in the log");
}

#[test]
fn a_kubeconfig_for_a_role_is_one_that_kubectl_takes() {
    let world = World::new();
    for more in [&[][..], &["--token"][..]] {
        let path = world.held.path().join("kubeconfig");
        let file = path.to_str().expect("printable");
        let words =
            [&["kubeconfig", "--role", "viewer", "--user", "vera", "--force", "-o", file], more].concat();
        let _ = world.node.ctl(&words).success();
        let kubectl = |arguments: &[&str]| {
            let mut command = world.host.namespace.command("kubectl");
            command.arg("--kubeconfig").arg(&path).arg("--cache-dir").arg(world.held.path().join("cache"));
            run(command.args(arguments), "")
        };
        let nodes = kubectl(&["get", "nodes.projectcalico.org", "-o", "name"]).success();
        assert_eq!(nodes, "node.projectcalico.org/h1\n", "{more:?}");
        let refused = kubectl(&["delete", "nodes.projectcalico.org", "h1"]).failure();
        assert!(refused.contains("Forbidden") && refused.contains("vera"), "{more:?}: {refused}");
    }
}

#[test]
fn an_authority_of_an_earlier_version_is_carried_over_and_its_key_leaves_the_disk() {
    let mut world = World::prepare();
    let pki = world.node.data_dir().join("pki");
    fs::create_dir_all(&pki).expect("made");
    // How a directory of ours is known.
    fs::write(world.node.data_dir().join("lock"), "").expect("written");
    let (certificate, key) = old_authority();
    for (name, text) in
        [("ca.crt", certificate.as_str()), ("ca.key", &key), ("server.crt", "old"), ("server.key", "old")]
    {
        fs::write(pki.join(name), text).expect("written");
    }
    world.node.run();
    assert_eq!(fs::read_to_string(pki.join("ca.crt")).expect("read"), certificate, "what clients trust");
    for gone in ["ca.key", "server.crt", "server.key"] {
        assert!(!pki.join(gone).exists(), "{gone} is left");
    }
    let client = world.client("before", "admin.crt", "admin.key");
    let client = Client { ca: world.hold("old-ca.crt", &certificate), ..client };
    assert_eq!(world.gets(&client, NODES), "200");

    // The key, by a line from its middle, is nowhere below the data directory, however it is killed.
    world.node.kill();
    let line = key.lines().nth(1).expect("a line");
    let found = program("grep", &["-rlaF", line, world.node.data_dir().to_str().expect("printable")]);
    assert_eq!((found.out.as_str(), found.code), ("", 1), "the key is in the clear: {found:?}");
    world.node.run();
    assert_eq!(world.gets(&client, NODES), "200");
}

fn old_authority() -> (String, String) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "appliance cluster c0ffee");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_rotation_without_a_restart_keeps_every_client_until_it_is_finished() {
    let world = World::new();
    let (pid, before) = (world.node.pid(), world.client("before", "admin.crt", "admin.key"));
    let old = fs::read_to_string(world.pki("node.crt")).expect("read");
    world.root("POST", "/cluster/ca/rotate", &json!({}));
    assert_eq!(world.gets(&before, NODES), "200");
    let state = world.wait_phase("stable");
    assert_eq!((&state["generation"], state["certificates"].as_array().map(Vec::len)), (&json!(2), Some(2)));

    let new = fs::read_to_string(world.pki("node.crt")).expect("read");
    assert_ne!(new, old, "peers are shown a certificate of the new authority");
    assert_eq!(shown_on(&world.host, 2380), new.trim());
    assert_eq!(shown_on(&world.host, 6443), old.trim(), "clients one of the authority they know");
    assert_eq!(world.gets(&before, NODES), "200", "who knows the old one alone goes on");
    let between = world.client("between", "admin.crt", "admin.key");
    assert_eq!(world.gets(&between, NODES), "200");
    let (token, _) = world.credential(&json!({"user": "ci", "role": "viewer", "kind": "token"}));

    world.root("POST", "/cluster/ca/rotate", &json!({"finish": true}));
    let refused =
        eventually("the old authority to be over", || world.gets(&before, NODES), |said| said != "200");
    assert!(refused.starts_with("curl 60"), "its server is not believed any more: {refused}");
    let convinced = Client { ca: world.client("after", "admin.crt", "admin.key").ca, ..before };
    let refused = world.gets(&convinced, NODES);
    assert!(refused.starts_with("curl "), "nor is its certificate: {refused}");
    for (who, client) in [("made in between", &between), ("with a bearer token", &token)] {
        assert_eq!(world.gets(client, NODES), "200", "{who}");
    }
    assert_eq!(shown_on(&world.host, 6443), new.trim());
    assert_eq!(world.node.pid(), pid, "all without a restart");
    assert_eq!(world.root("GET", "/cluster/ca", &Value::Null)["phase"], "stable");
}

/// The certificate that a port of a host shows.
pub(crate) fn shown_on(host: &Host, port: u16) -> String {
    let mut command = host.namespace.command("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "appliance"]);
    let printed = run(&mut command, "").out;
    let end = "-----END CERTIFICATE-----";
    let begin = printed.find("-----BEGIN CERTIFICATE-----").unwrap_or(printed.len());
    let stop = printed.find(end).map_or(printed.len(), |at| at + end.len());
    printed[begin..stop.max(begin)].to_owned()
}

#[test]
fn a_lost_certificate_is_made_anew_by_the_next_start() {
    let mut world = World::new();
    let client = world.client("admin", "admin.crt", "admin.key");
    // Stopped, not killed: in its first tenth of a second a store that was killed has its authority only in the log.
    world.node.stop();
    for lost in ["node.crt", "node.key", "ca.crt", "admin.key"] {
        fs::remove_file(world.pki(lost)).expect("removed");
    }
    world.node.run();
    assert_eq!(world.gets(&client, NODES), "200", "by the authority that clients know");
    assert!(world.pki("node.crt").exists() && world.pki("ca.crt").exists());
    let mode = program("stat", &["-c", "%a", world.pki("node.key").to_str().expect("printable")]).out;
    assert_eq!(mode.trim(), "600");
}

#[test]
fn three_members_go_through_a_rotation_and_never_lose_each_other() {
    let mut cluster = Cluster::form(3, seed());
    let ask = |cluster: &Cluster, at: usize, method: &str, path: &str, body: Value| {
        let answer = Api::new(cluster.nodes[at].socket()).ask(method, path, Some(&body)).expect("an answer");
        assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.body);
        answer.body
    };
    let write = |cluster: &Cluster, at: usize, name: &str| {
        let manifest = format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: {name}}}\nspec: {{}}\n"
        );
        let _ = cluster.nodes[at].ctl_with(&["apply", "-f", "-"], &manifest).success();
    };
    ask(&cluster, 1, "POST", "/cluster/ca/rotate", json!({}));
    let mut round = 0;
    let state = cluster.eventually(
        "the rotation to be stable",
        || {
            round += 1;
            // Every member writes all the time, so that a connection that broke would show.
            (0..3).for_each(|at| write(&cluster, at, &format!("round-{round}-{at}")));
            ask(&cluster, 0, "GET", "/cluster/ca", Value::Null)
        },
        |state| state["phase"] == "stable" && state["generation"] == 2,
    );
    assert_eq!(state["waitingFor"], json!([]));
    // A connection that outlived the step proves nothing of the next one.
    for at in 0..3 {
        cluster.restart(at);
        cluster.wait_healthy();
    }
    ask(&cluster, 2, "POST", "/cluster/ca/rotate", json!({"finish": true}));
    let one = |node: &Node| fs::read_to_string(node.data_dir().join("pki/ca.crt")).expect("read");
    let bundles = || cluster.nodes.iter().map(one).collect::<Vec<_>>();
    let bundles = cluster.eventually("all to trust the new authority alone", bundles, |bundles| {
        bundles.iter().all(|bundle| *bundle == bundles[0] && bundle.matches("BEGIN").count() == 1)
    });
    verified(&bundles[0], &cluster.nodes.iter().map(|node| node.data_dir()).collect::<Vec<_>>());
    for at in 0..3 {
        cluster.restart(at);
        cluster.wait_healthy();
        write(&cluster, at, &format!("after-{at}"));
    }
    let added = cluster.add_host();
    cluster.join(added, 1);
    cluster.wait_healthy();
}

/// Every node's certificate is one of this authority, by openssl's word.
fn verified(authority: &str, data_dirs: &[PathBuf]) {
    let held = tempfile::tempdir().expect("a temporary directory");
    let ca = held.path().join("ca.crt");
    fs::write(&ca, authority).expect("written");
    let printable = |path: &Path| path.to_str().expect("printable").to_owned();
    for directory in data_dirs {
        let node = printable(&directory.join("pki/node.crt"));
        let said = program("openssl", &["verify", "-CAfile", &printable(&ca), &node]).success();
        assert!(said.ends_with(": OK\n"), "{said}");
    }
}
