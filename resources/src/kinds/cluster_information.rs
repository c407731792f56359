//! ClusterInformation: the identity of the cluster. There is one, called `default`.

use serde::{Deserialize, Serialize};

use super::kind;

kind! {
    /// The identity of the cluster.
    ClusterInformation {
        /// Who we are.
        spec: ClusterInformationSpec,
    }
}

/// The cluster's id and what runs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformationSpec {
    /// 32 hexadecimal digits, chosen once.
    #[serde(rename = "clusterGUID", skip_serializing_if = "String::is_empty")]
    pub cluster_guid: String,
    /// Words about the kind of cluster, separated by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_type: String,
    /// The version that wrote it last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub calico_version: String,
    /// While false, enforcers wait before they act on changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,
    /// Which edition wrote it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}
