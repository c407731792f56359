//! Schema: which fields a kind has and what each may hold, as data; and the walk that holds a JSON value against it.
//!
//! Serde alone would stop at the first mistake. The walk collects all of them with their paths, notes fields that do
//! not exist, and leaves a value behind that serde can not refuse: wrong names gone, nulls gone, other spellings of a
//! field's name put right when the caller allows them. What values mean together is `validate`'s business.

mod felix;
mod kinds;

use serde_json::{Map, Value};

pub(crate) use self::{felix::OTHER_SETTINGS, kinds::fields};
use crate::field_error::{Cause, Complaint, FieldErrors, quoted_list};

/// What a field may hold.
pub(crate) enum Shape {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number between two bounds, both included.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A value with a syntax of its own, and a right one as JSON.
    Scalar(fn(&Value) -> Result<(), Complaint>, &'static str),
    /// An object of strings.
    TextMap,
    /// An array.
    List(&'static Shape),
    /// An object with known fields.
    Object(&'static [Field]),
    /// An object with any fields; carried, not looked into.
    AnyObject,
    /// Anything; carried, not looked into.
    Any,
}

impl Shape {
    /// Whether the walk has to look into it.
    fn has_parts(&self) -> bool {
        matches!(self, Shape::TextMap | Shape::List(_) | Shape::Object(_))
    }
}

/// A field of an object.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    shape: Shape,
    presence: Presence,
}

/// Whether a field must be there.
#[derive(PartialEq)]
enum Presence {
    Optional,
    /// Its absence is a mistake already when reading.
    Required,
    /// It may be there and is forgotten.
    Ignored,
}

impl Field {
    const fn optional(name: &'static str, shape: Shape) -> Field {
        Field { name, shape, presence: Presence::Optional }
    }

    const fn required(name: &'static str, shape: Shape) -> Field {
        Field { name, shape, presence: Presence::Required }
    }

    const fn ignored(name: &'static str) -> Field {
        Field { name, shape: Shape::Any, presence: Presence::Ignored }
    }
}

/// How names of fields are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As the schema has them; what the API asks of its clients.
    Exact,
    /// In any case; what calicoctl has always let people write.
    AnyCase,
}

/// What the walk found.
#[derive(Default)]
pub(crate) struct Findings {
    /// Values a field can not hold.
    pub(crate) errors: FieldErrors,
    /// Paths of fields that do not exist.
    pub(crate) unknown: Vec<String>,
}

/// Holds an object against its fields, cleans it up, and tells what was wrong.
pub(crate) fn check(
    object: &mut Map<String, Value>,
    fields: &'static [Field],
    spelling: Spelling,
) -> Findings {
    let mut walk = Walk { spelling, findings: Findings::default() };
    walk.object(object, fields, "");
    walk.findings
}

struct Walk {
    spelling: Spelling,
    findings: Findings,
}

impl Walk {
    fn object(&mut self, object: &mut Map<String, Value>, fields: &'static [Field], path: &str) {
        for (given, mut value) in std::mem::take(object) {
            let Some(field) = self.field(fields, &given) else {
                self.findings.unknown.push(join(path, &given));
                continue;
            };
            let at = join(path, field.name);
            if object.contains_key(field.name) {
                let reason = format!("given twice, also as {given:?}");
                self.findings.errors.add(&at, None, Complaint::new(Cause::Duplicate, reason));
                continue;
            }
            // Null is how Kubernetes' clients write "nothing here".
            if value.is_null() || field.presence == Presence::Ignored {
                continue;
            }
            self.value(&mut value, &field.shape, &at);
            object.insert(field.name.to_owned(), value);
        }
        let mut absent = Vec::new();
        let missing = fields.iter().filter(|field| field.presence == Presence::Required);
        for field in missing.filter(|field| !object.contains_key(field.name)) {
            let allowed = match field.shape {
                Shape::Word(words) => format!("one of {} is needed", quoted_list(words.iter().copied())),
                _ => format!("{} must be specified", field.name),
            };
            self.findings.errors.add(join(path, field.name), None, Complaint::new(Cause::Required, allowed));
            absent.push(field);
        }
        for field in absent {
            object.insert(field.name.to_owned(), stand_in(&field.shape));
        }
    }

    fn field(&self, fields: &'static [Field], given: &str) -> Option<&'static Field> {
        let any_case = || fields.iter().find(|field| field.name.eq_ignore_ascii_case(given));
        let exact = fields.iter().find(|field| field.name == given);
        exact.or_else(|| if self.spelling == Spelling::AnyCase { any_case() } else { None })
    }

    fn value(&mut self, value: &mut Value, shape: &'static Shape, path: &str) {
        match (shape, &mut *value) {
            (Shape::Object(fields), Value::Object(object)) => self.object(object, fields, path),
            (Shape::List(item), Value::Array(items)) => {
                for (index, element) in items.iter_mut().enumerate() {
                    // A set may have a hundred thousand members; a path is made only for what needs one.
                    if item.has_parts() || leaf(element, item).is_err() {
                        self.value(element, item, &format!("{path}[{index}]"));
                    }
                }
            }
            (Shape::TextMap, Value::Object(object)) => self.text_map(object, path),
            _ => {
                if let Err(complaint) = leaf(value, shape) {
                    let found = std::mem::replace(value, stand_in(shape));
                    self.findings.errors.add(path, Some(found), complaint);
                }
            }
        }
    }

    /// `key:` without a value is an empty string, as it is to Go.
    fn text_map(&mut self, object: &mut Map<String, Value>, path: &str) {
        for (key, value) in object {
            if value.is_null() {
                *value = Value::String(String::new());
            }
            if let Err(complaint) = leaf(value, &Shape::Text) {
                let found = std::mem::replace(value, stand_in(&Shape::Text));
                self.findings.errors.add(format!("{path}[{key}]"), Some(found), complaint);
            }
        }
    }
}

/// Holds a value that has no parts against a shape.
fn leaf(value: &Value, shape: &Shape) -> Result<(), Complaint> {
    let wrong = |wanted: &str| {
        Err(Complaint::new(Cause::TypeInvalid, format!("must be {wanted}, not {}", type_of(value))))
    };
    match (shape, value) {
        (Shape::Any, _)
        | (Shape::AnyObject, Value::Object(_))
        | (Shape::Text, Value::String(_))
        | (Shape::Flag, Value::Bool(_))
        | (Shape::Number, Value::Number(_)) => Ok(()),
        (Shape::Scalar(read, _), _) => read(value),
        (Shape::Integer(min, max), Value::Number(number)) => match number.as_i64() {
            Some(number) if (*min..=*max).contains(&number) => Ok(()),
            _ => {
                Err(Complaint::new(Cause::Invalid, format!("must be a whole number between {min} and {max}")))
            }
        },
        (Shape::Word(words), Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
        (Shape::Word(words), Value::String(_)) => {
            let reason = format!("supported values: {}", quoted_list(words.iter().copied()));
            Err(Complaint::new(Cause::NotSupported, reason))
        }
        (Shape::Text | Shape::Word(_), _) => wrong("a string"),
        (Shape::Flag, _) => wrong("true or false"),
        (Shape::Integer(..) | Shape::Number, _) => wrong("a number"),
        (Shape::List(_), _) => wrong("a list"),
        (Shape::Object(_) | Shape::AnyObject | Shape::TextMap, _) => wrong("an object"),
    }
}

/// A right value of a shape, to stand where a wrong one was while the rest is looked at.
fn stand_in(shape: &Shape) -> Value {
    match shape {
        Shape::Any => Value::Null,
        Shape::Text => Value::String(String::new()),
        Shape::Flag => Value::Bool(false),
        Shape::Integer(min, _) => Value::from((*min).max(1)),
        Shape::Number => Value::from(1),
        Shape::Word(words) => Value::from(words.first().copied().unwrap_or_default()),
        // The examples are ours and the tests read each of them.
        Shape::Scalar(_, example) => serde_json::from_str(example).unwrap_or_default(),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Object(fields) => {
            let required = fields.iter().filter(|field| field.presence == Presence::Required);
            required.map(|field| (field.name.to_owned(), stand_in(&field.shape))).collect()
        }
        Shape::AnyObject | Shape::TextMap => Value::Object(Map::new()),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Kind;

    fn check_gnp(value: Value, spelling: Spelling) -> (Value, Findings) {
        let Value::Object(mut object) = value else { panic!("an object") };
        let findings = check(&mut object, fields(Kind::GlobalNetworkPolicy), spelling);
        (Value::Object(object), findings)
    }

    #[test]
    fn every_mistake_is_found_with_its_path() {
        let (_, findings) = check_gnp(
            json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": 1, "labels": {"a": 1}}, "bogus": 1,
                "spec": {"order": "1", "ingress": [{"action": "allow"}, {"protocol": "tcp", "bogus": {}}], "types": "Ingress"}}),
            Spelling::Exact,
        );
        let paths: Vec<&str> = findings.errors.0.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "metadata.name",
                "metadata.labels[a]",
                "spec.order",
                "spec.ingress[0].action",
                "spec.ingress[1].protocol",
                "spec.ingress[1].action",
                "spec.types"
            ]
        );
        assert_eq!(findings.unknown, ["bogus", "spec.ingress[1].bogus"]);
    }

    #[test]
    fn names_are_put_right_when_allowed() {
        let given = json!({"Kind": "x", "Spec": {"Order": 1, "PREDNAT": true}});
        let (value, findings) = check_gnp(given.clone(), Spelling::AnyCase);
        assert_eq!(value, json!({"kind": "x", "spec": {"order": 1, "preDNAT": true}}));
        assert!(findings.errors.is_empty() && findings.unknown.is_empty());
        let (_, findings) = check_gnp(given, Spelling::Exact);
        assert_eq!(findings.unknown, ["Kind", "Spec"]);
    }

    #[test]
    fn one_field_in_two_spellings_is_a_duplicate() {
        let (_, findings) = check_gnp(json!({"spec": {"order": 1, "Order": 2}}), Spelling::AnyCase);
        assert_eq!(
            findings.errors.to_string(),
            "spec.order: Duplicate value: given twice, also as \"Order\""
        );
    }

    /// Calls `check` with every shape a kind can lead to.
    fn every_shape(fields: &'static [Field], check: &mut impl FnMut(&'static Shape)) {
        fn visit(shape: &'static Shape, check: &mut impl FnMut(&'static Shape)) {
            check(shape);
            match shape {
                Shape::List(item) => visit(item, check),
                Shape::Object(fields) => fields.iter().for_each(|field| visit(&field.shape, check)),
                _ => {}
            }
        }
        fields.iter().for_each(|field| visit(&field.shape, check));
    }

    #[test]
    fn stand_ins_are_right() {
        for kind in Kind::ALL {
            every_shape(fields(*kind), &mut |shape| {
                let mut value = stand_in(shape);
                let mut walk = Walk { spelling: Spelling::Exact, findings: Findings::default() };
                walk.value(&mut value, shape, "stand-in");
                assert_eq!(walk.findings.errors.to_string(), "[]", "{kind}: {value}");
            });
        }
    }

    /// A value with every field there is.
    fn full(shape: &Shape) -> Value {
        match shape {
            Shape::Any => json!(1),
            Shape::Text => json!("text"),
            Shape::Flag => json!(true),
            Shape::Integer(_, max) => json!(max),
            Shape::Number => json!(1.5),
            Shape::Word(words) => json!(words[words.len() - 1]),
            Shape::Scalar(_, example) => serde_json::from_str(example).unwrap(),
            Shape::List(item) => json!([full(item)]),
            Shape::Object(fields) => full_object(fields),
            Shape::AnyObject | Shape::TextMap => json!({"key": "value"}),
        }
    }

    pub(crate) fn full_object(fields: &[Field]) -> Value {
        let wanted = fields.iter().filter(|field| field.presence != Presence::Ignored);
        wanted.map(|field| (field.name.to_owned(), full(&field.shape))).collect()
    }

    #[test]
    fn the_types_hold_every_field_of_the_schema() {
        for kind in Kind::ALL {
            let mut value = full_object(fields(*kind));
            value["kind"] = json!(kind.name());
            value["apiVersion"] = json!(kind.api_version());
            let decoded = crate::AnyResource::from_value(value.clone(), crate::Unknown::Refuse).unwrap();
            assert_eq!(decoded.resource.to_value(), value, "{kind}");
        }
    }

    #[test]
    fn null_is_nothing() {
        let (value, findings) = check_gnp(
            json!({"metadata": {"labels": {"a": null}}, "spec": {"order": null, "ingress": null}}),
            Spelling::Exact,
        );
        assert_eq!(value, json!({"metadata": {"labels": {"a": ""}}, "spec": {}}));
        assert!(findings.errors.is_empty());
    }
}
