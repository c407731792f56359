//! Driver: the thread. It waits in one place, on a queue of inputs with the next tick as deadline; it takes everything
//! that is queued, drains the replica once, and waits again. Whatever arrives while a group is being made durable goes
//! into the next one: that is all of group commit.
//!
//! Nothing else in this crate reads a clock or starts a thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    error::{ProposeError, ReadError, StopReason},
    input::{INPUTS_MAX, Input},
    panics, proposals, reads,
    replica::Replica,
    state_machine::StateMachine,
    status::Status,
};

/// The thread's state.
pub(crate) struct Driver<M> {
    pub(crate) replica: Replica<M>,
    pub(crate) inputs: Receiver<Input>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) stopped: watch::Sender<Option<StopReason>>,
    pub(crate) tick: Duration,
    pub(crate) export: Option<Exporting>,
}

/// The thread that writes the state out.
pub(crate) type Exporting = JoinHandle<Result<u64, String>>;

/// Whether the loop goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl<M: StateMachine> Driver<M> {
    /// The whole life of the thread. A panic below is caught here and nowhere else: everyone is told, nobody is served.
    pub(crate) fn run(mut self) {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let reason = match served {
            Ok(Ok(())) => StopReason::Requested,
            Ok(Err(error)) => StopReason::Failed(error),
            Err(panic) => StopReason::Failed(panics::message(&*panic)),
        };
        self.replica.abandon();
        self.refuse_queued();
        match &reason {
            StopReason::Requested => drop(self.replica),
            StopReason::Failed(error) => {
                tracing::error!(error, "consensus stopped");
                // Closing would sync once more, on a disk or from a state that just proved untrustworthy (and
                // raft-engine aborts the process when that fails). The process is about to end; leave all as it is.
                std::mem::forget(self.replica);
            }
        }
        // The receiver may be gone; then nobody is left to be told.
        let _ = self.stopped.send(Some(reason));
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut deadline = Instant::now() + self.tick;
        self.drain()?;
        loop {
            let flow = self.wait(deadline);
            let now = Instant::now();
            if now >= deadline {
                // One tick, however late: ticks a stalled thread missed would all at once look like a dead leader.
                deadline = now + self.tick;
                self.replica.tick();
                self.replica.machine.housekeep();
            }
            self.drain()?;
            self.checkpoint()?;
            if flow == Flow::Stop {
                self.replica.machine.checkpoint();
                return Ok(());
            }
        }
    }

    /// Blocks until the first input or the deadline, then takes everything that is queued.
    fn wait(&mut self, deadline: Instant) -> Flow {
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut next = match self.inputs.recv_timeout(patience) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Flow::Stop,
        };
        for _ in 0..INPUTS_MAX {
            match next {
                Some(Input::Propose { command, waiter }) => self.replica.propose(command, waiter),
                Some(Input::Read { waiter }) => self.replica.read(waiter),
                Some(Input::Stop) => return Flow::Stop,
                None => break,
            }
            next = self.inputs.try_recv().ok();
        }
        Flow::Continue
    }

    fn drain(&mut self) -> Result<(), String> {
        self.replica.drain().map_err(|error| error.to_string())?;
        let status = self.replica.status();
        self.status.send_if_modified(|shown| {
            let modified = *shown != status;
            *shown = status;
            modified
        });
        Ok(())
    }

    /// Starts the export thread when a checkpoint is due, and takes its result when it is done.
    fn checkpoint(&mut self) -> Result<(), String> {
        if let Some(export) = self.export.take_if(|export| export.is_finished()) {
            let result = export.join().unwrap_or_else(|panic| Err(panics::message(&*panic)));
            self.replica.exported(result).map_err(|error| error.to_string())?;
        }
        if self.export.is_none()
            && let Some(export) = self.replica.checkpoint()
        {
            let thread = thread::Builder::new().name("export".to_owned()).spawn(export);
            self.export = Some(thread.map_err(|error| format!("start the export thread: {error}"))?);
        }
        Ok(())
    }

    /// What is still queued was never seen by raft.
    fn refuse_queued(&mut self) {
        while let Ok(input) = self.inputs.try_recv() {
            match input {
                Input::Propose { waiter, .. } => proposals::answer(waiter, Err(ProposeError::Stopped)),
                Input::Read { waiter } => reads::answer(waiter, Err(ReadError::Stopped)),
                Input::Stop => {}
            }
        }
    }
}
