//! Writer: the few ways an object is written, shared by every verb that writes.
//!
//! An update is a compare-and-swap against what was just read, repeated a bounded number of times when somebody else was
//! faster; a version the operator gave is never second-guessed. Failures come back as causes in calicoctl's words,
//! except when the node can not be reached at all, which ends the command.

use std::time::Duration;

use appliance_resources::Kind;
use serde_json::{Value, json};

use crate::args::DryRun;
use crate::client::Client;
use crate::error::{ClientError, cause};
use crate::field;
use crate::input::Manifest;
use crate::object;
use crate::output::summary::Effect;
use crate::target::{Target, with_query};

/// Updates without a version of their own are tried this often before we say that the object is contended.
const UPDATE_ATTEMPTS_MAX: u32 = 5;
/// Between two tries; whoever was faster is done by then.
const UPDATE_PAUSE: Duration = Duration::from_millis(100);

/// What a write did, and the revision it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) effect: Effect,
    /// 0 when the node did not say, and for dry runs.
    pub(crate) revision: u64,
}

/// Nothing was done, and that was allowed.
const SKIPPED: Written = Written { effect: Effect::Skipped, revision: 0 };

/// Why an object was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// This one object; the cause is in calicoctl's words.
    Refused(String),
    /// The node; the next object would fare no better.
    Unreachable(ClientError),
}

/// A change that is worked out on the object as it is stored, and worked out again when somebody else was faster.
pub(crate) type Change<'a> = &'a (dyn Fn(&Value) -> Result<Value, String> + Sync);

/// Writes objects through a client, or asks the node only to check them.
pub(crate) struct Writer<'a> {
    client: &'a Client,
    dry_run: bool,
}

impl<'a> Writer<'a> {
    /// A writer for `--dry-run=server` or for good; the client's own dry run never gets here.
    pub(crate) fn new(client: &'a Client, dry_run: Option<DryRun>) -> Writer<'a> {
        Writer { client, dry_run: dry_run == Some(DryRun::Server) }
    }

    /// Creates an object; one that is there already is left as it is when that may be `skip`ped, else an error.
    pub(crate) async fn create(&self, manifest: &Manifest, skip: bool) -> Result<Written, WriteError> {
        check_create(manifest).map_err(WriteError::Refused)?;
        match self.post(&manifest.target, &manifest.object).await {
            Err(error) if skip && error.is_already_exists() => Ok(SKIPPED),
            result => result.map_err(|error| refuse("create", &manifest.target, error)),
        }
    }

    /// Creates an object, or replaces it when it is there. The manifest's version counts only in the second case.
    pub(crate) async fn apply(&self, manifest: &Manifest) -> Result<Written, WriteError> {
        check_name(manifest).map_err(WriteError::Refused)?;
        let target = &manifest.target;
        read_only(target).map_err(WriteError::Refused)?;
        match self.client.get(&target.path()).await {
            Ok(stored) => self.replace_from(manifest, "apply", Some(stored)).await,
            Err(error) if error.is_absent(target) => {
                let mut object = manifest.object.clone();
                object::take_version(&mut object);
                match self.post(target, &object).await {
                    // Somebody created it between our two requests.
                    Err(error) if error.is_already_exists() => {
                        self.replace_from(manifest, "apply", None).await
                    }
                    result => result.map_err(|error| refuse("apply", target, error)),
                }
            }
            Err(error) => Err(refuse("apply", target, error)),
        }
    }

    /// Replaces an object that must be there.
    pub(crate) async fn replace(&self, manifest: &Manifest) -> Result<Written, WriteError> {
        check_name(manifest).map_err(WriteError::Refused)?;
        self.replace_from(manifest, "replace", None).await
    }

    async fn replace_from(
        &self,
        manifest: &Manifest,
        verb: &str,
        stored: Option<Value>,
    ) -> Result<Written, WriteError> {
        let mut wanted = manifest.object.clone();
        let version = object::take_version(&mut wanted);
        let change = |stored: &Value| Ok(object::updated(stored, &wanted));
        self.swap(verb, &manifest.target, version.as_deref(), stored, &change).await
    }

    /// Reads an object, changes it and writes it back, provided nobody else wrote it meanwhile.
    pub(crate) async fn change(
        &self,
        verb: &str,
        target: &Target,
        change: Change<'_>,
    ) -> Result<Written, WriteError> {
        self.swap(verb, target, None, None, change).await
    }

    async fn swap(
        &self,
        verb: &str,
        target: &Target,
        required: Option<&str>,
        mut stored: Option<Value>,
        change: Change<'_>,
    ) -> Result<Written, WriteError> {
        for attempt in 1..=UPDATE_ATTEMPTS_MAX {
            let before = match stored.take() {
                Some(stored) => stored,
                None => self.client.get(&target.path()).await.map_err(|error| refuse(verb, target, error))?,
            };
            let version = object::version(&before).to_string();
            if required.is_some_and(|required| required != version) {
                return Err(WriteError::Refused(format!("update conflict: {target}")));
            }
            let mut object = change(&before).map_err(WriteError::Refused)?;
            // A patch may carry the version it was made for; it is the operator's and must not be overwritten.
            let own =
                Some(object::version(&object)).filter(|own| !own.is_empty() && *own != version).is_some();
            if !own {
                object::set_version(&mut object, &version);
            }
            match self.client.replace(&self.query(&target.path()), &object).await {
                Ok(after) => return Ok(self.updated(&before, &after)),
                Err(error) if error.is_conflict() && required.is_none() && !own => {
                    tracing::info!(%target, attempt, "somebody else wrote first");
                    tokio::time::sleep(UPDATE_PAUSE * attempt).await;
                }
                Err(error) => return Err(refuse(verb, target, error)),
            }
        }
        let attempts = UPDATE_ATTEMPTS_MAX;
        Err(WriteError::Refused(format!(
            "update conflict: {target} is contended, gave up after {attempts} attempts"
        )))
    }

    /// Deletes an object; a version makes it a precondition. One that is not there may be `skip`ped, else is an error.
    pub(crate) async fn delete(
        &self,
        target: &Target,
        version: Option<&str>,
        skip: bool,
    ) -> Result<Written, WriteError> {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(version) = version {
            options["preconditions"] = json!({"resourceVersion": version});
        }
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        match self.client.delete(&target.path(), &options).await {
            Ok(answer) => Ok(Written { effect: Effect::Deleted, revision: self.revision(&answer) }),
            Err(error) if skip && error.is_absent(target) => Ok(SKIPPED),
            Err(error) => Err(refuse("delete", target, error)),
        }
    }

    async fn post(&self, target: &Target, object: &Value) -> Result<Written, ClientError> {
        let created = self.client.create(&self.query(&target.collection()), object).await?;
        Ok(Written { effect: Effect::Created, revision: self.revision(&created) })
    }

    /// Tells a change from none: the node gives an unchanged object its old version back.
    fn updated(&self, before: &Value, after: &Value) -> Written {
        let same = if self.dry_run {
            object::comparable(before.clone()) == object::comparable(after.clone())
        } else {
            object::version(before) == object::version(after)
        };
        let effect = if same { Effect::Unchanged } else { Effect::Configured };
        Written { effect, revision: self.revision(after) }
    }

    fn revision(&self, object: &Value) -> u64 {
        if self.dry_run { 0 } else { object::version(object).parse().unwrap_or(0) }
    }

    fn query(&self, path: &str) -> String {
        with_query(path, &[("fieldValidation", Some("Strict")), ("dryRun", self.dry_run.then_some("All"))])
    }
}

/// Everything that can be said about a manifest without a node.
pub(crate) fn check_offline(manifest: &Manifest) -> Result<(), String> {
    check_name(manifest)?;
    let mut resource = manifest.resource.clone();
    appliance_resources::set_defaults(&mut resource);
    appliance_resources::validate(&resource)
        .map_err(|errors| field::describe(&errors.0.iter().map(Into::into).collect::<Vec<_>>()))
}

/// What calicoctl refuses to send as a creation.
pub(crate) fn check_create(manifest: &Manifest) -> Result<(), String> {
    check_name(manifest)?;
    match object::version(&manifest.object) {
        "" => Ok(()),
        version => {
            let reason = "field must not be set for a Create request";
            Err(format!("error with field Metadata.ResourceVersion = '{version}' ({reason})"))
        }
    }
}

fn check_name(manifest: &Manifest) -> Result<(), String> {
    if !manifest.target.name.is_empty() {
        return Ok(());
    }
    // A generated name could not be applied a second time; whoever wrote one should hear that it was seen.
    let generated = manifest.resource.meta().generate_name.as_deref().unwrap_or_default();
    let why = if generated.is_empty() { "" } else { " (GenerateName is not supported)" };
    Err(format!("error with field Metadata.Name = '' (field must be set for a Create request{why})"))
}

/// The node refuses to change ClusterInformation; `apply` alone has words of its own for that, and asks in two steps.
fn read_only(target: &Target) -> Result<(), String> {
    match target.kind {
        Kind::ClusterInformation => {
            Err("operation apply is not supported on ClusterInformation: resource is readonly".to_string())
        }
        _ => Ok(()),
    }
}

fn refuse(verb: &str, target: &Target, error: ClientError) -> WriteError {
    if error.is_connection() {
        WriteError::Unreachable(error)
    } else {
        WriteError::Refused(cause(verb, target, &error))
    }
}
