//! What goes wrong, and what clients want meanwhile; then the peace in which everything must come right.

use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use super::{
    life::Input,
    network::Weather,
    oracle::Question,
    plan::Plant,
    world::{TICK, Verdict, World},
};
use crate::state_machine::StateMachine as _;

/// Steps of a disk within which an armed power cut falls: a few turns' worth.
const CUT_WITHIN: u64 = 80;

/// Election timeouts after the last fault in which the cluster must have settled.
const SETTLE_ELECTIONS: u64 = 30;

/// Election timeouts in which a settled cluster accepts a write.
const WRITE_ELECTIONS: u64 = 2;

impl World<'_> {
    /// One client asks one member for something.
    pub(crate) fn client_asks(&mut self) {
        let alive = self.alive();
        let leader = self.leader().filter(|_| self.dice.percent(60));
        let Some(id) = leader.or_else(|| self.dice.pick(&alive)) else { return };
        if self.dice.percent(60) {
            let number = self.number();
            self.ask(id, Question::Write(number));
        } else if self.plan.plant == Some(Plant::StaleRead) {
            let applied = self.members[&id].life.as_ref().map(|life| life.replica.machine.applied_index());
            let op = self.oracle.ask(id, Question::Read);
            self.planted_read = self.oracle.answered(op, &super::life::Answer::ReadAt(applied.unwrap_or(0)));
        } else {
            self.ask(id, Question::Read);
        }
    }

    /// Something goes wrong.
    pub(crate) fn fault(&mut self) -> Verdict {
        let alive = self.alive();
        let leader = self.leader().filter(|_| self.dice.percent(50));
        let Some(victim) = leader.or_else(|| self.dice.pick(&alive)) else { return Ok(()) };
        match self.dice.below(100) {
            0..=24 => self.cut_soon(victim),
            25..=34 => {
                self.note(|| format!("fault: power of {victim} is cut"));
                self.kill(victim)?;
            }
            35..=38 => {
                self.note(|| "fault: power is cut everywhere".to_owned());
                alive.into_iter().try_for_each(|id| self.kill(id))?;
            }
            39..=48 => self.pause(victim),
            49..=63 => {
                let everyone: Vec<u64> = self.members.keys().copied().collect();
                let cut = self.network.partition(&everyone, self.leader());
                self.note(|| format!("fault: {cut}"));
            }
            64..=73 => {
                self.note(|| "the network heals".to_owned());
                self.network.heal();
            }
            74..=78 => {
                self.network.weather = Weather::draw(&mut self.dice);
                let weather = self.network.weather;
                self.note(|| format!("fault: {weather:?}"));
            }
            79..=84 => self.change_clock(victim),
            _ => self.change_members(),
        }
        Ok(())
    }

    fn cut_soon(&mut self, victim: u64) {
        let steps = self.dice.below(CUT_WITHIN);
        self.note(|| format!("fault: power of {victim} will be cut in {steps} steps"));
        if let Some(life) = &self.members[&victim].life {
            life.disk.cut_in(steps);
        }
    }

    fn pause(&mut self, victim: u64) {
        let pause = self.dice.pick(&[100, 1_000, 3_000]).unwrap_or(100);
        let until = self.now + self.dice.between(1, pause);
        self.note(|| format!("fault: {victim} is stopped until {until}"));
        if let Some(member) = self.members.get_mut(&victim) {
            member.busy_until = member.busy_until.max(until);
        }
    }

    fn change_clock(&mut self, victim: u64) {
        let length = self.dice.pick(&[TICK / 3, TICK, TICK, TICK * 3]).unwrap_or(TICK);
        let sync_time = self.dice.pick(&[0, 5, 50, 500]).unwrap_or(0);
        self.note(|| format!("fault: {victim} ticks in {length}, syncs in {sync_time}"));
        if let Some(member) = self.members.get_mut(&victim) {
            (member.tick_length, member.sync_time) = (length, sync_time);
        }
    }

    /// Asks the leader for some other members.
    fn change_members(&mut self) {
        let Some(leader) = self.leader() else { return };
        let mut change = ConfChangeV2::default();
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for _ in 0..self.dice.between(1, 2) {
            let mut single = ConfChangeSingle::default();
            single.node_id = self.dice.pick(&ids).unwrap_or(1);
            single.set_change_type(match self.dice.below(5) {
                0..=1 => ConfChangeType::AddNode,
                2..=3 => ConfChangeType::AddLearnerNode,
                _ => ConfChangeType::RemoveNode,
            });
            change.mut_changes().push(single);
        }
        if self.dice.percent(30) {
            change.set_transition(ConfChangeTransition::Implicit);
        }
        self.note(|| format!("{leader} is asked for {:?}", change.get_changes()));
        self.arrive(leader, Input::Change { change });
    }

    /// No more faults. Everyone comes back, agrees, answers, and serves.
    pub(crate) fn make_peace(&mut self) -> Verdict {
        self.note(|| "peace".to_owned());
        self.calm = true;
        self.network.heal();
        self.network.weather = Weather::FAIR;
        for member in self.members.values_mut() {
            member.busy_until = member.busy_until.min(self.now);
            (member.tick_length, member.sync_time) = (TICK, 0);
            if let Some(life) = &member.life {
                life.disk.spare();
            }
        }
        let ids: Vec<u64> = self.members.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.restart(id))?;
        self.wait(SETTLE_ELECTIONS, "the cluster did not settle", |world| world.unsettled())?;
        self.serves()
    }

    /// Lets time pass until nothing is said against the state of things.
    fn wait(
        &mut self,
        elections: u64,
        complaint: &str,
        against: impl Fn(&mut Self) -> Option<String>,
    ) -> Verdict {
        let end = self.now + elections * self.plan.election_ticks as u64 * TICK;
        loop {
            match against(self) {
                None => return Ok(()),
                Some(reason) if self.now >= end => return Err(format!("{complaint}: {reason}")),
                Some(_) => self.run_until(self.now + TICK)?,
            }
        }
    }

    /// What keeps the members from being one cluster at rest.
    fn unsettled(&mut self) -> Option<String> {
        let members = self.oracle.members().clone();
        let mut states = Vec::new();
        let mut leaders = Vec::new();
        if let Some((id, ops)) = self.waiting().next() {
            return Some(format!("clients of {id} wait: {ops:?}"));
        }
        for id in members.all() {
            let Some(life) = &self.members[&id].life else { return Some(format!("{id} is down")) };
            let status = life.replica.status();
            leaders.extend(status.is_leader().then_some(id));
            states.push((id, status.commit, status.applied, life.replica.machine.records().chain));
        }
        if members.is_joint() || leaders.len() != 1 {
            return Some(format!("{members:?}, leaders {leaders:?}"));
        }
        let equal = states.iter().all(|(_, commit, applied, chain)| {
            commit == applied && (*commit, *chain) == (states[0].1, states[0].3)
        });
        (!equal).then(|| format!("{members:?}, states {states:x?}"))
    }

    /// A write is accepted, and every member then serves reads that know it.
    fn serves(&mut self) -> Verdict {
        let Some(leader) = self.leader() else { return Err("no leader".to_owned()) };
        let number = self.number();
        let op = self.ask(leader, Question::Write(number));
        self.wait(WRITE_ELECTIONS, "a write", |world| world.unanswered(op))?;
        if !self.oracle.is_acknowledged(number) {
            return Err("a settled cluster refused a write".to_owned());
        }
        let members = self.oracle.members().all();
        let reads: Vec<Option<usize>> = members.iter().map(|id| self.ask(*id, Question::Read)).collect();
        for read in reads {
            self.wait(WRITE_ELECTIONS, "a read", |world| world.unanswered(read))?;
        }
        self.wait(WRITE_ELECTIONS, "after the last write", |world| world.unsettled())
    }

    fn unanswered(&mut self, op: Option<usize>) -> Option<String> {
        match op {
            Some(op) if self.oracle.is_answered(op) => None,
            Some(op) => Some(format!("question {op} waits")),
            None => Some("nobody to ask".to_owned()),
        }
    }
}
