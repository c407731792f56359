//! `--wait`: until every node has reported that it enforces a revision.
//!
//! What is still missing is worked out purely; the loop only asks again. A node that does not enforce at all
//! (`Disabled`, `Disarmed`) is named at once rather than waited for in vain.

use std::collections::BTreeMap;
use std::time::Duration;

use appliance_resources::Kind;
use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;
use crate::object;
use crate::target::{Target, collection_path, with_query};
use crate::world::Failure;

/// Nodes report at most once a second, so asking more often than this shows nothing new.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Where the cluster stands, seen from one revision.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Enforced,
    /// These nodes have not come that far.
    Waiting(Vec<String>),
    /// These nodes never will, as they are.
    Never(Vec<String>),
}

/// Waits for every node, or names those it waited for in vain.
pub(crate) async fn until_enforced(client: &Client, revision: u64, seconds: u64) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
    loop {
        let nodes = client.get(&collection_path(Kind::Node, None)).await?;
        let reports = client.get(&collection_path(Kind::NodeReport, None)).await?;
        match progress(object::items(&nodes), object::items(&reports), revision) {
            Progress::Enforced => return Ok(()),
            Progress::Never(nodes) => {
                let nodes = nodes.join(", ");
                return Err(
                    format!("revision {revision} is stored but will not be enforced by {nodes}").into()
                );
            }
            Progress::Waiting(nodes) if tokio::time::Instant::now() >= deadline => {
                let nodes = nodes.join(", ");
                return Err(format!(
                    "revision {revision} is stored but not yet enforced after {seconds} s by {nodes}"
                )
                .into());
            }
            Progress::Waiting(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// The version of a collection as it is now, to look back from later.
pub(crate) async fn version_of(client: &Client, collection: &str) -> Result<String, ClientError> {
    let list = client.get(&with_query(collection, &[("limit", Some("1"))])).await?;
    Ok(object::version(&list).to_string())
}

/// The revision an object was deleted in. The answer to a deletion does not carry it, the collection's history does.
pub(crate) async fn deletion_of(client: &Client, target: &Target, after: &str) -> Result<u64, ClientError> {
    let field = format!("metadata.name={}", target.name);
    let options =
        [("watch", Some("true")), ("resourceVersion", Some(after)), ("fieldSelector", Some(field.as_str()))];
    let mut events = client.watch(&with_query(&target.collection(), &options)).await?;
    while let Some(event) = events.next().await? {
        if event["type"] == "DELETED" {
            return Ok(object::version(&event["object"]).parse().unwrap_or(0));
        }
    }
    Err(ClientError::Broken("the watch ended before it showed the deletion".to_string()))
}

fn progress(nodes: &[Value], reports: &[Value], revision: u64) -> Progress {
    let reports: BTreeMap<&str, &Value> =
        reports.iter().map(|report| (object::name(report), report)).collect();
    let names = nodes.iter().map(object::name).chain(reports.keys().copied());
    let (mut waiting, mut never) = (Vec::new(), Vec::new());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let status = reports.get(name).and_then(|report| report.get("status"));
        let state =
            status.and_then(|status| status.get("state")).and_then(Value::as_str).unwrap_or("no report");
        let reached = status.and_then(|status| status.get("revision")).and_then(Value::as_u64).unwrap_or(0);
        match state {
            "Disabled" | "Disarmed" => never.push(format!("{name} ({state})")),
            "Enforcing" if reached >= revision => {}
            _ => waiting.push(format!("{name} ({state} at revision {reached})")),
        }
    }
    match (never.is_empty(), waiting.is_empty()) {
        (false, _) => Progress::Never(never),
        (true, false) => Progress::Waiting(waiting),
        (true, true) => Progress::Enforced,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> Value {
        json!({"metadata": {"name": name}})
    }

    fn report(name: &str, state: &str, revision: u64) -> Value {
        json!({"metadata": {"name": name}, "status": {"state": state, "revision": revision}})
    }

    #[test]
    fn every_node_must_have_come_as_far() {
        let nodes = [node("a"), node("b")];
        let both = [report("a", "Enforcing", 9), report("b", "Enforcing", 12)];
        assert_eq!(progress(&nodes, &both, 9), Progress::Enforced);
        let behind = vec!["a (Enforcing at revision 9)".to_string()];
        assert_eq!(progress(&nodes, &both, 10), Progress::Waiting(behind));
        let silent = vec!["b (no report at revision 0)".to_string()];
        assert_eq!(progress(&nodes, &both[..1], 9), Progress::Waiting(silent));
        let disarmed = [report("a", "Disarmed", 9), report("b", "Enforcing", 1)];
        assert_eq!(progress(&nodes, &disarmed, 9), Progress::Never(vec!["a (Disarmed)".to_string()]));
    }
}
