//! What a member says of its cluster, read once, and what an operator should do about it. Pure.
//!
//! It trusts the member's words and adds only arithmetic: how many voters are needed, who is missing, who holds more.
//! How it looks is `output::cluster`'s; the commands below `commands::cluster` ask for it.

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::duration;

/// A certificate that ends sooner than this should have renewed itself long ago.
const CERTIFICATE_DAYS_MIN: i64 = 14;
/// So many entries behind is more than a busy moment.
const LAG_MAX: u64 = 1_000;

/// The answer of `GET /cluster/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) cluster: String,
    pub(crate) quorum: bool,
    pub(crate) leader: Option<String>,
    pub(crate) term: Option<u64>,
    pub(crate) revision: Option<u64>,
    /// Who answered.
    pub(crate) node: String,
    pub(crate) members: Vec<Member>,
    pub(crate) alarms: Vec<String>,
}

/// One member, as the one who answered knows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `voter`, `learner`, `joining` or `removed`.
    pub(crate) role: String,
    pub(crate) leader: bool,
    pub(crate) peer: Vec<String>,
    pub(crate) api: Vec<String>,
    pub(crate) version: Option<String>,
    pub(crate) reachable: bool,
    /// Why who answered could not send it anything.
    pub(crate) failure: Option<String>,
    pub(crate) last_contact_ms: Option<u64>,
    pub(crate) applied: Option<u64>,
    pub(crate) last: Option<u64>,
    /// The term of the last entry of its log; a node of an older version does not say.
    pub(crate) last_term: Option<u64>,
    pub(crate) term: Option<u64>,
    pub(crate) lag: Option<u64>,
    pub(crate) revision: Option<u64>,
    pub(crate) enforced_revision: Option<u64>,
    pub(crate) enforcement: Option<String>,
    pub(crate) diverged: bool,
    pub(crate) certificate_expires: Option<String>,
}

/// Which survivor the others should follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fullest {
    /// This one holds everything that any survivor holds.
    One(String),
    /// No one does: the longest log and the most applied entries are different members'.
    Unclear { longest: String, furthest: String },
}

impl Status {
    /// Reads an answer.
    pub(crate) fn read(answer: &Value) -> Result<Status, String> {
        Status::deserialize(answer).map_err(|error| format!("the node's status can not be read: {error}"))
    }

    /// The member by name or id.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == name || member.name == name)
    }

    pub(crate) fn here(&self) -> Option<&Member> {
        self.member(&self.node)
    }

    /// The name of who answered.
    pub(crate) fn asked(&self) -> String {
        self.here().map_or_else(|| self.node.clone(), |member| member.name.clone())
    }

    /// Whether who answered is no member any more. What it says of others is what it last knew.
    pub(crate) fn is_removed(&self) -> bool {
        self.here().is_some_and(|member| member.role == "removed")
    }

    pub(crate) fn is_here(&self, member: &Member) -> bool {
        member.id == self.node
    }

    pub(crate) fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.role == "voter")
    }

    /// Voters that answer, the one we asked among them.
    pub(crate) fn voters_heard(&self) -> usize {
        self.voters().filter(|member| self.hears(member)).count()
    }

    /// How many voters a decision takes.
    pub(crate) fn needed(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    pub(crate) fn hears(&self, member: &Member) -> bool {
        member.reachable || self.is_here(member)
    }

    /// Members that are still there, whether they vote or not.
    pub(crate) fn survivors(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| self.hears(member) && member.role != "removed")
    }

    /// Members that are not.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !self.hears(member) && member.role != "removed")
    }

    /// The survivor to recover on: the one whose log any other would follow, as raft compares them, by the term of the
    /// last entry and only then by length. A longer log of an older term ends in entries that were never acknowledged.
    /// That log has everything that any other has applied; where the terms are not told, or the numbers contradict that,
    /// it must have applied the most too. Among equals the one we asked, so that nobody is sent elsewhere for nothing.
    pub(crate) fn fullest(&self) -> Option<Fullest> {
        let candidates = || self.survivors().filter(|member| !member.diverged);
        let terms = candidates().all(|member| member.last_term.is_some());
        let log = |member: &Member| (member.last_term.filter(|_| terms).unwrap_or(0), member.end());
        let applied = |member: &Member| member.applied.unwrap_or(0);
        let longest = candidates().max_by_key(|one| (log(one), applied(one), self.is_here(one)))?;
        let furthest = candidates().max_by_key(|one| (applied(one), log(one), self.is_here(one)))?;
        let holds_all = |one: &Member, other: &Member| {
            let reaches = if terms { one.end() } else { applied(one) };
            log(one) >= log(other) && reaches >= applied(other)
        };
        Some(if holds_all(longest, furthest) {
            Fullest::One(longest.name.clone())
        } else if holds_all(furthest, longest) {
            Fullest::One(furthest.name.clone())
        } else {
            Fullest::Unclear { longest: longest.name.clone(), furthest: furthest.name.clone() }
        })
    }

    /// What to do, most urgent first; nothing when all is well.
    pub(crate) fn advice(&self, now: OffsetDateTime) -> Vec<String> {
        let mut advice = Vec::new();
        if self.is_removed() {
            return vec![format!(
                "{name} was removed from the cluster. To let it join again: `appliance ctl token create` on a member; here \
                 stop it, move everything but dataplane/, which has its last policy, out of its data directory, and run what \
                 that prints. Ask a member for the state of the cluster.",
                name = self.asked()
            )];
        }
        if self.quorum {
            advice.extend(self.missing().map(Member::advice_missing));
        } else {
            advice.extend(self.advice_quorum());
        }
        for member in self.members.iter().filter(|member| member.role != "removed") {
            advice.extend(member.advice(now));
        }
        if self.quorum {
            advice.extend(self.advice_few_voters());
        }
        advice
    }

    /// What a cluster of several that hangs on one or two of them should do; who is alone chose to be.
    fn advice_few_voters(&self) -> Option<String> {
        let learner = self.members.iter().find(|member| member.role == "learner" && self.hears(member));
        match (self.voters().count(), learner) {
            (1, Some(learner)) => Some(format!(
                "One voter: its loss stops all writes, and takes along what only it has. Let a learner vote: appliance ctl \
                 member promote {}",
                learner.name
            )),
            (2, Some(learner)) => Some(format!(
                "Two voters: the loss of either stops all writes. Let a learner vote: appliance ctl member promote {}",
                learner.name
            )),
            (2, None) => Some(
                "Two voters: the loss of either stops all writes. Join a third host: appliance ctl token create"
                    .to_string(),
            ),
            _ => None,
        }
    }

    fn advice_quorum(&self) -> Vec<String> {
        let (heard, all, needed) = (self.voters_heard(), self.voters().count(), self.needed());
        let standing = format!(
            "NO QUORUM: {heard} of {all} voters can be reached from here, {needed} are needed. Nothing can be written; every \
             host keeps enforcing what it has, and `appliance ctl get --stale` still reads."
        );
        if heard >= needed {
            return vec![
                standing,
                "An election may be under way: look again in a few seconds. If it stays so, the members do not reach each \
                 other: check the peer port (2380) between the hosts, both ways."
                    .to_string(),
            ];
        }
        let lost: Vec<String> =
            self.missing().filter(|member| member.role == "voter").map(Member::whereabouts).collect();
        vec![
            standing,
            format!(
                "Start {} of: {} (`systemctl start appliance` there), or mend the network to them.",
                needed - heard,
                lost.join(", ")
            ),
            match all {
                // The other of two can not be given a copy by the one alone, whatever it waits for.
                2 => "Only if it is lost for good, or its log says that its data is given up, on a surviving host: \
                      appliance ctl recover",
                _ => "Only if they are lost for good, on a surviving host: appliance ctl recover",
            }
            .to_string(),
        ]
    }
}

impl Member {
    /// Where its log ends.
    fn end(&self) -> u64 {
        self.last.unwrap_or(0)
    }

    /// How long until its certificate ends; negative once it has.
    pub(crate) fn certificate_left(&self, now: OffsetDateTime) -> Option<time::Duration> {
        let expires = OffsetDateTime::parse(self.certificate_expires.as_deref()?, &Rfc3339).ok()?;
        Some(expires - now)
    }

    fn whereabouts(&self) -> String {
        let address = self.peer.first().map(|address| format!("{address}, ")).unwrap_or_default();
        format!("{} ({address}{})", self.name, self.contact())
    }

    fn contact(&self) -> String {
        match self.last_contact_ms {
            Some(milliseconds) => format!("last heard of {} ago", duration::words(milliseconds)),
            None => "not heard of since this node started".to_string(),
        }
    }

    fn advice_missing(&self) -> String {
        format!(
            "{} can not be reached ({}{}): start it. If it is gone for good: appliance ctl member remove {}, then join \
             another host.",
            self.name,
            self.contact(),
            self.failure.as_ref().map(|failure| format!("; {failure}")).unwrap_or_default(),
            self.name
        )
    }

    fn advice(&self, now: OffsetDateTime) -> Vec<String> {
        let name = &self.name;
        let mut advice = Vec::new();
        if self.diverged {
            advice.push(format!(
                "{name} holds another history than the leader and serves nothing: it fetches a fresh copy by itself as soon as \
                 there is a quorum without it; its log says how far it is."
            ));
        }
        match self.enforcement.as_deref() {
            Some("Disarmed") => advice.push(format!(
                "{name} is disarmed: it enforces nothing until `appliance ctl node arm` there."
            )),
            Some(state) if !matches!(state, "Enforcing" | "Disabled" | "") => advice
                .push(format!("{name} says {state}: appliance ctl get nodereport {name} -o yaml says why.")),
            _ => {}
        }
        match self.certificate_left(now).map(|left| left.whole_days()) {
            Some(days) if days < 0 => advice.push(format!(
                "The certificate of {name} has expired: nobody will speak to it. Check its clock and its log, then restart it."
            )),
            Some(days) if days < CERTIFICATE_DAYS_MIN => advice.push(format!(
                "The certificate of {name} ends in {days} days and should have renewed itself: look at its log."
            )),
            _ => {}
        }
        if self.lag.is_some_and(|lag| lag > LAG_MAX) && self.reachable {
            advice.push(format!(
                "{name} is {} entries behind: if that does not shrink, its disk or its network is too slow.",
                self.lag.unwrap_or(0)
            ));
        }
        advice
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

    fn status(quorum: bool, members: &[(&str, bool, u64, u64)]) -> Status {
        let member = |(name, reachable, applied, last): &(&str, bool, u64, u64)| {
            json!({"id": format!("id-{name}"), "name": name, "role": "voter", "reachable": reachable,
                   "applied": applied, "last": last, "lastContactMs": 300_000, "peer": [format!("{name}:2380")]})
        };
        let members: Vec<Value> = members.iter().map(member).collect();
        Status::read(&json!({"quorum": quorum, "node": "id-a", "leader": null, "members": members})).unwrap()
    }

    #[test]
    fn a_healthy_cluster_needs_nothing() {
        let status = status(true, &[("a", false, 5, 5), ("b", true, 5, 5), ("c", true, 5, 5)]);
        assert_eq!(status.advice(NOW), [] as [String; 0]);
    }

    #[test]
    fn too_few_voters_are_more_when_a_learner_votes_or_a_host_joins() {
        let advice = |roles: &[&str]| {
            let mut status = status(true, &[("a", false, 5, 5), ("b", true, 5, 5), ("c", true, 5, 5)]);
            status.members.truncate(roles.len());
            for (member, role) in status.members.iter_mut().zip(roles) {
                member.role = (*role).to_string();
            }
            status.advice(NOW).join("; ")
        };
        let one = advice(&["voter", "learner", "learner"]);
        assert!(one.starts_with("One voter: ") && one.ends_with("member promote b"), "{one}");
        assert!(advice(&["voter", "voter", "learner"]).ends_with("member promote c"));
        assert!(advice(&["voter", "voter"]).ends_with("token create"));
        assert_eq!(advice(&["voter"]), "");
    }

    #[test]
    fn who_can_not_be_reached_is_named_with_the_reason() {
        let mut status = status(true, &[("a", false, 5, 5), ("b", true, 5, 5), ("c", false, 5, 5)]);
        status.members[2].failure = Some("at c:2380: timed out".to_string());
        let advice = status.advice(NOW).join("; ");
        assert!(
            advice
                .starts_with("c can not be reached (last heard of 5m ago; at c:2380: timed out): start it."),
            "{advice}"
        );
    }

    #[test]
    fn a_lost_quorum_names_who_to_start_and_how_many() {
        let status = status(false, &[("a", false, 5, 5), ("b", false, 5, 5), ("c", false, 5, 5)]);
        let advice = status.advice(NOW);
        assert!(
            advice[0].starts_with("NO QUORUM: 1 of 3 voters can be reached from here, 2 are needed."),
            "{advice:?}"
        );
        assert_eq!(
            advice[1],
            "Start 1 of: b (b:2380, last heard of 5m ago), c (c:2380, last heard of 5m ago) (`systemctl start appliance` \
             there), or mend the network to them."
        );
        assert!(advice[2].ends_with("appliance ctl recover"));
    }

    #[test]
    fn of_two_voters_the_one_left_goes_on_alone_where_the_other_has_nothing_to_bring() {
        let status = status(false, &[("a", false, 5, 5), ("b", false, 5, 5)]);
        let advice = status.advice(NOW);
        assert!(advice[2].contains("its log says that its data is given up"), "{advice:?}");
        assert!(advice[2].ends_with("appliance ctl recover"), "{advice:?}");
    }

    #[test]
    fn a_removed_node_gives_no_advice_about_others() {
        let mut status = status(false, &[("a", false, 5, 5), ("b", false, 5, 5)]);
        status.members[0].role = "removed".to_string();
        let advice = status.advice(NOW);
        assert!(advice.len() == 1 && advice[0].starts_with("a was removed from the cluster."), "{advice:?}");
    }

    #[test]
    fn enough_voters_without_quorum_are_an_election_or_a_broken_network() {
        let status = status(false, &[("a", false, 5, 5), ("b", true, 5, 5), ("c", false, 5, 5)]);
        assert!(status.advice(NOW)[1].starts_with("An election may be under way"));
    }

    #[test]
    fn recovery_goes_where_most_is_held_and_stays_here_among_equals() {
        let fullest = |members: &[(&str, bool, u64, u64)]| status(false, members).fullest();
        let one = |name: &str| Some(Fullest::One(name.to_string()));
        assert_eq!(fullest(&[("a", false, 5, 5), ("b", true, 5, 5), ("c", false, 9, 9)]), one("a"));
        assert_eq!(fullest(&[("a", false, 5, 5), ("b", true, 5, 6)]), one("b"));
        assert_eq!(fullest(&[("a", false, 4, 6), ("b", true, 5, 6)]), one("b"));
        let unclear = Fullest::Unclear { longest: "a".to_string(), furthest: "b".to_string() };
        assert_eq!(fullest(&[("a", false, 5, 9), ("b", true, 7, 7)]), Some(unclear));
    }

    #[test]
    fn of_two_logs_the_newer_term_wins_and_not_the_longer() {
        // Name, applied, end of the log, term of its last entry.
        let fullest = |members: &[(&str, u64, u64, Option<u64>)]| {
            let plain = members.iter().map(|(name, applied, last, _)| (*name, true, *applied, *last));
            let mut status = status(false, &plain.collect::<Vec<_>>());
            for (member, (.., term)) in status.members.iter_mut().zip(members) {
                member.last_term = *term;
            }
            status.fullest()
        };
        let one = |name: &str| Some(Fullest::One(name.to_string()));
        // What `a` has after entry 5 a leader of term 3 never had: nobody was told that it is done.
        assert_eq!(fullest(&[("a", 5, 9, Some(2)), ("b", 7, 7, Some(3))]), one("b"));
        assert_eq!(fullest(&[("a", 5, 9, Some(2)), ("b", 4, 6, Some(3))]), one("b"));
        // Within a term one log is the beginning of the other.
        assert_eq!(fullest(&[("a", 5, 9, Some(3)), ("b", 7, 7, Some(3))]), one("a"));
        assert_eq!(fullest(&[("a", 5, 7, Some(3)), ("b", 5, 7, Some(3))]), one("a"), "who was asked");
        // What can not be, and what is not told, is left to a person.
        let unclear = |longest: &str, furthest: &str| {
            Some(Fullest::Unclear { longest: longest.to_string(), furthest: furthest.to_string() })
        };
        assert_eq!(fullest(&[("a", 9, 9, Some(2)), ("b", 7, 7, Some(3))]), unclear("b", "a"));
        assert_eq!(fullest(&[("a", 5, 9, None), ("b", 7, 7, Some(3))]), unclear("a", "b"));
    }

    #[test]
    fn certificates_divergence_and_lag_are_told() {
        let mut status = status(true, &[("a", false, 5, 5), ("b", true, 5, 5), ("c", true, 5, 5)]);
        status.members[0].certificate_expires = Some("2026-01-05T12:00:00Z".to_string());
        status.members[1].diverged = true;
        status.members[2].lag = Some(5_000);
        status.members[2].enforcement = Some("Failing".to_string());
        let advice = status.advice(NOW);
        for (line, expected) in
            advice.iter().zip(["ends in 4 days", "by itself", "says Failing", "5000 entries behind"])
        {
            assert!(line.contains(expected), "{line}");
        }
        assert_eq!(advice.len(), 4);
    }
}
