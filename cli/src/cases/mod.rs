//! Whole commands against a small node: the arguments a person types, and what that person reads.
//!
//! Cases are numbered as in the command reference (section 5). Each starts from an empty node.

mod cluster;
mod endpoint;
mod fake_api;
mod faults;
mod get;
mod input;
mod seeds;
mod servers;
mod tls;
mod write;

use clap::Parser;
use serde_json::Value;

use crate::Calicoctl;
use crate::usage::{Usage, describe};
use crate::world::World;
use fake_api::FakeApi;

const HEP1: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: endpoint1
  labels:
    type: database
spec:
  node: host1
  interfaceName: eth0
  profiles: [prof1, prof2]
";
const HEP1B: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: endpoint1
  labels:
    type: frontend
spec:
  node: host2
  interfaceName: cali7
  profiles: [prof1, prof2]
";
const HEP1C: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: endpoint1
  uid: test-uid-change
  creationTimestamp: \"2006-01-02T15:04:05Z\"
  generation: 3
  finalizers: [f]
  labels:
    type: frontend
    misc: version1
  annotations:
    key: value
spec:
  node: host2
  interfaceName: cali7
  profiles: [prof1, prof2]
";
const HEP2: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: endpoint2
spec:
  node: host1
  interfaceName: \"*\"
  expectedIPs: [10.0.0.1, \"fd00::1\"]
";
const HEP3: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: endpoint3
spec:
  node: host3
  interfaceName: eth1
";
const GNP1: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: mypolicy1
spec:
  tier: default
  order: 100
  selector: type=='database'
  egress:
  - action: Allow
  ingress:
  - action: Deny
    protocol: TCP
";
const TIER_ADMIN: &str = "\
apiVersion: projectcalico.org/v3
kind: Tier
metadata:
  name: admin
spec:
  order: 10000
";
const TIER_BEFORE: &str = "\
apiVersion: projectcalico.org/v3
kind: Tier
metadata:
  name: before
spec:
  order: 100
";

/// The time at which every case is played.
pub(crate) const NOW: time::OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

/// A binary that can read one snapshot and restores by saying what it was told.
pub(crate) const OFFLINE: crate::Offline = crate::Offline {
    inspect: |file| match file.file_name().is_some_and(|name| name == "good.snapshot") {
        true => Ok(serde_json::json!({"cluster": "c1", "revision": 42, "bytes": 1_000})),
        false => Err(format!("{}: its hash does not match", file.display())),
    },
    restore: |args| {
        Ok(serde_json::json!({"cluster": "c2", "dataDir": args.data_dir, "file": args.file,
                              "node": args.node_name, "revision": 42 + args.revision_jump}))
    },
    reseed: |data_dir| match data_dir.file_name().is_some_and(|name| name == "stopped") {
        true => {
            Ok(serde_json::json!({"node": "n1", "message": "n1 fetches a fresh copy when it is started"}))
        }
        false => Err(format!("data directory {}: in use", data_dir.display())),
    },
};

/// What a person sees of one command.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u8,
    out: String,
    err: String,
}

/// A node and a folder for files.
struct Lab {
    folder: tempfile::TempDir,
    api: FakeApi,
}

impl Lab {
    fn new() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let api = FakeApi::listen(&folder.path().join("appliance.sock"));
        Lab { folder, api }
    }

    /// A node with these manifests created.
    fn with(manifests: &[&str]) -> Lab {
        let lab = Lab::new();
        if !manifests.is_empty() {
            let seen = lab.ctl("create -f -", &documents(manifests));
            assert_eq!(seen.status, 0, "{seen:?}");
        }
        lab
    }

    /// Writes a file into the folder; returns its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs `ctl` with these words, split at blanks, and this standard input.
    fn ctl(&self, words: &str, stdin: &str) -> Seen {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.ctl_words(&words, stdin)
    }

    fn ctl_words(&self, words: &[&str], stdin: &str) -> Seen {
        let socket = self.folder.path().join("appliance.sock").display().to_string();
        let mut line = vec!["calicoctl"];
        line.extend(words);
        line.extend(["--socket", &socket]);
        ctl(&line, stdin)
    }

    /// Runs `ctl` at a terminal, where a person types this.
    fn ctl_person(&self, words: &str, typed: &str) -> Seen {
        let socket = self.folder.path().join("appliance.sock").display().to_string();
        let line = ["calicoctl"].into_iter().chain(words.split_whitespace()).chain(["--socket", &socket]);
        let parsed = Calicoctl::try_parse_from(line).unwrap();
        let mut world = World::captured(&parsed.args, typed);
        world.person = true;
        let status = crate::execute(parsed.args, &mut world);
        let (out, err) = world.console.take();
        Seen { status, out, err }
    }

    /// Says what the cluster answers to a request of `/cluster/…`.
    fn answers(&self, request: &str, code: u16, answer: Value) {
        self.api.state().cluster.entry(request.to_string()).or_default().push((code, answer));
    }

    /// What was sent to `/cluster/…` that was not a question.
    fn sent(&self) -> Vec<(String, Value)> {
        let sent = self.api.state().sent.clone();
        sent.into_iter().filter(|(request, _)| !request.starts_with("GET ")).collect()
    }

    /// Runs a command that would go on for ever, until it has printed so many times.
    fn ctl_until(&self, words: &str, prints: usize) -> Seen {
        let socket = self.folder.path().join("appliance.sock").display().to_string();
        let line = ["calicoctl"].into_iter().chain(words.split_whitespace()).chain(["--socket", &socket]);
        let parsed = Calicoctl::try_parse_from(line).unwrap();
        let mut world = World::captured(&parsed.args, "");
        world.console.close_after(prints);
        let status = crate::execute(parsed.args, &mut world);
        let (out, err) = world.console.take();
        Seen { status, out, err }
    }

    /// An object as the node has it.
    fn stored(&self, words: &str) -> Value {
        let seen = self.ctl(&format!("get {words} -o json"), "");
        assert_eq!(seen.status, 0, "{seen:?}");
        serde_json::from_str(&seen.out).unwrap()
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let list = self.stored(kind);
        crate::object::items(&list).iter().map(|item| crate::object::name(item).to_string()).collect()
    }
}

/// One command line with nothing but strings around it.
fn ctl(line: &[&str], stdin: &str) -> Seen {
    match Calicoctl::try_parse_from(line) {
        Ok(parsed) => {
            let mut world = World::captured(&parsed.args, stdin);
            let status = crate::execute(parsed.args, &mut world);
            let (out, err) = world.console.take();
            Seen { status, out, err }
        }
        Err(error) => match describe("calicoctl", &error) {
            Usage::Help(out) => Seen { status: 0, out, err: String::new() },
            Usage::Mistake(err) => Seen { status: 1, out: String::new(), err },
        },
    }
}

fn documents(manifests: &[&str]) -> String {
    manifests.join("---\n")
}

fn seen(status: u8, out: &str, err: &str) -> Seen {
    Seen { status, out: out.to_string(), err: err.to_string() }
}

/// The name a WorkloadEndpoint must have: its four identifiers, with the hyphens inside them doubled.
fn workload_endpoint_name(identifiers: [&str; 4]) -> String {
    identifiers.map(|identifier| identifier.replace('-', "--")).join("-")
}

/// Adds a line to the metadata of a manifest.
fn with_metadata(manifest: &str, line: &str) -> String {
    manifest.replacen("metadata:\n", &format!("metadata:\n  {line}\n"), 1)
}
