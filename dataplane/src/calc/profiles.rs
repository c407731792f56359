//! Profiles: every profile prepared once, by name.
//!
//! `projectcalico-default-allow` exists whether or not the store has it: Calico's clients take it for granted, and its
//! absence would deny every automatic endpoint.

use std::collections::BTreeMap;

use appliance_resources::{Action, Profile, Rule};

use crate::calc::active_policies::{Prepared, prepare_profile};
use crate::calc::desired::ProfileRef;

/// The built-in profile that allows everything.
pub(crate) const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// The profiles that exist.
#[derive(Clone, Debug)]
pub(crate) struct Profiles {
    prepared: BTreeMap<String, Prepared>,
}

impl Default for Profiles {
    fn default() -> Profiles {
        let mut profiles = Profiles { prepared: BTreeMap::new() };
        profiles.set(DEFAULT_ALLOW, None);
        profiles
    }
}

impl Profiles {
    /// Takes in a profile or its absence.
    pub(crate) fn set(&mut self, name: &str, profile: Option<&Profile>) {
        let prepared = match profile {
            Some(profile) => prepare_profile(profile),
            None if name == DEFAULT_ALLOW => prepare_profile(&default_allow()),
            None => {
                self.prepared.remove(name);
                return;
            }
        };
        self.prepared.insert(name.to_owned(), prepared);
    }

    /// A profile that can be used.
    pub(crate) fn get(&self, name: &str) -> Option<&Prepared> {
        self.prepared.get(name).filter(|prepared| prepared.problem().is_none())
    }

    /// How an endpoint that lists `name` refers to it.
    pub(crate) fn reference(&self, name: &str) -> ProfileRef {
        match self.get(name) {
            Some(_) => ProfileRef::Present(name.to_owned()),
            None => ProfileRef::Missing(name.to_owned()),
        }
    }

    /// Why an existing profile can not be used.
    pub(crate) fn problem(&self, name: &str) -> Option<&str> {
        self.prepared.get(name)?.problem()
    }
}

fn default_allow() -> Profile {
    let mut profile = Profile::default();
    profile.metadata.name = DEFAULT_ALLOW.to_owned();
    profile.spec.ingress = vec![Rule::new(Action::Allow)];
    profile.spec.egress = vec![Rule::new(Action::Allow)];
    profile
}
