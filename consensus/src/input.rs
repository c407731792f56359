//! Input: the closed list of things that can wake the loop. A tick is not among them: it is the absence of any.

use crate::{proposals, reads};

/// With this many inputs queued, whoever brings another hears `Busy`.
pub(crate) const INPUTS_MAX: usize = 8_192;

/// What the driver's thread can be woken with.
pub(crate) enum Input {
    /// Propose a command.
    Propose { command: Vec<u8>, waiter: proposals::Waiter },
    /// Find an index a linearizable read may be served at.
    Read { waiter: reads::Waiter },
    /// Answer everyone, make the state durable and end.
    Stop,
}
