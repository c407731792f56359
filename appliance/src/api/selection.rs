//! Which objects a list or watch is about: label and field selectors, parsed once and asked often. Pure.
//!
//! These are the query parameters of the Kubernetes API, not the selector language of policies: another grammar,
//! another meaning of "not equal". It refuses fields that no kind of ours can be selected by. [`super::options`]
//! parses them; list, watch and delete collection ask them about each record.

use std::collections::BTreeMap;

use appliance_resources::Kind;
use serde::Deserialize;

/// What a selector looks at in one stored object; the rest is skipped unread.
#[derive(Debug, Default, Deserialize)]
struct View {
    #[serde(default)]
    metadata: MetadataView,
    #[serde(default)]
    spec: SpecView,
}

#[derive(Debug, Default, Deserialize)]
struct MetadataView {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
struct SpecView {
    #[serde(default)]
    tier: Option<String>,
}

/// Labels and fields together: an object is selected when every requirement holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq)]
struct LabelRequirement {
    key: String,
    test: LabelTest,
}

/// `NotIn` holds for an object without the label too, as Kubernetes has it.
#[derive(Clone, Debug, PartialEq)]
enum LabelTest {
    In(Vec<String>),
    NotIn(Vec<String>),
    Present,
    Absent,
}

#[derive(Clone, Debug, PartialEq)]
struct FieldRequirement {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Name,
    Namespace,
    Tier,
}

impl Selection {
    /// Parses both query parameters; the error is the message of a 400.
    pub(crate) fn parse(kind: Kind, labels: &str, fields: &str) -> Result<Selection, String> {
        Ok(Selection { labels: parse_labels(labels)?, fields: parse_fields(kind, fields)? })
    }

    /// Whether everything is selected, so that nobody needs to look inside an object.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match, if the selector pins it: then one key is read instead of all of them.
    pub(crate) fn pinned_name(&self) -> Option<&str> {
        let pins = |field: &&FieldRequirement| field.field == Field::Name && field.equal;
        self.fields.iter().find(pins).map(|field| field.value.as_str())
    }

    /// The namespace that the selector pins, if it does.
    pub(crate) fn pinned_namespace(&self) -> Option<&str> {
        let pins = |field: &&FieldRequirement| field.field == Field::Namespace && field.equal;
        self.fields.iter().find(pins).map(|field| field.value.as_str())
    }

    /// Whether the stored object of that name is selected. What can not be read as an object is never selected.
    pub(crate) fn matches(&self, namespace: Option<&str>, name: &str, stored: &[u8]) -> bool {
        if !self.fields.iter().all(|field| field.holds_for_key(namespace, name)) {
            return false;
        }
        let by_key_alone = self.labels.is_empty() && self.fields.iter().all(|f| f.field != Field::Tier);
        by_key_alone || serde_json::from_slice::<View>(stored).is_ok_and(|view| self.matches_view(&view))
    }

    fn matches_view(&self, view: &View) -> bool {
        let empty = BTreeMap::new();
        let labels = view.metadata.labels.as_ref().unwrap_or(&empty);
        let tier = view.spec.tier.as_deref().unwrap_or("");
        self.labels.iter().all(|requirement| requirement.holds(labels.get(&requirement.key)))
            && self.fields.iter().all(|f| f.field != Field::Tier || (f.value == tier) == f.equal)
    }
}

impl FieldRequirement {
    fn holds_for_key(&self, namespace: Option<&str>, name: &str) -> bool {
        match self.field {
            Field::Name => (self.value == name) == self.equal,
            Field::Namespace => (self.value == namespace.unwrap_or("")) == self.equal,
            Field::Tier => true,
        }
    }
}

impl LabelRequirement {
    fn holds(&self, value: Option<&String>) -> bool {
        let among = |values: &Vec<String>| value.is_some_and(|value| values.iter().any(|v| v == value));
        match &self.test {
            LabelTest::In(values) => among(values),
            LabelTest::NotIn(values) => !among(values),
            LabelTest::Present => value.is_some(),
            LabelTest::Absent => value.is_none(),
        }
    }
}

fn parse_fields(kind: Kind, text: &str) -> Result<Vec<FieldRequirement>, String> {
    text.split(',').map(str::trim).filter(|term| !term.is_empty()).map(|term| field(kind, term)).collect()
}

fn field(kind: Kind, term: &str) -> Result<FieldRequirement, String> {
    let (name, equal, value) = if let Some((name, value)) = term.split_once("!=") {
        (name, false, value)
    } else if let Some((name, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (name, true, value)
    } else {
        return Err(format!(
            "invalid field selector: {term:?}; expected field=value, field==value or field!=value"
        ));
    };
    let field = match name.trim() {
        "metadata.name" => Field::Name,
        "metadata.namespace" => Field::Namespace,
        "spec.tier" if has_tier(kind) => Field::Tier,
        other => return Err(format!("field label not supported: {other}")),
    };
    Ok(FieldRequirement { field, equal, value: value.trim().to_owned() })
}

/// Policies are the kinds that name the tier they stand in.
fn has_tier(kind: Kind) -> bool {
    kind.name().ends_with("NetworkPolicy")
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, String> {
    let mut rest = text.trim();
    let mut requirements = Vec::new();
    while !rest.is_empty() {
        let (requirement, after) =
            label(rest).map_err(|why| format!("unable to parse requirement: {why}"))?;
        requirements.push(requirement);
        rest = match after.trim_start().strip_prefix(',') {
            Some(next) if next.trim().is_empty() => {
                return Err("unable to parse requirement: nothing follows the last ','".to_owned());
            }
            Some(next) => next.trim_start(),
            None if after.trim().is_empty() => "",
            None => return Err(format!("unable to parse requirement: found {after:?}, expected ','")),
        };
    }
    Ok(requirements)
}

/// One requirement from the front of `text`, and what follows it.
fn label(text: &str) -> Result<(LabelRequirement, &str), String> {
    if let Some(rest) = text.strip_prefix('!') {
        let (key, rest) = key(rest.trim_start())?;
        return Ok((LabelRequirement { key, test: LabelTest::Absent }, rest));
    }
    let (key, rest) = key(text)?;
    let rest = rest.trim_start();
    let (test, rest) = if let Some(rest) = rest.strip_prefix("!=") {
        let (value, rest) = value(rest)?;
        (LabelTest::NotIn(vec![value]), rest)
    } else if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        let (value, rest) = value(rest)?;
        (LabelTest::In(vec![value]), rest)
    } else if let Some(rest) = word(rest, "notin") {
        let (values, rest) = values(rest)?;
        (LabelTest::NotIn(values), rest)
    } else if let Some(rest) = word(rest, "in") {
        let (values, rest) = values(rest)?;
        (LabelTest::In(values), rest)
    } else {
        (LabelTest::Present, rest)
    };
    Ok((LabelRequirement { key, test }, rest))
}

/// The text after a whole word, when it starts with that word.
fn word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let rest = text.strip_prefix(word)?;
    rest.starts_with(|c: char| c == '(' || c.is_whitespace()).then_some(rest)
}

fn key(text: &str) -> Result<(String, &str), String> {
    let (key, rest) = token(text);
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    if !is_label_name(name) || key.len() > 317 {
        return Err(format!("{key:?} is not a label key in {text:?}"));
    }
    Ok((key.to_owned(), rest))
}

fn value(text: &str) -> Result<(String, &str), String> {
    let (value, rest) = token(text.trim_start());
    if !(value.is_empty() || is_label_name(value)) {
        return Err(format!("{value:?} is not a label value"));
    }
    Ok((value.to_owned(), rest))
}

/// `(a, b, c)`; an empty item is the empty value, as in Kubernetes.
fn values(text: &str) -> Result<(Vec<String>, &str), String> {
    let missing = || format!("expected '(' and ')' around the values in {text:?}");
    let inside = text.trim_start().strip_prefix('(').ok_or_else(missing)?;
    let (inside, rest) = inside.split_once(')').ok_or_else(missing)?;
    let each = |item: &str| {
        let (value, left) = value(item)?;
        if left.trim().is_empty() { Ok(value) } else { Err(format!("{item:?} is not a label value")) }
    };
    Ok((inside.split(',').map(each).collect::<Result<_, String>>()?, rest))
}

/// Up to the first character that no key and no value contains.
fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_whitespace() || "=!,()".contains(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn is_label_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &[u8] = br#"{"metadata":{"name":"p","labels":{"app":"web","q":"a\"b","projectcalico.org/tier":"ops"}},"spec":{"tier":"ops"}}"#;

    fn check(labels: &str, fields: &str) -> Result<bool, String> {
        let selection = Selection::parse(Kind::GlobalNetworkPolicy, labels, fields)?;
        Ok(selection.matches(None, "p", STORED))
    }

    #[test]
    fn labels_are_read_as_kubernetes_reads_them() {
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web", true),
            ("app!=web", false),
            ("colour!=red", true),
            ("app", true),
            ("!app", false),
            ("! colour", true),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db)", true),
            ("colour notin (red)", true),
            ("colour in (red)", false),
            ("colour=", false),
            ("app=web,projectcalico.org/tier in (default,ops)", true),
            ("app=web , colour", false),
            ("in in (x)", false),
        ] {
            assert_eq!(check(selector, ""), Ok(expected), "{selector}");
        }
    }

    #[test]
    fn a_selector_that_is_none_is_refused_with_the_reason() {
        for selector in
            ["app=web,", "app web", "app in web", "app in (a", "=x", "-a", "a=b c", "app=we/b", ",a"]
        {
            let error = check(selector, "").unwrap_err();
            assert!(error.starts_with("unable to parse requirement: "), "{selector}: {error}");
        }
    }

    #[test]
    fn fields_select_by_name_namespace_and_tier() {
        for (selector, expected) in [
            ("metadata.name=p", Ok(true)),
            ("metadata.name==q", Ok(false)),
            ("metadata.name!=q", Ok(true)),
            ("metadata.namespace=", Ok(true)),
            ("metadata.namespace=n", Ok(false)),
            ("spec.tier=ops,metadata.name=p", Ok(true)),
            ("spec.tier!=ops", Ok(false)),
            ("spec.order=1", Err("field label not supported: spec.order".to_owned())),
        ] {
            assert_eq!(check("", selector), expected, "{selector}");
        }
        let endpoint = Selection::parse(Kind::HostEndpoint, "", "spec.tier=ops");
        assert_eq!(endpoint, Err("field label not supported: spec.tier".to_owned()));
    }

    #[test]
    fn a_pinned_name_is_known_without_reading() {
        let pinned = Selection::parse(Kind::Tier, "", "metadata.name=x").unwrap();
        assert_eq!(pinned.pinned_name(), Some("x"));
        let other = Selection::parse(Kind::Tier, "", "metadata.name!=x").unwrap();
        assert_eq!(other.pinned_name(), None);
    }
}
