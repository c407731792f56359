//! `get`: shows objects, and with `-w` keeps showing what happens to them.
//!
//! The format is checked before any node is contacted. Objects that are missing do not keep the others from being
//! shown. Following changes is `follow`'s.

use appliance_resources::Kind;
use serde_json::{Value, json};

use crate::Verdict;
use crate::args::Get;
use crate::client::Client;
use crate::commands::{follow, kind, kind_and_names};
use crate::error::{ClientError, cause};
use crate::input;
use crate::object::{self, Scope};
use crate::output::columns::{self, Column};
use crate::output::table::Table;
use crate::output::{Format, json as json_text, yaml};
use crate::target::{Target, collection_path, with_query};
use crate::world::{Failure, World};

/// What is asked for, one result each.
#[derive(Clone, Debug)]
pub(super) enum Query {
    One(Target),
    List { kind: Kind, namespace: Option<String> },
}

/// One answer: an object, or a list object.
struct Found {
    kind: Kind,
    object: Value,
}

pub(super) async fn run(args: &Get, world: &mut World) -> Result<Verdict, Failure> {
    let format = Format::parse(&args.output)?;
    let Some(queries) = queries(args, world)? else {
        world.console.out("No resources specified\n");
        return Ok(Verdict::Done);
    };
    check_headings(&format, &queries)?;
    if args.watch {
        let [query] = queries.as_slice() else {
            return Err("-w follows one name or one list at a time".into());
        };
        let client = world.client()?;
        return follow::run(args, &format, query, &client, world).await;
    }
    let client = world.client()?;
    let (mut found, mut causes) = (Vec::new(), Vec::new());
    for query in &queries {
        match fetch(&client, args, query).await {
            Ok(object) => found.push(Found { kind: query.kind(), object }),
            Err(error) if error.is_connection() => return Err(error.into()),
            Err(error) => causes.push(query.cause(&error)),
        }
    }
    let export = args.export && !args.words.get(1..).unwrap_or_default().is_empty();
    if export {
        found.iter_mut().for_each(|one| one.object = object::exported(one.object.take()));
    }
    world.console.out(&render(&format, &found, args.input.namespace.is_some() || args.all_namespaces));
    causes.iter().for_each(|cause| world.console.err(&format!("{cause}\n")));
    Ok(if causes.is_empty() { Verdict::Done } else { Verdict::Failed })
}

impl Query {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Query::One(target) => target.kind,
            Query::List { kind, .. } => *kind,
        }
    }

    fn cause(&self, error: &ClientError) -> String {
        match self {
            Query::One(target) => cause("get", target, error),
            Query::List { kind, namespace } => {
                let target = Target { kind: *kind, namespace: namespace.clone(), name: String::new() };
                match error {
                    ClientError::Api(api) if matches!(api.code, 400 | 404) => api.message.clone(),
                    _ => cause("list", &target, error),
                }
            }
        }
    }
}

/// What the words or the file ask for; `None` for an empty file that may be empty.
fn queries(args: &Get, world: &mut World) -> Result<Option<Vec<Query>>, Failure> {
    let scope = Scope { namespace: args.input.namespace.as_deref(), all_namespaces: args.all_namespaces };
    let selects = args.selector.is_some() || args.field_selector.is_some();
    if args.input.filename.is_some() {
        if !args.words.is_empty() || selects {
            return Err("a kind, names and selectors can not be combined with --filename".into());
        }
        let manifests = input::read(&args.input, &mut world.stdin)?;
        let query = |manifest: input::Manifest| match manifest.target {
            Target { kind, namespace, name } if name.is_empty() => Query::List { kind, namespace },
            target => Query::One(target),
        };
        return Ok(manifests.map(|manifests| manifests.into_iter().map(query).collect()));
    }
    let (word, names) = kind_and_names(&args.words)?;
    let failed = |cause: String| Failure(format!("failed to get resources: {cause}"));
    let kind = kind(word).map_err(failed)?;
    if names.is_empty() {
        return Ok(Some(vec![Query::List { kind, namespace: scope.of_list(kind)? }]));
    }
    if selects {
        return Err("selectors choose among a list; they can not be combined with names".into());
    }
    let named = |name: &String| match scope.of_name(kind, name) {
        Err(cause) if name.is_empty() => Err(failed(cause)),
        result => result.map(Query::One).map_err(Failure),
    };
    names.iter().map(named).collect::<Result<_, _>>().map(Some)
}

/// An unknown heading is refused before anything is asked.
fn check_headings(format: &Format, queries: &[Query]) -> Result<(), Failure> {
    if let Format::CustomColumns(headings) = format {
        for query in queries {
            columns::named(query.kind(), headings)?;
        }
    }
    Ok(())
}

async fn fetch(client: &Client, args: &Get, query: &Query) -> Result<Value, ClientError> {
    let stale = args.stale.then_some("0");
    match query {
        Query::One(target) => client.get(&with_query(&target.path(), &[("resourceVersion", stale)])).await,
        Query::List { kind, namespace } => {
            let parameters = [
                ("labelSelector", args.selector.as_deref()),
                ("fieldSelector", args.field_selector.as_deref()),
                ("resourceVersion", stale),
            ];
            let path = with_query(&collection_path(*kind, namespace.as_deref()), &parameters);
            let mut list = client.get(&path).await?;
            sort(&mut list, *kind, args.sort_by.as_deref());
            Ok(list)
        }
    }
}

/// By the field asked for; tiers, unless asked otherwise, by order as they are evaluated.
pub(super) fn sort(list: &mut Value, kind: Kind, by: Option<&str>) {
    let path = by.or((kind == Kind::Tier).then_some(".spec.order"));
    let (Some(path), Some(Value::Array(items))) = (path, list.get_mut("items")) else { return };
    let path = path.trim_start_matches('{').trim_end_matches('}').trim_start_matches('.');
    let pointer: String = path.split('.').map(|part| format!("/{part}")).collect();
    // A stable sort: what is equal, or has no such field, stays in the order of the store.
    items.sort_by(|a, b| compare(a.pointer(&pointer), b.pointer(&pointer)));
}

/// Numbers by value, everything else by its text; what is absent goes last.
fn compare(a: Option<&Value>, b: Option<&Value>) -> std::cmp::Ordering {
    let present = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    match (a, b) {
        (Some(a), Some(b)) if present(Some(a)) && present(Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => text(a).cmp(&text(b)),
        },
        _ => present(b).cmp(&present(a)),
    }
}

/// Every result in the format asked for.
fn render(format: &Format, found: &[Found], namespace: bool) -> String {
    let whole = || match found {
        [one] => one.object.clone(),
        several => Value::Array(several.iter().map(|one| one.object.clone()).collect()),
    };
    match format {
        // Upstream prints `null` when every lookup failed; nothing is the better answer for nothing.
        _ if found.is_empty() => String::new(),
        Format::Yaml => yaml::render(&whole()),
        Format::Json => json_text::render(&whole()),
        Format::Name => {
            found.iter().flat_map(Found::members).map(|(kind, object)| name_line(kind, object)).collect()
        }
        _ => found.iter().map(|one| table(format, one, namespace).render()).collect(),
    }
}

impl Found {
    fn members(&self) -> Vec<(Kind, &Value)> {
        match self.object.get("items") {
            Some(_) => object::items(&self.object).iter().map(|item| (self.kind, item)).collect(),
            None => vec![(self.kind, &self.object)],
        }
    }
}

/// `hostendpoint.projectcalico.org/eth0`, as kubectl names things.
pub(super) fn name_line(kind: Kind, object: &Value) -> String {
    format!("{}.{}/{}\n", kind.singular(), kind.group(), object::name(object))
}

fn table(format: &Format, found: &Found, namespace: bool) -> Table {
    let columns = columns_of(format, found.kind, namespace);
    let rows = found.members().iter().map(|(_, object)| row(&columns, object)).collect();
    Table { headings: columns.iter().map(|column| column.heading.to_string()).collect(), rows }
}

/// The columns of a table format. Unknown headings were refused before.
pub(super) fn columns_of(format: &Format, kind: Kind, namespace: bool) -> Vec<Column> {
    match format {
        Format::CustomColumns(headings) => columns::named(kind, headings).unwrap_or_default(),
        other => columns::of(kind, *other == Format::Wide, namespace),
    }
}

pub(super) fn row(columns: &[Column], object: &Value) -> Vec<String> {
    columns.iter().map(|column| (column.cell)(object)).collect()
}

/// A list object around objects, for what is shown before a watch.
pub(super) fn list_of(items: Vec<Value>) -> Value {
    json!({"items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(kind: Kind, by: Option<&str>, items: Value) -> Vec<String> {
        let mut list = json!({"items": items});
        sort(&mut list, kind, by);
        object::items(&list).iter().map(|item| object::name(item).to_string()).collect()
    }

    #[test]
    fn tiers_come_in_the_order_they_are_evaluated() {
        let tier = |name: &str, order: Value| json!({"metadata": {"name": name}, "spec": {"order": order}});
        let tiers = json!([
            tier("admin", json!(10000)),
            tier("before", json!(100)),
            tier("unset", Value::Null),
            tier("default", json!(1000000.0))
        ]);
        assert_eq!(sorted(Kind::Tier, None, tiers), ["before", "admin", "default", "unset"]);
    }

    #[test]
    fn sort_by_takes_kubectl_paths_and_keeps_equal_items_in_place() {
        let hep = |name: &str, node: &str| json!({"metadata": {"name": name}, "spec": {"node": node}});
        let items = json!([hep("a", "n2"), hep("b", "n1"), hep("c", "n2"), {"metadata": {"name": "d"}}]);
        for path in [".spec.node", "{.spec.node}", "spec.node"] {
            assert_eq!(sorted(Kind::HostEndpoint, Some(path), items.clone()), ["b", "a", "c", "d"]);
        }
        assert_eq!(sorted(Kind::HostEndpoint, None, items), ["a", "b", "c", "d"]);
    }

    #[test]
    fn names_are_printed_as_kubectl_prints_them() {
        let object = json!({"metadata": {"name": "eth0"}});
        assert_eq!(name_line(Kind::HostEndpoint, &object), "hostendpoint.projectcalico.org/eth0\n");
        assert_eq!(name_line(Kind::NodeReport, &object), "nodereport.appliance/eth0\n");
    }
}
