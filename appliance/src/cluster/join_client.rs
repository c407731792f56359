//! Join client: how a node with an empty data directory becomes a member, or a member that lost its data a new one.
//!
//! What it is going to be (its id and its key) is drawn and made durable in `join.json` before anybody is asked, so that a
//! join that dies half way is repeated and answered the same. What it is answered is made durable in the order in which
//! it is needed: the keys, the peers, and last the identity, which is what makes the directory a member's. It trusts
//! nobody but the authority that the token pins, or the ones it has always trusted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::certificate::split_bundle;
use super::join_protocol::{JoinAnswer, JoinRequest, PATH};
use super::join_trust::{self, TrustError};
use super::key_files::{KeyFiles, KeyFilesError};
use super::keys::Keys;
use super::member_client;
use super::peers::{self, Peers};
use super::records::MemberId;
use super::seal::{SealError, SealKey};
use super::token::{JoinToken, NotAToken};
use crate::author;
use crate::authority::Pem;
use crate::config::{JoinTarget, Secret};
use crate::data_dir;
use crate::identity::{self, IdentityError, NodeIdentity};
use crate::planted;
use crate::version;

/// What this node is going to be, in the data directory until it is.
pub(super) const FILE: &str = "join.json";

/// The form of the file.
const FORMAT: u32 = 1;

/// A member that can not be reached, or has no quorum, is asked again for this long; then whoever started us sees why.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// For one question: a member waits this long for its own quorum, and a little more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// For telling a member that nobody will come.
const DECLINE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a node is no member.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("--join {target} needs --token; \"appliance ctl token create\" on a member prints one")]
    NoToken { target: String },
    #[error("--token {0}")]
    Token(NotAToken),
    #[error("{target} refuses this node: {reason}")]
    Refused { target: String, reason: String },
    #[error("{target} can not let this node join now: {reason}")]
    NotNow { target: String, reason: String },
    #[error("no connection to {target}: {source}")]
    Connect { target: String, source: io::Error },
    #[error(
        "{target} is not of the cluster the token is for: {reason}; check the address, or make a token on that cluster"
    )]
    Untrusted { target: String, reason: String },
    #[error("{target} answered something else than a member would: {reason}")]
    Odd { target: String, reason: String },
    #[error("{path}: {attempt}: {source}")]
    File { path: PathBuf, attempt: &'static str, source: io::Error },
    #[error("{path}: can not be read as the beginning of a join: {reason}; remove it to begin anew")]
    Unreadable { path: PathBuf, reason: String },
    #[error("a key could not be made: {0}")]
    Key(String),
    #[error("no member of the cluster is known: peers.json is missing or damaged")]
    NoPeers,
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Files(#[from] KeyFilesError),
    #[error("the sealing key in the answer {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl JoinError {
    /// Whether a later moment, or another member, may answer otherwise.
    pub(super) fn passes(&self) -> bool {
        matches!(self, JoinError::NotNow { .. } | JoinError::Connect { .. })
    }
}

/// What a node is going to be.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    format: u32,
    member: MemberId,
    name: String,
    /// The private key, PEM.
    key: String,
    /// The member it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<MemberId>,
}

/// This node, as it will present itself.
pub(crate) struct Joiner<'a> {
    /// Its data directory.
    pub(crate) data_dir: &'a Path,
    /// Its name.
    pub(crate) name: &'a str,
    /// `host:port` for its peers.
    pub(crate) peer: Vec<String>,
    /// `host:port` of its API.
    pub(crate) api: Vec<String>,
}

impl Joiner<'_> {
    /// Joins the cluster of `target`; durable when this returns.
    pub(crate) async fn join(
        &self,
        target: &JoinTarget,
        token: Option<&Secret>,
    ) -> Result<NodeIdentity, JoinError> {
        let token = token.ok_or_else(|| JoinError::NoToken { target: target.to_string() })?;
        let parsed: JoinToken = token.0.trim().parse().map_err(JoinError::Token)?;
        let intent = self.intent(None)?;
        let tls = join_trust::pinned(&parsed.pin)?;
        tracing::info!("joining the cluster of {target} as member {}", intent.member);
        let targets = [target.to_string()];
        let (through, answer) = self.ask(&targets, &tls, &intent, Some(token.0.trim())).await?;
        self.settle(intent, through, answer)
    }

    /// Begins again as a new member in place of the one it was, which its certificate proves.
    pub(crate) async fn replace(&self, was: &NodeIdentity) -> Result<NodeIdentity, JoinError> {
        let files = KeyFiles::open(self.data_dir)?;
        let keys = files.load()?.ok_or(JoinError::NoPeers)?;
        let peers = peers::load(self.data_dir, &was.cluster_id).unwrap_or_default();
        let others = peers.members.iter().filter(|peer| peer.id != was.member_id);
        let targets: Vec<String> = others.flat_map(|peer| peer.api.clone()).collect();
        if targets.is_empty() {
            return Err(JoinError::NoPeers);
        }
        let intent = self.intent(Some(was.member_id))?;
        let tls = join_trust::member(&keys)?;
        tracing::info!("member {} begins again as {}, with a fresh copy", was.member_id, intent.member);
        let (through, answer) = self.ask(&targets, &tls, &intent, None).await?;
        self.settle(intent, through, answer)
    }

    /// What this node is going to be: what it was going to be at an earlier attempt, else something new.
    fn intent(&self, replaces: Option<MemberId>) -> Result<Intent, JoinError> {
        let path = self.data_dir.join(FILE);
        let failed =
            |attempt| move |source| JoinError::File { path: self.data_dir.join(FILE), attempt, source };
        if let Some(text) = data_dir::read_small(&path).map_err(failed("can not be read"))? {
            let unreadable = |reason: String| JoinError::Unreadable { path: path.clone(), reason };
            let intent: Intent =
                serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
            if intent.format != FORMAT {
                return Err(unreadable(format!("it has format {}", intent.format)));
            }
            if intent.name == self.name && intent.replaces == replaces {
                tracing::info!("an earlier attempt to join as member {} goes on", intent.member);
                return Ok(intent);
            }
            tracing::warn!(
                "an earlier attempt wanted to join as node {}, member {}; if it is in the member list, remove it",
                intent.name,
                intent.member
            );
        }
        let key = rcgen::KeyPair::generate().map_err(|error| JoinError::Key(error.to_string()))?;
        let intent = Intent {
            format: FORMAT,
            member: MemberId::random(),
            name: self.name.to_owned(),
            key: key.serialize_pem(),
            replaces,
        };
        let text = serde_json::to_vec_pretty(&intent).unwrap_or_default();
        data_dir::write_private(&path, &text).map_err(failed("can not be written"))?;
        Ok(intent)
    }

    /// Asks the targets, one after the other, until one answers for good.
    async fn ask(
        &self,
        targets: &[String],
        tls: &Arc<ClientConfig>,
        intent: &Intent,
        token: Option<&str>,
    ) -> Result<(String, JoinAnswer), JoinError> {
        let deadline = Instant::now() + PATIENCE;
        let csr = request_for(&intent.key)?;
        for target in targets.iter().cycle() {
            let request = JoinRequest {
                token: token.map(str::to_owned),
                member: intent.member,
                name: intent.name.clone(),
                csr: csr.clone(),
                peer: self.peer.clone(),
                api: self.api.clone(),
                version: version::VERSION.to_owned(),
                protocol: planted::protocol(),
                now_ms: author::now_ms(),
                replaces: intent.replaces,
                belongs_to: None,
            };
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(target, tls.clone(), &request)).await;
            let late =
                || JoinError::NotNow { target: target.clone(), reason: "it does not answer".to_owned() };
            match asked.unwrap_or_else(|_| Err(late())) {
                Ok(answer) => return Ok((target.clone(), answer)),
                Err(error) if error.passes() && Instant::now() < deadline => {
                    tracing::warn!("{error}; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(JoinError::NoPeers)
    }

    /// Makes the answer durable, in the order in which it is needed.
    fn settle(&self, intent: Intent, through: String, answer: JoinAnswer) -> Result<NodeIdentity, JoinError> {
        let odd = |reason: &str| JoinError::Odd { target: through.clone(), reason: reason.to_owned() };
        let bundle = split_bundle(&answer.ca_bundle);
        if bundle.is_empty() || identity::cluster_number(&answer.cluster).is_none() {
            return Err(odd("a cluster id or its authority is missing"));
        }
        let files = KeyFiles::open(self.data_dir)?;
        files.save_seal(&SealKey::from_base64(&answer.seal_key)?)?;
        let node = Pem { certificate: answer.certificate, key: intent.key };
        files.save(&Keys { bundle, node, api: None, admin: None })?;
        let known = Peers { members: answer.members, ..Peers::default() };
        peers::save(self.data_dir, &answer.cluster, &known).map_err(|source| JoinError::File {
            path: self.data_dir.join("peers.json"),
            attempt: "can not be written",
            source,
        })?;
        let identity = NodeIdentity::joiner(answer.cluster, intent.member, intent.name, through);
        if intent.replaces.is_none() {
            identity::save(self.data_dir, &identity)?;
            forget(self.data_dir);
        }
        Ok(identity)
    }
}

/// Tells a member that a node it has a token for will not come, since its data is of another cluster: whoever waits for it
/// there would look in vain for a reason. The request asks for nothing (it has no key), so that no member of any version
/// lets it in. Whether it is heard changes nothing here.
pub(crate) async fn decline(target: &JoinTarget, token: &Secret, identity: &NodeIdentity) {
    let text = token.0.trim();
    let Some(tls) = text.parse::<JoinToken>().ok().and_then(|token| join_trust::pinned(&token.pin).ok())
    else {
        return;
    };
    let nowhere = vec![format!("{}:0", identity.node_name)];
    let request = JoinRequest {
        token: Some(text.to_owned()),
        member: MemberId::random(),
        name: identity.node_name.clone(),
        csr: String::new(),
        peer: nowhere.clone(),
        api: nowhere,
        version: version::VERSION.to_owned(),
        protocol: planted::protocol(),
        now_ms: author::now_ms(),
        replaces: None,
        belongs_to: Some(identity.cluster_id.clone()),
    };
    let told = tokio::time::timeout(DECLINE_TIMEOUT, ask(&target.to_string(), tls, &request)).await;
    match told {
        Ok(Err(JoinError::Refused { .. })) => {}
        Ok(Ok(_)) => tracing::warn!("{target} took a node in that asked for nothing"),
        Ok(Err(error)) => tracing::debug!("{target} could not be told: {error}"),
        Err(_) => tracing::debug!("{target} could not be told in time"),
    }
}

/// What an earlier attempt left that did not end. Whatever can not be looked at is taken for one.
pub(crate) fn unfinished(data_dir: &Path) -> Option<PathBuf> {
    let path = data_dir.join(FILE);
    path.try_exists().unwrap_or(true).then_some(path)
}

/// What a node was going to be, it is.
pub(crate) fn forget(data_dir: &Path) {
    match std::fs::remove_file(data_dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{FILE}: can not be removed: {error}");
        }
        _ => {}
    }
}

/// The certificate request for a key.
fn request_for(key: &str) -> Result<String, JoinError> {
    let failed = |error: rcgen::Error| JoinError::Key(error.to_string());
    let key = rcgen::KeyPair::from_pem(key).map_err(failed)?;
    let request = rcgen::CertificateParams::default().serialize_request(&key).map_err(failed)?;
    request.pem().map_err(failed)
}

/// One question to one member.
async fn ask(target: &str, tls: Arc<ClientConfig>, request: &JoinRequest) -> Result<JoinAnswer, JoinError> {
    let odd = |error: String| JoinError::Odd { target: target.to_owned(), reason: error };
    let body = serde_json::to_vec(request).map_err(|error| odd(error.to_string()))?;
    let answer = member_client::exchange(target, tls, Method::POST, PATH, body).await?;
    serde_json::from_slice(&answer).map_err(|error| odd(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joiner(directory: &Path) -> Joiner<'_> {
        Joiner { data_dir: directory, name: "n2", peer: Vec::new(), api: Vec::new() }
    }

    #[test]
    fn an_attempt_that_died_goes_on_with_the_same_id_and_key() {
        let directory = tempfile::tempdir().expect("tempdir");
        let first = joiner(directory.path()).intent(None).expect("drawn");
        let again = joiner(directory.path()).intent(None).expect("kept");
        assert_eq!((first.member, &first.key), (again.member, &again.key));

        let other = Joiner { name: "n3", ..joiner(directory.path()) }.intent(None).expect("drawn anew");
        assert_ne!(first.member, other.member);
        let successor = joiner(directory.path()).intent(Some(first.member)).expect("drawn anew");
        assert_ne!(successor.member, first.member);

        assert_eq!(unfinished(directory.path()), Some(directory.path().join(FILE)));
        forget(directory.path());
        assert_eq!(unfinished(directory.path()), None);
    }

    #[test]
    fn a_damaged_beginning_is_named_and_kept() {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::write(directory.path().join(FILE), "{").expect("write");
        let refusal = joiner(directory.path()).intent(None).err().expect("refused").to_string();
        assert!(refusal.contains("join.json") && refusal.contains("remove it"), "{refusal}");
    }

    #[test]
    fn a_request_is_made_for_the_key() {
        let directory = tempfile::tempdir().expect("tempdir");
        let intent = joiner(directory.path()).intent(None).expect("drawn");
        assert!(request_for(&intent.key).expect("made").contains("CERTIFICATE REQUEST"));
        assert!(matches!(request_for("no key"), Err(JoinError::Key(_))));
    }
}
