//! The end-to-end tests' tools: hosts in network namespaces, real `appliance` processes, real packets.
//!
//! A test reads as facts: a [`netns::Lan`] of hosts, a [`node::Node`] running on one of them, manifests applied with
//! [`ctl`], and [`packets`] that arrive or do not. Nothing here touches the root namespace's firewall, and all that is
//! made is unmade on drop. The demo and the benchmarks are built from the same tools.
//!
//! What the tools refuse to do: sleep for a guessed time (use [`eventually`]), or skip silently. A machine
//! without root, `nft` or `ip` makes [`prerequisites::check`] panic, because a test that did not run has not passed.

pub mod api;
pub mod bench;
pub mod chaos;
pub mod cluster;
pub mod ctl;
pub mod dice;
pub mod eventually;
pub mod history;
pub mod netem;
pub mod netns;
pub mod node;
pub mod over;
pub mod packets;
pub mod prerequisites;
pub mod sets;
pub mod slow_disk;
pub mod tmpfs;
