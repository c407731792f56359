//! POST to a collection. It promises that the name was free: one transaction compares and writes. Answered with what
//! is stored now, defaults and stamps included; `dryRun=All` answers the same without writing.

use appliance_resources::{AnyResource, Status};
use bytes::Bytes;
use http::StatusCode;

use super::admission::{self, Operation};
use super::call::Call;
use super::incoming::{self, Expected};
use super::options::write_options;
use super::registry::Written;
use super::request::{Scope, Verb};
use super::respond::Refusal;
use super::{Answer, Api};

pub(crate) async fn create(api: &Api, call: &Call<'_>, scope: &Scope, body: &Bytes) -> Answer {
    let options = write_options("CreateOptions", call.query)?;
    let expected = Expected { kind: scope.kind, namespace: scope.namespace.as_deref(), name: None };
    let body = call.decode(body)?.ok_or_else(|| Status::bad_request("the body of the request is empty"))?;
    let incoming = incoming::read(expected, body, options.field_validation)?;
    let name = Some(incoming.resource.meta().name.clone()).filter(|name| !name.is_empty());
    // The path does not name what is created, so what a node may create is decided only here.
    call.authorise(Verb::Create, &Scope { name, ..scope.clone() })?;
    admission::protect(scope.kind, &incoming.resource.meta().name, Operation::Create)?;
    let written = store(api, call, incoming.resource, options.dry_run).await?;
    call.written(StatusCode::CREATED, scope.kind, &written, &incoming.warnings)
}

/// A generated name that is taken is drawn again this often.
const GENERATE_ATTEMPTS: usize = 8;

async fn store(
    api: &Api,
    call: &Call<'_>,
    mut resource: AnyResource,
    dry_run: bool,
) -> Result<Written, Refusal> {
    let author = call.author()?;
    let base = resource.meta_mut().generate_name.take().filter(|base| !base.is_empty());
    let Some(base) = base.filter(|_| resource.meta().name.is_empty()) else {
        return api.registry.create(author, resource, dry_run).await;
    };
    for _ in 0..GENERATE_ATTEMPTS {
        resource.meta_mut().name = generate_name(&base)?;
        match api.registry.create(author.clone(), resource.clone(), dry_run).await {
            Err(refusal) if refusal.is_already_exists() => {}
            result => return result,
        }
    }
    let mut status = Status::already_exists(resource.kind(), &resource.meta().name);
    status.message.push_str(", the server was not able to generate a unique name for the object");
    Err(status.into())
}

/// The longest part of a wish that goes into a name, so that name and suffix fit a label.
const GENERATED_BASE_CHARS_MAX: usize = 58;

/// No vowels, so that no words come out, and nothing that looks like something else.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The base and five characters nobody chose.
fn generate_name(base: &str) -> Result<String, Refusal> {
    let mut random = [0; 5];
    getrandom::fill(&mut random).map_err(|error| Status::internal(format!("no randomness: {error}")))?;
    let letter = |byte: u8| char::from(SUFFIX_ALPHABET[usize::from(byte) % SUFFIX_ALPHABET.len()]);
    Ok(base.chars().take(GENERATED_BASE_CHARS_MAX).chain(random.map(letter)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_keeps_the_base_and_fits() {
        let name = generate_name("web-").unwrap();
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(generate_name(&"x".repeat(100)).unwrap().len(), 63);
    }
}
