//! The API: resources over HTTP, in Kubernetes' dialect, so that kubectl and every client library work unchanged.
//!
//! # The way of a request
//!
//! ```text
//!  listener ── Caller, Request
//!     │
//!     ▼
//!  request  ◇  method, path, query → Target          404, 405
//!  authenticate  a bearer token, if the door does not know them
//!  caller   ◇  who, and may they → Verb × Scope      401, 403   (nobody learns what exists before that)
//!     │
//!     ├── probe, metrics ─────────► health           the only paths that anyone may ask
//!     ├── /version /api /apis ────► discovery ◇
//!     ├── selfsubject…reviews ────► reviews ◇
//!     ▼
//!  one verb, one file                                 reads                         writes
//!     options  ◇  the query                           400, 422                      400, 422
//!     accept   ◇  the shape of the answer             406                           406
//!     body, decode ◇, incoming ◇  what was sent                                     413, 415, 400
//!     admission ◇ defaults, rules, stamps                                           422, 403, 409
//!     registry    resource ↔ record                   settle: as fresh as asked     one raft round, compared
//!     representation ◇  record → bytes                410, 503                      409, 503, 504
//!     respond  ◇  everything refused is a Status
//! ```
//!
//! ◇ is pure: values in, values out. The clock is read once, in [`call`]; ids are drawn in [`registry`] and
//! [`create`]; both before anything is proposed. The registry alone proposes, through [`writing`].
//!
//! # What each verb promises
//!
//! | verb | promise |
//! |---|---|
//! | get, list | the latest state any client was told of; with `resourceVersion=0` this node's own, quorum or not |
//! | watch | every change once, in revision order, from where the client said; 410 instead of a gap |
//! | create | the name was free, and what the object needs existed, in the transaction that wrote it |
//! | replace | what is replaced is what the client saw; without a `resourceVersion` it is refused |
//! | patch | applied to what stands when it is written; patched anew when that changes meanwhile |
//! | delete | the object that goes is the one that was meant, by uid or version if named |
//! | any write | `dryRun=All` answers the same and writes nothing; what changes nothing is not written |
//! | any write | named by `Appliance-Request`, it has one effect at however many members it arrives how often |
//! | any refusal | a `Status`: 503 only if nothing was done, 504 if nobody can say |
//!
//! # Cheap where it is measured
//!
//! A write is parsed once, checked once, encoded once, and costs one raft round: what it depends on is looked up in
//! this node's own state and compared again inside the transaction. A read of the plain shape is never parsed: the
//! stored bytes are the answer but for the `resourceVersion`, which is spliced in. That is also why an event costs
//! each of many watchers one copy and no encoding.
//!
//! # Questions for a reviewer
//!
//! * Can a refusal be founded on a stale look? [`registry`] says no: only a linearizable look refuses an edit. A
//!   create is refused by the transaction itself, or, for a missing requirement, after a linearizable look.
//! * Which check is not compared inside a transaction? One: that a tier is empty when it is deleted ([`delete`]).
//! * What does an unauthenticated client reach? [`Api::route`] answers that in its first two statements.
//! * What can a client make us hold? A body of [`body::BODY_BYTES_MAX`] bytes, one list, or one batch of a watch;
//!   how many clients there are is the listeners' bound.
//! * Where would another kind need a line here? In `columns`, and in `admission` if it is protected or needs others.

pub(crate) mod accept;
pub(crate) mod admission;
mod authenticate;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod caller;
pub(crate) mod cluster;
mod columns;
mod create;
mod decode;
mod delete;
mod delete_collection;
mod discovery;
mod get;
#[cfg(test)]
pub(crate) mod harness;
mod health;
mod incoming;
mod list;
pub(crate) mod load;
mod options;
mod patch;
mod protobuf;
pub(crate) mod registry;
mod replace;
mod representation;
pub(crate) mod request;
pub(crate) mod respond;
mod reviews;
mod selection;
mod watch;
#[cfg(test)]
mod wire_tests;
mod writing;

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use appliance_consensus::Raft;
use appliance_resources::Status;
use appliance_storage::Reader;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use hyper::body::Body;
use time::OffsetDateTime;

use self::body::ApiBody;
use self::call::Call;
use self::caller::{Caller, Identity};
use self::cluster::route::ClusterTarget;
use self::load::Load;
use self::registry::Registry;
use self::request::{Review, Scope, Target, Unroutable, Verb};
use self::respond::{Refusal, refuse};
use crate::cluster::handle::ClusterHandle;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// An answer, or what is answered instead.
type Answer = Result<http::Response<ApiBody>, Refusal>;

/// What the API is told about the node it serves.
pub(crate) struct ApiOptions {
    /// Named in every answer: behind one address may be many nodes.
    pub(crate) node_name: String,
    /// What the requests below `/cluster/` are about.
    pub(crate) cluster: ClusterHandle,
    /// Where requests are counted, and what `/metrics` prints.
    pub(crate) metrics: Arc<Metrics>,
    /// Where requests and watches under way are counted.
    pub(crate) load: Arc<Load>,
    /// Ends the watches, which would otherwise outlive any patience.
    pub(crate) shutdown: Shutdown,
}

/// The API of one node.
pub(crate) struct Api {
    registry: Registry,
    options: ApiOptions,
    /// The node's name as a header; none if the name can not be one.
    node: Option<HeaderValue>,
}

/// The node that answered.
const NODE_HEADER: HeaderName = HeaderName::from_static("appliance-node");

impl Api {
    /// An API over this member's log and state.
    pub(crate) fn new(raft: Raft, reader: Reader, options: ApiOptions) -> Arc<Api> {
        let node = HeaderValue::try_from(&options.node_name).ok();
        Arc::new(Api { registry: Registry::new(raft, reader), options, node })
    }

    /// The node's part of the cluster.
    fn cluster(&self) -> &ClusterHandle {
        &self.options.cluster
    }

    /// Answers one request. Never fails: whatever goes wrong is an answer too.
    pub(crate) async fn respond<B>(
        &self,
        caller: Caller,
        request: http::Request<B>,
    ) -> http::Response<ApiBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let started = Instant::now();
        let _under_way = self.options.load.request();
        let (head, body) = request.into_parts();
        let reader = self.registry.reader();
        let caller = authenticate::authenticate(reader, caller, &head.headers, OffsetDateTime::now_utc());
        let call = Call::new(&caller, &head);
        let target = request::parse(&head.method, head.uri.path(), call.query);
        let mut body = pin!(body);
        let mut response = match self.route(&call, target.as_ref(), body.as_mut()).await {
            Ok(response) => response,
            Err(refusal) => {
                body::discard(body, call.courtesy()).await;
                refuse(&refusal)
            }
        };
        if let (Some(node), Identity::User { .. }) = (&self.node, &caller.identity) {
            response.headers_mut().insert(NODE_HEADER, node.clone());
        }
        let (verb, resource) = labels(target.as_ref());
        self.options.metrics.request(verb, resource, response.status().as_u16(), started.elapsed());
        response
    }

    /// Who may ask, then what is asked. Nobody learns what exists before we know who it is.
    async fn route<B>(&self, call: &Call<'_>, target: Result<&Target, &Unroutable>, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Ok(Target::Probe(probe)) = target {
            return health::probe(self, *probe, call).await;
        }
        // Whoever asks to join is nobody yet; the token in the request says whether they may.
        if call.caller.identity == Identity::Anonymous && target != Ok(&Target::Cluster(ClusterTarget::Join))
        {
            return Err(Status::unauthorized().into());
        }
        call.refuse_impersonation()?;
        match target.map_err(|unroutable| Refusal::from(*unroutable))? {
            Target::Probe(_) | Target::Metrics => health::metrics(self),
            Target::Version => discovery::version(),
            Target::CoreVersions => discovery::core_versions(call),
            Target::Groups => discovery::groups(call),
            Target::Group(group) => discovery::group(group),
            Target::GroupVersion(group) => discovery::resources(group),
            Target::Review(review) => self.review(call, *review, body).await,
            Target::Cluster(target) => cluster::respond(self, call, target, body).await,
            Target::Resource(verb, scope) => {
                call.authorise(*verb, scope)?;
                self.resource(call, *verb, scope, body).await
            }
        }
    }

    async fn review<B>(&self, call: &Call<'_>, review: Review, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        reviews::review(call, review, &body::read(body).await?)
    }

    /// One verb, one file.
    async fn resource<B>(&self, call: &Call<'_>, verb: Verb, scope: &Scope, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let body = async || Ok::<Bytes, Refusal>(body::read(body).await?);
        match verb {
            Verb::Get => get::get(self, call, scope).await,
            Verb::List => list::list(self, call, scope).await,
            Verb::Watch => watch::watch(self, call, scope).await,
            Verb::Create => create::create(self, call, scope, &body().await?).await,
            Verb::Update => replace::replace(self, call, scope, &body().await?).await,
            Verb::Patch => patch::patch(self, call, scope, &body().await?).await,
            Verb::Delete => delete::delete(self, call, scope, &body().await?).await,
            Verb::DeleteCollection => {
                delete_collection::delete_collection(self, call, scope, &body().await?).await
            }
        }
    }
}

/// What a request is counted under.
fn labels(target: Result<&Target, &Unroutable>) -> (&'static str, &'static str) {
    match target {
        Ok(Target::Resource(verb, scope)) => (verb.name(), scope.kind.plural()),
        Ok(Target::Probe(_)) => ("get", "health"),
        Ok(Target::Metrics) => ("get", "metrics"),
        Ok(Target::Review(_)) => ("create", "reviews"),
        Ok(Target::Cluster(target)) => (target.verb(), "cluster"),
        Ok(_) => ("get", "discovery"),
        Err(_) => ("unknown", ""),
    }
}
