//! Where the API is and how to trust it: flags, then environment, then connection file, then the default socket. Pure.
//!
//! Files are read through a function the caller passes in, so nothing here touches the disk or the environment.
//! It refuses contradictions (two addresses in one place) and guesses no credentials. Called by `lib.rs`; the answer
//! goes to `client`.

mod calicoctl_cfg;
mod kubeconfig;

use std::io;
use std::path::{Path, PathBuf};

use crate::args::ConnectionFlags;

pub(crate) use calicoctl_cfg::ConfigFileError;
pub(crate) use kubeconfig::{KubeconfigError, text as kubeconfig_text};

/// Where a node listens unless it was told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/appliance/appliance.sock";
/// Where calicoctl looks for its connection file.
const DEFAULT_CONFIG: &str = "/etc/calico/calicoctl.cfg";

/// Where requests go, and what proves both sides to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// The local node; the kernel tells it who we are.
    Socket(PathBuf),
    /// One or more addresses of the same cluster, tried in order.
    Tls(Remote),
}

/// A cluster reached over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) endpoints: Vec<Endpoint>,
    /// PEM of the authority that signed the server's certificate.
    pub(crate) ca: Vec<u8>,
    /// The name to expect in the certificate, where it is not the host of the address.
    pub(crate) server_name: Option<String>,
    pub(crate) credentials: Credentials,
}

/// One `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Who we say we are.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Credentials {
    #[default]
    None,
    Token(String),
    /// PEM of the certificate chain and of its key.
    Certificate {
        chain: Vec<u8>,
        key: Vec<u8>,
    },
}

/// Secrets stay out of logs and test output.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Credentials::None => "None",
            Credentials::Token(_) => "Token",
            Credentials::Certificate { .. } => "Certificate",
        })
    }
}

/// The environment variables that name a node, as they were at start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) socket: Option<String>,
    pub(crate) kubeconfig: Option<String>,
    pub(crate) server: Option<String>,
}

/// The connection, and what the operator should be told about how it was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) connection: Connection,
    pub(crate) warnings: Vec<String>,
}

/// Why no connection could be chosen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("--socket can not be combined with --kubeconfig or --server; give one way to the node")]
    TwoWays,
    #[error(
        "APPLIANCE_SOCKET can not be combined with APPLIANCE_KUBECONFIG or APPLIANCE_SERVER; set one, or give a flag"
    )]
    TwoWaysInEnvironment,
    #[error("Error reading config file: {}", .0.display())]
    Unreadable(PathBuf),
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("syntax error in {}: {source}", path.display())]
    ConfigFile { path: PathBuf, source: ConfigFileError },
    #[error("{}: {source}", path.display())]
    Kubeconfig { path: PathBuf, source: KubeconfigError },
    #[error("'{url}' is not an address of a node: {reason}; an example is https://node1:6443")]
    Url { url: String, reason: &'static str },
    #[error(
        "--server needs the cluster's CA and credentials: add --kubeconfig PATH (the node writes one at its first start)"
    )]
    NoTrust,
}

/// Reads a file; the edge in production, a map in tests.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Chooses the connection.
pub(crate) fn resolve(
    flags: &ConnectionFlags,
    environment: &Environment,
    read: ReadFile,
) -> Result<Resolved, ConfigError> {
    let file = calicoctl_file(flags.config.as_deref(), read)?;
    let warnings: Vec<String> = file.iter().filter_map(calicoctl_cfg::ConfigFile::warning).collect();
    let found = |connection| Ok(Resolved { connection, warnings });

    let remote = flags.server.is_some() || flags.kubeconfig.is_some();
    if flags.socket.is_some() && remote {
        return Err(ConfigError::TwoWays);
    }
    if let Some(socket) = &flags.socket {
        return found(Connection::Socket(socket.clone()));
    }
    let environment_kubeconfig = environment.kubeconfig.as_ref().map(PathBuf::from);
    let file_remote = file.as_ref().map(|file| file.remote(read)).transpose()?.flatten();
    if remote {
        let kubeconfig = flags.kubeconfig.clone().or(environment_kubeconfig);
        return found(remote_connection(flags.server.as_deref(), kubeconfig.as_deref(), file_remote, read)?);
    }
    // An explicit file is a choice made on the command line, so it outranks the environment when it names a node.
    if let (Some(_), Some(remote)) = (&flags.config, &file_remote) {
        return found(Connection::Tls(remote.clone()));
    }
    let environment_remote = environment.server.is_some() || environment_kubeconfig.is_some();
    if environment.socket.is_some() && environment_remote {
        return Err(ConfigError::TwoWaysInEnvironment);
    }
    if let Some(socket) = &environment.socket {
        return found(Connection::Socket(PathBuf::from(socket)));
    }
    if environment_remote {
        let server = environment.server.as_deref();
        return found(remote_connection(server, environment_kubeconfig.as_deref(), file_remote, read)?);
    }
    match file_remote {
        Some(remote) => found(Connection::Tls(remote)),
        None => found(Connection::Socket(PathBuf::from(DEFAULT_SOCKET))),
    }
}

/// A server address takes its trust from the kubeconfig, or from the connection file; a kubeconfig also names a server.
fn remote_connection(
    server: Option<&str>,
    kubeconfig: Option<&Path>,
    file: Option<Remote>,
    read: ReadFile,
) -> Result<Connection, ConfigError> {
    let base = match kubeconfig {
        Some(path) => kubeconfig::read(path, read)?,
        None => file.ok_or(ConfigError::NoTrust)?,
    };
    match server {
        Some(server) => Ok(Connection::Tls(Remote { endpoints: endpoints(server)?, ..base })),
        None => Ok(Connection::Tls(base)),
    }
}

/// The connection file: an explicit one must be readable, the default one is optional.
fn calicoctl_file(
    explicit: Option<&Path>,
    read: ReadFile,
) -> Result<Option<calicoctl_cfg::ConfigFile>, ConfigError> {
    let path = explicit.unwrap_or(Path::new(DEFAULT_CONFIG));
    let text = match (read(path), explicit) {
        (Ok(text), _) => text,
        (Err(_), Some(_)) => return Err(ConfigError::Unreadable(path.to_path_buf())),
        (Err(_), None) => return Ok(None),
    };
    let parsed = calicoctl_cfg::parse(path, &text);
    parsed.map(Some).map_err(|source| ConfigError::ConfigFile { path: path.to_path_buf(), source })
}

/// A comma-separated list of `https://host[:port]`.
fn endpoints(list: &str) -> Result<Vec<Endpoint>, ConfigError> {
    list.split(',').map(|url| endpoint(url.trim())).collect()
}

fn endpoint(url: &str) -> Result<Endpoint, ConfigError> {
    let bad = |reason| ConfigError::Url { url: url.to_string(), reason };
    let uri: http::Uri = url.parse().map_err(|_| bad("it does not parse as a URL"))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") => return Err(bad("credentials are never sent without TLS")),
        _ => return Err(bad("it must start with https://")),
    }
    if !matches!(uri.path(), "" | "/") {
        return Err(bad("it must not have a path"));
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_string();
    if host.is_empty() {
        return Err(bad("it has no host"));
    }
    Ok(Endpoint { host, port: uri.port_u16().unwrap_or(6443) })
}

/// Reads a file that a configuration names.
fn read_named(path: &Path, read: ReadFile) -> Result<Vec<u8>, ConfigError> {
    read(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
clusters: [{name: appliance, cluster: {server: "https://10.0.0.1:6443", certificate-authority-data: Q0E=, tls-server-name: appliance}}]
users: [{name: admin, user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}]
contexts: [{name: appliance, context: {cluster: appliance, user: admin, namespace: default}}]
current-context: appliance
"#;
    const ETCD_CFG: &str = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  \
                            datastoreType: etcdv3\n  etcdEndpoints: https://a:2379\n";
    const OWN_CFG: &str = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  \
                           apiEndpoints: https://a:6443,https://[fd00::1]\n  apiCACertFile: /ca\n  apiToken: secret\n";

    /// Where the command line, the environment and the files lead: an address, or the complaint.
    fn check(flags: &[(&str, &str)], environment: &[(&str, &str)], files: &[(&str, &str)], expected: &str) {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let read = |path: &Path| {
            let text = path.to_str().and_then(|path| files.get(path));
            text.map(|text| text.as_bytes().to_vec()).ok_or(io::Error::from(io::ErrorKind::NotFound))
        };
        let of = |pairs: &[(&str, &str)], name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        };
        let flags = ConnectionFlags {
            socket: of(flags, "socket").map(PathBuf::from),
            kubeconfig: of(flags, "kubeconfig").map(PathBuf::from),
            server: of(flags, "server"),
            config: of(flags, "config").map(PathBuf::from),
        };
        let environment = Environment {
            socket: of(environment, "socket"),
            kubeconfig: of(environment, "kubeconfig"),
            server: of(environment, "server"),
        };
        let found = match resolve(&flags, &environment, &read) {
            Err(error) => error.to_string(),
            Ok(resolved) => {
                let address = match resolved.connection {
                    Connection::Socket(path) => path.display().to_string(),
                    Connection::Tls(remote) => {
                        let ports: Vec<String> =
                            remote.endpoints.iter().map(|end| format!("{} {}", end.host, end.port)).collect();
                        format!("{} {:?}", ports.join(", "), remote.credentials)
                    }
                };
                std::iter::once(address).chain(resolved.warnings).collect::<Vec<_>>().join("; ")
            }
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn the_default_is_the_socket_of_the_local_node() {
        check(&[], &[], &[], "/run/appliance/appliance.sock");
    }

    #[test]
    fn flags_outrank_the_environment_and_the_environment_outranks_the_default_file() {
        check(&[("socket", "/a")], &[("socket", "/b")], &[], "/a");
        check(&[("socket", "/a")], &[("kubeconfig", "/b")], &[], "/a");
        check(&[], &[("socket", "/b")], &[(DEFAULT_CONFIG, OWN_CFG), ("/ca", "CA")], "/b");
        check(&[], &[], &[(DEFAULT_CONFIG, OWN_CFG), ("/ca", "CA")], "a 6443, fd00::1 6443 Token");
        let explicit = [("/own", OWN_CFG), ("/ca", "CA")];
        check(&[("config", "/own")], &[("socket", "/b")], &explicit, "a 6443, fd00::1 6443 Token");
    }

    #[test]
    fn a_kubeconfig_names_the_server_and_a_server_flag_replaces_it() {
        let files = [("/k", KUBECONFIG)];
        check(&[("kubeconfig", "/k")], &[], &files, "10.0.0.1 6443 Certificate");
        check(&[("kubeconfig", "/k"), ("server", "https://n2:7443")], &[], &files, "n2 7443 Certificate");
        check(&[("server", "https://n2")], &[("kubeconfig", "/k")], &files, "n2 6443 Certificate");
    }

    #[test]
    fn contradictions_and_missing_trust_are_refused() {
        let two = "--socket can not be combined with --kubeconfig or --server; give one way to the node";
        check(&[("socket", "/a"), ("server", "https://n")], &[], &[], two);
        let trust = "--server needs the cluster's CA and credentials: add --kubeconfig PATH (the node writes one at \
                     its first start)";
        check(&[("server", "https://n")], &[], &[], trust);
        let http = "'http://n' is not an address of a node: credentials are never sent without TLS; an example is \
                    https://node1:6443";
        check(&[("server", "http://n"), ("kubeconfig", "/k")], &[], &[("/k", KUBECONFIG)], http);
        check(&[("config", "/nonexistent.cfg")], &[], &[], "Error reading config file: /nonexistent.cfg");
    }

    #[test]
    fn an_existing_calicoctl_file_does_not_break_and_is_mentioned_once() {
        let expected = "/run/appliance/appliance.sock; /etc/calico/calicoctl.cfg: datastoreType, etcdEndpoints ignored: \
                        the store is the appliance itself";
        check(&[], &[], &[(DEFAULT_CONFIG, ETCD_CFG)], expected);
        let wrong = ETCD_CFG.replace("CalicoAPIConfig", "Other");
        let expected =
            "syntax error in /x: invalid config file: expected kind 'CalicoAPIConfig', got 'Other'";
        check(&[("config", "/x")], &[], &[("/x", &wrong)], expected);
        let wrong = ETCD_CFG.replace("org/v3", "org/v9");
        let expected = "syntax error in /x: invalid config file: unknown APIVersion 'projectcalico.org/v9'";
        check(&[("config", "/x")], &[], &[("/x", &wrong)], expected);
    }
}
