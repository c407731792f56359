//! Restriction: what a selector demands of one label whatever the others say.
//!
//! An index uses this to look at the few objects that could match, and not at all of them. It may demand less than the
//! selector does, never more: an object that breaks a restriction can not match.

use std::collections::{BTreeMap, BTreeSet};

use super::expr::Expr;

/// What a label must be like in everything the selector matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// There, with any value.
    Present,
    /// Not there.
    Absent,
    /// There, with one of these values; with none at all, nothing can ever match.
    OneOf(BTreeSet<String>),
}

/// The demands of a selector by label.
pub(super) type Restrictions = BTreeMap<String, Restriction>;

pub(super) fn restrictions(expr: &Expr) -> Restrictions {
    match expr {
        Expr::Equal(label, value) => one(label, Restriction::OneOf(BTreeSet::from([value.clone()]))),
        Expr::In(label, values) => one(label, Restriction::OneOf(values.iter().cloned().collect())),
        Expr::Has(label)
        | Expr::Contains(label, _)
        | Expr::StartsWith(label, _)
        | Expr::EndsWith(label, _) => one(label, Restriction::Present),
        Expr::Not(operand) => match operand.as_ref() {
            Expr::Has(label) => one(label, Restriction::Absent),
            _ => Restrictions::new(),
        },
        Expr::And(operands) => operands.iter().map(restrictions).fold(Restrictions::new(), all_of),
        Expr::Or(operands) => operands.iter().map(restrictions).reduce(any_of).unwrap_or_default(),
        Expr::All | Expr::Global | Expr::NotEqual(..) | Expr::NotIn(..) => Restrictions::new(),
    }
}

fn one(label: &str, restriction: Restriction) -> Restrictions {
    Restrictions::from([(label.to_owned(), restriction)])
}

/// Both demands at once.
fn all_of(mut left: Restrictions, right: Restrictions) -> Restrictions {
    for (label, demand) in right {
        let both = match left.remove(&label) {
            None => demand,
            Some(other) => both(other, demand),
        };
        left.insert(label, both);
    }
    left
}

fn both(left: Restriction, right: Restriction) -> Restriction {
    use Restriction::{Absent, OneOf, Present};
    match (left, right) {
        (OneOf(left), OneOf(right)) => OneOf(left.intersection(&right).cloned().collect()),
        (Present, Present) => Present,
        (Absent, Absent) => Absent,
        (OneOf(values), Present) | (Present, OneOf(values)) => OneOf(values),
        (Absent, Present | OneOf(_)) | (Present | OneOf(_), Absent) => OneOf(BTreeSet::new()),
    }
}

/// What holds whichever of the two demands is met: only labels that both restrict.
fn any_of(left: Restrictions, mut right: Restrictions) -> Restrictions {
    let shared = left.into_iter().filter_map(|(label, demand)| {
        let other = right.remove(&label)?;
        either(demand, other).map(|demand| (label, demand))
    });
    shared.collect()
}

fn either(left: Restriction, right: Restriction) -> Option<Restriction> {
    use Restriction::{Absent, OneOf, Present};
    match (left, right) {
        (OneOf(left), OneOf(right)) => Some(OneOf(left.union(&right).cloned().collect())),
        (Absent, Absent) => Some(Absent),
        (Present | OneOf(_), Present | OneOf(_)) => Some(Present),
        (Absent, Present | OneOf(_)) | (Present | OneOf(_), Absent) => None,
    }
}
