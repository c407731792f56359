//! What goes wrong, and what clients want meanwhile; then the peace in which everything must come right.

use std::collections::BTreeSet;

use super::{
    life::Input,
    network::Weather,
    oracle::Question,
    plan::Plant,
    world::{TICK, Verdict, World},
};
use crate::{message::MemberChange, state_machine::StateMachine as _};

/// Steps of a disk within which an armed power cut falls: a few turns' worth.
const CUT_WITHIN: u64 = 80;

/// Machines in one schedule: as many as the search for disjoint quorums can go through.
const MEMBERS_MAX: u64 = 9;

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
        if self.dice.percent(self.plan.churn) {
            self.change_members(victim);
            return Ok(());
        }
        match self.dice.below(90) {
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
            85..=86 => self.lose_disk(victim)?,
            _ => self.stop(victim),
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

    /// Somebody stops a member the way it wants to be stopped; it comes back like any other.
    fn stop(&mut self, victim: u64) {
        self.note(|| format!("{victim} is asked to stop"));
        self.arrive(victim, Input::Stop);
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
        let sync_time = self.dice.pick(&[0, 5, 50, 500, 5_000]).unwrap_or(0);
        self.note(|| format!("fault: {victim} ticks in {length}, syncs in {sync_time}"));
        if let Some(member) = self.members.get_mut(&victim) {
            (member.tick_length, member.sync_time) = (length, sync_time);
        }
    }

    /// An operator asks somebody for other members, or for another leader.
    fn change_members(&mut self, asked: u64) {
        let members = self.oracle.members().clone();
        let mut someone = |among: Vec<u64>| self.dice.pick(&among).unwrap_or(1);
        let any = someone(members.all().into_iter().collect());
        let voter = someone(members.voters.iter().copied().collect());
        let learner = someone(members.learners.iter().copied().collect());
        // An id that was a member's is never used again.
        let ever = self.oracle.ever();
        let mut fresh: Vec<u64> = self.members.keys().copied().filter(|id| !ever.contains(id)).collect();
        if fresh.is_empty() && (self.members.len() as u64) < MEMBERS_MAX {
            fresh.push(self.add_machine());
        }
        let new = self.dice.pick(&fresh).unwrap_or(any);
        let question = match self.dice.below(10) {
            0..=2 => Question::Change(MemberChange::AddLearner(new)),
            3..=4 => {
                Question::Change(MemberChange::Promote(if self.dice.percent(80) { learner } else { any }))
            }
            5 => Question::Change(MemberChange::Demote(any)),
            6 => Question::Change(MemberChange::Remove(any)),
            7 => Question::Change(MemberChange::Replace { lost: voter, by: learner }),
            8 => Question::Change(MemberChange::Reseed { old: any, new }),
            _ => Question::Transfer(self.dice.percent(60).then_some(any)),
        };
        self.ask(asked, question);
    }

    /// A member's disk is gone for good. Only one that the others can do without, or there would be nothing to see.
    fn lose_disk(&mut self, victim: u64) -> Verdict {
        let members = self.oracle.members();
        let mut left = members.all();
        left.retain(|id| *id != victim && !self.members[id].lost);
        if !members.is_quorum(&left) || self.members.len() as u64 >= MEMBERS_MAX {
            return Ok(());
        }
        self.note(|| format!("fault: the disk of {victim} is gone"));
        self.kill(victim)?;
        if let Some(member) = self.members.get_mut(&victim) {
            member.lost = true;
        }
        self.tally.losses += 1;
        self.add_machine();
        Ok(())
    }

    fn add_machine(&mut self) -> u64 {
        let next = self.members.len() as u64 + 1;
        self.add_member(next, false);
        next
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
        loop {
            self.replace_lost()?;
            if self.tally.quorums_lost > 0 {
                return Ok(());
            }
            let settled =
                self.wait(SETTLE_ELECTIONS, "the cluster did not settle", |world| world.unsettled());
            // What was asked for before the peace may add a machine that is gone.
            if settled.is_ok() || !self.oracle.members().all().iter().any(|id| self.members[id].lost) {
                settled?;
                return self.serves();
            }
        }
    }

    /// What an operator does about machines that are gone.
    fn replace_lost(&mut self) -> Verdict {
        let end = self.now + SETTLE_ELECTIONS * self.plan.election_ticks as u64 * TICK;
        loop {
            let members = self.oracle.members();
            let (lost, left): (BTreeSet<u64>, BTreeSet<u64>) =
                members.all().into_iter().partition(|id| self.members[id].lost);
            let Some(gone) = lost.first().copied() else { return Ok(()) };
            if !members.is_quorum(&left) {
                self.tally.quorums_lost += 1;
                return Ok(());
            }
            if self.now >= end {
                return Err(format!("{gone} is lost and cannot be removed: {members:?}"));
            }
            if let Some(leader) = self.leader() {
                self.ask(leader, Question::Change(MemberChange::Remove(gone)));
            }
            self.run_until(self.now + 5 * TICK)?;
        }
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
