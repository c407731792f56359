//! Retry: what to do after an attempt, by what came of it. Pure.
//!
//! It promises that a write is repeated only if the last attempt did nothing, or if every attempt carries one id and
//! there is another server to take it; and that doubt, once there is any, is never told as a refusal.

use std::time::Duration;

use serde_json::Value;

use crate::error::ClientError;

/// A request that one node postpones is repeated this often: a leader election is over long before.
const ATTEMPTS_MAX: usize = 5;
/// However long the node asks us to wait, a person is watching.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// Before a server is asked a second time about a write that nobody could confirm.
const DOUBT_PAUSE: Duration = Duration::from_millis(500);

/// What one attempt came to.
#[derive(Debug)]
pub(super) enum Said {
    /// An answer, or an error that another attempt would only repeat.
    Final(Result<Value, ClientError>),
    /// Nothing was done; the server asks for a pause.
    Later(Duration, ClientError),
    /// Nobody knows, or nothing was asked for but an answer.
    Doubtful(ClientError),
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    Done(Result<Value, ClientError>),
    /// Ask the next server, after a pause.
    Again(Duration),
    /// Ask the same server, after a pause.
    Later(Duration),
}

impl Said {
    /// Of an answer that came whole.
    pub(super) fn answered(
        retry_after: Option<Duration>,
        result: Result<Value, ClientError>,
        writes: bool,
    ) -> Said {
        match (result, retry_after) {
            (Err(error), Some(pause)) => Said::Later(pause.min(RETRY_AFTER_MAX), error),
            (Err(ClientError::Api(api)), None) if writes && api.code == 504 => {
                Said::Doubtful(ClientError::Api(api))
            }
            (result, _) => Said::Final(result),
        }
    }

    /// Of an exchange that failed.
    pub(super) fn failed(error: ClientError) -> Said {
        match error {
            ClientError::Uncertain(_) | ClientError::Broken(_) => Said::Doubtful(error),
            // Every server was tried already.
            other => Said::Final(Err(other)),
        }
    }
}

/// The attempts of one request.
#[derive(Debug)]
pub(super) struct Retry {
    servers: usize,
    /// Whether the request may be sent again although its fate is unknown.
    repeatable: bool,
    attempts: usize,
    attempts_max: usize,
    /// The first attempt whose fate is unknown.
    doubt: Option<ClientError>,
}

impl Retry {
    pub(super) fn new(servers: usize, repeatable: bool) -> Retry {
        Retry { servers, repeatable, attempts: 0, attempts_max: ATTEMPTS_MAX * servers, doubt: None }
    }

    /// For a question whose answer is wanted now, also that there is none: every server is asked once.
    pub(super) fn once_each(servers: usize) -> Retry {
        Retry { attempts_max: servers, ..Retry::new(servers, true) }
    }

    pub(super) fn next(&mut self, said: Said) -> Next {
        self.attempts += 1;
        let more = self.attempts < self.attempts_max;
        let round_is_over = self.attempts.is_multiple_of(self.servers);
        match said {
            Said::Later(pause, _) if more && self.servers == 1 => Next::Later(pause),
            Said::Later(pause, _) if more => Next::Again(if round_is_over { pause } else { Duration::ZERO }),
            Said::Doubtful(error) if more && self.repeatable && self.servers > 1 => {
                self.doubt.get_or_insert(error);
                Next::Again(if round_is_over { DOUBT_PAUSE } else { Duration::ZERO })
            }
            Said::Later(_, error) | Said::Doubtful(error) => {
                Next::Done(Err(self.doubt.take().unwrap_or(error)))
            }
            Said::Final(Err(error)) if error.is_connection() => {
                Next::Done(Err(self.doubt.take().unwrap_or(error)))
            }
            Said::Final(result) => Next::Done(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ApiError;

    fn api(code: u16) -> ClientError {
        ClientError::Api(Box::new(ApiError { code, message: format!("said {code}"), ..ApiError::default() }))
    }

    fn later() -> Said {
        Said::answered(Some(Duration::from_secs(1)), Err(api(503)), true)
    }

    fn lost() -> Said {
        Said::failed(ClientError::Uncertain("reset".to_string()))
    }

    /// What is done after each attempt, in words.
    fn check(servers: usize, repeatable: bool, said: Vec<Said>, expected: &[&str]) {
        let mut retry = Retry::new(servers, repeatable);
        let words = said.into_iter().map(|said| match retry.next(said) {
            Next::Done(Ok(_)) => "done".to_string(),
            Next::Done(Err(error)) => error.to_string().chars().take(19).collect(),
            Next::Again(pause) => format!("next server after {} ms", pause.as_millis()),
            Next::Later(pause) => format!("same server after {} ms", pause.as_millis()),
        });
        assert_eq!(words.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn one_server_is_asked_again_when_it_did_nothing_and_only_then() {
        let same = "same server after 1000 ms";
        check(1, true, vec![later(), Said::Final(Ok(json!({})))], &[same, "done"]);
        check(1, true, (0..5).map(|_| later()).collect(), &[same, same, same, same, "said 503"]);
        check(1, true, vec![lost()], &["the connection brok"]);
        check(1, true, vec![Said::answered(None, Err(api(504)), true)], &["said 504"]);
    }

    #[test]
    fn several_servers_take_turns_and_pause_after_a_round() {
        let (at_once, round) = ("next server after 0 ms", "next server after 1000 ms");
        check(2, true, vec![later(), later(), later()], &[at_once, round, at_once]);
        let timeout = || Said::answered(None, Err(api(504)), true);
        check(2, true, vec![timeout(), Said::Final(Err(api(409)))], &[at_once, "said 409"]);
        check(2, true, vec![lost(), Said::Final(Ok(json!({})))], &[at_once, "done"]);
    }

    #[test]
    fn what_must_not_be_done_twice_is_not_sent_twice() {
        check(3, false, vec![lost()], &["the connection brok"]);
        check(3, false, vec![later(), lost()], &["next server after 0 ms", "the connection brok"]);
    }

    #[test]
    fn doubt_is_never_told_as_a_refusal() {
        let mut said = vec![lost()];
        said.extend((0..9).map(|_| later()));
        let mut retry = Retry::new(2, true);
        let last = said.into_iter().map(|said| retry.next(said)).last();
        assert!(matches!(last, Some(Next::Done(Err(ClientError::Uncertain(_))))), "{last:?}");
        let mut retry = Retry::new(2, true);
        retry.next(lost());
        let gone = ClientError::SocketAbsent("/x".into());
        assert!(matches!(retry.next(Said::Final(Err(gone))), Next::Done(Err(ClientError::Uncertain(_)))));
    }
}
