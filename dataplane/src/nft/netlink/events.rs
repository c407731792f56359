//! Events: who committed what to nf_tables, as the kernel tells everyone.
//!
//! A commit is announced as one message for each object and, last, the generation it made, with the process that made
//! it. What concerns our table is summed up in words for the report; what concerns others is only counted as a
//! generation. When the kernel could not keep up telling us, all we know is that something happened: `Overrun`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, netlink, sockopt};
use tokio::io::unix::AsyncFd;

use crate::nft::netlink::elements::{INET, SUBSYSTEM};
use crate::nft::netlink::wire::{Message, be32, messages, text};
use crate::nft::netlink::{DORMANT, RECEIVE_BYTES, from_kernel, readiness, socket, table_flags};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// Loading 100,000 prefixes sends 200,000 messages of some 100 bytes; what does not fit is told as an overrun.
const BUFFER_BYTES: usize = 16 * 1_024 * 1_024;
/// Datagrams read without waiting; who writes faster than this is read from keeps nobody else waiting.
const DRAIN_MAX: usize = 10_000;
/// Changes of one commit that are named in the report.
const NAMED_MAX: usize = 3;
/// In every message about a table's objects: the table.
const TABLE: u16 = 1;
/// In messages about chains, rules, sets and elements: the chain or set.
const NAME: u16 = 2;
const SET_NAME: u16 = 2;
const CHAIN_NAME: u16 = 3;
const GENERATION_ID: u16 = 1;
const GENERATION_PID: u16 = 2;
const GENERATION_PROCESS: u16 = 3;
const NEW_GENERATION: u8 = 15;

/// Something happened to nf_tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Someone committed.
    Commit(Commit),
    /// Something was missed.
    Overrun,
}

/// One commit by someone, perhaps us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The generation it made.
    pub generation: u32,
    /// What it did to our table, in words; empty when it did nothing to it.
    pub ours: String,
    /// The process that made it, as the kernel names it: `nft (pid 4711)`.
    pub process: String,
}

/// Listens for commits.
pub struct Events {
    socket: AsyncFd<OwnedFd>,
    table: String,
    buffer: Vec<u8>,
    reader: Reader,
}

/// Sums up the messages of one commit after the other.
#[derive(Default)]
struct Reader {
    ready: Vec<Event>,
    changes: Vec<String>,
    unnamed: usize,
}

impl Events {
    /// Listens in the network namespace of the calling thread for what concerns `table`.
    pub fn listen(table: &str) -> io::Result<Events> {
        let fd = socket(Some(netlink::NETFILTER), GROUP)?;
        // Without the privilege the system's limit applies, and overruns come sooner.
        if sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER_BYTES).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&fd, BUFFER_BYTES);
        }
        let buffer = vec![0; RECEIVE_BYTES];
        Ok(Events { socket: readiness(fd)?, table: table.to_owned(), buffer, reader: Reader::default() })
    }

    /// The next events, at least one. Cancel-safe: what was read is kept.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        loop {
            let ready = self.take();
            if !ready.is_empty() {
                return Ok(ready);
            }
            let mut guard = self.socket.readable().await?;
            let read = |socket: &AsyncFd<OwnedFd>| {
                Ok(rustix::net::recvfrom(socket, &mut self.buffer[..], RecvFlags::empty())?)
            };
            match guard.try_io(read) {
                Ok(Ok((_, length, from))) if from_kernel(from.as_ref()) => {
                    self.reader.datagram(&self.table, self.buffer.get(..length).unwrap_or(&self.buffer));
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) if is_overrun(&error) => self.reader.overrun(),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// What has already arrived, without waiting.
    pub fn drain(&mut self) -> Vec<Event> {
        for _ in 0..DRAIN_MAX {
            match rustix::net::recvfrom(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, length, from)) if from_kernel(from.as_ref()) => {
                    self.reader.datagram(&self.table, self.buffer.get(..length).unwrap_or(&self.buffer));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::NOBUFS) => self.reader.overrun(),
                // Nothing waits; or the socket is broken, which whoever waits for it will be told.
                Err(_) => break,
            }
        }
        self.take()
    }

    fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.reader.ready)
    }
}

impl Reader {
    fn overrun(&mut self) {
        *self = Reader { ready: std::mem::take(&mut self.ready), ..Reader::default() };
        self.ready.push(Event::Overrun);
    }

    fn datagram(&mut self, table: &str, bytes: &[u8]) {
        for message in messages(bytes).filter(|message| message.kind >> 8 == SUBSYSTEM) {
            if message.kind as u8 == NEW_GENERATION {
                let event = self.commit(&message);
                self.ready.extend(event);
            } else if is_about(&message, table) {
                self.change(&message);
            }
        }
    }

    fn change(&mut self, message: &Message<'_>) {
        let change = describe(message);
        if self.changes.contains(&change) {
            return;
        }
        if self.changes.len() < NAMED_MAX { self.changes.push(change) } else { self.unnamed += 1 }
    }

    fn commit(&mut self, message: &Message<'_>) -> Option<Event> {
        let generation = be32(find(message, GENERATION_ID)?)?;
        let name = find(message, GENERATION_PROCESS).map(text).unwrap_or_default();
        let pid = find(message, GENERATION_PID).and_then(be32).unwrap_or_default();
        let mut ours = std::mem::take(&mut self.changes).join(", ");
        if std::mem::take(&mut self.unnamed) > 0 {
            ours.push_str(" and more");
        }
        Some(Event::Commit(Commit { generation, ours, process: format!("{name} (pid {pid})") }))
    }
}

/// Tables of other families may have the same name.
fn is_about(message: &Message<'_>, table: &str) -> bool {
    message.payload.first() == Some(&INET) && find(message, TABLE).map(text).as_deref() == Some(table)
}

fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

fn find<'a>(message: &Message<'a>, wanted: u16) -> Option<&'a [u8]> {
    message.attributes().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// One change in words: `added rule to chain input`.
fn describe(message: &Message<'_>) -> String {
    let named = |kind| find(message, kind).map(text).unwrap_or_default();
    match message.kind as u8 {
        0 if table_flags(message) & DORMANT != 0 => "switched the table off".to_owned(),
        0 => "added the table".to_owned(),
        2 => "deleted the table".to_owned(),
        3 => format!("added chain {}", named(CHAIN_NAME)),
        5 => format!("deleted chain {}", named(CHAIN_NAME)),
        6 => format!("added rule to chain {}", named(NAME)),
        8 => format!("deleted rule from chain {}", named(NAME)),
        9 => format!("added set {}", named(SET_NAME)),
        11 => format!("deleted set {}", named(SET_NAME)),
        12 => format!("added elements to set {}", named(SET_NAME)),
        14 => format!("deleted elements from set {}", named(SET_NAME)),
        18 | 22 => format!("added object {}", named(NAME)),
        20 | 24 => format!("deleted object {}", named(NAME)),
        other => format!("message {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::netlink::wire::Writer;

    fn message(kind: u16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        let open = writer.message(SUBSYSTEM << 8 | kind, 0, 0);
        writer.nfgen(1, 0);
        body(&mut writer);
        writer.end_message(open);
        writer.bytes().to_vec()
    }

    fn rule(table: &str) -> Vec<u8> {
        message(6, |writer| {
            writer.text(TABLE, table);
            writer.text(NAME, "input");
        })
    }

    fn generation(generation: u32) -> Vec<u8> {
        message(u16::from(NEW_GENERATION), |writer| {
            writer.attribute(GENERATION_ID, &generation.to_be_bytes());
            writer.attribute(GENERATION_PID, &4711u32.to_be_bytes());
            writer.text(GENERATION_PROCESS, "nft");
        })
    }

    #[test]
    fn a_commit_says_what_it_did_to_our_table_and_who_it_was() {
        let mut reader = Reader::default();
        reader.datagram("t", &[rule("t"), rule("t"), rule("other")].concat());
        assert_eq!(reader.ready, [], "the commit is not over");
        reader.datagram("t", &[generation(7), rule("other"), generation(8)].concat());
        let commit = |generation, ours: &str| {
            Event::Commit(Commit { generation, ours: ours.into(), process: "nft (pid 4711)".into() })
        };
        assert_eq!(reader.ready, [commit(7, "added rule to chain input"), commit(8, "")]);
    }

    #[test]
    fn a_table_switched_off_is_called_so_and_another_family_is_not_ours() {
        let table = |flags: u32| {
            message(0, |writer| {
                writer.text(TABLE, "t");
                writer.attribute(2, &flags.to_be_bytes());
            })
        };
        let mut other_family = rule("t");
        other_family[16] = 2;
        let mut reader = Reader::default();
        reader.datagram("t", &[table(1), generation(1), table(0), generation(2)].concat());
        reader.datagram("t", &[other_family, generation(3)].concat());
        let ours = reader.ready.iter().map(|event| match event {
            Event::Commit(commit) => &commit.ours[..],
            Event::Overrun => "overrun",
        });
        assert_eq!(ours.collect::<Vec<_>>(), ["switched the table off", "added the table", ""]);
    }

    #[test]
    fn after_an_overrun_half_a_commit_is_not_taken_for_a_whole_one() {
        let mut reader = Reader::default();
        reader.datagram("t", &rule("t"));
        reader.overrun();
        reader.datagram("t", &generation(9));
        assert!(
            matches!(&reader.ready[..], [Event::Overrun, Event::Commit(commit)] if commit.ours.is_empty())
        );
    }
}
