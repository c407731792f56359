//! Status: the body of every refusal, and of some successes. Texts and reasons are Kubernetes', because clients read
//! them.
//!
//! One constructor per situation, so that the same situation reads the same wherever it arises. Nothing here decides
//! which situation it is.

use serde::{Deserialize, Serialize};

use crate::{field_error::FieldErrors, kind::Kind, meta::ListMeta};

/// What clients get instead of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Always `Status`.
    pub kind: String,
    /// Always `v1`.
    pub api_version: String,
    /// Always empty.
    pub metadata: ListMeta,
    /// `Success` or `Failure`.
    pub status: String,
    /// What a person should read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What a program should read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Which object, which fields, when to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    /// The HTTP status.
    pub code: u16,
}

/// Why a request failed, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// 400.
    BadRequest,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 406.
    NotAcceptable,
    /// 409, the name is taken.
    AlreadyExists,
    /// 409, the object moved on.
    Conflict,
    /// 410, the revision is compacted.
    Expired,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 422.
    Invalid,
    /// 429.
    TooManyRequests,
    /// 500.
    InternalError,
    /// 503.
    ServiceUnavailable,
    /// 504, the outcome is unknown or did not come in time.
    Timeout,
    /// A reason this version does not know; only in answers of other servers.
    #[serde(other)]
    Unknown,
}

/// Which object, which fields, when to try again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The group of its kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural of its kind; for `Invalid`, the kind itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Each field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One field that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// `FieldValueInvalid` and its siblings.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// Where: `spec.ingress[0].protocol`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Default for Status {
    fn default() -> Status {
        Status {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            metadata: ListMeta::default(),
            status: String::new(),
            message: String::new(),
            reason: None,
            details: None,
            code: 0,
        }
    }
}

impl Status {
    fn failure(code: u16, reason: Reason, message: impl Into<String>) -> Status {
        let (status, message) = ("Failure".to_owned(), message.into());
        Status { status, message, reason: Some(reason), code, ..Status::default() }
    }

    fn about(mut self, kind: Kind, name: &str) -> Status {
        let (name, group, kind) = (name.to_owned(), kind.group().to_owned(), kind.plural().to_owned());
        self.details = Some(StatusDetails { name, group, kind, ..StatusDetails::default() });
        self
    }

    fn retry_after(mut self, seconds: u32) -> Status {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// Done; `uid` tells a waiting client which object it was that went.
    pub fn success(kind: Kind, name: &str, uid: Option<&str>) -> Status {
        let mut status =
            Status { status: "Success".to_owned(), code: 200, ..Status::default() }.about(kind, name);
        status.details.get_or_insert_default().uid = uid.unwrap_or_default().to_owned();
        status
    }

    /// The request itself makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::failure(400, Reason::BadRequest, message)
    }

    /// Nobody knows who asks.
    pub fn unauthorized() -> Status {
        Status::failure(401, Reason::Unauthorized, "Unauthorized")
    }

    /// Who asks may not, or nobody may. `name` is empty for a whole collection.
    pub fn forbidden(kind: Kind, name: &str, why: &str) -> Status {
        let quoted = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let message = format!("{}{quoted} is forbidden: {why}", kind.qualified_plural());
        Status::failure(403, Reason::Forbidden, message).about(kind, name)
    }

    /// Who asks may not reach this path, which is no object's.
    pub fn forbidden_path(why: impl Into<String>) -> Status {
        Status::failure(403, Reason::Forbidden, why)
    }

    /// There is no such object.
    pub fn not_found(kind: Kind, name: &str) -> Status {
        let message = format!("{} {name:?} not found", kind.qualified_plural());
        Status::failure(404, Reason::NotFound, message).about(kind, name)
    }

    /// There is nothing at this path.
    pub fn no_such_path() -> Status {
        let mut status =
            Status::failure(404, Reason::NotFound, "the server could not find the requested resource");
        status.details = Some(StatusDetails::default());
        status
    }

    /// The path is right, the verb is not.
    pub fn method_not_allowed() -> Status {
        Status::failure(
            405,
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
    }

    /// None of the forms the client reads can be written.
    pub fn not_acceptable(offered: &str) -> Status {
        let message = format!("only the following media types are accepted: {offered}");
        Status::failure(406, Reason::NotAcceptable, message)
    }

    /// The name is taken.
    pub fn already_exists(kind: Kind, name: &str) -> Status {
        let message = format!("{} {name:?} already exists", kind.qualified_plural());
        Status::failure(409, Reason::AlreadyExists, message).about(kind, name)
    }

    /// The object is not the one the client last saw.
    pub fn conflict(kind: Kind, name: &str) -> Status {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict_because(kind, name, why)
    }

    /// A precondition of the request does not hold.
    pub fn conflict_because(kind: Kind, name: &str, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified_plural());
        Status::failure(409, Reason::Conflict, message).about(kind, name)
    }

    /// The history the request wants is compacted.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::failure(410, Reason::Expired, message)
    }

    /// The body is larger than any object may be.
    pub fn too_large(limit: usize) -> Status {
        let message = format!("Request entity too large: limit is {limit}");
        Status::failure(413, Reason::RequestEntityTooLarge, message)
    }

    /// The body is in a form that is not read here.
    pub fn unsupported_media_type(accepted: &str) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Status::failure(415, Reason::UnsupportedMediaType, message)
    }

    /// The object breaks the rules; every field that does is named.
    pub fn invalid(kind: Kind, name: &str, errors: &FieldErrors) -> Status {
        let message = format!("{}.{} {name:?} is invalid: {errors}", kind.name(), kind.group());
        let causes = errors.0.iter().map(|error| StatusCause {
            reason: error.cause.as_str().to_owned(),
            message: error.message(),
            field: error.path.clone(),
        });
        let mut status = Status::failure(422, Reason::Invalid, message).about(kind, name);
        let details = status.details.get_or_insert_default();
        details.kind = kind.name().to_owned();
        details.causes = causes.collect();
        status
    }

    /// Too much is asked at once.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Status {
        Status::failure(429, Reason::TooManyRequests, message).retry_after(seconds)
    }

    /// We made a mistake.
    pub fn internal(what: impl std::fmt::Display) -> Status {
        Status::failure(500, Reason::InternalError, format!("Internal error occurred: {what}"))
    }

    /// Not now; nothing was done, trying again is safe.
    pub fn unavailable(message: impl Into<String>, seconds: u32) -> Status {
        Status::failure(503, Reason::ServiceUnavailable, message).retry_after(seconds)
    }

    /// Not in time; whether anything was done is not known.
    pub fn timeout(what: impl std::fmt::Display) -> Status {
        Status::failure(504, Reason::Timeout, format!("Timeout: {what}"))
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field_error::{Cause, Complaint};

    #[test]
    fn not_found_names_the_plural() {
        let status = serde_json::to_value(Status::not_found(Kind::GlobalNetworkPolicy, "x")).unwrap();
        assert_eq!(
            status,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "globalnetworkpolicies.projectcalico.org \"x\" not found", "reason": "NotFound",
                "details": {"name": "x", "group": "projectcalico.org", "kind": "globalnetworkpolicies"}, "code": 404})
        );
    }

    #[test]
    fn invalid_names_the_kind_and_every_field() {
        let mut errors = FieldErrors::default();
        errors.add("spec.node", None, Complaint::new(Cause::Required, "node must be specified"));
        let status = serde_json::to_value(Status::invalid(Kind::HostEndpoint, "x", &errors)).unwrap();
        assert_eq!(
            status["message"],
            "HostEndpoint.projectcalico.org \"x\" is invalid: spec.node: Required value: node must be specified"
        );
        assert_eq!(status["details"]["kind"], "HostEndpoint");
        assert_eq!(
            status["details"]["causes"],
            json!([{"reason": "FieldValueRequired", "message": "Required value: node must be specified", "field": "spec.node"}])
        );
    }

    #[test]
    fn who_must_wait_is_told_how_long() {
        let status = Status::unavailable("no leader: quorum 1/3", 1);
        assert_eq!(status.details.unwrap().retry_after_seconds, Some(1));
        assert_eq!(status.code, 503);
    }

    #[test]
    fn deletion_tells_which_object_went() {
        let status = serde_json::to_value(Status::success(Kind::Tier, "a", Some("u"))).unwrap();
        assert_eq!(status["status"], "Success");
        assert_eq!(
            status["details"],
            json!({"name": "a", "group": "projectcalico.org", "kind": "tiers", "uid": "u"})
        );
    }

    #[test]
    fn a_reason_of_another_server_is_read() {
        let status: Status = serde_json::from_value(json!({"reason": "Gone", "code": 410})).unwrap();
        assert_eq!(status.reason, Some(Reason::Unknown));
    }
}
