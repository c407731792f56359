//! Call: one request as the verbs see it: who, with which headers and query, at what time.
//!
//! The clock is read here, once per request, so that a create's timestamp, its author's time and the ages in a table
//! agree. It refuses to read bodies.

use appliance_resources::{Kind, Status};
use appliance_storage::{AUTHOR_FIELD_BYTES_MAX, Author};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::{Response, StatusCode, request::Parts};
use time::OffsetDateTime;

use super::accept::{self, Representation};
use super::body::{ApiBody, Courtesy};
use super::caller::{self, Caller, Identity};
use super::decode;
use super::registry::Written;
use super::representation::{Renderer, Stored};
use super::request::{Scope, Verb};
use super::respond::{Refusal, answer, warn};
use super::writing;

/// Why a write is made, in the words of whoever makes it; kept with the revision.
const REASON_HEADER: HeaderName = HeaderName::from_static("appliance-reason");

/// The client's name for a write: whoever repeats a request with the same name has one effect.
const REQUEST_HEADER: HeaderName = HeaderName::from_static("appliance-request");

/// How long such a name is, in hexadecimal digits.
const REQUEST_DIGITS: usize = 32;

/// Every header that begins like this asks to act as somebody else.
const IMPERSONATE: &str = "impersonate-";

/// One request without its body.
pub(crate) struct Call<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) query: &'a str,
    pub(crate) now: OffsetDateTime,
    head: &'a Parts,
}

impl<'a> Call<'a> {
    /// The call of a request that came in just now.
    pub(crate) fn new(caller: &'a Caller, head: &'a Parts) -> Call<'a> {
        Call { caller, query: head.uri.query().unwrap_or(""), now: OffsetDateTime::now_utc(), head }
    }

    fn header(&self, name: &HeaderName) -> Option<&'a str> {
        self.head.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// How much of a body that is not wanted is read before the refusal.
    pub(crate) fn courtesy(&self) -> Courtesy {
        match self.caller.identity {
            Identity::Anonymous => Courtesy::STRANGER,
            Identity::User { .. } => Courtesy::USER,
        }
    }

    /// The path that was asked for.
    pub(crate) fn path(&self) -> &'a str {
        self.head.uri.path()
    }

    /// The `Accept` header.
    pub(crate) fn accept(&self) -> Option<&'a str> {
        self.header(&ACCEPT)
    }

    /// The `Content-Type` header.
    pub(crate) fn content_type(&self) -> Option<&'a str> {
        self.header(&CONTENT_TYPE)
    }

    /// A header by name, for what only one path reads.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&'a str> {
        self.header(name)
    }

    /// How answers to this call are made.
    pub(crate) fn renderer(&self) -> Result<Renderer, Refusal> {
        let representation: Representation = accept::representation(self.accept(), self.query)?;
        Ok(Renderer { representation, now: self.now })
    }

    /// Whoever asks to act as another is refused: to ignore the wish would act with the wrong rights.
    pub(crate) fn refuse_impersonation(&self) -> Result<(), Refusal> {
        if self.head.headers.keys().any(|name| name.as_str().starts_with(IMPERSONATE)) {
            let message = format!("User {:?} cannot impersonate: not supported here", self.caller.name());
            return Err(Status::forbidden_path(message).into());
        }
        Ok(())
    }

    /// Refuses what the caller's role does not allow.
    pub(crate) fn authorise(&self, verb: Verb, scope: &Scope) -> Result<(), Refusal> {
        match self.caller.role() {
            Some(role) if caller::allows(role, verb, scope) => Ok(()),
            _ => {
                let why = caller::refusal(self.caller, verb, scope);
                let name = scope.name.as_deref().unwrap_or("");
                Err(Status::forbidden(scope.kind, name, &why).into())
            }
        }
    }

    /// Who a write is by, from where, why and when.
    pub(crate) fn author(&self) -> Result<Author, Refusal> {
        let reason = match self.head.headers.get(&REASON_HEADER) {
            None => "",
            Some(value) if value.len() > AUTHOR_FIELD_BYTES_MAX => {
                let message = format!("Appliance-Reason is longer than {AUTHOR_FIELD_BYTES_MAX} bytes");
                return Err(Status::bad_request(message).into());
            }
            Some(value) => std::str::from_utf8(value.as_bytes())
                .map_err(|_| Status::bad_request("Appliance-Reason is not UTF-8"))?,
        };
        Ok(self.caller.author(reason, self.now))
    }

    /// The same for a write to an object: with the client's name for the request, if it has one.
    pub(crate) fn writer(&self) -> Result<Author, Refusal> {
        let Some(name) = self.head.headers.get(&REQUEST_HEADER) else { return self.author() };
        let name = std::str::from_utf8(name.as_bytes()).unwrap_or_default();
        if name.len() != REQUEST_DIGITS || !name.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            let message = format!("Appliance-Request is not {REQUEST_DIGITS} hexadecimal digits");
            return Err(Status::bad_request(message).into());
        }
        let request = writing::request_of(self.caller.name(), &name.to_ascii_lowercase());
        Ok(Author { request: Some(request), ..self.author()? })
    }

    /// The body as a value; an empty one is none.
    pub(crate) fn decode(&self, body: &Bytes) -> Result<Option<decode::Decoded>, Refusal> {
        if body.is_empty() {
            return Ok(None);
        }
        Ok(Some(decode::body(self.content_type(), body)?))
    }

    /// What a write answers: the object as it stands now.
    pub(crate) fn written(
        &self,
        code: StatusCode,
        kind: Kind,
        written: &Written,
        warnings: &[String],
    ) -> Result<Response<ApiBody>, Refusal> {
        let renderer = self.renderer()?;
        let stored = Stored { kind, value: &written.value, revision: written.revision };
        let body = renderer.object(stored)?;
        Ok(warn(answer(code, renderer.representation.format, body), warnings))
    }
}
