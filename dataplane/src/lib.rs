//! The dataplane: from resources to packets. (The essay follows.)

pub mod calc;
pub mod interfaces;
pub mod nft;
pub mod render;
