//! `/cluster/…`: the cluster about itself, over the same doors as the resources. One file a noun.
//!
//! [`route`] says what a path asks and who may ask it; here each question is sent to its handler. Handlers read and
//! write the cluster's records through [`crate::cluster::registry`], never the store itself. Whatever is refused is a
//! `Status`, as everywhere. It refuses to answer before the caller's right is known.

mod authority;
mod credentials;
mod join;
#[cfg(test)]
mod join_tests;
mod members;
mod rescue;
pub(crate) mod route;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod tokens;
mod ttl;

use appliance_resources::{Reason, Status};
use bytes::Bytes;
use hyper::body::Body;
use serde::de::DeserializeOwned;

use self::route::ClusterTarget;
use self::ttl::lifetime;
use super::body;
use super::call::Call;
use super::respond::Refusal;
use super::{Answer, Api};

/// The longest request is a certificate request and some names; more is nobody we want to listen to for long, since
/// strangers may post here.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Answers one request below `/cluster/`.
pub(super) async fn respond<B>(api: &Api, call: &Call<'_>, target: &ClusterTarget, body: B) -> Answer
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !route::allows(&call.caller.identity, target) {
        let why = route::refusal(call.caller.name(), target, call.path());
        return Err(Status::forbidden_path(why).into());
    }
    let body = body::read_up_to(body, REQUEST_BYTES_MAX).await?;
    match target {
        ClusterTarget::ListTokens => tokens::list(api).await,
        ClusterTarget::CreateToken => tokens::create(api, call, &body).await,
        ClusterTarget::RevokeToken(id) => tokens::revoke(api, call, id).await,
        ClusterTarget::Authority => authority::get(api).await,
        ClusterTarget::RotateAuthority => authority::rotate(api, call, &body).await,
        ClusterTarget::ListCredentials => credentials::list(api).await,
        ClusterTarget::CreateCredential => credentials::create(api, call, &body).await,
        ClusterTarget::RevokeCredential(id) => credentials::revoke(api, call, id).await,
        ClusterTarget::Status => status::get(api, call),
        ClusterTarget::Join => join::join(api, call, &body).await,
        ClusterTarget::Promote(member) => members::promote(api, call, member).await,
        ClusterTarget::Demote(member) => members::demote(api, call, member).await,
        ClusterTarget::Remove(member) => members::remove(api, call, member).await,
        ClusterTarget::TransferLeadership => members::transfer(api, call, &body).await,
        ClusterTarget::Recover => rescue::recover(api, call, &body),
        ClusterTarget::Reseed => rescue::reseed(api, call),
        ClusterTarget::Snapshot => snapshot::get(api, call).await,
    }
}

/// A refusal with any code.
pub(crate) fn refusal(code: u16, reason: Option<Reason>, message: impl Into<String>) -> Refusal {
    let message = message.into();
    Status { status: "Failure".to_owned(), code, reason, message, ..Status::default() }.into()
}

/// What is answered to an order that leaves nothing to show.
pub(super) fn success(message: &str) -> Status {
    Status { status: "Success".to_owned(), code: 200, message: message.to_owned(), ..Status::default() }
}

/// The request in a body; an empty one asks for every default.
pub(super) fn decode<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    // An array would be taken for the fields in their order, which nobody means.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(Status::bad_request("the body can not be understood: it is no object").into());
    }
    serde_json::from_slice(text)
        .map_err(|error| Status::bad_request(format!("the body can not be understood: {error}")).into())
}
