//! Voice: says a thing when it changes, not each time it is tried again. Pure.
//!
//! A peer that is away is dialled every two seconds for hours, and a stranger may knock as often as it likes; the
//! operator reads one line for each reason.

use std::collections::BTreeMap;

/// Subjects remembered; when more are spoken of, all are forgotten and may be news once more.
const SUBJECTS_MAX: usize = 2_048;

/// The last thing said of each subject.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    said: BTreeMap<String, String>,
}

impl Voice {
    /// Whether this was not the last thing said of the subject; it is now.
    pub(crate) fn is_news(&mut self, subject: &str, what: &str) -> bool {
        if self.said.get(subject).is_some_and(|said| said == what) {
            return false;
        }
        if self.said.len() >= SUBJECTS_MAX {
            self.said.clear();
        }
        self.said.insert(subject.to_owned(), what.to_owned());
        true
    }

    /// There is nothing to say of the subject any more; the same is news when it happens again.
    pub(crate) fn forget(&mut self, subject: &str) {
        self.said.remove(subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_until_something_else_was_or_it_was_over() {
        let mut voice = Voice::default();
        assert!(voice.is_news("a", "away"));
        assert!(!voice.is_news("a", "away"));
        assert!(voice.is_news("b", "away"));
        assert!(voice.is_news("a", "refused"));
        assert!(voice.is_news("a", "away"));
        voice.forget("a");
        assert!(voice.is_news("a", "away"));
    }

    #[test]
    fn strangers_without_number_do_not_grow_it() {
        let mut voice = Voice::default();
        for stranger in 0..SUBJECTS_MAX * 3 {
            assert!(voice.is_news(&stranger.to_string(), "garbage"));
            assert!(voice.said.len() <= SUBJECTS_MAX);
        }
    }
}
