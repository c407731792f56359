//! Elements: the members of one named set, cheap to clone, cheap to change, cheap to compare.
//!
//! A set may hold 100,000 addresses and change by one of them, so a snapshot shares everything that did not change
//! with the snapshot before it: the sorted members lie in chunks behind `Arc`s, a change copies one chunk and the list
//! of chunks, and a comparison skips every chunk the two snapshots share. No versions and no history to keep: any two
//! snapshots can be compared, also one from before a restart (then simply in full).
//!
//! Written by `calc` (through `insert` and `remove`), carried by `render`, compared by `diff`. It does not know whether
//! its members suit the kind of their set, nor whether prefixes overlap: that is `calc`'s canonical cover.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Members per chunk before it is split in two. A change copies at most this many members and, in a set of 100,000,
/// some 400 pointers: the two costs are balanced about there.
const CHUNK_MAX: usize = 512;

/// One member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// An address (full-length prefix) or a prefix; host bits are zero.
    Net(IpNet),
    /// `address . protocol . port`, a named port of an endpoint.
    AddressPort {
        /// The endpoint's address.
        address: IpAddr,
        /// The transport protocol's number.
        protocol: u8,
        /// The port.
        port: u16,
    },
    /// `protocol . port`.
    ProtocolPort {
        /// The transport protocol's number.
        protocol: u8,
        /// The port.
        port: u16,
    },
}

impl Element {
    /// The member for one address.
    pub fn address(address: IpAddr) -> Element {
        Element::Net(IpNet::from(address))
    }
}

/// As nft writes it in an element list: `10.0.0.0/8`, `10.0.0.1`, `10.0.0.1 . 6 . 80`, `6 . 80`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Element::Net(net) => write!(f, "{net}"),
            Element::AddressPort { address, protocol, port } => write!(f, "{address} . {protocol} . {port}"),
            Element::ProtocolPort { protocol, port } => write!(f, "{protocol} . {port}"),
        }
    }
}

/// The sorted, distinct members of one set: a persistent value.
///
/// * Chunks are never empty, sorted, and do not overlap.
/// * A chunk, once shared, is never changed: writers copy it first.
#[derive(Clone, Default)]
pub struct Elements {
    chunks: Arc<Vec<Arc<Vec<Element>>>>,
    len: usize,
}

/// What turns one snapshot into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Members only the newer snapshot has, sorted.
    pub added: Vec<Element>,
    /// Members only the older snapshot has, sorted.
    pub removed: Vec<Element>,
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Makes `elements`, the older snapshot, the newer one.
    pub fn apply(&self, elements: &mut Elements) {
        for removed in &self.removed {
            elements.remove(removed);
        }
        for added in &self.added {
            elements.insert(*added);
        }
    }
}

impl Elements {
    /// The empty set.
    pub fn new() -> Elements {
        Elements::default()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = &Element> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Whether `element` is a member.
    pub fn contains(&self, element: &Element) -> bool {
        self.chunks.get(self.chunk_of(element)).is_some_and(|chunk| chunk.binary_search(element).is_ok())
    }

    /// Adds a member; false when it was one already (then nothing is copied).
    pub fn insert(&mut self, element: Element) -> bool {
        if self.contains(&element) {
            return false;
        }
        let at = self.chunk_of(&element);
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.is_empty() {
            chunks.push(Arc::new(Vec::new()));
        }
        let chunk = Arc::make_mut(&mut chunks[at]);
        let position = chunk.partition_point(|member| *member < element);
        chunk.insert(position, element);
        if chunk.len() > CHUNK_MAX {
            let upper = chunk.split_off(CHUNK_MAX / 2);
            chunks.insert(at + 1, Arc::new(upper));
        }
        self.len += 1;
        true
    }

    /// Removes a member; false when it was none (then nothing is copied).
    pub fn remove(&mut self, element: &Element) -> bool {
        if !self.contains(element) {
            return false;
        }
        let at = self.chunk_of(element);
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.retain(|member| member != element);
        if chunk.is_empty() {
            chunks.remove(at);
        }
        self.len -= 1;
        true
    }

    /// Whether both are the very same snapshot, which is worth asking first because it costs one comparison.
    pub fn same(&self, other: &Elements) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// What must be added to and removed from `older` to get `self`. Costs one pointer comparison for each chunk the
    /// two share and one member comparison for each member of the others.
    pub fn delta_from(&self, older: &Elements) -> Delta {
        let mut delta = Delta::default();
        if self.same(older) {
            return delta;
        }
        let (mut new, mut old) = (Cursor::new(self), Cursor::new(older));
        loop {
            while new.skip_shared(&mut old) {}
            match (new.peek(), old.peek()) {
                (None, None) => return delta,
                (Some(added), None) => new.take_into(added, &mut delta.added),
                (None, Some(removed)) => old.take_into(removed, &mut delta.removed),
                (Some(added), Some(removed)) if added < removed => new.take_into(added, &mut delta.added),
                (Some(added), Some(removed)) if added > removed => old.take_into(removed, &mut delta.removed),
                (Some(_), Some(_)) => {
                    new.advance();
                    old.advance();
                }
            }
        }
    }

    /// The index of the chunk that holds `element` or would; 0 when there is none yet.
    fn chunk_of(&self, element: &Element) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.first().is_some_and(|first| first <= element))
            .saturating_sub(1)
    }
}

impl FromIterator<Element> for Elements {
    fn from_iter<I: IntoIterator<Item = Element>>(members: I) -> Elements {
        let mut sorted: Vec<Element> = members.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let len = sorted.len();
        let chunks = sorted.chunks(CHUNK_MAX / 2).map(|chunk| Arc::new(chunk.to_vec())).collect();
        Elements { chunks: Arc::new(chunks), len }
    }
}

impl PartialEq for Elements {
    fn eq(&self, other: &Elements) -> bool {
        self.same(other) || (self.len == other.len && self.delta_from(other).is_empty())
    }
}

impl Eq for Elements {}

impl fmt::Debug for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|element| element.to_string())).finish()
    }
}

/// A place in a snapshot while two are compared.
struct Cursor<'a> {
    chunks: &'a [Arc<Vec<Element>>],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn new(elements: &'a Elements) -> Cursor<'a> {
        Cursor { chunks: &elements.chunks, position: 0 }
    }

    fn peek(&self) -> Option<Element> {
        Some(self.chunks.first()?[self.position])
    }

    fn advance(&mut self) {
        self.position += 1;
        if self.chunks.first().is_some_and(|chunk| chunk.len() == self.position) {
            self.chunks = &self.chunks[1..];
            self.position = 0;
        }
    }

    fn take_into(&mut self, element: Element, list: &mut Vec<Element>) {
        list.push(element);
        self.advance();
    }

    /// Steps both over one chunk if both stand at the start of the same one.
    fn skip_shared(&mut self, other: &mut Cursor<'_>) -> bool {
        if self.position != 0 || other.position != 0 {
            return false;
        }
        match (self.chunks.split_first(), other.chunks.split_first()) {
            (Some((mine, rest)), Some((theirs, others))) if Arc::ptr_eq(mine, theirs) => {
                self.chunks = rest;
                other.chunks = others;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn element(number: u32) -> Element {
        Element::address(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)))
    }

    #[test]
    fn a_change_shares_all_chunks_but_one() {
        let before: Elements = (0..100_000).map(|number| element(number * 2)).collect();
        let mut after = before.clone();
        assert!(after.insert(element(50_001)));
        let shared =
            after.chunks.iter().filter(|chunk| before.chunks.iter().any(|old| Arc::ptr_eq(old, chunk)));
        assert_eq!(shared.count(), before.chunks.len() - 1);
        assert_eq!(after.delta_from(&before), Delta { added: vec![element(50_001)], removed: vec![] });
    }

    #[test]
    fn inserting_what_is_there_keeps_the_snapshot() {
        let before: Elements = (0..10).map(element).collect();
        let mut after = before.clone();
        assert!(!after.insert(element(3)));
        assert!(!after.remove(&element(99)));
        assert!(after.same(&before));
    }

    #[test]
    fn elements_print_as_nft_reads_them() {
        let printed: Vec<String> = [
            Element::Net("10.0.0.0/8".parse().unwrap()),
            Element::address("10.0.0.1".parse().unwrap()),
            Element::Net("fd00::/64".parse().unwrap()),
            Element::AddressPort { address: "10.0.0.1".parse().unwrap(), protocol: 6, port: 80 },
            Element::ProtocolPort { protocol: 17, port: 53 },
        ]
        .iter()
        .map(Element::to_string)
        .collect();
        assert_eq!(printed, ["10.0.0.0/8", "10.0.0.1", "fd00::/64", "10.0.0.1 . 6 . 80", "17 . 53"]);
    }

    proptest! {
        /// Any history of inserts and removes leaves what a plain set would hold, and the delta between any two
        /// snapshots along the way is the plain difference.
        #[test]
        fn behaves_as_a_plain_set(steps in proptest::collection::vec((0u32..3_000, any::<bool>()), 0..2_000), cut in 0usize..2_000) {
            let (mut plain, mut elements) = (BTreeSet::new(), Elements::new());
            let (mut plain_then, mut then) = (plain.clone(), elements.clone());
            for (index, (number, add)) in steps.iter().enumerate() {
                if index == cut {
                    (plain_then, then) = (plain.clone(), elements.clone());
                }
                if *add {
                    prop_assert_eq!(elements.insert(element(*number)), plain.insert(element(*number)));
                } else {
                    prop_assert_eq!(elements.remove(&element(*number)), plain.remove(&element(*number)));
                }
            }
            prop_assert_eq!(elements.len(), plain.len());
            prop_assert!(elements.iter().eq(plain.iter()));
            let delta = elements.delta_from(&then);
            prop_assert!(delta.added.iter().eq(plain.difference(&plain_then)));
            prop_assert!(delta.removed.iter().eq(plain_then.difference(&plain)));
            prop_assert_eq!(&elements, &plain.into_iter().collect::<Elements>());
        }
    }
}
