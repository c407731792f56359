//! The oracles: what must hold at every step of every schedule, whatever fails. Each answers the sentence that says what
//! was broken. They see what members send, commit and answer, and nothing of how they came to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use protobuf::Message as _;
use raft::{
    GetEntriesContext, Storage as _,
    eraftpb::{Entry, Message, MessageType},
};

use super::{
    ledger::Journal,
    life::{Answer, Life},
    members::Members,
    tally::Tally,
};
use crate::{message::MemberChange, state_machine::StateMachine as _, status::Status};

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Write(u64),
    Read,
    Change(MemberChange),
    Transfer(Option<u64>),
}

struct Op {
    question: Question,
    member: u64,
    /// The newest entry that anyone had been told of when the question was asked.
    floor: u64,
    /// How many configurations had been in force by then.
    era: usize,
    answer: Option<Answer>,
}

/// Everything that was promised so far.
pub(crate) struct Oracle {
    journal: Journal,
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<(u64, u64), u64>,
    terms: BTreeMap<u64, u64>,
    entries: HashMap<(u64, u64), (u64, u64)>,
    committed: BTreeMap<u64, (u64, u64)>,
    /// Who the members are behind an entry, ascending; the first is the founders'.
    members: Vec<(u64, Members)>,
    changes: BTreeMap<u64, Entry>,
    modelled: u64,
    ops: Vec<Op>,
    refused: BTreeSet<u64>,
    acknowledged: BTreeMap<u64, u64>,
    floor: u64,
}

type Verdict = Result<(), String>;

impl Oracle {
    pub(crate) fn new(founders: &[u64], journal: Journal) -> Oracle {
        Oracle {
            journal,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            terms: BTreeMap::new(),
            entries: HashMap::new(),
            committed: BTreeMap::new(),
            members: vec![(1, Members::founded_by(founders))],
            changes: BTreeMap::new(),
            modelled: 1,
            ops: Vec::new(),
            refused: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            floor: 0,
        }
    }

    /// A client asks; the answer names this number.
    pub(crate) fn ask(&mut self, member: u64, question: Question) -> usize {
        self.ops.push(Op { question, member, floor: self.floor, era: self.members.len(), answer: None });
        self.ops.len() - 1
    }

    /// Questions that were answered in time to matter.
    pub(crate) fn is_answered(&self, op: usize) -> bool {
        self.ops[op].answer.is_some()
    }

    pub(crate) fn is_acknowledged(&self, number: u64) -> bool {
        self.acknowledged.contains_key(&number)
    }

    /// Where a careless member would say that a write is.
    pub(crate) fn guess(&self, op: usize) -> u64 {
        let known = match self.ops[op].question {
            Question::Write(number) => self.journal.index_of(number),
            _ => None,
        };
        known.unwrap_or(self.floor + 1)
    }

    /// The members as the committed log has them.
    pub(crate) fn members(&self) -> &Members {
        &self.members.last().expect("the founders").1
    }

    fn members_at(&self, index: u64) -> &Members {
        let at = self.members.partition_point(|(from, _)| *from <= index);
        &self.members[at.max(1) - 1].1
    }

    /// A client was told something.
    pub(crate) fn answered(&mut self, op: usize, answer: &Answer) -> Verdict {
        let Op { question, member, floor, answer: before, .. } = &mut self.ops[op];
        let (question, member, floor) = (*question, *member, *floor);
        if before.replace(answer.clone()).is_some() {
            return Err(format!("{question:?} at member {member} was answered twice, at last {answer:?}"));
        }
        match (question, answer) {
            (_, Answer::Forgotten) => {
                Err(format!("member {member} forgot whoever asked it for {question:?}"))
            }
            (Question::Write(number), Answer::Written(index)) => self.written(number, *index, floor),
            (Question::Write(number), Answer::Refused(_)) => {
                self.refused.insert(number);
                self.check_refused(number)
            }
            (Question::Read, Answer::ReadAt(index)) => {
                self.floor = self.floor.max(*index);
                if *index < floor {
                    return Err(format!(
                        "member {member} served a read at entry {index}, though entry {floor} was known when it began"
                    ));
                }
                Ok(())
            }
            // What a member says of itself nobody may have seen yet.
            (Question::Transfer(_), Answer::Leads(leader))
                if *leader != member && !self.leaders.values().any(|id| id == leader) =>
            {
                Err(format!("member {member} says that {leader} leads, and it never did"))
            }
            _ => Ok(()),
        }
    }

    fn written(&mut self, number: u64, index: u64, floor: u64) -> Verdict {
        self.acknowledged.insert(number, index);
        self.floor = self.floor.max(index);
        if index <= floor {
            return Err(format!(
                "command {number} was written at entry {index}, before entry {floor}, which was known when it began"
            ));
        }
        match self.journal.index_of(number) {
            Some(applied) if applied == index => Ok(()),
            applied => {
                Err(format!("command {number} was acknowledged at entry {index}, applied at {applied:?}"))
            }
        }
    }

    /// Every change that was answered as done was in force at some time since it was asked for; and whom all were
    /// refused to add was never a member.
    fn check_changes(&self) -> Verdict {
        let mut asked: BTreeMap<u64, bool> = BTreeMap::new();
        for op in &self.ops {
            let Question::Change(change) = op.question else { continue };
            let mut since = self.members[op.era - 1..].iter().map(|(_, members)| members);
            if op.answer == Some(Answer::Changed) && !since.any(|members| members.fulfil(change)) {
                return Err(format!(
                    "member {} answered that {change} was done, and it never was",
                    op.member
                ));
            }
            if let MemberChange::AddLearner(new) | MemberChange::Reseed { new, .. } = change {
                *asked.entry(new).or_default() |= !matches!(op.answer, Some(Answer::Refused(_)));
            }
        }
        let founders = self.members[0].1.all();
        let ever = self.ever();
        match ever.iter().find(|id| !founders.contains(id) && asked.get(id) != Some(&true)) {
            Some(id) => Err(format!("{id} is a member, and everyone was told that it could not be")),
            None => Ok(()),
        }
    }

    /// What was done, for the tally.
    pub(crate) fn count(&self, tally: &mut Tally) {
        tally.terms = self.leaders.len() as u64;
        tally.changes = self.members.len() as u64 - 1;
        for op in &self.ops {
            match op.answer {
                Some(Answer::Written(_)) => tally.writes += 1,
                Some(Answer::ReadAt(_)) => tally.reads += 1,
                Some(Answer::Leads(_)) => tally.transfers += 1,
                _ => {}
            }
        }
    }

    /// Everyone who was ever a member.
    pub(crate) fn ever(&self) -> BTreeSet<u64> {
        self.members.iter().flat_map(|(_, members)| members.all()).collect()
    }

    fn check_refused(&self, number: u64) -> Verdict {
        match self.journal.index_of(number) {
            Some(index) => Err(format!("command {number} was refused for good and applied at entry {index}")),
            None => Ok(()),
        }
    }

    /// A member sent a message.
    pub(crate) fn sent(&mut self, message: &Message) -> Verdict {
        use MessageType::{MsgAppend, MsgHeartbeat, MsgRequestVote, MsgRequestVoteResponse, MsgSnapshot};
        let (from, term) = (message.from, message.term);
        match message.get_msg_type() {
            MsgAppend | MsgHeartbeat | MsgSnapshot => {
                self.leads(from, term)?;
                self.replicates(message)
            }
            MsgRequestVote => self.votes(from, term, from),
            MsgRequestVoteResponse if !message.reject => self.votes(from, term, message.to),
            _ => Ok(()),
        }
    }

    fn leads(&mut self, member: u64, term: u64) -> Verdict {
        let leader = *self.leaders.entry(term).or_insert(member);
        if leader != member {
            return Err(format!("members {leader} and {member} both lead term {term}"));
        }
        Ok(())
    }

    fn votes(&mut self, member: u64, term: u64, candidate: u64) -> Verdict {
        let voted = *self.votes.entry((member, term)).or_insert(candidate);
        if voted != candidate {
            return Err(format!("member {member} voted for {voted} and {candidate} in term {term}"));
        }
        Ok(())
    }

    /// Two entries with one index and term are the same, and so is everything before them.
    fn replicates(&mut self, message: &Message) -> Verdict {
        let mut before = message.log_term;
        for entry in message.get_entries() {
            let here = (before, fingerprint(entry));
            let known = *self.entries.entry((entry.index, entry.term)).or_insert(here);
            if known != here {
                return Err(format!("two entries {} of term {} differ", entry.index, entry.term));
            }
            before = entry.term;
        }
        Ok(())
    }

    /// A member has done all there was to do.
    pub(crate) fn observe(&mut self, life: &mut Life) -> Verdict {
        let status = life.replica.status();
        let (member, term) = (status.node_id, status.term);
        if status.is_leader() {
            self.leads(member, term)?;
        }
        let newest = self.terms.entry(member).or_insert(term);
        if term < *newest {
            return Err(format!("member {member} fell from term {newest} to {term}"));
        }
        *newest = term;
        self.observe_commit(life, &status)?;
        self.observe_members(life, member)?;
        let records = life.replica.machine.records();
        match self.journal.chain(records.applied) {
            Some(chain) if chain != records.chain => {
                Err(format!("member {member} has another state at entry {}", records.applied))
            }
            _ => self.journal.violation().map_or(Ok(()), Err),
        }
    }

    fn observe_commit(&mut self, life: &mut Life, status: &Status) -> Verdict {
        let log = life.replica.node.log();
        let from = (life.seen + 1).max(status.first);
        if status.commit < from {
            return Ok(());
        }
        let entries = log
            .entries(from, status.commit + 1, None, GetEntriesContext::empty(false))
            .map_err(|error| format!("member {} cannot read what it committed: {error}", status.node_id))?;
        life.seen = status.commit;
        for entry in entries {
            let here = (entry.term, fingerprint(&entry));
            let known = *self.committed.entry(entry.index).or_insert(here);
            if known != here {
                return Err(format!(
                    "entry {} was committed in term {} and, another one, in term {} by member {}",
                    entry.index, known.0, here.0, status.node_id
                ));
            }
            if entry.index > self.modelled {
                self.changes.insert(entry.index, entry);
            }
        }
        self.model()
    }

    /// Plays changes in the order of the log, without gaps.
    fn model(&mut self) -> Verdict {
        while let Some(entry) = self.changes.remove(&(self.modelled + 1)) {
            self.modelled += 1;
            let (before, after) = (self.members(), self.members().after(&entry));
            if *before == after {
                continue;
            }
            if let Some((one, other)) = before.disjoint_quorums(&after) {
                return Err(format!("entry {} lets {one:?} and {other:?} both decide", self.modelled));
            }
            self.members.push((self.modelled, after));
        }
        Ok(())
    }

    fn observe_members(&self, life: &Life, member: u64) -> Verdict {
        let applied = life.replica.machine.applied_index();
        if applied == 0 || applied > self.modelled {
            return Ok(());
        }
        let conf = life.replica.node.log().initial_state().map_err(|error| error.to_string())?.conf_state;
        let members = self.members_at(applied);
        if !members.equals(&conf) {
            return Err(format!(
                "member {member} has {conf:?} at entry {applied}, and the log says {members:?}"
            ));
        }
        Ok(())
    }

    /// After everything: what was acknowledged is there, what was refused is not.
    /// In a cluster that still works, everyone who asked was told something.
    pub(crate) fn close(&self, works: bool) -> Verdict {
        for (number, index) in &self.acknowledged {
            if self.journal.index_of(*number) != Some(*index) {
                return Err(format!("command {number}, acknowledged at entry {index}, is lost"));
            }
        }
        if let Some(op) = self.ops.iter().find(|op| works && op.answer.is_none()) {
            return Err(format!("{:?} at member {} was never answered", op.question, op.member));
        }
        self.check_changes()?;
        self.refused.iter().try_for_each(|number| self.check_refused(*number))
    }
}

/// Entries that differ have different ones, but for luck of one in four billion.
fn fingerprint(entry: &Entry) -> u64 {
    let bytes = entry.write_to_bytes().expect("an entry in memory");
    u64::from(crc32fast::hash(&bytes)) << 32 | bytes.len() as u64
}
