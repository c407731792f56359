//! JSON → YAML as Calico's tools print it: keys in order at every level, block style, lists not indented under their
//! key, two blanks a level, a newline at the end. Reading it gives the same JSON back.

use serde_json::{Map, Value};

use super::scalar::{Style, double_quoted, style};

/// Prints a value.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => write_map(&mut out, members, 0, ""),
        Value::Array(items) if !items.is_empty() => write_list(&mut out, items, 0, ""),
        scalar => {
            out.push_str(&inline(scalar, 0));
            out.push('\n');
        }
    }
    out
}

/// Prints a mapping, one member a line. `lead` stands before the first member in place of its indentation.
fn write_map(out: &mut String, members: &Map<String, Value>, indent: usize, lead: &str) {
    let mut keys: Vec<&String> = members.keys().collect();
    keys.sort();
    for (index, key) in keys.into_iter().enumerate() {
        begin(out, index, indent, lead);
        out.push_str(&inline_text(key));
        out.push(':');
        write_value(out, &members[key], indent);
    }
}

/// Prints a list, one item after each dash.
fn write_list(out: &mut String, items: &[Value], indent: usize, lead: &str) {
    for (index, item) in items.iter().enumerate() {
        begin(out, index, indent, lead);
        match item {
            Value::Object(members) if !members.is_empty() => write_map(out, members, indent + 2, "- "),
            Value::Array(items) if !items.is_empty() => write_list(out, items, indent + 2, "- "),
            scalar => {
                out.push('-');
                write_value(out, scalar, indent);
            }
        }
    }
}

/// Indents a line, except where the caller's dash is its indentation already.
fn begin(out: &mut String, index: usize, indent: usize, lead: &str) {
    if index == 0 && !lead.is_empty() {
        out.push_str(lead);
    } else {
        out.extend(std::iter::repeat_n(' ', indent));
    }
}

/// Prints what stands after a colon or a dash, and ends the line.
fn write_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            write_map(out, members, indent + 2, "");
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write_list(out, items, indent, "");
        }
        scalar => {
            out.push(' ');
            out.push_str(&inline(scalar, indent + 2));
            out.push('\n');
        }
    }
}

/// A value without members, on one line or as a block under it.
fn inline(value: &Value, indent: usize) -> String {
    match value {
        Value::String(text) if style(text) == Style::Block => block(text, indent),
        Value::String(text) => inline_text(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// A string on one line.
fn inline_text(text: &str) -> String {
    match style(text) {
        Style::Plain => text.to_owned(),
        Style::Single => format!("'{}'", text.replace('\'', "''")),
        Style::Double | Style::Block => double_quoted(text),
    }
}

/// Text of several lines under a `|`.
fn block(text: &str, indent: usize) -> String {
    let (sign, body) = match text.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", text),
    };
    let margin = " ".repeat(indent);
    let lines: Vec<String> = body
        .split('\n')
        .map(|line| if line.is_empty() { String::new() } else { format!("{margin}{line}") })
        .collect();
    format!("{sign}\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::yaml::documents;

    #[test]
    fn an_empty_list_of_endpoints() {
        let list = json!({"kind": "HostEndpointList", "apiVersion": "projectcalico.org/v3",
            "metadata": {"resourceVersion": "42"}, "items": []});
        assert_eq!(
            write(&list),
            "apiVersion: projectcalico.org/v3\nitems: []\nkind: HostEndpointList\nmetadata:\n  resourceVersion: \"42\"\n"
        );
    }

    #[test]
    fn lists_stand_under_their_key() {
        let value = json!({"spec": {"nets": ["10.0.0.0/8", "*"], "ports": [{"port": 1, "name": "a", "x": [[1, 2], []]}],
            "order": 10.5, "note": "a\n\nb\n", "none": null, "empty": {}, "selector": "role == 'web'"}});
        let expected = "\
spec:
  empty: {}
  nets:
  - 10.0.0.0/8
  - '*'
  none: null
  note: |
    a

    b
  order: 10.5
  ports:
  - name: a
    port: 1
    x:
    - - 1
      - 2
    - []
  selector: role == 'web'
";
        assert_eq!(write(&value), expected);
        assert_eq!(documents(expected).remove(0).unwrap().to_value(), value);
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~]{0,6}",
            "[-0-9a-fxo_:.+ T#]{0,8}",
            "[a-z \\n]{0,8}",
            ".{0,4}",
            prop::sample::select(vec![
                "yes",
                "null",
                "~",
                "1:20",
                "---",
                "... a",
                "<<",
                "é\u{85}",
                "a\u{feff}",
                "\u{2028}"
            ])
            .prop_map(str::to_owned),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1.0e9..1.0e9_f64).prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in value()) {
            // A document that is null is an empty document, which is none.
            let value = json!({"value": value});
            let text = write(&value);
            let again = documents(&text).remove(0);
            prop_assert_eq!(again.map(|node| node.to_value()), Ok(value), "{}", text);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[-a-c:{}\\[\\],&*!|>'\"%@#\\n 0-9.~<]{0,60}") {
            let _ = documents(&text);
        }
    }
}
