//! Network sets: ranges and plain addresses, each once. Host bits may be set; enforcement masks them.

use super::{Checker, is_net};

pub(super) fn check(checker: &mut Checker, nets: &[String]) {
    checker.set("spec.nets", nets, is_net);
}
