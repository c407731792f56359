use super::Answer;
use super::call::Call;
use super::request::Review;
use bytes::Bytes;
pub(crate) fn review(_: &Call<'_>, _: Review, _: &Bytes) -> Answer {
    todo!()
}
