//! FieldFault: one complaint about one field, worded as calicoctl words it. Pure.
//!
//! The complaint comes from the node (a cause of a Status) or from the offline check; both end in the same sentence:
//! `error with field NAME = 'VALUE' (REASON)`. NAME is calicoctl's Go name where scripts know one, else the path; a Go
//! name deep inside a list is followed by the path, because "Port" alone finds nothing in a policy of forty rules.

use appliance_resources::FieldError;
use serde_json::Value;

/// One field, what it held, and what was wrong with that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldFault {
    pub(crate) path: String,
    pub(crate) value: Option<String>,
    pub(crate) reason: String,
}

/// Last part of a path, and the Go name calicoctl's messages carry for it.
const GO_NAMES: [(&str, &str); 6] = [
    ("interfaceName", "InterfaceName"),
    ("selector", "Selector"),
    ("peerIP", "PeerIP"),
    ("type", "Type"),
    ("port", "Port"),
    ("ports", "Port"),
];

impl FieldFault {
    /// From an entry of a Status' `details.causes`, whose message starts `Invalid value: "x": `.
    pub(crate) fn from_cause(cause: &Value) -> FieldFault {
        let text = |name: &str| cause.get(name).and_then(Value::as_str).unwrap_or_default();
        let (value, reason) = split_message(text("message"));
        FieldFault { path: text("field").to_string(), value, reason: reason.to_string() }
    }

    fn describe(&self) -> String {
        let (name, at) = self.name();
        match &self.value {
            Some(value) => format!("{name} = '{value}' ({}){at}", self.reason),
            None => format!("{name} ({}){at}", self.reason),
        }
    }

    /// The name of the field, and where it is if the name does not say.
    fn name(&self) -> (String, String) {
        if let Some(field) = self.path.strip_prefix("metadata.").filter(|field| !field.contains(['.', '['])) {
            return (format!("Metadata.{}", capitalised(field)), String::new());
        }
        let last = self.path.rsplit('.').next().unwrap_or_default();
        let bare = last.split('[').next().unwrap_or_default();
        match GO_NAMES.iter().find(|(json, _)| *json == bare) {
            Some((_, go)) if self.path == format!("spec.{bare}") => (go.to_string(), String::new()),
            Some((_, go)) => (go.to_string(), format!(" at {}", self.path)),
            None => (self.path.clone(), String::new()),
        }
    }
}

impl From<&FieldError> for FieldFault {
    fn from(error: &FieldError) -> FieldFault {
        let value = error.value.as_ref().filter(|value| !value.is_null()).map(plain);
        FieldFault { path: error.path.clone(), value, reason: error.reason.clone() }
    }
}

/// All complaints about one object.
pub(crate) fn describe(faults: &[FieldFault]) -> String {
    match faults {
        [] => "unknown validation error".to_string(),
        [fault] => format!("error with field {}", fault.describe()),
        faults => {
            let lines = faults.iter().map(|fault| format!("-  {}\n", fault.describe()));
            std::iter::once("error with the following fields:\n".to_string()).chain(lines).collect()
        }
    }
}

/// `Invalid value: "a": must …` → the value and the reason; a message of another form is all reason.
fn split_message(message: &str) -> (Option<String>, &str) {
    const HEADS: [&str; 3] = ["Invalid value: ", "Unsupported value: ", "Duplicate value: "];
    let Some(rest) = HEADS.iter().find_map(|head| message.strip_prefix(head)) else {
        let bare = ["Required value: ", "Forbidden: ", "Too long: "];
        return (None, bare.iter().find_map(|head| message.strip_prefix(head)).unwrap_or(message));
    };
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => {
            let reason = rest[values.byte_offset()..].trim_start_matches(": ");
            (Some(plain(&value)), if reason.is_empty() { "value already present" } else { reason })
        }
        _ => (None, rest),
    }
}

/// A value between the quotes of the message: strings bare, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(field: &str, message: &str, expected: &str) {
        let fault = FieldFault::from_cause(&json!({"field": field, "message": message}));
        assert_eq!(describe(&[fault]), expected);
    }

    #[test]
    fn fields_have_calicoctl_names_where_it_has_some() {
        check(
            "spec.interfaceName",
            "Invalid value: \"wibblywobblyeth0\": too long",
            "error with field InterfaceName = 'wibblywobblyeth0' (too long)",
        );
        check(
            "spec.ingress[0].icmp.type",
            "Invalid value: 256: must be 0 to 255",
            "error with field Type = '256' (must be 0 to 255) at spec.ingress[0].icmp.type",
        );
        check(
            "spec.ingress[0].source.ports[1]",
            "Invalid value: 0: port range invalid, port number must be between 1 and 65535",
            "error with field Port = '0' (port range invalid, port number must be between 1 and 65535) at \
             spec.ingress[0].source.ports[1]",
        );
        check("metadata.name", "Invalid value: \"-\": bad", "error with field Metadata.Name = '-' (bad)");
        check(
            "spec.ingress[0].action",
            "Unsupported value: \"allow\": supported values: \"Allow\", \"Deny\", \"Log\", \"Pass\"",
            "error with field spec.ingress[0].action = 'allow' (supported values: \"Allow\", \"Deny\", \"Log\", \"Pass\")",
        );
        check(
            "spec",
            "Required value: at least one of interfaceName or expectedIPs must be specified",
            "error with field spec (at least one of interfaceName or expectedIPs must be specified)",
        );
    }

    #[test]
    fn several_faults_stand_on_lines_of_their_own() {
        let fault = |path: &str| FieldFault { path: path.to_string(), value: None, reason: "r".to_string() };
        let expected = "error with the following fields:\n-  spec.a (r)\n-  spec.b (r)\n";
        assert_eq!(describe(&[fault("spec.a"), fault("spec.b")]), expected);
        assert_eq!(describe(&[]), "unknown validation error");
    }
}
