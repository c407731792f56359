//! Sets that tests write: small objects that no enforcement hangs on. Each says of which write it is, and all of its
//! members follow from that, so that an object mixed of two writes gives itself away.

use serde_json::{Value, json};

/// The collection.
pub const SETS: &str = "/apis/projectcalico.org/v3/globalnetworksets";

/// The set of the write `content`, to replace the revision `at` if there is one.
#[must_use]
pub fn object(name: &str, at: Option<u64>, content: u64, nets: &[String]) -> Value {
    let mut metadata = json!({"name": name, "annotations": {"content": content.to_string()}});
    if let Some(at) = at {
        metadata["resourceVersion"] = at.to_string().into();
    }
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet", "metadata": metadata, "spec": {"nets": nets}
    })
}

/// The write a set is of.
///
/// # Panics
/// When it is of none, or its members are not what `nets` says of that write.
#[must_use]
pub fn content(item: &Value, nets: impl Fn(u64) -> Vec<String>) -> u64 {
    let content = item["metadata"]["annotations"]["content"].as_str().and_then(|text| text.parse().ok());
    let content = content.unwrap_or_else(|| panic!("no content in {item}"));
    assert_eq!(item["spec"], json!({"nets": nets(content)}), "all of write {content}, and nothing but it");
    content
}

/// What it is called; nothing, if it does not say.
#[must_use]
pub fn name(item: &Value) -> String {
    item["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// The revision an object or a list stands at.
///
/// # Panics
/// When it does not say.
#[must_use]
pub fn revision(item: &Value) -> u64 {
    let text = item["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
    text.unwrap_or_else(|| panic!("no resourceVersion in {item}"))
}
