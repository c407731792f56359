//! What the operator reads when something fails: what was asked, what the node said, what to try. Pure.
//!
//! Two halves. [`ClientError`] is why a request got no result; [`cause`] turns it, together with the object it was
//! about, into calicoctl's wording, which scripts match. Exit codes are decided in `lib.rs`.

use std::io;
use std::path::PathBuf;

use appliance_resources::Kind;
use serde_json::Value;

use crate::field::{self, FieldFault};
use crate::target::Target;

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "no appliance listens on {}: is the node running? start it with `appliance run` or `systemctl start \
         appliance`, or say where it is with --socket, --kubeconfig or --server",
        .0.display()
    )]
    SocketAbsent(PathBuf),
    #[error("permission denied on {}: the socket is for root only; use sudo, or a kubeconfig with --kubeconfig", .0.display())]
    SocketDenied(PathBuf),
    #[error("can not connect to {address}: {source}; is the node running there?")]
    Connect { address: String, source: io::Error },
    #[error("TLS with {address} failed: {reason}")]
    Tls { address: String, reason: String },
    #[error("the credentials can not be used: {0}")]
    Credentials(String),
    #[error("{}", .0.message)]
    Api(Box<ApiError>),
    #[error(
        "the connection broke after the request was sent ({0}): the change may or may not have been made; look with \
         `get` before trying again"
    )]
    Uncertain(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the output can not be written: {0}")]
    Output(io::Error),
    #[error("the node's answer is not what was asked for: {0}")]
    Malformed(String),
}

/// A refusal by the node: the parts of its Status that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Plural for most refusals, the kind for Invalid.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) faults: Vec<FieldFault>,
}

impl ApiError {
    /// Reads a Status; a body that is none keeps its code and gets a plain sentence.
    pub(crate) fn from_status(code: u16, status: &Value) -> ApiError {
        let text =
            |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
        let causes = status.pointer("/details/causes").and_then(Value::as_array).map(Vec::as_slice);
        let message = match text("/message") {
            message if message.is_empty() => format!("the node answered {code} without saying why"),
            message => message,
        };
        ApiError {
            code,
            reason: text("/reason"),
            message,
            kind: text("/details/kind"),
            name: text("/details/name"),
            faults: causes.unwrap_or_default().iter().map(FieldFault::from_cause).collect(),
        }
    }
}

impl ClientError {
    /// Whether the node says that the object is not there.
    pub(crate) fn is_absent(&self, target: &Target) -> bool {
        matches!(self, ClientError::Api(api) if api.code == 404 && missing(api, target) == target.to_string())
    }

    pub(crate) fn is_already_exists(&self) -> bool {
        matches!(self, ClientError::Api(api) if api.code == 409 && api.reason == "AlreadyExists")
    }

    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, ClientError::Api(api) if api.code == 409 && api.reason != "AlreadyExists")
    }

    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, ClientError::Api(api) if api.code == 410)
    }

    /// Whether further requests would fail the same way, so that a batch may stop.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(
            self,
            ClientError::SocketAbsent(_)
                | ClientError::SocketDenied(_)
                | ClientError::Connect { .. }
                | ClientError::Tls { .. }
                | ClientError::Credentials(_)
        )
    }
}

/// The cause of a failure about `target`, in calicoctl's words where it has any.
pub(crate) fn cause(operation: &str, target: &Target, error: &ClientError) -> String {
    let ClientError::Api(api) = error else { return error.to_string() };
    match api.code {
        404 => format!("{ABSENT}{} with error: <nil>", missing(api, target)),
        409 if api.reason == "AlreadyExists" => {
            format!("resource already exists: {target} with error: <nil>")
        }
        409 => format!("update conflict: {target}"),
        401 => {
            format!("connection is unauthorized: {}; the node does not accept these credentials", api.message)
        }
        403 => forbidden(operation, target, &api.message),
        400 => match unknown_field(&api.message) {
            Some(field) => format!("{UNKNOWN_FIELD}{field}"),
            None => api.message.clone(),
        },
        422 => match api.faults.as_slice() {
            [] => api.message.clone(),
            // What the object needs and is not there: calicoctl names that, not the field that names it.
            [fault] if fault.reason.starts_with(ABSENT) => format!("{} with error: <nil>", fault.reason),
            faults => field::describe(faults),
        },
        503 => format!(
            "the node can not serve this now: {}; `appliance ctl cluster status` says what is missing",
            api.message
        ),
        504 => format!(
            "the outcome is unknown: {}; the change may or may not have been made, look with `get` before trying again",
            api.message
        ),
        _ => api.message.clone(),
    }
}

/// How calicoctl, and the node after it, begin to say that something is not there.
const ABSENT: &str = "resource does not exist: ";

/// The head of the message that replaces all others when a manifest has a field nobody knows.
pub(crate) const UNKNOWN_FIELD: &str = "field in document is not recognized or is in the wrong location: ";

/// The field a strict decoding error names, without the path before it: calicoctl shows the bare name.
pub(crate) fn unknown_field(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("unknown field \"")?;
    let (path, _) = rest.split_once('"')?;
    path.rsplit('.').next()
}

/// What is missing: usually the object itself, else something it needs, such as its tier.
fn missing(api: &ApiError, target: &Target) -> String {
    let other = Kind::ALL.iter().find(|kind| kind.plural() == api.kind || kind.name() == api.kind);
    match other {
        Some(kind) if *kind != target.kind && !api.name.is_empty() => {
            format!("{}({})", kind.name(), api.name)
        }
        _ => target.to_string(),
    }
}

/// Not allowed to this user, or not possible for anyone.
fn forbidden(operation: &str, target: &Target, message: &str) -> String {
    match message.split_once("is forbidden: ") {
        // The node words what nobody may do as calicoctl does.
        Some((_, why)) if why.starts_with("operation ") => why.to_string(),
        Some((_, why)) if !why.starts_with("User \"") && !why.starts_with("user \"") => {
            format!("operation {operation} is not supported on {}: {why}", target.name)
        }
        _ => format!("connection is unauthorized: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(code: u16, status: Value, expected: &str) {
        let target = Target { kind: Kind::HostEndpoint, namespace: None, name: "endpoint1".to_string() };
        let error = ClientError::Api(Box::new(ApiError::from_status(code, &status)));
        assert_eq!(cause("delete", &target, &error), expected);
    }

    #[test]
    fn refusals_are_told_in_calicoctl_words() {
        let details = |kind: &str, name: &str| json!({"kind": kind, "name": name});
        check(
            404,
            json!({"reason": "NotFound", "message": "x", "details": details("hostendpoints", "endpoint1")}),
            "resource does not exist: HostEndpoint(endpoint1) with error: <nil>",
        );
        check(
            404,
            json!({"reason": "NotFound", "message": "x", "details": details("tiers", "nosuch")}),
            "resource does not exist: Tier(nosuch) with error: <nil>",
        );
        check(
            409,
            json!({"reason": "AlreadyExists", "message": "x"}),
            "resource already exists: HostEndpoint(endpoint1) with error: <nil>",
        );
        check(409, json!({"reason": "Conflict", "message": "x"}), "update conflict: HostEndpoint(endpoint1)");
        check(
            403,
            json!({"message": "hostendpoints.projectcalico.org \"endpoint1\" is forbidden: User \"u\" cannot delete"}),
            "connection is unauthorized: hostendpoints.projectcalico.org \"endpoint1\" is forbidden: User \"u\" cannot delete",
        );
        check(
            403,
            json!({"message": "tiers.projectcalico.org \"a\" is forbidden: Cannot delete a non-empty tier"}),
            "operation delete is not supported on endpoint1: Cannot delete a non-empty tier",
        );
        check(
            403,
            json!({"message": "tiers.projectcalico.org \"default\" is forbidden: operation Delete is not supported on default: Cannot delete default tier"}),
            "operation Delete is not supported on default: Cannot delete default tier",
        );
        check(
            400,
            json!({"message": "HostEndpoint in version \"v3\" cannot be handled as a HostEndpoint: strict decoding error: unknown field \"spec.unknown\""}),
            "field in document is not recognized or is in the wrong location: unknown",
        );
        check(
            504,
            json!({"message": "Timeout: leader moved"}),
            "the outcome is unknown: Timeout: leader moved; the change may or may not have been made, look with `get` before trying again",
        );
        check(500, json!(null), "the node answered 500 without saying why");
    }

    #[test]
    fn a_missing_tier_is_named_as_missing() {
        let status = json!({"reason": "Invalid", "message": "m", "details": {"kind": "GlobalNetworkPolicy", "name": "p",
            "causes": [{"field": "spec.tier", "reason": "FieldValueInvalid",
                        "message": "Invalid value: \"nosuch\": resource does not exist: Tier(nosuch)"}]}});
        check(422, status, "resource does not exist: Tier(nosuch) with error: <nil>");
    }

    #[test]
    fn invalid_objects_name_the_field_and_its_value() {
        let status = json!({"reason": "Invalid", "message": "m", "details": {"kind": "HostEndpoint", "name": "endpoint1",
            "causes": [{"field": "spec.interfaceName", "reason": "FieldValueInvalid",
                        "message": "Invalid value: \"wibblywobblyeth0\": must be at most 15 characters"}]}});
        check(
            422,
            status,
            "error with field InterfaceName = 'wibblywobblyeth0' (must be at most 15 characters)",
        );
    }
}
