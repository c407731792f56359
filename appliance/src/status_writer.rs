//! Status writer: what the dataplane reports, as this node's NodeReport.
//!
//! Changes are coalesced to one write a second, and a report that says nothing new is not written. The syncer does not
//! look at NodeReports, so a write here can not lead to another. A write that fails is tried again with whatever is
//! true by then; enforcement neither waits for it nor knows of it.

use std::collections::BTreeMap;
use std::time::Duration;

use appliance_resources::{NodeReport, NodeReportStatus, ObjectMeta, Refusal, ResourceKey};
use tokio::sync::watch;

use crate::api::registry::Registry;
use crate::author;

/// At most one write in this time: a report is for people and for `--wait`, and every write costs every member a disk.
const INTERVAL: Duration = Duration::from_secs(1);

/// Refusals beyond this many are counted, not listed: a report must stay a record.
const REFUSALS_MAX: usize = 256;

/// Kept with each revision as the reason of the write.
const REASON: &str = "enforcement status";

/// Objects that never reached the dataplane because they could not be understood.
pub(crate) type Refusals = BTreeMap<ResourceKey, Refusal>;

/// Keeps the NodeReport of one node.
pub(crate) struct StatusWriter {
    registry: Registry,
    node_name: String,
    report: watch::Receiver<NodeReportStatus>,
    refusals: watch::Receiver<Refusals>,
}

impl StatusWriter {
    /// A writer for the node of that name.
    pub(crate) fn new(
        registry: Registry,
        node_name: String,
        report: watch::Receiver<NodeReportStatus>,
        refusals: watch::Receiver<Refusals>,
    ) -> StatusWriter {
        StatusWriter { registry, node_name, report, refusals }
    }

    /// Runs until the dataplane and the syncer are gone, or until it is aborted.
    pub(crate) async fn run(mut self) {
        let mut written = None;
        loop {
            let status = status(&self.report.borrow_and_update(), &self.refusals.borrow_and_update());
            if written.as_ref() != Some(&status) {
                match self.write(status.clone()).await {
                    Ok(()) => written = Some(status),
                    Err(refusal) => tracing::debug!("the report of this node waits: {refusal}"),
                }
            }
            tokio::time::sleep(INTERVAL).await;
            if written.is_some() && !self.changed().await {
                return;
            }
        }
    }

    /// The registry writes nothing when the stored report says the same, as it does after a quiet restart.
    async fn write(&self, status: NodeReportStatus) -> Result<(), crate::api::respond::Refusal> {
        let report = NodeReport { metadata: ObjectMeta::named(&self.node_name), status };
        self.registry.put(author::node(&self.node_name, REASON), report.into()).await.map(drop)
    }

    /// Waits for either source; false when both have gone.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            Ok(()) = self.report.changed() => true,
            Ok(()) = self.refusals.changed() => true,
            else => false,
        }
    }
}

/// The dataplane's report, with what never reached the dataplane because it could not be read.
fn status(report: &NodeReportStatus, refusals: &Refusals) -> NodeReportStatus {
    let mut status = report.clone();
    status.refusals.extend(refusals.values().cloned());
    let beyond = status.refusals.len().saturating_sub(REFUSALS_MAX);
    if beyond > 0 {
        status.refusals.truncate(REFUSALS_MAX);
        let note = format!("{beyond} more objects are refused than are listed");
        status.message = if status.message.is_empty() { note } else { format!("{}; {note}", status.message) };
    }
    status
}

#[cfg(test)]
mod tests {
    use appliance_resources::Kind;

    use super::*;

    fn refused(count: usize) -> Refusals {
        let refusal = |n: usize| {
            let name = format!("{n:04}");
            let refusal = Refusal { kind: "Tier".to_owned(), name: name.clone(), reason: "odd".to_owned() };
            (ResourceKey::global(Kind::Tier, name), refusal)
        };
        (0..count).map(refusal).collect()
    }

    #[test]
    fn what_never_reached_the_dataplane_is_reported_beside_what_did() {
        let own = Refusal { kind: "Profile".to_owned(), name: "p".to_owned(), reason: "own".to_owned() };
        let report = NodeReportStatus { revision: 7, refusals: vec![own], ..NodeReportStatus::default() };

        let status = status(&report, &refused(1));

        let names: Vec<&str> = status.refusals.iter().map(|refusal| refusal.name.as_str()).collect();
        assert_eq!((status.revision, names), (7, vec!["p", "0000"]));
        assert!(status.message.is_empty());
    }

    #[test]
    fn a_flood_of_refusals_is_cut_and_counted() {
        let status = status(&NodeReportStatus::default(), &refused(REFUSALS_MAX + 3));
        assert_eq!(status.refusals.len(), REFUSALS_MAX);
        assert_eq!(status.message, "3 more objects are refused than are listed");
    }
}
