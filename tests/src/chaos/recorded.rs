//! What clients and watchers wrote down, and the judgement of it: all three checks of [`crate::history`], and a floor under
//! which nothing is proven.

use std::collections::BTreeMap;

use crate::history::operation::{Operation, Outcome, Version};
use crate::history::revisions::{self, Log};
use crate::history::search::{self, Verdict};
use crate::history::watches::{self, Told, Watched};

/// Of each check, no more findings than a person reads.
pub(super) const TOLD: usize = 10;

/// What was asked and told.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// By every client, in no order.
    pub operations: Vec<Operation>,
    /// By every watcher.
    pub watches: Vec<Watched>,
    /// The objects before the first operation.
    pub initial: BTreeMap<String, Version>,
    /// Answers that no node should ever give.
    pub surprises: Vec<String>,
}

/// Everything a recorded history is accused of; nothing, if all is well.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// By the check by revision.
    pub by_revision: Vec<revisions::Violation>,
    /// By the search.
    pub by_search: Option<String>,
    /// By the check of watches.
    pub of_watches: Vec<watches::Fault>,
}

impl Recorded {
    /// Holds the history against all three checks.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let log = self.log();
        let by_search = match search::search(&self.operations, &self.initial) {
            Verdict::Linearizable => None,
            Verdict::Violation(impossible) => Some(impossible.to_string()),
            Verdict::Undecided { name } => Some(format!("too many possibilities for {name}: not decided")),
        };
        Judgement {
            by_revision: revisions::check(&self.operations, &log),
            by_search,
            of_watches: watches::check(&log, &self.watches),
        }
    }

    /// What happened, as the watchers were told.
    #[must_use]
    pub fn log(&self) -> Log {
        watches::history(self.initial.clone(), &self.watches)
    }

    /// How many operations were answered, and how many never were.
    #[must_use]
    pub fn answered(&self) -> (usize, usize) {
        let unknown =
            self.operations.iter().filter(|operation| operation.outcome == Outcome::Unknown).count();
        (self.operations.len() - unknown, unknown)
    }

    /// Demands that all is well, and that enough happened for that to mean something: so many acknowledged writes.
    ///
    /// # Panics
    /// When it is not; the message tells everything that is wrong, and the history is written to a file.
    pub fn holds(&self, writes: usize) {
        let judgement = self.judge();
        let (answered, unknown) = self.answered();
        let written = self
            .operations
            .iter()
            .filter(|operation| matches!(operation.outcome, Outcome::Written { .. }))
            .count();
        let resumed =
            |watched: &Watched| watched.told.iter().filter(|told| matches!(told, Told::Resumed(_))).count();
        let resumed: usize = self.watches.iter().map(resumed).sum();
        eprintln!(
            "{answered} operations answered, {written} of them writes done, {unknown} unknown; {} changes, \
             watches resumed {resumed} times",
            self.log().changes.len()
        );
        if !judgement.is_clean() || !self.surprises.is_empty() {
            let file = self.keep();
            panic!("the history in {file} is wrong:\n{judgement}{}", self.surprises.join("\n"));
        }
        assert!(written >= writes, "only {written} writes were acknowledged: that proves nothing");
    }

    /// Writes the history to a file and says where.
    fn keep(&self) -> String {
        let path = std::env::temp_dir().join(format!("appliance-history-{}.txt", std::process::id()));
        let mut operations = self.operations.clone();
        operations.sort_unstable_by_key(|operation| operation.invoked);
        let operations = operations.iter().map(ToString::to_string);
        let watches = self.watches.iter().map(|watched| format!("{watched:?}"));
        let lines: Vec<String> = operations.chain(watches).collect();
        match std::fs::write(&path, lines.join("\n")) {
            Ok(()) => path.display().to_string(),
            Err(error) => format!("(not kept: {error})"),
        }
    }
}

impl Judgement {
    /// Whether no check found anything.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.by_revision.is_empty() && self.by_search.is_none() && self.of_watches.is_empty()
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for violation in self.by_revision.iter().take(TOLD) {
            writeln!(f, "by revision: {violation}")?;
        }
        if let Some(impossible) = &self.by_search {
            writeln!(f, "by search: {impossible}")?;
        }
        self.of_watches.iter().take(TOLD).try_for_each(|fault| writeln!(f, "watch: {fault}"))
    }
}
