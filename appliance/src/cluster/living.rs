//! Living: whether the other members of this one's cluster have a quorum, asked before it goes on without them.
//!
//! `--force-new-cluster` beside a living majority makes a second cluster of a member that was only to be started: two
//! clusters then police the same hosts, and what is written to the one is missing in the other. Everybody whom this member
//! knows is asked at once, with its own certificate, for a few seconds at most. One that says so is believed; whoever does
//! not answer, says no, or is of another cluster by now stands in nobody's way. It refuses to decide anything else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustls::ClientConfig;
use tokio::task::JoinSet;

use super::join_trust;
use super::key_files::KeyFiles;
use super::member_client;
use super::peers;
use super::status::Standing;
use crate::identity::NodeIdentity;

/// For all of them together. Whoever lives answers from memory; a host that burnt down never does.
const PATIENCE: Duration = Duration::from_secs(4);

/// More addresses are not asked: a cluster has few members, and each few.
const ADDRESSES_MAX: usize = 256;

/// What is asked.
const PATH: &str = "/cluster/status";

/// A member that says that its cluster, which is this member's, has a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) name: String,
    pub(super) address: String,
}

/// Asks every other member that is known.
pub(super) async fn majority(data_dir: &Path, own: &NodeIdentity) -> Option<Witness> {
    // Without keys nobody would believe this member, or be believed.
    let keys = KeyFiles::open(data_dir).ok()?.load().ok()??;
    let tls = join_trust::member(&keys).ok()?;
    let known = peers::load(data_dir, &own.cluster_id)?;
    let others = known.members.into_iter().filter(|peer| peer.id != own.member_id);
    let doors = others.flat_map(|peer| {
        let name = peer.name;
        peer.api.into_iter().map(move |address| Witness { name: name.clone(), address })
    });
    let mut asked = JoinSet::new();
    for door in doors.take(ADDRESSES_MAX) {
        let (tls, cluster) = (tls.clone(), own.cluster_id.clone());
        asked.spawn(async move { says_so(&door, tls, &cluster).await.then_some(door) });
    }
    let first = async {
        while let Some(said) = asked.join_next().await {
            if let Ok(Some(witness)) = said {
                return Some(witness);
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, first).await.ok().flatten()
}

async fn says_so(door: &Witness, tls: Arc<ClientConfig>, cluster: &str) -> bool {
    let answer = match member_client::exchange(&door.address, tls, Method::GET, PATH, Vec::new()).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::info!("whether {} has a quorum can not be asked: {error}", door.name);
            return false;
        }
    };
    match serde_json::from_slice::<Standing>(&answer) {
        Ok(standing) => standing.quorum && standing.cluster == cluster,
        Err(error) => {
            tracing::info!("whether {} has a quorum can not be understood: {error}", door.name);
            false
        }
    }
}
