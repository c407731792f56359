//! Offenders: when the kernel refuses a ruleset, which endpoints are to blame.
//!
//! The kernel does not say which rule it means, so it is asked (`nft -c`, which changes nothing) about rulesets in which
//! only some endpoints keep their policy and the others deny everything, failsafes aside. Halving finds one offender
//! among hundreds in some ten questions. Offenders stay denied until their policy changes; everyone else is enforced as
//! written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::calc::desired::Endpoint;
use crate::calc::{Desired, Structure};
use crate::enforcer::Enforcer;
use crate::nft::{Nft, NftError, Ruleset};
use crate::render::{RenderOptions, render};

/// A ruleset the kernel takes.
pub(crate) struct Found {
    /// The structure with the offenders denied.
    pub(crate) structure: Arc<Structure>,
    /// What it renders to.
    pub(crate) ruleset: Ruleset,
    /// The offenders, and what the kernel said about each.
    pub(crate) denied: BTreeMap<String, String>,
}

/// Denies whoever is to blame; none if the kernel would refuse the ruleset even with everyone denied, or can not be
/// asked.
pub(crate) async fn deny<N: Nft>(
    enforcer: &mut Enforcer<N>,
    desired: &Desired,
    options: &RenderOptions,
) -> Option<Found> {
    let everyone: Vec<&str> = desired.structure.endpoints.keys().map(String::as_str).collect();
    let with_policy = |some: &[&str]| {
        let others = everyone.iter().copied().filter(|name| !some.contains(name)).collect();
        without(desired, &others)
    };
    enforcer.check(&render(&with_policy(&[]), options)).await.ok()?;
    let mut denied = BTreeMap::new();
    let mut groups = vec![everyone.clone()];
    while let Some(group) = groups.pop() {
        match enforcer.check(&render(&with_policy(&group), options)).await {
            Ok(()) => {}
            Err(NftError::Refused(reason) | NftError::Stale(reason)) => match &group[..] {
                [one] => {
                    denied.insert((*one).to_owned(), reason);
                }
                several => {
                    let (left, right) = several.split_at(several.len() / 2);
                    groups.extend([left.to_vec(), right.to_vec()]);
                }
            },
            Err(NftError::Unavailable(_) | NftError::Interrupted(_)) => return None,
        }
    }
    let desired = without(desired, &denied.keys().map(String::as_str).collect());
    Some(Found { ruleset: render(&desired, options), structure: desired.structure, denied })
}

/// `desired` with these endpoints denied.
fn without(desired: &Desired, denied: &BTreeSet<&str>) -> Desired {
    let mut structure = Structure::clone(&desired.structure);
    for (_, endpoint) in structure.endpoints.iter_mut().filter(|(name, _)| denied.contains(&name[..])) {
        *endpoint = Endpoint::Denied;
    }
    Desired { structure: Arc::new(structure), ..desired.clone() }
}
