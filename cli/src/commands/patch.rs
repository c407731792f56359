//! `patch`: changes part of one object: read, patch here, write back with compare-and-swap.
//!
//! All three kinds of patch are worked out on this side, as calicoctl does, so that they differ in nothing but how the
//! patch is read. The node decodes strictly and validates the result.

use appliance_resources::patch as patches;
use appliance_resources::{AnyResource, Unknown};
use serde_json::Value;

use crate::Verdict;
use crate::args::{DryRun, Patch, PatchType};
use crate::commands::batch::suffix;
use crate::commands::kind;
use crate::commands::write::{WriteError, Writer};
use crate::error::{UNKNOWN_FIELD, cause, unknown_field};
use crate::object::Scope;
use crate::wait;
use crate::world::{Failure, World};

pub(super) async fn run(args: &Patch, world: &mut World) -> Result<Verdict, Failure> {
    let [kind_word, name] = args.words.as_slice() else {
        return Err(format!("accepts 2 arg(s), received {}", args.words.len()).into());
    };
    let kind = kind(kind_word)?;
    let scope = Scope { namespace: args.namespace.as_deref(), all_namespaces: false };
    let target = scope.of_name(kind, name)?;
    let patch: Value = serde_json::from_str(&args.patch).map_err(|error| {
        format!("hit error: performing {} patch: invalid JSON document: {error}", words(args.patch_type))
    })?;
    let change = |stored: &Value| patched(args.patch_type, stored, &patch);

    let client = world.client()?;
    if args.write.dry_run == Some(DryRun::Client) {
        let stored = client.get(&target.path()).await;
        let stored = stored.map_err(|error| format!("hit error: {}", cause("patch", &target, &error)))?;
        change(&stored).and_then(check).map_err(|cause| refused(&cause))?;
    } else {
        let writer = Writer::new(&client, args.write.dry_run);
        match writer.change("patch", &target, &change).await {
            Ok(written) if args.write.wait && written.revision > 0 => {
                wait::until_enforced(&client, written.revision, args.write.timeout).await?;
            }
            Ok(_) => {}
            Err(WriteError::Unreachable(error)) => return Err(error.into()),
            Err(WriteError::Refused(cause)) => return Err(refused(&cause)),
        }
    }
    let suffix = suffix(args.write.dry_run);
    world.console.out(&format!("Successfully patched 1 '{}' resource{suffix}\n", kind.name()));
    Ok(Verdict::Done)
}

/// An unknown field replaces the whole message, everywhere in calicoctl.
fn refused(cause: &str) -> Failure {
    if cause.starts_with(UNKNOWN_FIELD) { cause.into() } else { format!("hit error: {cause}").into() }
}

fn words(patch_type: PatchType) -> &'static str {
    match patch_type {
        PatchType::Strategic => "strategic merge",
        PatchType::Merge => "merge",
        PatchType::Json => "JSON",
    }
}

fn patched(patch_type: PatchType, stored: &Value, patch: &Value) -> Result<Value, String> {
    let mut object = stored.clone();
    match patch_type {
        PatchType::Merge => patches::merge(&mut object, patch),
        PatchType::Json => patches::json(&mut object, patch).map_err(|error| error.to_string())?,
        PatchType::Strategic => strategic(&mut object, patch)?,
    }
    Ok(object)
}

/// Merge, with `$patch: delete` (the object goes) and `$patch: replace` (it becomes exactly the rest of the patch).
fn strategic(document: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Object(changes) = patch else {
        return Err("performing strategic merge patch: the patch is not an object".to_string());
    };
    if !document.is_object() {
        *document = Value::Object(serde_json::Map::new());
    }
    if let Some(directive) = changes.get("$patch") {
        let mut rest = changes.clone();
        rest.shift_remove("$patch");
        return match directive.as_str() {
            Some("replace") => {
                *document = Value::Object(rest);
                Ok(())
            }
            Some("merge") => strategic(document, &Value::Object(rest)),
            _ => Err(format!("performing strategic merge patch: unknown patch directive {directive}")),
        };
    }
    let Value::Object(members) = document else { return Ok(()) };
    for (name, change) in changes {
        let deletes = change.is_null() || change.get("$patch").and_then(Value::as_str) == Some("delete");
        match change {
            _ if deletes => {
                members.shift_remove(name);
            }
            Value::Object(_) => strategic(members.entry(name.clone()).or_insert(Value::Null), change)?,
            other => {
                members.insert(name.clone(), other.clone());
            }
        }
    }
    Ok(())
}

/// What can be said about the patched object without a node.
fn check(object: Value) -> Result<(), String> {
    let decoded = AnyResource::from_value(object, Unknown::Refuse).map_err(|error| {
        let message = error.to_string();
        unknown_field(&message).map(|field| format!("{UNKNOWN_FIELD}{field}")).unwrap_or(message)
    })?;
    let mut resource = decoded.resource;
    appliance_resources::set_defaults(&mut resource);
    let errors = appliance_resources::validate(&resource);
    errors.map_err(|errors| crate::field::describe(&errors.0.iter().map(Into::into).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_strategic(document: Value, patch: Value, expected: Value) {
        let mut object = document;
        strategic(&mut object, &patch).unwrap();
        assert_eq!(object, expected);
    }

    #[test]
    fn strategic_is_merge_with_directives() {
        check_strategic(
            json!({"spec": {"node": "a", "interfaceName": "eth0", "profiles": ["p"]}, "metadata": {"labels": {"x": "y"}}}),
            json!({"spec": {"interfaceName": "eth7", "node": null, "profiles": ["q"]}}),
            json!({"spec": {"interfaceName": "eth7", "profiles": ["q"]}, "metadata": {"labels": {"x": "y"}}}),
        );
        check_strategic(
            json!({"metadata": {"labels": {"x": "y", "z": "1"}, "annotations": {"a": "b"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "only": "this"}, "annotations": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {"only": "this"}}}),
        );
    }

    #[test]
    fn a_directive_nobody_knows_is_refused() {
        let error = strategic(&mut json!({}), &json!({"$patch": "melt"})).unwrap_err();
        assert_eq!(error, "performing strategic merge patch: unknown patch directive \"melt\"");
    }
}
