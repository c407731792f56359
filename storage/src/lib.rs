//! The revisioned store.

mod chain;
mod codec;
mod command;
mod error;
mod event;
mod key;
mod options;
mod outcome;
mod reader;
mod record;
mod revision;
mod snapshot;
mod store;
mod watch;

pub use chain::{ChainHash, ChainHead};
pub use codec::CodecError;
pub use command::{
    AUTHOR_FIELD_BYTES_MAX, Author, COMMAND_BYTES_MAX, Command, Compare, InvalidCommand, Op, RequestId,
    TXN_OPS_MAX,
};
pub use error::{Fatal, OpenError, SnapshotError};
pub use event::Event;
pub use key::{KEY_BYTES_MAX, Key};
pub use options::{ClusterId, HistoryBounds, StoreOptions};
pub use outcome::{Outcome, Reply};
pub use reader::{Reader, Stopped};
pub use record::Record;
pub use revision::Revision;
pub use snapshot::Snapshot;
pub use store::{Healed, Store};
pub use watch::{Compacted, WatchClosed, Watcher};
