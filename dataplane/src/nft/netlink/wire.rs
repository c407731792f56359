//! Wire: netlink messages as bytes, both ways. Pure; lengths that lie are an end of input, never a panic.

/// Netlink aligns everything to four bytes.
const ALIGN: usize = 4;
/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// `struct nfgenmsg`.
pub(crate) const NFGEN_BYTES: usize = 4;
/// `struct nlattr`.
const ATTRIBUTE_BYTES: usize = 4;
/// Says that an attribute holds attributes.
const NESTED: u16 = 0x8000;

/// A request.
pub(crate) const NLM_F_REQUEST: u16 = 0x01;
/// Answer even if all went well.
pub(crate) const NLM_F_ACK: u16 = 0x04;
/// List everything.
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// Create if missing.
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// In answers: the listing was disturbed by a change and may be inconsistent.
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
/// `struct nlmsgerr` follows; errno 0 is an acknowledgement.
pub(crate) const NLMSG_ERROR: u16 = 2;
/// The end of a listing.
pub(crate) const NLMSG_DONE: u16 = 3;

/// Messages, one behind the other.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// Where a message or a nested attribute began, so that its length can be written when it ends.
#[must_use]
pub(crate) struct Open(usize);

impl Writer {
    /// Starts a message. The port stays zero: the kernel knows whose socket it is.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, sequence: u32) -> Open {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        Open(start)
    }

    /// `struct nfgenmsg`: family, version 0, and a resource id in network order.
    pub(crate) fn nfgen(&mut self, family: u8, resource: u16) {
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    /// Ends a message.
    pub(crate) fn end_message(&mut self, open: Open) {
        let length = (self.bytes.len() - open.0) as u32;
        self.bytes[open.0..open.0 + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// One attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let open = self.attribute_header(kind);
        self.bytes.extend_from_slice(value);
        self.end(open);
    }

    /// A text attribute, with the zero the kernel expects.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let open = self.attribute_header(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.end(open);
    }

    /// Starts an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16) -> Open {
        self.attribute_header(kind | NESTED)
    }

    /// Ends an attribute. Whoever nests keeps it below 64 KiB, the most its length can say.
    pub(crate) fn end(&mut self, open: Open) {
        let length = (self.bytes.len() - open.0) as u16;
        self.bytes[open.0..open.0 + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    /// A fixed part that follows the header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes since `open`.
    pub(crate) fn since(&self, open: &Open) -> usize {
        self.bytes.len() - open.0
    }

    /// The messages.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn attribute_header(&mut self, kind: u16) -> Open {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        Open(start)
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// Its flags.
    pub(crate) flags: u16,
    /// The request it answers.
    pub(crate) sequence: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind the `nfgenmsg`.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        attributes(self.payload.get(NFGEN_BYTES..).unwrap_or_default())
    }

    /// For an error or acknowledgement: the positive errno.
    pub(crate) fn errno(&self) -> Option<i32> {
        Some(i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?).saturating_neg())
    }
}

/// The messages of a datagram.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let message = bytes.get(..length).or(bytes.get(..bytes.len().min(length)))?;
        let payload = message.get(HEADER_BYTES..)?;
        let two = |at: usize| Some(u16::from_ne_bytes(message.get(at..at + 2)?.try_into().ok()?));
        let sequence = u32::from_ne_bytes(message.get(8..12)?.try_into().ok()?);
        let parsed = Message { kind: two(4)?, flags: two(6)?, sequence, payload };
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(parsed)
    })
}

/// Type and value of each attribute.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !NESTED;
        let value = bytes.get(ATTRIBUTE_BYTES..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A text attribute's value without its zero.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

/// A number in network order.
pub(crate) fn be32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

/// A long number in network order.
pub(crate) fn be64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut writer = Writer::default();
        let message = writer.message(7, NLM_F_REQUEST, 42);
        writer.nfgen(1, 0);
        writer.text(1, "abc");
        let nest = writer.nest(2);
        writer.attribute(3, &[1, 2, 3, 4, 5]);
        writer.end(nest);
        writer.end_message(message);
        assert_eq!(writer.bytes().len() % ALIGN, 0);
        let read: Vec<Message<'_>> = messages(writer.bytes()).collect();
        assert_eq!((read[0].kind, read[0].sequence, read.len()), (7, 42, 1));
        let found: Vec<(u16, &[u8])> = read[0].attributes().collect();
        assert_eq!(found[0], (1, &b"abc\0"[..]));
        assert_eq!(attributes(found[1].1).next(), Some((3, &[1u8, 2, 3, 4, 5][..])));
    }

    proptest! {
        /// Whatever arrives, reading ends.
        #[test]
        fn garbage_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = (message.errno(), message.attributes().count());
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
