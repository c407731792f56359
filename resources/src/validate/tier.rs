//! Tier: the built-in ones keep their order and their end.

use super::Checker;
use crate::{
    builtin,
    kinds::{order, tier::Tier},
};

pub(super) fn check(checker: &mut Checker, tier: &Tier) {
    let name = &tier.metadata.name;
    let Some((order, action)) = builtin::tier_values(name) else { return };
    if let Some(given) = tier.spec.order.filter(|given| *given != order) {
        checker.invalid(
            "spec.order",
            order::to_value(given),
            format!("the order of the built-in tier {name} is {order} and stays so"),
        );
    }
    if let Some(given) = tier.spec.default_action.filter(|given| *given != action) {
        let fixed = action.as_str();
        let reason = format!("the default action of the built-in tier {name} is {fixed} and stays so");
        checker.invalid("spec.defaultAction", given.as_str(), reason);
    }
}
