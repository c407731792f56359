//! For tests: the API over a real store and a real log in a temporary directory, and a client without a network.
//!
//! Tests speak to [`Api::respond`] as the listeners do, so everything but the sockets is the real thing.

use std::sync::Arc;
use std::time::Duration;

use appliance_consensus::Raft;
use appliance_resources::{AnyResource, Unknown};
use appliance_storage::{Store, StoreOptions};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::body::ApiBody;
use super::caller::{Caller, Identity, Proof, Role};
use super::load::Load;
use super::registry::Registry;
use super::{Api, ApiOptions};
use crate::author;
use crate::cluster::alarms::Alarms;
use crate::cluster::handle::{ClusterHandle, Settings};
use crate::cluster::join::Reception;
use crate::cluster::keyring::{Keyring, Opening};
use crate::cluster::keys::Who;
use crate::cluster::records::MemberId;
use crate::cluster::registry::Records;
use crate::metrics::Metrics;
use crate::restart::Restart;
use crate::shutdown::{self, Trigger};

/// The cluster it is.
const CLUSTER: &str = "00000000000000000000000000000001";

/// A node's API, with the objects every cluster has.
pub(crate) struct Harness {
    pub(crate) api: Arc<Api>,
    pub(crate) registry: Registry,
    pub(crate) raft: Raft,
    pub(crate) load: Arc<Load>,
    pub(crate) shutdown: Trigger,
    pub(crate) cluster: ClusterHandle,
    caller: Caller,
    _dir: Arc<TempDir>,
}

/// One answer, read whole.
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error} in {} {:?}", self.code, String::from_utf8_lossy(&self.body))
        })
    }

    /// `409 AlreadyExists: message`, or `201` alone.
    pub(crate) fn summary(&self) -> String {
        let value = self.value();
        match value["reason"].as_str() {
            Some(reason) => format!("{} {reason}: {}", self.code, value["message"].as_str().unwrap_or("")),
            None => self.code.to_string(),
        }
    }

    pub(crate) fn version(&self) -> String {
        self.value()["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
    }
}

/// The answer to a watch, read event by event.
pub(crate) struct Events {
    body: ApiBody,
    buffered: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffered.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffered.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event is a JSON line"));
            }
            let frame = self.body.frame().await?.expect("frames do not fail");
            self.buffered.extend_from_slice(frame.data_ref().expect("data"));
        }
    }

    /// The next event as `TYPE name@revision`.
    pub(crate) async fn brief(&mut self) -> String {
        let Some(event) = self.next().await else { return "end".to_owned() };
        let (object, metadata) = (&event["object"], &event["object"]["metadata"]);
        let about = metadata["name"].as_str().or(object["reason"].as_str()).unwrap_or("");
        let kind = event["type"].as_str().expect("a type");
        match metadata["resourceVersion"].as_str() {
            Some(version) => format!("{kind} {about}@{version}"),
            None => format!("{kind} {about}"),
        }
    }
}

impl Harness {
    pub(crate) async fn start() -> Harness {
        let harness = Harness::made(false);
        let author = || author::node("n1", "bootstrap");
        harness
            .cluster
            .keyring
            .establish(&harness.cluster.records, author)
            .await
            .expect("the authority is stored");
        harness.bootstrap().await;
        harness
    }

    /// A node that its cluster has removed, with nothing in its store.
    pub(crate) async fn removed() -> Harness {
        let harness = Harness::made(true);
        harness.raft.wait_status(|status| status.removed).await.expect("raft runs");
        harness
    }

    fn made(removed: bool) -> Harness {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
        let store = Store::open(&dir.path().join("store"), options).expect("the store opens");
        let reader = store.reader();
        let opening = Opening {
            data_dir: dir.path(),
            cluster_id: CLUSTER,
            who: Who::new(1, 1, "n1", &[]),
            formed: false,
            joined: false,
            server: "https://127.0.0.1:6443".to_owned(),
        };
        let keyring = Keyring::open(opening, None, OffsetDateTime::now_utc()).expect("keys");
        let config =
            appliance_consensus::Config { removed, ..appliance_consensus::Config::new(1, dir.path()) };
        let raft =
            appliance_consensus::start(config, store, appliance_consensus::Origin::Founder, Box::new(drop))
                .expect("raft starts");
        let (trigger, shutdown) = shutdown::channel();
        let load = Arc::new(Load::default());
        let keyring = Arc::new(keyring);
        let cluster = ClusterHandle {
            records: Records::new(raft.clone(), reader.clone()),
            reception: Arc::new(Reception::new(CLUSTER.to_owned(), keyring.clone())),
            keyring,
            alarms: Alarms::default(),
            links: appliance_consensus::transport::Links::default(),
            cluster_id: CLUSTER.to_owned(),
            member: MemberId(1),
            node_name: "n1".to_owned(),
            restart: Restart::default(),
            settings: Settings {
                tick: Duration::from_millis(100),
                replace_after: None,
                removed,
                data_dir: dir.path().to_owned(),
            },
        };
        let options = ApiOptions {
            node_name: "n1".to_owned(),
            cluster: cluster.clone(),
            metrics: Metrics::new(Box::new(Vec::new)),
            load: load.clone(),
            shutdown,
        };
        let identity = Identity::User { name: "root".to_owned(), role: Role::Admin };
        Harness {
            registry: Registry::new(raft.clone(), reader.clone()),
            api: Api::new(raft.clone(), reader, options),
            raft,
            load,
            shutdown: trigger,
            cluster,
            caller: Caller { identity, address: "unix:0".to_owned(), member: None, proof: Proof::Connection },
            _dir: Arc::new(dir),
        }
    }

    async fn bootstrap(&self) {
        for object in [
            json!({"kind": "Tier", "metadata": {"name": "default"},
                "spec": {"order": 1_000_000, "defaultAction": "Deny"}}),
            json!({"kind": "Profile", "metadata": {"name": "projectcalico-default-allow"}}),
            json!({"kind": "ClusterInformation", "metadata": {"name": "default"}}),
        ] {
            let mut object = object;
            object["apiVersion"] = "projectcalico.org/v3".into();
            let decoded = AnyResource::from_value(object, Unknown::Refuse).expect("decodes");
            let author = self.caller.author("bootstrap", OffsetDateTime::now_utc());
            self.registry.create(author, decoded.resource, false).await.expect("is created");
        }
    }

    /// Who asks.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The same API, asked by someone else.
    pub(crate) fn as_role(&self, name: &str, role: Role) -> Harness {
        self.asked_by(Identity::User { name: name.to_owned(), role })
    }

    /// The same API, asked by nobody we know.
    pub(crate) fn anonymous(&self) -> Harness {
        self.asked_by(Identity::Anonymous)
    }

    /// The same API, asked over a connection whose certificate ends then.
    pub(crate) fn until(&self, ends: OffsetDateTime) -> Harness {
        let asked = Harness { caller: self.caller.clone(), ..self.asked_by(self.caller.identity.clone()) };
        Harness { caller: Caller { proof: Proof::Certificate { ends }, ..asked.caller.clone() }, ..asked }
    }

    /// The same API, asked over a connection whose certificate names this member by its URI.
    pub(crate) fn showing(&self, member: String) -> Harness {
        let asked = self.asked_by(self.caller.identity.clone());
        Harness { caller: Caller { member: Some(member), ..asked.caller.clone() }, ..asked }
    }

    fn asked_by(&self, identity: Identity) -> Harness {
        Harness {
            api: self.api.clone(),
            registry: self.registry.clone(),
            raft: self.raft.clone(),
            load: self.load.clone(),
            shutdown: shutdown::channel().0,
            cluster: self.cluster.clone(),
            caller: Caller {
                identity,
                address: "192.0.2.1".to_owned(),
                member: None,
                proof: Proof::Connection,
            },
            _dir: self._dir.clone(),
        }
    }

    /// Sends any request. A path that does not begin with `/` is one of `projectcalico.org/v3`.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let (head, body) = self.open(method, path, headers, body.into()).await.into_parts();
        let body = body.collect().await.expect("bodies do not fail").to_bytes();
        Reply { code: head.status.as_u16(), headers: head.headers, body }
    }

    async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> http::Response<ApiBody> {
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/apis/projectcalico.org/v3/{path}"),
        };
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        self.api.respond(self.caller.clone(), request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, &[], body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.send("PUT", path, &[], body.to_string()).await
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> Reply {
        self.send("PATCH", path, &[("content-type", "application/merge-patch+json")], body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, body: Value) -> Reply {
        self.send("DELETE", path, &[], body.to_string()).await
    }

    /// Opens a watch and expects it to begin.
    pub(crate) async fn watch(&self, path: &str) -> Events {
        self.watch_with(path, &[]).await
    }

    /// The same with headers.
    pub(crate) async fn watch_with(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        let response = self.open("GET", path, headers, Bytes::new()).await;
        assert_eq!(response.status(), 200, "{path}");
        Events { body: response.into_body(), buffered: Vec::new() }
    }
}

/// A host endpoint that is valid.
pub(crate) fn endpoint(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"node": "n1", "interfaceName": "eth0"}})
}

/// A policy that is valid.
pub(crate) fn policy(name: &str, tier: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"tier": tier, "order": 10, "selector": "all()",
        "ingress": [{"action": "Allow"}], "types": ["Ingress"]}})
}
