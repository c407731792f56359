//! Kernel: the real nf_tables behind `trait Nft`: nft for structure, netlink for members of sets and for watching.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use crate::nft::actual::Actual;
use crate::nft::command::{CommandError, NftCommand};
use crate::nft::netlink::events::{Event, Events};
use crate::nft::netlink::{Netlink, NetlinkError, SetChange};
use crate::nft::transaction::{Operation, Transaction};
use crate::nft::{Committed, Nft, NftError, json, listing};

/// Up to so many members a batch is sent from the async thread (some milliseconds); more go to a blocking thread.
const INLINE_MEMBERS: usize = 1_000;
/// Other writers can move the generation between our reading it and our batch; after so many times, nft, which has the
/// same race and repeats without end, gets the batch.
const STALE_ATTEMPTS: usize = 8;

/// nf_tables of one network namespace.
pub struct Kernel {
    command: NftCommand,
    netlink: Option<Arc<Netlink>>,
    events: Option<Events>,
    table: String,
}

impl Kernel {
    /// For `table` in the network namespace of the calling thread. Without netlink (refused to some containers) members
    /// of sets go through nft and changes by others are noticed by audits only.
    pub fn open(nft: &Path, table: &str) -> Kernel {
        let refused = |what: &str, error: &std::io::Error| warn!("{what}: netlink is refused: {error}");
        let netlink =
            Netlink::open().inspect_err(|error| refused("set members go through nft, slower", error)).ok();
        let events = Events::listen(table)
            .inspect_err(|error| refused("changes by others are noticed by audits only", error))
            .ok();
        let netlink = netlink.map(Arc::new);
        Kernel { command: NftCommand::new(nft), netlink, events, table: table.to_owned() }
    }

    /// The same without netlink, as on hosts that refuse it.
    pub fn without_netlink(nft: &Path, table: &str) -> Kernel {
        Kernel { command: NftCommand::new(nft), netlink: None, events: None, table: table.to_owned() }
    }

    async fn change_members(
        &self,
        netlink: &Arc<Netlink>,
        transaction: &Transaction,
    ) -> Result<u32, NetlinkError> {
        for _ in 0..STALE_ATTEMPTS {
            let generation = netlink.generation()?;
            let changed = if members(transaction) <= INLINE_MEMBERS {
                send(netlink, transaction, generation)
            } else {
                let (netlink, transaction) = (netlink.clone(), transaction.clone());
                let sent = tokio::task::spawn_blocking(move || send(&netlink, &transaction, generation));
                sent.await.map_err(std::io::Error::other)?
            };
            match changed {
                Err(NetlinkError::Stale) => {}
                other => return other.map(|()| generation.wrapping_add(1)),
            }
        }
        Err(NetlinkError::Stale)
    }

    async fn run_nft(&mut self, transaction: &Transaction) -> Result<Committed, NftError> {
        let before = self.generation()?;
        self.command.run(json::document(transaction)).await?;
        Ok(Committed { before, after: self.generation()? })
    }
}

fn send(netlink: &Netlink, transaction: &Transaction, generation: u32) -> Result<(), NetlinkError> {
    let change = |operation| match operation {
        &Operation::ChangeSet { ref name, kind, ref delta } => Some(SetChange { set: name, kind, delta }),
        _ => None,
    };
    let changes: Vec<SetChange<'_>> = transaction.operations.iter().filter_map(change).collect();
    netlink.change(&transaction.table, &changes, generation)
}

fn members(transaction: &Transaction) -> usize {
    let members = |operation: &Operation| match operation {
        Operation::ChangeSet { delta, .. } => delta.added.len() + delta.removed.len(),
        _ => 0,
    };
    transaction.operations.iter().map(members).sum()
}

impl Nft for Kernel {
    async fn list(&mut self) -> Result<Actual, NftError> {
        let Some(text) = self.command.list(&self.table).await? else { return Ok(Actual::default()) };
        let listed = listing::parse(&self.table, &text);
        listed.map_err(|error| NftError::Unavailable(error.to_string()))
    }

    async fn dormant(&mut self) -> Result<bool, NftError> {
        match self.netlink.as_ref().map(|netlink| netlink.dormant(&self.table)) {
            Some(Ok(dormant)) => Ok(dormant),
            Some(Err(_)) | None => Ok(self.command.dormant(&self.table).await?),
        }
    }

    async fn run(&mut self, transaction: &Transaction) -> Result<Committed, NftError> {
        let Some(netlink) = self.netlink.clone().filter(|_| transaction.elements_only()) else {
            return self.run_nft(transaction).await;
        };
        match self.change_members(&netlink, transaction).await {
            Ok(after) => Ok(Committed { before: Some(after.wrapping_sub(1)), after: Some(after) }),
            Err(NetlinkError::Missing(set)) => Err(NftError::Stale(format!("set {set} is missing"))),
            Err(NetlinkError::Refused { set, error }) => {
                Err(NftError::Refused(format!("set {set}: {error}")))
            }
            // The socket's trouble, not the transaction's: nft can still try.
            Err(
                NetlinkError::Stale
                | NetlinkError::Denied(_)
                | NetlinkError::TooLarge(_)
                | NetlinkError::Io(_),
            ) => self.run_nft(transaction).await,
        }
    }

    async fn load(&mut self, script: String) -> Result<Committed, NftError> {
        let before = self.generation()?;
        self.command.load(script).await?;
        Ok(Committed { before, after: self.generation()? })
    }

    async fn check(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        Ok(self.command.check(json::document(transaction)).await?)
    }

    fn generation(&mut self) -> Result<Option<u32>, NftError> {
        let generation = self.netlink.as_ref().map(|netlink| netlink.generation()).transpose();
        generation.map_err(|error| NftError::Unavailable(error.to_string()))
    }

    fn handles(&mut self) -> Result<Option<BTreeMap<String, Vec<u64>>>, NftError> {
        let handles = self.netlink.as_ref().map(|netlink| netlink.handles(&self.table)).transpose();
        handles.map_err(|error| NftError::Unavailable(error.to_string()))
    }

    async fn events(&mut self) -> Vec<Event> {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        match events.next().await {
            Ok(events) => events,
            Err(error) => {
                warn!("changes by others are noticed by audits only: netlink failed: {error}");
                self.events = None;
                vec![Event::Overrun]
            }
        }
    }

    fn drain(&mut self) -> Vec<Event> {
        self.events.as_mut().map(Events::drain).unwrap_or_default()
    }
}

impl From<CommandError> for NftError {
    fn from(error: CommandError) -> NftError {
        match error {
            CommandError::Refused { stderr } if is_stale(&stderr) => NftError::Stale(stderr),
            CommandError::Refused { stderr } => NftError::Refused(stderr),
            CommandError::Start { .. } => NftError::Unavailable(error.to_string()),
            CommandError::TimeLimit | CommandError::Interrupted { .. } => {
                NftError::Interrupted(error.to_string())
            }
        }
    }
}

/// Whether the kernel missed or met an object, which means that our idea of the table is old.
fn is_stale(stderr: &str) -> bool {
    ["No such file or directory", "File exists", "Device or resource busy"]
        .iter()
        .any(|sign| stderr.contains(sign))
}
