//! What is under way right now: requests and watches, counted while they live.
//!
//! The node makes one, hands it to the API and reads it for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of what has begun and not ended.
#[derive(Debug, Default)]
pub(crate) struct Load {
    requests: Arc<AtomicU64>,
    watches: Arc<AtomicU64>,
}

/// One request or watch; counted until this is dropped, however it ends.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<AtomicU64>);

impl Load {
    /// Requests that have no answer yet. A watch has its answer when its first byte is sent.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Watches whose clients still listen.
    pub(crate) fn watches(&self) -> u64 {
        self.watches.load(Ordering::Relaxed)
    }

    pub(super) fn request(&self) -> UnderWay {
        UnderWay::begin(&self.requests)
    }

    pub(super) fn watch(&self) -> UnderWay {
        UnderWay::begin(&self.watches)
    }
}

impl UnderWay {
    fn begin(count: &Arc<AtomicU64>) -> UnderWay {
        count.fetch_add(1, Ordering::Relaxed);
        UnderWay(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_no_longer_counted() {
        let load = Load::default();
        let (first, second) = (load.watch(), load.watch());
        drop(first);
        assert_eq!((load.watches(), load.requests()), (1, 0));
        drop(second);
        assert_eq!(load.watches(), 0);
    }
}
