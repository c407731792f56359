//! Whole: text that proves that it is whole. Pure.
//!
//! What is closed has a sum over everything before it in its last line, which is a comment: nft loads such a file as it
//! stands, and the boot unit checks it with `sha256sum` (`images/appliance-firewall.service`). A sum in a short line of
//! its own is in the same words. It finds what a disk does to a file, not what a person does. Called by `saved` only.

use sha2::{Digest, Sha256};

/// Before the sum of a file.
const MARK: &str = "# sha256 ";

/// Of the sum of a line, what is kept: a disk does not search for collisions.
const LINE_SUM_DIGITS: usize = 16;

/// A text as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Without the sum.
    pub(crate) text: String,
    /// Whether the sum is there and agrees.
    pub(crate) proven: bool,
}

/// `text`, whose last line must end, and its sum.
pub(crate) fn close(text: &str) -> String {
    format!("{text}{MARK}{}\n", sum(text))
}

/// What was closed, or a text without a sum, as versions before wrote it, or one that was harmed.
pub(crate) fn open(bytes: &[u8]) -> Opened {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // Harmed for certain; the rest of it may still be of use.
        Err(_) => return unproven(&String::from_utf8_lossy(bytes)),
    };
    let end = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).map_or(0, |last| last + 1);
    let (before, last) = text.split_at(end);
    match last.strip_prefix(MARK).and_then(|sum| sum.strip_suffix('\n')) {
        Some(said) if said == sum(before) => Opened { text: before.to_owned(), proven: true },
        _ => unproven(text),
    }
}

fn unproven(text: &str) -> Opened {
    Opened { text: text.to_owned(), proven: false }
}

/// One line of words with its sum.
pub(crate) fn close_line(words: &str) -> String {
    format!("{words} {}\n", &sum(words)[..LINE_SUM_DIGITS])
}

/// The words of a line that was closed; none if it was harmed.
pub(crate) fn open_line(line: &str) -> Option<&str> {
    let (words, said) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    (sum(words)[..LINE_SUM_DIGITS] == *said).then_some(words)
}

fn sum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_closed_is_proven_and_one_flipped_bit_is_not() {
        let closed = close("table inet t {\n}\n");
        assert!(closed.starts_with("table inet t {\n}\n# sha256 ") && closed.ends_with('\n'), "{closed}");
        let opened = open(closed.as_bytes());
        assert_eq!(opened, Opened { text: "table inet t {\n}\n".to_owned(), proven: true });
        for bit in 0..closed.len() * 8 {
            let mut harmed = closed.clone().into_bytes();
            harmed[bit / 8] ^= 1 << (bit % 8);
            assert!(!open(&harmed).proven, "bit {bit}");
        }
        for length in 0..closed.len() {
            assert!(!open(&closed.as_bytes()[..length]).proven, "cut to {length}");
        }
        assert_eq!(open(b"as before\n"), unproven("as before\n"));
    }

    #[test]
    fn a_line_says_what_it_said_or_nothing() {
        let closed = close_line("57 saved");
        assert_eq!(open_line(&closed), Some("57 saved"));
        for bit in 0..closed.len() * 8 {
            let mut harmed = closed.clone().into_bytes();
            harmed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(std::str::from_utf8(&harmed).ok().and_then(open_line), None, "bit {bit}");
        }
        assert!((0..closed.len()).all(|length| open_line(&closed[..length]).is_none()));
    }
}
