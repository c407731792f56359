//! Changes: who is waiting for a change of the members, or of the leader. No clock and no I/O; ticks are counted.

use tokio::sync::oneshot;

use crate::error::ChangeError;

/// Where the answer to a change of the members goes.
pub(crate) type ChangeWaiter = oneshot::Sender<Result<(), ChangeError>>;

/// Where the answer to a change of the leader goes.
pub(crate) type TransferWaiter = oneshot::Sender<Result<u64, ChangeError>>;
