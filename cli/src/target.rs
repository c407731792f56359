//! Target: which object or collection a request is about, as an API path and as calicoctl spells it. Pure.

use std::fmt;

use appliance_resources::Kind;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters of a path segment that stand as they are.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One object by name. `namespace` is set exactly for namespaced kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Target {
    /// The object's address on the API server.
    pub(crate) fn path(&self) -> String {
        let collection = collection_path(self.kind, self.namespace.as_deref());
        format!("{collection}/{}", utf8_percent_encode(&self.name, SEGMENT))
    }

    /// The collection the object is, or would be, in.
    pub(crate) fn collection(&self) -> String {
        collection_path(self.kind, self.namespace.as_deref())
    }
}

/// `HostEndpoint(endpoint1)`, `WorkloadEndpoint(default/web)`: the ID of calicoctl's messages.
impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(formatter, "{}({namespace}/{})", self.kind.name(), self.name),
            None => write!(formatter, "{}({})", self.kind.name(), self.name),
        }
    }
}

/// The collection of a kind: of one namespace, or of all when the kind has namespaces and none is given.
pub(crate) fn collection_path(kind: Kind, namespace: Option<&str>) -> String {
    let group = format!("/apis/{}/{}", kind.group(), kind.version());
    match namespace {
        Some(namespace) => {
            format!("{group}/namespaces/{}/{}", utf8_percent_encode(namespace, SEGMENT), kind.plural())
        }
        None => format!("{group}/{}", kind.plural()),
    }
}

/// Appends a query, leaving out parameters without a value.
pub(crate) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters.iter().filter_map(|(name, value)| value.map(|value| (name, value))));
    match query.finish() {
        query if query.is_empty() => path.to_string(),
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_paths() {
        let hep = Target { kind: Kind::HostEndpoint, namespace: None, name: "some.name".to_string() };
        assert_eq!(hep.to_string(), "HostEndpoint(some.name)");
        assert_eq!(hep.path(), "/apis/projectcalico.org/v3/hostendpoints/some.name");
        let wep = Target {
            kind: Kind::WorkloadEndpoint,
            namespace: Some("default".to_string()),
            name: "a/b ?".to_string(),
        };
        assert_eq!(wep.to_string(), "WorkloadEndpoint(default/a/b ?)");
        assert_eq!(wep.path(), "/apis/projectcalico.org/v3/namespaces/default/workloadendpoints/a%2Fb%20%3F");
        assert_eq!(collection_path(Kind::NodeReport, None), "/apis/appliance/v1/nodereports");
        assert_eq!(with_query("/x", &[("a", None), ("b", Some("c=d"))]), "/x?b=c%3Dd");
        assert_eq!(with_query("/x", &[("a", None)]), "/x");
    }
}
