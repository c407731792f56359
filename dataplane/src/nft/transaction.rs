//! Transaction: operations the kernel takes all together or not at all, in an order it accepts.
//!
//! `plan` writes them, `Nft` runs them, `Actual` (and so the shadow and the fake) can replay them. A transaction either
//! changes structure or only the elements of existing sets; `plan` keeps the two apart, because the second kind has a
//! way into the kernel that costs one element instead of one listing of the host.

use crate::nft::elements::Delta;
use crate::nft::ruleset::{Hook, Rule, Set, SetKind, Verdict};

/// One step of a transaction, on our table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Creates the table if it is missing, and wakes it if it is dormant: nft states a table's flags, and here none.
    AddTable,
    /// Removes the table with everything in it.
    DeleteTable,
    /// Creates a set with its members inline.
    AddSet {
        /// Its name.
        name: String,
        /// Kind and members.
        set: Set,
    },
    /// Removes a set no rule uses any more.
    DeleteSet {
        /// Its name.
        name: String,
    },
    /// Changes members of an existing set. Removals come first, so that a prefix may be replaced by one it overlaps.
    ChangeSet {
        /// Its name.
        name: String,
        /// Its kind, which the encoders need to lay out the keys.
        kind: SetKind,
        /// What changes.
        delta: Delta,
    },
    /// Empties a set and gives it new members.
    RefillSet {
        /// Its name.
        name: String,
        /// Kind and members.
        set: Set,
    },
    /// Creates an empty verdict map.
    AddMap {
        /// Its name.
        name: String,
    },
    /// Removes a verdict map no rule uses any more.
    DeleteMap {
        /// Its name.
        name: String,
    },
    /// Points an interface to a chain.
    AddMapElement {
        /// The map's name.
        map: String,
        /// The interface.
        interface: String,
        /// Where its packets go.
        verdict: Verdict,
    },
    /// Removes an interface from a map.
    DeleteMapElement {
        /// The map's name.
        map: String,
        /// The interface.
        interface: String,
    },
    /// Creates an empty chain; with a hook it is called from the moment the transaction commits.
    AddChain {
        /// Its name.
        name: String,
        /// Where it is hooked, for a base chain.
        hook: Option<Hook>,
    },
    /// Removes all rules of a chain.
    FlushChain {
        /// Its name.
        name: String,
    },
    /// Removes an empty chain nothing points to any more.
    DeleteChain {
        /// Its name.
        name: String,
    },
    /// Appends a rule to a chain.
    AddRule {
        /// The chain's name.
        chain: String,
        /// The rule.
        rule: Rule,
    },
    /// Removes an object of a kind we never make.
    DeleteStray {
        /// nft's word for it.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Operations on one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The `inet` table.
    pub table: String,
    /// What to do, in order.
    pub operations: Vec<Operation>,
}

impl Transaction {
    /// A transaction that does nothing yet.
    pub fn new(table: &str) -> Transaction {
        Transaction { table: table.to_owned(), operations: Vec::new() }
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Whether it only changes members of existing sets.
    pub fn elements_only(&self) -> bool {
        self.operations.iter().all(|operation| matches!(operation, Operation::ChangeSet { .. }))
    }
}
