//! The revisioned store: keys, bytes, and everything that ever happened to them.
//!
//! It keeps what raft agreed on. One thread owns a [`Store`] and feeds it committed log entries; everyone else holds a
//! [`Reader`]. It does not know what a policy is, has no clock and makes no decision of its own: the same log makes
//! the same store, hash for hash, on every member. It never answers and carries on after its disk has failed.
//!
//! # Revisions
//!
//! Every change takes the store one [`Revision`] further. A [`Command::Txn`] is etcd's transaction: if its compares
//! hold it does one list of operations, otherwise another, and all it changes happens at one revision. Each [`Record`]
//! knows the revision that created it, the one that wrote it last, and how often it was written. A transaction that
//! changes nothing takes no revision, and writing the bytes that are there already changes nothing.
//!
//! An empty store stands at revision 1, because 0 means "absent" to a compare and "any" to a Kubernetes client.
//!
//! # History
//!
//! `rev` is the store. It holds, by revision, who made it (author, source, reason, time), each of its entries, and a
//! link of a hash chain over all of that. The current records are the newest entries of their keys; the index that
//! says which these are lives in memory and is rebuilt at every start, so that a write costs sled one row when it is
//! made and one when compaction removes it. What a watcher replays, what blame prints and what a snapshot carries are
//! the same rows.
//!
//! ```text
//!  Command ──► apply ──► Batch: rows, new state, changes, outcomes
//!                          │ rev + sm rows, pending and soon in sled
//!                          ▼
//!                        Core (index, state) ──► Reader: get, list, author, chain
//!                          │
//!                          ▼
//!                        WatchHub (ring, bell) ──► Watcher: history, then live
//! ```
//!
//! [`Command::Compact`] gives history up from the front. It is a command because members must cut at the same place;
//! the rows go afterwards, a few with each batch, an entry always before or together with the deletion that superseded
//! it, so that no crash brings a deleted record back. Events at the revision compacted to are kept whole, with the
//! records before them. [`Reader::compaction_due`] says where the bounds would cut; the leader proposes it.
//!
//! A watcher is a place in the history. It takes what comes after it from the ring of recent changes or, when those
//! have left memory, from `rev`: there is no queue per watcher to overflow, and no seam between replay and live.
//!
//! # Why one batch per group of commands
//!
//! A sled transaction costs two writes of its own whatever is in it, wakes all of sled's threads, and takes a lock that
//! the whole process shares. So a group of committed entries is one batch (the rows of their revisions, the remembered
//! requests, the deletions compaction owes, and the state with the applied index), and small batches wait in memory for
//! a transaction together. It is atomic and not durable. After a crash the store is exactly as it was after some earlier
//! group, and the log is replayed from there; [`Store::checkpoint`]
//! makes what was applied durable, and only behind that may the log be cut.
//!
//! A request id makes a retry harmless: the last thousands of answers are part of the replicated state, and a command
//! that comes again is answered as the first one was. A transaction of nothing under an id asks for that answer, and if
//! there is none, makes sure that there never will be another.
//!
//! # The ten facts
//!
//! `reference/store.md` measured sled, and its ten facts are why the store looks as it does:
//!
//! 1. sled's flush is not durable, so `Db::sync` follows it with an fdatasync through a descriptor of our own (2).
//!    The background flusher is off.
//! 3. Large values end in files that sled never syncs, so everything is cut into rows under 6 KiB (`chunk`), and a
//!    checkpoint fails if `blobs/` is not empty.
//! 4. sled panics over damage, and one time in twelve loses data silently. So every call into it is caught (`db`), every
//!    row carries a checksum over its key and bytes, and every start recomputes the chain over the retained revisions
//!    and a fingerprint of the current records before anything is served (`load`, `check`).
//! 5. A log in sled costs half the throughput, and a damaged sled could not be rebuilt from itself (6): the log is not
//!    here. A database that fails any check is put into quarantine and rebuilt from the newest exported snapshot
//!    (`open`); [`Store::log_may_be_cut_to`] keeps the log long enough for that, twice over.
//! 9. bincode has no schema evolution, so everything encoded names its format and kind, and decodes from a slice,
//!    bounded (`codec`).
//!
//! Facts 7, 8 and 10 are about raft and bind `consensus`.
//!
//! # Questions for a reviewer
//!
//! * Can any two members differ after the same log? Look for configuration in `apply`: there is none, and bounds that
//!   decide outcomes ([`TXN_OPS_MAX`], [`PREFIX_COMPARES_MAX`], [`REPLIES_BYTES_MAX`], the request window's) are
//!   constants of the format.
//! * Can a reader see half of a batch? The index changes under one lock, and rows are never overwritten.
//! * Can a row be removed that somebody is about to read? See `holds`, `purging` and the gate in `reader`.
//! * Can damage pass for health? A whole earlier state can, and sled answers most damage to its tail with one. If it is
//!   behind the newest export, `open` heals it; if it is not, the log still has everything after it, since the log is
//!   never cut beyond an export. `consensus` should still compare [`Store::applied_index`] with its first entry.

mod apply;
mod chain;
mod check;
mod chunk;
mod codec;
mod command;
mod db;
mod directory;
mod durable;
mod error;
mod event;
mod exported;
mod frames;
mod history;
mod holds;
mod hub;
mod index;
mod inspect;
mod key;
mod load;
mod mover;
mod open;
mod options;
mod outcome;
mod pending;
mod purging;
mod reader;
mod record;
mod refound;
mod requests;
mod retention;
mod revision;
mod slices;
mod snapshot;
mod spent;
mod state;
mod store;
mod watch;

pub use apply::REPLIES_BYTES_MAX;
pub use chain::{ChainHash, ChainHead};
pub use codec::CodecError;
pub use command::{
    AUTHOR_FIELD_BYTES_MAX, Author, COMMAND_BYTES_MAX, Command, Compare, InvalidCommand, Op,
    PREFIX_COMPARES_MAX, RequestId, TXN_OPS_MAX,
};
pub use error::{Fatal, OpenError, SnapshotError};
pub use event::Event;
pub use inspect::{SnapshotInfo, inspect, inspect_head};
pub use key::{KEY_BYTES_MAX, Key};
pub use open::Healed;
pub use options::{ClusterId, HistoryBounds, StoreOptions};
pub use outcome::{Outcome, Reply};
pub use reader::{Reader, Stopped};
pub use record::Record;
pub use refound::{REVISION_JUMP, Refound, refound};
pub use revision::Revision;
pub use snapshot::Snapshot;
pub use store::Store;
pub use watch::{Compacted, WatchClosed, Watcher};
