//! Shutdown: one signal, everyone told once.
//!
//! `Shutdown` is the promise that tasks hold and wait on; `Trigger` is the one hand that can fulfil it. The first
//! SIGTERM or SIGINT asks for an orderly stop; the second means that somebody is out of patience, and the process ends
//! there and then. Either way the kernel keeps the policy it has: stopping never opens anything.

use std::convert::Infallible;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit;

/// Held by every task that must end when the node does.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

/// Tells every holder of the `Shutdown`. Dropping it tells them too: a server that is gone needs no tasks.
#[derive(Debug)]
pub(crate) struct Trigger(watch::Sender<bool>);

/// A trigger and the first of its listeners.
pub(crate) fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Tells everyone; a second call changes nothing.
    pub(crate) fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once shutdown was asked for, at once if it already was.
    pub(crate) async fn requested(&mut self) {
        // An error means that the trigger is gone, and with it the server.
        let _ = self.0.wait_for(|requested| *requested).await;
    }
}

/// The signals that ask the process to stop.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// From here on the signals are ours to answer.
    pub(crate) fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal's name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits, while the shutdown runs, for whoever will not: ends the process at once.
    pub(crate) async fn exit_on_next(mut self) -> Infallible {
        let signal = self.next().await;
        tracing::warn!("{signal} again: exiting at once; the log makes good what the store had not flushed");
        std::process::exit(i32::from(exit::GENERAL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_is_told_once_however_late_they_ask() {
        let (trigger, early) = channel();
        let mut waiting = early.clone();
        let told = tokio::spawn(async move { waiting.requested().await });
        trigger.fire();
        trigger.fire();
        told.await.expect("told");
        let mut late = early;
        late.requested().await;
    }

    #[tokio::test]
    async fn a_server_that_is_gone_tells_its_tasks() {
        let (trigger, mut shutdown) = channel();
        drop(trigger);
        shutdown.requested().await;
    }
}
