//! The switch: reads packets off one socket, looks at the rules of their link, and writes them back when it is time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Link, VXLAN, WIRE, packet};
use crate::dice::Dice;

/// How long the switch waits for a packet before it looks whether it should stop.
const BREATH: Duration = Duration::from_millis(20);

/// Packets on their way at once; the queue of a real link is no longer, and what comes beyond it is lost.
const QUEUE_MAX: usize = 8_192;

/// How far ahead a link with a rate may be busy: what does not fit is lost, as in a router's queue.
const BUSY_MAX: Duration = Duration::from_millis(500);

/// The part of a switch that its owner sees.
pub(super) struct Switch {
    rules: Mutex<Rules>,
    stop: AtomicBool,
    passed: AtomicU64,
    lost: AtomicU64,
}

#[derive(Default)]
struct Rules {
    ports: BTreeSet<u8>,
    links: BTreeMap<(u8, u8), Link>,
}

impl Switch {
    /// Serves `socket` on a thread until dropped.
    pub(super) fn start(socket: UdpSocket, seed: u64) -> Arc<Switch> {
        let switch = Arc::new(Switch {
            rules: Mutex::default(),
            stop: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let forwarder = Forwarder {
            switch: Arc::clone(&switch),
            socket,
            dice: Dice::new(seed),
            learned: BTreeMap::new(),
            waiting: BinaryHeap::new(),
            busy: BTreeMap::new(),
            number: 0,
        };
        thread::spawn(move || forwarder.run());
        switch
    }

    pub(super) fn plug(&self, port: u8) {
        self.rules.lock().expect("the rules").ports.insert(port);
    }

    pub(super) fn set(&self, from: u8, to: u8, link: Link) {
        self.rules.lock().expect("the rules").links.insert((from, to), link);
    }

    pub(super) fn heal(&self) {
        self.rules.lock().expect("the rules").links.clear();
    }

    pub(super) fn counted(&self) -> (u64, u64) {
        (self.passed.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A packet that waits for its time; the earliest first, and of two at once the one that came first.
type Waiting = Reverse<(Instant, u64, Vec<u8>)>;

struct Forwarder {
    switch: Arc<Switch>,
    socket: UdpSocket,
    dice: Dice,
    learned: BTreeMap<[u8; 6], u8>,
    waiting: BinaryHeap<Waiting>,
    /// Until when a link with a rate is busy.
    busy: BTreeMap<(u8, u8), Instant>,
    number: u64,
}

impl Forwarder {
    fn run(mut self) {
        let mut buffer = vec![0; 10_000];
        while !self.switch.stop.load(Ordering::Relaxed) {
            let next =
                self.waiting.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
            // A time limit of zero would mean none.
            let patience = next.unwrap_or(BREATH).clamp(Duration::from_micros(50), BREATH);
            let _ = self.socket.set_read_timeout(Some(patience));
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.received(&mut buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                // What a host that has gone answers to our last packet.
                Err(_) => {}
            }
            self.deliver();
        }
    }

    fn received(&mut self, packet: &mut [u8]) {
        let (Some(from), Some((to, sender))) = (packet::port(packet), packet::addresses(packet)) else {
            return;
        };
        self.learned.insert(sender, from);
        let _ = packet::finish(packet);
        let links: Vec<(u8, Link)> = {
            let rules = self.switch.rules.lock().expect("the rules");
            let known = self.learned.get(&to).filter(|_| to[0] & 1 == 0);
            let ports =
                rules.ports.iter().filter(|port| **port != from && known.is_none_or(|to| to == *port));
            ports.map(|to| (*to, rules.links.get(&(from, *to)).copied().unwrap_or_default())).collect()
        };
        for (to, link) in links {
            self.send(from, to, link, packet);
        }
    }

    fn send(&mut self, from: u8, to: u8, link: Link, packet: &mut [u8]) {
        if link.cut || self.dice.percent(link.loss) {
            self.switch.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let copies = if self.dice.percent(link.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let Some(at) = self.due((from, to), link, packet.len()) else {
                self.switch.lost.fetch_add(1, Ordering::Relaxed);
                return;
            };
            self.number += 1;
            let mut copy = packet.to_vec();
            packet::leave_by(&mut copy, to);
            self.waiting.push(Reverse((at, self.number, copy)));
        }
    }

    /// When a packet arrives; nothing when there is no room for it.
    fn due(&mut self, link: (u8, u8), rules: Link, bytes: usize) -> Option<Instant> {
        if self.waiting.len() >= QUEUE_MAX {
            return None;
        }
        let now = Instant::now();
        let jitter = u64::try_from(rules.jitter.as_micros()).unwrap_or(u64::MAX);
        let late = Duration::from_micros(if jitter == 0 { 0 } else { self.dice.below(jitter) });
        let mut start = now;
        if let Some(rate) = rules.rate {
            let busy = self.busy.get(&link).copied().unwrap_or(now).max(now);
            if busy > now + BUSY_MAX {
                return None;
            }
            start = busy + Duration::from_secs_f64(bytes as f64 / f64::from(rate.max(1)));
            self.busy.insert(link, start);
        }
        Some(start + rules.delay + late)
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        while self.waiting.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, packet))) = self.waiting.pop() else { return };
            if self.socket.send_to(&packet, (WIRE, VXLAN)).is_ok() {
                self.switch.passed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
