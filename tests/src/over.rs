//! Over: the end of a scope, told to what runs beside it.

use std::sync::atomic::{AtomicBool, Ordering};

/// Raises a flag when it is dropped. Whoever runs beside a test until then ends also when the test fails, which would
/// else wait for it.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
