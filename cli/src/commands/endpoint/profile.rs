//! `endpoint ID profile append|remove|set|show`: messages, order of checks and exit codes of the old command.
//!
//! Its oddities are kept where scripts may lean on them: a profile that is there already, or not there, changes nothing
//! and is no failure. One is mended: a reference to a profile that has been deleted since can be removed.

use serde_json::{Value, json};

use super::grammar::Change;
use super::listing::{self, Endpoint, Filter};
use crate::Verdict;
use crate::client::Client;
use crate::commands::write::{WriteError, Writer};
use crate::output::bordered::Bordered;
use crate::output::paragraph;
use crate::target::Target;
use crate::world::{Failure, World};
use appliance_resources::Kind;

const SEVERAL: &str = "More than 1 endpoint matches the provided criteria.  Please provide additional parameters to \
                       refine the search.";
const BAD_NAME: &str = "Profile names must be < 40 character long and can only contain numbers, letters, dots, dashes \
                        and underscores.";

/// What to print on standard output, and how it went.
type Answer = (String, Verdict);

pub(super) async fn run(
    filter: &Filter,
    change: Change,
    profiles: &[String],
    world: &mut World,
) -> Result<Verdict, Failure> {
    let (text, verdict) = answer(filter, change, profiles, world).await?;
    world.console.out(&text);
    Ok(verdict)
}

async fn answer(
    filter: &Filter,
    change: Change,
    profiles: &[String],
    world: &mut World,
) -> Result<Answer, Failure> {
    if profiles.iter().any(|name| !is_profile_name(name)) {
        return Ok((paragraph::render(BAD_NAME), Verdict::Failed));
    }
    let client = world.client()?;
    let unknown = match check_names(&client, change, profiles).await? {
        Ok(unknown) => unknown,
        Err(answer) => return Ok(answer),
    };
    if profiles.is_empty() && change != Change::Set {
        return Ok((paragraph::render("No profile specified."), Verdict::Done));
    }
    let mut endpoints = listing::list(&client, filter).await?;
    let (Some(endpoint), true) = (endpoints.pop(), endpoints.is_empty()) else {
        return Ok(not_one(filter, change, endpoints.is_empty()));
    };
    if let Some(name) = unknown.iter().find(|name| !endpoint.profiles.contains(name)) {
        return Ok((format!("Profile with name {name} was not found.\n"), Verdict::Failed));
    }
    match changed(change, &endpoint.profiles, profiles) {
        Err(refusal) => Ok((paragraph::render(&refusal), Verdict::Done)),
        Ok(_) => {
            write(&client, &endpoint, change, profiles).await?;
            Ok((paragraph::render(&done(change, profiles)), Verdict::Done))
        }
    }
}

/// Each name must exist and must not repeat; those that do not exist are handed back for `remove` to look closer.
async fn check_names(
    client: &Client,
    change: Change,
    profiles: &[String],
) -> Result<Result<Vec<String>, Answer>, Failure> {
    let mut unknown = Vec::new();
    for (index, name) in profiles.iter().enumerate() {
        if !exists(client, name).await? {
            if change != Change::Remove {
                return Ok(Err((format!("Profile with name {name} was not found.\n"), Verdict::Failed)));
            }
            unknown.push(name.clone());
        }
        if profiles[..index].contains(name) {
            return Ok(Err((
                format!("Profile with name {name} was specified more than once.\n"),
                Verdict::Failed,
            )));
        }
    }
    Ok(Ok(unknown))
}

async fn exists(client: &Client, name: &str) -> Result<bool, Failure> {
    let target = Target { kind: Kind::Profile, namespace: None, name: name.to_string() };
    match client.get(&target.path()).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_absent(&target) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_profile_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// None or several endpoints match: each verb has its own words for it.
fn not_one(filter: &Filter, change: Change, none: bool) -> Answer {
    let id = filter.endpoint.as_deref().unwrap_or_default();
    let text = match (none, change) {
        (true, Change::Append) => {
            let unknown = paragraph::render(&format!("Endpoint {id} is unknown to Calico."));
            format!("Failed to append profiles to endpoint.\n\n{unknown}")
        }
        (true, Change::Remove) => {
            format!(
                "Failed to remove profiles from endpoint.\n\n{}",
                paragraph::render("Endpoint could not be found.")
            )
        }
        (true, Change::Set) => {
            format!(
                "Failed to set profiles for endpoint.\n\n{}",
                paragraph::render("Endpoint could not be found.")
            )
        }
        (false, Change::Remove) => SEVERAL.replace("  ", " ") + "\n",
        (false, _) => paragraph::render(SEVERAL),
    };
    (text, Verdict::Failed)
}

/// The endpoint's list after the change, or why there is nothing to change.
fn changed(change: Change, present: &[String], named: &[String]) -> Result<Vec<String>, String> {
    match change {
        Change::Append => match present.iter().find(|name| named.contains(name)) {
            Some(name) => Err(format!("Profile {name} is already in endpoint profile list")),
            None => Ok(present.iter().chain(named).cloned().collect()),
        },
        Change::Remove => match named.iter().find(|name| !present.contains(name)) {
            Some(name) => Err(format!("Profile {name} is not in endpoint profile list.")),
            None => Ok(present.iter().filter(|name| !named.contains(name)).cloned().collect()),
        },
        Change::Set => Ok(named.to_vec()),
    }
}

/// The published page joins what was removed by a bare comma, and everything else by comma and blank.
fn done(change: Change, profiles: &[String]) -> String {
    match change {
        Change::Append => format!("Profile(s) {} appended.", profiles.join(", ")),
        Change::Remove => format!("Profile(s) {} removed.", profiles.join(",")),
        Change::Set if profiles.is_empty() => "Removed all profiles from endpoint.".to_string(),
        Change::Set => format!("Profile(s) {} set.", profiles.join(", ")),
    }
}

/// Writes the new list; the change is worked out again if somebody else wrote first.
async fn write(
    client: &Client,
    endpoint: &Endpoint,
    change: Change,
    profiles: &[String],
) -> Result<(), Failure> {
    let update = |stored: &Value| {
        let present = stored.pointer("/spec/profiles").cloned().unwrap_or_else(|| json!([]));
        let present: Vec<String> = serde_json::from_value(present).map_err(|error| error.to_string())?;
        let mut object = stored.clone();
        let spec = object.get_mut("spec").and_then(Value::as_object_mut).ok_or("the endpoint has no spec")?;
        spec.insert("profiles".to_string(), json!(changed(change, &present, profiles)?));
        Ok(object)
    };
    match Writer::new(client, None).change("update", &endpoint.target, &update).await {
        Ok(_) => Ok(()),
        Err(WriteError::Refused(cause)) => Err(cause.into()),
        Err(WriteError::Unreachable(error)) => Err(error.into()),
    }
}

/// `endpoint ID profile show`.
pub(super) async fn show(filter: &Filter, world: &mut World) -> Result<Verdict, Failure> {
    let client = world.client()?;
    let mut endpoints = listing::list(&client, filter).await?;
    let found = endpoints.pop().filter(|_| endpoints.is_empty());
    let (text, verdict) = match found {
        Some(endpoint) => (profiles(&endpoint.profiles), Verdict::Done),
        None => {
            let id = filter.endpoint.as_deref().unwrap_or_default();
            let unknown = format!("Endpoint {id} is unknown to Calico.");
            let reason = paragraph::render(if endpoints.is_empty() { &unknown } else { SEVERAL });
            (format!("Failed to list profiles in endpoint.\n\n{reason}"), Verdict::Failed)
        }
    };
    world.console.out(&text);
    Ok(verdict)
}

/// Shown sorted; the stored order is the order of evaluation.
fn profiles(names: &[String]) -> String {
    if names.is_empty() {
        return "Endpoint has no profiles associated with it.\n".to_string();
    }
    let mut names = names.to_vec();
    names.sort();
    let table = Bordered {
        headings: vec!["Name".to_string()],
        rows: names.into_iter().map(|name| vec![name]).collect(),
    };
    table.render() + "\n"
}
