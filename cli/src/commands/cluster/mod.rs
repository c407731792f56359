//! The verbs that manage the cluster itself, one file each, and what they share: asking before something is lost,
//! choosing a format, and the words for what a node refused.
//!
//! They speak to `/cluster/…` of any member. What a member may be asked and what it must refuse is that member's
//! business; here is what a person needs to read before and after.

pub(super) mod ca;
pub(super) mod credential;
pub(super) mod kubeconfig;
pub(super) mod leader;
pub(super) mod member;
pub(super) mod recover;
pub(super) mod reseed;
mod save;
pub(super) mod snapshot;
pub(super) mod status;
pub(super) mod token;

pub(super) use crate::args::cluster as args;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::error::ClientError;
use crate::output::table::Table;
use crate::output::{json, yaml};
use crate::world::{Failure, World};
use args::Output;

/// Characters of a path segment that stand as they are.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `/cluster/members/node2/promote` and the like: a name or an id as typed, made safe for a path.
fn path_of(collection: &str, name: &str, verb: &str) -> String {
    let slash = if verb.is_empty() { "" } else { "/" };
    format!("/cluster/{collection}/{}{slash}{verb}", utf8_percent_encode(name, SEGMENT))
}

/// An answer in the format asked for; `text` words it for people, and is told whether more columns are wanted.
fn render(output: Output, answer: &Value, text: impl FnOnce(bool) -> String) -> String {
    match output {
        Output::Table => text(false),
        Output::Wide => text(true),
        Output::Json => json::render(answer),
        Output::Yaml => yaml::render(answer),
    }
}

/// A heading, and what stands under it for an object.
type Column = (&'static str, fn(&Value) -> String);

/// A table of the objects in `items`.
fn list(answer: &Value, columns: &[Column]) -> String {
    let items = answer.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let row = |item: &Value| columns.iter().map(|(_, cell)| cell(item)).collect();
    let headings = columns.iter().map(|(heading, _)| heading.to_string()).collect();
    Table { headings, rows: items.iter().map(row).collect() }.render()
}

/// A field as a cell: text as it is, numbers as digits, what is absent as nothing.
fn cell(object: &Value, field: &str) -> String {
    match object.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        Some(other) => other.to_string(),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// The sentence a node answered with, printed as a line.
fn tell(world: &mut World, answer: &Value, otherwise: &str) {
    let message = match answer.get("message").and_then(Value::as_str) {
        Some(message) if !message.is_empty() => message,
        _ => otherwise,
    };
    world.console.out(&format!("{message}\n"));
}

/// Lets a person stop what loses something. Without a person there, only `--yes` goes on.
fn confirm(world: &mut World, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !world.person {
        return Err(
            format!("{question}\nnothing was done: nobody can be asked here; say --yes to do it").into()
        );
    }
    world.console.err(&format!("{question}\nGo on? Type yes: "));
    match world.line()?.as_str() {
        "yes" | "y" => Ok(()),
        _ => Err("nothing was done".into()),
    }
}

/// What the operator reads when a member refuses, or can not be reached.
fn refused(error: ClientError) -> Failure {
    let ClientError::Api(api) = &error else { return error.into() };
    Failure(match api.code {
        401 => format!(
            "connection is unauthorized: {}; the node does not accept these credentials",
            api.message
        ),
        403 => format!("connection is unauthorized: {}", api.message),
        404 if api.message.contains("requested resource") => {
            "this node does not know that request: it runs an older version; upgrade it, or ask another with --server"
                .to_string()
        }
        503 => format!(
            "the node can not serve this now: {}; `appliance ctl cluster status` says what is missing",
            api.message
        ),
        504 => format!(
            "the outcome is unknown: {}; it may or may not have been done, look with `appliance ctl cluster status`",
            api.message
        ),
        _ => api.message.clone(),
    })
}
