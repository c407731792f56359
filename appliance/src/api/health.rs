use super::call::Call;
use super::request::Probe;
use super::{Answer, Api};
pub(crate) async fn probe(_: &Api, _: Probe, _: &Call<'_>) -> Answer {
    todo!()
}
pub(crate) fn metrics(_: &Api, _: &Call<'_>) -> Answer {
    todo!()
}
