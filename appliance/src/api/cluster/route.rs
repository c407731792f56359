//! What a request below `/cluster/` asks for, and what a caller must be to ask it. Pure.
//!
//! The table of paths is here and nowhere else; [`super`] sends each to its handler. It refuses to look at bodies.

use http::Method;

use crate::api::caller::{Identity, Role};
use crate::api::request::{Unroutable, segment};

/// Where everything about the cluster itself is asked for.
pub(crate) const ROOT: &str = "/cluster/";

/// One question or order about the cluster itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterTarget {
    /// Who the members are and how they do.
    Status,
    /// A new node asks to become a member, or a member to be given a fresh copy.
    Join,
    ListTokens,
    CreateToken,
    /// Of this id.
    RevokeToken(String),
    /// This member, by id or name.
    Promote(String),
    /// This member, by id or name.
    Demote(String),
    /// This member, by id or name.
    Remove(String),
    TransferLeadership,
    Snapshot,
    /// How the certificate authority stands.
    Authority,
    RotateAuthority,
    ListCredentials,
    CreateCredential,
    /// Of this id.
    RevokeCredential(String),
    /// Go on without the members that are lost.
    Recover,
    /// Drop this member's copy and fetch a fresh one.
    Reseed,
}

/// What a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nobody in particular: what the request carries proves itself.
    Anyone,
    /// Anybody who may read everything; and nodes, which are told no more than they need.
    Reader,
    /// An administrator.
    Admin,
}

impl ClusterTarget {
    /// What a caller must be to ask this.
    pub(crate) fn access(&self) -> Access {
        match self {
            ClusterTarget::Join => Access::Anyone,
            ClusterTarget::Status => Access::Reader,
            _ => Access::Admin,
        }
    }

    /// The word that refusals and metrics use.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            ClusterTarget::Status
            | ClusterTarget::ListTokens
            | ClusterTarget::Snapshot
            | ClusterTarget::Authority
            | ClusterTarget::ListCredentials => "get",
            ClusterTarget::RevokeToken(_) | ClusterTarget::Remove(_) | ClusterTarget::RevokeCredential(_) => {
                "delete"
            }
            _ => "create",
        }
    }
}

/// Whether somebody may ask for something. A node's certificate opens nothing here but [`ClusterTarget::Join`] and whether
/// there is a quorum.
pub(crate) fn allows(identity: &Identity, target: &ClusterTarget) -> bool {
    let role = match identity {
        Identity::Anonymous => None,
        Identity::User { role, .. } => Some(role),
    };
    matches!(
        (target.access(), role),
        (Access::Anyone, _)
            | (Access::Reader, Some(Role::Admin | Role::Operator | Role::Viewer | Role::Node(_)))
            | (Access::Admin, Some(Role::Admin))
    )
}

/// The words of the refusal to whoever may not.
pub(crate) fn refusal(user: &str, target: &ClusterTarget, path: &str) -> String {
    format!("User {user:?} cannot {} path {path:?}", target.verb())
}

/// Reads method and path; `rest` is what follows [`ROOT`].
pub(crate) fn parse(method: &Method, rest: &str) -> Result<ClusterTarget, Unroutable> {
    use ClusterTarget::*;
    let segments: Vec<&str> = rest.split('/').collect();
    let method = method.as_str();
    let one = |wanted: &str, target: ClusterTarget| match method == wanted {
        true => Ok(target),
        false => Err(Unroutable::MethodNotAllowed),
    };
    match segments[..] {
        ["status"] => one("GET", Status),
        ["join"] => one("POST", Join),
        ["tokens"] => two(method, ListTokens, CreateToken),
        ["tokens", id] => one("DELETE", RevokeToken(segment(id)?)),
        ["members", member] => one("DELETE", Remove(segment(member)?)),
        ["members", member, "promote"] => one("POST", Promote(segment(member)?)),
        ["members", member, "demote"] => one("POST", Demote(segment(member)?)),
        ["leader"] => one("POST", TransferLeadership),
        ["snapshot"] => one("GET", Snapshot),
        ["ca"] => one("GET", Authority),
        ["ca", "rotate"] => one("POST", RotateAuthority),
        ["credentials"] => two(method, ListCredentials, CreateCredential),
        ["credentials", id] => one("DELETE", RevokeCredential(segment(id)?)),
        ["recover"] => one("POST", Recover),
        ["reseed"] => one("POST", Reseed),
        _ => Err(Unroutable::NotFound),
    }
}

/// A collection: read with GET, added to with POST.
fn two(method: &str, list: ClusterTarget, create: ClusterTarget) -> Result<ClusterTarget, Unroutable> {
    match method {
        "GET" => Ok(list),
        "POST" => Ok(create),
        _ => Err(Unroutable::MethodNotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, rest: &str) -> Result<ClusterTarget, Unroutable> {
        parse(&Method::from_bytes(method.as_bytes()).expect("method"), rest)
    }

    fn user(role: Role) -> Identity {
        Identity::User { name: "u".to_owned(), role }
    }

    #[test]
    fn every_path_of_the_table_has_its_method_and_no_other() {
        for (method, rest, expected) in [
            ("GET", "status", ClusterTarget::Status),
            ("POST", "join", ClusterTarget::Join),
            ("GET", "tokens", ClusterTarget::ListTokens),
            ("POST", "tokens", ClusterTarget::CreateToken),
            ("DELETE", "tokens/a", ClusterTarget::RevokeToken("a".to_owned())),
            ("POST", "members/n%2D1/promote", ClusterTarget::Promote("n-1".to_owned())),
            ("POST", "members/n/demote", ClusterTarget::Demote("n".to_owned())),
            ("DELETE", "members/n", ClusterTarget::Remove("n".to_owned())),
            ("POST", "leader", ClusterTarget::TransferLeadership),
            ("GET", "snapshot", ClusterTarget::Snapshot),
            ("GET", "ca", ClusterTarget::Authority),
            ("POST", "ca/rotate", ClusterTarget::RotateAuthority),
            ("GET", "credentials", ClusterTarget::ListCredentials),
            ("POST", "credentials", ClusterTarget::CreateCredential),
            ("DELETE", "credentials/a", ClusterTarget::RevokeCredential("a".to_owned())),
            ("POST", "recover", ClusterTarget::Recover),
            ("POST", "reseed", ClusterTarget::Reseed),
        ] {
            assert_eq!(check(method, rest), Ok(expected), "{method} {rest}");
            assert_eq!(check("PATCH", rest), Err(Unroutable::MethodNotAllowed), "{rest}");
        }
        for rest in ["", "ca/", "ca/key", "tokens/", "tokens/a/b", "members", "tokens/a%2Fb"] {
            assert_eq!(check("DELETE", rest), Err(Unroutable::NotFound), "{rest}");
        }
    }

    #[test]
    fn only_an_administrator_passes_and_a_node_sees_the_quorum_and_nothing_else() {
        let node = user(Role::Node("n".to_owned()));
        for target in [ClusterTarget::Authority, ClusterTarget::ListTokens, ClusterTarget::Snapshot] {
            assert!(allows(&user(Role::Admin), &target));
            for identity in [user(Role::Operator), user(Role::Viewer), node.clone(), Identity::Anonymous] {
                assert!(!allows(&identity, &target), "{identity:?} {target:?}");
            }
        }
        for reader in [user(Role::Viewer), node.clone()] {
            assert!(allows(&reader, &ClusterTarget::Status));
        }
        assert!(!allows(&Identity::Anonymous, &ClusterTarget::Status));
        assert!(allows(&Identity::Anonymous, &ClusterTarget::Join) && allows(&node, &ClusterTarget::Join));
    }
}
