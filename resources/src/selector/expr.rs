//! Expr: a parsed selector, and what it says about labels.
//!
//! Evaluation is a plain walk: no caching, no allocation. Depth is bounded by the parser, so the walk may recurse.

use std::fmt;

/// One node of a selector. Strings are as the operator wrote them; sets are sorted and hold no value twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// `all()`.
    All,
    /// `global()`; true wherever it is evaluated, its meaning is in a rule's `namespaceSelector`.
    Global,
    /// `has(label)`.
    Has(String),
    /// `label == "value"`.
    Equal(String, String),
    /// `label != "value"`.
    NotEqual(String, String),
    /// `label contains "value"`.
    Contains(String, String),
    /// `label starts with "value"`.
    StartsWith(String, String),
    /// `label ends with "value"`.
    EndsWith(String, String),
    /// `label in {"a", "b"}`.
    In(String, Vec<String>),
    /// `label not in {"a", "b"}`.
    NotIn(String, Vec<String>),
    /// `!operand`.
    Not(Box<Expr>),
    /// All of two or more.
    And(Vec<Expr>),
    /// Any of two or more.
    Or(Vec<Expr>),
}

impl Expr {
    /// Whether the labels that `lookup` finds satisfy the selector. A label that is missing is unequal to everything.
    pub fn matches<'a>(&self, lookup: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        let present = |label: &String, holds: &dyn Fn(&str) -> bool| lookup(label).is_some_and(holds);
        match self {
            Expr::All | Expr::Global => true,
            Expr::Has(label) => lookup(label).is_some(),
            Expr::Equal(label, value) => present(label, &|found| found == value),
            Expr::NotEqual(label, value) => !present(label, &|found| found == value),
            Expr::Contains(label, value) => present(label, &|found| found.contains(value)),
            Expr::StartsWith(label, value) => present(label, &|found| found.starts_with(value)),
            Expr::EndsWith(label, value) => present(label, &|found| found.ends_with(value)),
            Expr::In(label, values) => present(label, &|found| is_member(values, found)),
            Expr::NotIn(label, values) => !present(label, &|found| is_member(values, found)),
            Expr::Not(operand) => !operand.matches(lookup),
            Expr::And(operands) => operands.iter().all(|operand| operand.matches(lookup)),
            Expr::Or(operands) => operands.iter().any(|operand| operand.matches(lookup)),
        }
    }
}

fn is_member(values: &[String], found: &str) -> bool {
    values.binary_search_by(|value| value.as_str().cmp(found)).is_ok()
}

impl Expr {
    /// The opposite; a negation is not negated twice, so that its text reads back as itself.
    pub(super) fn negated(self) -> Expr {
        match self {
            Expr::Not(operand) => *operand,
            operand => Expr::Not(Box::new(operand)),
        }
    }

    /// The same tree with every leaf replaced by what `change` makes of it.
    pub(super) fn map_leaves(&self, change: &dyn Fn(&Expr) -> Expr) -> Expr {
        let all = |operands: &[Expr]| operands.iter().map(|operand| operand.map_leaves(change)).collect();
        match self {
            Expr::Not(operand) => operand.map_leaves(change).negated(),
            Expr::And(operands) => Expr::And(all(operands)),
            Expr::Or(operands) => Expr::Or(all(operands)),
            leaf => change(leaf),
        }
    }

    /// The same leaf about the label that `rename` makes of its label.
    pub(super) fn with_label(&self, rename: &dyn Fn(&str) -> String) -> Expr {
        match self {
            Expr::Has(label) => Expr::Has(rename(label)),
            Expr::Equal(label, value) => Expr::Equal(rename(label), value.clone()),
            Expr::NotEqual(label, value) => Expr::NotEqual(rename(label), value.clone()),
            Expr::Contains(label, value) => Expr::Contains(rename(label), value.clone()),
            Expr::StartsWith(label, value) => Expr::StartsWith(rename(label), value.clone()),
            Expr::EndsWith(label, value) => Expr::EndsWith(rename(label), value.clone()),
            Expr::In(label, values) => Expr::In(rename(label), values.clone()),
            Expr::NotIn(label, values) => Expr::NotIn(rename(label), values.clone()),
            other => other.clone(),
        }
    }
}

/// The canonical text: groups in parentheses, double quotes unless the value has one, sets in order.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::All => f.write_str("all()"),
            Expr::Global => f.write_str("global()"),
            Expr::Has(label) => write!(f, "has({label})"),
            Expr::Equal(label, value) => write!(f, "{label} == {}", Quoted(value)),
            Expr::NotEqual(label, value) => write!(f, "{label} != {}", Quoted(value)),
            Expr::Contains(label, value) => write!(f, "{label} contains {}", Quoted(value)),
            Expr::StartsWith(label, value) => write!(f, "{label} starts with {}", Quoted(value)),
            Expr::EndsWith(label, value) => write!(f, "{label} ends with {}", Quoted(value)),
            Expr::In(label, values) => write_set(f, label, "in", values),
            Expr::NotIn(label, values) => write_set(f, label, "not in", values),
            Expr::Not(operand) => write!(f, "!{operand}"),
            Expr::And(operands) => write_group(f, operands, " && "),
            Expr::Or(operands) => write_group(f, operands, " || "),
        }
    }
}

/// A string in the quotes it does not contain; one that contains both can not be written, so none ever exists.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, label: &str, operator: &str, values: &[String]) -> fmt::Result {
    write!(f, "{label} {operator} {{")?;
    for (index, value) in values.iter().enumerate() {
        write!(f, "{}{}", if index == 0 { "" } else { ", " }, Quoted(value))?;
    }
    f.write_str("}")
}

fn write_group(f: &mut fmt::Formatter<'_>, operands: &[Expr], operator: &str) -> fmt::Result {
    f.write_str("(")?;
    for (index, operand) in operands.iter().enumerate() {
        write!(f, "{}{operand}", if index == 0 { "" } else { operator })?;
    }
    f.write_str(")")
}
