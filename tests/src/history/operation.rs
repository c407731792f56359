//! Operations: what a client asked, when, and what it was told. Pure.
//!
//! Moments are counted, not measured: one counter for all clients of a test, so that an operation which was answered
//! before another was asked has the smaller number whatever the clocks of the machine do. Every write carries a content
//! that no other write of the history has, by which its effect is known wherever it is seen.

use std::collections::BTreeMap;
use std::fmt;

/// One operation of one client; it may have taken several attempts, which the store must count as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// Whom it asked first.
    pub node: usize,
    /// The moment before it was asked.
    pub invoked: u64,
    /// The moment after it was answered; whatever was never answered is never complete.
    pub completed: u64,
    /// What was asked.
    pub call: Call,
    /// What was answered.
    pub outcome: Outcome,
}

/// The moment of completion of what was never answered.
pub const NEVER: u64 = u64::MAX;

/// An object as somebody saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The revision of the write it is from.
    pub revision: u64,
    /// The content that write gave it.
    pub content: u64,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Make an object that is not there.
    Create {
        /// Its name.
        name: String,
        /// What to put into it.
        content: u64,
    },
    /// Change an object that is there, whatever it says.
    Put {
        /// Its name.
        name: String,
        /// What to put into it.
        content: u64,
    },
    /// Change an object that is still as it was seen.
    Cas {
        /// Its name.
        name: String,
        /// As it was seen.
        expected: Version,
        /// What to put into it.
        content: u64,
    },
    /// Remove an object; with a version, only while it is still that.
    Delete {
        /// Its name.
        name: String,
        /// As it was seen.
        expected: Option<Version>,
    },
    /// Read one object, linearizably.
    Read {
        /// Its name.
        name: String,
    },
    /// Read all objects; `local` asks for what the node itself has, however old.
    List {
        /// Without asking the leader.
        local: bool,
    },
}

/// What can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Created or changed, at this revision.
    Written {
        /// The revision of the write.
        revision: u64,
    },
    /// Removed.
    Deleted,
    /// Read.
    Found(Version),
    /// There is no such object: to a read, or to a change or removal that therefore did nothing.
    Absent,
    /// All there is.
    Listed {
        /// The revision of the store.
        revision: u64,
        /// By name.
        objects: BTreeMap<String, Version>,
    },
    /// Not created: the name is taken.
    Exists,
    /// Not changed or removed: it is not what was expected any more.
    Conflict,
    /// Certainly not done, and nothing learned from it.
    Refused,
    /// No answer, or one that does not say whether it was done.
    Unknown,
}

impl Call {
    /// The object it is about; a list is about all.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Call::Create { name, .. }
            | Call::Put { name, .. }
            | Call::Cas { name, .. }
            | Call::Delete { name, .. }
            | Call::Read { name } => Some(name),
            Call::List { .. } => None,
        }
    }

    /// What it would put there.
    #[must_use]
    pub fn content(&self) -> Option<u64> {
        match self {
            Call::Create { content, .. } | Call::Put { content, .. } | Call::Cas { content, .. } => {
                Some(*content)
            }
            Call::Delete { .. } | Call::Read { .. } | Call::List { .. } => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.content, self.revision)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Create { name, content } => write!(f, "create {name}={content}"),
            Call::Put { name, content } => write!(f, "put {name}={content}"),
            Call::Cas { name, expected, content } => write!(f, "cas {name}={content} if {expected}"),
            Call::Delete { name, expected: Some(expected) } => write!(f, "delete {name} if {expected}"),
            Call::Delete { name, expected: None } => write!(f, "delete {name}"),
            Call::Read { name } => write!(f, "read {name}"),
            Call::List { local: true } => f.write_str("locallist"),
            Call::List { local: false } => f.write_str("list"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Written { revision } => write!(f, "@{revision}"),
            Outcome::Deleted => f.write_str("deleted"),
            Outcome::Found(version) => write!(f, "{version}"),
            Outcome::Absent => f.write_str("absent"),
            Outcome::Listed { revision, objects } => {
                f.write_str("{")?;
                for (place, (name, version)) in objects.iter().enumerate() {
                    write!(f, "{}{name}={version}", if place == 0 { "" } else { " " })?;
                }
                write!(f, "}}@{revision}")
            }
            Outcome::Exists => f.write_str("exists"),
            Outcome::Conflict => f.write_str("conflict"),
            Outcome::Refused => f.write_str("refused"),
            Outcome::Unknown => f.write_str("?"),
        }
    }
}

/// As the tests write it: `12-15 c3/n1: cas k=7 if 5@20 -> @21`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.invoked)?;
        match self.completed {
            NEVER => f.write_str("..")?,
            completed => write!(f, "{completed}")?,
        }
        write!(f, " c{}/n{}: {} -> {}", self.client, self.node, self.call, self.outcome)
    }
}

/// Reads histories as `Display` writes them, so that a test can be read and a failure can become a test.
#[cfg(test)]
pub(crate) mod notation {
    use super::*;

    /// One operation a line.
    pub(crate) fn history(text: &str) -> Vec<Operation> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(operation).collect()
    }

    fn operation(line: &str) -> Operation {
        let (head, rest) = line.split_once(": ").expect("a colon");
        let (times, place) = head.split_once(' ').expect("moments and a client");
        let (invoked, completed) = times.split_once('-').expect("two moments");
        let (client, node) = place.split_once('/').expect("a client and a node");
        let (call, outcome) = rest.split_once(" -> ").expect("an arrow");
        Operation {
            client: number(&client[1..]),
            node: number(&node[1..]),
            invoked: number(invoked),
            completed: if completed == ".." { NEVER } else { number(completed) },
            call: self::call(call),
            outcome: self::outcome(outcome),
        }
    }

    fn call(text: &str) -> Call {
        let words: Vec<&str> = text.split(' ').collect();
        let write = |word: &str| {
            let (name, content) = word.split_once('=').expect("name=content");
            (name.to_owned(), number(content))
        };
        match words.as_slice() {
            ["create", what] => {
                let (name, content) = write(what);
                Call::Create { name, content }
            }
            ["put", what] => {
                let (name, content) = write(what);
                Call::Put { name, content }
            }
            ["cas", what, "if", expected] => {
                let (name, content) = write(what);
                Call::Cas { name, expected: version(expected), content }
            }
            ["delete", name] => Call::Delete { name: (*name).to_owned(), expected: None },
            ["delete", name, "if", expected] => {
                Call::Delete { name: (*name).to_owned(), expected: Some(version(expected)) }
            }
            ["read", name] => Call::Read { name: (*name).to_owned() },
            ["list"] => Call::List { local: false },
            ["locallist"] => Call::List { local: true },
            _ => panic!("not a call: {text}"),
        }
    }

    fn outcome(text: &str) -> Outcome {
        match text {
            "deleted" => Outcome::Deleted,
            "absent" => Outcome::Absent,
            "exists" => Outcome::Exists,
            "conflict" => Outcome::Conflict,
            "refused" => Outcome::Refused,
            "?" => Outcome::Unknown,
            _ if text.starts_with('{') => {
                let (objects, revision) = text[1..].split_once("}@").expect("a revision");
                let object = |word: &str| {
                    let (name, seen) = word.split_once('=').expect("name=version");
                    (name.to_owned(), version(seen))
                };
                Outcome::Listed {
                    revision: number(revision),
                    objects: objects.split_whitespace().map(object).collect(),
                }
            }
            _ => match text.strip_prefix('@') {
                Some(revision) => Outcome::Written { revision: number(revision) },
                None => Outcome::Found(version(text)),
            },
        }
    }

    pub(crate) fn version(text: &str) -> Version {
        let (content, revision) = text.split_once('@').expect("content@revision");
        Version { revision: number(revision), content: number(content) }
    }

    pub(crate) fn number<T: std::str::FromStr>(text: &str) -> T {
        text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let text = "1-4 c0/n0: create k=1 -> @5
2-3 c1/n2: cas k=3 if 1@5 -> conflict
2-.. c1/n2: delete k if 1@5 -> ?
5-6 c2/n1: list -> {k=1@5 l=2@6}@7
5-6 c2/n1: locallist -> {}@3
7-8 c2/n1: read k -> 1@5
7-9 c2/n1: put k=9 -> absent";
        let printed: Vec<String> = history(text).iter().map(ToString::to_string).collect();
        assert_eq!(printed.join("\n"), text);
    }
}
