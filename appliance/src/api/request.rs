//! What a request asks for: method, path and query become a target and a verb. Pure.
//!
//! It refuses to look at bodies, headers or the caller: the same three strings always mean the same thing. The
//! router in [`super`] calls it once per request; everything behind it works on the answer and never on the path.

use appliance_resources::{Kind, ResourceKey};
use http::Method;
use percent_encoding::percent_decode_str;

use super::cluster::route::{self, ClusterTarget};

/// What an authenticated client does to a resource, in the words Kubernetes uses for permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// Every verb a kind of ours offers, sorted as discovery lists them.
    pub(crate) const ALL: [Verb; 8] = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// The verb as discovery, refusals, access reviews and metrics spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    /// The verb of that name, if a client asks about one by name.
    pub(crate) fn from_name(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.name() == name)
    }

    /// Whether the verb leaves the store as it was.
    pub(crate) fn reads(self) -> bool {
        matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// A question about the health of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Healthz,
    Livez,
    Readyz,
}

/// A question a client asks about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// May I do this?
    Access,
    /// What may I do?
    Rules,
    /// Who am I?
    Identity,
}

/// A kind, where it lives, and one name of it or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) kind: Kind,
    /// Absent for cluster-scoped kinds, and for all namespaces of a namespaced one.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

impl Scope {
    /// The key of the one object the path names; for a collection, a key that no object has.
    pub(crate) fn key(&self) -> ResourceKey {
        ResourceKey {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone().unwrap_or_default(),
        }
    }
}

/// What the path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Probe(Probe),
    Metrics,
    Version,
    /// `/api`: the core group, of which nothing is served.
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(&'static str),
    /// `/apis/<group>/<version>`
    GroupVersion(&'static str),
    Review(Review),
    /// `/cluster/…`: the cluster about itself.
    Cluster(ClusterTarget),
    Resource(Verb, Scope),
}

/// Why no target could be made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unroutable {
    /// Nothing is served at that path.
    NotFound,
    /// Something is, but not with that method.
    MethodNotAllowed,
}

/// The groups we serve kinds in, the preferred one first.
pub(crate) const GROUPS: [&str; 2] = ["projectcalico.org", "appliance"];

/// The paths that name no kind: what answers them, and the one method besides HEAD that they take.
static FIXED: [(&str, Target, Method); 11] = [
    ("/healthz", Target::Probe(Probe::Healthz), Method::GET),
    ("/livez", Target::Probe(Probe::Livez), Method::GET),
    ("/readyz", Target::Probe(Probe::Readyz), Method::GET),
    ("/metrics", Target::Metrics, Method::GET),
    ("/version", Target::Version, Method::GET),
    ("/api", Target::CoreVersions, Method::GET),
    ("/apis", Target::Groups, Method::GET),
    ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Target::Review(Review::Access), Method::POST),
    ("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", Target::Review(Review::Rules), Method::POST),
    ("/apis/authentication.k8s.io/v1/selfsubjectreviews", Target::Review(Review::Identity), Method::POST),
    // kubectl 1.27 asks `whoami` under the beta name.
    (
        "/apis/authentication.k8s.io/v1beta1/selfsubjectreviews",
        Target::Review(Review::Identity),
        Method::POST,
    ),
];

/// Reads method, path and query. HEAD is a GET whose body the server withholds.
pub(crate) fn parse(method: &Method, path: &str, query: &str) -> Result<Target, Unroutable> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let path = path.strip_suffix('/').unwrap_or(path);
    if let Some((_, target, allowed)) = FIXED.iter().find(|(fixed, ..)| *fixed == path) {
        return if allowed == method { Ok(target.clone()) } else { Err(Unroutable::MethodNotAllowed) };
    }
    if let Some(rest) = path.strip_prefix(route::ROOT) {
        return route::parse(method, rest).map(Target::Cluster);
    }
    let rest = path.strip_prefix("/apis/").ok_or(Unroutable::NotFound)?;
    let segments: Vec<&str> = rest.split('/').collect();
    match segments[..] {
        [group] => discover(method, Target::Group(served_group(group)?)),
        [group, version] => discover(method, Target::GroupVersion(served_version(group, version)?)),
        [group, version, plural, ref rest @ ..] => {
            served_version(group, version)?;
            resource(method, group, plural, rest, query)
        }
        [] => Err(Unroutable::NotFound),
    }
}

fn discover(method: &Method, target: Target) -> Result<Target, Unroutable> {
    if method == Method::GET { Ok(target) } else { Err(Unroutable::MethodNotAllowed) }
}

fn served_group(group: &str) -> Result<&'static str, Unroutable> {
    GROUPS.into_iter().find(|served| *served == group).ok_or(Unroutable::NotFound)
}

fn served_version(group: &str, version: &str) -> Result<&'static str, Unroutable> {
    let group = served_group(group)?;
    if version_of(group) == version { Ok(group) } else { Err(Unroutable::NotFound) }
}

/// The one version each of our groups has.
pub(crate) fn version_of(group: &str) -> &'static str {
    Kind::ALL.iter().find(|kind| kind.group() == group).map_or("", |kind| kind.version())
}

/// `<plural>[/<name>]` or `namespaces/<namespace>/<plural>[/<name>]`.
fn resource(
    method: &Method,
    group: &str,
    first: &str,
    rest: &[&str],
    query: &str,
) -> Result<Target, Unroutable> {
    let (namespace, plural, name) = match (first, rest) {
        ("namespaces", [namespace, plural]) => (Some(*namespace), *plural, None),
        ("namespaces", [namespace, plural, name]) => (Some(*namespace), *plural, Some(*name)),
        (plural, []) => (None, plural, None),
        (plural, [name]) => (None, plural, Some(*name)),
        // Subresources come with the kinds that have a status of their own.
        _ => return Err(Unroutable::NotFound),
    };
    let kind = Kind::from_plural(group, plural).ok_or(Unroutable::NotFound)?;
    let all_namespaces = kind.namespaced() && namespace.is_none();
    if (!kind.namespaced() && namespace.is_some()) || (all_namespaces && name.is_some()) {
        return Err(Unroutable::NotFound);
    }
    let verb = verb(method, name.is_some(), query).ok_or(Unroutable::MethodNotAllowed)?;
    if all_namespaces && matches!(verb, Verb::Create | Verb::DeleteCollection) {
        return Err(Unroutable::MethodNotAllowed);
    }
    let scope =
        Scope { kind, namespace: namespace.map(segment).transpose()?, name: name.map(segment).transpose()? };
    Ok(Target::Resource(verb, scope))
}

/// No name and no namespace is longer, so nothing longer can be found.
const SEGMENT_BYTES_MAX: usize = 253;

/// One decoded path segment. An encoded slash would let a name reach into another kind's keys.
pub(super) fn segment(raw: &str) -> Result<String, Unroutable> {
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| Unroutable::NotFound)?;
    if decoded.is_empty() || decoded.len() > SEGMENT_BYTES_MAX || decoded.contains('/') {
        return Err(Unroutable::NotFound);
    }
    Ok(decoded.into_owned())
}

fn verb(method: &Method, named: bool, query: &str) -> Option<Verb> {
    match (method.as_str(), named) {
        ("GET", true) => Some(Verb::Get),
        ("GET", false) if asks_to_watch(query) => Some(Verb::Watch),
        ("GET", false) => Some(Verb::List),
        ("POST", false) => Some(Verb::Create),
        ("PUT", true) => Some(Verb::Update),
        ("PATCH", true) => Some(Verb::Patch),
        ("DELETE", true) => Some(Verb::Delete),
        ("DELETE", false) => Some(Verb::DeleteCollection),
        _ => None,
    }
}

fn asks_to_watch(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "watch" && is_true(&value))
}

/// How Kubernetes reads a flag in a query: present and not clearly false.
pub(crate) fn is_true(value: &str) -> bool {
    !matches!(value, "false" | "False" | "FALSE" | "f" | "F" | "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, query: &str) -> Result<String, Unroutable> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        parse(&method, path, query).map(|target| match target {
            Target::Resource(verb, scope) => format!(
                "{} {} {}/{}",
                verb.name(),
                scope.kind.name(),
                scope.namespace.as_deref().unwrap_or("-"),
                scope.name.as_deref().unwrap_or("-")
            ),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_path_names_a_verb_a_kind_and_a_name() {
        let p = "/apis/projectcalico.org/v3";
        for (method, path, query, expected) in [
            ("GET", format!("{p}/hostendpoints"), "", "list HostEndpoint -/-"),
            ("GET", format!("{p}/hostendpoints/"), "watch=1", "watch HostEndpoint -/-"),
            ("GET", format!("{p}/hostendpoints"), "watch=false", "list HostEndpoint -/-"),
            ("GET", format!("{p}/hostendpoints"), "&limit=500", "list HostEndpoint -/-"),
            ("GET", format!("{p}/hostendpoints/a%2Db"), "", "get HostEndpoint -/a-b"),
            ("HEAD", format!("{p}/tiers/default"), "", "get Tier -/default"),
            ("POST", format!("{p}/tiers"), "", "create Tier -/-"),
            ("PUT", format!("{p}/tiers/x"), "", "update Tier -/x"),
            ("PATCH", format!("{p}/tiers/x"), "", "patch Tier -/x"),
            ("DELETE", format!("{p}/tiers/x"), "", "delete Tier -/x"),
            ("DELETE", format!("{p}/tiers"), "", "deletecollection Tier -/-"),
            ("GET", format!("{p}/workloadendpoints"), "", "list WorkloadEndpoint -/-"),
            ("GET", format!("{p}/namespaces/n/workloadendpoints/w"), "", "get WorkloadEndpoint n/w"),
            ("GET", "/apis/appliance/v1/nodereports/n".into(), "", "get NodeReport -/n"),
        ] {
            assert_eq!(check(method, &path, query).as_deref(), Ok(expected), "{method} {path}?{query}");
        }
    }

    #[test]
    fn what_is_not_served_is_not_found_and_a_wrong_method_is_said() {
        use Unroutable::{MethodNotAllowed, NotFound};
        let p = "/apis/projectcalico.org/v3";
        for (method, path, expected) in [
            ("GET", "/".to_owned(), NotFound),
            ("GET", "/openapi/v2".into(), NotFound),
            ("GET", "/openapi/v3".into(), NotFound),
            ("GET", "/apis/projectcalico.org/v1".into(), NotFound),
            ("GET", "/apis/appliance/v1/hostendpoints".into(), NotFound),
            ("GET", format!("{p}/bananas"), NotFound),
            ("GET", format!("{p}/tiers/x/status"), NotFound),
            ("GET", format!("{p}/namespaces/n/tiers"), NotFound),
            ("GET", format!("{p}/workloadendpoints/w"), NotFound),
            ("GET", format!("{p}/tiers/a%2Fb"), NotFound),
            ("GET", format!("{p}/tiers/%ff"), NotFound),
            ("POST", format!("{p}/workloadendpoints"), MethodNotAllowed),
            ("POST", format!("{p}/tiers/x"), MethodNotAllowed),
            ("PUT", format!("{p}/tiers"), MethodNotAllowed),
            ("POST", "/healthz".into(), MethodNotAllowed),
            ("OPTIONS", format!("{p}/tiers"), MethodNotAllowed),
        ] {
            assert_eq!(check(method, &path, ""), Err(expected), "{method} {path}");
        }
    }

    #[test]
    fn fixed_paths_take_a_trailing_slash() {
        for path in ["/version/", "/version", "/healthz/", "/apis/", "/api"] {
            assert!(check("GET", path, "").is_ok(), "{path}");
        }
        assert_eq!(
            check("GET", "/apis/projectcalico.org/v3/", ""),
            Ok(r#"GroupVersion("projectcalico.org")"#.into())
        );
    }
}
