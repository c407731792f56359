//! The words that manage the cluster itself: its members, its backups, its keys. Declared once; the help is the manual.
//!
//! As in [`super`], only shapes: what a name means is the node's to say.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// How the commands of the cluster print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns and sentences, for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// What the node answered.
    Json,
    /// The same as YAML.
    Yaml,
}

/// `-o`, for what has no other formats.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OutputFlag {
    /// table, wide, json or yaml
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    pub(crate) output: Output,
}

/// `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print the command that joins a host with it
    #[command(after_help = "Examples:\n  \
        appliance ctl token create\n  \
        appliance ctl token create --ttl 15m --uses 1 --description 'rack 7'\n\n\
        Run the command it prints on the host that is to join. The token names this cluster's CA, so the host can not be\n\
        led to another one; it is shown once and stored hashed.")]
    Create(TokenCreate),
    /// Show the tokens that are still good, without their secrets
    List(OutputFlag),
    /// Make a token useless
    Revoke(TokenRevoke),
}

/// `token create`.
#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// How long it is good: 30m, 1h, 2d
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(crate) ttl: String,
    /// How many hosts may join with it [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: Option<u32>,
    /// What it is for, shown by `token list`
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    #[command(flatten)]
    pub(crate) format: OutputFlag,
}

/// `token revoke`.
#[derive(Debug, Args)]
pub(crate) struct TokenRevoke {
    /// As `token list` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// `cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Show whether the cluster works, each member, and what needs doing
    #[command(after_help = "Examples:\n  \
        appliance ctl cluster status\n  \
        appliance ctl cluster status -o wide\n  \
        appliance ctl cluster status -o json\n\n\
        Any member answers, with or without quorum. Exit status: 0 when the cluster has a quorum, 1 when it has not.")]
    Status(OutputFlag),
}

/// `member`.
#[derive(Debug, Subcommand)]
pub(crate) enum Member {
    /// Show the members
    List(OutputFlag),
    /// Let a learner vote
    #[command(after_help = "Examples:\n  appliance ctl member promote node4\n\n\
        Refused while the learner is behind. The first five vote by themselves; more voters make writes slower and little\n\
        safer, and an even number makes nothing safer.")]
    Promote(MemberNamed),
    /// Make a voter a learner: it keeps serving and enforcing, and its death costs no vote
    #[command(after_help = "Examples:\n  appliance ctl member demote node2")]
    Demote(MemberNamed),
    /// Take a member out of the cluster for good
    #[command(after_help = "Examples:\n  \
        # A host that is going away, or that died\n  appliance ctl member remove node2 --yes\n\n\
        The host keeps enforcing the last policy it knew. To come back it joins anew, with nothing in its data directory\n\
        but dataplane/. A removal that would leave fewer reachable voters than a quorum is refused: without a quorum\n\
        nobody can agree to it. When the others are lost for good, `appliance ctl recover` goes on without them.")]
    Remove(MemberRemove),
}

/// A member by name or id.
#[derive(Debug, Args)]
pub(crate) struct MemberNamed {
    /// The name of its node, or its id
    #[arg(value_name = "NAME|ID")]
    pub(crate) member: String,
}

/// `member remove`.
#[derive(Debug, Args)]
pub(crate) struct MemberRemove {
    /// The name of its node, or its id
    #[arg(value_name = "NAME|ID")]
    pub(crate) member: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `leader`.
#[derive(Debug, Subcommand)]
pub(crate) enum Leader {
    /// Hand leadership to another voter, before a host is taken down
    #[command(after_help = "Examples:\n  \
        # To whoever is best caught up\n  appliance ctl leader transfer\n\n  \
        appliance ctl leader transfer node3")]
    Transfer(LeaderTransfer),
}

/// `leader transfer`.
#[derive(Debug, Args)]
pub(crate) struct LeaderTransfer {
    /// The name of its node, or its id [default: the voter that is best caught up]
    #[arg(value_name = "NAME|ID")]
    pub(crate) member: Option<String>,
}

/// `snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Save the whole state of the cluster to a file
    #[command(after_help = "Examples:\n  \
        appliance ctl snapshot save /backup/appliance-$(date +%F).snapshot\n  \
        appliance ctl snapshot save - | ssh backup 'cat > appliance.snapshot'\n\n\
        The file is written beside its place, verified to the last byte, and moved there; a file that is there is left\n\
        alone unless --force is given. It holds the cluster's sealed keys and all of its policy: keep it private. What is\n\
        piped is verified by `snapshot status` where it arrives.")]
    Save(SnapshotSave),
    /// Verify a snapshot and show what is in it; needs no node
    #[command(after_help = "Examples:\n  appliance ctl snapshot status /backup/appliance.snapshot")]
    Status(SnapshotStatus),
    /// Make a data directory for a new cluster from a snapshot; needs no node
    #[command(after_help = "Examples:\n  \
        systemctl stop appliance\n  \
        appliance ctl snapshot restore /backup/appliance.snapshot --data-dir /var/lib/appliance\n  \
        systemctl start appliance\n\n\
        Restores on one host; the others join it with `token create`. Revisions go on above any that clients can have\n\
        seen, so that no watch is fooled. The directory is that of a stopped node, whose data is set aside there and whose\n\
        authority goes on; or empty or absent: then the authority is a new one, and with it every kubeconfig, unless\n\
        the old pki/seal.key was put there first.")]
    Restore(SnapshotRestore),
}

/// `snapshot save`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotSave {
    /// Where to, or - for standard output
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Take the node's own copy, which may be behind; works without a quorum
    #[arg(long)]
    pub(crate) stale: bool,
}

/// `snapshot status`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotStatus {
    /// A snapshot
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) format: OutputFlag,
}

/// `snapshot restore`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotRestore {
    /// A snapshot
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Name of the node that will run there [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// How far revisions go on above all that the snapshot, the directory and the clock say was reached; more than were
    /// written since
    #[arg(long, value_name = "N", default_value_t = REVISION_JUMP)]
    pub(crate) revision_jump: u64,
    #[command(flatten)]
    pub(crate) format: OutputFlag,
}

/// Years of writes: whoever restores can not know how many were made after the snapshot.
const REVISION_JUMP: u64 = 1_000_000_000;

/// `recover`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    # On a host that survived: shows what each survivor holds, asks, and goes on as a cluster of one\n  \
    appliance ctl recover\n\n\
    For a cluster that lost its quorum for good: more than half of its voters will not come back. What only the lost ones\n\
    had is gone. If they can be started again, start them instead. With --yes nothing is asked; scripts must then name\n\
    the cluster with --cluster.")]
pub(crate) struct Recover {
    /// Do not ask; needs --cluster
    #[arg(long)]
    pub(crate) yes: bool,
    /// The id of the cluster, as `cluster status` shows it: what a person would be asked to type
    #[arg(long, value_name = "ID")]
    pub(crate) cluster: Option<String>,
    /// Recover here although another survivor holds more, or so many voters answer that it may only be an election
    #[arg(long)]
    pub(crate) force: bool,
}

/// `node`.
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Drop the state of the node this command reaches and fetch a fresh copy from its peers
    #[command(after_help = "Examples:\n  \
        # On the host whose copy is damaged\n  appliance ctl node reseed --yes\n  \
        # On a host whose node does not start any more: stop it, then start it again\n  \
        appliance ctl node reseed --data-dir /var/lib/appliance --yes\n\n\
        The host keeps enforcing meanwhile. Refused when the other members could not give the state back.")]
    Reseed(Reseed),
}

/// `node reseed`.
#[derive(Debug, Args)]
pub(crate) struct Reseed {
    /// The data directory of a node that does not run: its next start fetches the copy
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `ca`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Show the certificate authority, and who does not trust its next certificate yet
    Status(OutputFlag),
    /// Replace the certificate authority, without a moment of distrust
    #[command(after_help = "Examples:\n  \
        appliance ctl ca rotate            # every node learns to trust the new one, then gets a certificate from it\n  \
        appliance ctl ca status            # who is still to come, and what to do next\n  \
        appliance ctl ca rotate --finish   # nobody trusts the old one any more\n\n\
        Members change over by themselves, clients do not: certificates and kubeconfigs made before the rotation are\n\
        worthless after --finish, those made during it are good before and after.")]
    Rotate(CaRotate),
}

/// `ca rotate`.
#[derive(Debug, Args)]
pub(crate) struct CaRotate {
    /// Stop trusting the old authority
    #[arg(long)]
    pub(crate) finish: bool,
    /// Do not wait for members that have not followed yet; they will have to be removed and to join again
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) format: OutputFlag,
}

/// What a credential allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything.
    Admin,
    /// Reads everything, writes policy.
    Operator,
    /// Reads everything.
    Viewer,
}

/// `kubeconfig`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    appliance ctl kubeconfig --role admin -o admin.kubeconfig\n  \
    appliance ctl kubeconfig --role viewer --user grafana --ttl 30d --token -o grafana.kubeconfig\n  \
    kubectl --kubeconfig admin.kubeconfig get hostendpoints\n\n\
    All members are in it: `appliance ctl` tries the next when one does not answer; kubectl knows the first alone.")]
pub(crate) struct Kubeconfig {
    /// What it allows: admin (all), operator (reads all, writes policy) or viewer (reads all)
    #[arg(long, value_name = "ROLE", hide_possible_values = true)]
    pub(crate) role: Role,
    /// Who it is for; kept as author with every change [default: the role]
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// How long it is good: 8h, 24h, 30d
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub(crate) ttl: String,
    /// A bearer token in place of a certificate: can be revoked
    #[arg(long)]
    pub(crate) token: bool,
    /// Where to, readable by you alone [default: standard output]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "file")]
    pub(crate) force: bool,
}

/// `credential`.
#[derive(Debug, Subcommand)]
pub(crate) enum Credential {
    /// Show the bearer tokens that were given out, without their secrets
    List(OutputFlag),
    /// Make a bearer token useless
    Revoke(CredentialRevoke),
}

/// `credential revoke`.
#[derive(Debug, Args)]
pub(crate) struct CredentialRevoke {
    /// As `credential list` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}
