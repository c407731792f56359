//! Who is asking, and what they may do. Pure.
//!
//! The listeners of [`crate::server`] say who a caller is (a certificate, a token, the uid behind a Unix socket); this
//! file alone says what that allows. It keeps what an identity was proven by, for [`super::authenticate`] to look at it
//! once more, and makes nothing of it.

use appliance_resources::Kind;
use appliance_storage::Author;
use time::OffsetDateTime;

use super::request::{Scope, Verb};
use crate::cluster::token::BearerToken;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nobody we know. Gets health and nothing else.
    Anonymous,
    /// An authenticated user.
    User { name: String, role: Role },
}

/// What a user is allowed to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Does everything.
    Admin,
    /// Reads everything and writes policy.
    Operator,
    /// Reads everything.
    Viewer,
    /// The node of that name: its own Node and NodeReport, nothing else.
    Node(String),
}

impl Role {
    /// The group that a certificate or a review names the role by.
    pub(crate) fn group(&self) -> &'static str {
        match self {
            Role::Admin => "appliance:admin",
            Role::Operator => "appliance:operator",
            Role::Viewer => "appliance:viewer",
            Role::Node(_) => "appliance:node",
        }
    }
}

/// What an identity was proven by, and so how long it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The kernel's word, or nothing at all: as long as the connection.
    Connection,
    /// A certificate, until it ends.
    Certificate {
        /// When.
        ends: OffsetDateTime,
    },
    /// A bearer token, until it ends or is revoked.
    Token(BearerToken),
}

/// An identity and where it speaks from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// An address, or `unix:<uid>`; kept with every revision the caller makes.
    pub(crate) address: String,
    /// The URI of the member whose certificate this is, if it is a member's.
    pub(crate) member: Option<String>,
    /// What says so.
    pub(crate) proof: Proof,
}

impl Caller {
    /// The authenticated name, as messages and revisions show it.
    pub(crate) fn name(&self) -> &str {
        match &self.identity {
            Identity::Anonymous => "system:anonymous",
            Identity::User { name, .. } => name,
        }
    }

    /// The caller as author of a revision written now.
    pub(crate) fn author(&self, reason: &str, now: OffsetDateTime) -> Author {
        Author {
            name: self.name().to_owned(),
            source: self.address.clone(),
            reason: reason.to_owned(),
            // Before 1970 no clock of ours can be right; zero is as honest as any other number.
            time: u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0),
            request: None,
        }
    }

    /// The role, if the caller is anyone.
    pub(crate) fn role(&self) -> Option<&Role> {
        match &self.identity {
            Identity::Anonymous => None,
            Identity::User { role, .. } => Some(role),
        }
    }
}

/// What an operator writes. The rest is the machine's own: settings, members, reports.
pub(crate) const POLICY_KINDS: [Kind; 6] = [
    Kind::HostEndpoint,
    Kind::WorkloadEndpoint,
    Kind::GlobalNetworkPolicy,
    Kind::Profile,
    Kind::Tier,
    Kind::GlobalNetworkSet,
];

/// What a node writes about itself.
pub(crate) const NODE_KINDS: [Kind; 2] = [Kind::Node, Kind::NodeReport];

/// How.
pub(crate) const NODE_VERBS: [Verb; 4] = [Verb::Create, Verb::Get, Verb::Patch, Verb::Update];

/// Whether a role may do this. A node names what it asks for, so it gets and never lists; and it deletes nothing,
/// for with a Node go its endpoints, and with them its firewall.
pub(crate) fn allows(role: &Role, verb: Verb, scope: &Scope) -> bool {
    match role {
        Role::Admin => true,
        Role::Operator => verb.reads() || POLICY_KINDS.contains(&scope.kind),
        Role::Viewer => verb.reads(),
        Role::Node(node) => {
            let named_so = match verb {
                // The name of a create stands in the body; the create verb asks again once it is read.
                Verb::Create => scope.name.as_deref().is_none_or(|name| name == node),
                _ => scope.name.as_deref() == Some(node),
            };
            NODE_VERBS.contains(&verb) && NODE_KINDS.contains(&scope.kind) && named_so
        }
    }
}

/// The words after `is forbidden: ` when a caller may not do this.
pub(crate) fn refusal(caller: &Caller, verb: Verb, scope: &Scope) -> String {
    let place = match &scope.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    format!(
        "User {:?} cannot {} resource {:?} in API group {:?} {place}",
        caller.name(),
        verb.name(),
        scope.kind.plural(),
        scope.kind.group()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(role: &Role, verb: Verb, kind: Kind, name: Option<&str>) -> bool {
        allows(role, verb, &Scope { kind, namespace: None, name: name.map(str::to_owned) })
    }

    #[test]
    fn each_role_does_what_the_product_promises() {
        let node = Role::Node("n1".into());
        for (role, verb, kind, name, expected) in [
            (&Role::Admin, Verb::Delete, Kind::FelixConfiguration, Some("default"), true),
            (&Role::Operator, Verb::Create, Kind::HostEndpoint, None, true),
            (&Role::Operator, Verb::DeleteCollection, Kind::GlobalNetworkPolicy, None, true),
            (&Role::Operator, Verb::List, Kind::FelixConfiguration, None, true),
            (&Role::Operator, Verb::Patch, Kind::FelixConfiguration, Some("default"), false),
            (&Role::Operator, Verb::Update, Kind::Node, Some("n1"), false),
            (&Role::Operator, Verb::Update, Kind::NodeReport, Some("n1"), false),
            (&Role::Viewer, Verb::Watch, Kind::HostEndpoint, None, true),
            (&Role::Viewer, Verb::Create, Kind::HostEndpoint, None, false),
            (&Role::Viewer, Verb::DeleteCollection, Kind::HostEndpoint, None, false),
            (&node, Verb::Update, Kind::NodeReport, Some("n1"), true),
            (&node, Verb::Create, Kind::Node, None, true),
            (&node, Verb::Get, Kind::Node, Some("n1"), true),
            (&node, Verb::Update, Kind::NodeReport, Some("n2"), false),
            (&node, Verb::Create, Kind::NodeReport, Some("n2"), false),
            (&node, Verb::List, Kind::NodeReport, None, false),
            (&node, Verb::Delete, Kind::Node, Some("n1"), false),
            (&node, Verb::Get, Kind::GlobalNetworkPolicy, Some("n1"), false),
        ] {
            assert_eq!(check(role, verb, kind, name), expected, "{role:?} {verb:?} {kind:?} {name:?}");
        }
    }

    #[test]
    fn a_refusal_says_who_wanted_what_where() {
        let caller = Caller {
            identity: Identity::User { name: "eve".into(), role: Role::Viewer },
            address: "192.0.2.1".into(),
            member: None,
            proof: Proof::Connection,
        };
        let scope = Scope { kind: Kind::Tier, namespace: None, name: Some("x".into()) };
        assert_eq!(
            refusal(&caller, Verb::Delete, &scope),
            "User \"eve\" cannot delete resource \"tiers\" in API group \"projectcalico.org\" at the cluster scope"
        );
    }
}
