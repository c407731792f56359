//! Registry: resources in, records out, through raft; and the only code of the API that proposes.
//!
//! One write is one raft round. What it depends on (the object's revision, the tier a policy needs) is checked
//! against this node's own state first and compared again inside the transaction, so a check can be cheap without
//! being wrong. The rule for edits: an optimistic look may lead to a write, because the compare guards it; it never
//! leads to a refusal or to "unchanged" until a linearizable look has said the same, and, where the client named its
//! request, until the store has said that this very request did not make it so before ([`super::writing`]).
//!
//! It refuses to know verbs, roles and protection: the verbs ask [`super::admission`] before they come here. The node
//! itself (its first objects, its report) comes here directly.

use std::sync::Arc;
use std::time::Duration;

use appliance_consensus::Raft;
use appliance_resources::{AnyResource, Kind, ResourceKey, Status, Unknown};
use appliance_storage::{Author, Compare, Key, Op, Reader, Record, Reply, Revision};
use time::OffsetDateTime;
use time::macros::format_description;

use super::admission::{self, Birth};
use super::options::Freshness;
use super::respond::{Refusal, too_new, unavailable};
use super::writing::{Txn, Writing};
use crate::planted;

/// An object that others keep changing is tried this often before the client hears of a conflict.
const EDIT_ATTEMPTS: usize = 5;

/// How long a read waits for a revision that has not reached this node, as Kubernetes does.
const NEWER_REVISION_WAIT: Duration = Duration::from_secs(3);

/// Resources over the replicated store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registry {
    raft: Raft,
    reader: Reader,
}

/// An object as it stands: what it says and the record that says it.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) resource: AnyResource,
    pub(crate) record: Record,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    /// The object as it is stored now, or would be.
    pub(crate) value: Arc<[u8]>,
    /// The revision it shows; zero for an object that a dry run would have created.
    pub(crate) revision: Revision,
}

/// What must be so for an object to be deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<u64>,
}

/// What a deletion takes along, by a look at the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cascade {
    /// Deleted with the object.
    pub(crate) keys: Vec<Key>,
    /// What makes sure that the look was not overtaken.
    pub(crate) guard: Vec<Compare>,
}

/// What was deleted, or would be.
#[derive(Clone, Debug)]
pub(crate) struct Deleted {
    pub(crate) record: Record,
    pub(crate) uid: Option<String>,
}

impl Current {
    /// Reads the object of a record; `None` when it is none.
    fn of(kind: Kind, record: Record) -> Result<Current, Refusal> {
        let unreadable = |why: String| Status::internal(format!("the stored {kind} is not readable: {why}"));
        let value = serde_json::from_slice(&record.value).map_err(|error| unreadable(error.to_string()))?;
        let decoded =
            AnyResource::from_value(value, Unknown::Drop).map_err(|error| unreadable(error.to_string()))?;
        Ok(Current { resource: decoded.resource, record })
    }
}

impl Registry {
    /// A registry that proposes to `raft` and reads what this node has applied.
    pub(crate) fn new(raft: Raft, reader: Reader) -> Registry {
        Registry { raft, reader }
    }

    /// This node's own state.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The member behind it.
    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Waits until this node's state is as fresh as was asked.
    pub(crate) async fn settle(&self, freshness: Freshness) -> Result<(), Refusal> {
        match freshness {
            Freshness::Any => Ok(()),
            Freshness::Latest if planted::stale_read() => Ok(()),
            Freshness::Latest => self.catch_up().await,
            Freshness::NotOlderThan(revision) | Freshness::Exact(revision) => {
                self.wait_revision(Revision(revision)).await
            }
        }
    }

    async fn catch_up(&self) -> Result<(), Refusal> {
        let index = self.raft.read_index().await?;
        Ok(self.reader.wait_applied(index).await.map_err(unavailable)?)
    }

    async fn wait_revision(&self, revision: Revision) -> Result<(), Refusal> {
        if self.reader.revision() >= revision {
            return Ok(());
        }
        // A revision beyond the leader's is nobody's yet; one the leader has is merely not here.
        let arrives = async {
            let mut changes = self.reader.watch(&Key::all(), self.reader.revision()).ok()?;
            while self.reader.revision() < revision {
                changes.next().await.ok()?;
            }
            Some(())
        };
        // A snapshot that is taken in closes the watch, and may bring the revision all the same.
        let _ = tokio::time::timeout(NEWER_REVISION_WAIT, arrives).await;
        match self.reader.revision() {
            now if now >= revision => Ok(()),
            now => Err(too_new(revision.0, now.0).into()),
        }
    }

    /// One object.
    pub(crate) async fn get(
        &self,
        key: &ResourceKey,
        freshness: Freshness,
    ) -> Result<Option<Record>, Refusal> {
        self.settle(freshness).await?;
        Ok(self.reader.get(&Key::from(key.path()))?)
    }

    /// One object, decoded, with its `resourceVersion`; for the node itself.
    pub(crate) async fn find(&self, key: &ResourceKey) -> Result<Option<AnyResource>, Refusal> {
        let Some(record) = self.get(key, Freshness::Latest).await? else { return Ok(None) };
        let version = record.mod_revision.to_string();
        let mut resource = Current::of(key.kind, record)?.resource;
        resource.meta_mut().resource_version = Some(version);
        Ok(Some(resource))
    }

    /// Stores a new object: admitted here, refused when the name is taken.
    pub(crate) async fn create(
        &self,
        author: Author,
        resource: AnyResource,
        dry_run: bool,
    ) -> Result<Written, Refusal> {
        let resource = admission::create(resource, &birth(author.time))?;
        let (kind, name) = (resource.kind(), resource.meta().name.clone());
        let required = admission::requires(&resource);
        let key = Key::from(resource.key().path());
        let value = encode(&resource)?;
        if dry_run {
            self.settle(Freshness::Latest).await?;
            self.require(&resource, &required)?;
            return match self.reader.get(&key)? {
                Some(_) => Err(Status::already_exists(kind, &name).into()),
                None => Ok(Written { value: value.into(), revision: Revision::ZERO }),
            };
        }
        let mut writing = Writing::new(&self.raft, author, &key);
        if let Err(refusal) = self.require(&resource, &required) {
            // Perhaps it is only this node that does not know of it yet.
            self.settle(Freshness::Latest).await?;
            if self.require(&resource, &required).is_err() {
                return self.written_earlier(&mut writing, refusal).await;
            }
        }
        let mut compare = vec![Compare::Absent { key: key.clone() }];
        compare.extend(exists(&required));
        let otherwise = vec![Op::Get { key: key.clone() }];
        match self.txn(&mut writing, compare, vec![Op::Put { key, value }], otherwise).await? {
            Txn::Done(replies) => self.written(replies).await,
            Txn::Failed(replies) => {
                let refusal = match replies.first() {
                    Some(Reply::Get { record: Some(_) }) => Status::already_exists(kind, &name).into(),
                    // The name is free, so what was required has gone since we looked.
                    _ => required.first().map_or_else(
                        || Status::conflict(kind, &name).into(),
                        |required| admission::missing(&resource, required),
                    ),
                };
                self.written_earlier(&mut writing, refusal).await
            }
        }
    }

    /// Changes an object: `plan` is shown what stands and answers what should, already admitted. It may be asked
    /// several times, each time with what stands then.
    pub(crate) async fn update(
        &self,
        author: Author,
        key: &ResourceKey,
        dry_run: bool,
        mut plan: impl FnMut(&Current) -> Result<AnyResource, Refusal>,
    ) -> Result<Written, Refusal> {
        let mut writing = Writing::new(&self.raft, author, &Key::from(key.path()));
        for attempt in 0..EDIT_ATTEMPTS {
            let confirmed = attempt > 0;
            if confirmed {
                self.settle(Freshness::Latest).await?;
            }
            match self.step(key, &mut plan) {
                Ok(Step::Unchanged(record)) if confirmed => return Ok(Written::unchanged(&record)),
                Ok(Step::Write { value, record, .. }) if confirmed && dry_run => {
                    return Ok(Written { value: value.into(), revision: record.mod_revision });
                }
                Ok(Step::Write { value, record, required }) if !dry_run => {
                    let (key, equals) = (record.key, record.mod_revision);
                    let mut compare = vec![Compare::ModRevision { key: key.clone(), equals }];
                    compare.extend(exists(&required));
                    let then = vec![Op::Put { key, value }];
                    if let Txn::Done(replies) = self.txn(&mut writing, compare, then, Vec::new()).await? {
                        return self.written(replies).await;
                    }
                }
                Err(refusal) if confirmed && dry_run => return Err(refusal),
                Err(refusal) if confirmed => return self.written_earlier(&mut writing, refusal).await,
                _ => {}
            }
        }
        Err(Status::conflict(key.kind, &key.name).into())
    }

    /// What an edit would do to the object as this node knows it.
    fn step(
        &self,
        key: &ResourceKey,
        plan: &mut impl FnMut(&Current) -> Result<AnyResource, Refusal>,
    ) -> Result<Step, Refusal> {
        let record = self.reader.get(&Key::from(key.path()))?;
        let record = record.ok_or_else(|| Status::not_found(key.kind, &key.name))?;
        let current = Current::of(key.kind, record)?;
        let next = plan(&current)?;
        let Current { resource, record } = current;
        if next == resource {
            return Ok(Step::Unchanged(record));
        }
        let required = admission::requires(&next);
        self.require(&next, &required)?;
        Ok(Step::Write { value: encode(&next)?, record, required })
    }

    /// Deletes an object and what goes with it, as `cascade` says when it is shown the object.
    pub(crate) async fn delete(
        &self,
        author: Author,
        key: &ResourceKey,
        preconditions: &Preconditions,
        dry_run: bool,
        cascade: impl Fn(&Reader) -> Result<Cascade, Refusal>,
    ) -> Result<Deleted, Refusal> {
        let mut writing = Writing::new(&self.raft, author, &Key::from(key.path()));
        for attempt in 0..EDIT_ATTEMPTS {
            let confirmed = attempt > 0;
            if confirmed {
                self.settle(Freshness::Latest).await?;
            }
            let found =
                self.doomed(key, preconditions).and_then(|doomed| Ok((doomed, cascade(&self.reader)?)));
            match found {
                Ok((doomed, _)) if confirmed && dry_run => return Ok(doomed),
                Ok((doomed, Cascade { keys, guard })) if !dry_run => {
                    let mut compare = vec![same_object(&doomed.record, preconditions)];
                    compare.extend(guard);
                    let then = std::iter::once(doomed.record.key.clone()).chain(keys);
                    let then = then.map(|key| Op::Delete { key }).collect();
                    if let Txn::Done(replies) = self.txn(&mut writing, compare, then, Vec::new()).await? {
                        return Ok(deleted(replies).unwrap_or(doomed));
                    }
                }
                Err(refusal) if confirmed && dry_run => return Err(refusal),
                Err(refusal) if confirmed => {
                    return writing.earlier().await?.and_then(deleted).ok_or(refusal);
                }
                _ => {}
            }
        }
        Err(Status::conflict(key.kind, &key.name).into())
    }

    /// The object to delete, if it is the one that was meant. It need not be readable: rot must be removable.
    fn doomed(&self, key: &ResourceKey, preconditions: &Preconditions) -> Result<Deleted, Refusal> {
        let (kind, name) = (key.kind, &key.name);
        let record = self.reader.get(&Key::from(key.path()))?;
        let record = record.ok_or_else(|| Status::not_found(kind, name))?;
        let uid = uid_of(&record.value);
        if let Some(wanted) = &preconditions.uid
            && uid.as_ref() != Some(wanted)
        {
            let stored = uid.as_deref().unwrap_or("");
            let why =
                format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {stored}");
            return Err(Status::conflict_because(kind, name, &why).into());
        }
        if let Some(wanted) = preconditions.resource_version
            && record.mod_revision != Revision(wanted)
        {
            let stored = record.mod_revision;
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {stored}"
            );
            return Err(Status::conflict_because(kind, name, &why).into());
        }
        Ok(Deleted { record, uid })
    }

    /// Creates the object, or makes the existing one say the same; for the node itself.
    pub(crate) async fn put(&self, author: Author, resource: AnyResource) -> Result<Written, Refusal> {
        let key = resource.key();
        let plan = |current: &Current| admission::update(resource.clone(), &current.resource);
        match self.update(author.clone(), &key, false, plan).await {
            Err(refusal) if refusal.is_not_found() => self.create(author, resource.clone(), false).await,
            written => written,
        }
    }

    /// Refuses a resource one of whose requirements this node does not find.
    fn require(&self, resource: &AnyResource, required: &[ResourceKey]) -> Result<(), Refusal> {
        for key in required {
            if self.reader.get(&Key::from(key.path()))?.is_none() {
                return Err(admission::missing(resource, key));
            }
        }
        Ok(())
    }

    async fn txn(
        &self,
        writing: &mut Writing<'_>,
        compare: Vec<Compare>,
        then: Vec<Op>,
        otherwise: Vec<Op>,
    ) -> Result<Txn, Refusal> {
        if let Some(replies) = planted::lost_write(&then, self.reader.revision()) {
            return Ok(Txn::Done(replies));
        }
        writing.txn(compare, then, otherwise).await
    }

    /// The refusal, unless an earlier arrival of the request did what this one can not.
    async fn written_earlier(&self, writing: &mut Writing<'_>, refusal: Refusal) -> Result<Written, Refusal> {
        match writing.earlier().await? {
            Some(replies) => self.written(replies).await,
            None => Err(refusal),
        }
    }

    /// What a write answers. The store does not keep the bytes of a put for who asks a second time; they are read back.
    async fn written(&self, replies: Vec<Reply>) -> Result<Written, Refusal> {
        let Some(Reply::Put { record, .. }) = replies.into_iter().next() else {
            return Err(Status::internal("the store answered a write with something else").into());
        };
        let value = match record.value.is_empty() {
            false => record.value,
            true => self.value_at(&record.key, record.mod_revision).await?,
        };
        Ok(Written { value, revision: record.mod_revision })
    }

    /// The bytes that a revision gave a key.
    async fn value_at(&self, key: &Key, revision: Revision) -> Result<Arc<[u8]>, Refusal> {
        if let Some(record) = self.reader.get(key)?.filter(|record| record.mod_revision == revision) {
            return Ok(record.value);
        }
        let gone = || Status::expired(format!("done at revision {revision}, which is no longer kept"));
        let mut history = self.reader.watch(key, Revision(revision.0.saturating_sub(1)))?;
        // The revision has happened, so the first events are at hand; under the prefix there may be other keys.
        while let Ok(Ok(events)) = tokio::time::timeout(NEWER_REVISION_WAIT, history.next()).await {
            let Some(event) = events.iter().find(|event| event.key == *key) else { continue };
            return match &event.after {
                Some(record) if event.revision == revision => Ok(record.value.clone()),
                _ => Err(gone().into()),
            };
        }
        Err(gone().into())
    }
}

impl Written {
    fn unchanged(record: &Record) -> Written {
        Written { value: record.value.clone(), revision: record.mod_revision }
    }
}

/// What an edit comes to.
enum Step {
    Unchanged(Record),
    Write { value: Vec<u8>, record: Record, required: Vec<ResourceKey> },
}

/// What a deletion removed: its first operation is the object itself.
fn deleted(replies: Vec<Reply>) -> Option<Deleted> {
    match replies.into_iter().next() {
        Some(Reply::Delete { before: Some(record) }) => {
            let uid = uid_of(&record.value);
            Some(Deleted { record, uid })
        }
        _ => None,
    }
}

fn exists(required: &[ResourceKey]) -> impl Iterator<Item = Compare> {
    required.iter().map(|key| Compare::Exists { key: Key::from(key.path()) })
}

/// Holds a deletion to the object that was looked at: this very version if the client named one, else this life.
fn same_object(record: &Record, preconditions: &Preconditions) -> Compare {
    let key = record.key.clone();
    match preconditions.resource_version {
        Some(_) => Compare::ModRevision { key, equals: record.mod_revision },
        None => Compare::CreateRevision { key, equals: record.create_revision },
    }
}

/// The stored form: the resource as JSON, without the revision that only the store knows.
fn encode(resource: &AnyResource) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(resource).map_err(|error| Status::internal(error).into())
}

fn uid_of(value: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        uid: Option<String>,
    }
    serde_json::from_slice::<Object>(value).ok()?.metadata.uid
}

/// The id and time of birth of an object whose author wrote at `millis`.
fn birth(millis: u64) -> Birth {
    const SECONDS: &[time::format_description::FormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let seconds = i64::try_from(millis / 1_000).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Birth {
        uid: uuid::Uuid::new_v4().to_string(),
        // The format names only parts that every date has.
        time: time.format(SECONDS).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_is_whole_seconds_in_utc() {
        let birth = birth(1_767_225_600_999);
        assert_eq!(birth.time, "2026-01-01T00:00:00Z");
        assert_eq!(birth.uid.len(), 36);
    }

    #[test]
    fn a_uid_is_read_leniently() {
        assert_eq!(uid_of(br#"{"metadata":{"uid":"u","x":1},"spec":[]}"#), Some("u".to_owned()));
        assert_eq!(uid_of(b"rot"), None);
    }
}
