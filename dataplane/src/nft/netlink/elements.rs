//! Elements on the wire: one batch that changes the members of sets, whatever their size, without listing anything.
//!
//! A batch is begin, messages, end, sent at once; the kernel takes all of it or nothing. Members travel in nested lists
//! whose length is sixteen bits, so a large change is many messages in one batch.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::nft::netlink::wire::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, Open, Writer};
use crate::nft::ruleset::{Delta, Element, SetKind};

/// `NFPROTO_INET`.
pub(crate) const INET: u8 = 1;
/// The nf_tables subsystem of nfnetlink.
pub(crate) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const BATCH_GENID: u16 = 1;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_FLAGS: u16 = 3;
const DATA_VALUE: u16 = 1;
const INTERVAL_END: u32 = 1;

/// A nested list is closed before it can pass the 65,535 bytes its length can say; one member takes at most 80.
const LIST_BYTES_MAX: usize = 65_535 - 200;

/// The changes of one set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetChange<'a> {
    pub(crate) set: &'a str,
    pub(crate) kind: SetKind,
    pub(crate) delta: &'a Delta,
}

/// A batch and how to read its answers.
pub(crate) struct Batch {
    /// The bytes to send at once.
    pub(crate) bytes: Vec<u8>,
    /// The sequence number of the begin message: an answer to it means that the batch as a whole was refused.
    pub(crate) first: u32,
    /// The sequence number of the last change, whose acknowledgement means that the batch was committed.
    pub(crate) last: u32,
    /// The set each sequence number after `first` is about.
    pub(crate) sets: Vec<String>,
}

/// The batch that makes `changes` in `table`, if the kernel's generation is still `generation`.
pub(crate) fn batch(table: &str, changes: &[SetChange<'_>], generation: u32, first: u32) -> Batch {
    let mut encoder = Encoder { table, writer: Writer::default(), sequence: first, sets: Vec::new() };
    encoder.bracket(BATCH_BEGIN, Some(generation));
    // All removals come first: a prefix may be replaced by one it overlaps.
    for change in changes {
        encoder.members(change, DELETE_ELEMENTS, &change.delta.removed);
    }
    for change in changes {
        encoder.members(change, NEW_ELEMENTS, &change.delta.added);
    }
    let last = encoder.sequence;
    encoder.bracket(BATCH_END, None);
    let mut bytes = encoder.writer.bytes().to_vec();
    acknowledge(&mut bytes, last);
    Batch { bytes, first, last, sets: encoder.sets }
}

/// Asks for an answer to the message with this sequence number. Only the last change needs one; errors always come.
fn acknowledge(bytes: &mut [u8], sequence: u32) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if header[8..12] == sequence.to_ne_bytes() {
            let flags = u16::from_ne_bytes([header[6], header[7]]) | NLM_F_ACK;
            header[6..8].copy_from_slice(&flags.to_ne_bytes());
            return;
        }
        at += length.max(1).next_multiple_of(4);
    }
}

struct Encoder<'a> {
    table: &'a str,
    writer: Writer,
    /// Of the message written last.
    sequence: u32,
    sets: Vec<String>,
}

impl Encoder<'_> {
    fn bracket(&mut self, kind: u16, generation: Option<u32>) {
        let message = self.writer.message(kind, NLM_F_REQUEST, self.sequence);
        self.writer.nfgen(0, SUBSYSTEM);
        if let Some(generation) = generation {
            self.writer.attribute(BATCH_GENID, &generation.to_be_bytes());
        }
        self.writer.end_message(message);
    }

    fn members(&mut self, change: &SetChange<'_>, kind: u16, members: &[Element]) {
        let mut members = members.iter().peekable();
        while members.peek().is_some() {
            let (message, list) = self.open_list(change.set, kind);
            while self.writer.since(&list) < LIST_BYTES_MAX
                && let Some(member) = members.next()
            {
                self.member(change.kind, member);
            }
            self.writer.end(list);
            self.writer.end_message(message);
        }
    }

    fn open_list(&mut self, set: &str, kind: u16) -> (Open, Open) {
        self.sequence += 1;
        self.sets.push(set.to_owned());
        let create = if kind == NEW_ELEMENTS { NLM_F_CREATE } else { 0 };
        let message = self.writer.message(kind, NLM_F_REQUEST | create, self.sequence);
        self.writer.nfgen(INET, 0);
        self.writer.text(LIST_TABLE, self.table);
        self.writer.text(LIST_SET, set);
        (message, self.writer.nest(LIST_ELEMENTS))
    }

    /// One member: an interval is its first address and, flagged as an end, the one after its last.
    fn member(&mut self, kind: SetKind, member: &Element) {
        match member {
            Element::Net(net) if kind.is_interval() => {
                self.key(&octets(net.network()), 0);
                if let Some(end) = after(*net) {
                    self.key(&octets(end), INTERVAL_END);
                }
            }
            Element::Net(net) => self.key(&octets(net.addr()), 0),
            Element::AddressPort { address, protocol, port } => {
                let mut key = octets(*address);
                key.extend(protocol_port(*protocol, *port));
                self.key(&key, 0);
            }
            Element::ProtocolPort { protocol, port } => self.key(&protocol_port(*protocol, *port), 0),
        }
    }

    fn key(&mut self, key: &[u8], flags: u32) {
        let element = self.writer.nest(LIST_ELEMENT);
        let data = self.writer.nest(ELEMENT_KEY);
        self.writer.attribute(DATA_VALUE, key);
        self.writer.end(data);
        if flags != 0 {
            self.writer.attribute(ELEMENT_FLAGS, &flags.to_be_bytes());
        }
        self.writer.end(element);
    }
}

/// Each field of a concatenation fills whole words.
fn protocol_port(protocol: u8, port: u16) -> [u8; 8] {
    let [high, low] = port.to_be_bytes();
    [protocol, 0, 0, 0, high, low, 0, 0]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address after the last of `net`; none behind the end of the address space, where the interval stays open.
fn after(net: IpNet) -> Option<IpAddr> {
    match net {
        IpNet::V4(net) => u32::from(net.broadcast()).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpNet::V6(net) => u128::from(net.broadcast()).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::netlink::wire::{attributes, messages};
    use crate::nft::ruleset::Family;

    fn delta(added: Vec<Element>) -> Delta {
        Delta { added, removed: Vec::new() }
    }

    #[test]
    fn a_prefix_is_a_start_and_an_exclusive_end() {
        let delta =
            delta(["10.0.0.0/8", "255.0.0.0/8"].map(|net| Element::Net(net.parse().unwrap())).to_vec());
        let change = SetChange { set: "s", kind: SetKind::Nets(Family::V4), delta: &delta };
        let batch = batch("t", &[change], 7, 100);
        let sent: Vec<_> = messages(&batch.bytes).collect();
        assert_eq!(sent.iter().map(|message| message.sequence).collect::<Vec<_>>(), [100, 101, 101]);
        assert_eq!(sent[0].attributes().next(), Some((BATCH_GENID, &[0u8, 0, 0, 7][..])));
        assert_eq!(sent[1].flags & NLM_F_ACK, NLM_F_ACK);
        let list = sent[1].attributes().find(|(kind, _)| *kind == LIST_ELEMENTS).unwrap().1;
        let keys: Vec<(Vec<u8>, usize)> = attributes(list)
            .map(|(_, element)| {
                let key = attributes(element).next().unwrap().1;
                (attributes(key).next().unwrap().1.to_vec(), attributes(element).count())
            })
            .collect();
        assert_eq!(keys, [(vec![10, 0, 0, 0], 1), (vec![11, 0, 0, 0], 2), (vec![255, 0, 0, 0], 1)]);
    }

    #[test]
    fn a_large_change_is_many_messages_none_too_long() {
        let many = (0..20_000u32).map(|number| Element::address(IpAddr::V4(number.into()))).collect();
        let delta = delta(many);
        let change = SetChange { set: "s", kind: SetKind::Addresses(Family::V4), delta: &delta };
        let batch = batch("t", &[change], 7, 1);
        let mut members = 0;
        for message in messages(&batch.bytes).filter(|message| message.kind == NEW_ELEMENTS) {
            let list = message.attributes().find(|(kind, _)| *kind == LIST_ELEMENTS).unwrap().1;
            assert!(list.len() < 65_532);
            members += attributes(list).count();
        }
        assert_eq!(members, 20_000);
        assert_eq!(batch.sets.len(), batch.last as usize - 1);
        assert!(batch.sets.len() > 4);
    }
}
