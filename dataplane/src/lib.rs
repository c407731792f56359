//! The dataplane: from resources to packets. (The essay follows.)

pub mod calc;
mod enforcer;
pub mod error;
pub mod interfaces;
pub mod nft;
mod offenders;
pub mod reconciler;
pub mod render;
pub mod report;
pub mod saved;

pub use calc::Update;
pub use error::StartError;
pub use nft::{NftVersion, ProbeError, probe};
pub use reconciler::{Input, Options, Reconciler};
pub use render::{Marks, Protected};
pub use report::Report;
