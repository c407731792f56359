//! Watches: every stream tells one and the same history, each event once, in order, with no gap, wherever it is
//! resumed. Pure.
//!
//! A watcher here is a client that follows one collection through deaths, partitions and other nodes: when its stream
//! ends it asks again, anywhere, for what came after the last thing it was told. What all its streams told it, one
//! after the other, must be
//!
//! - **ordered and unique**: revisions go up;
//! - **whole**: everything that happened between where it began and where it is, and every change of one revision;
//! - **consistent**: ADDED for what was absent, MODIFIED for what was there, DELETED with what it held last;
//! - **honest in its bookmarks**: one at revision R comes after everything up to R, and nothing up to R comes after it.
//!
//! What happened is taken from all watchers together, so a gap in one is seen by the others; a gap in all is what
//! [`super::revisions`] sees, whose acknowledged writes would be missing there.

use std::collections::BTreeMap;
use std::fmt;

use super::operation::Version;
use super::revisions::Log;

/// One thing a stream told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// An object changed.
    Event(Event),
    /// Everything up to this revision was told.
    Bookmark(u64),
    /// The stream ended and another was begun after the last thing told, at this node.
    Resumed(usize),
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub revision: u64,
    /// Whose.
    pub name: String,
    /// What.
    pub change: Change,
}

/// What became of an object, in the words of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there now, and holds this.
    Added(u64),
    /// It holds this now.
    Modified(u64),
    /// It is gone, and held this.
    Deleted(u64),
}

/// Everything one watcher was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Who.
    pub watcher: String,
    /// The revision it began after.
    pub from: u64,
    /// In order.
    pub told: Vec<Told>,
}

/// What is wrong with a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of it.
    pub what: Broken,
    /// Whose watch.
    pub watcher: String,
    /// What it was told, or was not.
    pub at: String,
}

/// The ways a watch can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// An event at or below one that came before it.
    OutOfOrder,
    /// An event that came before.
    Repeated,
    /// An event that others were told was left out.
    Skipped,
    /// Others were told something else at this revision.
    Differs,
    /// ADDED for what was there, MODIFIED or DELETED for what was not, or gone with another content than it had.
    Inconsistent,
    /// A bookmark below what was told already, or one after which something at or below it came.
    DishonestBookmark,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {}: {}", self.what, self.watcher, self.at)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (revision, name) = (self.revision, &self.name);
        match self.change {
            Change::Added(content) => write!(f, "@{revision} +{name}={content}"),
            Change::Modified(content) => write!(f, "@{revision} {name}={content}"),
            Change::Deleted(content) => write!(f, "@{revision} -{name}={content}"),
        }
    }
}

impl Change {
    /// What the object holds afterwards.
    fn content(self) -> Option<u64> {
        match self {
            Change::Added(content) | Change::Modified(content) => Some(content),
            Change::Deleted(_) => None,
        }
    }
}

impl Watched {
    fn events(&self) -> impl Iterator<Item = &Event> {
        self.told.iter().filter_map(|told| match told {
            Told::Event(event) => Some(event),
            _ => None,
        })
    }

    /// The newest revision it knows everything of.
    #[must_use]
    pub fn reached(&self) -> u64 {
        let reached = self.told.iter().filter_map(|told| match told {
            Told::Event(event) => Some(event.revision),
            Told::Bookmark(revision) => Some(*revision),
            Told::Resumed(_) => None,
        });
        reached.fold(self.from, u64::max)
    }
}

/// What happened, according to all watchers together, to objects that were `initial` when the first of them began.
#[must_use]
pub fn history(initial: BTreeMap<String, Version>, watches: &[Watched]) -> Log {
    let mut log = Log { initial, changes: BTreeMap::new() };
    for event in watches.iter().flat_map(Watched::events) {
        let changes = log.changes.entry(event.revision).or_default();
        if !changes.iter().any(|(name, _)| *name == event.name) {
            changes.push((event.name.clone(), event.change.content()));
        }
    }
    log
}

/// Holds every watch against what happened.
#[must_use]
pub fn check(log: &Log, watches: &[Watched]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for watched in watches {
        let mut fault = |what, at: String| {
            faults.push(Fault { what, watcher: watched.watcher.clone(), at });
        };
        order(watched, &mut fault);
        whole(log, watched, &mut fault);
        consistent(log, watched, &mut fault);
    }
    faults
}

/// Revisions go up, nothing comes twice, bookmarks keep their word. Changes of one revision come together.
fn order(watched: &Watched, fault: &mut impl FnMut(Broken, String)) {
    let (mut at, mut names_at, mut bookmark) = (watched.from, Vec::new(), watched.from);
    for told in &watched.told {
        match told {
            Told::Event(event) if event.revision > at => {
                (at, names_at) = (event.revision, vec![&event.name]);
            }
            Told::Event(event)
                if event.revision == at && !names_at.contains(&&event.name) && at > bookmark =>
            {
                names_at.push(&event.name);
            }
            Told::Event(event) => {
                let before = watched.events().filter(|other| *other == event).count() > 1;
                let what = if event.revision > watched.from && event.revision <= bookmark && !before {
                    Broken::DishonestBookmark
                } else if before || event.revision <= watched.from {
                    Broken::Repeated
                } else {
                    Broken::OutOfOrder
                };
                fault(what, event.to_string());
            }
            Told::Bookmark(revision) if *revision < at => {
                fault(Broken::DishonestBookmark, format!("bookmark @{revision} after @{at}"));
            }
            Told::Bookmark(revision) => (at, bookmark) = (*revision, *revision),
            // The next stream is asked for what came after `at`, so the rest of that revision is lost to it.
            Told::Resumed(_) => bookmark = at,
        }
    }
}

/// Everything that happened after its beginning and up to where it is was told, and nothing else.
fn whole(log: &Log, watched: &Watched, fault: &mut impl FnMut(Broken, String)) {
    let mut told: BTreeMap<(u64, &str), Option<u64>> = BTreeMap::new();
    for event in watched.events() {
        told.insert((event.revision, &event.name), event.change.content());
    }
    let happened = log.changes.range(watched.from.saturating_add(1)..);
    for (revision, changes) in happened.take_while(|(revision, _)| **revision <= watched.reached()) {
        for (name, content) in changes {
            match told.get(&(*revision, name.as_str())) {
                None => fault(Broken::Skipped, format!("@{revision} {name} {content:?}")),
                Some(seen) if seen != content => {
                    fault(Broken::Differs, format!("@{revision} {name} {seen:?}, others: {content:?}"));
                }
                Some(_) => {}
            }
        }
    }
}

/// The words fit what was there before.
fn consistent(log: &Log, watched: &Watched, fault: &mut impl FnMut(Broken, String)) {
    let mut held: BTreeMap<&str, u64> =
        log.initial.iter().map(|(name, version)| (name.as_str(), version.content)).collect();
    for (name, content) in log.changes.range(..=watched.from).flat_map(|(_, changes)| changes) {
        match content {
            Some(content) => held.insert(name, *content),
            None => held.remove(name.as_str()),
        };
    }
    for event in watched.events() {
        let before = match event.change.content() {
            Some(content) => held.insert(&event.name, content),
            None => held.remove(event.name.as_str()),
        };
        let fits = match event.change {
            Change::Added(_) => before.is_none(),
            Change::Modified(_) => before.is_some(),
            Change::Deleted(content) => before == Some(content),
        };
        if !fits {
            fault(Broken::Inconsistent, format!("{event}, which was {before:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::notation::number;
    use super::*;

    /// `@5 +k=1, @6 k=2, b@6, resumed, @7 -k=2`: what one watcher was told, from revision 4 on.
    fn watched(watcher: &str, text: &str) -> Watched {
        let told = text.split(", ").map(|word| match word {
            "resumed" => Told::Resumed(1),
            _ if word.starts_with("b@") => Told::Bookmark(number(&word[2..])),
            _ => Told::Event(event(word)),
        });
        Watched { watcher: watcher.to_owned(), from: 4, told: told.collect() }
    }

    fn event(word: &str) -> Event {
        let (revision, what) = word[1..].split_once(' ').expect("@revision change");
        let (name, content) = what.split_once('=').expect("name=content");
        let content = number(content);
        let (name, change) = match name.split_at(1) {
            ("+", name) => (name, Change::Added(content)),
            ("-", name) => (name, Change::Deleted(content)),
            _ => (name, Change::Modified(content)),
        };
        Event { revision: number(revision), name: name.to_owned(), change }
    }

    const GOOD: &str = "@5 +k=1, @7 k=2, @8 +l=3, @9 -k=2, @9 -l=3, @12 +k=4";

    /// What a watch is accused of when another tells the whole history.
    fn faults(text: &str) -> Vec<Broken> {
        let watches = [watched("good", GOOD), watched("tried", text)];
        let log = history(BTreeMap::new(), &watches);
        let faults = check(&log, &watches);
        faults.iter().filter(|fault| fault.watcher == "tried").map(|fault| fault.what).collect()
    }

    #[test]
    fn a_good_watch_is_good_wherever_it_is_resumed_and_however_far_it_is() {
        assert_eq!(faults(GOOD), []);
        assert_eq!(faults("@5 +k=1, resumed, b@6, resumed, @7 k=2, resumed"), []);
        assert_eq!(faults("@5 +k=1, @7 k=2, @8 +l=3, b@8, @9 -k=2, @9 -l=3, b@11, @12 +k=4"), []);
        assert_eq!(faults("b@4"), [], "nothing yet");
    }

    #[test]
    fn a_skipped_event_is_found() {
        assert_eq!(faults("@5 +k=1, @8 +l=3"), [Broken::Skipped]);
        assert_eq!(faults("@7 k=2"), [Broken::Skipped, Broken::Inconsistent]);
        assert_eq!(faults("@5 +k=1, resumed, @8 +l=3"), [Broken::Skipped], "the gap of a bad resume");
        assert_eq!(
            faults("@5 +k=1, @7 k=2, @8 +l=3, @9 -k=2, resumed, @12 +k=4"),
            [Broken::Skipped],
            "half of a revision"
        );
    }

    #[test]
    fn a_bookmark_that_hides_a_gap_is_found() {
        assert_eq!(faults("@5 +k=1, b@7"), [Broken::Skipped]);
        assert_eq!(faults("@5 +k=1, b@7, @7 k=2"), [Broken::DishonestBookmark]);
        assert_eq!(faults("@5 +k=1, @7 k=2, b@6"), [Broken::DishonestBookmark]);
    }

    #[test]
    fn a_repeated_event_is_found() {
        let repeated = faults("@5 +k=1, resumed, @5 +k=1, @7 k=2");
        assert!(repeated.contains(&Broken::Repeated), "{repeated:?}");
        let repeated = faults("@5 +k=1, @7 k=2, @8 +l=3, @7 k=2");
        assert!(repeated.contains(&Broken::Repeated), "{repeated:?}");
    }

    #[test]
    fn events_out_of_order_are_found() {
        let order = faults("@5 +k=1, @8 +l=3, @7 k=2");
        assert_eq!(order, [Broken::OutOfOrder]);
        let before = faults("@3 +m=9, @5 +k=1");
        assert!(before.contains(&Broken::Repeated), "from before its beginning: {before:?}");
    }

    #[test]
    fn two_watches_that_tell_different_histories_are_found() {
        assert_eq!(faults("@5 +k=1, @7 k=8"), [Broken::Differs]);
    }

    #[test]
    fn words_that_do_not_fit_are_found() {
        assert_eq!(faults("@5 k=1"), [Broken::Inconsistent]);
        assert_eq!(faults("@5 +k=1, @7 +k=2"), [Broken::Inconsistent]);
        assert_eq!(faults("@5 +k=1, @7 k=2, @8 +l=3, @9 -k=1, @9 -l=3"), [Broken::Inconsistent]);
    }

    #[test]
    fn a_watch_that_begins_later_is_held_to_what_came_later() {
        let late = Watched { from: 8, ..watched("late", "@9 -k=2, @9 -l=3, @12 +k=4") };
        let watches = [watched("good", GOOD), late];
        assert_eq!(check(&history(BTreeMap::new(), &watches), &watches), []);
    }
}
