//! JSON as calicoctl orders it: kind, apiVersion, metadata, spec; two blanks of indentation. Pure.
//!
//! Unlike calicoctl it ends with a newline and does not escape `&`, `<` and `>`, which selectors are full of.

use serde_json::{Map, Value};

/// The order of an object's own fields; others follow as they came.
const OBJECT_ORDER: [&str; 5] = ["kind", "apiVersion", "metadata", "spec", "items"];
/// The order of `metadata`.
const METADATA_ORDER: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "labels",
    "annotations",
];

/// One object, list or array of them, ending in a newline.
pub(crate) fn render(value: &Value) -> String {
    format!("{:#}\n", ordered(value))
}

fn ordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(ordered).collect(),
        Value::Object(fields) => {
            let mut object = in_order(fields, &OBJECT_ORDER);
            if let Some(Value::Object(metadata)) = object.get("metadata") {
                let metadata = in_order(metadata, &METADATA_ORDER);
                object.insert("metadata".to_string(), Value::Object(metadata));
            }
            if let Some(items @ Value::Array(_)) = object.get("items") {
                let items = ordered(items);
                object.insert("items".to_string(), items);
            }
            Value::Object(object)
        }
        other => other.clone(),
    }
}

fn in_order(fields: &Map<String, Value>, order: &[&str]) -> Map<String, Value> {
    let first = order.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !order.contains(&name.as_str()));
    first.chain(rest).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_come_in_calicoctl_order_and_selectors_stay_readable() {
        let value = json!({
            "apiVersion": "projectcalico.org/v3", "spec": {"selector": "a && b"}, "kind": "GlobalNetworkPolicy",
            "metadata": {"labels": {"x": "y"}, "resourceVersion": "5", "name": "p", "uid": "u"}
        });
        let expected = r#"{
  "kind": "GlobalNetworkPolicy",
  "apiVersion": "projectcalico.org/v3",
  "metadata": {
    "name": "p",
    "uid": "u",
    "resourceVersion": "5",
    "labels": {
      "x": "y"
    }
  },
  "spec": {
    "selector": "a && b"
  }
}
"#;
        assert_eq!(render(&value), expected);
    }

    #[test]
    fn the_items_of_a_list_are_ordered_too() {
        let list = json!({"items": [{"metadata": {}, "kind": "K"}], "metadata": {}, "apiVersion": "a", "kind": "KList"});
        let text = render(&list).split_whitespace().collect::<String>();
        assert_eq!(
            text,
            r#"{"kind":"KList","apiVersion":"a","metadata":{},"items":[{"kind":"K","metadata":{}}]}"#
        );
    }
}
