//! `/cluster/members/…` and `/cluster/leader`: what an operator does to members.

use appliance_consensus::ChangeError;
use appliance_resources::{Reason, Status};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{decode, refusal};
use crate::api::call::Call;
use crate::api::respond::{self, Refusal};
use crate::api::{Answer, Api};
use crate::cluster::membership::{self, MembershipError, Named};
use crate::cluster::records::MemberId;

/// Who is to lead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    #[serde(default)]
    to: Option<String>,
}

impl From<MembershipError> for Refusal {
    fn from(error: MembershipError) -> Refusal {
        let text = error.to_string();
        match error {
            MembershipError::Unknown(_) => refusal(404, Some(Reason::NotFound), text),
            MembershipError::Contended => respond::unavailable(text).into(),
            MembershipError::Change(error) => changed(&error),
            MembershipError::Records(error) => error.into(),
        }
    }
}

fn changed(error: &ChangeError) -> Refusal {
    match error {
        ChangeError::NoLeader | ChangeError::Busy | ChangeError::Stopped => {
            respond::unavailable(error).into()
        }
        ChangeError::Uncertain => Status::timeout(error).into(),
        ChangeError::Refused { .. } => refusal(409, Some(Reason::Conflict), error.to_string()),
    }
}

/// Makes a learner a voter.
pub(super) async fn promote(api: &Api, call: &Call<'_>, member: &str) -> Answer {
    let named = membership::find(api.cluster(), member).await?;
    membership::promote(api.cluster(), &call.author()?, named.id).await?;
    told(call, &named, "is a voter")
}

/// Makes a voter a learner.
pub(super) async fn demote(api: &Api, call: &Call<'_>, member: &str) -> Answer {
    let named = membership::find(api.cluster(), member).await?;
    membership::demote(api.cluster(), &call.author()?, named.id).await?;
    told(call, &named, "is a learner until it is promoted")
}

/// Removes a member.
pub(super) async fn remove(api: &Api, call: &Call<'_>, member: &str) -> Answer {
    let named = membership::remove(api.cluster(), &call.author()?, member).await?;
    told(
        call,
        &named,
        "is removed; its node keeps enforcing the policy it has until it is told otherwise. Its certificates open nothing \
         any more; a host that was stolen can make others, until the CA is changed: see \"A stolen host\" in the README",
    )
}

fn told(call: &Call<'_>, named: &Named, what: &str) -> Answer {
    let name = if named.name.is_empty() { "without a name" } else { &named.name };
    let message = format!("member {} ({name}) {what}", named.id);
    tracing::info!("{message}, by {}", call.caller.name());
    let member = json!({"id": named.id, "name": named.name});
    Ok(respond::json(StatusCode::OK, &json!({"message": message, "member": member})))
}

/// Hands leadership over.
pub(super) async fn transfer(api: &Api, call: &Call<'_>, body: &Bytes) -> Answer {
    let wanted: Transfer = decode(body)?;
    let to = match wanted.to {
        Some(text) => Some(membership::find(api.cluster(), &text).await?.id.0),
        None => None,
    };
    let raft = api.cluster().records.raft();
    let leader = raft.transfer_leadership(to).await.map_err(|error| changed(&error))?;
    let leader = membership::known(api.cluster(), &MemberId(leader).to_string())?;
    tracing::info!("member {} ({}) leads, by {}", leader.id, leader.name, call.caller.name());
    Ok(respond::json(StatusCode::OK, &json!({"leader": {"id": leader.id, "name": leader.name}})))
}
