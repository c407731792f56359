//! FakeNft: the kernel in memory, for tests of the reconciler and of the planner.
//!
//! It takes a transaction whole or not at all, and refuses what the kernel refuses: missing objects, objects still in
//! use, overlapping members. It passes the same cases as the kernel (`tests/kernel.rs`). It also plays the others: a
//! foreign change is made and announced as the kernel would.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::nft::actual::{Actual, ActualChain, ActualRule, ActualSet};
use crate::nft::elements::{Element, Elements};
use crate::nft::fingerprint::Fingerprint;
use crate::nft::netlink::events::{Commit, Event};
use crate::nft::plan::{Begin, plan};
use crate::nft::ruleset::{Expr, Rule, Ruleset};
use crate::nft::transaction::{Operation, Transaction};
use crate::nft::{Committed, Nft, NftError, script};

/// A kernel with one table in it.
#[derive(Debug, Default)]
pub struct FakeNft {
    actual: Actual,
    /// The handle of each rule of each chain, in order.
    handles: BTreeMap<String, Vec<u64>>,
    next_handle: u64,
    generation: u32,
    events: Vec<Event>,
    /// Every transaction taken, for tests that look at the way and not only at the end.
    pub log: Vec<Transaction>,
    /// Rules whose label contains this are refused, as if the kernel lacked something they need.
    pub poison: Option<String>,
    /// So many runs fail as if nft could not be started.
    pub unavailable: usize,
    /// Whether someone switched the table off.
    pub dormant: bool,
    /// The rulesets whose scripts can be loaded: the fake can not read nft's language.
    pub scripts: Vec<Ruleset>,
    /// What someone else does right after the next script was loaded.
    pub after_load: Option<Transaction>,
}

impl FakeNft {
    /// What the table holds, as the fake remembers it.
    pub fn actual(&self) -> &Actual {
        &self.actual
    }

    /// Someone else does `transaction`.
    pub fn foreign(&mut self, transaction: &Transaction, process: &str, words: &str) {
        if let Ok(next) = self.taken(transaction) {
            self.commit(next, transaction);
            let (ours, process) = (words.to_owned(), process.to_owned());
            self.events.push(Event::Commit(Commit { generation: self.generation, ours, process }));
        }
    }

    fn taken(&self, transaction: &Transaction) -> Result<Actual, NftError> {
        let mut next = self.actual.clone();
        for operation in &transaction.operations {
            self.refuse(&next, operation)?;
            next.replay(&Transaction {
                table: transaction.table.clone(),
                operations: vec![operation.clone()],
            });
        }
        Ok(next)
    }

    fn commit(&mut self, next: Actual, transaction: &Transaction) {
        for operation in &transaction.operations {
            match operation {
                Operation::AddTable => self.dormant = false,
                Operation::DeleteTable => self.handles.clear(),
                Operation::FlushChain { name } | Operation::DeleteChain { name } => {
                    self.handles.remove(name);
                }
                Operation::AddRule { chain, .. } => {
                    self.next_handle += 1;
                    self.handles.entry(chain.clone()).or_default().push(self.next_handle);
                }
                _ => {}
            }
        }
        self.actual = next;
        self.generation += 1;
        self.log.push(transaction.clone());
    }

    /// What the kernel would not do, given `table`.
    fn refuse(&self, table: &Actual, operation: &Operation) -> Result<(), NftError> {
        let stale = |what: &str, name: &str| Err(NftError::Stale(format!("{what} {name}")));
        match operation {
            Operation::AddTable => Ok(()),
            _ if !table.table => stale("no table for", "anything"),
            Operation::DeleteSet { name } if !table.sets.contains_key(name) => stale("no set", name),
            Operation::DeleteSet { name } if uses(table).contains(&name[..]) => stale("busy set", name),
            Operation::DeleteMap { name } if !table.maps.contains_key(name) => stale("no map", name),
            Operation::DeleteMap { name } if uses(table).contains(&name[..]) => stale("busy map", name),
            Operation::DeleteChain { name } if !table.chains.contains_key(name) => stale("no chain", name),
            Operation::DeleteChain { name } if uses(table).contains(&name[..]) => stale("busy chain", name),
            Operation::FlushChain { name } if !table.chains.contains_key(name) => stale("no chain", name),
            Operation::ChangeSet { name, delta, .. } => match table.sets.get(name) {
                Some(ActualSet::Known(set))
                    if delta.removed.iter().any(|gone| !set.elements.contains(gone)) =>
                {
                    stale("no such member in", name)
                }
                Some(ActualSet::Known(set)) => {
                    let mut elements = set.elements.clone();
                    delta.apply(&mut elements);
                    disjoint(&elements)
                }
                _ => stale("no set", name),
            },
            Operation::AddSet { set, .. } | Operation::RefillSet { set, .. } => disjoint(&set.elements),
            Operation::AddMapElement { map, verdict, .. } => {
                let known = table.maps.contains_key(map)
                    && verdict.target().is_none_or(|chain| table.chains.contains_key(chain));
                if known { Ok(()) } else { stale("no map or chain for", map) }
            }
            Operation::DeleteMapElement { map, interface } => match table.maps.get(map) {
                Some(Some(elements)) if elements.contains_key(interface) => Ok(()),
                _ => stale("no element in", map),
            },
            Operation::AddRule { chain, rule } => self.refuse_rule(table, chain, rule),
            _ => Ok(()),
        }
    }

    fn refuse_rule(&self, table: &Actual, chain: &str, rule: &Rule) -> Result<(), NftError> {
        if self.poison.as_ref().is_some_and(|poison| rule.label().contains(poison)) {
            return Err(NftError::Refused(
                "Error: Could not process rule: Operation not supported".to_owned(),
            ));
        }
        let missing = references(rule).into_iter().find(|name| {
            !table.sets.contains_key(*name)
                && !table.maps.contains_key(*name)
                && !table.chains.contains_key(*name)
        });
        match missing {
            Some(missing) => Err(NftError::Stale(format!("no {missing} for a rule of {chain}"))),
            None if table.chains.contains_key(chain) => Ok(()),
            None => Err(NftError::Stale(format!("no chain {chain}"))),
        }
    }

    fn listed(&self) -> Actual {
        let mut listed = self.actual.clone();
        for (name, chain) in &mut listed.chains {
            let handles = self.handles.get(name).map(Vec::as_slice).unwrap_or_default();
            *chain = ActualChain {
                hook: chain.hook,
                rules: chain.rules.iter().zip(handles).map(listed_rule).collect(),
            };
        }
        listed
    }
}

fn listed_rule((rule, handle): (&ActualRule, &u64)) -> ActualRule {
    match rule {
        ActualRule::Committed { rule, .. } => {
            ActualRule::Listed { fingerprint: Fingerprint::of(rule), handle: *handle }
        }
        other => other.clone(),
    }
}

/// The sets, maps and chains a rule names.
fn references(rule: &Rule) -> Vec<&str> {
    rule.exprs.iter().filter_map(reference).collect()
}

fn reference(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Dispatch { map, .. } => Some(map),
        Expr::Verdict(verdict) => verdict.target(),
        other => other.set(),
    }
}

/// Everything some rule or map element names.
fn uses(table: &Actual) -> BTreeSet<&str> {
    let rules = table.chains.values().flat_map(|chain| &chain.rules).filter_map(|rule| match rule {
        ActualRule::Committed { rule, .. } => Some(rule),
        ActualRule::Listed { .. } | ActualRule::Unknown => None,
    });
    let elements =
        table.maps.values().flatten().flat_map(BTreeMap::values).filter_map(|verdict| verdict.target());
    rules.flat_map(references).chain(elements).collect()
}

/// Members are sorted, so a prefix comes right before what it contains.
fn disjoint(elements: &Elements) -> Result<(), NftError> {
    let mut last: Option<IpNet> = None;
    for element in elements.iter() {
        let Element::Net(net) = element else { continue };
        if last.is_some_and(|last| last.contains(net)) {
            return Err(NftError::Refused(format!("{net} overlaps")));
        }
        last = Some(*net);
    }
    Ok(())
}

impl Nft for FakeNft {
    async fn dormant(&mut self) -> Result<bool, NftError> {
        Ok(self.dormant)
    }

    async fn list(&mut self) -> Result<Actual, NftError> {
        Ok(self.listed())
    }

    async fn run(&mut self, transaction: &Transaction) -> Result<Committed, NftError> {
        if self.unavailable > 0 {
            self.unavailable -= 1;
            return Err(NftError::Unavailable("fake nft can not be run".to_owned()));
        }
        let next = self.taken(transaction)?;
        self.commit(next, transaction);
        let (ours, process) = ("changed".to_owned(), "appliance".to_owned());
        self.events.push(Event::Commit(Commit { generation: self.generation, ours, process }));
        Ok(Committed { before: Some(self.generation - 1), after: Some(self.generation) })
    }

    async fn load(&mut self, script: String) -> Result<Committed, NftError> {
        let known = self.scripts.iter().find(|ruleset| script::boot(ruleset) == script);
        let known = known.ok_or_else(|| NftError::Refused("syntax error".to_owned()))?;
        let mut whole = Transaction::new(&known.table);
        if self.actual.table {
            whole.operations.push(Operation::DeleteTable);
        }
        let steps = plan(&Actual::default(), known, Begin::Whole);
        whole.operations.extend(steps.into_iter().flat_map(|step| step.operations));
        let mut committed = self.run(&whole).await?;
        if let Some(foreign) = self.after_load.take() {
            self.foreign(&foreign, "nft (pid 9)", "was quick");
            committed.after = Some(self.generation);
        }
        Ok(committed)
    }

    async fn check(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        self.taken(transaction).map(drop)
    }

    fn generation(&mut self) -> Result<Option<u32>, NftError> {
        Ok(Some(self.generation))
    }

    fn handles(&mut self) -> Result<Option<BTreeMap<String, Vec<u64>>>, NftError> {
        Ok(Some(self.handles.clone()))
    }

    async fn events(&mut self) -> Vec<Event> {
        if self.events.is_empty() {
            return std::future::pending().await;
        }
        std::mem::take(&mut self.events)
    }

    fn drain(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
