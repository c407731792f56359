//! YAML the way calicoctl prints it: keys sorted at every level, block style, sequences not indented under their key,
//! strings quoted only where a reader would take them for something else. Pure.
//!
//! Writing only. Reading is `resources::manifest`, which reads everything written here back (tested).

use std::fmt::Write;

use serde_json::{Map, Value};

/// One document, ending in a newline.
pub(crate) fn render(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => object(&mut text, fields, 0),
        Value::Array(items) if !items.is_empty() => array(&mut text, items, 0),
        other => {
            scalar(&mut text, other, 0);
            text.push('\n');
        }
    }
    text
}

/// The fields of an object, each on a line of its own; the cursor is already indented for the first.
fn object(text: &mut String, fields: &Map<String, Value>, indent: usize) {
    let mut keys: Vec<&String> = fields.keys().collect();
    keys.sort();
    for (index, key) in keys.into_iter().enumerate() {
        if index > 0 {
            pad(text, indent);
        }
        text.push_str(&key_text(key));
        text.push(':');
        match &fields[key.as_str()] {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                pad(text, indent + 2);
                object(text, inner, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                pad(text, indent);
                array(text, items, indent);
            }
            other => {
                text.push(' ');
                scalar(text, other, indent + 2);
                text.push('\n');
            }
        }
    }
}

/// The items of a sequence, each after `- `; the cursor is already indented for the first.
fn array(text: &mut String, items: &[Value], indent: usize) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            pad(text, indent);
        }
        text.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => object(text, fields, indent + 2),
            Value::Array(inner) if !inner.is_empty() => array(text, inner, indent + 2),
            other => {
                scalar(text, other, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number_text(number)),
        Value::String(string) => text.push_str(&string_text(string, indent)),
        Value::Array(_) => text.push_str("[]"),
        Value::Object(_) => text.push_str("{}"),
    }
}

/// Whole numbers print as integers, whatever form JSON carried them in.
pub(crate) fn number_text(number: &serde_json::Number) -> String {
    /// Above this a float64 is no longer exact, so it keeps its own form.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() < EXACT_MAX => {
            format!("{value:.0}")
        }
        _ => number.to_string(),
    }
}

/// A key is never a block: one that spans lines is quoted.
fn key_text(key: &str) -> String {
    if key.contains('\n') { double_quoted(key) } else { string_text(key, 0) }
}

fn string_text(string: &str, indent: usize) -> String {
    if string.is_empty() || reads_as_other_type(string) || string.chars().any(needs_escape) {
        double_quoted(string)
    } else if string.contains('\n') {
        literal_block(string, indent)
    } else if plain_is_safe(string) {
        string.to_string()
    } else {
        format!("'{}'", string.replace('\'', "''"))
    }
}

/// Characters that only a double-quoted string can carry.
fn needs_escape(c: char) -> bool {
    (c.is_control() && c != '\n') || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{85}')
}

/// Whether YAML 1.1 or 1.2 would read the bare text as a number, a boolean, null, a time or a merge key.
fn reads_as_other_type(string: &str) -> bool {
    const WORDS: [&str; 12] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "<<", "="];
    if WORDS.iter().any(|word| string.eq_ignore_ascii_case(word)) {
        return true;
    }
    let unsigned = string.trim_start_matches(['+', '-']).trim_start_matches('.');
    if ["inf", "nan"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return true;
    }
    // Over-wide on purpose: 0x1f, 1_000, 12:30:45, 2006-01-02T15:04:05Z and 1e3 are all quoted; an address with dots
    // or a CIDR is none of these.
    let number_like = string.chars().all(|c| c.is_ascii_hexdigit() || "+-_.:xXoOTtZ".contains(c));
    let starts_like_one = unsigned.starts_with(|c: char| c.is_ascii_digit());
    let dotted = string.matches('.').count() > 1 || string.contains("::");
    number_like && starts_like_one && !dotted
}

/// Whether the text may stand bare in block style.
fn plain_is_safe(string: &str) -> bool {
    const INDICATORS: &str = "-?:,[]{}#&*!|>'\"%@` ";
    let mut characters = string.chars();
    let first = characters.next().unwrap_or(' ');
    let second = characters.next();
    let dash_word = matches!(first, '-' | '?' | ':') && second.is_some_and(|c| c != ' ') && first == '-';
    let starts_safely = !INDICATORS.contains(first) || dash_word;
    let document_marker = string.starts_with("---") || string.starts_with("...");
    starts_safely
        && !document_marker
        && !string.ends_with(' ')
        && !string.ends_with(':')
        && !string.contains(": ")
        && !string.contains(" #")
}

fn double_quoted(string: &str) -> String {
    let mut text = String::from("\"");
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if needs_escape(c) => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// `|` keeps one final newline, `|-` none, `|+` all; a text that starts with a blank says its indent.
fn literal_block(string: &str, indent: usize) -> String {
    let body = string.trim_end_matches('\n');
    if body.is_empty() {
        return double_quoted(string);
    }
    let chomp = match string.len() - body.len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let hint = if body.starts_with([' ', '\n']) { "2" } else { "" };
    let mut text = format!("|{hint}{chomp}");
    let tail = "\n".repeat((string.len() - body.len()).saturating_sub(1));
    for line in body.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            pad(&mut text, indent);
            text.push_str(line);
        }
    }
    text + &tail
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_and_sequences_are_not_indented() {
        let value = json!({
            "kind": "HostEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "eth0", "resourceVersion": "42", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {}},
            "spec": {"node": "host1", "interfaceName": "*", "expectedIPs": ["10.0.0.1", "fd00::1"],
                     "ports": [{"name": "web", "port": 80, "protocol": "TCP"}], "order": 10.0}
        });
        let expected = r#"apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  creationTimestamp: "2026-01-01T00:00:00Z"
  labels: {}
  name: eth0
  resourceVersion: "42"
spec:
  expectedIPs:
  - 10.0.0.1
  - fd00::1
  interfaceName: '*'
  node: host1
  order: 10
  ports:
  - name: web
    port: 80
    protocol: TCP
"#;
        assert_eq!(render(&value), expected);
    }

    #[test]
    fn an_empty_list_prints_as_calicoctl_prints_it() {
        let list = json!({"kind": "HostEndpointList", "apiVersion": "projectcalico.org/v3",
                          "metadata": {"resourceVersion": "42"}, "items": []});
        let expected = "apiVersion: projectcalico.org/v3\nitems: []\nkind: HostEndpointList\n\
                        metadata:\n  resourceVersion: \"42\"\n";
        assert_eq!(render(&list), expected);
    }

    #[test]
    fn every_string_is_read_back_as_the_same_string() {
        let strings = [
            "",
            " ",
            "a",
            "a b",
            "yes",
            "No",
            "null",
            "~",
            "1",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "0x1f",
            "0o7",
            "1_000",
            ".5",
            ".inf",
            "-.INF",
            ".nan",
            "12:30:45",
            "2006-01-02",
            "2006-01-02T15:04:05Z",
            "10.0.0.1",
            "10.0.0.0/8",
            "fd00::1",
            "1::",
            "::1",
            "::",
            "*",
            "&a",
            "!x",
            "- a",
            "-a",
            "-",
            "--- a",
            "?",
            "? a",
            ":",
            ": a",
            "a: b",
            "a:",
            "a #b",
            "#a",
            "'",
            "\"",
            "'a' == \"b\"",
            "role == 'web'",
            "has(x) && !all()",
            "{a}",
            "[a]",
            "a,b",
            "|",
            ">",
            "%a",
            "@a",
            "`a`",
            "a\nb",
            "a\nb\n",
            "a\nb\n\n",
            "\na",
            " a\nb",
            "\n",
            "\n\n",
            "tab\there",
            "\u{1b}[0m",
            "größe",
            "trailing ",
            "0e0",
            "e3",
            "abc",
            "<<",
            "=",
            "1d",
            "0b1",
            "a\\b",
        ];
        for string in strings {
            let value = json!({"top": string, "list": [string, {"in": string, "z": 1}], string: "as key"});
            let text = render(&value);
            let back: Value =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{string:?}: {error}\n{text}"));
            assert_eq!(back, value, "{string:?} was written as\n{text}");
        }
    }
}
