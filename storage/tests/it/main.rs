//! The store from outside: scripts and their transcripts, a model, damage, snapshots.

mod compaction;
mod damage;
mod model;
mod refound;
mod requests;
mod scripts;
mod snapshots;
mod support;
mod upgrade;
mod watching;
