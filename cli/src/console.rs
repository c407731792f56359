//! Console: where text goes. Standard output and error in production, two strings in tests.
//!
//! What nodes warn of is collected in [`Notices`] and printed to standard error before whatever comes next, each text
//! once: a hundred objects with one fault are one warning.
//!
//! A reader that went away (`ctl get -w | head`) is not an error: the console notes it and the command ends.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Two streams; successes go to `out`, failures to `err`.
#[derive(Debug)]
pub(crate) struct Console {
    sink: Sink,
    closed: bool,
    notices: Notices,
}

/// So many different warnings are enough to act on.
const NOTICES_MAX: usize = 64;

/// Warnings on their way to the console. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices(Arc<Mutex<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    seen: BTreeSet<String>,
    fresh: Vec<String>,
}

impl Notices {
    /// Takes texts; those known already are dropped.
    pub(crate) fn add(&self, texts: impl Iterator<Item = String>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            if pending.seen.len() < NOTICES_MAX && pending.seen.insert(text.clone()) {
                pending.fresh.push(text);
            }
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).fresh)
    }
}

#[derive(Debug)]
enum Sink {
    Process,
    #[cfg_attr(not(test), allow(dead_code, reason = "tests read what a person would read"))]
    Captured {
        out: String,
        err: String,
        prints_left: usize,
    },
}

impl Console {
    /// The streams of this process.
    pub(crate) fn process() -> Console {
        Console { sink: Sink::Process, closed: false, notices: Notices::default() }
    }

    /// Prints to standard output, at once: rows of a watch must not wait for a full buffer.
    pub(crate) fn out(&mut self, text: &str) {
        self.warn();
        match &mut self.sink {
            Sink::Process => {
                let mut stdout = io::stdout().lock();
                let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
                self.closed |= printed.is_err();
            }
            Sink::Captured { out, prints_left, .. } => {
                out.push_str(text);
                *prints_left = prints_left.saturating_sub(1);
                self.closed |= *prints_left == 0;
            }
        }
    }

    /// Prints to standard error; if even that is closed there is nobody left to tell.
    pub(crate) fn err(&mut self, text: &str) {
        self.warn();
        self.print_err(text);
    }

    /// Prints the warnings that came since the last print.
    pub(crate) fn warn(&mut self) {
        for notice in self.notices.take() {
            let text: String = notice.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            self.print_err(&format!("Warning: {text}\n"));
        }
    }

    /// Where a client leaves what it was warned of.
    pub(crate) fn notices(&self) -> Notices {
        self.notices.clone()
    }

    fn print_err(&mut self, text: &str) {
        match &mut self.sink {
            Sink::Process => self.closed |= io::stderr().lock().write_all(text.as_bytes()).is_err(),
            Sink::Captured { err, .. } => err.push_str(text),
        }
    }

    /// Whether the reader went away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Two strings, for tests.
    #[cfg(test)]
    pub(crate) fn captured() -> Console {
        Console {
            sink: Sink::Captured { out: String::new(), err: String::new(), prints_left: usize::MAX },
            closed: false,
            notices: Notices::default(),
        }
    }

    /// Lets the reader go away after it has read so many times, for tests of what never ends.
    #[cfg(test)]
    pub(crate) fn close_after(&mut self, prints: usize) {
        if let Sink::Captured { prints_left, .. } = &mut self.sink {
            *prints_left = prints;
        }
    }

    /// What was printed since the last call, for tests.
    #[cfg(test)]
    pub(crate) fn take(&mut self) -> (String, String) {
        match &mut self.sink {
            Sink::Process => Default::default(),
            Sink::Captured { out, err, .. } => (std::mem::take(out), std::mem::take(err)),
        }
    }
}
