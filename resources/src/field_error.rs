//! FieldError: one thing wrong with one field, and FieldErrors: all of them together.
//!
//! Decoding and validation collect into the same list, so an operator sees every mistake of a manifest at once. Two
//! printed forms: Kubernetes' (`spec.node: Required value: …`, used in `Status`) and calicoctl's
//! (`error with field Node = '' (…)`, used by `ctl`).

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

    /// The field as calicoctl names it: the last word of the path as Go spells it (`spec.expectedIPs[0]` →
    /// `ExpectedIPs`, `metadata.name` → `Metadata.Name`). What is missing from an object is said of the object, by its
    /// path.
    pub fn calicoctl_name(&self) -> String {
        let bare = |segment: &str| capitalise(segment.split('[').next().unwrap_or_default());
        let (parent, last) = self.path.rsplit_once('.').unwrap_or(("", &self.path));
        match self.path.strip_prefix("metadata.") {
            Some(rest) => format!("Metadata.{}", bare(rest.split(['.', '[']).next().unwrap_or_default())),
            None if self.cause == Cause::Required && !parent.is_empty() => parent.to_owned(),
            None if parent.is_empty() => self.path.clone(),
            None => bare(last),
        }
    }

    /// Calicoctl's `NAME = 'VALUE' (REASON)`.
    fn calicoctl_text(&self) -> String {
        match &self.value {
            Some(value) => format!("{} = '{}' ({})", self.calicoctl_name(), plain(value), self.reason),
            None => format!("{} ({})", self.calicoctl_name(), self.reason),
        }
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

    /// Calicoctl's text: one line for one mistake, a heading and one line each for several.
    pub fn calicoctl_text(&self) -> String {
        match self.0.as_slice() {
            [] => "unknown validation error".to_owned(),
            [error] => format!("error with field {}", error.calicoctl_text()),
            errors => {
                let lines: String =
                    errors.iter().map(|error| format!("-  {}\n", error.calicoctl_text())).collect();
                format!("error with the following fields:\n{lines}")
            }
        }
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

/// A value as an operator typed it: strings without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => shorten(text.clone()),
        other => shorten(other.to_string()),
    }
}

fn capitalise(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
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
    fn calicoctl_text() {
        let name = error("metadata.name", Some(json!("BAD_Name")), Cause::Invalid, "why");
        assert_eq!(name.calicoctl_name(), "Metadata.Name");
        let port = error("spec.ports[0].port", Some(json!(0)), Cause::Invalid, "why");
        assert_eq!(FieldErrors(vec![port.clone()]).calicoctl_text(), "error with field Port = '0' (why)");
        let node = error("spec.node", None, Cause::Required, "node must be specified");
        assert_eq!(
            FieldErrors(vec![node]).calicoctl_text(),
            "error with field spec (node must be specified)"
        );
        let spec = error("spec", None, Cause::Required, "at least one");
        assert_eq!(
            FieldErrors(vec![port, spec]).calicoctl_text(),
            "error with the following fields:\n-  Port = '0' (why)\n-  spec (at least one)\n"
        );
    }

    #[test]
    fn long_values_are_cut() {
        let error = error("spec.selector", Some(json!("é".repeat(1_000))), Cause::Invalid, "too odd");
        assert!(error.message().len() < 2 * SHOWN_VALUE_MAX + 100);
    }
}
