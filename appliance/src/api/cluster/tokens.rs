//! `/cluster/tokens`: join tokens, made, listed and revoked.
//!
//! The secret is in the answer to whoever made the token and nowhere else: the record has its hash. Using a token is
//! the business of the join.

use appliance_resources::{Reason, Status};
use appliance_storage::{Compare, Op};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::Duration;
use time::format_description::well_known::Rfc3339;

use super::{decode, lifetime, refusal};
use crate::api::call::Call;
use crate::api::respond::{Refusal, json as answer, unavailable};
use crate::api::{Answer, Api};
use crate::cluster::handle::ClusterHandle;
use crate::cluster::records::{self, MemberRecord, Other, TokenRecord, whole_seconds};
use crate::cluster::registry::{self, Committed, Look, Standing};
use crate::cluster::token::JoinToken;

/// How long a token is good when nobody says otherwise: enough to walk to the other host.
const TTL_DEFAULT: Duration = Duration::HOUR;

/// A token that is good for longer is a password.
const TTL_MAX: Duration = Duration::days(30);

/// Tokens at a time: whoever has more is not joining hosts.
const TOKENS_MAX: usize = 1_000;

/// What a token is for, in its maker's words.
const DESCRIPTION_BYTES_MAX: usize = 256;

/// The one role there is to join as.
const ROLE: &str = "node";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Request {
    ttl_seconds: Option<u64>,
    uses: Option<u32>,
    role: Option<String>,
    description: String,
}

pub(super) async fn list(api: &Api) -> Answer {
    let tokens = api.cluster().records.list::<TokenRecord>(records::TOKENS, Look::Latest).await?;
    let items: Vec<Value> = tokens.into_iter().map(|token| shown(&token.value)).collect();
    Ok(answer(StatusCode::OK, &json!({ "items": items })))
}

/// A token as anybody may see it: without its hash.
fn shown(token: &TokenRecord) -> Value {
    json!({
        "id": token.id,
        "role": token.role,
        "created": token.created.format(&Rfc3339).unwrap_or_default(),
        "expires": token.expires.format(&Rfc3339).unwrap_or_default(),
        "usesLeft": token.uses_left,
        "usedBy": token.used_by,
        "createdBy": token.created_by,
        "description": token.description,
    })
}

pub(super) async fn create(api: &Api, call: &Call<'_>, body: &Bytes) -> Answer {
    let request: Request = decode(body)?;
    let lifetime = lifetime(request.ttl_seconds, TTL_DEFAULT, TTL_MAX)?;
    check(&request)?;
    let cluster = api.cluster();
    let standing = cluster.records.list::<TokenRecord>(records::TOKENS, Look::Latest).await?;
    if standing.len() >= TOKENS_MAX {
        let message =
            format!("there are {TOKENS_MAX} tokens already; revoke some, or wait until some expire");
        return Err(refusal(409, Some(Reason::Conflict), message));
    }
    let pin = cluster.keyring.keys().borrow().pin();
    let pin = pin.ok_or_else(|| Status::internal("this node's certificate names no authority to pin"))?;
    let token = JoinToken::generate(pin).map_err(Status::internal)?;
    let created = whole_seconds(call.now);
    let record = TokenRecord {
        id: token.id.clone(),
        hash: token.secret.hash(),
        role: ROLE.to_owned(),
        created,
        expires: created + lifetime,
        uses_left: request.uses,
        used_by: Vec::new(),
        created_by: call.caller.name().to_owned(),
        description: request.description,
        other: Other::new(),
    };
    let key = records::token_key(&token.id);
    let put = registry::put(key.clone(), &record)?;
    match cluster.records.txn(call.author()?, vec![Compare::Absent { key }], vec![put]).await? {
        Committed::Done(_) => {}
        // Forty random bits met others; the client's next attempt draws again.
        Committed::Conflict => return Err(unavailable("try again").into()),
    }
    let mut answered = shown(&record);
    answered["token"] = token.to_string().into();
    answered["join"] = format!("appliance run --join {} --token {token}", reached_on(cluster).await?).into();
    Ok(answer(StatusCode::CREATED, &answered))
}

fn check(request: &Request) -> Result<(), Refusal> {
    let wrong = |why: String| Err(Status::bad_request(why).into());
    match request {
        Request { role: Some(role), .. } if role != ROLE => {
            wrong(format!("role: {role:?} is none to join as; {ROLE:?} is"))
        }
        Request { uses: Some(0), .. } => wrong("uses: must be at least 1, or null for any number".to_owned()),
        Request { description, .. } if description.len() > DESCRIPTION_BYTES_MAX => {
            wrong(format!("description: is longer than {DESCRIPTION_BYTES_MAX} bytes"))
        }
        _ => Ok(()),
    }
}

/// An address that other hosts can reach a member on: this one's if it has one, else any other's.
async fn reached_on(cluster: &ClusterHandle) -> Result<String, Refusal> {
    let members = cluster.records.list::<MemberRecord>(records::MEMBERS, Look::Local).await?;
    let (ours, others): (Vec<Standing<MemberRecord>>, Vec<Standing<MemberRecord>>) =
        members.into_iter().partition(|member| member.value.id == cluster.member);
    let addresses: Vec<String> = ours.into_iter().chain(others).flat_map(|member| member.value.api).collect();
    let loopback = |address: &&String| {
        address.starts_with("127.") || address.starts_with("[::1]") || address.starts_with("localhost:")
    };
    let found = addresses.iter().find(|address| !loopback(address)).or(addresses.first());
    Ok(found.cloned().unwrap_or_else(|| "HOST:6443".to_owned()))
}

pub(super) async fn revoke(api: &Api, call: &Call<'_>, id: &str) -> Answer {
    let key = records::token_key(id);
    let then = vec![Op::Delete { key: key.clone() }];
    let exists = vec![Compare::Exists { key }];
    match api.cluster().records.txn(call.author()?, exists, then).await? {
        Committed::Done(_) => Ok(answer(StatusCode::OK, &super::success(&format!("token {id} is revoked")))),
        Committed::Conflict => Err(refusal(404, Some(Reason::NotFound), format!("there is no token {id}"))),
    }
}
