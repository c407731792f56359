//! Measuring tools for `make bench`: closed-loop load, an HTTP/2 client, and etcd to compare with.
//!
//! Everything is a ratio against a peer or a limit measured in the same run, rounds interleaved, because absolute
//! figures of a shared machine say little. Nothing here judges: it prints.

pub mod disk;
pub mod etcd;
pub mod etcd_members;
pub mod failover;
pub mod h2;
pub mod load;
pub mod ours;
pub mod ours_members;
pub mod process;
pub mod side;
pub mod watching;
