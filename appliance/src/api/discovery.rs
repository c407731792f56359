use super::Answer;
use super::call::Call;
pub(crate) fn version(_: &Call<'_>) -> Answer {
    todo!()
}
pub(crate) fn core_versions(_: &Call<'_>) -> Answer {
    todo!()
}
pub(crate) fn groups(_: &Call<'_>) -> Answer {
    todo!()
}
pub(crate) fn group(_: &str) -> Answer {
    todo!()
}
pub(crate) fn resources(_: &str) -> Answer {
    todo!()
}
