//! Enforcer: makes our table what is wanted, and finds out when it is not.
//!
//! Holds the shadow, our book of what the kernel has: a change costs a comparison with the shadow and no listing. A
//! listing is made at start (and then what is there is adopted, not replaced), when the kernel contradicts the shadow,
//! and for audits. Called by the reconciler only, one call at a time.

use std::collections::BTreeMap;

use tracing::debug;

use crate::nft::actual::{Actual, Drift};
use crate::nft::commits::{Commits, Whose};
use crate::nft::netlink::events::Event;
use crate::nft::outline::Outline;
use crate::nft::plan::{Begin, plan};
use crate::nft::{Nft, NftError, Operation, Ruleset, Transaction};

/// Listings made for one call before giving up: others may write as fast as we list.
const LISTINGS_MAX: usize = 3;
/// Processes named at once; one that starts nft again and again has a new number each time.
const NAMED_MAX: usize = 3;

/// What we know of the table.
enum Shadow {
    /// Nothing; the next step lists it.
    Unknown,
    /// This is committed.
    Known(Box<Actual>),
    /// This was committed, and someone may have changed it: the next step lists the table and says what differs.
    Doubted(Box<Actual>),
}

/// Our table in one nf_tables.
pub(crate) struct Enforcer<N> {
    nft: N,
    table: String,
    shadow: Shadow,
    commits: Commits,
    /// What others changed, found by a listing on the way to something else, until somebody asks.
    met: Vec<Drift>,
}

impl<N: Nft> Enforcer<N> {
    pub(crate) fn new(nft: N, table: &str) -> Enforcer<N> {
        let commits = Commits::default();
        Enforcer { nft, table: table.to_owned(), shadow: Shadow::Unknown, commits, met: Vec::new() }
    }

    /// Makes the table what is wanted. On an error the table is what it was, or something between that no packet can
    /// tell from the old or the new.
    pub(crate) async fn program(&mut self, wanted: &Ruleset, begin: Begin) -> Result<(), NftError> {
        let mut last = NftError::Stale("others keep changing the table".to_owned());
        for _ in 0..LISTINGS_MAX {
            let steps = plan(self.known().await?, wanted, begin);
            match self.run(steps).await {
                Ok(structural) => {
                    self.settled(wanted, structural);
                    return Ok(());
                }
                Err(error @ NftError::Stale(_)) => {
                    debug!("listing the table again: {error}");
                    self.doubt();
                    last = error;
                }
                Err(error @ NftError::Interrupted(_)) => {
                    // What differs from the shadow now may be our own doing.
                    self.shadow = Shadow::Unknown;
                    return Err(error);
                }
                Err(error) => {
                    // Steps before this one were committed, and the shadow has them.
                    return Err(error);
                }
            }
        }
        Err(last)
    }

    /// Replaces the table by what the script on disk says, in one transaction.
    pub(crate) async fn reload(&mut self, script: String) -> Result<(), NftError> {
        self.shadow = Shadow::Unknown;
        let committed = self.nft.load(script).await?;
        self.commits.note(committed);
        self.audit().await.map(drop)
    }

    /// Whether the last listing found no table at all.
    pub(crate) fn found_nothing(&self) -> bool {
        matches!(&self.shadow, Shadow::Known(actual) if !actual.table)
    }

    /// What the last listing found, as it can be compared with a script.
    pub(crate) fn outline(&self) -> Option<Outline> {
        match &self.shadow {
            Shadow::Known(actual) => Some(Outline::of_actual(actual)),
            Shadow::Unknown | Shadow::Doubted(_) => None,
        }
    }

    /// Whether the kernel would take `wanted`, all in one.
    pub(crate) async fn check(&mut self, wanted: &Ruleset) -> Result<(), NftError> {
        let steps = plan(self.known().await?, wanted, Begin::Whole);
        let operations: Vec<_> = steps.into_iter().flat_map(|step| step.operations).collect();
        if operations.is_empty() {
            return Ok(());
        }
        self.nft.check(&Transaction { table: self.table.clone(), operations }).await
    }

    /// Lists the table and takes over what differs from the shadow, so that `program` puts it right.
    pub(crate) async fn audit(&mut self) -> Result<Vec<Drift>, NftError> {
        let (generation, woken, listed) = match self.look().await {
            Ok(seen) => seen,
            Err(error) => {
                self.doubt();
                return Err(error);
            }
        };
        if let Some(generation) = generation {
            self.commits.start_from(generation);
        }
        match std::mem::replace(&mut self.shadow, Shadow::Unknown) {
            Shadow::Unknown => {
                self.shadow = Shadow::Known(Box::new(listed));
                Ok(Vec::new())
            }
            Shadow::Known(mut ours) | Shadow::Doubted(mut ours) => {
                let drift = ours.drift(&listed);
                if !drift.is_empty() {
                    ours.adopt(listed);
                }
                self.shadow = Shadow::Known(ours);
                let off = || Drift("the table was switched off (flags dormant)".to_owned());
                Ok(woken.then(off).into_iter().chain(drift).collect())
            }
        }
    }

    /// The table as it is, after waking it if it was switched off: then everything passes, so nothing comes before that.
    async fn look(&mut self) -> Result<(Option<u32>, bool, Actual), NftError> {
        let dormant = self.nft.dormant().await?;
        if dormant {
            let wake = Transaction { table: self.table.clone(), operations: vec![Operation::AddTable] };
            let committed = self.nft.run(&wake).await?;
            self.commits.note(committed);
        }
        Ok((self.nft.generation()?, dormant, self.nft.list().await?))
    }

    /// What others changed, found while making the table what is wanted. Asked once, it is forgotten.
    pub(crate) fn met(&mut self) -> Vec<Drift> {
        std::mem::take(&mut self.met)
    }

    fn doubt(&mut self) {
        self.shadow = match std::mem::replace(&mut self.shadow, Shadow::Unknown) {
            Shadow::Known(ours) | Shadow::Doubted(ours) => Shadow::Doubted(ours),
            Shadow::Unknown => Shadow::Unknown,
        };
    }

    /// Waits for commits by anyone. Cancel-safe.
    pub(crate) async fn events(&mut self) -> Vec<Event> {
        self.nft.events().await
    }

    /// Commits announced already.
    pub(crate) fn drain(&mut self) -> Vec<Event> {
        self.nft.drain()
    }

    /// Of what was announced, who touched our table; nobody if it was us or about something else.
    pub(crate) fn intruder(&mut self, events: &[Event]) -> Option<Intruder> {
        let (mut missed, mut processes) = (false, Vec::new());
        for event in events {
            match event {
                Event::Overrun => missed = true,
                Event::Commit(commit) => {
                    if self.commits.whose(commit) == Whose::Foreign {
                        processes.push(format!("{}: {}", commit.process, commit.ours));
                    }
                }
            }
        }
        let more = processes.len() > NAMED_MAX;
        processes.truncate(NAMED_MAX);
        match processes.is_empty() {
            false => Some(Intruder::Process(processes.join("; ") + if more { " and others" } else { "" })),
            true => missed.then_some(Intruder::Unknown),
        }
    }

    /// Compares the generation with what was announced: the safety net under the announcements.
    pub(crate) fn missed(&mut self) -> Option<Intruder> {
        let generation = self.nft.generation().ok().flatten()?;
        let events = self.nft.drain();
        let intruder = self.intruder(&events);
        if intruder.is_some() || self.commits.accounts_for(generation) {
            return intruder;
        }
        self.commits.start_from(generation);
        Some(Intruder::Unknown)
    }

    async fn known(&mut self) -> Result<&Actual, NftError> {
        if !matches!(self.shadow, Shadow::Known(_)) {
            let drift = self.audit().await?;
            self.met.extend(drift);
        }
        match &self.shadow {
            Shadow::Known(actual) => Ok(actual),
            Shadow::Unknown | Shadow::Doubted(_) => Err(NftError::Stale("nothing was listed".to_owned())),
        }
    }

    /// Runs the steps in order; says whether any of them changed more than members.
    async fn run(&mut self, steps: Vec<Transaction>) -> Result<bool, NftError> {
        let mut structural = false;
        for step in steps {
            let committed = self.nft.run(&step).await?;
            self.commits.note(committed);
            structural |= !step.elements_only();
            if let Shadow::Known(actual) = &mut self.shadow {
                actual.replay(&step);
            }
        }
        Ok(structural)
    }

    /// Everything wanted is in force.
    fn settled(&mut self, wanted: &Ruleset, structural: bool) {
        // Not knowing the handles only means that an audit compares less.
        let handles = if structural { self.nft.handles().ok().flatten() } else { None };
        if let Shadow::Known(actual) = &mut self.shadow {
            actual.share(wanted);
            actual.learn(&handles.unwrap_or_else(BTreeMap::new));
        }
    }
}

/// Who changed our table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intruder {
    /// The kernel named the process and what it did.
    Process(String),
    /// All we know is that something changed.
    Unknown,
}
