//! Mover: the thread that takes committed rows to sled, so that nobody who wrote one waits for that. Its queue is
//! [`Pending`], which readers ask before they ask sled.
//!
//! It moves what gathered as soon as that is worth a transaction, and all of it when somebody settles. What can not be
//! moved stays pending, and the database has failed: the caller that `move_on` belongs to says so.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{
    db::Row,
    pending::{Pending, Rows},
};

/// The thread's handle. Dropped, it ends the thread; what is still pending then is lost to sled.
#[derive(Debug)]
pub(crate) struct Mover {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Rung whenever the state changes in a way somebody waits for: the thread, who adds, or who settles.
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Pending,
    /// Batches that were added, of those the ones that began to move, and of those the ones that are sled's.
    added: u64,
    begun: u64,
    moved: u64,
    /// So many are to go, however little that is.
    wanted: u64,
    /// Nothing moves any more: it failed, or nobody is left.
    ended: bool,
}

impl Mover {
    /// Starts the thread. `move_on` makes rows sled's, all or none; whether it did.
    pub(crate) fn start(move_on: impl FnMut(&Rows) -> bool + Send + 'static) -> io::Result<Mover> {
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new().name("sled-mover".to_owned()).spawn({
            let shared = shared.clone();
            move || shared.run(move_on)
        })?;
        Ok(Mover { shared, thread: Some(thread) })
    }

    /// Adds rows, visible at once; waits while there are too many.
    pub(crate) fn add(&self, rows: &[Row]) {
        let mut state = self.shared.wait(|state| state.pending.is_full() && !state.ended);
        state.pending.add(rows);
        state.added += 1;
        if state.pending.is_due() {
            self.shared.bell.notify_all();
        }
    }

    /// Lets everything move that was added before, without waiting for it.
    pub(crate) fn nudge(&self) {
        let mut state = self.shared.lock();
        if state.moved < state.added {
            state.wanted = state.added;
            self.shared.bell.notify_all();
        }
    }

    /// Waits until sled has all that was added before; returns at once when nothing moves any more.
    pub(crate) fn settle(&self) {
        let added = {
            let mut state = self.shared.lock();
            state.wanted = state.added;
            state.added
        };
        self.shared.bell.notify_all();
        drop(self.shared.wait(|state| state.moved < added && !state.ended));
    }

    /// Looks at what is pending. What is no longer there is in sled.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Pending) -> T) -> T {
        look(&self.shared.lock().pending)
    }
}

impl Shared {
    fn run(&self, mut move_on: impl FnMut(&Rows) -> bool) {
        loop {
            let rows = {
                let idle =
                    |state: &State| !state.pending.is_due() && state.wanted <= state.moved && !state.ended;
                let mut state = self.wait(idle);
                if state.ended {
                    return;
                }
                state.begun = state.added;
                state.pending.begin()
            };
            let moved = move_on(&rows);
            let mut state = self.lock();
            match moved {
                true => {
                    state.pending.end();
                    state.moved = state.begun;
                }
                false => state.ended = true,
            }
            self.bell.notify_all();
        }
    }

    fn wait(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.bell.wait_while(self.lock(), |state| condition(state)).unwrap_or_else(PoisonError::into_inner)
    }

    // A panic under the lock can only be ours; the rows are whole either way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.bell.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of it was told when it happened.
            let _ = thread.join();
        }
    }
}
