//! Interfaces: the links of this network namespace with their addresses, kept current by rtnetlink.
//!
//! `Interfaces` is a plain value that `calc` reads; `Monitor` makes it and is the only code beside `nft::netlink` that
//! speaks netlink. An event says only that something changed; then everything is listed again. That can not drift, needs
//! no special case when the kernel could not keep up telling us, and costs milliseconds for a thousand links.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, sockopt};
use tokio::io::unix::AsyncFd;

use crate::nft::netlink::wire::{
    Message, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, Writer, attributes,
    messages, text,
};
use crate::nft::netlink::{from_kernel, readiness, socket};

/// Every link of the namespace, by name.
pub type Interfaces = BTreeMap<String, Interface>;

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index.
    pub index: u32,
    /// Whether it can carry packets: administratively up, and operational state up or unknown (as `lo` is).
    pub up: bool,
    /// Its addresses of both families, secondary ones included.
    pub addresses: BTreeSet<IpAddr>,
}

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// The kernel lists in pieces of at most 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1_024;
/// The kernel answers within the call that asks.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A listing disturbed this often is taken as it is: another event is waiting already and will have it made again.
const SCAN_ATTEMPTS: usize = 5;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// `struct ifinfomsg`.
const LINK_BYTES: usize = 16;
/// `struct ifaddrmsg`.
const ADDRESS_BYTES: usize = 8;
const LINK_NAME: u16 = 3;
const LINK_OPERSTATE: u16 = 16;
const ADDRESS: u16 = 1;
/// The own address where `ADDRESS` is the peer's.
const LOCAL: u16 = 2;
const IFF_UP: u32 = 1;
const OPERSTATE_UNKNOWN: u8 = 0;
const OPERSTATE_UP: u8 = 6;

/// Lists the interfaces and waits for changes.
pub struct Monitor {
    questions: OwnedFd,
    events: AsyncFd<OwnedFd>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Monitor {
    /// For the network namespace of the calling thread. Events count from now, so a scan after this misses nothing.
    pub fn open() -> io::Result<Monitor> {
        let events = readiness(socket(None, GROUPS)?)?;
        let questions = socket(None, 0)?;
        sockopt::set_socket_timeout(&questions, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Monitor { questions, events, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// The interfaces as they are now.
    pub fn scan(&mut self) -> io::Result<Interfaces> {
        let mut scan = Scan::default();
        for _ in 0..SCAN_ATTEMPTS {
            scan = Scan::default();
            self.list(GET_LINK, LINK_BYTES, &mut scan)?;
            self.list(GET_ADDRESS, ADDRESS_BYTES, &mut scan)?;
            if !scan.disturbed {
                break;
            }
        }
        Ok(scan.finish())
    }

    /// Waits until something changed since the last call. Cancel-safe: what was read only ever means "scan".
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut guard = self.events.readable().await?;
            let read = |socket: &AsyncFd<OwnedFd>| loop {
                // Everything that waits is one change; an overrun (no buffer space) is one as well.
                match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::empty()) {
                    Ok(_) | Err(rustix::io::Errno::NOBUFS) => return Ok(()),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(io::Error::from(errno)),
                }
            };
            match guard.try_io(read) {
                Ok(outcome) => return outcome,
                Err(_would_block) => {}
            }
        }
    }

    fn list(&mut self, kind: u16, body: usize, scan: &mut Scan) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Writer::default();
        let message = request.message(kind, NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        request.raw(&[0; LINK_BYTES][..body]);
        request.end_message(message);
        rustix::net::send(&self.questions, request.bytes(), SendFlags::empty())?;
        loop {
            let (_, length, from) =
                rustix::net::recvfrom(&self.questions, &mut self.buffer[..], RecvFlags::empty())?;
            if !from_kernel(from.as_ref()) {
                continue;
            }
            let received = self.buffer.get(..length).unwrap_or(&self.buffer);
            for message in messages(received).filter(|message| message.sequence == self.sequence) {
                scan.disturbed |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return Err(io::Error::from_raw_os_error(message.errno().unwrap_or_default()));
                    }
                    _ => scan.take(&message),
                }
            }
        }
    }
}

/// One listing in the making.
#[derive(Default)]
struct Scan {
    links: BTreeMap<u32, (String, Interface)>,
    disturbed: bool,
}

impl Scan {
    /// Takes one answer; what it does not understand, it leaves out.
    fn take(&mut self, message: &Message<'_>) {
        match message.kind {
            NEW_LINK => self.links.extend(link(message.payload)),
            NEW_ADDRESS => {
                if let Some((index, address)) = address(message.payload)
                    && let Some((_, interface)) = self.links.get_mut(&index)
                {
                    interface.addresses.insert(address);
                }
            }
            _ => {}
        }
    }

    fn finish(self) -> Interfaces {
        self.links.into_values().collect()
    }
}

fn link(payload: &[u8]) -> Option<(u32, (String, Interface))> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let flags = u32::from_ne_bytes(payload.get(8..12)?.try_into().ok()?);
    let find = |wanted| {
        attributes(payload.get(LINK_BYTES..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    let state = find(LINK_OPERSTATE).and_then(|value| value.first().copied()).unwrap_or(OPERSTATE_UNKNOWN);
    let up = flags & IFF_UP != 0 && matches!(state, OPERSTATE_UNKNOWN | OPERSTATE_UP);
    Some((index, (text(find(LINK_NAME)?), Interface { index, up, addresses: BTreeSet::new() })))
}

fn address(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let find = |wanted| {
        attributes(payload.get(ADDRESS_BYTES..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    let octets = find(LOCAL).or_else(|| find(ADDRESS))?;
    let address = match octets.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        _ => return None,
    };
    Some((index, address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(kind: u16, fixed: &[u8], body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        let open = writer.message(kind, 0, 1);
        writer.raw(fixed);
        body(&mut writer);
        writer.end_message(open);
        writer.bytes().to_vec()
    }

    fn link_answer(index: u32, name: &str, flags: u32, state: u8) -> Vec<u8> {
        let mut fixed = [0; LINK_BYTES];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
        answer(NEW_LINK, &fixed, |writer| {
            writer.text(LINK_NAME, name);
            writer.attribute(LINK_OPERSTATE, &[state]);
        })
    }

    fn address_answer(index: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut fixed = [0; ADDRESS_BYTES];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        answer(NEW_ADDRESS, &fixed, |writer| {
            attributes.iter().for_each(|(kind, value)| writer.attribute(*kind, value));
        })
    }

    #[test]
    fn links_carry_their_state_and_their_own_addresses() {
        let listing = [
            link_answer(1, "lo", IFF_UP, OPERSTATE_UNKNOWN),
            link_answer(2, "eth0", IFF_UP, OPERSTATE_UP),
            link_answer(3, "eth1", IFF_UP, 2),
            link_answer(4, "eth2", 0, OPERSTATE_UP),
            address_answer(2, &[(ADDRESS, &[10, 0, 0, 1])]),
            address_answer(2, &[(ADDRESS, &[10, 9, 9, 9]), (LOCAL, &[10, 0, 0, 2])]),
            address_answer(99, &[(ADDRESS, &[10, 0, 0, 3])]),
            address_answer(2, &[(ADDRESS, &[1, 2])]),
        ];
        let mut scan = Scan::default();
        messages(&listing.concat()).for_each(|message| scan.take(&message));
        let interfaces = scan.finish();
        let up: Vec<(&str, bool)> = interfaces.iter().map(|(name, link)| (&name[..], link.up)).collect();
        assert_eq!(up, [("eth0", true), ("eth1", false), ("eth2", false), ("lo", true)]);
        let addresses: Vec<String> = interfaces["eth0"].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
    }

    proptest! {
        /// Whatever the kernel says, it is taken or left out.
        #[test]
        fn garbage_is_left_out(kind in 0u16..32, payload in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut scan = Scan::default();
            scan.take(&Message { kind, flags: 0, sequence: 1, payload: &payload });
            prop_assert!(scan.finish().len() <= 1);
        }
    }
}
