//! Golden scripts: members in one thread, their messages in one list, text in and text out.
//!
//! A script under `testscripts/` holds commands (lines that begin with `>`), comments (`#`) and, below each command,
//! what it printed. A command prints the members whose state it changed and the waiters it answered. With
//! `UPDATE_GOLDEN=1` the scripts are written anew instead of compared.
//!
//! Members are `Replica`s over real logs on disk; only the thread, the clock and the network are missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, MessageType};
use tempfile::TempDir;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{
    config::Config,
    error::{ChangeError, ProposeError, ReadError},
    map::Map,
    message::{Incoming, IncomingPayload, MemberChange, Outgoing, Payload},
    replica::Replica,
    state_machine::StateMachine,
    status::Status,
};

/// Rounds of messages after which a script is thought to run for ever.
const ROUNDS_MAX: usize = 100;

/// One test a script, so that a trap has a name where it fails.
macro_rules! scripts {
    ($($name:ident)*) => {
        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            play(stringify!($name));
        })*
    };
}

scripts! {
    demote diverged diverged_leader diverged_pair forward forward_leader_change forward_refused join joint leader_loss
    leader_loss_committed lone_replay lost_entries membership reads refusals remove remove_leader removed_returns replace
    replace_new_leader single slow_follower snapshot snapshot_election snapshot_retried snapshot_twice transfer
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts")
}

#[test]
fn every_script_is_played() {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<String> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, SCRIPTS.iter().map(|name| (*name).to_owned()).collect());
}

fn play(name: &str) {
    let script = folder().join(name).with_extension("txt");
    let wanted = fs::read_to_string(&script).unwrap();
    let printed = World::new().run(&wanted);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&script, printed).unwrap();
    } else {
        assert_eq!(printed, wanted, "{} prints something else", script.display());
    }
}

struct World {
    folder: TempDir,
    members: BTreeMap<u64, Option<Replica<Map>>>,
    wire: Arc<Mutex<Vec<(u64, Outgoing)>>>,
    files: u64,
    isolated: BTreeSet<u64>,
    /// Pairs that do not hear each other, the smaller id first.
    cut: BTreeSet<(u64, u64)>,
    lives: u64,
    proposals: BTreeMap<String, oneshot::Receiver<Result<Vec<u8>, ProposeError>>>,
    reads: BTreeMap<String, oneshot::Receiver<Result<u64, ReadError>>>,
    changes: BTreeMap<String, oneshot::Receiver<Result<(), ChangeError>>>,
    transfers: BTreeMap<String, oneshot::Receiver<Result<u64, ChangeError>>>,
    fail_snapshots: bool,
    /// The settings of members that start from now on.
    settings: Config,
    shown: BTreeMap<u64, String>,
}

impl World {
    fn new() -> World {
        World {
            folder: TempDir::new().unwrap(),
            members: BTreeMap::new(),
            wire: Arc::default(),
            files: 0,
            isolated: BTreeSet::new(),
            cut: BTreeSet::new(),
            lives: 0,
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            changes: BTreeMap::new(),
            transfers: BTreeMap::new(),
            fail_snapshots: false,
            // Nothing by itself, unless a script asks for it.
            settings: Config {
                retained_entries: 0,
                lag_entries: 0,
                voters_max: 0,
                replace_after_ticks: None,
                ..Config::new(1, "")
            },
            shown: BTreeMap::new(),
        }
    }

    fn run(&mut self, script: &str) -> String {
        let mut printed = String::new();
        for line in script.lines() {
            match line.strip_prefix("> ") {
                Some(command) => {
                    writeln!(printed, "{line}").unwrap();
                    let words: Vec<&str> = command.split_whitespace().collect();
                    printed += &self.command(&words);
                    self.drain();
                    printed += &self.news();
                }
                None if line.starts_with('#') || line.is_empty() => writeln!(printed, "{line}").unwrap(),
                None => {}
            }
        }
        printed
    }

    fn command(&mut self, words: &[&str]) -> String {
        match words {
            ["members", ids @ ..] => {
                let ids: Vec<u64> = ids.iter().map(|id| number(id)).collect();
                ids.iter().map(|id| self.start(*id, &ids)).collect()
            }
            ["autopilot", voters, patience] => {
                self.settings.voters_max = number(voters) as usize;
                self.settings.replace_after_ticks = Some(number(patience) as u32);
                String::new()
            }
            ["keep", entries, "for", "the", "slow"] => {
                self.settings.lag_entries = number(entries);
                String::new()
            }
            ["joiner", id] => self.start(number(id), &[]),
            ["restart", id] => self.start(number(id), &[number(id)]),
            ["crash", id] => {
                self.members.insert(number(id), None);
                String::new()
            }
            ["lose", "state", id] => {
                fs::remove_file(self.dir(number(id)).join("map")).unwrap();
                String::new()
            }
            ["lose", "log", id] => {
                fs::remove_dir_all(self.dir(number(id)).join("wal")).unwrap();
                String::new()
            }
            ["campaign", id] => self.with(id, |replica| replica.node.campaign()),
            ["tick", "all", times] => {
                (0..number(times)).for_each(|_| {
                    self.members.values_mut().flatten().for_each(Replica::tick);
                    self.drain();
                });
                String::new()
            }
            // What a cluster with a network does: every message arrives within the tick.
            ["run", times] => (0..number(times))
                .map(|_| {
                    self.members.values_mut().flatten().for_each(Replica::tick);
                    self.deliver(false)
                })
                .collect(),
            ["tick", id, times] => self.with(id, |replica| (0..number(times)).for_each(|_| replica.tick())),
            ["deliver"] => self.deliver(false),
            ["deliver", "showing"] => self.deliver(true),
            ["deliver", "to", id] => self.deliver_some(|sent| sent.to == number(id)),
            ["deliver", "below", index] => self.deliver_some(|sent| match &sent.payload {
                Payload::Message(message) => {
                    message.entries.last().is_none_or(|entry| entry.index < number(index))
                }
                _ => true,
            }),
            ["deliver", "losing", "commands"] => {
                self.deliver_some(|sent| !matches!(sent.payload, Payload::Propose { .. }))
            }
            ["deliver", "withholding", id] => {
                self.deliver_some(|sent| sent.to != number(id) || kind(sent) != Some(MessageType::MsgAppend))
            }
            ["deliver", "twice"] => {
                let sent = self.wire.lock().unwrap().clone();
                self.wire.lock().unwrap().extend(sent);
                self.deliver(false)
            }
            ["deliver", "losing", "snapshots"] => {
                self.deliver_some(|sent| !matches!(sent.payload, Payload::Snapshot { .. }))
            }
            ["deliver", "votes"] => self.deliver_some(|sent| {
                use MessageType::*;
                matches!(
                    kind(sent),
                    Some(
                        MsgRequestPreVote
                            | MsgRequestPreVoteResponse
                            | MsgRequestVote
                            | MsgRequestVoteResponse
                    )
                )
            }),
            ["isolate", id] => {
                self.isolated.insert(number(id));
                String::new()
            }
            ["cut", one, other] => {
                let (one, other) = (number(one), number(other));
                self.cut.insert((one.min(other), one.max(other)));
                String::new()
            }
            ["heal"] => {
                self.cut.clear();
                self.isolated.clear();
                String::new()
            }
            ["propose", id, name, command] => {
                let (waiter, answer) = oneshot::channel();
                self.proposals.insert((*name).to_owned(), answer);
                self.with(id, |replica| replica.propose(command.as_bytes().to_vec(), waiter))
            }
            ["read", id, name] => {
                let (waiter, answer) = oneshot::channel();
                self.reads.insert((*name).to_owned(), answer);
                self.with(id, |replica| replica.read(waiter))
            }
            ["conf", id, changes @ ..] => {
                let change = conf_change(changes);
                let mut result = Ok(());
                self.with(id, |replica| result = replica.node.propose_conf_change(Vec::new(), &change));
                result.map_or_else(|error| format!("conf: {error}\n"), |()| String::new())
            }
            ["change", id, name, kind, ids @ ..] => {
                let change = member_change(kind, &ids.iter().map(|id| number(id)).collect::<Vec<u64>>());
                let (waiter, answer) = oneshot::channel();
                self.changes.insert((*name).to_owned(), answer);
                self.with(id, |replica| replica.change_members(change, waiter))
            }
            ["transfer", id, name, to @ ..] => {
                let to = to.first().map(|to| number(to));
                let (waiter, answer) = oneshot::channel();
                self.transfers.insert((*name).to_owned(), answer);
                self.with(id, |replica| replica.transfer_leadership(to, waiter))
            }
            ["stop", id] => self.stop(number(id)),
            ["corrupt", id] => self.with(id, |replica| replica.machine.corrupt()),
            ["peers", id] => describe_peers(&self.members[&number(id)].as_ref().unwrap().status()),
            ["checkpoint", id] => self.with(id, |replica| {
                replica.machine.checkpoint();
                let size = (replica.machine.export())();
                replica.exported(size).unwrap();
            }),
            ["deliver", "failing", "snapshots"] => {
                self.fail_snapshots = true;
                let printed = self.deliver(false);
                self.fail_snapshots = false;
                printed
            }
            ["fail", "snapshot", id, to] => self.with(id, |replica| replica.snapshot_sent(number(to), false)),
            ["drop", "messages"] => {
                self.wire.lock().unwrap().clear();
                String::new()
            }
            other => panic!("no such command: {other:?}"),
        }
    }

    fn start(&mut self, id: u64, founders: &[u64]) -> String {
        let dir = self.dir(id);
        let config = Config { node_id: id, data_dir: dir.clone(), ..self.settings.clone() };
        fs::create_dir_all(&dir).unwrap();
        let wire = self.wire.clone();
        let send = Box::new(move |sent: Vec<Outgoing>| {
            wire.lock().unwrap().extend(sent.into_iter().map(|sent| (id, sent)));
        });
        self.lives += 1;
        self.shown.remove(&id);
        match Replica::start(&config, Map::open(&dir), founders, self.lives, send) {
            Ok(mut replica) => {
                replica.settle().unwrap();
                self.members.insert(id, Some(replica));
                String::new()
            }
            Err(error) => {
                format!("{id} refuses: {}\n", error.to_string().replace(&dir.display().to_string(), "DIR"))
            }
        }
    }

    fn dir(&self, id: u64) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    fn with(&mut self, id: &str, act: impl FnOnce(&mut Replica<Map>)) -> String {
        act(self.members.get_mut(&number(id)).unwrap().as_mut().expect("a live member"));
        String::new()
    }

    fn drain(&mut self) {
        self.members.values_mut().flatten().for_each(|replica| replica.drain().unwrap());
    }

    fn deliver(&mut self, showing: bool) -> String {
        let mut printed = String::new();
        for _ in 0..ROUNDS_MAX {
            self.drain();
            let messages = std::mem::take(&mut *self.wire.lock().unwrap());
            if messages.is_empty() {
                return printed;
            }
            for (from, sent) in messages {
                let tedious = kind(&sent) == Some(MessageType::MsgHeartbeat)
                    || matches!(sent.payload, Payload::Beat(_));
                if showing && !tedious {
                    writeln!(printed, "  {from}>{} {}", sent.to, describe(&sent.payload)).unwrap();
                }
                self.step(from, sent);
            }
        }
        panic!("messages never end");
    }

    /// Delivers messages of one sort until there are no more of them, and loses all others.
    fn deliver_some(&mut self, wanted: impl Fn(&Outgoing) -> bool) -> String {
        loop {
            self.drain();
            let mut messages = std::mem::take(&mut *self.wire.lock().unwrap());
            messages.retain(|(_, sent)| wanted(sent));
            if messages.is_empty() {
                return String::new();
            }
            messages.into_iter().for_each(|(from, sent)| self.step(from, sent));
        }
    }

    fn step(&mut self, from: u64, sent: Outgoing) {
        let link = (from.min(sent.to), from.max(sent.to));
        if self.isolated.contains(&from) || self.isolated.contains(&sent.to) || self.cut.contains(&link) {
            return;
        }
        let snapshot = matches!(sent.payload, Payload::Snapshot { .. });
        if snapshot && self.fail_snapshots {
            if let Some(Some(replica)) = self.members.get_mut(&from) {
                replica.snapshot_sent(sent.to, false);
            }
            return;
        }
        let payload = self.carry(sent.payload);
        if let Some(Some(replica)) = self.members.get_mut(&sent.to) {
            replica.step(Incoming { from, payload });
            replica.drain().unwrap();
        }
        if snapshot && let Some(Some(replica)) = self.members.get_mut(&from) {
            replica.snapshot_sent(sent.to, true);
        }
    }

    /// What the driver does when it is asked to stop.
    fn stop(&mut self, id: u64) -> String {
        let mut member = |act: fn(&mut Replica<Map>) -> bool| {
            act(self.members.get_mut(&id).unwrap().as_mut().expect("a live member"))
        };
        member(|replica| !replica.hand_over());
        self.deliver(false);
        let replica = self.members.get_mut(&id).unwrap().as_mut().expect("a live member");
        let waits = replica.hand_over();
        replica.abandon();
        self.members.insert(id, None);
        if waits { format!("{id} stops while it leads\n") } else { String::new() }
    }

    /// What a transport does: a snapshot becomes a file.
    fn carry(&mut self, payload: Payload) -> IncomingPayload {
        payload.carried(|message, state| {
            self.files += 1;
            let path = self.folder.path().join(format!("snapshot-{}", self.files));
            state(&mut fs::File::create(&path).unwrap()).unwrap();
            assert_eq!(Map::check_snapshot(&path), Ok(message.get_snapshot().get_metadata().index));
            path
        })
    }

    /// The members that changed since they were last shown, and the waiters that were answered.
    fn news(&mut self) -> String {
        let mut printed = String::new();
        for (id, replica) in &self.members {
            let line = replica.as_ref().map_or_else(|| "down".to_owned(), describe_member);
            if self.shown.get(id) != Some(&line) {
                writeln!(printed, "{id} {line}").unwrap();
                self.shown.insert(*id, line);
            }
        }
        self.proposals.retain(|name, answer| {
            keep(name, answer.try_recv(), &mut printed, |outcome| {
                format!("done, was {:?}", String::from_utf8(outcome).unwrap())
            })
        });
        self.reads.retain(|name, answer| {
            keep(name, answer.try_recv(), &mut printed, |index| format!("reads at {index}"))
        });
        self.changes
            .retain(|name, answer| keep(name, answer.try_recv(), &mut printed, |()| "changed".to_owned()));
        self.transfers.retain(|name, answer| {
            keep(name, answer.try_recv(), &mut printed, |leader| format!("{leader} leads"))
        });
        printed
    }
}

fn keep<T, E: std::fmt::Display>(
    name: &str,
    answer: Result<Result<T, E>, TryRecvError>,
    printed: &mut String,
    done: impl FnOnce(T) -> String,
) -> bool {
    let text = match answer {
        Err(TryRecvError::Empty) => return true,
        Err(TryRecvError::Closed) => "never answered".to_owned(),
        Ok(Ok(value)) => done(value),
        Ok(Err(error)) => error.to_string(),
    };
    writeln!(printed, "{name}: {text}").unwrap();
    false
}

fn describe_member(replica: &Replica<Map>) -> String {
    let status = replica.status();
    let mut line = format!("{} of term {}", status.role.as_str(), status.term);
    match status.leader {
        Some(leader) if leader != status.node_id => write!(line, " (leader {leader})").unwrap(),
        _ => {}
    }
    write!(
        line,
        ", log {}..{}, commit {}, voters {:?}",
        status.first, status.last, status.commit, status.voters
    )
    .unwrap();
    if !status.learners.is_empty() {
        write!(line, ", learners {:?}", status.learners).unwrap();
    }
    if replica.node.is_joint() {
        line += ", joint";
    }
    if status.removed {
        line += ", removed";
    }
    if let Some(detail) = &replica.diverged {
        write!(line, ", diverged: {detail}").unwrap();
    }
    write!(line, ", map {}", replica.machine).unwrap();
    line
}

fn kind(sent: &Outgoing) -> Option<MessageType> {
    match &sent.payload {
        Payload::Message(message) => Some(message.get_msg_type()),
        _ => None,
    }
}

fn describe(payload: &Payload) -> String {
    let message = match payload {
        Payload::Message(message) | Payload::Snapshot { message, .. } => message,
        Payload::Propose { command, .. } => {
            return format!("propose {}", String::from_utf8_lossy(command));
        }
        Payload::Change { change, .. } => return format!("change {change:?}"),
        Payload::Transfer { to, .. } => return format!("transfer {to:?}"),
        Payload::Refused { refusal, .. } => return format!("refused {refusal:?}"),
        Payload::Beat(beat) => return format!("beat applied {}", beat.applied),
    };
    let kind = format!("{:?}", message.get_msg_type());
    let mut text = format!("{} term {}", kind.trim_start_matches("Msg"), message.term);
    if let (Some(first), Some(last)) = (message.entries.first(), message.entries.last()) {
        write!(text, " entries {}..{}", first.index, last.index).unwrap();
    }
    if message.reject {
        text += " rejected";
    }
    text
}

fn describe_peers(status: &Status) -> String {
    let mut printed = format!("  heard from a quorum {} ago\n", ticks(status.quorum_contact));
    for (id, peer) in &status.peers {
        write!(printed, "  {id} heard {} ago", ticks(peer.heard_ticks)).unwrap();
        if let Some(matched) = peer.matched {
            write!(printed, ", matched {matched}").unwrap();
        }
        if let Some(beat) = peer.beat {
            write!(printed, ", applied {}", beat.applied).unwrap();
            printed += if beat.diverged { ", diverged" } else { "" };
        }
        printed += if peer.snapshotting { ", is sent a snapshot\n" } else { "\n" };
    }
    printed
}

fn ticks(ticks: u32) -> String {
    if ticks == u32::MAX { "never".to_owned() } else { ticks.to_string() }
}

fn member_change(kind: &str, ids: &[u64]) -> MemberChange {
    match (kind, ids) {
        ("add", [id]) => MemberChange::AddLearner(*id),
        ("promote", [id]) => MemberChange::Promote(*id),
        ("demote", [id]) => MemberChange::Demote(*id),
        ("remove", [id]) => MemberChange::Remove(*id),
        ("replace", [lost, by]) => MemberChange::Replace { lost: *lost, by: *by },
        ("reseed", [old, new]) => MemberChange::Reseed { old: *old, new: *new },
        other => panic!("no such change: {other:?}"),
    }
}

fn conf_change(words: &[&str]) -> ConfChangeV2 {
    let explicit = words.first() == Some(&"explicit");
    let changes: Vec<ConfChangeSingle> = words
        .iter()
        .filter(|word| **word != "explicit")
        .map(|word| {
            let (kind, id) = word.split_at(1);
            let mut change = ConfChangeSingle { node_id: number(id), ..ConfChangeSingle::default() };
            change.set_change_type(match kind {
                "v" => ConfChangeType::AddNode,
                "l" => ConfChangeType::AddLearnerNode,
                "r" => ConfChangeType::RemoveNode,
                _ => panic!("no such change: {word}"),
            });
            change
        })
        .collect();
    let mut change = ConfChangeV2::default();
    change.set_changes(changes.into());
    if explicit {
        change.set_transition(ConfChangeTransition::Explicit);
    }
    change
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}
