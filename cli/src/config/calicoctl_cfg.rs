//! calicoctl's connection file: the same search rule and header, our own keys, and patience with the old ones. Pure.
//!
//! `etcd*` and `k8s*` keys are skipped with one warning, so that a file that is already on the host does not break.
//! Ours: `apiEndpoints`, `apiCACertFile`, `apiCertFile` with `apiKeyFile`, or `apiToken`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ConfigError, Credentials, ReadFile, Remote, endpoints, read_named};

/// What is wrong with a connection file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    #[error("failed to parse config as YAML/JSON: {0}")]
    Syntax(String),
    #[error("invalid config file: unknown APIVersion '{0}'")]
    ApiVersion(String),
    #[error("invalid config file: expected kind 'CalicoAPIConfig', got '{0}'")]
    Kind(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    api_endpoints: Option<String>,
    #[serde(rename = "apiCACertFile")]
    api_ca_cert_file: Option<PathBuf>,
    api_cert_file: Option<PathBuf>,
    api_key_file: Option<PathBuf>,
    api_token: Option<String>,
    /// Keys that mean something to calicoctl and nothing here.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A connection file that was understood.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    spec: Spec,
}

/// Reads the text of the file at `path`.
pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<ConfigFile, ConfigFileError> {
    let text = String::from_utf8_lossy(text);
    let document: Document =
        serde_saphyr::from_str(&text).map_err(|error| ConfigFileError::Syntax(error.to_string()))?;
    if document.api_version != "projectcalico.org/v3" {
        return Err(ConfigFileError::ApiVersion(document.api_version));
    }
    if document.kind != "CalicoAPIConfig" {
        return Err(ConfigFileError::Kind(document.kind));
    }
    Ok(ConfigFile { path: path.to_path_buf(), spec: document.spec.unwrap_or_default() })
}

impl ConfigFile {
    /// One sentence about every key that was skipped.
    pub(crate) fn warning(&self) -> Option<String> {
        let keys: Vec<&str> = self.spec.other.keys().map(String::as_str).collect();
        let path = self.path.display();
        (!keys.is_empty())
            .then(|| format!("{path}: {} ignored: the store is the appliance itself", keys.join(", ")))
    }

    /// The cluster the file names, if it names one of ours.
    pub(crate) fn remote(&self, read: ReadFile) -> Result<Option<Remote>, ConfigError> {
        let Some(list) = &self.spec.api_endpoints else { return Ok(None) };
        let ca = self.spec.api_ca_cert_file.as_deref().ok_or(ConfigError::NoTrust)?;
        let credentials = match (&self.spec.api_token, &self.spec.api_cert_file, &self.spec.api_key_file) {
            (Some(token), _, _) => Credentials::Token(token.clone()),
            (None, Some(chain), Some(key)) => {
                Credentials::Certificate { chain: read_named(chain, read)?, key: read_named(key, read)? }
            }
            _ => Credentials::None,
        };
        let ca = read_named(ca, read)?;
        Ok(Some(Remote { endpoints: endpoints(list)?, ca, server_name: None, credentials }))
    }
}
