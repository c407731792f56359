//! Consensus: the replicated log, and the one thread that drives it.
//!
//! An appliance node agrees with its peers on an ordered log of commands and applies each one to its state. The
//! agreement is TiKV's `raft`, used as a pure state machine; the log lies in a write-ahead log over `raft-engine`; the
//! state is whatever implements [`StateMachine`], which is the store. This crate is what stands between the three, and
//! the promises it makes are few: what was acknowledged is on disk, what is read is current, and who cannot be told
//! either way is told exactly that.
//!
//! ```text
//!   API tasks ──► Raft (handle) ──► bounded queue ──► Driver, a thread ────────────────────────────┐
//!      ▲                                              │ every input that is queued, or one tick    │
//!      │                                              ▼                                            │
//!      │                                            Replica ── Node (raft) ── Log ── Wal ── disk   │
//!      └──── oneshot: the outcome ◄── Proposals ◄─────┤                                            │
//!                                     Reads     ◄─────┤                                            │
//!                                                     └── StateMachine (store)  ── export thread ◄─┘
//! ```
//!
//! Members meet through [`transport`]: it takes what the replica sends, and hands what others say to [`Raft::step`]. A
//! lone member runs through the same path.
//!
//! # One thread, one input, one drain
//!
//! `driver` waits in one place, on a closed list of inputs with the next tick as deadline. It takes everything that is
//! queued, drains the replica once, and waits again. Commands that arrive while a group is being made durable go into
//! the next group: that is all of group commit, and it needs no timer and no tuning. The disk blocks; letting it block
//! in one known place is simpler than hiding it. Callers are async and meet the thread through channels. Every queue is
//! bounded, and whoever comes when it is full hears `Busy`, a definite no.
//!
//! # The eight steps of a Ready
//!
//! Raft answers each drain with a `Ready`: what to send, to write and to apply. The order is fixed in `ready`:
//! **send** a leader's messages, **apply** and answer what is durable already, **restore** a snapshot, **append and
//! fsync**, **send** what that fsync made true, **advance** the append, **apply** the rest, **advance** the apply. One fdatasync a group is the only one on the hot
//! path: the state is applied in one transaction that is *not* flushed, for it can be replayed.
//!
//! # Many members
//!
//! * A follower hands commands to the leader itself (raft would, in silence) and answers its callers when *it* applies
//!   them. When leader or term change, or nothing comes for a while, they hear `Uncertain`: see `proposals`.
//! * A change of the members is put to whoever leads, under one name, until it is seen in force or refused: `changes`.
//!   Which changes a leader makes, for others or by itself, is a pure function of what it knows: `membership` and
//!   `autopilot`. What is in force is `Log::conf_state`; a member that is not in it any more says so and takes no part.
//! * A snapshot is two things: raft's small message, and a body that the transport streams to a file beside everything
//!   else. The leader always hears how that ended, however long it took: `snapshots`.
//! * About once a second every member tells every other how far it is and the hash over its history; the odd one out
//!   stops: `beats`, `divergence`.
//! * The log is kept for the slowest member that lives, within two bounds: `checkpoint::cut`, `Replica::slowest_live`.
//!
//! # What is durable, and when
//!
//! | when | what | how |
//! |---|---|---|
//! | before any answer | entries, term, vote | `Wal::commit`: one record, one fdatasync |
//! | with the next group | the commit index | losing it loses nothing: entries are there, and are committed again |
//! | before the state passes a conf change | the configuration | a group of its own |
//! | now and then, see `checkpoint` | the state | `StateMachine::checkpoint`, then an export on another thread |
//! | only behind both of these | the cut of the log | one group; files are deleted after it |
//!
//! So a member that lost power replays from its state's last entry; one whose database is damaged opens an older
//! exported state and replays from there; and one whose log no longer reaches back to its state says which entries are
//! missing and does not start. `Log::agree_with` checks all that before raft sees the log, because raft panics on it.
//!
//! A torn tail is healed, other damage refused: every group is durable before the next is written, so an unreadable
//! group followed by a readable one cannot come from a power cut. What cannot be told from a torn tail is damage to the
//! very last group; only a state that has applied it can (`StartError::LogBehindState`).
//!
//! # What a member promises
//!
//! * A proposal is answered once: with the outcome (durable and applied here), a definite refusal (nothing was
//!   written), or [`ProposeError::Uncertain`]. There is no fourth answer and no silence.
//! * A read index was committed when some leader, confirmed after the read arrived, said so; and the state has it.
//! * After a failed write, a failed fsync or a panic of the state, nothing more is answered but `Stopped`.
//!   [`Raft::stopped`] says why, and the process must end. No retry: nobody knows what such a disk holds.
//! * The same inputs and the same seed give the same run. Clock, dice and threads are in `driver` and [`start`] only.
//!
//! # Questions for a reviewer
//!
//! * Is there a path from an input to an answer that does not pass the fsync? (`ready`, steps 2, 4 and 7.)
//! * Can a waiter be dropped without an answer? (`proposals`, `reads`: who removes, and who answers?)
//! * Can the log be cut too far? (`Replica::exported` is the only caller of `Log::cut_to`.)
//! * What if a power cut falls between two lines of `Replica::restore`, or of `Node::apply_conf_change`?
//! * Which of raft's panics can a file on disk still reach? (`Log::agree_with` must leave none.)

mod autopilot;
mod batch;
mod beats;
mod cache;
mod changes;
mod checkpoint;
#[cfg(test)]
mod cluster;
mod config;
#[cfg(test)]
mod damage;
mod divergence;
mod driver;
mod error;
mod handle;
#[cfg(test)]
mod hostile;
mod input;
mod log;
mod logger;
#[cfg(test)]
mod map;
mod membership;
mod message;
mod node;
pub mod offline;
mod panics;
mod peers;
mod proposals;
mod reads;
mod ready;
mod replica;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod sim;
mod snapshots;
mod state_machine;
mod status;
mod stewardship;
pub mod transport;
mod trust;
mod wal;

use std::{sync::Arc, thread};

use tokio::sync::watch;

pub use config::{COMMAND_BYTES_MAX, Config};
pub use error::{ChangeError, ProposeError, ReadError, StartError, StopReason};
pub use handle::Raft;
pub use input::QueueFull;
pub use log::LogFiles;
pub use message::{
    Beat, Incoming, IncomingPayload, MemberChange, Origin, Outgoing, Payload, Refusal, Sender, SnapshotBody,
};
pub use proposals::ProposalId;
pub use state_machine::{Export, StateMachine};
pub use status::{PeerStatus, Role, Status};
pub use wal::WalError;

/// Starts this member over `machine` and spawns the thread that drives it. A fresh data directory begins as `origin` says;
/// a lone voter campaigns at once, so the first proposal need not wait for an election.
pub fn start<M: StateMachine>(
    config: Config,
    machine: M,
    origin: Origin,
    send: Sender,
) -> Result<Raft, StartError> {
    start_over(LogFiles::open(&config)?, config, machine, origin, send)
}

/// The same over a log whose files were opened before, with the same configuration.
pub fn start_over<M: StateMachine>(
    files: LogFiles,
    config: Config,
    machine: M,
    origin: Origin,
    send: Sender,
) -> Result<Raft, StartError> {
    let incarnation = getrandom::u64().map_err(|error| StartError::Thread(std::io::Error::other(error)))?;
    let founders = match origin {
        Origin::Founder => vec![config.node_id],
        Origin::Joiner => Vec::new(),
    };
    let tick = config.tick;
    let replica = replica::Replica::start_over(files, &config, machine, &founders, incarnation, send)?;
    let (inputs, queue) = input::queue();
    let (status, shown) = watch::channel(replica.status());
    let (reason, stopped) = watch::channel(None);
    let (removal, removed) = watch::channel(false);
    let reports = Arc::<handle::Reports>::default();
    let raft = Raft {
        inputs,
        reports: reports.clone(),
        status: shown,
        stopped,
        removed,
        check: M::check,
        check_snapshot: M::check_snapshot,
    };
    let driver = driver::Driver {
        replica,
        inputs: queue,
        reports,
        status,
        removed: removal,
        stopped: reason,
        tick,
        export: None,
    };
    let thread = thread::Builder::new().name("raft".to_owned());
    thread.spawn(move || driver.run()).map_err(StartError::Thread)?;
    Ok(raft)
}
