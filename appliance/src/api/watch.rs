//! Watch of a collection. It promises every change of what is selected, in revision order, each exactly once, from
//! where the client said; and says so when it can not (410), instead of leaving a gap.
//!
//! ```text
//!   resourceVersion   begins with                          then
//!   unset             the latest state as ADDED            ┐
//!   0                 this node's state as ADDED           ├─ live events, a bookmark a minute if asked for,
//!   N                 history after N                      │  a last bookmark, the end
//!   N, compacted      ERROR 410, the end                   ┘
//! ```
//!
//! A node that the cluster has removed hears of no change any more: it shows its own state to who asks for that (0), without
//! a bookmark that would call it current, and sends everybody else to another node.
//!
//! A watch lasts longer than a request, so who asked for it is asked again every second: a token that was revoked, or a
//! certificate that ended, ends it with 401.
//!
//! A watcher that reads slowly costs nothing while it sleeps: events are taken from the store when the connection
//! asks for them, and nothing is kept per watcher but one batch. Should it fall so far behind that the store closes
//! it, it hears 410 too: listing anew is cheaper than reading on.

use std::sync::Arc;
use std::time::Duration;

use appliance_consensus::ReadError;
use appliance_resources::Status;
use appliance_storage::{Compacted, Event, Key, Record, Revision, WatchClosed, Watcher};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::accept::{Format, NotAcceptable};
use super::authenticate;
use super::body::ApiBody;
use super::call::Call;
use super::caller::{Caller, Proof};
use super::list::{prefix, select, selected};
use super::load::UnderWay;
use super::options::{Freshness, WatchStart, watch_options};
use super::registry::Registry;
use super::representation::{EventType, Renderer, Stored, Unreadable, line};
use super::request::Scope;
use super::respond::{Refusal, expired};
use super::selection::Selection;
use super::{Answer, Api};
use crate::planted;
use crate::shutdown::Shutdown;

/// How long a quiet watcher goes without hearing how far it is.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// Between two looks at whether whoever watches still may.
const STANDING_INTERVAL: Duration = Duration::from_secs(1);

/// A watch without a time limit gets one between this and twice this, so that not all clients come back at once.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

pub(crate) async fn watch(api: &Api, call: &Call<'_>, scope: &Scope) -> Answer {
    let options = watch_options(scope.kind, call.query)?;
    let renderer = call.renderer()?;
    if renderer.representation.format != Format::Json {
        // YAML has no way to end one document and begin the next within a stream of events.
        return Err(NotAcceptable.into());
    }
    let timeout = match options.timeout {
        Some(timeout) => timeout,
        None => DEFAULT_TIMEOUT + jitter(),
    };
    let mut stream = Stream {
        registry: api.registry.clone(),
        scope: scope.clone(),
        prefix: prefix(scope, &options.selection),
        selection: options.selection,
        renderer,
        bookmarks: options.bookmarks && !api.registry.raft().status().removed,
        bookmark_at: Instant::now() + BOOKMARK_INTERVAL,
        deadline: Instant::now() + timeout,
        standing_at: Instant::now() + STANDING_INTERVAL,
        caller: call.caller.clone(),
        shutdown: api.options.shutdown.clone(),
        phase: Phase::Ended,
        _counted: api.options.load.watch(),
    };
    stream.phase = stream.begin(options.start).await?;
    let events = futures_util::stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((bytes, stream))
    });
    let mut response = http::Response::new(ApiBody::Stream(Box::pin(events)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Up to `DEFAULT_TIMEOUT`; without randomness, none.
fn jitter() -> Duration {
    let spread = u32::try_from(DEFAULT_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
    Duration::from_secs(u64::from(getrandom::u32().unwrap_or(0) % spread))
}

/// One client's watch.
struct Stream {
    registry: Registry,
    scope: Scope,
    prefix: Key,
    selection: Selection,
    renderer: Renderer,
    bookmarks: bool,
    bookmark_at: Instant,
    deadline: Instant,
    standing_at: Instant,
    caller: Caller,
    shutdown: Shutdown,
    phase: Phase,
    _counted: UnderWay,
}

/// How far a watch is.
enum Phase {
    /// These bytes come first: the state it begins with.
    Opening(Vec<u8>, Watcher),
    /// Whatever happens next.
    Live(Watcher),
    /// These bytes are the last.
    Closing(Vec<u8>),
    Ended,
}

/// What a live watch woke up for.
enum Wake {
    Events(Vec<Arc<Event>>),
    Closed(WatchClosed),
    BookmarkDue,
    StandingDue,
    Over,
}

impl Stream {
    /// Finds the place to begin. What can be refused is refused here, while there is still a status line to say it in.
    async fn begin(&self, start: WatchStart) -> Result<Phase, Refusal> {
        if self.registry.raft().status().removed && promises_news(&start) {
            return Err(ReadError::Removed.into());
        }
        match start {
            WatchStart::After(revision) => {
                self.registry.settle(Freshness::NotOlderThan(revision)).await?;
                Ok(self.live_after(Revision(revision), Vec::new()))
            }
            WatchStart::Now { freshness } => {
                self.registry.settle(freshness).await?;
                Ok(self.live_after(self.registry.reader().revision(), Vec::new()))
            }
            WatchStart::State { freshness, announce_end } => {
                let (revision, records) =
                    select(&self.registry, &self.scope, &self.selection, freshness).await?;
                let mut opening = Vec::new();
                for record in &records {
                    let stored = Stored::of(self.scope.kind, record);
                    opening.extend(self.renderer.event(EventType::Added, stored)?);
                }
                if announce_end {
                    opening.extend(self.renderer.bookmark(self.scope.kind, revision, true));
                }
                Ok(self.live_after(revision, opening))
            }
        }
    }

    fn live_after(&self, revision: Revision, opening: Vec<u8>) -> Phase {
        match self.registry.reader().watch(&self.prefix, revision) {
            Ok(watcher) if opening.is_empty() => Phase::Live(watcher),
            Ok(watcher) => Phase::Opening(opening, watcher),
            Err(Compacted { after, compacted }) => Phase::Closing(error(&expired(after.0, compacted.0))),
        }
    }

    /// The next bytes to send; `None` when there will be none.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Ended) {
                Phase::Opening(bytes, watcher) => {
                    self.phase = Phase::Live(watcher);
                    return Some(Bytes::from(bytes));
                }
                Phase::Live(watcher) => {
                    let (bytes, phase) = self.live(watcher).await;
                    self.phase = phase;
                    if !bytes.is_empty() {
                        return Some(Bytes::from(bytes));
                    }
                }
                Phase::Closing(bytes) => return Some(Bytes::from(bytes)),
                Phase::Ended => return None,
            }
        }
    }

    async fn live(&mut self, mut watcher: Watcher) -> (Vec<u8>, Phase) {
        match self.wake(&mut watcher).await {
            Wake::Events(events) => match self.lines(&events) {
                Ok(bytes) => {
                    if !bytes.is_empty() {
                        self.bookmark_at = Instant::now() + BOOKMARK_INTERVAL;
                    }
                    (bytes, Phase::Live(watcher))
                }
                Err(unreadable) => (error(&Status::internal(unreadable)), Phase::Ended),
            },
            Wake::BookmarkDue => {
                self.bookmark_at = Instant::now() + BOOKMARK_INTERVAL;
                (self.bookmark(&watcher), Phase::Live(watcher))
            }
            Wake::StandingDue => {
                self.standing_at = Instant::now() + STANDING_INTERVAL;
                let now = OffsetDateTime::now_utc();
                match authenticate::stands(self.registry.reader(), &self.caller, now) {
                    true => (Vec::new(), Phase::Live(watcher)),
                    false => (error(&Status::unauthorized()), Phase::Ended),
                }
            }
            Wake::Over | Wake::Closed(WatchClosed::Shutdown { .. }) => {
                (self.bookmark(&watcher), Phase::Ended)
            }
            Wake::Closed(WatchClosed::TooSlow { delivered }) => {
                let current = self.registry.reader().revision();
                (error(&expired(delivered.0, current.0)), Phase::Ended)
            }
            Wake::Closed(WatchClosed::Compacted { delivered, compacted }) => {
                (error(&expired(delivered.0, compacted.0)), Phase::Ended)
            }
            Wake::Closed(WatchClosed::Fatal(fatal)) => (error(&Status::internal(fatal)), Phase::Ended),
        }
    }

    async fn wake(&mut self, watcher: &mut Watcher) -> Wake {
        tokio::select! {
            biased;
            () = self.shutdown.requested() => Wake::Over,
            () = tokio::time::sleep_until(self.deadline) => Wake::Over,
            () = tokio::time::sleep_until(self.standing_at), if self.caller.proof != Proof::Connection => {
                Wake::StandingDue
            }
            events = watcher.next() => match events {
                Ok(events) => Wake::Events(events),
                Err(closed) => Wake::Closed(closed),
            },
            () = tokio::time::sleep_until(self.bookmark_at), if self.bookmarks => Wake::BookmarkDue,
        }
    }

    fn bookmark(&self, watcher: &Watcher) -> Vec<u8> {
        if self.bookmarks {
            self.renderer.bookmark(self.scope.kind, watcher.progress(), false)
        } else {
            Vec::new()
        }
    }

    /// The lines of a batch of events: those that concern this watcher, as they look from here.
    fn lines(&self, events: &[Arc<Event>]) -> Result<Vec<u8>, Unreadable> {
        let mut lines = Vec::new();
        for event in events {
            if let Some((change, stored)) = self.seen(event)
                && !planted::skipped_event()
            {
                lines.extend(self.renderer.event(change, stored)?);
            }
        }
        Ok(lines)
    }

    /// What an event is to a watcher that sees only what it selects: coming into view is ADDED, leaving it DELETED.
    fn seen<'e>(&self, event: &'e Event) -> Option<(EventType, Stored<'e>)> {
        let visible = |record: &&'e Record| selected(&self.selection, &event.key, record);
        let (before, after) = (event.before.as_ref().filter(visible), event.after.as_ref().filter(visible));
        let stored = |record: &'e Record| Stored {
            kind: self.scope.kind,
            value: &record.value,
            revision: event.revision,
        };
        match (before, after) {
            (None, Some(after)) => Some((EventType::Added, stored(after))),
            (Some(_), Some(after)) => Some((EventType::Modified, stored(after))),
            (Some(before), None) => Some((EventType::Deleted, stored(before))),
            (None, None) => None,
        }
    }
}

/// Whether a watch that begins so is one for whoever wants more than this node's own state.
fn promises_news(start: &WatchStart) -> bool {
    match start {
        WatchStart::After(_) | WatchStart::State { announce_end: true, .. } => true,
        WatchStart::State { freshness, .. } | WatchStart::Now { freshness } => *freshness != Freshness::Any,
    }
}

fn error(status: &Status) -> Vec<u8> {
    // A status is strings and numbers; there is nothing in it that JSON could refuse.
    line("ERROR", &serde_json::to_vec(status).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use crate::api::harness::{Harness, endpoint, policy};

    #[tokio::test]
    async fn a_watch_from_nowhere_begins_with_what_is_there() {
        let api = Harness::start().await;
        let a = api.post("hostendpoints", endpoint("a")).await.version();
        for query in ["watch=1", "watch=true&resourceVersion=0"] {
            let mut events = api.watch(&format!("hostendpoints?{query}")).await;
            assert_eq!(events.brief().await, format!("ADDED a@{a}"), "{query}");
        }
    }

    #[tokio::test]
    async fn a_removed_node_shows_what_it_has_and_promises_nothing() {
        let api = Harness::removed().await;
        let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        for query in
            ["", "&resourceVersion=7", &format!("&{initial}"), &format!("&{initial}&resourceVersion=0")]
        {
            let refused = api.get(&format!("hostendpoints?watch=1{query}")).await.summary();
            assert!(
                refused.starts_with("503 ServiceUnavailable") && refused.contains("removed"),
                "{query}: {refused}"
            );
        }
        let own = "hostendpoints?watch=1&resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=1";
        assert_eq!(api.watch(own).await.brief().await, "end", "no bookmark either");
        assert_eq!(api.get("hostendpoints?resourceVersion=0").await.code, 200);
    }

    #[tokio::test]
    async fn every_change_comes_once_and_in_order() {
        let api = Harness::start().await;
        let start = api.get("hostendpoints").await.version();
        let mut live = api.watch(&format!("hostendpoints?watch=1&resourceVersion={start}")).await;
        let a = api.post("hostendpoints", endpoint("a")).await.version();
        assert_eq!(live.brief().await, format!("ADDED a@{a}"));
        let patched =
            api.merge("hostendpoints/a", json!({"metadata": {"labels": {"x": "y"}}})).await.version();
        api.post("tiers", json!({"metadata": {"name": "elsewhere"}})).await;
        api.delete("hostendpoints/a", json!({})).await;
        let gone = api.get("hostendpoints").await.version();
        let mut replayed = api.watch(&format!("hostendpoints?watch=1&resourceVersion={a}")).await;
        for events in [&mut live, &mut replayed] {
            assert_eq!(events.brief().await, format!("MODIFIED a@{patched}"));
            assert_eq!(events.brief().await, format!("DELETED a@{gone}"));
        }
    }

    #[tokio::test]
    async fn coming_into_view_is_added_and_leaving_it_deleted() {
        let api = Harness::start().await;
        let mut events = api.watch("hostendpoints?watch=1&labelSelector=app%3Dweb").await;
        let a = api.post("hostendpoints", endpoint("a")).await.version();
        assert_eq!(events.brief().await, format!("ADDED a@{a}"));
        let left =
            api.merge("hostendpoints/a", json!({"metadata": {"labels": {"app": "db"}}})).await.version();
        let event = events.next().await.expect("an event");
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["resourceVersion"]),
            (&json!("DELETED"), &json!(left))
        );
        assert_eq!(event["object"]["metadata"]["labels"]["app"], "web", "its last state in view");
        let back =
            api.merge("hostendpoints/a", json!({"metadata": {"labels": {"app": "web"}}})).await.version();
        assert_eq!(events.brief().await, format!("ADDED a@{back}"));
    }

    #[tokio::test]
    async fn a_watch_of_one_name_sees_no_other() {
        let api = Harness::start().await;
        let mut events = api.watch("hostendpoints?watch=1&fieldSelector=metadata.name%3Da").await;
        api.post("hostendpoints", endpoint("ab")).await;
        let a = api.post("hostendpoints", endpoint("a")).await.version();
        assert_eq!(events.brief().await, format!("ADDED a@{a}"));
    }

    #[tokio::test]
    async fn policies_are_watched_by_tier() {
        let api = Harness::start().await;
        api.post("tiers", json!({"metadata": {"name": "ops"}})).await;
        let mut events = api.watch("globalnetworkpolicies?watch=1&fieldSelector=spec.tier%3Dops").await;
        api.post("globalnetworkpolicies", policy("p", "default")).await;
        let moved = api.merge("globalnetworkpolicies/p", json!({"spec": {"tier": "ops"}})).await;
        assert_eq!(moved.code, 200, "{}", moved.summary());
        assert_eq!(events.brief().await, format!("ADDED p@{}", moved.version()));
    }

    #[tokio::test]
    async fn a_streamed_list_says_where_it_ends() {
        let api = Harness::start().await;
        let a = api.post("hostendpoints", endpoint("a")).await.version();
        let query =
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let mut events = api.watch(&format!("hostendpoints?{query}")).await;
        assert_eq!(events.brief().await, format!("ADDED a@{a}"));
        let end = events.next().await.expect("a bookmark");
        assert_eq!(end["type"], "BOOKMARK");
        assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        assert_eq!(end["object"]["metadata"]["resourceVersion"], a);
        let refused = api.get("hostendpoints?watch=1&sendInitialEvents=true").await;
        assert_eq!(refused.code, 422);
    }

    #[tokio::test]
    async fn a_watch_ends_with_a_bookmark_at_its_time() {
        let api = Harness::start().await;
        let now = api.post("tiers", json!({"metadata": {"name": "t"}})).await.version();
        let query = format!("watch=1&resourceVersion={now}&timeoutSeconds=1&allowWatchBookmarks=true");
        let mut events = api.watch(&format!("hostendpoints?{query}")).await;
        assert_eq!(events.brief().await, format!("BOOKMARK @{now}"));
        assert_eq!(events.brief().await, "end");
    }

    #[tokio::test]
    async fn shutdown_ends_watches() {
        let api = Harness::start().await;
        let mut events = api.watch("hostendpoints?watch=1").await;
        assert_eq!(api.load.watches(), 1);
        api.shutdown.fire();
        assert_eq!(events.brief().await, "end");
        drop(events);
        assert_eq!(api.load.watches(), 0);
    }

    #[tokio::test]
    async fn history_that_is_gone_is_expired() {
        let api = Harness::start().await;
        for name in ["a", "b"] {
            api.post("hostendpoints", endpoint(name)).await;
        }
        let before = api.registry.reader().revision();
        let compact = appliance_storage::Command::Compact { before };
        api.raft.propose(compact.encode()).await.expect("compacts");
        let mut events = api.watch("hostendpoints?watch=1&resourceVersion=1").await;
        let event = events.next().await.expect("an error");
        assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
        assert_eq!(event["object"]["reason"], "Expired");
        assert_eq!(events.brief().await, "end");
    }

    #[tokio::test]
    async fn events_can_be_tables() {
        let api = Harness::start().await;
        api.post("hostendpoints", endpoint("a")).await;
        let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        let reply = api.send("GET", "hostendpoints?watch=1&timeoutSeconds=1", &accept, "").await;
        let event = reply.value();
        assert_eq!(event["object"]["kind"], "Table");
        assert_eq!(event["object"]["rows"][0]["cells"], json!(["a", "n1", "eth0"]));
        let yaml = api.send("GET", "hostendpoints?watch=1", &[("accept", "application/yaml")], "").await;
        assert_eq!(yaml.code, 406);
    }

    /// Numbers nobody chose, the same for the same seed.
    fn random(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed | 1;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    async fn churn(api: &Harness, seed: u64) {
        let mut random = random(seed);
        for _ in 0..40 {
            let path = format!("hostendpoints/e{}", random(4));
            let app = ["web", "db"][usize::try_from(random(2)).expect("small")];
            match random(3) {
                0 => drop(api.post("hostendpoints", endpoint(&path["hostendpoints/".len()..])).await),
                1 => drop(api.merge(&path, json!({"metadata": {"labels": {"app": app}}})).await),
                _ => drop(api.delete(&path, json!({})).await),
            }
        }
    }

    /// What a client believes that applies each event to what it had: name to version.
    async fn followed(mut events: crate::api::harness::Events) -> BTreeMap<String, String> {
        let mut believed = BTreeMap::new();
        loop {
            let event = events.next().await.expect("an event");
            let text = |field: &str| event["object"]["metadata"][field].as_str().expect("text").to_owned();
            let (name, version) = (text("name"), text("resourceVersion"));
            let known = match event["type"].as_str() {
                Some("DELETED") => believed.remove(&name),
                _ => believed.insert(name.clone(), version),
            };
            assert_eq!(known.is_none(), event["type"] == "ADDED", "{event}");
            if name == "last" {
                return believed;
            }
        }
    }

    #[tokio::test]
    async fn whoever_follows_the_events_knows_the_list() {
        let api = Harness::start().await;
        let seed = u64::from(std::process::id());
        println!("seed {seed}");
        let queries = ["", "&labelSelector=app%3Dweb", "&labelSelector=app!%3Ddb", "&labelSelector=app"];
        let open = async |query: &str| api.watch(&format!("hostendpoints?watch=1{query}")).await;
        let mut watches = Vec::new();
        for round in 0..2 {
            for query in queries {
                watches.push((query, open(query).await));
            }
            tokio::join!(churn(&api, seed + round), churn(&api, seed + round + 100));
        }
        api.post("hostendpoints", endpoint("last")).await;
        for (query, events) in watches {
            let list = api.get(&format!("hostendpoints?{}", query.trim_start_matches('&'))).await.value();
            let items = list["items"].as_array().expect("items").iter();
            let text = |item: &serde_json::Value, field: &str| {
                item["metadata"][field].as_str().expect("text").to_owned()
            };
            let listed: BTreeMap<_, _> =
                items.map(|i| (text(i, "name"), text(i, "resourceVersion"))).collect();
            assert_eq!(followed(events).await, listed, "{query}");
        }
    }
}
