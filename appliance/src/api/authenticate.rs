//! Whom one request is from, where the connection alone does not say.
//!
//! The doors know whoever showed a certificate or came through the Unix socket; a proven identity stays what it is,
//! whatever else a request carries. Everybody else may show a bearer token, and is who its record says. The record is
//! this node's own copy, so tokens work without a quorum, and a revoked one ends on each node as that node hears of
//! it. A token that is wrong, revoked or over makes nobody of its bearer, which is 401 wherever somebody is needed.
//! A removed node's certificate outlives its membership; here is where it stops to count.

use appliance_storage::{Fatal, Key, Reader};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use time::OffsetDateTime;

use super::caller::{Caller, Identity, Role};
use crate::cluster::records::{self, CredentialRecord, RemovedRecord};
use crate::cluster::token::BearerToken;

/// The scheme, which is case-insensitive like every one.
const SCHEME: &str = "bearer ";

/// The caller as this request shows them.
pub(super) fn authenticate(
    reader: &Reader,
    caller: Caller,
    headers: &HeaderMap,
    now: OffsetDateTime,
) -> Caller {
    let identity = match &caller.identity {
        Identity::Anonymous => bearer(reader, headers, now).unwrap_or(Identity::Anonymous),
        Identity::User { role: Role::Node(name), .. } if was_removed(reader, name) => Identity::Anonymous,
        Identity::User { .. } => return caller,
    };
    Caller { identity, ..caller }
}

/// Whoever's bearer token this is.
fn bearer(reader: &Reader, headers: &HeaderMap, now: OffsetDateTime) -> Option<Identity> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let token: BearerToken = token.trim().parse().ok()?;
    let record = reader.get(&records::credential_key(&token.id));
    let record =
        record.map_err(|error| tracing::warn!("a credential can not be looked up: {error}")).ok()??;
    let record: CredentialRecord = records::decode(&record.value).ok()?;
    match record.check(now, &token.secret) {
        Ok(role) => Some(Identity::User { name: record.user, role }),
        Err(refusal) => {
            tracing::debug!("credential {}: {refusal}", token.id);
            None
        }
    }
}

/// Whether the node of this name is a member no more. A name that was never one, or is one again, is not removed.
fn was_removed(reader: &Reader, name: &str) -> bool {
    let removed = || {
        if reader.get(&records::name_key(name))?.is_some() {
            return Ok(false);
        }
        let (_, removed) = reader.list(&Key::from(records::REMOVED))?;
        let names = removed.iter().filter_map(|record| records::decode::<RemovedRecord>(&record.value).ok());
        Ok::<_, Fatal>(names.into_iter().any(|record| record.name == name))
    };
    // Whoever can not be looked up is not let in.
    removed().unwrap_or(true)
}
