//! GET of one object. It promises the latest state that any client was told of, unless the client says that an older
//! one will do (`resourceVersion=0`), which this node then answers alone.

use appliance_resources::Status;
use http::StatusCode;

use super::call::Call;
use super::options::get_options;
use super::representation::Stored;
use super::request::Scope;
use super::respond::answer;
use super::{Answer, Api};

pub(crate) async fn get(api: &Api, call: &Call<'_>, scope: &Scope) -> Answer {
    let freshness = get_options(call.query)?;
    let renderer = call.renderer()?;
    let key = scope.key();
    let record = api.registry.get(&key, freshness).await?;
    let record = record.ok_or_else(|| Status::not_found(key.kind, &key.name))?;
    let body = renderer.object(Stored::of(key.kind, &record))?;
    Ok(answer(StatusCode::OK, renderer.representation.format, body))
}
