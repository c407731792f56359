//! raft-rs speaks slog; we speak tracing. One drain that translates, and nothing else.

use std::fmt::{Arguments, Write};

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, Serializer, o};

/// A logger for raft. Its `Info` tells of every vote and message, which an operator reads as `debug`.
pub(crate) fn logger() -> Logger {
    Logger::root(ToTracing, o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, context: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", line(record, context)),
            Level::Warning => tracing::warn!(target: "raft", "{}", line(record, context)),
            Level::Info => tracing::debug!(target: "raft", "{}", line(record, context)),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{}", line(record, context)),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        match level {
            Level::Critical | Level::Error => tracing::enabled!(target: "raft", tracing::Level::ERROR),
            Level::Warning => tracing::enabled!(target: "raft", tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: "raft", tracing::Level::DEBUG),
            Level::Debug | Level::Trace => tracing::enabled!(target: "raft", tracing::Level::TRACE),
        }
    }
}

fn line(record: &Record<'_>, context: &OwnedKVList) -> String {
    let mut line = Line(record.msg().to_string());
    // Writing to a string cannot fail; a value that refuses to print is left out.
    let _ = record.kv().serialize(record, &mut line);
    let _ = context.serialize(record, &mut line);
    line.0
}

struct Line(String);

impl Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Drain for Lines {
        type Ok = ();
        type Err = Never;

        fn log(&self, record: &Record<'_>, context: &OwnedKVList) -> Result<(), Never> {
            self.0.lock().unwrap().push(line(record, context));
            Ok(())
        }
    }

    #[test]
    fn a_record_becomes_one_line_with_its_values() {
        let lines = Lines::default();
        let logger = Logger::root(lines.clone(), o!("raft_id" => 7));

        slog::info!(logger, "elected"; "term" => 3);

        assert_eq!(*lines.0.lock().unwrap(), ["elected term=3 raft_id=7"]);
    }
}
