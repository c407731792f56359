//! FieldError: one thing wrong with one field, and FieldErrors: all of them together.
//!
//! Decoding and validation collect into the same list, so an operator sees every mistake of a manifest at once. It is
//! printed as Kubernetes prints it (`spec.node: Required value: …`); calicoctl's wording is `ctl`'s business.

use std::fmt;

use serde_json::Value;

/// What kind of mistake it is; the names are Kubernetes' cause reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The value breaks a rule.
    Invalid,
    /// The field must be given.
    Required,
    /// The value is there already.
    Duplicate,
    /// The value is not one of the few allowed.
    NotSupported,
    /// The field or value may not be used here.
    Forbidden,
    /// The value is too long or has too many items.
    TooLong,
    /// The value has the wrong JSON type.
    TypeInvalid,
}

impl Cause {
    /// The word in `status.details.causes[].reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Invalid => "FieldValueInvalid",
            Cause::Required => "FieldValueRequired",
            Cause::Duplicate => "FieldValueDuplicate",
            Cause::NotSupported => "FieldValueNotSupported",
            Cause::Forbidden => "FieldValueForbidden",
            Cause::TooLong => "FieldValueTooLong",
            Cause::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// What is wrong with a value, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) cause: Cause,
    pub(crate) reason: String,
}

impl Complaint {
    pub(crate) fn new(cause: Cause, reason: impl Into<String>) -> Complaint {
        Complaint { cause, reason: reason.into() }
    }
}

/// One mistake: where, what stands there, and why it may not.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The JSON path: `spec.ingress[0].protocol`.
    pub path: String,
    /// What was found there; `None` when nothing was, or when it would not help.
    pub value: Option<Value>,
    /// Why it is wrong and what would be right.
    pub reason: String,
    /// The kind of mistake.
    pub cause: Cause,
}

impl FieldError {
    /// Kubernetes' text for the mistake without its place: `Invalid value: "a": must …`.
    pub fn message(&self) -> String {
        let title = match self.cause {
            Cause::Invalid | Cause::TypeInvalid => "Invalid value",
            Cause::Required => "Required value",
            Cause::Duplicate => "Duplicate value",
            Cause::NotSupported => "Unsupported value",
            Cause::Forbidden => "Forbidden",
            Cause::TooLong => "Too long",
        };
        let shown = match (&self.value, self.cause) {
            (Some(value), Cause::Invalid | Cause::TypeInvalid | Cause::Duplicate | Cause::NotSupported) => {
                format!(": {}", shorten(value.to_string()))
            }
            _ => String::new(),
        };
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("{title}{shown}{reason}")
    }
}

/// `spec.node: Required value: node must be specified`.
impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return formatter.write_str(&self.message());
        }
        write!(formatter, "{}: {}", self.path, self.message())
    }
}

/// Every mistake found, in the order of the document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes one mistake.
    pub(crate) fn add(&mut self, path: impl Into<String>, value: Option<Value>, complaint: Complaint) {
        self.0.push(FieldError {
            path: path.into(),
            value,
            reason: complaint.reason,
            cause: complaint.cause,
        });
    }

    /// `Ok` when nothing is wrong.
    pub(crate) fn into_result(self) -> Result<(), FieldErrors> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// Kubernetes' text: the mistakes in brackets, or the only one bare.
impl fmt::Display for FieldErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [error] => error.fmt(formatter),
            errors => {
                let all: Vec<String> = errors.iter().map(FieldError::to_string).collect();
                write!(formatter, "[{}]", all.join(", "))
            }
        }
    }
}

impl std::error::Error for FieldErrors {}

/// `"a", "b"`: the values a message offers.
pub(crate) fn quoted_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// A message shows no more of a value than this; the path says where the rest is.
const SHOWN_VALUE_MAX: usize = 256;

fn shorten(text: String) -> String {
    if text.len() <= SHOWN_VALUE_MAX {
        return text;
    }
    let cut: String = text.chars().take(SHOWN_VALUE_MAX).collect();
    format!("{cut}...")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(path: &str, value: Option<Value>, cause: Cause, reason: &str) -> FieldError {
        FieldError { path: path.to_owned(), value, reason: reason.to_owned(), cause }
    }

    #[test]
    fn kubernetes_text() {
        let required = error("spec.node", None, Cause::Required, "node must be specified");
        assert_eq!(required.to_string(), "spec.node: Required value: node must be specified");
        let invalid = error("spec.nets[1]", Some(json!("foo")), Cause::Invalid, "not a CIDR");
        assert_eq!(invalid.to_string(), "spec.nets[1]: Invalid value: \"foo\": not a CIDR");
        let both = FieldErrors(vec![required, invalid]);
        assert_eq!(
            both.to_string(),
            "[spec.node: Required value: node must be specified, spec.nets[1]: Invalid value: \"foo\": not a CIDR]"
        );
    }

    #[test]
    fn long_values_are_cut() {
        let error = error("spec.selector", Some(json!("é".repeat(1_000))), Cause::Invalid, "too odd");
        assert!(error.message().len() < 2 * SHOWN_VALUE_MAX + 100);
    }
}
