//! `/cluster/credentials`: what lets people and programs in: certificates and bearer tokens.
//!
//! A certificate is a signature: nothing is kept of it, and it can not be taken back before it ends. A bearer token is
//! a record, and ends when that is removed. Either is in the answer to whoever asked and nowhere else.

use appliance_resources::{Reason, Status};
use appliance_storage::{Compare, Op};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{decode, lifetime, refusal};
use crate::api::call::Call;
use crate::api::caller::Role;
use crate::api::respond::{Refusal, json as answer, unavailable};
use crate::api::{Answer, Api};
use crate::cluster::handle::ClusterHandle;
use crate::cluster::records::{self, CredentialRecord, MemberRecord, Other, whole_seconds};
use crate::cluster::registry::{self, Committed, Look, Standing};
use crate::cluster::token::{BearerToken, client_role};

/// A day's work.
const TTL_DEFAULT: Duration = Duration::DAY;

/// Whoever needs it for longer can ask again once a year.
const TTL_MAX: Duration = Duration::days(366);

/// Bearer tokens at a time.
const CREDENTIALS_MAX: usize = 1_000;

/// Expired records that one request for another clears away.
const SWEEP_MAX: usize = 64;

/// The longest common name a certificate can have.
const USER_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    #[default]
    Certificate,
    Token,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    user: Option<String>,
    role: String,
    ttl_seconds: Option<u64>,
    #[serde(default)]
    kind: Kind,
    csr: Option<String>,
}

pub(super) async fn list(api: &Api) -> Answer {
    let found = api.cluster().records.list::<CredentialRecord>(records::CREDENTIALS, Look::Latest).await?;
    let items: Vec<Value> = found.into_iter().map(|one| shown(&one.value)).collect();
    Ok(answer(StatusCode::OK, &json!({ "items": items })))
}

/// A bearer token as anybody may see it: without its hash.
fn shown(credential: &CredentialRecord) -> Value {
    json!({
        "id": credential.id,
        "user": credential.user,
        "role": credential.role,
        "created": credential.created.format(&Rfc3339).unwrap_or_default(),
        "expires": credential.expires.format(&Rfc3339).unwrap_or_default(),
        "createdBy": credential.created_by,
    })
}

pub(super) async fn create(api: &Api, call: &Call<'_>, body: &Bytes) -> Answer {
    let request: Request = decode(body)?;
    let role = client_role(&request.role).ok_or_else(|| {
        let why = format!("role: {:?} is not one of admin, operator, viewer", request.role);
        Refusal::from(Status::bad_request(why))
    })?;
    let user = request.user.clone().unwrap_or_else(|| request.role.clone());
    check_user(&user)?;
    let lifetime = lifetime(request.ttl_seconds, TTL_DEFAULT, TTL_MAX)?;
    let mut answered = match request.kind {
        Kind::Certificate => certificate(api, call, &user, &role, lifetime, request.csr.as_deref()).await?,
        Kind::Token if request.csr.is_some() => {
            return Err(Status::bad_request("csr: a bearer token has no key").into());
        }
        Kind::Token => token(api, call, user.clone(), request.role.clone(), lifetime).await?,
    };
    answered["user"] = user.into();
    answered["role"] = request.role.into();
    answered["servers"] = servers(api.cluster()).await?.into();
    Ok(answer(StatusCode::CREATED, &answered))
}

/// Names that would be taken for somebody else's are nobody's to have.
fn check_user(user: &str) -> Result<(), Refusal> {
    let plain = user.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if user.is_empty() || user.len() > USER_BYTES_MAX || !plain {
        let why = format!("user: must be 1 to {USER_BYTES_MAX} bytes without spaces");
        return Err(Status::bad_request(why).into());
    }
    if user.starts_with("system:") || user.starts_with("uid:") || user == "root" {
        return Err(Status::bad_request(format!("user: {user:?} is a name of the system's own")).into());
    }
    Ok(())
}

async fn certificate(
    api: &Api,
    call: &Call<'_>,
    user: &str,
    role: &Role,
    lifetime: Duration,
    request: Option<&str>,
) -> Result<Value, Refusal> {
    let issued = api.cluster().issuer().issue_client(user, role, lifetime, request, call.now).await?;
    tracing::info!(
        "{} ({}) was given a certificate for user {user}, {}, until {}",
        call.caller.name(),
        call.caller.address,
        role.group(),
        issued.expires
    );
    Ok(json!({
        "certificate": issued.certificate,
        "key": issued.key,
        "ca": issued.bundle,
        "expires": issued.expires.format(&Rfc3339).unwrap_or_default(),
    }))
}

async fn token(
    api: &Api,
    call: &Call<'_>,
    user: String,
    role: String,
    lifetime: Duration,
) -> Result<Value, Refusal> {
    let cluster = api.cluster();
    let standing = cluster.records.list::<CredentialRecord>(records::CREDENTIALS, Look::Latest).await?;
    let mut then = swept(&standing, call.now);
    if standing.len() - then.len() >= CREDENTIALS_MAX {
        let message = format!("there are {CREDENTIALS_MAX} credentials already; revoke some");
        return Err(refusal(409, Some(Reason::Conflict), message));
    }
    let token = BearerToken::generate().map_err(Status::internal)?;
    let created = whole_seconds(call.now);
    let record = CredentialRecord {
        id: token.id.clone(),
        hash: token.secret.hash(),
        user,
        role,
        created,
        expires: created + lifetime,
        created_by: call.caller.name().to_owned(),
        other: Other::new(),
    };
    let key = records::credential_key(&token.id);
    then.push(registry::put(key.clone(), &record)?);
    match cluster.records.txn(call.author()?, vec![Compare::Absent { key }], then).await? {
        Committed::Done(_) => {}
        Committed::Conflict => return Err(unavailable("try again").into()),
    }
    Ok(json!({
        "id": record.id,
        "token": token.to_string(),
        "ca": cluster.keyring.keys().borrow().bundle.concat(),
        "expires": record.expires.format(&Rfc3339).unwrap_or_default(),
    }))
}

/// Expired ones go when somebody asks for another, not by the clock alone: one that jumps ahead would take them all.
fn swept(standing: &[Standing<CredentialRecord>], now: OffsetDateTime) -> Vec<Op> {
    let over = |one: &&Standing<CredentialRecord>| one.value.expires + TTL_DEFAULT < now;
    standing.iter().filter(over).take(SWEEP_MAX).map(|one| Op::Delete { key: one.key.clone() }).collect()
}

/// Where the API is, the member that was asked first.
async fn servers(cluster: &ClusterHandle) -> Result<Vec<String>, Refusal> {
    let mut members = cluster.records.list::<MemberRecord>(records::MEMBERS, Look::Local).await?;
    members.sort_by_key(|member| member.value.id != cluster.member);
    let addresses = members.into_iter().flat_map(|member| member.value.api);
    Ok(addresses.map(|address| format!("https://{address}")).collect())
}

pub(super) async fn revoke(api: &Api, call: &Call<'_>, id: &str) -> Answer {
    let key = records::credential_key(id);
    let then = vec![Op::Delete { key: key.clone() }];
    let exists = vec![Compare::Exists { key }];
    match api.cluster().records.txn(call.author()?, exists, then).await? {
        Committed::Done(_) => {
            Ok(answer(StatusCode::OK, &super::success(&format!("credential {id} is revoked"))))
        }
        Committed::Conflict => {
            Err(refusal(404, Some(Reason::NotFound), format!("there is no credential {id}")))
        }
    }
}
