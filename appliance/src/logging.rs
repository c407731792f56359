//! Logging: one line per event on standard error, RFC 3339 in UTC, ready for journald and for `grep`.
//!
//! Set up once, by `main`, before anything is worth a line. What is logged is a setting; where it goes is not: whoever
//! starts the process decides that.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

/// Sends the events that pass the filter to standard error.
pub(crate) fn start(filter: Targets) {
    // `SystemTime` prints RFC 3339 with microseconds in UTC.
    let lines = fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_timer(SystemTime)
        .with_target(true);
    // A second subscriber is only possible in tests, and there the first one serves as well.
    let _ = Registry::default().with(lines).with(filter).try_init();
}
