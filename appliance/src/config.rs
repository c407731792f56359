//! Config: what every setting means, validated once.
//!
//! `resolve` turns the layers of `settings` into a `Config` or into one error that names the setting, the value, where
//! the value came from and what is allowed. Pure: it asks nothing of the host; what is left to find out (the node's
//! name, its address) stays `None` and is decided in `server`. Nobody parses a setting a second time.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use appliance_resources::validate::name;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::settings::{self, FileError, Layers, SETTINGS, Source, Sourced};
use crate::snapshots::Schedule;

/// More would only wait for the one raft thread, and each costs a stack.
const WORKER_THREADS_MAX: usize = 64;

/// Every name and address of this node goes into its certificate; a list longer than this is a mistake.
const ADVERTISE_ADDRESSES_MAX: usize = 16;

/// The longest DNS name.
const NAME_BYTES_MAX: usize = 253;

/// How this node is to run.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Store, keys, identity, last ruleset.
    pub(crate) data_dir: PathBuf,
    /// The Unix socket's directory.
    pub(crate) run_dir: PathBuf,
    /// Where the API listens with TLS.
    pub(crate) api_listen: SocketAddr,
    /// Where other members are listened to.
    pub(crate) peer_listen: SocketAddr,
    /// What others reach this node on; empty when it is to be found out.
    pub(crate) advertise: Vec<Host>,
    /// The member to join, or `None` to form a cluster.
    pub(crate) join: Option<JoinTarget>,
    /// What lets this node join.
    pub(crate) token: Option<Secret>,
    /// How long a voter may be silent before a learner takes its place; `None` never.
    pub(crate) replace_lost_voters_after: Option<Duration>,
    /// How often a leader says that it lives; elections wait ten times as long.
    pub(crate) heartbeat_interval: Duration,
    /// When this node writes snapshot files; `None` never.
    pub(crate) snapshots: Option<Schedule>,
    /// Whether to found a new cluster of what this node holds.
    pub(crate) force_new_cluster: bool,
    /// Entries between two checkpoints of the store; the default if none.
    pub(crate) checkpoint_entries: Option<u64>,
    /// Entries kept behind a checkpoint; the default if none.
    pub(crate) retained_entries: Option<u64>,
    /// The node's name as configured.
    pub(crate) node_name: Option<(String, Source)>,
    /// Whether the kernel is ours to program.
    pub(crate) enforce: bool,
    /// The nft program.
    pub(crate) nft: PathBuf,
    /// What is logged.
    pub(crate) log: Targets,
    /// Threads of the runtime.
    pub(crate) worker_threads: usize,
    /// One line per setting for the log: its name, its value and where that came from.
    pub(crate) effective: Vec<Effective>,
    /// What looked like ours in the environment and is not.
    pub(crate) unknown_variables: Vec<String>,
}

/// A setting as it will be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    /// The setting's name.
    pub(crate) name: &'static str,
    /// Its value, or what stands for one that is secret or yet to be found out.
    pub(crate) value: String,
    /// Where the value came from.
    pub(crate) source: Source,
}

/// An address or a name that others reach this node on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

/// A member of the cluster to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinTarget {
    /// The member.
    pub(crate) host: Host,
    /// Its API port.
    pub(crate) port: u16,
}

impl fmt::Display for JoinTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.in_url(), self.port)
    }
}

/// Text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why the settings were refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file could not be understood.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value is not one of its setting.
    #[error("--{name}: \"{value}\" (from {source_of}): {reason}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// Where it was given.
        source_of: Source,
        /// What is wrong with it and what is allowed.
        reason: String,
    },
}

/// Puts the layers over one another and says what each value means, or which one means nothing.
pub(crate) fn resolve(layers: &Layers) -> Result<Config, ConfigError> {
    let values = Values(settings::layer(layers)?);
    Ok(Config {
        data_dir: values.parse("data-dir", parse_directory)?,
        run_dir: values.parse("run-dir", parse_directory)?,
        api_listen: values.parse("api-listen", parse_listen)?,
        peer_listen: values.parse("peer-listen", parse_listen)?,
        advertise: values.optional("advertise-address", parse_advertise)?.unwrap_or_default(),
        join: values.optional("join", parse_join)?,
        token: values.optional("token", |text| Ok(Secret(text.to_owned())))?,
        replace_lost_voters_after: values.parse("replace-lost-voters-after", parse_replace_after)?,
        heartbeat_interval: values.parse("heartbeat-interval", parse_heartbeat)?,
        snapshots: {
            let interval = values.parse("snapshot-interval", parse_snapshot_interval)?;
            let keep = values.parse("snapshot-keep", parse_snapshot_keep)?;
            interval.map(|interval| Schedule { interval, keep })
        },
        force_new_cluster: values.parse("force-new-cluster", parse_switch)?,
        checkpoint_entries: values.optional("checkpoint-entries", parse_checkpoint_entries)?,
        retained_entries: values.optional("retained-entries", parse_retained_entries)?,
        node_name: values
            .optional("node-name", parse_node_name)?
            .map(|name| (name, values.0["node-name"].source.clone())),
        enforce: !values.parse("no-enforce", parse_switch)?,
        nft: values.parse("nft", parse_directory)?,
        log: values.parse("log-level", parse_log)?,
        worker_threads: values.parse("worker-threads", parse_worker_threads)?,
        effective: values.effective(),
        unknown_variables: settings::unknown_variables(&layers.environment)
            .into_iter()
            .map(str::to_owned)
            .collect(),
    })
}

/// The chosen texts, each with its source.
struct Values(BTreeMap<&'static str, Sourced>);

impl Values {
    fn optional<T>(
        &self,
        name: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Sourced { value: Some(value), source } = &self.0[name] else { return Ok(None) };
        parse(value).map(Some).map_err(|reason| ConfigError::Value {
            name,
            value: value.clone(),
            source_of: source.clone(),
            reason,
        })
    }

    /// For a setting that has a default: a missing value can only mean an empty one.
    fn parse<T>(&self, name: &'static str, parse: fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        self.optional(name, parse)?.ok_or_else(|| ConfigError::Value {
            name,
            value: String::new(),
            source_of: Source::Default,
            reason: "must be given".to_owned(),
        })
    }

    fn effective(&self) -> Vec<Effective> {
        let shown = |secret: bool, value: &Option<String>| match value {
            Some(_) if secret => "(given, not shown)".to_owned(),
            Some(value) => value.clone(),
            None => "(not given)".to_owned(),
        };
        SETTINGS
            .iter()
            .map(|setting| {
                let Sourced { value, source } = &self.0[setting.name];
                Effective { name: setting.name, value: shown(setting.secret, value), source: source.clone() }
            })
            .collect()
    }
}

fn parse_directory(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("must name a path".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let wanted = "must be an IP address and a port, as in [::]:6443, 0.0.0.0:6443 or 10.0.0.1:6443";
    let address: SocketAddr = text.parse().map_err(|_| wanted.to_owned())?;
    if address.ip().is_multicast() {
        return Err("is a multicast address, which nobody can connect to".to_owned());
    }
    Ok(address)
}

fn parse_advertise(text: &str) -> Result<Vec<Host>, String> {
    let hosts: Vec<Host> =
        text.split(',').map(|item| parse_advertised(item.trim())).collect::<Result<_, _>>()?;
    match hosts.len() {
        0..=ADVERTISE_ADDRESSES_MAX => Ok(hosts),
        count => Err(format!("names {count} addresses, at most {ADVERTISE_ADDRESSES_MAX} are allowed")),
    }
}

fn parse_advertised(text: &str) -> Result<Host, String> {
    let host = text.parse::<Host>()?;
    match host {
        Host::Address(address) if address.is_unspecified() => {
            Err(format!("{address} means any address; name one that others can reach"))
        }
        Host::Address(address) if address.is_multicast() => {
            Err(format!("{address} is a multicast address, which nobody can connect to"))
        }
        host => Ok(host),
    }
}

fn parse_join(text: &str) -> Result<JoinTarget, String> {
    let wanted = || "must be a member's address or name and its API port, as in 10.0.0.1:6443".to_owned();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(JoinTarget { host: Host::Address(address.ip()), port: address.port() });
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
    let port = port.parse().map_err(|_| wanted())?;
    let host = host.parse::<Host>().map_err(|_| wanted())?;
    Ok(JoinTarget { host, port })
}

/// A name is taken as it stands, so it must be one that `spec.node` of an endpoint can hold.
pub(crate) fn parse_node_name(text: &str) -> Result<String, String> {
    name::subdomain(text).map(|()| text.to_owned())
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn parse_log(text: &str) -> Result<Targets, String> {
    let wanted =
        "must be error, warn, info, debug or trace, or a list such as info,appliance_dataplane=debug";
    // A bare word that is no level would be taken for the name of a part, and silence all the others.
    let levelled =
        |directive: &str| directive.contains('=') || directive.trim().parse::<LevelFilter>().is_ok();
    if !text.split(',').all(levelled) {
        return Err(wanted.to_owned());
    }
    text.parse().map_err(|_| wanted.to_owned())
}

/// Elections wait ten heartbeats: shorter ones would be decided by a busy disk, longer ones by a patient operator.
const HEARTBEAT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);

/// A voter that is silent for less may merely be restarting.
const REPLACE_AFTER_MIN: Duration = Duration::from_secs(1);

fn parse_heartbeat(text: &str) -> Result<Duration, String> {
    let wanted = "must be a time from 10ms to 10s, as in 100ms";
    match parse_duration(text) {
        Some(time) if HEARTBEAT.contains(&time) => Ok(time),
        _ => Err(wanted.to_owned()),
    }
}

/// `Some` around `off`, since a setting that is off was given all the same.
fn parse_replace_after(text: &str) -> Result<Option<Duration>, String> {
    match (text, parse_duration(text)) {
        ("off", _) => Ok(None),
        (_, Some(time)) if time >= REPLACE_AFTER_MIN => Ok(Some(time)),
        _ => Err("must be off, or a time of at least 1s, as in 10m".to_owned()),
    }
}

/// Writing the whole state more often would be all that the disk does.
const SNAPSHOT_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// More files than anybody looks through.
const SNAPSHOTS_KEPT_MAX: usize = 1_000;

fn parse_snapshot_interval(text: &str) -> Result<Option<Duration>, String> {
    match (text, parse_duration(text)) {
        ("off", _) => Ok(None),
        (_, Some(time)) if time >= SNAPSHOT_INTERVAL_MIN => Ok(Some(time)),
        _ => Err("must be off, or a time of at least 1s, as in 12h".to_owned()),
    }
}

fn parse_snapshot_keep(text: &str) -> Result<usize, String> {
    let keep = text.parse().ok().filter(|keep| (1..=SNAPSHOTS_KEPT_MAX).contains(keep));
    keep.ok_or_else(|| format!("must be a number from 1 to {SNAPSHOTS_KEPT_MAX}"))
}

fn parse_checkpoint_entries(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|entries| *entries > 0).ok_or_else(|| "must be a number above 0".to_owned())
}

fn parse_retained_entries(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be a number".to_owned())
}

/// A number and its unit: ms, s, m or h.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

fn parse_worker_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=WORKER_THREADS_MAX) => Ok(count),
        _ => Err(format!("must be a number from 1 to {WORKER_THREADS_MAX}")),
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Host, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Host::Address(address));
        }
        let bare = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // All digits and dots is an address with a slip in it, never a name.
        let numeric = bare.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if bare.len() <= NAME_BYTES_MAX && !numeric && bare.split('.').all(label) {
            return Ok(Host::Name(bare.to_ascii_lowercase()));
        }
        Err("must be IP addresses or DNS names without a port, separated by commas".to_owned())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(address) => address.fmt(f),
            Host::Name(name) => name.fmt(f),
        }
    }
}

impl Host {
    /// The host as it stands in a URL: IPv6 addresses wear brackets there.
    pub(crate) fn in_url(&self) -> String {
        match self {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        resolve(&Layers { flags, ..Layers::default() })
    }

    fn refusal(name: &'static str, value: &str) -> String {
        with(&[(name, value)]).expect_err("refused").to_string()
    }

    #[test]
    fn nothing_set_is_a_node_of_its_own_that_enforces() {
        let config = with(&[]).expect("defaults are valid");

        assert_eq!(config.api_listen.to_string(), "[::]:6443");
        assert_eq!(config.peer_listen.to_string(), "[::]:2380");
        assert!(config.enforce && config.advertise.is_empty() && config.join.is_none());
        assert_eq!(config.worker_threads, 2);
    }

    #[test]
    fn every_setting_is_logged_once_and_secrets_are_not() {
        let config = with(&[("token", "abcdef"), ("api-listen", "127.0.0.1:7443")]).expect("valid");

        let logged: Vec<&str> = config.effective.iter().map(|e| e.name).collect();
        assert_eq!(logged, SETTINGS.iter().map(|s| s.name).collect::<Vec<_>>());
        assert!(config.effective.iter().all(|e| !e.value.contains("abcdef")));
        let api = config.effective.iter().find(|e| e.name == "api-listen").expect("logged");
        assert_eq!((api.value.as_str(), &api.source), ("127.0.0.1:7443", &Source::Flag));
    }

    #[test]
    fn a_refusal_names_setting_value_source_and_what_is_allowed() {
        assert_eq!(
            refusal("advertise-address", "0.0.0.0"),
            "--advertise-address: \"0.0.0.0\" (from the command line): 0.0.0.0 means any address; name one that \
             others can reach"
        );
        for (name, value, says) in [
            ("advertise-address", "10.0.0.1:6443", "without a port"),
            ("advertise-address", "10.0.0", "must be IP addresses or DNS names"),
            ("advertise-address", "224.0.0.1", "multicast"),
            ("advertise-address", "a,,b", "must be IP addresses"),
            ("api-listen", "6443", "must be an IP address and a port"),
            ("api-listen", "localhost:6443", "must be an IP address and a port"),
            ("join", "10.0.0.1", "its API port"),
            ("node-name", "-x", "lower case"),
            ("node-name", "My-Host", "lower case"),
            ("no-enforce", "maybe", "true or false"),
            ("worker-threads", "0", "1 to 64"),
            ("replace-lost-voters-after", "10", "off, or a time"),
            ("replace-lost-voters-after", "10ms", "at least 1s"),
            ("heartbeat-interval", "1m", "from 10ms to 10s"),
            ("heartbeat-interval", "fast", "from 10ms to 10s"),
            ("snapshot-interval", "0s", "off, or a time"),
            ("snapshot-keep", "0", "from 1 to 1000"),
            ("force-new-cluster", "once", "true or false"),
            ("checkpoint-entries", "0", "above 0"),
            ("retained-entries", "few", "must be a number"),
            ("log-level", "loud=very", "must be error, warn"),
            ("log-level", "loud", "must be error, warn"),
            ("log-level", "info,loud", "must be error, warn"),
            ("data-dir", "", "must name a path"),
        ] {
            let refusal = refusal(name, value);
            assert!(refusal.contains(says) && refusal.contains(value), "{refusal}");
        }
    }

    #[test]
    fn a_configured_node_name_is_taken_as_it_stands() {
        let config = with(&[("node-name", "web-01.example")]).expect("valid");
        assert_eq!(config.node_name, Some(("web-01.example".to_owned(), Source::Flag)));
    }

    #[test]
    fn advertised_addresses_of_both_families_and_names() {
        let config = with(&[("advertise-address", "10.0.0.1, fd00::1,Node.example.org.")]).expect("valid");
        let urls: Vec<String> = config.advertise.iter().map(Host::in_url).collect();
        assert_eq!(urls, ["10.0.0.1", "[fd00::1]", "node.example.org"]);
    }

    #[test]
    fn times_have_units_and_replacing_can_be_off() {
        let config = with(&[("heartbeat-interval", "250ms")]).expect("valid");
        assert_eq!(config.heartbeat_interval, Duration::from_millis(250));
        assert_eq!(config.replace_lost_voters_after, Some(Duration::from_secs(600)));
        let off = with(&[("replace-lost-voters-after", "off")]).expect("valid");
        assert_eq!(off.replace_lost_voters_after, None);
    }

    #[test]
    fn a_token_is_in_no_debug_output() {
        let config = with(&[("token", "hush")]).expect("valid");
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn a_join_target_is_host_and_port_in_both_families() {
        let target = |text| with(&[("join", text)]).expect("valid").join.expect("given");
        assert_eq!(target("[fd00::1]:6443").host.in_url(), "[fd00::1]");
        assert_eq!(target("node-1:7443").port, 7443);
    }
}
