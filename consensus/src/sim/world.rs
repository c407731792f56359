//! The world: members, network, clients and time, in one thread and one list of events. The same plan plays the same
//! game, to the last message.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use super::{
    dice::Dice,
    disk::Image,
    events::{Event, Events},
    ledger::Journal,
    life::{Answer, Input, Life, Start, dir_of},
    network::Network,
    oracle::{Oracle, Question},
    plan::{Plan, Plant},
    tally::Tally,
};
use crate::{
    config::Config,
    message::{Outgoing, Payload},
};

/// Milliseconds of a tick on a clock that goes right.
pub(crate) const TICK: u64 = 100;

/// Milliseconds after which the transport reports what became of a snapshot.
const SNAPSHOT_PATIENCE: u64 = 600;

/// One member over all its lives.
pub(crate) struct Member {
    pub(crate) life: Option<Life>,
    image: Image,
    lives: u64,
    inbox: VecDeque<Input>,
    /// Its thread is in a sync, or the process is stopped.
    pub(crate) busy_until: u64,
    tick_due: u64,
    pub(crate) tick_length: u64,
    wakes_at: u64,
    /// Milliseconds a sync takes.
    pub(crate) sync_time: u64,
    founder: bool,
    /// Its disk is gone, and so is it.
    pub(crate) lost: bool,
}

/// Everything.
pub(crate) struct World<'a> {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) network: Network,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) oracle: Oracle,
    pub(crate) calm: bool,
    /// What the oracle said of a read that a planted bug answered.
    pub(crate) planted_read: Verdict,
    pub(crate) tally: Tally,
    /// What happened, for whoever reads about a failure; a trace of everything is long.
    pub(crate) trace: Option<Vec<String>>,
    /// Changes with everything that happens, so that two runs can be compared.
    pub(crate) digest: u64,
    events: Events,
    numbers: u64,
    journal: Journal,
    founders: Vec<u64>,
    folder: &'a Path,
}

pub(crate) type Verdict = Result<(), String>;

impl<'a> World<'a> {
    pub(crate) fn new(plan: Plan, folder: &'a Path, trace: bool) -> World<'a> {
        let mut dice = Dice::new(plan.seed);
        let journal = Journal::default();
        let founders: Vec<u64> = (1..=plan.voters).collect();
        World {
            now: 0,
            network: Network::new(dice.fork()),
            members: BTreeMap::new(),
            oracle: Oracle::new(&founders, journal.clone()),
            calm: false,
            planted_read: Ok(()),
            trace: trace.then(Vec::new),
            digest: 0,
            tally: Tally::default(),
            events: Events::default(),
            numbers: 0,
            journal,
            founders,
            folder,
            dice,
            plan,
        }
    }

    /// Plays the whole schedule: faults first, then peace, in which all must come right.
    pub(crate) fn play(&mut self) -> Verdict {
        for id in 1..=self.plan.voters + self.plan.joiners {
            self.add_member(id, id <= self.plan.voters);
        }
        self.network.weather = self.plan.weather;
        self.at(self.plan.client_pause, Event::Client);
        self.at(self.plan.fault_pause, Event::Fault);
        self.run_until(self.plan.faults_end)?;
        self.make_peace()?;
        self.oracle.count(&mut self.tally);
        self.tally.restores = self.journal.restores();
        self.oracle.close(self.tally.quorums_lost == 0)
    }

    /// Plays all events up to a moment.
    pub(crate) fn run_until(&mut self, end: u64) -> Verdict {
        while let Some((at, event)) = self.events.pop_until(end) {
            self.now = self.now.max(at);
            self.happens(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Verdict {
        match event {
            Event::Arrive(id, input) => {
                self.arrive(id, *input);
                Ok(())
            }
            Event::Wake(id) => self.wake(id),
            Event::Exported(id, life) => self.exported(id, life),
            Event::Restart(id) => self.restart(id),
            Event::Client if self.calm => Ok(()),
            Event::Client => {
                let pause = self.dice.between(1, 2 * self.plan.client_pause);
                self.at(pause, Event::Client);
                self.client_asks();
                self.planted_read.clone()
            }
            Event::Fault if self.calm => Ok(()),
            Event::Fault => {
                let pause = self.dice.between(1, 2 * self.plan.fault_pause);
                self.at(pause, Event::Fault);
                self.fault()
            }
        }
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.events.push(self.now + delay, event);
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>7} {}", self.now, line()));
        }
    }

    fn mix(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    /// One more machine; it begins with nothing unless it founds the cluster.
    pub(crate) fn add_member(&mut self, id: u64, founder: bool) {
        let tick_length = self.dice.between(TICK * 9 / 10, TICK * 11 / 10);
        self.members.insert(
            id,
            Member {
                life: None,
                image: Image::default(),
                lives: 0,
                inbox: VecDeque::new(),
                busy_until: 0,
                tick_due: 0,
                tick_length,
                wakes_at: u64::MAX,
                sync_time: self.plan.sync_time,
                founder,
                lost: false,
            },
        );
        let delay = self.dice.below(TICK);
        self.at(delay, Event::Restart(id));
    }

    /// The members that run.
    pub(crate) fn alive(&self) -> Vec<u64> {
        self.members.iter().filter(|(_, member)| member.life.is_some()).map(|(id, _)| *id).collect()
    }

    /// The one that leads, as far as it knows itself.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leads =
            |member: &&Member| member.life.as_ref().is_some_and(|life| life.replica.status().is_leader());
        let newest = |member: &&Member| member.life.as_ref().map(|life| life.replica.status().term);
        let leader = self.members.values().filter(leads).max_by_key(newest)?;
        leader.life.as_ref().map(|life| life.replica.status().node_id)
    }

    /// Brings an input to a member; nobody hears it when the member is down.
    pub(crate) fn arrive(&mut self, id: u64, input: Input) -> bool {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.life.is_some()) else {
            return false;
        };
        member.inbox.push_back(input);
        let at = member.busy_until.max(self.now);
        self.wake_at(id, at);
        true
    }

    fn wake_at(&mut self, id: u64, at: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if at < member.wakes_at {
            member.wakes_at = at;
            self.at(at - self.now, Event::Wake(id));
        }
    }

    /// A member's turn: everything that came, perhaps a tick, one drain.
    fn wake(&mut self, id: u64) -> Verdict {
        let now = self.now;
        let Some(member) = self.members.get_mut(&id).filter(|member| member.wakes_at == now) else {
            return Ok(());
        };
        member.wakes_at = u64::MAX;
        let Some(mut life) = member.life.take() else { return Ok(()) };
        if now < member.busy_until {
            let until = member.busy_until;
            member.life = Some(life);
            self.wake_at(id, until);
            return Ok(());
        }
        let tick = now >= member.tick_due;
        if tick {
            member.tick_due = now + member.tick_length;
        }
        let inputs = std::mem::take(&mut member.inbox);
        let (syncs, was_exporting) = (life.disk.syncs(), life.is_exporting());
        let turned = life.turn(inputs, tick);
        let member = self.members.get_mut(&id).expect("a member");
        member.busy_until = now + (life.disk.syncs() - syncs) * member.sync_time;
        let export = (life.is_exporting() && !was_exporting).then_some(member.lives);
        if let Some(lives) = export {
            let delay = self.dice.between(1, 500);
            self.at(delay, Event::Exported(id, lives));
        }
        self.after(id, life, turned)
    }

    fn exported(&mut self, id: u64, lives: u64) -> Verdict {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.lives == lives) else {
            return Ok(());
        };
        let Some(mut life) = member.life.take() else { return Ok(()) };
        let turned = life.finish_export();
        self.after(id, life, turned)
    }

    /// What a member did reaches the world: messages, answers, and the oracles' eyes.
    fn after(&mut self, id: u64, mut life: Life, turned: Verdict) -> Verdict {
        for sent in life.take_sent() {
            if let Payload::Message(message) | Payload::Snapshot { message, .. } = &sent.payload {
                self.oracle.sent(message)?;
            }
            self.post(id, sent);
        }
        for (op, answer) in life.take_answers() {
            self.told(op, id, &answer)?;
        }
        if life.disk.is_dead() {
            return self.bury(id, life);
        }
        turned.map_err(|error| format!("member {id} stopped: {error}"))?;
        self.oracle.observe(&mut life)?;
        let status = life.replica.status();
        self.mix(id ^ status.term << 8 ^ status.commit << 24 ^ status.last << 40 ^ self.now << 16);
        let member = self.members.get_mut(&id).expect("a member");
        member.life = Some(life);
        let next = member.tick_due.max(member.busy_until).max(self.now + 1);
        self.wake_at(id, next);
        Ok(())
    }

    fn told(&mut self, op: usize, id: u64, answer: &Answer) -> Verdict {
        self.note(|| format!("{id} answers {op}: {answer:?}"));
        let told = match (self.plan.plant, answer) {
            (Some(Plant::UncertainIsDone), Answer::Unknown) => Answer::Written(self.oracle.guess(op)),
            (Some(Plant::UncertainIsRefused), Answer::Unknown) => Answer::Refused("planted".to_owned()),
            (Some(Plant::Forgetful), Answer::Unknown) => return Ok(()),
            _ => answer.clone(),
        };
        self.oracle.answered(op, &told)
    }

    /// Gives a message to the network.
    fn post(&mut self, from: u64, Outgoing { to, payload }: Outgoing) {
        let mut arrivals = self.network.arrivals(from, to);
        if !matches!(payload, Payload::Message(_) | Payload::Beat(_)) {
            // What is not raft's own a transport may lose, and never sends twice.
            arrivals.truncate(1);
        }
        if self.plan.plant == Some(Plant::SentTwice) && matches!(payload, Payload::Propose { .. }) {
            arrivals.extend(arrivals.first().copied());
        }
        self.note(|| format!("{from}>{to} {} {arrivals:?}", describe(&payload)));
        if matches!(payload, Payload::Snapshot { .. }) {
            let ok = !arrivals.is_empty();
            self.at(SNAPSHOT_PATIENCE, Event::Arrive(from, Box::new(Input::SnapshotSent { member: to, ok })));
        } else if arrivals.is_empty() && self.dice.percent(30) {
            self.at(1, Event::Arrive(from, Box::new(Input::Unreachable { member: to })));
        }
        for delay in arrivals {
            let payload = payload.clone();
            self.at(delay, Event::Arrive(to, Box::new(Input::Step { from, payload })));
        }
    }

    /// Cuts a member's power between two of its turns.
    pub(crate) fn kill(&mut self, id: u64) -> Verdict {
        let Some(life) = self.members.get_mut(&id).and_then(|member| member.life.take()) else {
            return Ok(());
        };
        life.disk.cut();
        self.after(id, life, Ok(()))
    }

    /// A member without power: what its disk still holds is what the next life begins with.
    fn bury(&mut self, id: u64, life: Life) -> Verdict {
        let left = life.disk.left();
        self.note(|| format!("{id} dies"));
        self.tally.deaths += 1;
        drop(life);
        self.hang_up(id)?;
        let delay = self.dice.between(1, self.plan.down_time);
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        member.image = left.unwrap_or_default();
        if self.plan.plant == Some(Plant::Amnesia) {
            member.image = Image::default();
        }
        if self.plan.plant == Some(Plant::VoteForgotten) {
            super::plan::forget_vote(&mut member.image, &dir_of(self.folder, id, 0));
        }
        self.at(delay, Event::Restart(id));
        Ok(())
    }

    /// Questions that a member never came to: whoever asked hears the connection break.
    fn hang_up(&mut self, id: u64) -> Verdict {
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        for input in std::mem::take(&mut member.inbox) {
            if let Some(op) = input.op() {
                self.told(op, id, &Answer::Unknown)?;
            }
        }
        Ok(())
    }

    /// Members with clients that wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u64, Vec<usize>)> {
        let waiting = self.members.iter().map(|(id, member)| {
            let queued = member.inbox.iter().filter_map(Input::op);
            let waiting = member.life.iter().flat_map(Life::waiting);
            (*id, queued.chain(waiting).collect::<Vec<usize>>())
        });
        waiting.filter(|(_, ops)| !ops.is_empty())
    }

    /// Starts a member that is down. Power may fail during that, too, and then again.
    pub(crate) fn restart(&mut self, id: u64) -> Verdict {
        let cut_in = (!self.calm && self.dice.percent(self.plan.cut_at_start)).then(|| self.dice.below(60));
        let dice = self.dice.fork();
        let Some(member) = self.members.get_mut(&id).filter(|member| member.life.is_none() && !member.lost)
        else {
            return Ok(());
        };
        member.lives += 1;
        let config = Config {
            election_ticks: self.plan.election_ticks,
            checkpoint_entries: self.plan.checkpoint_entries,
            retained_entries: self.plan.retained_entries,
            lag_entries: self.plan.lag_entries,
            voters_max: self.plan.voters_max,
            replace_after_ticks: self.plan.replace_after_ticks,
            wal_file_bytes: self.plan.wal_file_bytes,
            ..Config::new(id, dir_of(self.folder, id, member.lives))
        };
        let life = Life::start(Start {
            config,
            founders: if member.founder { &self.founders } else { &[] },
            incarnation: id << 32 | member.lives,
            image: &member.image,
            journal: self.journal.clone(),
            dice,
            lazy: self.plan.plant == Some(Plant::LazyDisk),
            wrong_from: self.plan.wrong_from(id),
            cut_in,
        });
        let life = life.map_err(|error| format!("member {id} does not start: {error}"))?;
        member.tick_due = self.now + member.tick_length;
        member.busy_until = self.now;
        member.wakes_at = u64::MAX;
        self.note(|| format!("{id} starts: {:?}", life.replica.status()));
        self.after(id, life, Ok(()))
    }

    /// A number for a command, never used before.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Puts a question to a member.
    pub(crate) fn ask(&mut self, id: u64, question: Question) -> Option<usize> {
        self.members.get(&id)?.life.as_ref()?;
        let op = self.oracle.ask(id, question);
        self.note(|| format!("{op}: {question:?} to {id}"));
        let input = match question {
            Question::Write(number) => Input::Write { op, number },
            Question::Read => Input::Read { op },
            Question::Change(change) => Input::Change { op, change },
            Question::Transfer(to) => Input::Transfer { op, to },
        };
        self.arrive(id, input);
        Some(op)
    }
}

fn describe(payload: &Payload) -> String {
    let (Payload::Message(message) | Payload::Snapshot { message, .. }) = payload else {
        return format!("{payload:?}");
    };
    let first = message.get_entries().first().map(|entry| (entry.index, entry.term));
    format!(
        "{:?} term {} index {} log term {} commit {} entries {first:?}+{}{}",
        message.get_msg_type(),
        message.term,
        message.index,
        message.log_term,
        message.commit,
        message.get_entries().len(),
        if message.reject { " rejected" } else { "" }
    )
}
