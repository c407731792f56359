//! Restart: a node that is to begin again stops as for a signal and becomes itself once more, in the same process.
//!
//! Some things can only be done to a node that runs nothing: its data is replaced, or it is no member any more. Whoever
//! wants that leaves the wish in the data directory first, durably, and then asks here; should the process die instead,
//! whoever starts it again comes to the same end.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use tokio::sync::watch;

/// The program this process runs, also when its file was replaced meanwhile.
const SELF: &str = "/proc/self/exe";

/// The hand that asks. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Restart(watch::Sender<Option<String>>);

impl Default for Restart {
    fn default() -> Restart {
        Restart(watch::Sender::new(None))
    }
}

impl Restart {
    /// Asks; the first reason is the one that is told.
    pub(crate) fn request(&self, reason: impl Into<String>) {
        self.0.send_if_modified(|asked| {
            let first = asked.is_none();
            if first {
                *asked = Some(reason.into());
            }
            first
        });
    }

    /// Waits until somebody asks, and tells why.
    pub(crate) async fn requested(&self) -> String {
        let mut asked = self.0.subscribe();
        let reason = asked.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().unwrap_or_default()
    }
}

/// Becomes the same program with the same arguments and environment. Returns only if that can not be.
pub(crate) fn exec() -> Result<Infallible, io::Error> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "appliance".into());
    Err(Command::new(SELF).arg0(name).args(arguments).exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_is_told() {
        let restart = Restart::default();
        let other = restart.clone();
        other.request("first");
        restart.request("second");
        assert_eq!(restart.requested().await, "first");
    }
}
