//! The revisioned store.

mod apply;
mod chain;
mod chunk;
mod codec;
mod command;
mod db;
mod directory;
mod durable;
mod error;
mod event;
mod exported;
mod history;
mod hub;
mod index;
mod key;
mod load;
mod open;
mod options;
mod outcome;
mod reader;
mod record;
mod requests;
mod retention;
mod revision;
mod snapshot;
mod state;
mod store;
mod watch;

pub use apply::REPLIES_BYTES_MAX;
pub use chain::{ChainHash, ChainHead};
pub use codec::CodecError;
pub use command::{
    AUTHOR_FIELD_BYTES_MAX, Author, COMMAND_BYTES_MAX, Command, Compare, InvalidCommand, Op, RequestId,
    TXN_OPS_MAX,
};
pub use error::{Fatal, OpenError, SnapshotError};
pub use event::Event;
pub use key::{KEY_BYTES_MAX, Key};
pub use open::Healed;
pub use options::{ClusterId, HistoryBounds, StoreOptions};
pub use outcome::{Outcome, Reply};
pub use reader::{Reader, Stopped};
pub use record::Record;
pub use revision::Revision;
pub use snapshot::Snapshot;
pub use store::Store;
pub use watch::{Compacted, WatchClosed, Watcher};
