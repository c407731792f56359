//! Report: what is enforced, at which revision, and what was refused or repaired.
//!
//! The value itself is the status of a NodeReport, ready to be written; here is how the reconciler keeps it. A report is
//! published only when it differs from the last one, so whoever watches it writes only news.

use std::collections::BTreeMap;

use appliance_resources::{EndpointState, EnforcementState, NodeReportStatus, Refusal};
use tokio::sync::watch;

use crate::calc::DesiredReport;

/// What a node tells the cluster about its enforcement.
pub type Report = NodeReportStatus;

/// Of a description of drift, what is kept; the rest is in the log.
const CHANGE_MAX: usize = 500;

/// Keeps the report and publishes it when it changes.
pub(crate) struct Reporter {
    report: Report,
    sender: watch::Sender<Report>,
}

impl Reporter {
    pub(crate) fn new(sender: watch::Sender<Report>) -> Reporter {
        let report =
            Report { message: "waiting for the store and the interfaces".to_owned(), ..Report::default() };
        let reporter = Reporter { report, sender };
        reporter.publish();
        reporter
    }

    /// The revision reported last.
    pub(crate) fn revision(&self) -> u64 {
        self.report.revision
    }

    /// `revision` is in force. `denied` are endpoints whose policy the kernel refused, and why.
    pub(crate) fn enforcing(
        &mut self,
        revision: u64,
        desired: &DesiredReport,
        denied: &BTreeMap<String, String>,
    ) {
        self.report.revision = revision;
        self.report.state = EnforcementState::Enforcing;
        self.report.message.clear();
        self.report.endpoints.clone_from(&desired.endpoints);
        self.report.refusals.clone_from(&desired.refusals);
        for (name, reason) in denied {
            self.deny(name, reason);
        }
        self.publish();
    }

    /// The last change did not reach the kernel; what was in force still is.
    pub(crate) fn failed(&mut self, reason: String) {
        if self.report.state != EnforcementState::WaitingForSync {
            self.report.state = EnforcementState::Failed;
        }
        self.report.message = reason;
        self.publish();
    }

    /// Something was put back that someone else had changed.
    pub(crate) fn repaired(&mut self, at: String, change: &str) {
        self.report.drift.repairs += 1;
        self.report.drift.last_repair = Some(at);
        self.report.drift.last_change = change.chars().take(CHANGE_MAX).collect();
        self.publish();
    }

    fn deny(&mut self, name: &str, reason: &str) {
        let reason =
            format!("the kernel refused its policy, so everything but failsafes is denied: {reason}");
        for endpoint in self.report.endpoints.iter_mut().filter(|endpoint| endpoint.name == name) {
            endpoint.state = EndpointState::Error;
            endpoint.reason.clone_from(&reason);
        }
        self.report.refusals.push(Refusal { kind: "HostEndpoint".to_owned(), name: name.to_owned(), reason });
    }

    fn publish(&self) {
        self.sender.send_if_modified(|published| {
            let news = *published != self.report;
            if news {
                published.clone_from(&self.report);
            }
            news
        });
    }
}
