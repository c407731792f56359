//! Cidr: an address range of either family.
//!
//! Two doors, because Calico has two: rules take `address/length` only, sets and endpoints also a bare address. Host
//! bits are kept as written; `masked` drops them. What a range may be used for is `validate`'s business.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// An address range. Prints as it was written, host bits and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(pub IpNet);

/// Why a text is not an address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Neither an address nor `address/length`.
    #[error("not an IPv4 or IPv6 CIDR")]
    Malformed,
    /// A bare address where only ranges are allowed.
    #[error("a bare address is not a CIDR, give its prefix length")]
    NoLength,
}

impl Cidr {
    /// Reads `address/length`.
    pub fn parse(text: &str) -> Result<Cidr, CidrError> {
        // ipnet's own parser reads `010.0.0.1` as 10.0.0.1; the standard library refuses what is ambiguous.
        let Some((address, length)) = text.split_once('/') else {
            let bare = IpAddr::from_str(text).is_ok();
            return Err(if bare { CidrError::NoLength } else { CidrError::Malformed });
        };
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let (true, Ok(address), Ok(length)) = (digits, IpAddr::from_str(address), u8::from_str(length))
        else {
            return Err(CidrError::Malformed);
        };
        IpNet::new(address, length).map(Cidr).map_err(|_| CidrError::Malformed)
    }

    /// Reads `address/length` or a bare address, which is a range of one.
    pub fn parse_lenient(text: &str) -> Result<Cidr, CidrError> {
        match IpAddr::from_str(text) {
            Ok(address) => Ok(Cidr::from(address)),
            Err(_) => Cidr::parse(text),
        }
    }

    /// The range without host bits, which is how it is enforced.
    pub fn masked(self) -> Cidr {
        Cidr(self.0.trunc())
    }

    /// Whether no host bit is set.
    pub fn is_masked(self) -> bool {
        self.masked() == self
    }

    /// Whether the address lies in the range.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// 4 or 6.
    pub fn ip_version(self) -> u8 {
        if matches!(self.0, IpNet::V4(_)) { 4 } else { 6 }
    }

    /// Whether the range holds every address of its family.
    pub fn is_catch_all(self) -> bool {
        self.0.prefix_len() == 0
    }

    /// Whether the range is one address.
    pub fn is_host(self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    /// The address as written, which is the first of the range when no host bits are set.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Cidr {
        Cidr(IpNet::from(address))
    }
}

impl FromStr for Cidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        Cidr::parse(text)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strict_door_wants_a_length() {
        assert_eq!(Cidr::parse("10.0.0.1"), Err(CidrError::NoLength));
        assert_eq!(Cidr::parse("fd00::1"), Err(CidrError::NoLength));
        for text in [
            "foo",
            "10.0.0.0/33",
            "fd00::/129",
            "",
            "10.0.0.0/",
            "10.0.0.256/8",
            "010.0.0.1/8",
            "10.0.0.0/+8",
        ] {
            assert_eq!(Cidr::parse(text), Err(CidrError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_lenient_door_reads_bare_addresses() {
        assert_eq!(Cidr::parse_lenient("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(Cidr::parse_lenient("fd00::1").unwrap().to_string(), "fd00::1/128");
        assert_eq!(Cidr::parse_lenient("10.0.0.1/8").unwrap().masked().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn host_bits_show() {
        assert!(!Cidr::parse("10.0.0.1/8").unwrap().is_masked());
        assert!(Cidr::parse("10.0.0.0/8").unwrap().is_masked());
        assert!(Cidr::parse("::/0").unwrap().is_catch_all());
        assert!(Cidr::parse("10.0.0.0/8").unwrap().contains("10.255.0.1".parse().unwrap()));
    }
}
