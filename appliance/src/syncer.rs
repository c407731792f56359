//! Syncer: the store's events, as updates for the dataplane.
//!
//! It lists before it watches, announces in-sync once the first list is through, and resumes a closed watch where it
//! broke off; when that is no longer possible it lists anew and also reports as gone whatever it had passed on before
//! and does not find again. A record that can not be decoded is gone to the dataplane and one warning to the operator,
//! and stands in the NodeReport until it is mended; whether what was decoded makes sense is calc's question. It never
//! writes, and it never looks at NodeReports: their prefix is another, so a status can not feed back into policy.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use appliance_consensus::{Raft, ReadError};
use appliance_dataplane::{Input, calc::Update};
use appliance_resources::{AnyResource, Refusal, ResourceKey, Unknown, set_defaults};
use appliance_storage::{Event, Fatal, Key, Reader, Record, Revision, WatchClosed, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::status_writer::Refusals;

/// Every resource of policy and nothing of ours.
const POLICY_PREFIX: &str = "/calico/resources/v3/projectcalico.org/";

/// Between two attempts to learn whether the local state is current, while there is no leader to ask.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);

/// How long a leader is waited for before the local state has to do: several elections.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);

/// A removed member that can follow nothing says so this often: nobody will come to mend it who does not know.
const TELL_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Where the syncer stands.
enum State {
    /// Nothing known, or too much missed; the next step lists everything.
    Empty,
    /// Everything up to `revision` was passed on; the next step opens the watch after it.
    Listed { revision: Revision },
    /// Receiving what comes after.
    Watching { watcher: Watcher },
}

/// Why the syncer ended. Either way the kernel keeps its policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("the store failed: {0}")]
    Store(#[from] Fatal),
}

/// Carries the store's state to the dataplane.
pub(crate) struct Syncer {
    raft: Raft,
    reader: Reader,
    inputs: mpsc::Sender<Input>,
    refusals: watch::Sender<Refusals>,
    translator: Translator,
    begins: Begins,
}

/// What the local state must be before policy may follow it. It must never go back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// Current, as the leader says. Without one for a while, as new as the revision that this host was to enforce last,
    /// if that is known: then following it takes nothing back.
    Current {
        /// That revision.
        enforced: Option<u64>,
    },
    /// This member was removed from its cluster, and its own copy is the last word it will hear. So it must have one,
    /// no older than the revision that this host was to enforce last: a copy that never arrived, or whose end is lost,
    /// takes policy back and never gets better.
    Alone {
        /// That revision.
        enforced: Option<u64>,
    },
}

impl Begins {
    /// Whether a state at `revision` will do although nobody leads. An empty one never does: whoever has nothing can not
    /// say that there is nothing.
    fn without_leader(self, revision: u64) -> bool {
        let (Begins::Current { enforced } | Begins::Alone { enforced }) = self;
        revision > Revision::FIRST.0 && enforced.is_some_and(|enforced| revision >= enforced)
    }
}

impl Syncer {
    /// A syncer that has passed on nothing yet.
    pub(crate) fn new(
        raft: Raft,
        reader: Reader,
        inputs: mpsc::Sender<Input>,
        refusals: watch::Sender<Refusals>,
        begins: Begins,
    ) -> Syncer {
        Syncer { raft, reader, inputs, refusals, translator: Translator::default(), begins }
    }

    /// Runs until the store stops or the dataplane no longer listens.
    pub(crate) async fn run(mut self) -> Result<(), SyncError> {
        if self.catch_up().await.is_err() {
            return Ok(());
        }
        let prefix = Key::from(POLICY_PREFIX);
        let mut state = State::Empty;
        loop {
            let next = match state {
                State::Empty => self.list(&prefix).await?,
                State::Listed { revision } => Some(match self.reader.watch(&prefix, revision) {
                    Ok(watcher) => State::Watching { watcher },
                    Err(_compacted) => State::Empty,
                }),
                State::Watching { watcher } => self.watch(watcher).await?,
            };
            match next {
                Some(next) => state = next,
                None => return Ok(()),
            }
        }
    }

    /// Waits until the local state holds everything that was committed before this start. A store that was killed may
    /// lag behind its own log, and so behind the ruleset in the kernel. When nobody leads, one that is not behind it
    /// does as well: interfaces that come are policed, and what others do to the table is put right.
    async fn catch_up(&self) -> Result<(), appliance_storage::Stopped> {
        if let Begins::Alone { enforced } = self.begins {
            self.reader.wait_applied(self.raft.status().commit).await?;
            while !self.begins.without_leader(self.reader.revision().0) {
                self.tell_incomplete(enforced);
                tokio::time::sleep(TELL_AGAIN).await;
            }
            return Ok(());
        }
        let patience = Instant::now() + LEADER_PATIENCE;
        loop {
            let revision = self.reader.revision();
            if Instant::now() >= patience && self.begins.without_leader(revision.0) {
                tracing::warn!(
                    "nobody leads the cluster; this host follows its own copy of the policy, at revision {revision}, which \
                     is no older than what it enforced last"
                );
                return Ok(());
            }
            match self.raft.read_index().await {
                Ok(index) => return self.reader.wait_applied(index).await,
                Err(ReadError::Stopped) => return Err(appliance_storage::Stopped),
                // A removed member keeps the last policy it has; nothing newer will come.
                Err(ReadError::NoLeader | ReadError::Busy | ReadError::Removed) => {
                    tokio::time::sleep(CATCH_UP_PAUSE).await
                }
            }
        }
    }

    fn tell_incomplete(&self, enforced: Option<u64>) {
        let enforced = enforced.map_or_else(|| "not known".to_owned(), |enforced| enforced.to_string());
        tracing::error!(
            "this removed member's own copy is at revision {}, and what this host enforced last is {enforced}: following it \
             could open the host, so the policy that was enforced last stays in force and changes no more; join again to \
             be policed by a cluster",
            self.reader.revision()
        );
    }

    /// One message, so that the dataplane never sees half of a list.
    async fn list(&mut self, prefix: &Key) -> Result<Option<State>, SyncError> {
        let (revision, records) = self.reader.list(prefix)?;
        let updates = self.translator.on_list(&records);
        drop(records);
        let listed = self.pass_on(Input::Updates { revision: revision.0, updates }).await
            && self.pass_on(Input::InSync { revision: revision.0 }).await;
        Ok(listed.then_some(State::Listed { revision }))
    }

    async fn watch(&mut self, mut watcher: Watcher) -> Result<Option<State>, SyncError> {
        match watcher.next().await {
            Ok(events) => {
                let updates = events.iter().filter_map(|event| self.translator.on_event(event)).collect();
                let revision = watcher.progress().0;
                let listening = self.pass_on(Input::Updates { revision, updates }).await;
                Ok(listening.then_some(State::Watching { watcher }))
            }
            Err(closed) => recover(closed),
        }
    }

    /// Waits while the dataplane is busy; false when it has gone.
    async fn pass_on(&mut self, input: Input) -> bool {
        let refusals = &self.translator.refusals;
        self.refusals.send_if_modified(|told| {
            let changed = told != refusals;
            if changed {
                told.clone_from(refusals);
            }
            changed
        });
        self.inputs.send(input).await.is_ok()
    }
}

/// Where to go on after a watch ended; `None` when there is nothing to go on with.
fn recover(closed: WatchClosed) -> Result<Option<State>, SyncError> {
    match closed {
        WatchClosed::TooSlow { delivered } => Ok(Some(State::Listed { revision: delivered })),
        WatchClosed::Compacted { .. } => Ok(Some(State::Empty)),
        WatchClosed::Shutdown { .. } => Ok(None),
        WatchClosed::Fatal(fatal) => Err(fatal.into()),
    }
}

/// Records as updates. Remembers only names: which objects the dataplane has, and which were refused.
#[derive(Default)]
struct Translator {
    passed_on: BTreeSet<ResourceKey>,
    refusals: Refusals,
}

impl Translator {
    /// Everything there is, and as gone whatever was passed on before and is there no longer.
    fn on_list(&mut self, records: &[Record]) -> Vec<Update> {
        let mut missing = std::mem::take(&mut self.passed_on);
        self.refusals.clear();
        let mut updates: Vec<Update> = Vec::with_capacity(records.len());
        for record in records {
            let Some(key) = resource_key(&record.key) else { continue };
            missing.remove(&key);
            updates.push(self.present(key, &record.value));
        }
        updates.extend(missing.into_iter().map(Update::Gone));
        updates
    }

    fn on_event(&mut self, event: &Arc<Event>) -> Option<Update> {
        let key = resource_key(&event.key)?;
        Some(match &event.after {
            Some(record) => self.present(key, &record.value),
            None => {
                self.refusals.remove(&key);
                self.passed_on.remove(&key);
                Update::Gone(key)
            }
        })
    }

    fn present(&mut self, key: ResourceKey, value: &[u8]) -> Update {
        match read(&key, value) {
            Ok(resource) => {
                self.refusals.remove(&key);
                self.passed_on.insert(key);
                Update::Set(Box::new(resource))
            }
            Err(unreadable) => {
                match &unreadable {
                    Unreadable::Text(reason) => {
                        tracing::warn!("{key} can not be read from the store, treating as missing: {reason}");
                    }
                    // In the words that operators of Calico search their logs for.
                    Unreadable::Shape(reason) => {
                        tracing::warn!("Validation failed for {key}, treating as missing: {reason}");
                    }
                }
                let reason = unreadable.to_string();
                self.passed_on.remove(&key);
                let refusal = Refusal { kind: key.kind.name().to_owned(), name: key.name.clone(), reason };
                self.refusals.insert(key.clone(), refusal);
                Update::Gone(key)
            }
        }
    }
}

/// `None` for what is not ours to understand, such as a kind of Calico's that we do not serve.
fn resource_key(key: &Key) -> Option<ResourceKey> {
    key.as_str().and_then(ResourceKey::parse)
}

/// Why a record is no resource.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("can not be read from the store: {0}")]
    Text(serde_json::Error),
    #[error("Validation failed: {0}")]
    Shape(String),
}

/// Defaults are filled in once more, for what older versions wrote or other tools carried over.
fn read(key: &ResourceKey, value: &[u8]) -> Result<AnyResource, Unreadable> {
    let value = serde_json::from_slice(value).map_err(Unreadable::Text)?;
    let decoded = AnyResource::from_value(value, Unknown::Drop);
    let mut resource = decoded.map_err(|error| Unreadable::Shape(error.to_string()))?.resource;
    if resource.key() != *key {
        return Err(Unreadable::Shape(format!("the record describes {}", resource.key())));
    }
    set_defaults(&mut resource);
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(name: &str, spec: serde_json::Value) -> Record {
        let value = json!({
            "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "metadata": {"name": name}, "spec": spec,
        });
        Record {
            key: Key::from(format!("{POLICY_PREFIX}hostendpoints/{name}")),
            value: value.to_string().into_bytes().into(),
            create_revision: Revision(2),
            mod_revision: Revision(2),
            version: 1,
        }
    }

    fn good(name: &str) -> Record {
        record(name, json!({"node": "n1", "interfaceName": "eth0"}))
    }

    fn gone(record: &Record) -> Arc<Event> {
        Arc::new(Event {
            revision: Revision(3),
            key: record.key.clone(),
            before: Some(record.clone()),
            after: None,
        })
    }

    fn set(record: Record) -> Arc<Event> {
        Arc::new(Event { revision: Revision(3), key: record.key.clone(), before: None, after: Some(record) })
    }

    /// `+name` for an object that is there, `-name` for one that is gone.
    fn text(updates: &[Update]) -> Vec<String> {
        let line = |update: &Update| match update {
            Update::Set(resource) => format!("+{}", resource.meta().name),
            Update::Gone(key) => format!("-{}", key.name),
        };
        updates.iter().map(line).collect()
    }

    fn event(translator: &mut Translator, event: Arc<Event>) -> Vec<String> {
        text(translator.on_event(&event).as_slice())
    }

    #[test]
    fn a_second_list_reports_as_gone_what_it_no_longer_finds() {
        let mut translator = Translator::default();
        assert_eq!(text(&translator.on_list(&[good("a"), good("b")])), ["+a", "+b"]);
        assert_eq!(text(&translator.on_list(&[good("b"), good("c")])), ["+b", "+c", "-a"]);
        assert_eq!(text(&translator.on_list(&[good("b"), good("c")])), ["+b", "+c"], "and says so once");
    }

    #[test]
    fn what_can_not_be_read_is_gone_and_refused_until_it_is_mended() {
        let mut translator = Translator::default();
        let mut garbage = good("a");
        garbage.value = b"{".as_slice().into();
        for bad in [garbage, record("a", json!({"node": 7}))] {
            assert_eq!(event(&mut translator, set(good("a"))), ["+a"]);
            assert!(translator.refusals.is_empty());
            assert_eq!(event(&mut translator, set(bad)), ["-a"]);
            let refusal = translator.refusals.values().next().expect("refused");
            assert_eq!((refusal.kind.as_str(), refusal.name.as_str()), ("HostEndpoint", "a"));
            assert!(!refusal.reason.is_empty());
        }
        assert_eq!(event(&mut translator, gone(&good("a"))), ["-a"]);
        assert!(translator.refusals.is_empty(), "what does not exist is not refused");
    }

    #[test]
    fn a_record_under_a_name_that_is_not_its_own_is_refused() {
        let mut translator = Translator::default();
        let mut moved = good("a");
        moved.key = Key::from(format!("{POLICY_PREFIX}hostendpoints/b"));
        assert_eq!(event(&mut translator, set(moved)), ["-b"]);
        let refusal = translator.refusals.values().next().expect("refused");
        assert_eq!(refusal.reason, "Validation failed: the record describes HostEndpoint(a)");
    }

    #[test]
    fn what_can_be_decoded_is_passed_on_whether_it_makes_sense_or_not() {
        let mut translator = Translator::default();
        assert_eq!(event(&mut translator, set(record("a", json!({})))), ["+a"]);
        assert!(translator.refusals.is_empty(), "calc refuses it, and knows what to do about it");
    }

    #[test]
    fn kinds_we_do_not_serve_are_passed_over() {
        let mut translator = Translator::default();
        let mut foreign = good("a");
        foreign.key = Key::from(format!("{POLICY_PREFIX}bgppeers/a"));
        assert!(event(&mut translator, set(foreign)).is_empty());
    }

    #[test]
    fn without_a_leader_a_state_does_that_takes_nothing_back() {
        let begins = |enforced| Begins::Current { enforced };
        assert!(begins(Some(7)).without_leader(7) && begins(Some(7)).without_leader(8));
        assert!(!begins(Some(7)).without_leader(6), "its last entries are lost, for now");
        assert!(!begins(None).without_leader(9), "nobody knows what is in the kernel");
    }

    #[test]
    fn a_removed_member_follows_its_own_copy_only_if_that_takes_nothing_back() {
        let alone = |enforced| Begins::Alone { enforced };
        assert!(alone(Some(7)).without_leader(7) && alone(Some(7)).without_leader(8));
        assert!(!alone(Some(7)).without_leader(6), "its last entries are lost");
        assert!(
            !alone(Some(7)).without_leader(0) && !alone(Some(0)).without_leader(0),
            "it never got a copy"
        );
        assert!(!alone(None).without_leader(9), "nobody knows what is in the kernel");
    }

    #[test]
    fn a_watch_that_was_too_slow_resumes_and_one_that_was_compacted_lists_anew() {
        let resumed = recover(WatchClosed::TooSlow { delivered: Revision(9) }).expect("goes on");
        assert!(matches!(resumed, Some(State::Listed { revision: Revision(9) })));
        let compacted = WatchClosed::Compacted { delivered: Revision(9), compacted: Revision(20) };
        assert!(matches!(recover(compacted).expect("goes on"), Some(State::Empty)));
        assert!(recover(WatchClosed::Shutdown { delivered: Revision(9) }).expect("ends").is_none());
    }
}
