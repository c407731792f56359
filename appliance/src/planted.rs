//! Planted bugs: what the end-to-end checks of histories must catch, to be believed when they find nothing.
//!
//! A test build (one with debug assertions) makes the one mistake that `APPLIANCE_PLANTED_BUG` names, and says so in
//! its log; without the variable it makes none. A release build contains neither the mistakes nor the variable's name:
//! there, all of this is `false` and `None` to the compiler. Called by `api::registry`, `api::watch`, `cluster::member`
//! and `cluster::join_client`.

use std::path::Path;

use appliance_storage::{Op, Reply, Revision, Store};

use crate::cluster::records::PROTOCOL;

/// Whether a linearizable read is answered with what this node happens to have.
pub(crate) fn stale_read() -> bool {
    chosen::is("stale-read")
}

/// The made-up replies to a transaction that is acknowledged and never proposed; now and then, and only for the lone
/// put of a client.
pub(crate) fn lost_write(then: &[Op], now: Revision) -> Option<Vec<Reply>> {
    if !chosen::now_and_then("lost-write") {
        return None;
    }
    let [Op::Put { key, value }] = then else { return None };
    let revision = Revision(now.0 + 1);
    let record = appliance_storage::Record {
        key: key.clone(),
        value: value.clone().into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
    };
    Some(vec![Reply::Put { record, changed: true }])
}

/// Whether this event of a watch is left out; now and then.
pub(crate) fn skipped_event() -> bool {
    chosen::now_and_then("skipped-event")
}

/// The protocol that a joiner says it speaks, for there is no other version yet whose word it could be.
pub(crate) fn protocol() -> u32 {
    match () {
        () if chosen::is("older-protocol") => PROTOCOL - 1,
        () if chosen::is("newer-protocol") => PROTOCOL + 1,
        () => PROTOCOL,
    }
}

/// What the log builds: the store itself.
#[cfg(not(debug_assertions))]
pub(crate) fn state(store: Store, _: &Path) -> Store {
    store
}

/// What the log builds: the store, which may be made to differ from the others'.
#[cfg(debug_assertions)]
pub(crate) fn state(store: Store, data_dir: &Path) -> crate::diverging::Diverging {
    crate::diverging::Diverging::new(store, data_dir, chosen::is("diverged"))
}

#[cfg(not(debug_assertions))]
mod chosen {
    pub(super) const fn is(_: &str) -> bool {
        false
    }

    pub(super) const fn now_and_then(_: &str) -> bool {
        false
    }
}

#[cfg(debug_assertions)]
mod chosen {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Often enough for a test of some seconds, and seldom enough for a node to look healthy.
    const ONE_IN: u64 = 40;

    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    static OCCASIONS: AtomicU64 = AtomicU64::new(0);

    pub(super) fn is(bug: &str) -> bool {
        let read = || {
            let chosen = std::env::var("APPLIANCE_PLANTED_BUG").ok();
            if let Some(chosen) = &chosen {
                tracing::error!("this is a test build, and it makes a mistake on purpose: {chosen}");
            }
            chosen
        };
        CHOSEN.get_or_init(read).as_deref() == Some(bug)
    }

    pub(super) fn now_and_then(bug: &str) -> bool {
        is(bug) && OCCASIONS.fetch_add(1, Ordering::Relaxed) % ONE_IN == ONE_IN - 1
    }
}
