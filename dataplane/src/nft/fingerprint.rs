//! Fingerprint: what a rule is, in sixteen characters of its comment.
//!
//! nft does not list rules as they were loaded (it merges, drops what is implied, reorders), so a listing can not be
//! compared with what we want. Instead every rule carries a hash of what we meant, and a restart compares those. Two
//! rules with the same text have the same fingerprint in every version that writes the same text; a version that writes
//! another finds a difference and rewrites the chain, which is always safe.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::nft::ruleset::{LABEL_BYTES, Rule};
use crate::nft::script;

/// Hexadecimal digits kept: 64 bits, where two of our own rules meeting by accident is out of the question.
const DIGITS: usize = 16;

// The kernel keeps 128 bytes of comment including the zero at the end.
const _: () = assert!(DIGITS + 1 + LABEL_BYTES < 128);

/// The hash of one rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of `rule`: its text, label included.
    pub fn of(rule: &Rule) -> Fingerprint {
        let digest = Sha256::new()
            .chain_update(script::exprs(&rule.exprs))
            .chain_update([0])
            .chain_update(rule.label())
            .finalize();
        let mut head = [0; 8];
        head.copy_from_slice(&digest[..8]);
        Fingerprint(u64::from_be_bytes(head))
    }

    /// Reads it back from a comment; none if the comment is not one of ours.
    pub fn parse(comment: &str) -> Option<Fingerprint> {
        let digits = comment.get(..DIGITS)?;
        let ends = matches!(comment.as_bytes().get(DIGITS), None | Some(b' '));
        let plain = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        (ends && plain).then(|| u64::from_str_radix(digits, 16).ok().map(Fingerprint)).flatten()
    }
}

/// The comment `rule` carries in the kernel: its fingerprint, then its label.
pub fn comment(rule: &Rule) -> String {
    format!("{} {}", Fingerprint::of(rule), rule.label()).trim_end().to_owned()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::ruleset::Expr;

    #[test]
    fn a_comment_carries_the_fingerprint_and_fits() {
        let rule = Rule::new(&"x".repeat(300), vec![Expr::Counter, Expr::drop()]);
        let comment = comment(&rule);
        assert!(comment.len() <= 127, "{}", comment.len());
        assert_eq!(Fingerprint::parse(&comment), Some(Fingerprint::of(&rule)));
        let other = Rule::new(rule.label(), vec![Expr::Counter, Expr::accept()]);
        assert_ne!(Fingerprint::of(&rule), Fingerprint::of(&other));
    }

    #[test]
    fn foreign_comments_are_not_ours() {
        for comment in
            ["", "allow ssh", "0123456789abcdefx", "0123456789ABCDEF", "0123456789abcdé", "+123456789abcdef"]
        {
            assert_eq!(Fingerprint::parse(comment), None, "{comment}");
        }
    }
}
