//! ResourceKey: the kind, namespace and name that identify an object, and their spelling in the store.
//!
//! The spelling is Calico's own etcd layout, so that data can be carried over in both directions. Parsing refuses
//! whatever it would not print itself.

use crate::kind::Kind;

const CALICO_ROOT: &str = "/calico/resources/v3/projectcalico.org/";
const APPLIANCE_ROOT: &str = "/appliance/resources/v1/appliance/";

/// What identifies one object.
///
/// `namespace` is `Some` exactly for namespaced kinds; a key made any other way does not parse back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, when the kind has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ResourceKey {
    /// The key of an object of a cluster-wide kind.
    pub fn global(kind: Kind, name: impl Into<String>) -> ResourceKey {
        ResourceKey { kind, namespace: None, name: name.into() }
    }

    /// The key of an object inside a namespace.
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> ResourceKey {
        ResourceKey { kind, namespace: Some(namespace.into()), name: name.into() }
    }

    /// Where the object is in the store.
    pub fn path(&self) -> String {
        format!("{}{}", ResourceKey::prefix(self.kind, self.namespace.as_deref()), self.name)
    }

    /// Where the objects of a kind, or of one namespace of it, are in the store. Ends in `/`.
    pub fn prefix(kind: Kind, namespace: Option<&str>) -> String {
        let root = if kind == Kind::NodeReport { APPLIANCE_ROOT } else { CALICO_ROOT };
        match namespace {
            Some(namespace) => format!("{root}{}/{namespace}/", kind.plural()),
            None => format!("{root}{}/", kind.plural()),
        }
    }

    /// The object that is at this place in the store, if it is a place for objects.
    pub fn parse(path: &str) -> Option<ResourceKey> {
        let rest = path.strip_prefix(CALICO_ROOT).or_else(|| path.strip_prefix(APPLIANCE_ROOT))?;
        let mut parts = rest.split('/');
        let plural = parts.next()?;
        let kind = Kind::ALL.iter().copied().find(|kind| kind.plural() == plural)?;
        let namespace = if kind.namespaced() { Some(parts.next()?.to_owned()) } else { None };
        let key = ResourceKey { kind, namespace, name: parts.next()?.to_owned() };
        let whole = parts.next().is_none() && !key.name.is_empty() && key.namespace.as_deref() != Some("");
        (whole && key.path() == path).then_some(key)
    }
}

/// `Kind(name)` or `Kind(namespace/name)`, as calicoctl names an object in its messages.
impl std::fmt::Display for ResourceKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(formatter, "{}({namespace}/{})", self.kind, self.name),
            None => write!(formatter, "{}({})", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_calicos_own() {
        let key = ResourceKey::global(Kind::HostEndpoint, "h1-eth0");
        assert_eq!(key.path(), "/calico/resources/v3/projectcalico.org/hostendpoints/h1-eth0");
        let key = ResourceKey::namespaced(Kind::WorkloadEndpoint, "default", "w1");
        assert_eq!(key.path(), "/calico/resources/v3/projectcalico.org/workloadendpoints/default/w1");
        assert_eq!(key.to_string(), "WorkloadEndpoint(default/w1)");
        let key = ResourceKey::global(Kind::NodeReport, "n1");
        assert_eq!(key.path(), "/appliance/resources/v1/appliance/nodereports/n1");
    }

    #[test]
    fn every_path_parses_back() {
        for kind in Kind::ALL {
            let key = ResourceKey {
                kind: *kind,
                namespace: kind.namespaced().then(|| "ns".to_owned()),
                name: "a.b-c_D".to_owned(),
            };
            assert_eq!(ResourceKey::parse(&key.path()), Some(key));
        }
    }

    #[test]
    fn foreign_paths_are_not_objects() {
        for path in [
            "",
            "/calico/resources/v3/projectcalico.org/hostendpoints/",
            "/calico/resources/v3/projectcalico.org/hostendpoints/a/b",
            "/calico/resources/v3/projectcalico.org/workloadendpoints/a",
            "/calico/resources/v3/projectcalico.org/workloadendpoints//a",
            "/calico/resources/v3/projectcalico.org/nodereports/a",
            "/appliance/resources/v1/appliance/hostendpoints/a",
            "/calico/ipam/v2/config",
        ] {
            assert_eq!(ResourceKey::parse(path), None, "{path}");
        }
    }
}
