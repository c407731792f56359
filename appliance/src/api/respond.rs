//! Results and refusals as HTTP. Pure.
//!
//! Whatever is refused is a Kubernetes `Status`, whoever refused it; this file is the one place that maps the errors
//! of the layers below to one. The rule that matters most: 503 with `Retry-After` says that nothing was done, and
//! clients repeat the request blindly; a write whose fate is unknown is therefore 504, never 503.

use appliance_consensus::{ProposeError, ReadError};
use appliance_resources::{Reason, Status, StatusCause, StatusDetails};
use appliance_storage::{Compacted, Fatal};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};

use super::accept::{Format, NotAcceptable};
use super::body::{ApiBody, ReadBodyError};
use super::decode::DecodeError;
use super::options::{OptionsError, Rule};
use super::representation::Unreadable;
use super::request::Unroutable;

/// Seconds a client waits before it asks again: about the length of an election.
const RETRY_SECONDS: u32 = 1;

/// What is answered instead of what was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal(Box<Status>);

impl Refusal {
    /// The body of the answer.
    pub(crate) fn status(&self) -> &Status {
        &self.0
    }

    /// Whether the object was not there, for callers inside the process.
    pub(crate) fn is_not_found(&self) -> bool {
        self.0.reason == Some(Reason::NotFound)
    }

    /// Whether it says that nothing was done and a later moment may do, for callers inside the process.
    pub(crate) fn is_for_later(&self) -> bool {
        [429, 503].contains(&self.0.code)
    }

    /// Whether the name was taken, for callers inside the process.
    pub(crate) fn is_already_exists(&self) -> bool {
        self.0.reason == Some(Reason::AlreadyExists)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Refusal {}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal(Box::new(status))
    }
}

impl From<Unroutable> for Refusal {
    fn from(error: Unroutable) -> Refusal {
        match error {
            Unroutable::NotFound => Status::no_such_path().into(),
            Unroutable::MethodNotAllowed => Status::method_not_allowed().into(),
        }
    }
}

impl From<NotAcceptable> for Refusal {
    fn from(_: NotAcceptable) -> Refusal {
        Status::not_acceptable(NotAcceptable::OFFERED).into()
    }
}

impl From<ReadBodyError> for Refusal {
    fn from(error: ReadBodyError) -> Refusal {
        match error {
            ReadBodyError::TooLarge { limit } => Status::too_large(limit).into(),
            ReadBodyError::Broken(_) | ReadBodyError::TooSlow => {
                Status::bad_request(error.to_string()).into()
            }
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Refusal {
        match error {
            DecodeError::MediaType(accepted) => Status::unsupported_media_type(accepted).into(),
            DecodeError::Malformed(_) => Status::bad_request(error.to_string()).into(),
        }
    }
}

impl From<OptionsError> for Refusal {
    fn from(error: OptionsError) -> Refusal {
        match error {
            OptionsError::Unreadable(message) => Status::bad_request(message).into(),
            OptionsError::Invalid { options, field, rule, detail } => {
                invalid_options(options, field, rule, &detail).into()
            }
        }
    }
}

/// Options are no object of ours, but their refusals read like those of one.
fn invalid_options(options: &str, field: &str, rule: Rule, detail: &str) -> Status {
    let (cause, message) = match rule {
        Rule::Forbidden => ("FieldValueForbidden", format!("Forbidden: {detail}")),
        Rule::NotSupported => ("FieldValueNotSupported", format!("Unsupported value: {detail}")),
        Rule::Invalid => ("FieldValueInvalid", format!("Invalid value: {detail}")),
    };
    Status {
        status: "Failure".to_owned(),
        message: format!("{options}.meta.k8s.io \"\" is invalid: {field}: {message}"),
        reason: Some(Reason::Invalid),
        code: 422,
        details: Some(StatusDetails {
            group: "meta.k8s.io".to_owned(),
            kind: options.to_owned(),
            causes: vec![StatusCause { reason: cause.to_owned(), message, field: field.to_owned() }],
            ..StatusDetails::default()
        }),
        ..Status::default()
    }
}

impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Refusal {
        match error {
            ProposeError::NoLeader | ProposeError::Busy | ProposeError::Removed | ProposeError::Stopped => {
                unavailable(error).into()
            }
            ProposeError::Uncertain => Status::timeout(error).into(),
            ProposeError::TooLarge { limit, .. } => Status::too_large(limit).into(),
            ProposeError::Invalid { reason } => Status::bad_request(reason).into(),
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        unavailable(error).into()
    }
}

impl From<Fatal> for Refusal {
    fn from(error: Fatal) -> Refusal {
        Status::internal(error).into()
    }
}

impl From<Unreadable> for Refusal {
    fn from(error: Unreadable) -> Refusal {
        Status::internal(error).into()
    }
}

impl From<Compacted> for Refusal {
    fn from(error: Compacted) -> Refusal {
        expired(error.after.0, error.compacted.0).into()
    }
}

/// Nothing was done, and after an election or a look at another member it may be.
pub(crate) fn unavailable(why: impl std::fmt::Display) -> Status {
    Status::unavailable(why.to_string(), RETRY_SECONDS)
}

/// The revision asked for is older than the history kept; the second number is where that begins.
pub(crate) fn expired(asked: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {asked} ({oldest})"))
}

/// A revision that has not happened yet, or not here.
pub(crate) fn too_new(asked: u64, current: u64) -> Status {
    let message = format!("Too large resource version: {asked}, current: {current}");
    let mut status = Status::timeout(&message);
    let details = status.details.get_or_insert_default();
    details.retry_after_seconds = Some(RETRY_SECONDS);
    details.causes =
        vec![StatusCause { reason: "ResourceVersionTooLarge".to_owned(), message, field: String::new() }];
    status
}

/// An answer with a body of ours.
pub(crate) fn answer(code: StatusCode, format: Format, body: Vec<u8>) -> Response<ApiBody> {
    typed(code, format.content_type(), body)
}

/// An answer with a body of any type.
pub(crate) fn typed(code: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::Whole(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A value of ours as JSON.
pub(crate) fn json(code: StatusCode, value: &impl serde::Serialize) -> Response<ApiBody> {
    match serde_json::to_vec(value) {
        Ok(body) => answer(code, Format::Json, body),
        Err(error) => refuse(&Status::internal(error).into()),
    }
}

/// The answer to whoever is refused.
pub(crate) fn refuse(refusal: &Refusal) -> Response<ApiBody> {
    let status = refusal.status();
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // A status is strings and numbers; there is nothing in it that JSON could refuse.
    let body = serde_json::to_vec(status).unwrap_or_default();
    let mut response = answer(code, Format::Json, body);
    // kubectl heeds the header alone: the field in the details makes no client wait.
    if let Some(seconds) = status.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// More warnings than this bury what they say.
const WARNINGS_MAX: usize = 32;

/// Adds what the client should know although it got what it asked for.
pub(crate) fn warn(mut response: Response<ApiBody>, warnings: &[String]) -> Response<ApiBody> {
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_did_nothing_may_be_tried_again() {
        for (error, code, retry) in [
            (ProposeError::NoLeader, 503, true),
            (ProposeError::Busy, 503, true),
            (ProposeError::Removed, 503, true),
            (ProposeError::Stopped, 503, true),
            (ProposeError::Uncertain, 504, false),
            (ProposeError::TooLarge { size: 2, limit: 1 }, 413, false),
        ] {
            let response = refuse(&error.clone().into());
            assert_eq!(response.status().as_u16(), code, "{error}");
            assert_eq!(response.headers().contains_key(RETRY_AFTER), retry, "{error}");
        }
    }

    #[test]
    fn options_are_refused_like_objects() {
        let status = invalid_options("ListOptions", "sendInitialEvents", Rule::Forbidden, "not here");
        assert_eq!(
            status.message,
            "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: not here"
        );
        assert_eq!(status.code, 422);
        assert_eq!(status.details.unwrap().causes[0].reason, "FieldValueForbidden");
    }

    #[test]
    fn a_version_from_the_future_says_so() {
        let refusal = Refusal::from(too_new(9, 5));
        assert_eq!(refusal.status().message, "Timeout: Too large resource version: 9, current: 5");
        assert_eq!(refuse(&refusal).headers()[RETRY_AFTER], "1");
        assert_eq!(refuse(&refusal).status(), StatusCode::GATEWAY_TIMEOUT);
    }

    #[test]
    fn warnings_are_quoted() {
        let response = answer(StatusCode::OK, Format::Json, Vec::new());
        let response = warn(response, &[r#"unknown field "spec.\x""#.to_owned(), "two\nlines".to_owned()]);
        let warnings: Vec<_> = response.headers().get_all(WARNING).iter().collect();
        assert_eq!(warnings, [r#"299 - "unknown field \"spec.\\x\"""#, r#"299 - "twolines""#]);
    }
}
