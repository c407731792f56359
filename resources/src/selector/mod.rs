//! Selector: Calico's language for picking objects by their labels.
//!
//! ```text
//! selector   := <blank>                       the same as all()
//!             | or
//! or         := and ( "||" and )*
//! and        := operation ( "&&" operation )*
//! operation  := "!"* primary                  "!" binds to the whole primary
//! primary    := "has(" LABEL ")" | "all()" | "global()" | "(" or ")"
//!             | LABEL ( "==" | "!=" | "contains" | "starts with" | "ends with" ) STRING
//!             | LABEL ( "in" | "not in" ) "{" [ STRING ( "," STRING )* [ "," ] ] "}"
//! ```
//!
//! A selector has one canonical text. Two selectors with the same canonical text are equal, have the same id, and share
//! one set of addresses in the kernel.
//!
//! Parsing is total: any text gives a selector or an error with its place, in time proportional to its length and
//! with bounded recursion. Evaluation is in `expr`, the demands an index can use in `restriction`.

mod expr;
mod lexer;
mod parser;
mod restriction;

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha224};

pub use self::{expr::Expr, restriction::Restriction};
use crate::labels::Labels;

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    expr: Expr,
}

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector at byte {at}: {reason}")]
pub struct SelectorError {
    /// Where the mistake is, in bytes from the start.
    pub at: usize,
    /// What is wrong there.
    pub reason: String,
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        parser::parse(text).map(|expr| Selector { expr })
    }
}

impl Selector {
    /// Picks everything.
    pub fn all() -> Selector {
        Selector { expr: Expr::All }
    }

    /// Picks what has this label, whatever its value.
    pub fn has(label: impl Into<String>) -> Selector {
        Selector { expr: Expr::Has(label.into()) }
    }

    /// Whether these labels are picked.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_with(&|label| labels.get(label).map(String::as_str))
    }

    /// Whether the labels that `lookup` finds are picked.
    pub fn matches_with<'a>(&self, lookup: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self.expr.matches(lookup)
    }

    /// The tree, for those who rewrite or render it.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The canonical text; parsing it gives this selector again.
    pub fn canonical(&self) -> String {
        self.expr.to_string()
    }

    /// Names the selector as Calico names it: `s:` and a hash of the canonical text.
    pub fn unique_id(&self) -> String {
        hashed_id("s", &self.canonical())
    }

    /// What this selector demands of single labels; nothing that breaks a demand can match.
    pub fn restrictions(&self) -> BTreeMap<String, Restriction> {
        restriction::restrictions(&self.expr)
    }

    /// Picks what both pick. `all()` adds nothing.
    pub fn and(self, other: Selector) -> Selector {
        let expr = match (self.expr, other.expr) {
            (Expr::All, only) | (only, Expr::All) => only,
            (left, right) => Expr::And(vec![left, right]),
        };
        Selector { expr }
    }

    /// Picks what this does not pick.
    pub fn negated(self) -> Selector {
        Selector { expr: self.expr.negated() }
    }

    /// The same selector about labels with this prefix, as labels of a namespace or service account appear to policy.
    pub fn with_label_prefix(&self, prefix: &str) -> Selector {
        let rename = |label: &str| format!("{prefix}{label}");
        Selector { expr: self.expr.map_leaves(&|leaf| leaf.with_label(&rename)) }
    }

    /// The same selector where `all()` means "everything that has this label".
    pub fn with_all_as(&self, label: &str) -> Selector {
        let replace =
            |leaf: &Expr| if *leaf == Expr::All { Expr::Has(label.to_owned()) } else { leaf.clone() };
        Selector { expr: self.expr.map_leaves(&replace) }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(formatter)
    }
}

/// Calico's id for a text: `PREFIX:` and base64url(SHA-224("PREFIX:" + text)) without padding.
pub fn hashed_id(prefix: &str, text: &str) -> String {
    let digest = Sha224::digest(format!("{prefix}:{text}"));
    format!("{prefix}:{}", URL_SAFE_NO_PAD.encode(digest))
}

#[cfg(test)]
mod tests;
