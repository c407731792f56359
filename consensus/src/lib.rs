//! The replicated log and the thread that drives it. (The essay follows.)

mod checkpoint;
mod config;
#[cfg(test)]
mod damage;
mod driver;
mod error;
mod handle;
mod input;
mod log;
mod logger;
#[cfg(test)]
mod map;
mod node;
mod panics;
mod proposals;
mod reads;
mod ready;
mod replica;
#[cfg(test)]
mod scripts;
mod state_machine;
mod status;
mod wal;

use std::{sync::mpsc, thread};

use tokio::sync::watch;

pub use config::{COMMAND_BYTES_MAX, Config};
pub use error::{ProposeError, ReadError, StartError, StopReason};
pub use handle::Raft;
pub use state_machine::{Export, StateMachine};
pub use status::{Role, Status};
pub use wal::WalError;

/// Starts this member over `machine` and spawns the thread that drives it. A fresh data directory begins a cluster of
/// one; a lone voter campaigns at once, so the first proposal need not wait for an election.
pub fn start<M: StateMachine>(config: Config, machine: M) -> Result<Raft, StartError> {
    let founders = [config.node_id];
    let incarnation = getrandom::u64().map_err(|error| StartError::Thread(std::io::Error::other(error)))?;
    // Nobody to send to yet; raft treats a message that is dropped as one the network lost.
    let send = Box::new(|messages: Vec<raft::eraftpb::Message>| {
        tracing::debug!(messages = messages.len(), "no transport: messages dropped");
    });
    let tick = config.tick;
    let replica = replica::Replica::start(&config, machine, &founders, incarnation, send)?;
    let (inputs, queue) = mpsc::sync_channel(input::INPUTS_MAX);
    let (status, shown) = watch::channel(replica.status());
    let (reason, stopped) = watch::channel(None);
    let driver = driver::Driver { replica, inputs: queue, status, stopped: reason, tick, export: None };
    let thread = thread::Builder::new().name("raft".to_owned());
    thread.spawn(move || driver.run()).map_err(StartError::Thread)?;
    Ok(Raft { inputs, status: shown, stopped, check: M::check })
}
