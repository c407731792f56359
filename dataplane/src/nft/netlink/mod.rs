//! Netlink: what we say to nf_tables without nft, because there it is measured to matter.
//!
//! Members of sets (one into 100,000 costs milliseconds here and a second through nft), the generation id, the handles
//! of our rules, and, in `events`, who changed what. No expressions: structure goes through nft. This and `interfaces`
//! are the only code that speaks netlink. Where the socket is refused, everything still works through nft, slower.
//!
//! Calls block for as long as the kernel works on them (its answers are there when the send returns); `Kernel` runs
//! those that can take long on a blocking thread. Extended acknowledgements need a socket option that no safe interface
//! offers us; instead every message of a batch has its own number, so a refusal still names the set.

mod elements;
pub mod events;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use tokio::io::unix::AsyncFd;

pub(crate) use crate::nft::netlink::elements::SetChange;
use crate::nft::netlink::elements::{INET, SUBSYSTEM, batch};
use crate::nft::netlink::wire::{
    Message, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, Writer, be32, be64,
    messages, text,
};

const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const GET_GENERATION: u16 = SUBSYSTEM << 8 | 16;
const NEW_GENERATION: u16 = SUBSYSTEM << 8 | 15;
const GENERATION_ID: u16 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
/// In a table's flags: none of its base chains is called.
const DORMANT: u32 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;

/// The kernel answers within the call that sends; a socket that stays silent for this long will not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The kernel's listings come in pieces of up to 32 KiB; an error repeats the message it is about, up to 64 KiB.
const RECEIVE_BYTES: usize = 128 * 1_024;
/// A batch above this (some 600,000 prefixes) goes through nft, which splits nothing but does not need one buffer.
const BATCH_BYTES_MAX: usize = 48 * 1_024 * 1_024;
/// A listing disturbed this often by other writers is given up; the caller tries again later.
const DUMP_ATTEMPTS: usize = 8;
const ERESTART: i32 = 85;
const ENOENT: i32 = 2;
const EPERM: i32 = 1;

/// Why the kernel did not do what we asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// Someone committed since the generation was read; nothing was changed.
    #[error("the ruleset changed while the batch was prepared")]
    Stale,
    /// The socket may not be used; nft may still be.
    #[error("netlink refused: {0}")]
    Denied(io::Error),
    /// A table or set of the batch does not exist.
    #[error("set {0} does not exist")]
    Missing(String),
    /// The kernel refused the batch.
    #[error("set {set}: {error}")]
    Refused {
        /// The set the refused message was about.
        set: String,
        /// The errno, in words.
        error: io::Error,
    },
    /// The batch is larger than one buffer may be.
    #[error("the batch has {0} bytes")]
    TooLarge(usize),
    /// The socket failed.
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
}

/// A socket to nf_tables.
pub struct Netlink {
    socket: Mutex<Socket>,
}

struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Netlink> {
        let fd = socket(Some(netlink::NETFILTER), 0)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Netlink { socket: Mutex::new(Socket { fd, sequence: 1, buffer: vec![0; RECEIVE_BYTES] }) })
    }

    /// The ruleset's generation, which every commit by anyone changes.
    pub fn generation(&self) -> Result<u32, NetlinkError> {
        let mut generation = None;
        self.locked().ask(
            GET_GENERATION,
            0,
            0,
            |_| {},
            |answer| {
                if answer.kind == NEW_GENERATION {
                    generation = answer
                        .attributes()
                        .find(|(kind, _)| *kind == GENERATION_ID)
                        .and_then(|(_, id)| be32(id));
                }
            },
        )?;
        generation.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData).into())
    }

    /// Whether `table` is switched off, which nft 1.0.6 leaves out of its JSON. A table that is not there is not.
    pub fn dormant(&self, table: &str) -> Result<bool, NetlinkError> {
        let mut flags = 0;
        let asked = self.locked().ask(
            GET_TABLE,
            0,
            INET,
            |request| request.text(TABLE_NAME, table),
            |answer| {
                if answer.kind == NEW_TABLE {
                    flags = table_flags(&answer);
                }
            },
        );
        match asked {
            Ok(()) | Err(NetlinkError::Missing(_)) => Ok(flags & DORMANT != 0),
            Err(error) => Err(error),
        }
    }

    /// The handles of every rule of `table`, by chain, in order.
    pub fn handles(&self, table: &str) -> Result<BTreeMap<String, Vec<u64>>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut handles: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            let mut disturbed = false;
            self.locked().ask(
                GET_RULE,
                NLM_F_DUMP,
                INET,
                |request| request.text(RULE_TABLE, table),
                |answer| {
                    disturbed |= answer.flags & NLM_F_DUMP_INTR != 0;
                    if let Some((chain, handle)) = rule_handle(&answer) {
                        handles.entry(chain).or_default().push(handle);
                    }
                },
            )?;
            if !disturbed {
                return Ok(handles);
            }
        }
        Err(NetlinkError::Stale)
    }

    /// Makes all `changes` in one transaction, provided nobody commits anything after `generation`.
    pub(crate) fn change(
        &self,
        table: &str,
        changes: &[SetChange<'_>],
        generation: u32,
    ) -> Result<(), NetlinkError> {
        let mut socket = self.locked();
        let batch = batch(table, changes, generation, socket.sequence);
        if batch.bytes.len() > BATCH_BYTES_MAX {
            return Err(NetlinkError::TooLarge(batch.bytes.len()));
        }
        socket.sequence = batch.last.wrapping_add(1);
        socket.send(&batch.bytes)?;
        let mut refused = None;
        loop {
            let answered = socket.receive(|answer| {
                let Some(errno) = answer.errno().filter(|_| answer.kind == NLMSG_ERROR) else { return false };
                if errno != 0 && refused.is_none() && (batch.first..=batch.last).contains(&answer.sequence) {
                    let set = answer
                        .sequence
                        .checked_sub(batch.first + 1)
                        .and_then(|at| batch.sets.get(at as usize));
                    refused = Some((errno, set.cloned().unwrap_or_default()));
                }
                answer.sequence == batch.last || answer.sequence == batch.first
            })?;
            if answered {
                return refused.map_or(Ok(()), |(errno, set)| Err(classify(errno, set)));
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Socket> {
        // A panic while the lock was held can only have left answers unread; their sequence numbers tell.
        self.socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn classify(errno: i32, set: String) -> NetlinkError {
    match errno {
        ERESTART => NetlinkError::Stale,
        EPERM => NetlinkError::Denied(io::Error::from_raw_os_error(errno)),
        ENOENT => NetlinkError::Missing(set),
        errno => NetlinkError::Refused { set, error: io::Error::from_raw_os_error(errno) },
    }
}

fn table_flags(message: &Message<'_>) -> u32 {
    let flags =
        message.attributes().find(|(kind, _)| *kind == TABLE_FLAGS).and_then(|(_, flags)| be32(flags));
    flags.unwrap_or_default()
}

fn rule_handle(answer: &Message<'_>) -> Option<(String, u64)> {
    if answer.kind != NEW_RULE {
        return None;
    }
    let find = |wanted| answer.attributes().find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    Some((text(find(RULE_CHAIN)?), be64(find(RULE_HANDLE)?)?))
}

/// A netlink socket in the network namespace of the calling thread, listening to `groups`.
pub(crate) fn socket(protocol: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | if groups == 0 { SocketFlags::empty() } else { SocketFlags::NONBLOCK };
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
    Ok(fd)
}

impl Socket {
    /// Sends one request and shows `each` every answer to it.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), NetlinkError> {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let mut request = Writer::default();
        let message = request.message(kind, NLM_F_REQUEST | flags, sequence);
        request.nfgen(family, 0);
        body(&mut request);
        request.end_message(message);
        self.send(request.bytes())?;
        let mut failed = None;
        let listing = flags & NLM_F_DUMP != 0;
        while !self.receive(|answer| {
            if answer.sequence != sequence {
                return false;
            }
            match answer.kind {
                NLMSG_ERROR => failed = answer.errno().filter(|errno| *errno != 0),
                NLMSG_DONE => {}
                _ => each(answer),
            }
            !listing || matches!(answer.kind, NLMSG_ERROR | NLMSG_DONE)
        })? {}
        failed.map_or(Ok(()), |errno| Err(classify(errno, String::new())))
    }

    /// One call: the kernel reads a batch only if it arrives whole, so the buffer must be large enough for it.
    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        // Twice, for the kernel counts its own overhead against the buffer.
        let wanted = bytes.len() * 2;
        if sockopt::socket_send_buffer_size(&self.fd).map_err(io::Error::from)? < wanted {
            sockopt::set_socket_send_buffer_size_force(&self.fd, wanted)
                .map_err(|errno| NetlinkError::Denied(errno.into()))?;
        }
        let sent = rustix::net::send(&self.fd, bytes, SendFlags::empty()).map_err(io::Error::from)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero).into()) }
    }

    /// Shows `each` the messages of one datagram until it says that the last answer was there. Datagrams that are not
    /// from the kernel are thrown away: any process may send to our port.
    fn receive(&mut self, mut each: impl FnMut(Message<'_>) -> bool) -> io::Result<bool> {
        let (_, length, from) = rustix::net::recvfrom(&self.fd, &mut self.buffer[..], RecvFlags::empty())?;
        if !from_kernel(from.as_ref()) {
            return Ok(false);
        }
        let received = self.buffer.get(..length).unwrap_or(&self.buffer);
        let mut done = false;
        for message in messages(received) {
            done |= each(message);
        }
        Ok(done)
    }
}

/// Makes a socket something a task can wait for.
#[expect(
    deprecated,
    reason = "the successor is unsafe; what it asks for, that nobody closes the socket, its owner keeps"
)]
pub(crate) fn readiness(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// Whether a datagram came from the kernel.
pub(crate) fn from_kernel(from: Option<&rustix::net::SocketAddrAny>) -> bool {
    from.and_then(|from| SocketAddrNetlink::try_from(from.clone()).ok()).is_some_and(|from| from.pid() == 0)
}
