//! Look-ups: what the names among the members' addresses mean, as a name server said last.
//!
//! Names are asked about beside whatever else goes on, several at once, for a name server that is dead takes seconds to
//! say nothing. A name that can not be looked up keeps the addresses it had: policy would otherwise close the way to a
//! member because a name server did not answer. It refuses to know which names are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A name server that says nothing is not waited for longer.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Names asked about at once: each takes a thread for as long as its name server is silent.
const AT_ONCE: usize = 16;

/// Asks for the addresses of a `host:port`.
pub(super) type Resolver =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The names, and what is known of them.
///
/// * No name is asked about twice at the same time.
/// * What was found of a name goes when the name is not wanted any more, or means something else.
pub(super) struct LookUps {
    resolver: Resolver,
    at_once: Arc<Semaphore>,
    running: JoinSet<(String, io::Result<Vec<SocketAddr>>)>,
    asked: BTreeSet<String>,
    wanted: BTreeSet<String>,
    found: BTreeMap<String, BTreeSet<SocketAddr>>,
}

impl LookUps {
    pub(super) fn new(resolver: Resolver) -> LookUps {
        LookUps {
            resolver,
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            running: JoinSet::new(),
            asked: BTreeSet::new(),
            wanted: BTreeSet::new(),
            found: BTreeMap::new(),
        }
    }

    /// These names matter from now on; the new ones are asked about.
    pub(super) fn want(&mut self, names: BTreeSet<String>) {
        let new: Vec<String> = names.difference(&self.wanted).cloned().collect();
        self.found.retain(|name, _| names.contains(name));
        self.wanted = names;
        new.into_iter().for_each(|name| self.ask(name));
    }

    /// Asks about all of them again.
    pub(super) fn refresh(&mut self) {
        self.wanted.clone().into_iter().for_each(|name| self.ask(name));
    }

    fn ask(&mut self, name: String) {
        if !self.asked.insert(name.clone()) {
            return;
        }
        let (looked_up, at_once) = ((self.resolver)(name.clone()), self.at_once.clone());
        self.running.spawn(async move {
            // The semaphore is never closed; without a permit there would only be more threads.
            let _permit = at_once.acquire().await;
            let found = tokio::time::timeout(LOOK_UP_TIMEOUT, looked_up).await;
            (name, found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
        });
    }

    /// Waits for the next answer, for ever when nothing is asked; whether it is news. May be dropped and called again.
    pub(super) async fn answered(&mut self) -> bool {
        let (name, found) = match self.running.join_next().await {
            None => return std::future::pending().await,
            Some(Ok(answer)) => answer,
            Some(Err(_)) => {
                // One of them panicked, and does not say which. To ask some twice does no harm.
                self.asked.clear();
                return false;
            }
        };
        self.asked.remove(&name);
        match found {
            Ok(found) if !found.is_empty() && self.wanted.contains(&name) => {
                let found: BTreeSet<SocketAddr> = found.into_iter().map(canonical).collect();
                self.found.insert(name, found.clone()) != Some(found)
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!("member address {name} can not be looked up: {error}");
                false
            }
        }
    }

    /// All addresses that the names mean.
    pub(super) fn found(&self) -> impl Iterator<Item = SocketAddr> {
        self.found.values().flatten().copied()
    }
}

/// Asks the host's resolver.
pub(super) fn system() -> Resolver {
    Arc::new(|name| Box::pin(async move { tokio::net::lookup_host(name).await.map(|found| found.collect()) }))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What a name server says, by name; it is silent about all others.
    pub(crate) type Zone = Arc<Mutex<BTreeMap<String, Result<Vec<SocketAddr>, io::ErrorKind>>>>;

    pub(crate) fn answering(zone: &Zone) -> Resolver {
        let zone = zone.clone();
        Arc::new(move |name| {
            let said = zone.lock().expect("zone").get(&name).cloned();
            match said {
                Some(said) => Box::pin(std::future::ready(said.map_err(io::Error::from))),
                None => Box::pin(std::future::pending()),
            }
        })
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn found(look_ups: &LookUps) -> Vec<SocketAddr> {
        look_ups.found().collect()
    }

    #[tokio::test]
    async fn a_name_that_can_not_be_looked_up_keeps_its_last_addresses() {
        let zone = Zone::default();
        let say = |said| zone.lock().expect("zone").insert("b:2380".to_owned(), said);
        let mut look_ups = LookUps::new(answering(&zone));
        say(Ok(vec![address("10.0.0.2:2380"), address("[::ffff:10.0.0.3]:2380")]));
        look_ups.want(names(&["b:2380"]));
        assert!(look_ups.answered().await);
        let both = [address("10.0.0.2:2380"), address("10.0.0.3:2380")];
        assert_eq!(found(&look_ups), both);

        for failure in [Err(io::ErrorKind::HostUnreachable), Ok(Vec::new())] {
            say(failure);
            look_ups.refresh();
            assert!(!look_ups.answered().await);
            assert_eq!(found(&look_ups), both);
        }
        say(Ok(vec![address("10.0.0.9:2380")]));
        look_ups.refresh();
        assert!(look_ups.answered().await, "it has moved");
        assert_eq!(found(&look_ups), [address("10.0.0.9:2380")]);
        look_ups.want(names(&[]));
        assert_eq!(found(&look_ups), [], "nobody has that name any more");
    }

    #[tokio::test]
    async fn a_silent_name_server_holds_up_no_other_name() {
        let zone = Zone::default();
        zone.lock().expect("zone").insert("c:2380".to_owned(), Ok(vec![address("10.0.0.2:2380")]));
        let mut look_ups = LookUps::new(answering(&zone));
        look_ups.want(names(&["a:2380", "b:2380", "c:2380"]));
        assert!(look_ups.answered().await);
        assert_eq!(found(&look_ups), [address("10.0.0.2:2380")]);
        look_ups.refresh();
        assert_eq!(look_ups.running.len(), 3, "nobody is asked the same twice at a time");
    }
}
