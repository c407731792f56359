//! `/cluster/ca`: how the certificate authority stands, and its rotation step by step.
//!
//! The steps are [`crate::cluster::ca`]'s, and the leader takes those that only wait for members; here an administrator
//! begins one, ends it, or goes on without members that are gone.

use appliance_resources::{Reason, Status};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{decode, refusal};
use crate::api::call::Call;
use crate::api::respond::{Refusal, json as answer, unavailable};
use crate::api::{Answer, Api};
use crate::cluster::ca::{self, BeginError, RotateRefusal};
use crate::cluster::certificate::Certificate;
use crate::cluster::handle::ClusterHandle;
use crate::cluster::issuer::IssuerError;
use crate::cluster::records::{self, CaPhase, CaRecord, MemberRecord};
use crate::cluster::registry::{self, Committed, Look, Standing};
use crate::cluster::renewal;

/// A step that the leader takes at the same moment is looked at again this often.
const ATTEMPTS: usize = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Request {
    finish: bool,
    force: bool,
}

pub(super) async fn get(api: &Api) -> Answer {
    let cluster = api.cluster();
    let record = record(cluster, Look::Latest).await?;
    Ok(answer(StatusCode::OK, &shown(&record.value, &renewal::members(cluster)?)))
}

pub(super) async fn rotate(api: &Api, call: &Call<'_>, body: &Bytes) -> Answer {
    let request: Request = decode(body)?;
    let cluster = api.cluster();
    for _ in 0..ATTEMPTS {
        let standing = record(cluster, Look::Latest).await?;
        let members = renewal::members(cluster)?;
        let next = step(cluster, call, &request, &standing.value, &members)?;
        if next == standing.value {
            return Ok(answer(StatusCode::OK, &shown(&next, &members)));
        }
        let put = registry::put(standing.key.clone(), &next)?;
        let committed = cluster.records.txn(call.author()?, vec![standing.unchanged()], vec![put]).await?;
        if let Committed::Done(_) = committed {
            tracing::info!("{} rotates the authority: now {:?}", call.caller.name(), next.phase);
            return Ok(answer(StatusCode::OK, &shown(&next, &members)));
        }
    }
    Err(unavailable("the rotation moves on by itself; look again").into())
}

/// What the record is to be.
fn step(
    cluster: &ClusterHandle,
    call: &Call<'_>,
    request: &Request,
    record: &CaRecord,
    members: &[MemberRecord],
) -> Result<CaRecord, Refusal> {
    let conflict = |error: RotateRefusal| refusal(409, Some(Reason::Conflict), error.to_string());
    if request.finish {
        return ca::finish(record, members, request.force).map_err(conflict);
    }
    if request.force && record.phase != CaPhase::Stable {
        return Ok(ca::advance(record, members, true).unwrap_or_else(|| record.clone()));
    }
    ca::begin(record, &cluster.cluster_id, cluster.keyring.seal(), call.now).map_err(|error| match error {
        BeginError::Refused(refused) => conflict(refused),
        BeginError::Failed(failed) => Status::internal(failed).into(),
    })
}

async fn record(cluster: &ClusterHandle, look: Look) -> Result<Standing<CaRecord>, Refusal> {
    let record = cluster.records.get::<CaRecord>(&records::ca_key(), look).await?;
    record.ok_or_else(|| IssuerError::NoAuthority.into())
}

/// Certificates are public; the sealed keys beside them are nobody's business.
fn shown(record: &CaRecord, members: &[MemberRecord]) -> Value {
    let one = |certificate: &str, state: &str| {
        let read = Certificate::from_pem(certificate).ok();
        json!({
            "sha256": read.as_ref().map(|read| read.fingerprint.clone()),
            "notAfter": read.map(|read| read.not_after.format(&Rfc3339).unwrap_or_default()),
            "state": state,
        })
    };
    let certificates: Vec<Value> = std::iter::once(one(&record.current.certificate, "current"))
        .chain(record.next.iter().map(|key| one(&key.certificate, "next")))
        .chain(record.previous.iter().map(|key| one(&key.certificate, "previous")))
        .collect();
    json!({
        "generation": record.generation,
        "phase": record.phase,
        "certificates": certificates,
        "waitingFor": ca::waiting_for(record, members),
        "message": message(record),
    })
}

/// What an administrator has to do, in words.
fn message(record: &CaRecord) -> &'static str {
    match (record.phase, record.previous.is_empty()) {
        (CaPhase::Stable, true) => "nothing to do",
        (CaPhase::Stable, false) => {
            "members use the new authority; clients are served by the one before until the rotation is finished: make \
             new kubeconfigs and certificates for every client (they work before and after), then \"appliance ctl ca \
             rotate --finish\", which ends the old ones and unused join tokens; bearer tokens stay good, their \
             kubeconfigs need the new authority"
        }
        (CaPhase::Distributing, _) => {
            "members learn to trust the next authority; what clients have stays good"
        }
        (CaPhase::Issuing, _) => {
            "members get certificates of the new authority; what clients have stays good"
        }
    }
}
