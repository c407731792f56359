//! Whom one request is from, where the connection alone does not say.
//!
//! The doors know whoever showed a certificate or came through the Unix socket; a proven identity stays what it is,
//! whatever else a request carries. Everybody else may show a bearer token, and is who its record says. The record is
//! this node's own copy, so tokens work without a quorum, and a revoked one ends on each node as that node hears of
//! it. A token that is wrong, revoked or over makes nobody of its bearer, which is 401 wherever somebody is needed.
//! A removed node's certificate outlives its membership; here is where it stops to count. A certificate that ends while
//! its connection lasts ends here too, and whatever lasts longer than a request asks again ([`stands`]).

use appliance_storage::{Fatal, Key, Reader};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use time::OffsetDateTime;

use super::caller::{Caller, Identity, Proof, Role};
use crate::cluster::records::{self, CredentialRecord, MemberId, RemovedRecord};
use crate::cluster::token::BearerToken;

/// The scheme, which is case-insensitive like every one.
const SCHEME: &str = "bearer ";

/// How often a member may begin again before its oldest certificates end by that: a certificate lives for months, and a
/// request must not walk for ever.
const SUCCESSORS_MAX: usize = 64;

/// The caller as this request shows them.
pub(super) fn authenticate(
    reader: &Reader,
    caller: Caller,
    headers: &HeaderMap,
    now: OffsetDateTime,
) -> Caller {
    match &caller.identity {
        Identity::Anonymous => match shown(headers) {
            Some(token) => {
                let identity = holder(reader, &token, now).unwrap_or(Identity::Anonymous);
                Caller { identity, proof: Proof::Token(token), ..caller }
            }
            None => caller,
        },
        Identity::User { .. } if !stands(reader, &caller, now) => anonymous(caller),
        Identity::User { .. } => caller,
    }
}

fn anonymous(caller: Caller) -> Caller {
    Caller { identity: Identity::Anonymous, ..caller }
}

/// Whether a caller still is whom a look at the proof made of them.
pub(super) fn stands(reader: &Reader, caller: &Caller, now: OffsetDateTime) -> bool {
    let proven = match &caller.proof {
        Proof::Connection => true,
        Proof::Certificate { ends } => now <= *ends,
        Proof::Token(token) => holder(reader, token, now).is_some_and(|holder| holder == caller.identity),
    };
    proven && !was_removed(reader, caller)
}

/// The bearer token in the headers, if it has the form of one.
fn shown(headers: &HeaderMap) -> Option<BearerToken> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    token.trim().parse().ok()
}

/// Whoever's bearer token this is.
fn holder(reader: &Reader, token: &BearerToken, now: OffsetDateTime) -> Option<Identity> {
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

/// Whether what the caller shows is of a member that was removed. By the member's id, where the certificate has one:
/// its name may be another host's by now.
fn was_removed(reader: &Reader, caller: &Caller) -> bool {
    let removed = match (&caller.member, &caller.identity) {
        (Some(uri), _) => match records::member_of_uri(uri) {
            Some(id) => was_put_out(reader, id),
            None => Ok(true),
        },
        // Certificates of the first versions name no member.
        (None, Identity::User { role: Role::Node(name), .. }) => name_was_removed(reader, name),
        (None, _) => Ok(false),
    };
    // Whoever can not be looked up is not let in.
    removed.unwrap_or(true)
}

/// Whether the host of this member was put out. A member that began again with a fresh copy has another id, and is who
/// it was: it may have to ask once more with what it had before.
fn was_put_out(reader: &Reader, member: MemberId) -> Result<bool, Fatal> {
    let mut member = member;
    for _ in 0..SUCCESSORS_MAX {
        let Some(tombstone) = reader.get(&records::removed_key(member))? else { return Ok(false) };
        let tombstone = records::decode::<RemovedRecord>(&tombstone.value).ok();
        match tombstone.and_then(|tombstone| tombstone.successor) {
            Some(successor) => member = successor,
            None => return Ok(true),
        }
    }
    Ok(true)
}

/// Whether the node of this name is a member no more. A name that was never one, or is one again, is not removed.
fn name_was_removed(reader: &Reader, name: &str) -> Result<bool, Fatal> {
    if reader.get(&records::name_key(name))?.is_some() {
        return Ok(false);
    }
    let (_, removed) = reader.list(&Key::from(records::REMOVED))?;
    let mut removed =
        removed.iter().filter_map(|record| records::decode::<RemovedRecord>(&record.value).ok());
    Ok(removed.any(|record| record.name == name))
}
