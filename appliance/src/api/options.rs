//! What the query of a request asks for: list, watch, write and delete options. Pure.
//!
//! Every parameter Kubernetes defines for these verbs is either honoured, accepted because leaving it out is
//! always allowed (`limit`, `timeout`, `pretty`), or refused with its name. Two kinds of refusal exist because
//! clients tell them apart: text that can not be read is a 400, a combination that means nothing is a 422.

use std::time::Duration;

use appliance_resources::Kind;
use serde::Deserialize;

use super::request::is_true;
use super::selection::Selection;

/// Why options were refused.
#[derive(Debug, PartialEq)]
pub(crate) enum OptionsError {
    /// Not readable: a 400 with this message.
    Unreadable(String),
    /// Readable but not allowed: a 422 that names the options, the field and the reason.
    Invalid { options: &'static str, field: &'static str, rule: Rule, detail: String },
}

/// Which rule a refused option broke, as Kubernetes names them in the causes of a 422.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    Forbidden,
    NotSupported,
    Invalid,
}

/// How fresh the state must be that answers a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Nothing was asked: linearizable.
    Latest,
    /// `resourceVersion=0`: whatever this node has, even without quorum.
    Any,
    /// At least this revision.
    NotOlderThan(u64),
    /// This revision and no other.
    Exact(u64),
}

/// What to list.
#[derive(Debug, PartialEq)]
pub(crate) struct ListOptions {
    pub(crate) selection: Selection,
    pub(crate) freshness: Freshness,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchStart {
    /// Everything there is as ADDED, then what changes.
    State { freshness: Freshness, announce_end: bool },
    /// What changes after the current revision.
    Now { freshness: Freshness },
    /// What changed after this revision.
    After(u64),
}

/// What to watch.
#[derive(Debug, PartialEq)]
pub(crate) struct WatchOptions {
    pub(crate) selection: Selection,
    pub(crate) start: WatchStart,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Option<Duration>,
}

/// What to do with fields that no schema knows, and with those that come twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<u64>,
}

/// The query, read once. A parameter that comes twice counts the first time, as in Go, `dryRun` excepted.
#[derive(Debug, Default)]
struct Query<'q> {
    label_selector: Option<Text<'q>>,
    field_selector: Option<Text<'q>>,
    resource_version: Option<Text<'q>>,
    resource_version_match: Option<Text<'q>>,
    continue_token: Option<Text<'q>>,
    timeout_seconds: Option<Text<'q>>,
    field_validation: Option<Text<'q>>,
    field_manager: Option<Text<'q>>,
    force: Option<Text<'q>>,
    bookmarks: bool,
    send_initial_events: Option<bool>,
    dry_run: Vec<Text<'q>>,
}

type Text<'q> = std::borrow::Cow<'q, str>;

impl<'q> Query<'q> {
    fn read(query: &'q str) -> Query<'q> {
        let mut read = Query::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match name.as_ref() {
                "labelSelector" => &mut read.label_selector,
                "fieldSelector" => &mut read.field_selector,
                "resourceVersion" => &mut read.resource_version,
                "resourceVersionMatch" => &mut read.resource_version_match,
                "continue" => &mut read.continue_token,
                "timeoutSeconds" => &mut read.timeout_seconds,
                "fieldValidation" => &mut read.field_validation,
                "fieldManager" => &mut read.field_manager,
                "force" => &mut read.force,
                "allowWatchBookmarks" => {
                    read.bookmarks = is_true(&value);
                    continue;
                }
                "sendInitialEvents" => {
                    read.send_initial_events = Some(is_true(&value));
                    continue;
                }
                "dryRun" => {
                    read.dry_run.push(value);
                    continue;
                }
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        read
    }

    fn selection(&self, kind: Kind) -> Result<Selection, OptionsError> {
        let labels = self.label_selector.as_deref().unwrap_or("");
        let fields = self.field_selector.as_deref().unwrap_or("");
        Selection::parse(kind, labels, fields).map_err(OptionsError::Unreadable)
    }

    /// The version asked for: none, or a number.
    fn version(&self) -> Result<Option<u64>, OptionsError> {
        match self.resource_version.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| unreadable_version(text)),
        }
    }

    /// Whether the version is to be matched exactly; refuses the combinations that mean nothing.
    fn exact(&self, version: Option<u64>) -> Result<bool, OptionsError> {
        let forbidden = |detail: &str| list_invalid("resourceVersionMatch", Rule::Forbidden, detail);
        match self.resource_version_match.as_deref() {
            None | Some("") => Ok(false),
            Some(_) if self.continue_token.is_some() => {
                Err(forbidden("resourceVersionMatch is forbidden when continue is provided"))
            }
            Some("Exact" | "NotOlderThan") if version.is_none() => {
                Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"))
            }
            Some("Exact") if version == Some(0) => {
                Err(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""))
            }
            Some("Exact") => Ok(true),
            Some("NotOlderThan") => Ok(false),
            Some(other) => Err(unsupported_match(other)),
        }
    }

    fn dry_run(&self, options: &'static str) -> Result<bool, OptionsError> {
        dry_run(self.dry_run.iter().map(AsRef::as_ref), options)
    }
}

fn dry_run<'t>(values: impl Iterator<Item = &'t str>, options: &'static str) -> Result<bool, OptionsError> {
    let mut asked = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value != "All" {
            let detail = format!("{value:?}: supported values: \"All\"");
            return Err(OptionsError::Invalid { options, field: "dryRun", rule: Rule::NotSupported, detail });
        }
        asked = true;
    }
    Ok(asked)
}

/// The freshness that a read of one object asks for.
pub(crate) fn get_options(query: &str) -> Result<Freshness, OptionsError> {
    let query = Query::read(query);
    Ok(freshness(query.version()?, false))
}

/// The options of a list; also what a delete collection selects by.
pub(crate) fn list_options(kind: Kind, query: &str) -> Result<ListOptions, OptionsError> {
    let query = Query::read(query);
    if query.send_initial_events.is_some() {
        let detail = "sendInitialEvents is forbidden for list";
        return Err(list_invalid("sendInitialEvents", Rule::Forbidden, detail));
    }
    let version = query.version()?;
    let exact = query.exact(version)?;
    // We never cut a list, so a token can only be an invention or another server's.
    if query.continue_token.as_deref().is_some_and(|token| !token.is_empty()) {
        let message = "continue key is not valid: this server answers lists whole and never issued it";
        return Err(OptionsError::Unreadable(message.to_owned()));
    }
    Ok(ListOptions { selection: query.selection(kind)?, freshness: freshness(version, exact) })
}

/// The options of a watch.
pub(crate) fn watch_options(kind: Kind, query: &str) -> Result<WatchOptions, OptionsError> {
    let query = Query::read(query);
    let version = query.version()?;
    let timeout = match query.timeout_seconds.as_deref() {
        None | Some("") => None,
        Some(text) => {
            let seconds: i64 = text.parse().map_err(|_| {
                OptionsError::Unreadable(format!(
                    "timeoutSeconds: Invalid value: {text:?}: must be an integer"
                ))
            })?;
            u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
        }
    };
    let start = watch_start(&query, version)?;
    Ok(WatchOptions { selection: query.selection(kind)?, start, bookmarks: query.bookmarks, timeout })
}

fn watch_start(query: &Query<'_>, version: Option<u64>) -> Result<WatchStart, OptionsError> {
    let matching = query.resource_version_match.as_deref().filter(|text| !text.is_empty());
    match (query.send_initial_events, matching) {
        (None, None) => Ok(match version {
            Some(revision) if revision > 0 => WatchStart::After(revision),
            version => WatchStart::State { freshness: freshness(version, false), announce_end: false },
        }),
        (None, Some(_)) => {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            Err(list_invalid("resourceVersionMatch", Rule::Forbidden, detail))
        }
        (Some(true), Some("NotOlderThan")) => {
            Ok(WatchStart::State { freshness: freshness(version, false), announce_end: true })
        }
        (Some(false), Some("NotOlderThan")) => Ok(match version {
            Some(revision) if revision > 0 => WatchStart::After(revision),
            version => WatchStart::Now { freshness: freshness(version, false) },
        }),
        (Some(_), None | Some("Exact")) => {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            Err(list_invalid("resourceVersionMatch", Rule::Forbidden, detail))
        }
        (Some(_), Some(other)) => Err(unsupported_match(other)),
    }
}

fn freshness(version: Option<u64>, exact: bool) -> Freshness {
    match version {
        None => Freshness::Latest,
        Some(0) => Freshness::Any,
        Some(revision) if exact => Freshness::Exact(revision),
        Some(revision) => Freshness::NotOlderThan(revision),
    }
}

/// A field manager's name is printed in conflicts; longer than this, Kubernetes refuses it.
const FIELD_MANAGER_MAX_CHARS: usize = 128;

/// The options of a create, replace or patch; `options` is what Kubernetes calls them.
pub(crate) fn write_options(options: &'static str, query: &str) -> Result<WriteOptions, OptionsError> {
    let query = Query::read(query);
    let invalid = |field, rule, detail| Err(OptionsError::Invalid { options, field, rule, detail });
    let field_validation = match query.field_validation.as_deref() {
        None | Some("") => FieldValidation::default(),
        Some("Ignore") => FieldValidation::Ignore,
        Some("Warn") => FieldValidation::Warn,
        Some("Strict") => FieldValidation::Strict,
        Some(other) => {
            let detail = format!("{other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\"");
            return invalid("fieldValidation", Rule::NotSupported, detail);
        }
    };
    let manager = query.field_manager.as_deref().unwrap_or("");
    if manager.chars().count() > FIELD_MANAGER_MAX_CHARS || manager.chars().any(char::is_control) {
        let detail = format!("{manager:?}: may not be more than 128 printable characters");
        return invalid("fieldManager", Rule::Invalid, detail);
    }
    if query.force.is_some() && options == "PatchOptions" {
        return invalid("force", Rule::Forbidden, "may not be specified for non-apply patch".to_owned());
    }
    Ok(WriteOptions { dry_run: query.dry_run(options)?, field_validation })
}

/// The body of a DELETE, as much of it as means something here: nothing of ours has dependents or a grace period.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteBody {
    dry_run: Option<Vec<String>>,
    preconditions: Option<Preconditions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// The options of a delete: body and query together, for kubectl uses the one and the Python client the other.
pub(crate) fn delete_options(
    query: &str,
    body: Option<serde_json::Value>,
) -> Result<DeleteOptions, OptionsError> {
    const OPTIONS: &str = "DeleteOptions";
    let body: DeleteBody = match body {
        None | Some(serde_json::Value::Null) => DeleteBody::default(),
        Some(body) => serde_json::from_value(body)
            .map_err(|error| OptionsError::Unreadable(format!("the body is not DeleteOptions: {error}")))?,
    };
    let from_body = dry_run(body.dry_run.iter().flatten().map(String::as_str), OPTIONS)?;
    let from_query = Query::read(query).dry_run(OPTIONS)?;
    let preconditions = body.preconditions.unwrap_or_default();
    let resource_version = match preconditions.resource_version.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| unreadable_version(text))?),
    };
    let uid = preconditions.uid.filter(|uid| !uid.is_empty());
    Ok(DeleteOptions { dry_run: from_body || from_query, uid, resource_version })
}

fn list_invalid(field: &'static str, rule: Rule, detail: &str) -> OptionsError {
    OptionsError::Invalid { options: "ListOptions", field, rule, detail: detail.to_owned() }
}

fn unsupported_match(value: &str) -> OptionsError {
    let detail = format!("{value:?}: supported values: \"Exact\", \"NotOlderThan\", \"\"");
    list_invalid("resourceVersionMatch", Rule::NotSupported, &detail)
}

fn unreadable_version(text: &str) -> OptionsError {
    OptionsError::Unreadable(format!("resourceVersion: Invalid value: {text:?}: must be a decimal number"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, OptionsError>) -> String {
        match result.expect_err("refused") {
            OptionsError::Unreadable(message) => format!("400 {message}"),
            OptionsError::Invalid { field, detail, .. } => format!("422 {field}: {detail}"),
        }
    }

    #[test]
    fn a_list_is_as_fresh_as_was_asked() {
        for (query, expected) in [
            ("", Freshness::Latest),
            ("&limit=500", Freshness::Latest),
            ("resourceVersion=", Freshness::Latest),
            ("resourceVersion=0", Freshness::Any),
            ("resourceVersion=7", Freshness::NotOlderThan(7)),
            ("resourceVersion=7&resourceVersionMatch=NotOlderThan", Freshness::NotOlderThan(7)),
            ("resourceVersion=7&resourceVersionMatch=Exact", Freshness::Exact(7)),
        ] {
            assert_eq!(list_options(Kind::Tier, query).unwrap().freshness, expected, "{query}");
        }
    }

    #[test]
    fn list_options_that_mean_nothing_are_refused_by_name() {
        for (query, expected) in [
            ("resourceVersion=x", "400 resourceVersion: Invalid value: \"x\""),
            (
                "resourceVersionMatch=Exact",
                "422 resourceVersionMatch: resourceVersionMatch is forbidden unless",
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=0",
                "422 resourceVersionMatch: resourceVersionMatch \"exact\"",
            ),
            ("resourceVersionMatch=Near&resourceVersion=1", "422 resourceVersionMatch: \"Near\""),
            (
                "resourceVersionMatch=Exact&resourceVersion=1&continue=x",
                "422 resourceVersionMatch: resourceVersionMatch is forbidden when",
            ),
            ("continue=abc", "400 continue key is not valid"),
            ("sendInitialEvents=true", "422 sendInitialEvents: sendInitialEvents is forbidden for list"),
            ("labelSelector=a%20b", "400 unable to parse requirement"),
            ("fieldSelector=spec.x%3D1", "400 field label not supported: spec.x"),
        ] {
            let message = refused(list_options(Kind::Tier, query));
            assert!(message.starts_with(expected), "{query}: {message}");
        }
    }

    #[test]
    fn a_watch_starts_where_was_asked() {
        let state = |freshness, announce_end| WatchStart::State { freshness, announce_end };
        for (query, expected) in [
            ("watch=1", state(Freshness::Latest, false)),
            ("watch=1&resourceVersion=0", state(Freshness::Any, false)),
            ("watch=1&resourceVersion=9", WatchStart::After(9)),
            (
                "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
                state(Freshness::Latest, true),
            ),
            (
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=4",
                state(Freshness::NotOlderThan(4), true),
            ),
            (
                "sendInitialEvents=false&resourceVersionMatch=NotOlderThan",
                WatchStart::Now { freshness: Freshness::Latest },
            ),
            (
                "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=4",
                WatchStart::After(4),
            ),
        ] {
            assert_eq!(watch_options(Kind::Tier, query).unwrap().start, expected, "{query}");
        }
        for query in [
            "sendInitialEvents=true",
            "sendInitialEvents=true&resourceVersionMatch=Exact",
            "resourceVersionMatch=Exact",
        ] {
            assert!(refused(watch_options(Kind::Tier, query)).starts_with("422 "), "{query}");
        }
    }

    #[test]
    fn a_watch_timeout_is_a_positive_number_of_seconds() {
        let timeout = |query| watch_options(Kind::Tier, query).map(|options| options.timeout);
        assert_eq!(timeout("timeoutSeconds=5"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(timeout("timeoutSeconds=0"), Ok(None));
        assert!(refused(timeout("timeoutSeconds=soon")).starts_with("400 timeoutSeconds"));
    }

    #[test]
    fn only_dry_run_all_is_a_dry_run() {
        let dry_run = |query| write_options("CreateOptions", query).map(|options| options.dry_run);
        assert_eq!(dry_run(""), Ok(false));
        assert_eq!(dry_run("dryRun=All"), Ok(true));
        assert_eq!(dry_run("dryRun=All&dryRun=All"), Ok(true));
        assert!(refused(dry_run("dryRun=server")).starts_with("422 dryRun: \"server\""));
        assert!(refused(dry_run("dryRun=All&dryRun=no")).starts_with("422 dryRun"));
    }

    #[test]
    fn write_options_are_checked() {
        let write = |query| write_options("PatchOptions", query);
        assert_eq!(write("fieldValidation=Strict").unwrap().field_validation, FieldValidation::Strict);
        assert_eq!(write("").unwrap().field_validation, FieldValidation::Warn);
        assert!(refused(write("fieldValidation=Maybe")).starts_with("422 fieldValidation"));
        assert!(refused(write("force=true")).starts_with("422 force"));
        assert!(refused(write(&format!("fieldManager={}", "m".repeat(129)))).starts_with("422 fieldManager"));
    }

    #[test]
    fn delete_options_come_from_body_and_query() {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
            "gracePeriodSeconds": 0, "dryRun": ["All"], "preconditions": {"uid": "u", "resourceVersion": "5"}});
        let expected = DeleteOptions { dry_run: true, uid: Some("u".into()), resource_version: Some(5) };
        assert_eq!(delete_options("", Some(body)), Ok(expected));
        assert!(delete_options("dryRun=All", Some(json!({}))).unwrap().dry_run);
        assert_eq!(delete_options("", None), Ok(DeleteOptions::default()));
        assert!(refused(delete_options("", Some(json!({"dryRun": ["Some"]})))).starts_with("422 dryRun"));
        assert!(refused(delete_options("", Some(json!({"dryRun": "All"})))).starts_with("400 "));
    }
}
