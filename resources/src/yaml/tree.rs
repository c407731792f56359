//! Node: a YAML value and the line it stands on; and the reading of a stream into such trees.
//!
//! Bounds are on what a text can make us do: nodes and depth per document, and how much its aliases may unfold to. The
//! size of a document is the caller's to bound, since only the caller knows where the text comes from.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Number, Value};
use serde_saphyr::{
    Error, Options, Spanned,
    budget::BudgetBreach,
    options::{AliasLimits, DuplicateKeyPolicy},
};

/// A document nests no deeper; a resource needs ten levels.
const DEPTH_MAX: usize = 64;
/// A document has no more nodes: a set of several hundred thousand addresses fits, and memory stays in bounds.
const NODES_MAX: usize = 1_000_000;
/// Aliases of one document unfold to no more than this many events: enough for templates, too few for a bomb.
const ALIAS_EVENTS_MAX: usize = 100_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line it begins on, from 1.
    pub line: usize,
    /// The value.
    pub tree: Tree,
}

/// A YAML value; the keys of mappings are strings and no key is there twice.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are JSON's own")]
pub enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Why a text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    /// Where, from 1; 1 when nobody knows.
    pub line: usize,
    /// What.
    pub message: String,
}

/// Reads every document of a stream that is not empty. After a mistake in one document the next is read, unless the
/// mistake leaves no telling where that would be.
pub fn documents(text: &str) -> Vec<Result<Node, YamlError>> {
    // The reader's own collection into a vector would stop at the first mistake.
    let mut bytes = text.as_bytes();
    let documents = serde_saphyr::read_with_options::<_, Node>(&mut bytes, options());
    documents.map(|document| document.map_err(|error| from_saphyr(&error))).collect()
}

/// Reads the only document of a text as JSON.
pub fn to_value(text: &str) -> Result<Value, YamlError> {
    match documents(text).into_iter().collect::<Result<Vec<Node>, YamlError>>()?.as_slice() {
        [document] => Ok(document.to_value()),
        [] => Err(YamlError { line: 1, message: "the document is empty".to_owned() }),
        [_, second, ..] => {
            Err(YamlError { line: second.line, message: "there is a second document".to_owned() })
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 3 * NODES_MAX,
            max_reader_input_bytes: None,
        },
        alias_limits: alias_limits(),
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
        emit_comments: false,
    }
}

fn alias_limits() -> AliasLimits {
    let mut limits = AliasLimits::default();
    limits.max_total_replayed_events = ALIAS_EVENTS_MAX;
    limits.max_replay_stack_depth = DEPTH_MAX;
    limits
}

fn from_saphyr(error: &serde_saphyr::Error) -> YamlError {
    let line = error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1).max(1));
    YamlError { line, message: message(error.without_snippet()) }
}

/// What the author of a document can do something about is said in our words: the reader's name its own settings.
fn message(error: &serde_saphyr::Error) -> String {
    match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => return format!("duplicate key {key}"),
        Error::DuplicateMappingKey { key: None, .. } => return "duplicate key".to_owned(),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => return too_deep(),
        Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            return format!("more than {NODES_MAX} values in one document");
        }
        Error::Budget { .. } => return "the document is too large or repeats itself too often".to_owned(),
        _ => {}
    }
    let rendered = error.render();
    // The place is said once, in front; the reader's text says it again at the end.
    let message = rendered.split(" at line ").next().unwrap_or_default();
    let message = message.rsplit_once(": line ").map_or(message, |(message, _)| message).trim();
    if message.contains("recursion limit") { too_deep() } else { message.to_owned() }
}

fn too_deep() -> String {
    format!("nested deeper than {DEPTH_MAX} levels")
}

impl Node {
    /// The value as JSON.
    pub fn to_value(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(flag) => Value::Bool(*flag),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::String(text) => Value::String(text.clone()),
            Tree::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Tree::Map(members) => {
                let members = members.iter().map(|(key, node)| (key.clone(), node.to_value()));
                Value::Object(members.collect::<Map<String, Value>>())
            }
        }
    }

    /// A member of a mapping, by its name in any case.
    pub fn member(&self, name: &str) -> Option<&Node> {
        let Tree::Map(members) = &self.tree else { return None };
        members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, node)| node)
    }

    /// The line of what a JSON path leads to, or of the last thing on the way that is there.
    pub fn line_of(&self, path: &str) -> usize {
        let mut node = self;
        let mut rest = path;
        while !rest.is_empty() {
            let Some((next, after)) = node.step(rest) else { break };
            (node, rest) = (next, after);
        }
        node.line
    }

    /// Takes one step of a path: `.name`, `[index]` or `[key]`.
    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(&'a Node, &'p str)> {
        let Some(bracketed) = path.strip_prefix('[') else {
            let path = path.trim_start_matches('.');
            let end = path.find(['.', '[']).unwrap_or(path.len());
            return self.member(&path[..end]).map(|node| (node, &path[end..]));
        };
        let (inside, rest) = bracketed.split_once(']')?;
        let node = match &self.tree {
            Tree::List(items) => items.get(inside.parse::<usize>().ok()?),
            _ => self.member(inside),
        };
        node.map(|node| (node, rest))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Tree>::deserialize(deserializer)?;
        let line = usize::try_from(spanned.referenced.line()).unwrap_or(1).max(1);
        Ok(Node { line, tree: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> de::Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value that JSON has")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Tree, E> {
        Err(E::custom(format!("the number {number} is too large")))
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<Tree, E> {
        Err(E::custom(format!("the number {number} is too large")))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Tree, E> {
        Number::from_f64(number).map(Tree::Number).ok_or_else(|| E::custom("JSON has no infinity and no NaN"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::String(text))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut mapping: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = mapping.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Node {
        documents(text).remove(0).unwrap()
    }

    #[test]
    fn every_value_knows_its_line() {
        let node = one("# first\na: 1\nb:\n  - x\n  - y: 2\n    z: null\n\"c.d/e\": {f: 3}\n");
        assert_eq!(node.to_value(), json!({"a": 1, "b": ["x", {"y": 2, "z": null}], "c.d/e": {"f": 3}}));
        assert_eq!(node.line, 2);
        assert_eq!(node.line_of("b[1].Z"), 6);
        assert_eq!(node.line_of("b[7].z"), node.line_of("b"));
        assert_eq!(node.line_of("[c.d/e].f"), 7);
        assert_eq!(node.line_of("nothing"), 2);
    }

    #[test]
    fn words_are_words() {
        let node = one("a: yes\nb: on\nc: true\nd: 1.5\ne: 0x10\nf: '1'\ng: ~\nh: 12345678901234567890\n");
        assert_eq!(
            node.to_value(),
            json!({"a": "yes", "b": "on", "c": true, "d": 1.5, "e": 16, "f": "1", "g": null, "h": 12345678901234567890_u64})
        );
    }

    #[test]
    fn json_is_yaml() {
        let long = "x".repeat(5_000);
        let text = format!("{{\n\t\"a\": [1, {{\"b\": \"{long}\"}}],\n\t\"c\": \"\\u00e9\\n\"\n}}\n");
        assert_eq!(one(&text).to_value(), json!({"a": [1, {"b": long}], "c": "é\n"}));
    }

    #[test]
    fn empty_documents_are_none() {
        assert_eq!(documents("---\n# nothing\n---\n\n---\na: 1\n---\n").len(), 1);
        assert_eq!(documents("").len(), 0);
    }

    #[test]
    fn one_bad_document_does_not_hide_the_next() {
        let all = documents("a: 1\na: 2\n---\nb: 1\n");
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].as_ref().unwrap_err().line, 2);
        assert_eq!(all[1].as_ref().unwrap().to_value(), json!({"b": 1}));
    }

    #[test]
    fn not_json_is_refused() {
        for text in ["a: .nan", "a: .inf", "a: [", "a: b: c", "a: &x [*x]", "a: *nowhere", "a: 'x"] {
            let first = documents(text).remove(0);
            assert!(first.is_err(), "{text}: {first:?}");
        }
    }

    #[test]
    fn what_an_author_can_mend_is_said_in_our_words() {
        let values = format!("a: [{}1]", "1,".repeat(NODES_MAX));
        for (text, line, message) in [
            ("a: 1\nb: 2\na: 3\n", 3, "duplicate key a".to_owned()),
            (&"[".repeat(DEPTH_MAX + 1), 1, "nested deeper than 64 levels".to_owned()),
            (&format!("a:\n{}", "- ".repeat(DEPTH_MAX + 1)), 2, "nested deeper than 64 levels".to_owned()),
            (&values, 1, "more than 1000000 values in one document".to_owned()),
        ] {
            assert_eq!(documents(text)[0], Err(YamlError { line, message }));
        }
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let previous = level - 1;
            let aliases = vec![format!("*a{previous}"); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(documents(&bomb)[0].is_err());
        assert!(documents(&"[".repeat(100_000))[0].is_err());
        assert!(documents(&"- ".repeat(10_000))[0].is_err());
        let merges = "a: &a {x: 1}\nb: &b {<<: *a}\n";
        assert!(documents(merges)[0].is_ok());
    }
}
