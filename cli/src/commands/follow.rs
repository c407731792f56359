//! `get -w`: drives the watch through its three states and prints a row for every change.
//!
//! `watch` knows what comes next; this asks for it, and prints. A stream that ends is resumed, an expired one starts
//! over; a node that stays away ends the command after a bounded number of tries.

use std::time::Duration;

use appliance_resources::Kind;
use serde_json::{Value, json};

use crate::Verdict;
use crate::args::Get;
use crate::client::{Client, EventStream};
use crate::commands::get::{self, Query};
use crate::error::ClientError;
use crate::object;
use crate::output::columns::Column;
use crate::output::table::{Table, line, widen};
use crate::output::{Format, json as json_text, yaml};
use crate::target::{Target, collection_path, with_query};
use crate::watch::{Change, End, State, Step, Watch};
use crate::world::{Failure, World};

/// A node that was there and went away is asked again this often: it may be restarting.
const RECONNECTS_MAX: u32 = 60;
/// Between two tries, and between a stream's end and its resumption, so that a node that ends every watch at once is
/// not hammered.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Where the watched collection is.
struct Collection {
    path: String,
    labels: Option<String>,
    fields: Option<String>,
}

pub(super) async fn run(
    args: &Get,
    format: &Format,
    query: &Query,
    client: &Client,
    world: &mut World,
) -> Result<Verdict, Failure> {
    let collection = collection(args, query);
    let mut printer = Printer::new(args, format, query.kind());
    let mut watch = Watch::new();
    let mut stream = None;
    let mut misses = 0;
    while !world.console.is_closed() {
        match step(client, &collection, &mut watch, &mut stream, &mut printer, world).await {
            Ok(()) => misses = 0,
            Err(error) if misses < RECONNECTS_MAX && printer.started && can_recover(&error) => {
                misses += 1;
                tracing::warn!(%error, misses, "watch interrupted");
                stream = None;
                // Another server goes on from the same revision: they are the same everywhere.
                client.turn_away().await;
                watch.on_end(if error.is_expired() { End::Expired } else { End::Closed });
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Verdict::Done)
}

/// One name is a collection of at most one.
fn collection(args: &Get, query: &Query) -> Collection {
    match query {
        Query::One(target @ Target { name, .. }) => Collection {
            path: target.collection(),
            labels: None,
            fields: Some(format!("metadata.name={name}")),
        },
        Query::List { kind, namespace } => Collection {
            path: collection_path(*kind, namespace.as_deref()),
            labels: args.selector.clone(),
            fields: args.field_selector.clone(),
        },
    }
}

/// Whether waiting can help. A refusal of the request itself would only be repeated.
fn can_recover(error: &ClientError) -> bool {
    match error {
        ClientError::Api(api) => matches!(api.code, 410 | 429 | 500..),
        ClientError::SocketDenied(_) | ClientError::Credentials(_) | ClientError::Malformed(_) => false,
        _ => true,
    }
}

/// Does what the state asks for, once.
async fn step(
    client: &Client,
    collection: &Collection,
    watch: &mut Watch,
    stream: &mut Option<EventStream>,
    printer: &mut Printer,
    world: &mut World,
) -> Result<(), ClientError> {
    let selectors =
        [("labelSelector", collection.labels.as_deref()), ("fieldSelector", collection.fields.as_deref())];
    match (watch.state().clone(), stream.as_mut()) {
        (State::Empty, _) => {
            let list = client.get(&with_query(&collection.path, &selectors)).await?;
            printer.tell(world, watch.on_list(&list));
        }
        (State::Watching { .. }, Some(open)) => match open.next().await? {
            Some(event) => match watch.on_event(&event) {
                Step::Tell(change, object) => printer.tell(world, vec![(change, object)]),
                Step::Quiet => {}
                Step::Ended(end, message) => {
                    tracing::info!(message, "the node ended the watch");
                    *stream = None;
                    watch.on_end(end);
                }
            },
            None => {
                *stream = None;
                watch.on_end(End::Closed);
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        },
        (State::Watching { .. }, None) => watch.on_end(End::Closed),
        (State::Listed { resource_version }, _) => {
            let options = [
                ("watch", Some("true")),
                ("allowWatchBookmarks", Some("true")),
                ("resourceVersion", Some(resource_version.as_str())),
            ];
            let path = with_query(&collection.path, &[options.as_slice(), &selectors].concat());
            *stream = Some(client.watch(&path).await?);
            watch.on_open();
        }
    }
    Ok(())
}

/// Prints changes in one format; the first lot opens the table.
struct Printer {
    format: Format,
    kind: Kind,
    events: bool,
    columns: Vec<Column>,
    widths: Vec<usize>,
    sort_by: Option<String>,
    started: bool,
}

impl Printer {
    fn new(args: &Get, format: &Format, kind: Kind) -> Printer {
        let namespace = args.input.namespace.is_some() || args.all_namespaces;
        Printer {
            format: format.clone(),
            kind,
            events: args.output_watch_events,
            columns: get::columns_of(format, kind, namespace),
            widths: Vec::new(),
            sort_by: args.sort_by.clone(),
            started: false,
        }
    }

    fn tell(&mut self, world: &mut World, changes: Vec<(Change, Value)>) {
        let text = if self.started { self.changes(&changes) } else { self.first(changes) };
        self.started = true;
        if !text.is_empty() {
            world.console.out(&text);
        }
    }

    /// What is there when the watch begins, sorted as `get` would sort it.
    fn first(&mut self, changes: Vec<(Change, Value)>) -> String {
        let mut list = get::list_of(changes.into_iter().map(|(_, object)| object).collect());
        get::sort(&mut list, self.kind, self.sort_by.as_deref());
        let changes: Vec<_> =
            object::items(&list).iter().map(|object| (Change::Added, object.clone())).collect();
        if !self.is_table() {
            return self.changes(&changes);
        }
        let headings = self.columns.iter().map(|column| column.heading.to_string());
        let table = Table {
            headings: self.events.then(|| "EVENT".to_string()).into_iter().chain(headings).collect(),
            rows: changes.iter().map(|(change, object)| self.row(*change, object)).collect(),
        };
        self.widths = table.widths();
        if self.events {
            // Wide enough for every event that may follow.
            widen(&mut self.widths[..1], &[Change::Modified.word().to_string()]);
        }
        table.render_open(&self.widths)
    }

    fn changes(&mut self, changes: &[(Change, Value)]) -> String {
        changes.iter().map(|(change, object)| self.change(*change, object)).collect()
    }

    fn change(&mut self, change: Change, object: &Value) -> String {
        let shown = || {
            if self.events { json!({"type": change.word(), "object": object}) } else { object.clone() }
        };
        match self.format {
            Format::Yaml => format!("---\n{}", yaml::render(&shown())),
            Format::Json => json_text::render(&shown()),
            Format::Name => get::name_line(self.kind, object),
            _ => {
                let row = self.row(change, object);
                widen(&mut self.widths, &row);
                line(&row, &self.widths)
            }
        }
    }

    fn row(&self, change: Change, object: &Value) -> Vec<String> {
        let event = self.events.then(|| change.word().to_string());
        event.into_iter().chain(get::row(&self.columns, object)).collect()
    }

    fn is_table(&self) -> bool {
        !matches!(self.format, Format::Yaml | Format::Json | Format::Name)
    }
}
