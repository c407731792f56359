//! Validation's tests: the tables in `testdata/validate`, one case after the other, each with every complaint it
//! brings, word for word. `V1` to `V99` are the rows of the behaviour this project is held to; where ours differs on
//! purpose, the case says so.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    decode::{DecodeError, Unknown},
    defaults::set_defaults,
    kind::Kind,
    schema::{self, tests::full_object},
    yaml,
};

const TABLES: &[(&str, &str)] = &[
    ("rule.yaml", include_str!("../../testdata/validate/rule.yaml")),
    ("policy.yaml", include_str!("../../testdata/validate/policy.yaml")),
    ("endpoint.yaml", include_str!("../../testdata/validate/endpoint.yaml")),
    ("other.yaml", include_str!("../../testdata/validate/other.yaml")),
];

/// The cases of all tables.
fn cases() -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    for (file, table) in TABLES {
        let Value::Array(rows) = yaml::to_value(table).unwrap_or_else(|error| panic!("{file}: {error}"))
        else {
            panic!("{file} is a list of cases");
        };
        cases.extend(rows.into_iter().map(|row| (format!("{file}: {}: {row}", row["id"]), row)));
    }
    cases
}

/// The object a case is about: a rule stands in an ingress policy, a spec in an object of its kind.
fn object(case: &Value) -> Value {
    let (kind, mut metadata, spec) = if let Some(rule) = case.get("rule") {
        (Kind::GlobalNetworkPolicy, json!({"name": "p"}), json!({"ingress": [expand(rule)]}))
    } else if let Some(rule) = case.get("egressRule") {
        (Kind::GlobalNetworkPolicy, json!({"name": "p"}), json!({"egress": [expand(rule)]}))
    } else {
        let kind = Kind::from_name(case["kind"].as_str().unwrap_or("HostEndpoint")).unwrap();
        (kind, json!({"name": "default"}), expand(&case["spec"]))
    };
    if let Some(changes) = case.get("metadata") {
        crate::patch::merge(&mut metadata, &expand(changes));
    }
    let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata});
    if !spec.is_null() {
        object["spec"] = spec;
    }
    object
}

/// Writes out what would be too long for a table: `$repeat: [text, count]` is a text, `$times: [value, count]` a list.
fn expand(value: &Value) -> Value {
    let count = |pair: &Value| usize::try_from(pair[1].as_u64().unwrap()).unwrap();
    match value {
        Value::Object(members) if members.contains_key("$repeat") => {
            let pair = &members["$repeat"];
            json!(pair[0].as_str().unwrap().repeat(count(pair)))
        }
        Value::Object(members) if members.contains_key("$times") => {
            let pair = &members["$times"];
            // `#` in a text is the item's number, so that items differ.
            let item = |index: usize| {
                let text = pair[0].to_string().replace('#', &index.to_string());
                serde_json::from_str::<Value>(&text).unwrap()
            };
            (0..count(pair)).map(item).collect()
        }
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), expand(value))).collect(),
        Value::Array(items) => items.iter().map(expand).collect(),
        other => other.clone(),
    }
}

/// Everything that is said about an object, from decoding or, when that has nothing to say, from validation.
fn complaints(object: Value) -> Vec<String> {
    match AnyResource::from_value(object, Unknown::Refuse) {
        Ok(decoded) => {
            let mut resource = decoded.resource;
            set_defaults(&mut resource);
            let errors = validate(&resource).err().unwrap_or_default();
            errors.0.iter().map(ToString::to_string).collect()
        }
        Err(DecodeError::Invalid { errors, .. }) => errors.0.iter().map(ToString::to_string).collect(),
        Err(other) => vec![other.to_string()],
    }
}

#[test]
fn every_case_brings_exactly_its_complaints() {
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        let expected: Vec<String> =
            serde_json::from_value(case.get("errors").cloned().unwrap_or(json!([]))).unwrap();
        let found = complaints(object(&case));
        if found != expected {
            wrong.push(format!("{name}\n  expected {expected:#?}\n  found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_of_the_reference_has_a_case() {
    let ids: BTreeSet<String> =
        cases().iter().map(|(_, case)| case["id"].as_str().unwrap().to_owned()).collect();
    let missing: Vec<String> =
        (1..=99).map(|row| format!("V{row}")).filter(|row| !ids.contains(row)).collect();
    // V74 needs to know which tiers exist, V78 is about a kind that is not here yet.
    assert_eq!(missing, ["V74", "V78"]);
}

#[test]
fn what_is_valid_survives_the_store() {
    for (name, case) in cases().into_iter().filter(|(_, case)| case.get("errors").is_none()) {
        let mut resource = AnyResource::from_value(object(&case), Unknown::Refuse).unwrap().resource;
        set_defaults(&mut resource);
        let stored = resource.to_value();
        let again = AnyResource::from_value(stored.clone(), Unknown::Refuse).unwrap().resource;
        assert_eq!(again, resource, "{name}");
        assert_eq!(again.to_value(), stored, "{name}");
    }
}

/// Puts `odd` at the place that `seed` picks inside a value.
fn put_somewhere(value: &mut Value, seed: usize, odd: Value) {
    let parts: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => Vec::new(),
    };
    let count = parts.len();
    match parts.into_iter().nth(seed % (count + 1)) {
        Some(part) => put_somewhere(part, seed / (count + 1), odd),
        None => *value = odd,
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[-a-z0-9.:/*(){}'=! ]{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null, {"a": [1]}])),
    ]
}

proptest! {
    #[test]
    fn nothing_odd_makes_it_panic(
        kind in prop::sample::select(Kind::ALL),
        odd in prop::collection::vec((any::<usize>(), odd_value()), 1..4),
    ) {
        let mut object = full_object(schema::fields(kind));
        object["kind"] = json!(kind.name());
        object["apiVersion"] = json!(kind.api_version());
        for (seed, value) in odd {
            put_somewhere(&mut object["spec"], seed, value);
        }
        match AnyResource::from_value(object, Unknown::Warn) {
            Ok(decoded) => {
                let mut resource = decoded.resource;
                set_defaults(&mut resource);
                // Whatever it is, it prints and reads back as itself.
                let again = AnyResource::from_value(resource.to_value(), Unknown::Refuse).unwrap().resource;
                prop_assert_eq!(&again, &resource);
                let _ = validate(&resource);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
