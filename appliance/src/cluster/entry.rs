//! Entry: from what the data directory and the settings say to who this node is.
//!
//! One of four: the member it was; the first of a new cluster; a new one of a cluster it joins; or a new one in place of
//! the one it was, whose data is of no use any more. What was begun is finished at the next start, so each of them may
//! die at any point. A survivor that is to go on alone has become somebody else before this ([`super::recover`]).

use super::join_client::{self, JoinError, Joiner};
use super::peers;
use super::records::MemberId;
use super::reseed::{self, ReseedError};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::host;
use crate::identity::{self, IdentityError, NodeIdentity, Settled, Wanted};

/// Why this node is nobody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Reseed(#[from] ReseedError),
}

/// Decides who this node is to be; asks nobody.
pub(crate) fn settle(config: &Config, data_dir: &DataDir) -> Result<Settled, EntryError> {
    let host_name = host::name();
    let stored = identity::load(data_dir.path())?;
    let known = stored.as_ref().and_then(|stored| peers::load(data_dir.path(), &stored.cluster_id));
    let known: Vec<String> =
        known.unwrap_or_default().members.into_iter().flat_map(|member| member.api).collect();
    let wanted = Wanted {
        node_name: config.node_name.as_ref(),
        join: config.join.as_ref(),
        token: config.token.is_some(),
        host_name: &host_name,
        unfinished_join: join_client::unfinished(data_dir.path()),
        known: &known,
        fresh_cluster_id: uuid::Uuid::new_v4().simple().to_string(),
        fresh_member: MemberId::random(),
    };
    let (settled, source) = identity::settle(stored, wanted)?;
    tracing::info!("node name is {} (from {source})", settled.node_name());
    Ok(settled)
}

/// Says what [`settle`] refused where somebody else waits for it too: at the member that this node was told to join.
pub(crate) async fn decline(config: &Config, data_dir: &DataDir, error: &EntryError) {
    let (EntryError::Identity(IdentityError::OtherCluster { .. }), Some(target), Some(token)) =
        (error, &config.join, &config.token)
    else {
        return;
    };
    if let Ok(Some(identity)) = identity::load(data_dir.path()) {
        join_client::decline(target, token, &identity).await;
    }
}

/// Makes it so, durably; asks other members if it must.
pub(crate) async fn enter(
    config: &Config,
    settled: Settled,
    joiner: &Joiner<'_>,
) -> Result<NodeIdentity, EntryError> {
    let data_dir = joiner.data_dir;
    let identity = match (settled, &config.join) {
        (Settled::Stands(identity), _) => {
            if reseed::wanted(data_dir).is_none() {
                join_client::forget(data_dir);
            }
            identity
        }
        (Settled::Founds(identity), _) => {
            identity::save(data_dir, &identity)?;
            identity
        }
        (Settled::Joins { .. }, Some(target)) => joiner.join(target, config.token.as_ref()).await?,
        (Settled::Joins { node_name }, None) => {
            // `settle` asks for a join only where there is a target.
            return Err(IdentityError::HostName { host_name: node_name }.into());
        }
    };
    match reseed::wanted(data_dir).filter(|_| !identity.removed) {
        Some(reason) => Ok(reseed::carry_out(joiner, &identity, &reason).await?),
        None => Ok(identity),
    }
}

/// Whether other members are known, who could give this one a fresh copy.
pub(crate) fn has_peers(data_dir: &DataDir, identity: &NodeIdentity) -> bool {
    let known = peers::load(data_dir.path(), &identity.cluster_id).unwrap_or_default();
    known.members.iter().any(|member| member.id != identity.member_id)
}
