//! Proposal: one command, proposed again and again until it is known what became of it.
//!
//! Every command carries a request id, so that however often it is proposed it has one effect. While nobody leads or a
//! leader fell it is tried again, for [`WRITE_PATIENCE`]; what no later moment mends ends it at once. Its proposer then
//! hears whether nothing was done or nobody can say. It refuses to look into commands and outcomes. Clients' writes
//! ([`crate::api`]) and the cluster's own records ([`crate::cluster::registry`]) go through here, and nothing else does.

use std::time::Duration;

use appliance_consensus::{ProposeError, Raft};
use tokio::time::{Instant, sleep, timeout_at};

/// How long a write is tried again while there is no leader: several elections with the default timers.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts at least this long, and at most twice: a fraction of an election, and not all writers at once.
const RETRY_PAUSE: Duration = Duration::from_millis(40);

/// What a full queue means to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenBusy {
    /// It is refused, and its client waits: that is what holds back clients of whom there are too many.
    Refuse,
    /// It waits here: it is the cluster's own, of which there are few.
    Wait,
}

/// Proposes a command that carries a request id, again and again while that can help.
pub(crate) async fn propose(raft: &Raft, command: Vec<u8>, busy: WhenBusy) -> Result<Vec<u8>, ProposeError> {
    patiently(WRITE_PATIENCE, busy, || raft.propose(command.clone())).await
}

async fn patiently<F>(
    patience: Duration,
    busy: WhenBusy,
    mut attempt: impl FnMut() -> F,
) -> Result<Vec<u8>, ProposeError>
where
    F: Future<Output = Result<Vec<u8>, ProposeError>>,
{
    let deadline = Instant::now() + patience;
    let mut in_doubt = false;
    loop {
        let error = match timeout_at(deadline, attempt()).await {
            Ok(Ok(outcome)) => return Ok(outcome),
            Ok(Err(error)) => error,
            Err(_elapsed) => ProposeError::Uncertain,
        };
        in_doubt |= error == ProposeError::Uncertain;
        let pause = jittered(RETRY_PAUSE);
        // Whoever could only be told that nobody knows is better served by waiting.
        let busy = if in_doubt { WhenBusy::Wait } else { busy };
        if !may_pass(&error, busy) || Instant::now() + pause >= deadline {
            // Once an attempt was in doubt, no later refusal can say that nothing was done.
            return Err(if in_doubt { ProposeError::Uncertain } else { error });
        }
        sleep(pause).await;
    }
}

/// Whether the same command may fare better in a moment.
fn may_pass(error: &ProposeError, busy: WhenBusy) -> bool {
    match error {
        ProposeError::NoLeader | ProposeError::Uncertain => true,
        ProposeError::Busy => busy == WhenBusy::Wait,
        ProposeError::Removed
        | ProposeError::Stopped
        | ProposeError::TooLarge { .. }
        | ProposeError::Invalid { .. } => false,
    }
}

/// Between once and twice as long; without randomness, once.
fn jittered(pause: Duration) -> Duration {
    pause + pause.mul_f64(f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proposes where each attempt answers the next of `said`; answers what came of it and how many were left.
    async fn proposed(
        busy: WhenBusy,
        said: Vec<Result<Vec<u8>, ProposeError>>,
    ) -> (Result<Vec<u8>, ProposeError>, usize) {
        let mut said = said.into_iter();
        let result = patiently(Duration::from_secs(3_600), busy, || {
            std::future::ready(said.next().expect("an attempt that should not have been made"))
        });
        let result = result.await;
        (result, said.len())
    }

    #[tokio::test]
    async fn a_removed_member_is_asked_once() {
        for hopeless in [
            ProposeError::Removed,
            ProposeError::Stopped,
            ProposeError::TooLarge { size: 2, limit: 1 },
            ProposeError::Invalid { reason: "odd".to_owned() },
        ] {
            let said = vec![Err(hopeless.clone()), Ok(vec![1])];
            assert_eq!(proposed(WhenBusy::Wait, said).await, (Err(hopeless), 1));
        }
    }

    #[tokio::test]
    async fn an_election_is_waited_out() {
        let said = vec![Err(ProposeError::NoLeader), Err(ProposeError::Uncertain), Ok(vec![1])];
        assert_eq!(proposed(WhenBusy::Refuse, said).await, (Ok(vec![1]), 0));
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_by_the_cluster_and_by_whoever_is_in_doubt() {
        let full = || vec![Err(ProposeError::Busy), Ok(vec![1])];
        assert_eq!(proposed(WhenBusy::Refuse, full()).await, (Err(ProposeError::Busy), 1));
        assert_eq!(proposed(WhenBusy::Wait, full()).await, (Ok(vec![1]), 0));
        let doubt = [vec![Err(ProposeError::Uncertain)], full()].concat();
        assert_eq!(proposed(WhenBusy::Refuse, doubt).await, (Ok(vec![1]), 0));
    }

    #[tokio::test]
    async fn a_refusal_after_a_doubt_leaves_the_doubt() {
        let said = vec![Err(ProposeError::Uncertain), Err(ProposeError::Removed)];
        assert_eq!(proposed(WhenBusy::Refuse, said).await, (Err(ProposeError::Uncertain), 0));
    }

    #[tokio::test]
    async fn patience_ends() {
        let refused =
            patiently(Duration::ZERO, WhenBusy::Wait, || std::future::ready(Err(ProposeError::NoLeader)));
        assert_eq!(refused.await, Err(ProposeError::NoLeader));
        let silent = patiently(Duration::ZERO, WhenBusy::Wait, std::future::pending);
        assert_eq!(silent.await, Err(ProposeError::Uncertain));
    }

    #[test]
    fn a_pause_is_between_once_and_twice_as_long() {
        for _ in 0..100 {
            assert!((RETRY_PAUSE..=2 * RETRY_PAUSE).contains(&jittered(RETRY_PAUSE)));
        }
    }
}
