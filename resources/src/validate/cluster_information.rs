//! ClusterInformation: there is one.

use super::Checker;
use crate::{builtin::CLUSTER_INFORMATION_NAME, kinds::cluster_information::ClusterInformation};

pub(super) fn check(checker: &mut Checker, information: &ClusterInformation) {
    let name = &information.metadata.name;
    if !name.is_empty() && name != CLUSTER_INFORMATION_NAME {
        let reason = format!("there is one ClusterInformation, called {CLUSTER_INFORMATION_NAME:?}");
        checker.invalid("metadata.name", name.as_str(), reason);
    }
}
