//! How a cluster looks: a head that says whether it works, a line for each member, and what to do. Pure.

use time::OffsetDateTime;

use super::table::Table;
use crate::cluster::{Member, Status};
use crate::duration;

/// The whole of `cluster status`.
pub(crate) fn status(status: &Status, now: OffsetDateTime, wide: bool) -> String {
    let mut text = head(status);
    text.push('\n');
    text.push_str(&members(status, now, wide).render());
    let advice = status.advice(now);
    for (title, lines) in [("Alarms", &status.alarms), ("What to do", &advice)] {
        if !lines.is_empty() {
            text.push_str(&format!("{title}:\n"));
            text.extend(lines.iter().map(|line| format!("  - {}\n", printable(line))));
        }
    }
    if status.alarms.is_empty() && advice.is_empty() {
        text.push_str("All is well.\n");
    }
    text
}

/// Whether it works, who leads, how far it is.
fn head(status: &Status) -> String {
    let name = |id: &str| status.member(id).map_or_else(|| id.to_string(), |member| member.name.clone());
    let quorum = if status.quorum { "yes" } else { "NO" };
    let (heard, all) = (status.voters_heard(), status.voters().count());
    let leader = status.leader.as_deref().map_or_else(|| "none".to_string(), name);
    let number =
        |number: Option<u64>| number.map_or_else(|| "unknown".to_string(), |number| number.to_string());
    let quorum = match status.is_removed() {
        true => "this node was removed from the cluster".to_string(),
        false => format!("{quorum}: {heard} of {all} voters, {} needed", status.needed()),
    };
    let lines = [
        ("Cluster", status.cluster.clone()),
        ("Quorum", quorum),
        ("Leader", format!("{leader}, term {}", number(status.term))),
        ("Revision", format!("{}, as {} knows it", number(status.revision), name(&status.node))),
    ];
    let line = |(title, text): (&str, String)| format!("{:<10}{}\n", format!("{title}:"), printable(&text));
    lines.into_iter().map(line).collect()
}

/// A line for each member.
pub(crate) fn members(status: &Status, now: OffsetDateTime, wide: bool) -> Table {
    let mut headings =
        vec!["NAME", "ROLE", "CONTACT", "APPLIED", "LAG", "ENFORCED", "ENFORCEMENT", "CERTIFICATE"];
    if wide {
        headings.extend(["ID", "LAST", "TERM", "REVISION", "VERSION", "PEER", "API"]);
    }
    let rows = status.members.iter().map(|member| row(status, member, now, wide)).collect();
    Table { headings: headings.into_iter().map(str::to_string).collect(), rows }
}

fn row(status: &Status, member: &Member, now: OffsetDateTime, wide: bool) -> Vec<String> {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let role = if member.leader { "leader" } else { member.role.as_str() };
    let state = match (member.diverged, member.enforcement.as_deref()) {
        (true, _) => "DIVERGED",
        (false, state) => state.unwrap_or_default(),
    };
    let mut row = vec![
        member.name.clone(),
        role.to_string(),
        contact(status, member),
        number(member.applied),
        number(member.lag),
        number(member.enforced_revision),
        state.to_string(),
        member.certificate_left(now).map(remaining).unwrap_or_default(),
    ];
    if wide {
        row.extend([member.id.clone(), number(member.last), number(member.term), number(member.revision)]);
        row.extend([member.version.clone().unwrap_or_default(), member.peer.join(","), member.api.join(",")]);
    }
    row
}

fn contact(status: &Status, member: &Member) -> String {
    match (status.is_here(member), member.reachable, member.last_contact_ms) {
        (true, ..) => "here".to_string(),
        (false, true, Some(milliseconds)) => format!("{} ago", duration::words(milliseconds)),
        (false, true, None) => "yes".to_string(),
        (false, false, Some(milliseconds)) => format!("LOST {} ago", duration::words(milliseconds)),
        (false, false, None) => "NEVER".to_string(),
    }
}

fn remaining(left: time::Duration) -> String {
    match u64::try_from(left.whole_milliseconds()) {
        Ok(milliseconds) => duration::words(milliseconds),
        Err(_) => "EXPIRED".to_string(),
    }
}

/// What a node says does not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
