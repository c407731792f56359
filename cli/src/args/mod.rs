//! The command line of `ctl`, declared once. The help texts here are the manual.
//!
//! Only shapes and words: nothing is checked against a node, a file or a kind. Positional arguments whose number
//! calicoctl reports in its own words (`accepts 2 arg(s), received 1`) are taken as a list and counted by the command.
//! The binary flattens [`Args`] under `appliance ctl` and under a program called `calicoctl`.

pub(crate) mod cluster;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// What the command is, at the top of its help.
pub(crate) const ABOUT: &str =
    "Manage the policy of a cluster of appliances, with the words, tables and exit codes of calicoctl";
/// What scripts need to know, at the end of it.
const EXIT_STATUS: &str =
    "Exit status: 0 when everything asked for was done, 1 otherwise (`diff`: 0 same, 1 differs, 2 error).";

/// Everything `appliance ctl` accepts.
#[derive(Debug, clap::Args)]
#[command(about = ABOUT, long_about = None, after_help = EXIT_STATUS, disable_help_subcommand = true)]
pub struct Args {
    #[command(flatten)]
    pub(crate) connection: ConnectionFlags,
    #[command(flatten)]
    pub(crate) general: GeneralFlags,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Where the node is; at most one of the three ways, before or after the verb.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionFlags {
    /// Unix socket of the local node [env: APPLIANCE_SOCKET] [default: /run/appliance/appliance.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Kubeconfig that names the node and carries the credentials [env: APPLIANCE_KUBECONFIG]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Address of a node, or several with commas between: https://HOST:6443 [env: APPLIANCE_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Connection file in calicoctl's format [default: /etc/calico/calicoctl.cfg, if it is there]
    #[arg(short = 'c', long, global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "General")]
pub(crate) struct GeneralFlags {
    /// Log to stderr: panic, fatal, error, warn, info or debug
    #[arg(long, global = true, value_name = "LEVEL", default_value = "panic", hide_default_value = true)]
    pub(crate) log_level: String,
    /// Why this change is made; kept with its revision
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Accepted for calicoctl's sake; there is no Kubernetes context
    #[arg(long, global = true, value_name = "NAME", hide = true)]
    pub(crate) context: Option<String>,
    /// Accepted for calicoctl's sake; versions are not compared
    #[arg(long, global = true, hide = true)]
    pub(crate) allow_version_mismatch: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create resources from a file, directory or stdin; fails where one exists already
    #[command(after_help = "Examples:\n  \
        # Create the host endpoint in hep.yaml\n  appliance ctl create -f hep.yaml\n\n  \
        # The same from stdin; several documents or a list of objects are fine\n  appliance ctl create -f - < hep.yaml\n\n  \
        # Leave those that exist as they are\n  appliance ctl create -f policies/ --skip-exists")]
    Create(Create),
    /// Create resources, or replace those that exist
    #[command(after_help = "Examples:\n  \
        # Bring every manifest below a directory into the cluster, one line per object\n  appliance ctl apply -R -f policies/ -v\n\n  \
        # See what would happen, with the node's validation, writing nothing\n  appliance ctl apply -f allow-ssh.yaml --dry-run=server\n\n  \
        # Return only when every node enforces it\n  appliance ctl apply -f allow-ssh.yaml --wait\n\n\
        Labels, annotations and spec become what the manifest says. A resourceVersion in the manifest must be the\n\
        current one. An object that is already as the manifest says is not written again.")]
    Apply(Apply),
    /// Replace resources that exist
    #[command(after_help = "Examples:\n  appliance ctl replace -f hep.yaml")]
    Replace(Replace),
    /// Delete resources by file, by name, by label or all of a kind
    #[command(
        override_usage = "appliance ctl delete <KIND> <NAME>... [OPTIONS]\n       appliance ctl delete <KIND> (--all|-l <LABELS>) [--yes] [OPTIONS]\n       appliance ctl delete -f <PATH> [OPTIONS]",
        after_help = "Examples:\n  \
        # By name\n  appliance ctl delete hep eth0 eth1\n\n  \
        # What a file describes; a resourceVersion in it must be the current one\n  appliance ctl delete -f hep.yaml\n\n  \
        # By label: prints what would go, and deletes it only with --yes\n  appliance ctl delete gnp -l team=web --yes"
    )]
    Delete(Delete),
    /// Show resources
    #[command(
        override_usage = "appliance ctl get [KIND [NAME]...] [OPTIONS]\n       appliance ctl get -f <PATH> [OPTIONS]",
        after_help = "Examples:\n  \
        appliance ctl get hep\n  \
        appliance ctl get hep eth0 -o yaml --export\n  \
        appliance ctl get gnp -o custom-columns=NAME,ORDER --sort-by=.spec.order\n  \
        appliance ctl get hep -l role=webserver -w\n\n\
        With -w the objects are printed, then one row for each later change, until interrupted."
    )]
    Get(Get),
    /// Change part of one resource
    #[command(
        override_usage = "appliance ctl patch <KIND> <NAME> -p <PATCH> [OPTIONS]",
        after_help = "Examples:\n  \
        appliance ctl patch hep eth0 -p '{\"spec\":{\"interfaceName\":\"eth7\"}}'\n  \
        appliance ctl patch gnp web -t json -p '[{\"op\":\"replace\",\"path\":\"/spec/order\",\"value\":10}]'\n\n\
        merge is RFC 7386, json is RFC 6902; strategic is merge that also understands \"$patch\": \"delete\" and\n\
        \"$patch\": \"replace\" in an object."
    )]
    Patch(Patch),
    /// Set or remove one label of one resource
    #[command(
        override_usage = "appliance ctl label <KIND> <NAME> <KEY>=<VALUE> [--overwrite]\n       appliance ctl label <KIND> <NAME> <KEY> --remove",
        after_help = "Examples:\n  \
        appliance ctl label hep eth0 role=webserver\n  \
        appliance ctl label hep eth0 role=database --overwrite\n  \
        appliance ctl label hep eth0 role --remove"
    )]
    Label(Label),
    /// Check manifests without contacting a node
    #[command(after_help = "Examples:\n  appliance ctl validate -R -f policies/\n\n\
        Checks fields, names, selectors, ports and addresses. What only the cluster knows (does the tier exist?) is not\n\
        checked; `apply --dry-run=server` does that.")]
    Validate(Validate),
    /// Show what applying manifests would change: exit 0 same, 1 differs, 2 error
    #[command(after_help = "Examples:\n  appliance ctl diff -f policies/ && echo nothing to do\n\n\
        The node works the change out without making it, so defaults do not show as differences.")]
    Diff(Diff),
    /// Show endpoints per host, and manage the profiles of one endpoint
    #[command(
        override_usage = "appliance ctl endpoint show [--host=<HOSTNAME>] [--orchestrator=<ORCHESTRATOR_ID>]\n         \
            [--workload=<WORKLOAD_ID>] [--endpoint=<ENDPOINT_ID>] [--detailed]\n       \
            appliance ctl endpoint <ENDPOINT_ID> profile (append|remove|set) [--host=<HOSTNAME>]\n         \
            [--orchestrator=<ORCHESTRATOR_ID>] [--workload=<WORKLOAD_ID>] [<PROFILES>...]\n       \
            appliance ctl endpoint <ENDPOINT_ID> profile show [--host=<HOSTNAME>]\n         \
            [--orchestrator=<ORCHESTRATOR_ID>] [--workload=<WORKLOAD_ID>]",
        after_help = "Examples:\n    \
        Show all endpoints belonging to 'host1':\n        $ calicoctl endpoint show --host=host1\n\n    \
        Add a profile called 'profile-A' to the endpoint a1b2c3d4:\n        \
        $ calicoctl endpoint a1b2c3d4 profile append profile-A\n\n    \
        The same, where another endpoint has that name too:\n        \
        $ calicoctl endpoint a1b2c3d4 profile append profile-A --host=host1 --orchestrator=docker --workload=f9e8d7e6\n\n\
        Host endpoints and workload endpoints are both shown. A host endpoint's orchestrator is `host`, its workload\n\
        its node, its endpoint ID its name. The state is what its node last reported: active, inactive, error or\n\
        unknown. Messages follow the published page of calicoctl endpoint: `Profile(s) PROF set.`"
    )]
    Endpoint(Endpoint),
    /// Show whether the cluster works, its members, and what needs doing
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// List, promote, demote and remove members
    #[command(subcommand)]
    Member(cluster::Member),
    /// Hand leadership to another member
    #[command(subcommand)]
    Leader(cluster::Leader),
    /// Make, list and revoke the tokens that hosts join with
    #[command(subcommand)]
    Token(cluster::Token),
    /// Save, verify and restore the whole state
    #[command(subcommand)]
    Snapshot(cluster::Snapshot),
    /// Go on after the quorum is lost for good
    Recover(cluster::Recover),
    /// Give this node a fresh copy of the state
    #[command(subcommand)]
    Node(cluster::Node),
    /// Show and replace the certificate authority
    #[command(subcommand)]
    Ca(cluster::Ca),
    /// Write a kubeconfig for a role
    Kubeconfig(cluster::Kubeconfig),
    /// List and revoke the bearer tokens of kubeconfigs
    #[command(subcommand)]
    Credential(cluster::Credential),
    /// Show the version of this command and of the cluster
    #[command(after_help = "Examples:\n  appliance ctl version --client")]
    Version(Version),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  appliance ctl completion bash > /etc/bash_completion.d/appliance\n\n\
        The script completes both `appliance ctl` and `calicoctl`."
    )]
    Completion(Completion),
}

/// Where manifests come from.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Input {
    /// File, directory (its .yaml, .yml and .json files) or - for stdin
    #[arg(short = 'f', long, value_name = "PATH")]
    pub(crate) filename: Option<PathBuf>,
    /// With a directory: descend into its sub-directories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Input without resources is not an error
    #[arg(long)]
    pub(crate) skip_empty: bool,
    /// Namespace of namespaced kinds
    #[arg(short = 'n', long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
}

/// How a write is carried out and told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct WriteFlags {
    /// Check only: `client` without contacting a node, `server` with everything the node would check
    #[arg(long, value_name = "WHERE")]
    pub(crate) dry_run: Option<DryRun>,
    /// One line per object: created, configured, unchanged, deleted or failed
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
    /// Wait until every node has reported that it enforces the change
    #[arg(long)]
    pub(crate) wait: bool,
    /// Give up waiting after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
}

/// Who checks a write that is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// This process, with the manifest alone.
    Client,
    /// The node, with everything it would check before writing.
    Server,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) input: Input,
    /// Count resources that exist as done, and leave them unchanged
    #[arg(long)]
    pub(crate) skip_exists: bool,
    #[command(flatten)]
    pub(crate) write: WriteFlags,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) write: WriteFlags,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Replace {
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) write: WriteFlags,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Delete {
    /// A kind, then names
    #[arg(value_name = "KIND NAME")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) input: Input,
    /// Count resources that do not exist as done
    #[arg(short = 's', long)]
    pub(crate) skip_not_exists: bool,
    /// All resources of the kind (needs --yes)
    #[arg(long)]
    pub(crate) all: bool,
    /// Only those with these labels (needs --yes)
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// Delete what --all or -l matches, after listing it
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) write: WriteFlags,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Get {
    /// A kind, then names
    #[arg(value_name = "KIND NAME")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) input: Input,
    /// All namespaces
    #[arg(short = 'A', long, short_alias = 'a')]
    pub(crate) all_namespaces: bool,
    /// ps, table, wide, yaml, json, name or custom-columns=HEADING,...
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "ps")]
    pub(crate) output: String,
    /// With names: leave out uid, resourceVersion, creationTimestamp and the like
    #[arg(long)]
    pub(crate) export: bool,
    /// Keep printing changes until interrupted
    #[arg(short = 'w', long)]
    pub(crate) watch: bool,
    /// With -w: put what happened (ADDED, MODIFIED, DELETED) in a first column
    #[arg(long, requires = "watch")]
    pub(crate) output_watch_events: bool,
    /// Only those with these labels: role=web, env!=test, tier in (a,b), !legacy
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// Only those with these fields: metadata.name=x, spec.tier=default
    #[arg(long, value_name = "FIELDS")]
    pub(crate) field_selector: Option<String>,
    /// Order lists by a field, such as .spec.order or .metadata.creationTimestamp
    #[arg(long, value_name = "PATH")]
    pub(crate) sort_by: Option<String>,
    /// Answer from the node's own copy, which may be behind; works without a quorum
    #[arg(long)]
    pub(crate) stale: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Patch {
    /// A kind and a name
    #[arg(value_name = "KIND NAME")]
    pub(crate) words: Vec<String>,
    /// The patch, as JSON
    #[arg(short = 'p', long, value_name = "JSON")]
    pub(crate) patch: String,
    /// How the patch is to be read: strategic, merge or json
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "strategic")]
    pub(crate) patch_type: PatchType,
    /// Namespace of namespaced kinds
    #[arg(short = 'n', long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) write: WriteFlags,
}

/// The three ways to read a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PatchType {
    /// Merge, with `$patch` directives.
    Strategic,
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Label {
    /// A kind, a name, and a label
    #[arg(value_name = "KIND NAME LABEL")]
    pub(crate) words: Vec<String>,
    /// Change the label if it has another value
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Remove the label
    #[arg(long)]
    pub(crate) remove: bool,
    /// Namespace of namespaced kinds
    #[arg(short = 'n', long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) write: WriteFlags,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    pub(crate) input: Input,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) input: Input,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Endpoint {
    /// `show`, or an endpoint ID followed by `profile append|remove|set|show` and profiles
    #[arg(value_name = "COMMAND")]
    pub(crate) words: Vec<String>,
    /// Filters endpoints on a specific host
    #[arg(long, value_name = "HOSTNAME")]
    pub(crate) host: Option<String>,
    /// Filters endpoints created on a specific orchestrator
    #[arg(long, value_name = "ORCHESTRATOR_ID")]
    pub(crate) orchestrator: Option<String>,
    /// Filters endpoints on a specific workload
    #[arg(long, value_name = "WORKLOAD_ID")]
    pub(crate) workload: Option<String>,
    /// Filters endpoints with a specific endpoint ID
    #[arg(long, value_name = "ENDPOINT_ID")]
    pub(crate) endpoint: Option<String>,
    /// Show additional information
    #[arg(long)]
    pub(crate) detailed: bool,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Version {
    /// Only this command's own version; no node is asked
    #[arg(long)]
    pub(crate) client: bool,
    /// Ask again after each such time (10s, 1m), printing what changed
    #[arg(long, value_name = "DURATION")]
    pub(crate) poll: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Completion {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}
