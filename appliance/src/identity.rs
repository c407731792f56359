//! Identity: which cluster and which member this data directory is.
//!
//! Written once, at the first start, and from then on stronger than any flag: a `--node-name` or `--join` that agrees
//! with it is ignored, one that disagrees is refused, and a host that is renamed stays the member it was. `settle` is
//! the decision, pure; `load` and `save` are its two edges. Called by `server`, before anything else is opened. A
//! directory is one member for ever: a node that begins again, because its data is gone or it was removed, is a new one.
//! The file has a sum over itself: a node whose name lost a bit would be another one, whose host no policy names.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use appliance_storage::ClusterId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cluster::records::MemberId;
use crate::cluster::token::hex;
use crate::config::{JoinTarget, parse_node_name};
use crate::data_dir;
use crate::settings::Source;

/// The file in the data directory.
const IDENTITY_FILE: &str = "identity.json";

/// The form of the file that this version writes.
const FORMAT: u32 = 2;

/// The form before there were clusters of several members; read, and written anew in ours when something changes.
const FORMAT_BEFORE: u32 = 1;

/// The field with the sum over the others; missing where a version before wrote the file.
const SUM: &str = "sum";

/// As many as a UUID without its dashes.
const CLUSTER_ID_DIGITS: usize = 32;

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NodeIdentity {
    format: u32,
    /// The cluster, for ever: 32 hexadecimal digits, as Calico writes its GUID.
    pub(crate) cluster_id: String,
    /// The raft member.
    pub(crate) member_id: MemberId,
    /// The node's name, for ever.
    pub(crate) node_name: String,
    /// The member this one joined through; `None` for the one that formed the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    joined: Option<String>,
    /// Set once this member's log exists: from then on a missing log or store is a loss, not a beginning.
    pub(crate) formed: bool,
    /// The cluster has removed this member: it takes part in nothing any more, and enforces what it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) removed: bool,
}

/// The same file, as the version before wrote it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Before {
    #[serde(rename = "format")]
    _format: u32,
    cluster_id: String,
    node_id: u64,
    node_name: String,
    #[serde(default)]
    joined: Option<String>,
    formed: bool,
}

impl From<Before> for NodeIdentity {
    fn from(before: Before) -> NodeIdentity {
        NodeIdentity {
            format: FORMAT,
            cluster_id: before.cluster_id,
            member_id: MemberId(before.node_id),
            node_name: before.node_name,
            joined: before.joined,
            formed: before.formed,
            removed: false,
        }
    }
}

impl NodeIdentity {
    /// The first member of a cluster that has no log yet.
    pub(crate) fn founder(cluster_id: String, member_id: MemberId, node_name: String) -> NodeIdentity {
        NodeIdentity {
            format: FORMAT,
            cluster_id,
            member_id,
            node_name,
            joined: None,
            formed: false,
            removed: false,
        }
    }

    /// A member that joined through another, and has no log yet.
    pub(crate) fn joiner(
        cluster_id: String,
        member_id: MemberId,
        node_name: String,
        through: String,
    ) -> NodeIdentity {
        NodeIdentity { joined: Some(through), ..NodeIdentity::founder(cluster_id, member_id, node_name) }
    }

    /// Whether an empty log waits for the cluster's state instead of beginning one.
    pub(crate) fn is_joiner(&self) -> bool {
        self.joined.is_some()
    }

    /// The same node, once its log exists.
    pub(crate) fn into_formed(self) -> NodeIdentity {
        NodeIdentity { formed: true, ..self }
    }

    /// The same node as the first member of another cluster, made of what this one holds.
    pub(crate) fn refounded(
        self,
        cluster_id: String,
        member_id: MemberId,
        node_name: String,
    ) -> NodeIdentity {
        NodeIdentity { format: FORMAT, cluster_id, member_id, node_name, removed: false, ..self }
    }

    /// The same node, as one whose cluster has no authority yet.
    pub(crate) fn into_founder(self) -> NodeIdentity {
        NodeIdentity { joined: None, formed: false, ..self }
    }

    /// The cluster as its store is marked.
    pub(crate) fn store_cluster(&self) -> ClusterId {
        ClusterId(self.cluster_number().to_be_bytes())
    }

    /// The cluster as its log is marked: half of the digits tell it from any other as well as all do.
    pub(crate) fn log_number(&self) -> u64 {
        (self.cluster_number() & u128::from(u64::MAX)) as u64
    }

    /// The same node, once its cluster has removed it.
    pub(crate) fn into_removed(self) -> NodeIdentity {
        NodeIdentity { removed: true, ..self }
    }

    /// The cluster's id as the number its digits write; zero for digits that are none, which `load` does not let through.
    pub(crate) fn cluster_number(&self) -> u128 {
        cluster_number(&self.cluster_id).unwrap_or_default()
    }
}

/// The number that a cluster's id writes.
pub(crate) fn cluster_number(id: &str) -> Option<u128> {
    let hexadecimal = id.len() == CLUSTER_ID_DIGITS && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    hexadecimal.then(|| u128::from_str_radix(id, 16).ok()).flatten()
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
    /// Whether a join token is configured.
    pub(crate) token: bool,
    /// What the host calls itself.
    pub(crate) host_name: &'a str,
    /// The file that a join left which is not finished.
    pub(crate) unfinished_join: Option<PathBuf>,
    /// `host:port` of the APIs of members this node knows, itself among them: joining one of these is what it did.
    pub(crate) known: &'a [String],
    /// Used only where there is no identity yet.
    pub(crate) fresh_cluster_id: String,
    /// Used only where there is no identity yet.
    pub(crate) fresh_member: MemberId,
}

/// Who a start is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Who the data directory says.
    Stands(NodeIdentity),
    /// The first member of a new cluster; to be saved before anything is made in its name.
    Founds(NodeIdentity),
    /// Nobody yet: a member of the cluster it is to ask, under this name.
    Joins {
        /// The node's name.
        node_name: String,
    },
}

impl Settled {
    /// The node's name.
    pub(crate) fn node_name(&self) -> &str {
        match self {
            Settled::Stands(identity) | Settled::Founds(identity) => &identity.node_name,
            Settled::Joins { node_name } => node_name,
        }
    }
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
        "--join {wanted} disagrees with the data directory, which belongs to a member of cluster {cluster} that knows no \
         such member; leave the flag out, or name another --data-dir to join as a new node"
    )]
    OtherCluster { cluster: String, wanted: String },
    #[error(
        "--token without --join: it would begin a cluster of its own; add --join HOST:PORT, as \"appliance ctl token \
         create\" prints it, or leave the token out to begin one"
    )]
    TokenAlone,
    #[error(
        "{path}: a join was begun here and is not finished, and without --join this start would begin a cluster of its own; \
         repeat the join command (\"appliance run --join HOST:PORT --token TOKEN\"), or remove that file to begin a cluster"
    )]
    UnfinishedJoin { path: PathBuf },
    #[error("the host name \"{host_name}\" can not name a node; give one with --node-name")]
    HostName { host_name: String },
    #[error(
        "{path}: can not be read as this node's identity: {reason}; it is not rewritten: restore it from a backup, or, in a \
         cluster of several, take this host out on another member (\"appliance ctl member remove\"), move the data directory \
         away and join again"
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
) -> Result<(Settled, NameSource), IdentityError> {
    match stored {
        Some(identity) => agree(identity, &wanted).map(|id| (Settled::Stands(id), NameSource::DataDirectory)),
        None => begin(wanted),
    }
}

fn agree(stored: NodeIdentity, wanted: &Wanted<'_>) -> Result<NodeIdentity, IdentityError> {
    if let Some((name, _)) = wanted.node_name.filter(|(name, _)| *name != stored.node_name) {
        return Err(IdentityError::OtherName { stored: stored.node_name, wanted: name.clone() });
    }
    let target = wanted.join.map(JoinTarget::to_string);
    let agrees = |target: &String| stored.joined.as_ref() == Some(target) || wanted.known.contains(target);
    match target.filter(|target| !agrees(target)) {
        Some(wanted) => Err(IdentityError::OtherCluster { cluster: stored.cluster_id, wanted }),
        None => Ok(stored),
    }
}

fn begin(wanted: Wanted<'_>) -> Result<(Settled, NameSource), IdentityError> {
    let (node_name, source) = match wanted.node_name {
        Some((name, source)) => (name.clone(), NameSource::Setting(source.clone())),
        None => (wanted.host_name.to_lowercase(), NameSource::HostName),
    };
    if parse_node_name(&node_name).is_err() {
        return Err(IdentityError::HostName { host_name: wanted.host_name.to_owned() });
    }
    let settled = match (wanted.join, wanted.unfinished_join) {
        (Some(_), _) => Settled::Joins { node_name },
        // Whoever gives a token means to join; a cluster begun by mistake polices nothing and has to be wiped.
        (None, _) if wanted.token => return Err(IdentityError::TokenAlone),
        // So does a host whose join was interrupted, whatever started it now.
        (None, Some(path)) => return Err(IdentityError::UnfinishedJoin { path }),
        (None, None) => {
            Settled::Founds(NodeIdentity::founder(wanted.fresh_cluster_id, wanted.fresh_member, node_name))
        }
    };
    Ok((settled, source))
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
    if ![FORMAT, FORMAT_BEFORE].contains(&envelope.format) {
        return Err(IdentityError::Format { path, found: envelope.format });
    }
    let fields = proven(&text).map_err(|reason| unreadable(&path, reason))?;
    let identity = match envelope.format {
        FORMAT_BEFORE => serde_json::from_value::<Before>(fields).map(NodeIdentity::from),
        _ => serde_json::from_value::<NodeIdentity>(fields),
    };
    let identity = identity.map_err(|error| unreadable(&path, error.to_string()))?;
    if identity.member_id == MemberId(0) {
        return Err(unreadable(&path, "the member's id is zero".to_owned()));
    }
    match cluster_number(&identity.cluster_id) {
        Some(_) => Ok(Some(identity)),
        None => Err(unreadable(&path, format!("clusterId must be {CLUSTER_ID_DIGITS} hexadecimal digits"))),
    }
}

/// The fields without their sum, if that agrees.
fn proven(text: &str) -> Result<Value, String> {
    let mut fields: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let said = fields.as_object_mut().and_then(|fields| fields.remove(SUM));
    match said {
        Some(said) if said != sum(&fields) => {
            Err("it was damaged: its sum does not agree with it".to_owned())
        }
        _ => Ok(fields),
    }
}

/// The sum over the fields, whatever stands between them.
fn sum(fields: &Value) -> String {
    hex(&Sha256::digest(fields.to_string()))
}

/// Makes the identity durable.
pub(crate) fn save(directory: &Path, identity: &NodeIdentity) -> Result<(), IdentityError> {
    let path = directory.join(IDENTITY_FILE);
    let failed = |source| IdentityError::Write { path: path.clone(), source };
    let mut fields = serde_json::to_value(identity).map_err(|error| failed(error.into()))?;
    fields[SUM] = sum(&fields).into();
    let text = format!("{fields:#}\n");
    data_dir::write_private(&path, text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;

    fn wanted<'a>(name: Option<&'a (String, Source)>, join: Option<&'a JoinTarget>) -> Wanted<'a> {
        Wanted {
            node_name: name,
            join,
            token: false,
            host_name: "My-Host",
            unfinished_join: None,
            known: &[],
            fresh_cluster_id: "c0ffee00000000000000000000c0ffee".to_owned(),
            fresh_member: MemberId(7),
        }
    }

    fn named(name: &str) -> (String, Source) {
        (name.to_owned(), Source::Flag)
    }

    fn target() -> JoinTarget {
        JoinTarget { host: Host::Name("other".to_owned()), port: 6443 }
    }

    fn founded() -> NodeIdentity {
        match settle(None, wanted(None, None)).expect("founds") {
            (Settled::Founds(identity), _) => identity,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_start_takes_the_host_name_in_lower_case() {
        let (settled, source) = settle(None, wanted(None, None)).expect("founds");
        let Settled::Founds(identity) = settled else { panic!("{settled:?}") };
        assert_eq!((identity.node_name.as_str(), identity.member_id), ("my-host", MemberId(7)));
        assert_eq!(source.to_string(), "the host name");
    }

    #[test]
    fn the_first_start_takes_a_configured_name_as_it_stands() {
        let target = target();
        let (settled, source) =
            settle(None, wanted(Some(&named("web-1.rack")), Some(&target))).expect("joins");
        assert_eq!(settled, Settled::Joins { node_name: "web-1.rack".to_owned() });
        assert_eq!(source.to_string(), "the command line");
    }

    #[test]
    fn a_host_whose_join_was_interrupted_founds_nothing() {
        let begun = |join| Wanted { unfinished_join: Some("/data/join.json".into()), ..wanted(None, join) };
        let refusal = settle(None, begun(None)).expect_err("refused").to_string();
        for words in ["/data/join.json", "--join HOST:PORT --token TOKEN", "remove that file"] {
            assert!(refusal.contains(words), "{refusal}");
        }
        let target = target();
        let (settled, _) = settle(None, begun(Some(&target))).expect("goes on");
        assert_eq!(settled, Settled::Joins { node_name: "my-host".to_owned() });
        let (settled, _) = settle(Some(founded()), begun(None)).expect("who it is stands");
        assert_eq!(settled, Settled::Stands(founded()), "a member's directory is no joiner's");
    }

    #[test]
    fn later_starts_keep_the_name_and_refuse_another() {
        let (settled, source) = settle(Some(founded()), wanted(None, None)).expect("agrees");
        assert_eq!((settled, source), (Settled::Stands(founded()), NameSource::DataDirectory));
        settle(Some(founded()), wanted(Some(&named("my-host")), None)).expect("the same name is ignored");
        let refusal =
            settle(Some(founded()), wanted(Some(&named("x")), None)).expect_err("refused").to_string();
        assert!(refusal.contains("--node-name x") && refusal.contains("node my-host"), "{refusal}");
    }

    #[test]
    fn a_member_of_another_cluster_does_not_join() {
        let target = target();
        let refusal = settle(Some(founded()), wanted(None, Some(&target))).expect_err("refused").to_string();
        assert!(refusal.contains("--join other:6443 disagrees") && refusal.contains("c0ffee"), "{refusal}");
    }

    #[test]
    fn a_join_that_agrees_is_ignored() {
        let joined = NodeIdentity { joined: Some("other:6443".to_owned()), ..founded() };
        settle(Some(joined), wanted(None, Some(&target()))).expect("it is what it did");
        let known = ["other:6443".to_owned()];
        settle(Some(founded()), Wanted { known: &known, ..wanted(None, Some(&target())) })
            .expect("a member of its cluster");
    }

    #[test]
    fn a_token_without_a_member_to_join_begins_nothing_and_is_ignored_later() {
        let forgotten = || Wanted { token: true, ..wanted(None, None) };
        assert!(settle(None, forgotten()).expect_err("refused").to_string().contains("add --join HOST:PORT"));
        settle(Some(founded()), forgotten()).expect("a member needs neither");
        let target = target();
        settle(None, Wanted { token: true, ..wanted(None, Some(&target)) }).expect("joins");
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
        for identity in [founded(), founded().into_formed(), founded().into_removed()] {
            save(directory.path(), &identity).expect("saves");
            assert_eq!(load(directory.path()).expect("reads"), Some(identity));
        }
        let file = directory.path().join(IDENTITY_FILE);
        for (text, says) in [
            ("", "can not be read as this node's identity"),
            ("{\"format\":2}", "missing field"),
            (
                "{\"format\":1,\"clusterId\":\"+1\",\"nodeId\":1,\"nodeName\":\"a\",\"formed\":true}",
                "32 hexadecimal digits",
            ),
            ("{\"format\":3,\"later\":true}", "has format 3"),
        ] {
            std::fs::write(&file, text).expect("write");
            let refusal = load(directory.path()).expect_err("refused").to_string();
            assert!(refusal.contains(says), "{refusal}");
        }
    }

    #[test]
    fn no_flipped_bit_makes_another_node_of_it() {
        let directory = tempfile::tempdir().expect("tempdir");
        let stands = founded().into_formed();
        save(directory.path(), &stands).expect("saves");
        let file = directory.path().join(IDENTITY_FILE);
        let whole = std::fs::read(&file).expect("read");
        for bit in 0..whole.len() * 8 {
            let mut harmed = whole.clone();
            harmed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, harmed).expect("write");
            // A blank between fields may turn into another.
            assert!(load(directory.path()).map_or(true, |read| read.as_ref() == Some(&stands)), "bit {bit}");
        }
        for length in 0..whole.len() - 1 {
            std::fs::write(&file, &whole[..length]).expect("write");
            load(directory.path()).expect_err("refused");
        }
        let renamed = String::from_utf8(whole).expect("text").replace("my-host", "my-hosu");
        std::fs::write(&file, renamed).expect("write");
        let refusal = load(directory.path()).expect_err("refused").to_string();
        assert!(
            refusal.contains("it was damaged") && refusal.contains("restore it from a backup"),
            "{refusal}"
        );
    }

    #[test]
    fn a_file_without_a_sum_is_of_the_version_before_that() {
        let directory = tempfile::tempdir().expect("tempdir");
        let text = serde_json::to_vec_pretty(&founded()).expect("JSON");
        std::fs::write(directory.path().join(IDENTITY_FILE), text).expect("write");
        assert_eq!(load(directory.path()).expect("reads"), Some(founded()));
    }

    #[test]
    fn the_file_of_the_version_before_is_the_same_node() {
        let directory = tempfile::tempdir().expect("tempdir");
        let text = "{\"format\":1,\"clusterId\":\"c0ffee00000000000000000000c0ffee\",\"nodeId\":1,\
                    \"nodeName\":\"my-host\",\"formed\":true}";
        std::fs::write(directory.path().join(IDENTITY_FILE), text).expect("write");
        let identity = load(directory.path()).expect("reads").expect("there");
        assert_eq!(identity, NodeIdentity { member_id: MemberId(1), ..founded().into_formed() });
        assert!(!identity.is_joiner());
    }
}
