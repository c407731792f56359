//! What `--log-level` turns on: our own log lines on stderr, for whoever looks for a fault.

use tracing_subscriber::filter::LevelFilter;

use crate::world::Failure;

/// Starts logging at calicoctl's levels; its default, `panic`, is silence.
pub(crate) fn start(level: &str) -> Result<(), Failure> {
    let filter = match level {
        "panic" | "fatal" => return Ok(()),
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        other => {
            let levels = "panic, fatal, error, warn, info, debug";
            return Err(Failure(format!("unknown log level: {other}, expected one of: {levels}")));
        }
    };
    // Whoever started us may log already, and then does so for us too.
    tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr).try_init().ok();
    Ok(())
}
