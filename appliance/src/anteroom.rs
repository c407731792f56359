//! Anteroom: what clients hear at the doors of a member whose data was given up, while it asks the others for a fresh copy.
//!
//! That may take long: nobody may be reachable. A client that hears nothing waits; one that is told 503 asks another
//! member at once, and an operator learns what goes on. It answers nothing else, to nobody, and knows no caller. `server`
//! holds it open between binding the doors and opening them for good.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use appliance_resources::Status;
use rustls::ServerConfig;

use crate::api::respond::Refusal;
use crate::cluster::key_files::KeyFiles;
use crate::cluster::reseed;
use crate::listener::{RootListener, TlsListener};
use crate::tls;

/// A fresh copy takes seconds where others can be reached.
const RETRY_SECONDS: u32 = 5;

/// The one answer. What was wrong with the data is in the log, which strangers do not read.
const REASON: &str = "the data of this member is given up, and it waits for a fresh copy from the other members: ask one of \
                      them; policy stays in force. If they have no quorum without it, as the other of two voters, nobody \
                      can give it one: then appliance ctl recover there, and let this host join anew";

/// Both doors, bound, and nobody behind them yet.
pub(crate) struct Anteroom<'a> {
    /// The door for root.
    pub(crate) root: &'a RootListener,
    /// The door to the network.
    pub(crate) network: &'a TlsListener,
    /// The member's data directory.
    pub(crate) data_dir: &'a Path,
}

impl Anteroom<'_> {
    /// Does the work. If this member is to begin again, whoever comes meanwhile is told so.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        if reseed::wanted(self.data_dir).is_none() {
            return work.await;
        }
        tokio::select! {
            done = work => done,
            never = self.keep() => match never {},
        }
    }

    async fn keep(&self) -> Infallible {
        let refusal = Refusal::from(Status::unavailable(REASON.to_owned(), RETRY_SECONDS));
        let network = async {
            match self.tls() {
                Some(tls) => self.network.turn_away(tls, &refusal).await,
                // As before there was an anteroom: they wait in the backlog.
                None => std::future::pending().await,
            }
        };
        let (never, _) = tokio::join!(self.root.turn_away(&refusal), network);
        never
    }

    /// What this member has shown so far.
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        let keys = KeyFiles::open(self.data_dir).ok()?.load().ok()??;
        tls::api_config(&keys).ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn whoever_comes_while_a_copy_is_fetched_is_told_so() {
        let directory = tempfile::tempdir().expect("tempdir");
        let root = RootListener::bind(directory.path()).await.expect("bound");
        let network = TlsListener::bind("127.0.0.1:0".parse().expect("address")).expect("bound");
        let anteroom = Anteroom { root: &root, network: &network, data_dir: directory.path() };
        assert_eq!(anteroom.during(async { 7 }).await, 7, "nothing to wait for");

        reseed::request(directory.path(), "a test").expect("wished");
        let client = async {
            let mut stream = UnixStream::connect(root.path()).await.expect("connected");
            stream.write_all(b"GET /cluster/status HTTP/1.0\r\n\r\n").await.expect("asked");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answered");
            answer
        };
        let answer = anteroom.during(client).await;
        assert!(answer.starts_with("HTTP/1.0 503 ") && answer.contains(REASON), "{answer}");
        assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
    }
}
