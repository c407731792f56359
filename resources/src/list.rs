//! List: objects of one kind and the revision they were read at.

use serde::Serialize;

use crate::{kind::Kind, meta::ListMeta};

/// A list as clients get it. `items` is printed even when empty, as clients insist.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    kind: &'static str,
    api_version: &'static str,
    /// The revision, and where the next page starts.
    pub metadata: ListMeta,
    /// The objects.
    pub items: Vec<T>,
}

impl<T> List<T> {
    /// A list of objects of this kind.
    pub fn new(kind: Kind, metadata: ListMeta, items: Vec<T>) -> List<T> {
        List { kind: kind.list_name(), api_version: kind.api_version(), metadata, items }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_still_has_items() {
        let metadata = ListMeta { resource_version: "42".to_owned(), ..ListMeta::default() };
        let list: List<()> = List::new(Kind::HostEndpoint, metadata, Vec::new());
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"{"kind":"HostEndpointList","apiVersion":"projectcalico.org/v3","metadata":{"resourceVersion":"42"},"items":[]}"#
        );
    }
}
