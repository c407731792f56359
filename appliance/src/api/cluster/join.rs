//! `POST /cluster/join`: a node asks to become a member.

use bytes::Bytes;
use http::StatusCode;

use crate::api::call::Call;
use crate::api::respond::json;
use crate::api::{Answer, Api};

/// Lets it in, or says why not.
pub(super) async fn join(api: &Api, call: &Call<'_>, body: &Bytes) -> Answer {
    let cluster = api.cluster();
    let joined = cluster.reception.join(&cluster.records, call.caller, body, call.now).await;
    Ok(json(StatusCode::OK, &joined?))
}
