//! The API (essay follows with the verbs).

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod caller;
mod columns;
mod create;
mod decode;
mod delete;
mod delete_collection;
mod discovery;
mod get;
#[cfg(test)]
mod harness;
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

use std::sync::Arc;
use std::time::Instant;

use appliance_consensus::Raft;
use appliance_resources::Status;
use appliance_storage::Reader;
use bytes::Bytes;
use hyper::body::Body;

use self::body::ApiBody;
use self::call::Call;
use self::caller::{Caller, Identity};
use self::load::Load;
use self::registry::Registry;
use self::request::{Review, Scope, Target, Unroutable, Verb};
use self::respond::{Refusal, refuse};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// An answer, or what is answered instead.
type Answer = Result<http::Response<ApiBody>, Refusal>;

/// What the API is told about the node it serves.
pub(crate) struct ApiOptions {
    /// Shown by the health checks and reviews.
    pub(crate) node_name: String,
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
}

impl Api {
    /// An API over this member's log and state.
    pub(crate) fn new(raft: Raft, reader: Reader, options: ApiOptions) -> Arc<Api> {
        Arc::new(Api { registry: Registry::new(raft, reader), options })
    }

    /// The store as resources, for the node's own writes.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
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
        let call = Call::new(&caller, &head);
        let target = request::parse(&head.method, head.uri.path(), call.query);
        let response = match self.route(&call, target.as_ref(), body).await {
            Ok(response) => response,
            Err(refusal) => refuse(&refusal),
        };
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
        if call.caller.identity == Identity::Anonymous {
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
        Ok(_) => ("get", "discovery"),
        Err(_) => ("unknown", ""),
    }
}
