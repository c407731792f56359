//! ICMP type and code, the part of a rule that looks inside ICMP. Ranges are checked by `validate::rule`.

use serde::{Deserialize, Serialize};

/// A type, or a type and a code. A code alone is refused by validation; nothing at all adds no condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Icmp {
    /// 0 to 254.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub r#type: Option<u8>,
    /// 0 to 255; every code when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
}
