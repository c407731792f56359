//! The kernel's side of the bargain: what `FakeNft` and the planner promise, asked of real nf_tables.
//!
//! Every test makes its own network namespace and touches nothing outside it. They need root and nft; without them they
//! say that they were skipped, and under `CI=true` that is a failure.

mod broken_nft;
mod cases;
mod drift;
mod elements;
#[path = "../../src/render/golden_case.rs"]
mod golden_case;
mod goldens;
mod interfaces;
mod leak;
mod listing;
mod netns;
mod reconciler;
mod rulesets;
mod saved;
