//! Key: the ordered path of a record, and the prefixes that select ranges of them. Pure.
//!
//! Keys are bytes and sort as bytes. The store gives them no meaning; its callers write paths.

use std::{fmt, sync::Arc};

/// A longer key is refused: keys stay in memory, and a record's key must share a chunk with its first bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// The name of a record, or the beginning of the names of many. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The prefix of every key.
    pub fn all() -> Key {
        Key::from("")
    }

    /// The bytes of the key, in which order keys sort.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text, when it is text.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether this key lies in the range that `prefix` selects.
    pub fn starts_with(&self, prefix: &Key) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key(text.as_bytes().into())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Key {
        Key(text.into_bytes().into())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Key {
        Key(bytes.into())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Key {
        Key(bytes.into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
