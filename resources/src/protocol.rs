//! Protocol: a transport protocol by number or by name.
//!
//! Manifests may say `TCP`, `6` or `"6"`; the last two are the same, and `6` means what `TCP` means. Names are exact:
//! `tcp` is a mistake, as it is in Calico. Number 0 can be written down and is refused by validation.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use crate::field_error::{Cause, Complaint, quoted_list};

/// A protocol that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProtocolName {
    /// 6.
    #[serde(rename = "TCP")]
    Tcp,
    /// 17.
    #[serde(rename = "UDP")]
    Udp,
    /// 1; implies IPv4.
    #[serde(rename = "ICMP")]
    Icmp,
    /// 58; implies IPv6.
    #[serde(rename = "ICMPv6")]
    IcmpV6,
    /// 132.
    #[serde(rename = "SCTP")]
    Sctp,
    /// 136.
    #[serde(rename = "UDPLite")]
    UdpLite,
}

impl ProtocolName {
    /// Every name, in the order messages list them.
    pub const ALL: &'static [ProtocolName] = &[
        ProtocolName::Tcp,
        ProtocolName::Udp,
        ProtocolName::Icmp,
        ProtocolName::IcmpV6,
        ProtocolName::Sctp,
        ProtocolName::UdpLite,
    ];

    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProtocolName::Tcp => "TCP",
            ProtocolName::Udp => "UDP",
            ProtocolName::Icmp => "ICMP",
            ProtocolName::IcmpV6 => "ICMPv6",
            ProtocolName::Sctp => "SCTP",
            ProtocolName::UdpLite => "UDPLite",
        }
    }

    /// As packets spell it.
    pub fn number(self) -> u8 {
        match self {
            ProtocolName::Icmp => 1,
            ProtocolName::Tcp => 6,
            ProtocolName::Udp => 17,
            ProtocolName::IcmpV6 => 58,
            ProtocolName::Sctp => 132,
            ProtocolName::UdpLite => 136,
        }
    }
}

/// A protocol as a rule or a port names it. `Number(6)` and `Name(Tcp)` print differently and mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// By number.
    Number(u8),
    /// By name.
    Name(ProtocolName),
}

impl Protocol {
    /// TCP by name.
    pub const TCP: Protocol = Protocol::Name(ProtocolName::Tcp);
    /// UDP by name.
    pub const UDP: Protocol = Protocol::Name(ProtocolName::Udp);
    /// SCTP by name.
    pub const SCTP: Protocol = Protocol::Name(ProtocolName::Sctp);

    /// The number packets carry.
    pub fn number(&self) -> u8 {
        match self {
            Protocol::Number(number) => *number,
            Protocol::Name(name) => name.number(),
        }
    }

    /// Whether rules may match its ports: TCP, UDP and SCTP.
    pub fn supports_ports(&self) -> bool {
        matches!(self.number(), 6 | 17 | 132)
    }

    /// Whether it is ICMP, which only IPv4 has.
    pub fn is_icmp(&self) -> bool {
        self.number() == 1
    }

    /// Whether it is ICMPv6, which only IPv6 has.
    pub fn is_icmp_v6(&self) -> bool {
        self.number() == 58
    }

    /// Reads a protocol as JSON has it: a number, or a string that is a number or a name.
    pub(crate) fn from_value(value: &Value) -> Result<Protocol, Complaint> {
        match value {
            Value::Number(number) => {
                number.as_u64().and_then(|number| u8::try_from(number).ok()).map(Protocol::Number).ok_or_else(
                    || Complaint::new(Cause::Invalid, "protocol number must be between 1 and 255"),
                )
            }
            Value::String(text) => Protocol::from_text(text),
            _ => Err(Complaint::new(Cause::TypeInvalid, "must be a protocol number or name")),
        }
    }

    fn from_text(text: &str) -> Result<Protocol, Complaint> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if let (true, Ok(number)) = (digits, text.parse::<u8>()) {
            return Ok(Protocol::Number(number));
        }
        match ProtocolName::ALL.iter().find(|name| name.as_str() == text) {
            Some(name) => Ok(Protocol::Name(*name)),
            None => Err(Complaint::new(
                Cause::NotSupported,
                format!(
                    "protocol name invalid: supported values: {}, or a number between 1 and 255",
                    quoted_list(ProtocolName::ALL.iter().map(|name| name.as_str()))
                ),
            )),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Number(number) => number.fmt(formatter),
            Protocol::Name(name) => formatter.write_str(name.as_str()),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Protocol::Number(number) => serializer.serialize_u8(*number),
            Protocol::Name(name) => serializer.serialize_str(name.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Protocol::from_value(&value).map_err(|complaint| D::Error::custom(complaint.reason))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_in_strings_are_numbers() {
        for (given, printed) in [(json!(6), json!(6)), (json!("6"), json!(6)), (json!("TCP"), json!("TCP"))] {
            let protocol: Protocol = serde_json::from_value(given).unwrap();
            assert_eq!(serde_json::to_value(protocol).unwrap(), printed);
            assert_eq!(protocol.number(), 6);
        }
    }

    #[test]
    fn names_are_exact() {
        for wrong in [
            json!("tcp"),
            json!("icmpv6"),
            json!("256"),
            json!("+6"),
            json!(""),
            json!(256),
            json!(-1),
            json!(1.5),
            json!(true),
        ] {
            assert!(Protocol::from_value(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_and_numbers_agree() {
        for name in ProtocolName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), json!(name.as_str()));
            assert_eq!(
                Protocol::Name(*name).supports_ports(),
                Protocol::Number(name.number()).supports_ports()
            );
        }
    }
}
