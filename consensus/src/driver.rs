//! Driver: the thread. It waits in one place, on a queue of inputs with the next tick as deadline; it takes everything
//! that is queued, drains the replica once, and waits again. Whatever arrives while a group is being made durable goes
//! into the next one: that is all of group commit.
//!
//! Nothing else in this crate reads a clock or starts a thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    error::{ChangeError, ProposeError, ReadError, StopReason},
    handle::Reports,
    input::{INPUTS_MAX, Input, InputReceiver},
    panics, proposals, reads,
    replica::{self, Replica},
    state_machine::StateMachine,
    status::Status,
    wal::WalError,
};

/// The thread's state.
pub(crate) struct Driver<M> {
    pub(crate) replica: Replica<M>,
    pub(crate) inputs: InputReceiver,
    pub(crate) reports: Arc<Reports>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) removed: watch::Sender<bool>,
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
    /// Somebody asked it to end.
    Stop,
    /// Nobody is left who could ask it anything.
    Gone,
}

impl<M: StateMachine> Driver<M> {
    /// The whole life of the thread. A panic below is caught here and nowhere else: everyone is told, nobody is served.
    pub(crate) fn run(mut self) {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let reason = match served {
            Ok(Ok(())) => StopReason::Requested,
            Ok(Err(reason)) => reason,
            Err(panic) => StopReason::Failed(panics::message(&*panic)),
        };
        self.replica.abandon();
        self.refuse_queued();
        // Closed before anyone is told, so that whoever was told hears `Stopped` from then on.
        drop(self.inputs);
        match &reason {
            StopReason::Requested => drop(self.replica),
            StopReason::Diverged { detail } => {
                tracing::error!(detail, "this member's data differs from its peers'; consensus stopped");
                drop(self.replica);
            }
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

    fn serve(&mut self) -> Result<(), StopReason> {
        let mut deadline = Instant::now() + self.tick;
        self.replica.settle().map_err(failed)?;
        self.drain()?;
        while self.turn(&mut deadline)? == Flow::Continue {}
        // A leader hands over before it goes, so that nobody waits for an election; raft gives that one timeout.
        let mut ticks_left = self.replica.election_ticks;
        while ticks_left > 0 && self.replica.hand_over() {
            let before = deadline;
            let flow = self.turn(&mut deadline)?;
            ticks_left -= u32::from(deadline != before);
            if flow == Flow::Gone {
                break;
            }
        }
        self.close()
    }

    /// Waits for inputs or a tick, and does what follows.
    fn turn(&mut self, deadline: &mut Instant) -> Result<Flow, StopReason> {
        let flow = self.wait(*deadline);
        let now = Instant::now();
        if now >= *deadline {
            // One tick, however late: ticks a stalled thread missed would all at once look like a dead leader.
            *deadline = now + self.tick;
            self.replica.tick();
            self.replica.machine.housekeep();
        }
        for (member, ok) in self.reports.take() {
            self.replica.snapshot_sent(member, ok);
        }
        self.drain()?;
        if let Some(detail) = &self.replica.diverged {
            return Err(StopReason::Diverged { detail: detail.clone() });
        }
        self.checkpoint()?;
        Ok(flow)
    }

    /// Blocks until the first input or the deadline, then takes everything that is queued.
    fn wait(&mut self, deadline: Instant) -> Flow {
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut next = match self.inputs.recv_timeout(patience) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Flow::Gone,
        };
        for _ in 0..INPUTS_MAX {
            match next {
                Some(Input::Propose { command, waiter }) => self.replica.propose(command, waiter),
                Some(Input::Read { waiter }) => self.replica.read(waiter),
                Some(Input::Change { change, waiter }) => self.replica.change_members(change, waiter),
                Some(Input::Transfer { to, waiter }) => self.replica.transfer_leadership(to, waiter),
                Some(Input::Step(incoming)) => self.replica.step(incoming),
                Some(Input::Refuse { to, id, reason }) => self.replica.refuse(to, id, reason),
                Some(Input::Unreachable(member)) => self.replica.unreachable(member),
                Some(Input::Hold(members)) => self.replica.hold(members),
                Some(Input::Stop) => return Flow::Stop,
                None => break,
            }
            next = self.inputs.try_recv();
        }
        Flow::Continue
    }

    /// Leaves nothing to replay, and nobody who still holds the state's files.
    fn close(&mut self) -> Result<(), StopReason> {
        self.replica.machine.checkpoint();
        if let Some(export) = self.export.take() {
            let result = export.join().unwrap_or_else(|panic| Err(panics::message(&*panic)));
            self.replica.exported(result).map_err(failed)?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), StopReason> {
        self.replica.drain().map_err(failed)?;
        let status = self.replica.status();
        self.removed.send_if_modified(|known| std::mem::replace(known, status.removed) != status.removed);
        self.status.send_if_modified(|shown| {
            let modified = *shown != status;
            *shown = status;
            modified
        });
        Ok(())
    }

    /// Starts the export thread when a checkpoint is due, and takes its result when it is done.
    fn checkpoint(&mut self) -> Result<(), StopReason> {
        if let Some(export) = self.export.take_if(|export| export.is_finished()) {
            let result = export.join().unwrap_or_else(|panic| Err(panics::message(&*panic)));
            self.replica.exported(result).map_err(failed)?;
        }
        if self.export.is_none()
            && let Some(export) = self.replica.checkpoint()
        {
            let thread = thread::Builder::new().name("export".to_owned()).spawn(export);
            let start = |error| StopReason::Failed(format!("start the export thread: {error}"));
            self.export = Some(thread.map_err(start)?);
        }
        Ok(())
    }

    /// What is still queued was never seen by raft.
    fn refuse_queued(&self) {
        while let Some(input) = self.inputs.try_recv() {
            match input {
                Input::Propose { waiter, .. } => proposals::answer(waiter, Err(ProposeError::Stopped)),
                Input::Read { waiter } => reads::answer(waiter, Err(ReadError::Stopped)),
                // A waiter may be gone; then nobody is left to be told.
                Input::Change { waiter, .. } => drop(waiter.send(Err(ChangeError::Stopped))),
                Input::Transfer { waiter, .. } => drop(waiter.send(Err(ChangeError::Stopped))),
                Input::Step(incoming) => replica::discard(incoming),
                Input::Refuse { .. } | Input::Unreachable(_) | Input::Hold(_) | Input::Stop => {}
            }
        }
    }
}

fn failed(error: WalError) -> StopReason {
    StopReason::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use crate::{
        COMMAND_BYTES_MAX, Config, Raft,
        error::{ProposeError, ReadError, StopReason},
        map::Map,
        message::Origin,
    };

    fn member(folder: &TempDir) -> Raft {
        start(Config::new(1, folder.path()), Map::open(folder.path()))
    }

    fn start(config: Config, map: Map) -> Raft {
        crate::start(config, map, Origin::Founder, Box::new(drop)).unwrap()
    }

    #[tokio::test]
    async fn a_lone_member_serves_at_once_and_after_a_restart() {
        let folder = TempDir::new().unwrap();
        let raft = member(&folder);
        assert_eq!(raft.propose(b"a=1".to_vec()).await, Ok(Vec::new()));
        assert_eq!(raft.propose(b"a=2".to_vec()).await, Ok(b"1".to_vec()));
        assert_eq!(raft.read_index().await, Ok(4));
        assert!(raft.status().is_leader());
        raft.stop().await;
        assert_eq!(raft.propose(b"a=3".to_vec()).await, Err(ProposeError::Stopped));
        assert_eq!(raft.read_index().await, Err(ReadError::Stopped));
        assert_eq!(raft.stopped().await, StopReason::Requested);

        let raft = member(&folder);
        assert_eq!(raft.propose(b"a=3".to_vec()).await, Ok(b"2".to_vec()));
    }

    #[tokio::test]
    async fn commands_proposed_together_are_answered_each_with_its_own_outcome() {
        let folder = TempDir::new().unwrap();
        let raft = member(&folder);
        for round in 0..5 {
            let waiting: Vec<_> = (0..200)
                .map(|key| {
                    let raft = raft.clone();
                    tokio::spawn(
                        async move { raft.propose(format!("{key}={key}-{round}").into_bytes()).await },
                    )
                })
                .collect();
            for (key, answer) in waiting.into_iter().enumerate() {
                let before = if round == 0 { String::new() } else { format!("{key}-{}", round - 1) };
                assert_eq!(answer.await.unwrap(), Ok(before.into_bytes()));
            }
        }
        // Answers overtake the status, which is told once the whole group is through.
        let all = 2 + 5 * 200;
        let status = raft.wait_status(|status| status.applied >= all).await.unwrap();
        assert_eq!((status.applied, status.commit), (all, all));
    }

    #[tokio::test]
    async fn a_command_that_could_not_be_applied_is_refused_at_the_door() {
        let folder = TempDir::new().unwrap();
        let raft = member(&folder);
        let large = vec![b'='; COMMAND_BYTES_MAX + 1];
        let (size, limit) = (COMMAND_BYTES_MAX + 1, COMMAND_BYTES_MAX);
        assert_eq!(raft.propose(large).await, Err(ProposeError::TooLarge { size, limit }));
        let refused = raft.propose(b"no equals sign".to_vec()).await;
        assert!(matches!(refused, Err(ProposeError::Invalid { .. })), "{refused:?}");
        assert_eq!(raft.read_index().await, Ok(2), "neither reached the log");
    }

    #[tokio::test]
    async fn the_largest_command_passes() {
        let folder = TempDir::new().unwrap();
        let raft = member(&folder);
        assert_eq!(raft.propose(vec![b'='; COMMAND_BYTES_MAX]).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn a_state_that_fails_stops_everything_and_says_so() {
        let folder = TempDir::new().unwrap();
        let config = Config::new(1, folder.path());
        let raft = start(config, Map::open(folder.path()).failing_at(4));
        assert_eq!(raft.propose(b"a=1".to_vec()).await, Ok(Vec::new()));

        assert_eq!(raft.propose(b"a=2".to_vec()).await, Err(ProposeError::Uncertain), "it is in the log");

        let StopReason::Failed(reason) = raft.stopped().await else { panic!("a reason") };
        assert_eq!(reason, "injected: the state's disk failed at entry 4");
        assert_eq!(raft.propose(b"a=3".to_vec()).await, Err(ProposeError::Stopped));
        assert_eq!(raft.read_index().await, Err(ReadError::Stopped));
        raft.stop().await;
    }

    #[tokio::test]
    async fn the_log_is_cut_behind_what_was_exported() {
        let folder = TempDir::new().unwrap();
        let config = Config { checkpoint_entries: 20, retained_entries: 5, ..Config::new(1, folder.path()) };
        let raft = start(config, Map::open(folder.path()));
        for turn in 0..30 {
            raft.propose(format!("a={turn}").into_bytes()).await.unwrap();
        }

        let status = raft.wait_status(|status| status.first > 2).await.unwrap();

        // Entry 22 was in the state when the checkpoint began at the latest.
        assert!(status.first >= 22 - 5, "{status:?}");
        assert_eq!(raft.propose(b"a=x".to_vec()).await, Ok(b"29".to_vec()));
        raft.stop().await;
        let raft = member(&folder);
        assert_eq!(raft.propose(b"a=y".to_vec()).await, Ok(b"x".to_vec()));
    }

    #[tokio::test]
    async fn a_member_that_only_its_peers_know_to_be_removed_refuses_at_once() {
        let folder = TempDir::new().unwrap();
        let raft = member(&folder);
        raft.propose(b"a=1".to_vec()).await.unwrap();
        raft.stop().await;
        let config = Config { removed: true, ..Config::new(1, folder.path()) };
        let raft = start(config, Map::open(folder.path()));

        assert_eq!(raft.propose(b"a=2".to_vec()).await, Err(ProposeError::Removed));
        assert_eq!(raft.read_index().await, Err(ReadError::Removed));
        assert!(raft.status().removed && raft.status().voters == [1], "its log says otherwise");
        raft.stop().await;
    }

    #[tokio::test]
    async fn a_member_nobody_holds_ends_and_gives_its_files_back() {
        let folder = TempDir::new().unwrap();
        let raft = member(&folder);
        raft.propose(b"a=1".to_vec()).await.unwrap();
        let mut stopped = raft.stopped.clone();
        drop(raft);

        stopped.wait_for(Option::is_some).await.unwrap();

        assert_eq!(member(&folder).propose(b"a=2".to_vec()).await, Ok(b"1".to_vec()));
    }
}
