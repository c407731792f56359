//! `label`: sets or removes one label of one object.

use serde_json::{Value, json};

use crate::Verdict;
use crate::args::{DryRun, Label};
use crate::commands::batch::suffix;
use crate::commands::kind;
use crate::commands::write::{WriteError, Writer};
use crate::object::Scope;
use crate::wait;
use crate::world::{Failure, World};

/// What is to happen to the label.
#[derive(Clone, Copy, Debug)]
enum Wish<'a> {
    Set { value: &'a str, overwrite: bool },
    Remove,
}

pub(super) async fn run(args: &Label, world: &mut World) -> Result<Verdict, Failure> {
    let [kind_word, name, argument, ..] = args.words.as_slice() else {
        return Err(format!("requires at least 3 arg(s), only received {}", args.words.len()).into());
    };
    let (key, wish) = match argument.split_once('=') {
        _ if args.remove => (argument.split('=').next().unwrap_or_default(), Wish::Remove),
        Some((key, value)) => (key, Wish::Set { value, overwrite: args.overwrite }),
        None => return Err(format!("invalid label {argument}").into()),
    };
    let kind = kind(kind_word).map_err(|error| format!("failed to get {kind_word} {name}, error {error}"))?;
    let scope = Scope { namespace: args.namespace.as_deref(), all_namespaces: false };
    let target = scope.of_name(kind, name)?;
    let what = format!("{kind_word} {name}");

    let client = world.client()?;
    let stored = match client.get(&target.path()).await {
        Err(error) if error.is_absent(&target) => return Err(format!("{what} not found").into()),
        result => result?,
    };
    let done = told(&what, key, wish, &stored);
    labelled(&what, key, wish, &stored)?;
    if args.write.dry_run != Some(DryRun::Client) {
        let writer = Writer::new(&client, args.write.dry_run);
        let change = |stored: &Value| labelled(&what, key, wish, stored);
        match writer.change("update", &target, &change).await {
            Ok(written) if args.write.wait && written.revision > 0 => {
                wait::until_enforced(&client, written.revision, args.write.timeout).await?;
            }
            Ok(_) => {}
            Err(WriteError::Unreachable(error)) => return Err(error.into()),
            // The rules of the label itself speak for themselves; calicoctl hides every other reason, we do not.
            Err(WriteError::Refused(cause)) if cause.contains(&what) => return Err(cause.into()),
            Err(WriteError::Refused(cause)) => {
                return Err(format!("failed to update {what}, label not changed: {cause}").into());
            }
        }
    }
    world.console.out(&format!("{done}{}\n", suffix(args.write.dry_run)));
    Ok(Verdict::Done)
}

/// The object with its label changed, or the rule that forbids it.
fn labelled(what: &str, key: &str, wish: Wish, stored: &Value) -> Result<Value, String> {
    let mut object = stored.clone();
    let metadata =
        object.get_mut("metadata").and_then(Value::as_object_mut).ok_or("the object has no metadata")?;
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    let labels = labels.as_object_mut().ok_or("the object's labels are not a map")?;
    match (wish, labels.get(key).and_then(Value::as_str)) {
        (Wish::Remove, None) => {
            return Err(format!("cannot remove label of {what}, key {key} does not exist"));
        }
        (Wish::Remove, Some(_)) => {
            labels.shift_remove(key);
        }
        (Wish::Set { value, overwrite: false }, Some(present)) if present != value => {
            let advice = "please use '--overwrite' to set a new value";
            return Err(format!("failed to update label of {what}, key {key} is already present. {advice}"));
        }
        (Wish::Set { value, .. }, _) => {
            labels.insert(key.to_string(), json!(value));
        }
    }
    Ok(object)
}

/// What to say when it is done.
fn told(what: &str, key: &str, wish: Wish, stored: &Value) -> String {
    let present = stored.pointer("/metadata/labels").and_then(|labels| labels.get(key)).is_some();
    match (wish, present) {
        (Wish::Remove, _) => format!("Successfully removed label {key} from {what}"),
        (Wish::Set { .. }, false) => format!("Successfully set label {key} on {what}"),
        (Wish::Set { .. }, true) => format!("Successfully updated label {key} on {what}"),
    }
}
