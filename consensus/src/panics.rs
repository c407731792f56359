//! What a caught panic said. Two callers: the log's opening, and the driver's thread.

use std::any::Any;

/// The message of a panic, as far as it has one.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panic without a message".to_owned())
}
