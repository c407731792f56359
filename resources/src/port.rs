//! Port: a port, a range of ports, or the name of ports that endpoints define.
//!
//! JSON has three spellings: `80`, `"80:90"`, `"http"`; a number inside a string is a number. Printing gives the
//! shortest spelling back. Port 0 and inverted ranges are told from decoding mistakes only by their message.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use crate::field_error::{Cause, Complaint};

/// A longer name is not a port name.
const PORT_NAME_MAX: usize = 128;

/// What a rule says about ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// The ports from `min` to `max`, both included; one port when they are equal.
    Range {
        /// The first port.
        min: u16,
        /// The last port.
        max: u16,
    },
    /// The ports that endpoints call by this name.
    Named(String),
}

impl Port {
    /// One port by number.
    pub fn single(port: u16) -> Port {
        Port::Range { min: port, max: port }
    }

    /// Whether the port is given by name.
    pub fn is_named(&self) -> bool {
        matches!(self, Port::Named(_))
    }

    /// Reads a port as JSON has it.
    pub(crate) fn from_value(value: &Value) -> Result<Port, Complaint> {
        match value {
            Value::Number(number) => number
                .as_u64()
                .and_then(|number| u16::try_from(number).ok())
                .ok_or_else(out_of_range)
                .and_then(|port| Port::range(port, port)),
            Value::String(text) => Port::from_text(text),
            _ => Err(Complaint::new(
                Cause::TypeInvalid,
                "must be a port number, a range \"min:max\" or a port name",
            )),
        }
    }

    fn from_text(text: &str) -> Result<Port, Complaint> {
        if let Some(port) = number(text) {
            return port.and_then(|port| Port::range(port, port));
        }
        if let Some((min, max)) = text.split_once(':') {
            let min = number(min).ok_or_else(|| malformed(format!("invalid port range ({text})")))?;
            let max = number(max).ok_or_else(|| malformed(format!("invalid port range ({text})")))?;
            let min = min.map_err(|_| malformed(format!("invalid minimum port number in range ({text})")))?;
            let max = max.map_err(|_| malformed(format!("invalid maximum port number in range ({text})")))?;
            return Port::range(min, max);
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if text.is_empty() || text.len() > PORT_NAME_MAX || !text.bytes().all(legal) {
            return Err(malformed(format!(
                "invalid name for named port: use 1 to {PORT_NAME_MAX} letters, digits, '_', '.' or '-'"
            )));
        }
        Ok(Port::Named(text.to_owned()))
    }

    fn range(min: u16, max: u16) -> Result<Port, Complaint> {
        if min > max {
            return Err(malformed(format!(
                "minimum port number ({min}) is greater than maximum port number ({max}) in port range"
            )));
        }
        if min == 0 {
            return Err(out_of_range());
        }
        Ok(Port::Range { min, max })
    }
}

/// The text as a number, when it is all digits; an error when they make no port.
fn number(text: &str) -> Option<Result<u16, Complaint>> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<u16>().map_err(|_| out_of_range()))
}

fn malformed(reason: String) -> Complaint {
    Complaint::new(Cause::Invalid, reason)
}

fn out_of_range() -> Complaint {
    Complaint::new(Cause::Invalid, "port range invalid, port number must be between 1 and 65535")
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Range { min, max } if min == max => min.fmt(formatter),
            Port::Range { min, max } => write!(formatter, "{min}:{max}"),
            Port::Named(name) => formatter.write_str(name),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Port::Range { min, max } if min == max => serializer.serialize_u16(*min),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Port, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Port::from_value(&value).map_err(|complaint| D::Error::custom(complaint.reason))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shortest_spelling_is_printed() {
        for (given, printed) in [
            (json!(80), json!(80)),
            (json!("80"), json!(80)),
            (json!("80:80"), json!(80)),
            (json!("80:90"), json!("80:90")),
            (json!("http"), json!("http")),
            (json!("8x"), json!("8x")),
        ] {
            let port: Port = serde_json::from_value(given).unwrap();
            assert_eq!(serde_json::to_value(port).unwrap(), printed);
        }
    }

    #[test]
    fn mistakes_are_told_apart() {
        for (given, complaint) in [
            (json!(0), "between 1 and 65535"),
            (json!("0:10"), "between 1 and 65535"),
            (json!(65536), "between 1 and 65535"),
            (json!("1:65536"), "invalid maximum port number in range (1:65536)"),
            (
                json!("90:80"),
                "minimum port number (90) is greater than maximum port number (80) in port range",
            ),
            (json!("1:2:3"), "invalid port range (1:2:3)"),
            (json!("1,3"), "invalid name for named port"),
            (json!(""), "invalid name for named port"),
            (json!("a b"), "invalid name for named port"),
            (json!("a".repeat(129)), "invalid name for named port"),
            (json!(1.5), "between 1 and 65535"),
            (json!([80]), "must be a port number"),
        ] {
            let reason = Port::from_value(&given).unwrap_err().reason;
            assert!(reason.contains(complaint), "{given}: {reason}");
        }
        assert!(Port::from_value(&json!("a".repeat(128))).is_ok());
    }
}
