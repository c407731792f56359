//! Retry until true or a deadline, printing the last answer: the only way a test here waits.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for two loaded cores; a healthy system answers in milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often the question is asked again.
const PAUSE: Duration = Duration::from_millis(25);

/// Asks until the answer satisfies `accept`, and returns that answer.
///
/// # Panics
/// When [`PATIENCE`] runs out; the message carries `what` and the last answer.
pub fn eventually<T: Debug>(what: &str, mut ask: impl FnMut() -> T, accept: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if accept(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}; the last answer was {answer:#?}");
        thread::sleep(PAUSE);
    }
}

/// Asks until the answer is `true`.
///
/// # Panics
/// When [`PATIENCE`] runs out.
pub fn eventually_true(what: &str, ask: impl FnMut() -> bool) {
    eventually(what, ask, |yes| *yes);
}
