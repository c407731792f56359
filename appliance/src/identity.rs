//! Identity: which cluster and which member this data directory is.
//!
//! Written once, at the first start, and from then on stronger than any flag: a `--node-name` or `--join` that agrees
//! with it is ignored, one that disagrees is refused, and a host that is renamed stays the member it was. `settle` is
//! the decision, pure; `load` and `save` are its two edges. Called by `server`, before anything else is opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{JoinTarget, parse_node_name};
use crate::data_dir;
use crate::settings::Source;

/// The file in the data directory.
const IDENTITY_FILE: &str = "identity.json";

/// The form of the file that this version writes and reads.
const FORMAT: u32 = 1;

/// As many as a UUID without its dashes.
const CLUSTER_ID_DIGITS: usize = 32;

/// The member id of whoever forms a cluster; those who join are given theirs by the cluster.
const FIRST_MEMBER: u64 = 1;

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NodeIdentity {
    format: u32,
    /// The cluster, for ever: 32 hexadecimal digits, as Calico writes its GUID.
    pub(crate) cluster_id: String,
    /// The raft member.
    pub(crate) node_id: u64,
    /// The node's name, for ever.
    pub(crate) node_name: String,
    /// The member this one joined through; `None` for the one that formed the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    joined: Option<String>,
    /// Set once the cluster's first objects are in the store: from then on a missing store is a loss, not a beginning.
    pub(crate) formed: bool,
}

impl NodeIdentity {
    /// The same node, once its cluster's first objects are in the store.
    pub(crate) fn into_formed(self) -> NodeIdentity {
        NodeIdentity { formed: true, ..self }
    }

    /// The cluster's id as the number its digits write; `load` lets nothing else through.
    pub(crate) fn cluster_number(&self) -> Option<u128> {
        let hexadecimal = self.cluster_id.len() == CLUSTER_ID_DIGITS
            && self.cluster_id.bytes().all(|digit| digit.is_ascii_hexdigit());
        hexadecimal.then(|| u128::from_str_radix(&self.cluster_id, 16).ok()).flatten()
    }
}

/// Where the node's name came from, for the one line logged at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameSource {
    /// The host's own name, lower-cased.
    HostName,
    /// A setting.
    Setting(Source),
    /// Decided by an earlier start.
    DataDirectory,
}

impl fmt::Display for NameSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameSource::HostName => f.write_str("the host name"),
            NameSource::Setting(source) => source.fmt(f),
            NameSource::DataDirectory => f.write_str("the data directory"),
        }
    }
}

/// What a start asks for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The configured name.
    pub(crate) node_name: Option<&'a (String, Source)>,
    /// The configured member to join.
    pub(crate) join: Option<&'a JoinTarget>,
    /// What the host calls itself.
    pub(crate) host_name: &'a str,
    /// Used only where there is no identity yet.
    pub(crate) fresh_cluster_id: String,
}

/// Why this node can not be who it is asked to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error(
        "--node-name {wanted} disagrees with the data directory, which belongs to node {stored}; leave the flag out, or \
         name another --data-dir to start a new node"
    )]
    OtherName { stored: String, wanted: String },
    #[error(
        "--join {wanted} disagrees with the data directory, which belongs to a member of cluster {cluster}; leave the \
         flag out, or name another --data-dir to join as a new node"
    )]
    OtherCluster { cluster: String, wanted: String },
    #[error(
        "--join {wanted}: joining comes with the next release; without --join this node forms a cluster of its own"
    )]
    JoinNotYet { wanted: String },
    #[error("the host name \"{host_name}\" can not name a node; give one with --node-name")]
    HostName { host_name: String },
    #[error(
        "{path}: can not be read as this node's identity: {reason}; restore it from a backup, it is not rewritten"
    )]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "{path}: has format {found}, this version knows {FORMAT}; run the version that wrote it, or a newer one"
    )]
    Format { path: PathBuf, found: u32 },
    #[error("{path}: can not be written: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Decides who this node is: who it was, or who it is asked to become.
pub(crate) fn settle(
    stored: Option<NodeIdentity>,
    wanted: Wanted<'_>,
) -> Result<(NodeIdentity, NameSource), IdentityError> {
    let target = wanted.join.map(|join| format!("{}:{}", join.host.in_url(), join.port));
    match stored {
        Some(identity) => agree(identity, wanted.node_name, target).map(|id| (id, NameSource::DataDirectory)),
        None => form(wanted, target),
    }
}

fn agree(
    stored: NodeIdentity,
    name: Option<&(String, Source)>,
    target: Option<String>,
) -> Result<NodeIdentity, IdentityError> {
    if let Some((wanted, _)) = name.filter(|(wanted, _)| *wanted != stored.node_name) {
        return Err(IdentityError::OtherName { stored: stored.node_name, wanted: wanted.clone() });
    }
    match target.filter(|target| stored.joined.as_ref() != Some(target)) {
        Some(wanted) => Err(IdentityError::OtherCluster { cluster: stored.cluster_id, wanted }),
        None => Ok(stored),
    }
}

fn form(wanted: Wanted<'_>, target: Option<String>) -> Result<(NodeIdentity, NameSource), IdentityError> {
    if let Some(wanted) = target {
        return Err(IdentityError::JoinNotYet { wanted });
    }
    let (node_name, source) = match wanted.node_name {
        Some((name, source)) => (name.clone(), NameSource::Setting(source.clone())),
        None => (wanted.host_name.to_lowercase(), NameSource::HostName),
    };
    if parse_node_name(&node_name).is_err() {
        return Err(IdentityError::HostName { host_name: wanted.host_name.to_owned() });
    }
    let identity = NodeIdentity {
        format: FORMAT,
        cluster_id: wanted.fresh_cluster_id,
        node_id: FIRST_MEMBER,
        node_name,
        joined: None,
        formed: false,
    };
    Ok((identity, source))
}

/// The identity an earlier start left, if one did.
pub(crate) fn load(directory: &Path) -> Result<Option<NodeIdentity>, IdentityError> {
    let path = directory.join(IDENTITY_FILE);
    let unreadable =
        |path: &Path, reason: String| IdentityError::Unreadable { path: path.to_owned(), reason };
    let text = data_dir::read_small(&path).map_err(|error| unreadable(&path, error.to_string()))?;
    let Some(text) = text else { return Ok(None) };
    // The format first: a newer file may have fields that this version would call unknown.
    #[derive(Deserialize)]
    struct Envelope {
        format: u32,
    }
    let envelope: Envelope =
        serde_json::from_str(&text).map_err(|error| unreadable(&path, error.to_string()))?;
    if envelope.format != FORMAT {
        return Err(IdentityError::Format { path, found: envelope.format });
    }
    let identity: NodeIdentity =
        serde_json::from_str(&text).map_err(|error| unreadable(&path, error.to_string()))?;
    match identity.cluster_number() {
        Some(_) => Ok(Some(identity)),
        None => Err(unreadable(&path, format!("clusterId must be {CLUSTER_ID_DIGITS} hexadecimal digits"))),
    }
}

/// Makes the identity durable.
pub(crate) fn save(directory: &Path, identity: &NodeIdentity) -> Result<(), IdentityError> {
    let path = directory.join(IDENTITY_FILE);
    // Plain fields of text and numbers always serialise.
    let mut text = serde_json::to_vec_pretty(identity).unwrap_or_default();
    text.push(b'\n');
    data_dir::write_private(&path, &text).map_err(|source| IdentityError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;

    fn wanted<'a>(name: Option<&'a (String, Source)>, join: Option<&'a JoinTarget>) -> Wanted<'a> {
        Wanted {
            node_name: name,
            join,
            host_name: "My-Host",
            fresh_cluster_id: "c0ffee00000000000000000000c0ffee".to_owned(),
        }
    }

    fn named(name: &str) -> (String, Source) {
        (name.to_owned(), Source::Flag)
    }

    fn target() -> JoinTarget {
        JoinTarget { host: Host::Name("other".to_owned()), port: 6443 }
    }

    fn formed() -> NodeIdentity {
        settle(None, wanted(None, None)).expect("forms").0
    }

    #[test]
    fn the_first_start_takes_the_host_name_in_lower_case() {
        let (identity, source) = settle(None, wanted(None, None)).expect("forms");
        assert_eq!((identity.node_name.as_str(), identity.node_id), ("my-host", 1));
        assert_eq!(source.to_string(), "the host name");
    }

    #[test]
    fn the_first_start_takes_a_configured_name_as_it_stands() {
        let (identity, source) = settle(None, wanted(Some(&named("web-1.rack")), None)).expect("forms");
        assert_eq!(identity.node_name, "web-1.rack");
        assert_eq!(source.to_string(), "the command line");
    }

    #[test]
    fn later_starts_keep_the_name_and_refuse_another() {
        let (identity, source) = settle(Some(formed()), wanted(None, None)).expect("agrees");
        assert_eq!((identity, source), (formed(), NameSource::DataDirectory));
        settle(Some(formed()), wanted(Some(&named("my-host")), None)).expect("the same name is ignored");
        let refusal =
            settle(Some(formed()), wanted(Some(&named("x")), None)).expect_err("refused").to_string();
        assert!(refusal.contains("--node-name x") && refusal.contains("node my-host"), "{refusal}");
    }

    #[test]
    fn join_is_refused_and_the_refusal_tells_which_kind() {
        let target = target();
        let fresh = settle(None, wanted(None, Some(&target))).expect_err("refused").to_string();
        assert!(fresh.contains("joining comes with the next release"), "{fresh}");
        let member = settle(Some(formed()), wanted(None, Some(&target))).expect_err("refused").to_string();
        assert!(member.contains("--join other:6443 disagrees") && member.contains("c0ffee"), "{member}");
    }

    #[test]
    fn a_join_that_agrees_is_ignored() {
        let joined = NodeIdentity { joined: Some("other:6443".to_owned()), ..formed() };
        settle(Some(joined), wanted(None, Some(&target()))).expect("agrees");
    }

    #[test]
    fn a_host_without_a_usable_name_is_told_what_to_do() {
        let nameless = Wanted { host_name: "", ..wanted(None, None) };
        assert!(settle(None, nameless).expect_err("refused").to_string().contains("--node-name"));
    }

    #[test]
    fn what_was_saved_is_loaded_and_what_is_damaged_is_never_replaced() {
        let directory = tempfile::tempdir().expect("tempdir");
        assert_eq!(load(directory.path()).expect("reads"), None);
        save(directory.path(), &formed()).expect("saves");
        assert_eq!(load(directory.path()).expect("reads"), Some(formed()));

        let file = directory.path().join(IDENTITY_FILE);
        for (text, says) in [
            ("", "can not be read as this node's identity"),
            ("{\"format\":1}", "missing field"),
            (
                "{\"format\":1,\"clusterId\":\"+1\",\"nodeId\":1,\"nodeName\":\"a\",\"formed\":true}",
                "32 hexadecimal digits",
            ),
            ("{\"format\":2,\"later\":true}", "has format 2"),
        ] {
            std::fs::write(&file, text).expect("write");
            let refusal = load(directory.path()).expect_err("refused").to_string();
            assert!(refusal.contains(says), "{refusal}");
        }
    }
}
