//! The part of a kubeconfig that says where a cluster is and who we are there. Pure.
//!
//! Only the current context counts. What would weaken trust (`insecure-skip-tls-verify`) or start programs (`exec`)
//! is refused, not skipped: the caller would believe it was honoured.

use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ConfigError, Credentials, ReadFile, Remote, endpoints, read_named};

/// What is wrong with a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeconfigError {
    #[error("not a kubeconfig: {0}")]
    Syntax(String),
    #[error("no current-context is set")]
    NoContext,
    #[error("no {0} named '{1}'")]
    Missing(&'static str, String),
    #[error("the cluster has no certificate-authority; the server could not be told from an impostor")]
    NoAuthority,
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("{0} is not base64")]
    Base64(&'static str),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: Option<String>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Debug, Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Debug, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    #[serde(default)]
    extensions: Vec<NamedExtension>,
}

#[derive(Debug, Deserialize)]
struct NamedExtension {
    name: String,
    #[serde(default)]
    extension: Value,
}

/// The extension of a cluster entry that lists all of its servers. kubectl keeps it and heeds only `server`.
const EXTENSION: &str = "appliance";
/// So many servers are worth trying.
const SERVERS_MAX: usize = 64;
/// A name that every node's certificate has, so that any address will do.
const SERVER_NAME: &str = "appliance";

#[derive(Debug, Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<Value>,
}

/// The cluster of the current context. Relative paths are relative to the kubeconfig.
pub(crate) fn read(path: &Path, read: ReadFile) -> Result<Remote, ConfigError> {
    let text = read_named(path, read)?;
    let wrap = |source| ConfigError::Kubeconfig { path: path.to_path_buf(), source };
    let (cluster, user) = current(&String::from_utf8_lossy(&text)).map_err(wrap)?;
    if cluster.insecure_skip_tls_verify {
        return Err(wrap(KubeconfigError::Unsupported("insecure-skip-tls-verify")));
    }
    if user.exec.is_some() {
        return Err(wrap(KubeconfigError::Unsupported("exec")));
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let pem = |data: &Option<String>, file: &Option<PathBuf>, name: &'static str| match (data, file) {
        (Some(data), _) => decode(data).ok_or(wrap(KubeconfigError::Base64(name))).map(Some),
        (None, Some(file)) => read_named(&folder.join(file), read).map(Some),
        (None, None) => Ok(None),
    };
    let ca = pem(
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
        "certificate-authority-data",
    )?
    .ok_or(wrap(KubeconfigError::NoAuthority))?;
    let chain = pem(&user.client_certificate_data, &user.client_certificate, "client-certificate-data")?;
    let key = pem(&user.client_key_data, &user.client_key, "client-key-data")?;
    let credentials = match (chain, key, user.token, user.token_file) {
        (Some(chain), Some(key), _, _) => Credentials::Certificate { chain, key },
        (_, _, Some(token), _) => Credentials::Token(token),
        (_, _, None, Some(file)) => {
            let token = read_named(&folder.join(file), read)?;
            Credentials::Token(String::from_utf8_lossy(&token).trim().to_string())
        }
        _ => Credentials::None,
    };
    Ok(Remote { endpoints: all_endpoints(&cluster)?, ca, server_name: cluster.tls_server_name, credentials })
}

/// The server, then the others that our extension names.
fn all_endpoints(cluster: &Cluster) -> Result<Vec<super::Endpoint>, ConfigError> {
    let mut all = endpoints(&cluster.server)?;
    let ours = cluster.extensions.iter().filter(|named| named.name == EXTENSION);
    let servers = ours.filter_map(|named| named.extension.get("servers")?.as_array()).flatten();
    for server in servers.filter_map(Value::as_str).take(SERVERS_MAX) {
        for endpoint in endpoints(server)? {
            if !all.contains(&endpoint) {
                all.push(endpoint);
            }
        }
    }
    Ok(all)
}

/// The kubeconfig of a credential that a node gave out: `{certificate, key | token, ca, servers}`.
pub(crate) fn text(user: &str, credential: &Value) -> Result<String, String> {
    let field = |name: &str| credential.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let missing = |name: &str| format!("the node gave a credential without {name}");
    let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let ca = field("ca").ok_or_else(|| missing("its CA"))?;
    let servers = credential.get("servers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let first = servers.first().and_then(Value::as_str).ok_or_else(|| missing("a server"))?;
    let mut cluster = json!({
        "server": first, "certificate-authority-data": encode(ca), "tls-server-name": SERVER_NAME,
    });
    if servers.len() > 1 {
        cluster["extensions"] = json!([{"name": EXTENSION, "extension": {"servers": servers}}]);
    }
    let user_entry = match (field("token"), field("certificate"), field("key")) {
        (Some(token), ..) => json!({"token": token}),
        (None, Some(certificate), Some(key)) => {
            json!({"client-certificate-data": encode(certificate), "client-key-data": encode(key)})
        }
        _ => return Err(missing("a token or a certificate with its key")),
    };
    Ok(crate::output::yaml::render(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "appliance", "cluster": cluster}],
        "users": [{"name": user, "user": user_entry}],
        "contexts": [{"name": "appliance", "context": {"cluster": "appliance", "user": user, "namespace": "default"}}],
        "current-context": "appliance",
    })))
}

fn current(text: &str) -> Result<(Cluster, User), KubeconfigError> {
    let file: Kubeconfig =
        serde_saphyr::from_str(text).map_err(|error| KubeconfigError::Syntax(error.to_string()))?;
    let name = file.current_context.filter(|name| !name.is_empty()).ok_or(KubeconfigError::NoContext)?;
    let context = file.contexts.into_iter().find(|context| context.name == name);
    let Context { cluster, user } = context.ok_or(KubeconfigError::Missing("context", name))?.context;
    let found = file.clusters.into_iter().find(|named| named.name == cluster);
    let cluster = found.ok_or(KubeconfigError::Missing("cluster", cluster))?.cluster;
    let found = file.users.into_iter().find(|named| named.name == user);
    let user = found.ok_or(KubeconfigError::Missing("user", user))?.user;
    Ok((cluster, user))
}

fn decode(data: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(data.trim()).ok()
}
