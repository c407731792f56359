//! `GET /cluster/status`: the cluster as this member sees it, quorum or not. A node, which asks before it goes on without
//! the others, is told that and which cluster it is.

use std::collections::BTreeMap;

use appliance_resources::{AnyResource, Kind, NodeReportStatus, ResourceKey, Unknown};
use appliance_storage::Key;
use http::StatusCode;

use crate::api::call::Call;
use crate::api::caller::Role;
use crate::api::respond::{Refusal, json};
use crate::api::{Answer, Api};
use crate::cluster::records::{MEMBERS, MemberRecord};
use crate::cluster::status::{ClusterStatus, Sight};

/// Answers it.
pub(super) fn get(api: &Api, call: &Call<'_>) -> Answer {
    let status = status(api)?;
    match call.caller.role() {
        Some(Role::Node(_)) => Ok(json(StatusCode::OK, &status.standing())),
        _ => Ok(json(StatusCode::OK, &status)),
    }
}

fn status(api: &Api) -> Result<ClusterStatus, Refusal> {
    let cluster = api.cluster();
    let (raft, reader) = (cluster.records.raft().status(), cluster.records.reader());
    let members = cluster.records.local_list::<MemberRecord>(MEMBERS)?;
    let records: Vec<MemberRecord> = members.into_iter().map(|member| member.value).collect();
    let sight = Sight {
        cluster: &cluster.cluster_id,
        own: cluster.member,
        raft: &raft,
        tick: cluster.settings.tick,
        revision: reader.revision().0,
        records: &records,
        reports: &reports(api)?,
        replace_after: cluster.settings.replace_after,
        removed: cluster.settings.removed,
        alarms: cluster.alarms.texts(),
        links: &cluster.links.connections(),
    };
    Ok(sight.status())
}

/// What each node says that it enforces. One that can not be read is left out: the others are worth knowing.
fn reports(api: &Api) -> Result<BTreeMap<String, NodeReportStatus>, Refusal> {
    let prefix = ResourceKey::global(Kind::NodeReport, "").path();
    let (_, found) = api.cluster().records.reader().list(&Key::from(prefix))?;
    let report = |value: &[u8]| {
        let value = serde_json::from_slice(value).ok()?;
        match AnyResource::from_value(value, Unknown::Drop).ok()?.resource {
            AnyResource::NodeReport(report) => Some((report.metadata.name, report.status)),
            _ => None,
        }
    };
    Ok(found.iter().filter_map(|record| report(&record.value)).collect())
}
