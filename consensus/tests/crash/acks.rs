//! Acks: what the writer was promised, one line for each answer, in a file that no fault of these tests touches.

use std::{collections::BTreeMap, fs, path::Path};

/// One answer: the client's turn took effect at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) client: u64,
    pub(crate) turn: u64,
    pub(crate) revision: u64,
}

impl Ack {
    pub(crate) fn line(self) -> String {
        format!("{} {} {}\n", self.client, self.turn, self.revision)
    }
}

/// The last ack of each client. A line the writer had not finished when it was killed was not an answer yet.
pub(crate) fn last_of_each(file: &Path) -> BTreeMap<u64, Ack> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(parse).map(|ack| (ack.client, ack)).collect()
}

/// How many answers there were.
pub(crate) fn count(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().matches('\n').count()
}

fn parse(line: &str) -> Ack {
    let words: Vec<u64> = line.split(' ').map(|word| word.parse().expect("an ack")).collect();
    Ack { client: words[0], turn: words[1], revision: words[2] }
}
