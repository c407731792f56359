//! Records: what the cluster knows about itself, as it stands in the replicated store. Pure.
//!
//! Each record is a JSON object under a key of its own below [`PREFIX`], which the resource API never shows. Reading
//! is strict where this version knows a field (a wrong type is an error, never a default) and lenient where it does
//! not: what a newer version added is kept in `other` and written back, so that an upgrade member by member loses
//! nothing. Times are RFC 3339 in UTC, whole seconds. It refuses to know secrets: tokens and credentials are hashes,
//! the authority's key is sealed before it comes here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use appliance_storage::Key;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

/// Everything of the cluster's own lies below.
pub(crate) const PREFIX: &str = "/appliance/v1/";

/// Where the members' records lie.
pub(crate) const MEMBERS: &str = "/appliance/v1/members/";

/// Which member has which node name: one key a name, so that two joins can not both take it.
pub(crate) const NAMES: &str = "/appliance/v1/names/";

/// Members that are none any more, for ever: an id is never used twice.
pub(crate) const REMOVED: &str = "/appliance/v1/removed/";

/// Join tokens.
pub(crate) const TOKENS: &str = "/appliance/v1/tokens/";

/// Bearer tokens.
pub(crate) const CREDENTIALS: &str = "/appliance/v1/credentials/";

/// The certificate authority.
pub(crate) const CA: &str = "/appliance/v1/ca";

/// The protocol between members that this version speaks; a joiner that speaks another is refused.
pub(crate) const PROTOCOL: u32 = 1;

/// Fields this version does not know, kept as they are.
pub(crate) type Other = BTreeMap<String, serde_json::Value>;

/// The number that raft knows a member by: random, never zero, never used again. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(pub(crate) u64);

impl MemberId {
    /// An id that nobody has had, as far as 64 random bits can promise; the cluster refuses one that was used.
    pub(crate) fn random() -> MemberId {
        let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
        let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
        // Six bits of either half are fixed; together all are random. Zero means nobody.
        MemberId((high ^ low.rotate_left(32)).max(1))
    }
}

/// How many digits an id is written with.
const MEMBER_ID_DIGITS: usize = 16;

/// The member that a certificate names by its URI, whatever the cluster: an id is nobody else's anywhere.
pub(crate) fn member_of_uri(uri: &str) -> Option<MemberId> {
    uri.rsplit('/').next()?.parse().ok()
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for MemberId {
    type Err = String;

    fn from_str(text: &str) -> Result<MemberId, String> {
        let digits = text.len() == MEMBER_ID_DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(id) if digits && id != 0 => Ok(MemberId(id)),
            _ => Err(format!("a member id is {MEMBER_ID_DIGITS} hexadecimal digits and not zero")),
        }
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MemberId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A member, as it describes itself; kept up to date by nobody but that member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberRecord {
    /// Its raft id.
    pub(crate) id: MemberId,
    /// Its node name.
    pub(crate) name: String,
    /// `host:port` its peers reach it on.
    pub(crate) peer: Vec<String>,
    /// `host:port` clients reach its API on.
    pub(crate) api: Vec<String>,
    /// SHA-256 of its certificate's public key, in hexadecimal: who repeats a join is whoever holds this key.
    pub(crate) key: String,
    /// The version it runs.
    pub(crate) version: String,
    /// The protocol it speaks with its peers.
    pub(crate) protocol: u32,
    /// When it joined.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) joined: OffsetDateTime,
    /// When its certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub(crate) certificate_expires: Option<OffsetDateTime>,
    /// SHA-256 of the bundle of authorities it trusts, in hexadecimal: a rotation waits until all trust the next one.
    #[serde(default)]
    pub(crate) trusts: String,
    /// SHA-256 of the authority that issued its certificate, in hexadecimal: a rotation waits until it is the new one.
    #[serde(default)]
    pub(crate) issuer: String,
    /// An operator wants it to stay a learner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) held: bool,
    /// It is being removed; whoever leads finishes that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) leaving: bool,
    /// What newer versions added.
    #[serde(flatten)]
    pub(crate) other: Other,
}

impl MemberRecord {
    /// A member of which nothing is known yet but who it is. What it says of itself comes on top.
    pub(crate) fn new(id: MemberId, name: impl Into<String>, joined: OffsetDateTime) -> MemberRecord {
        MemberRecord {
            id,
            name: name.into(),
            peer: Vec::new(),
            api: Vec::new(),
            key: String::new(),
            version: String::new(),
            protocol: PROTOCOL,
            joined: whole_seconds(joined),
            certificate_expires: None,
            trusts: String::new(),
            issuer: String::new(),
            held: false,
            leaving: false,
            other: Other::new(),
        }
    }
}

/// A member that was removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemovedRecord {
    /// The node's name.
    pub(crate) name: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
    /// By whom.
    pub(crate) by: String,
    /// The member that the same host became, with a fresh copy. Without one the host was put out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) successor: Option<MemberId>,
    /// What newer versions added.
    #[serde(flatten)]
    pub(crate) other: Other,
}

impl RemovedRecord {
    /// A member whose host was put out; where the host goes on as another member, its successor comes on top.
    pub(crate) fn new(name: impl Into<String>, by: impl Into<String>, at: OffsetDateTime) -> RemovedRecord {
        RemovedRecord {
            name: name.into(),
            at: whole_seconds(at),
            by: by.into(),
            successor: None,
            other: Other::new(),
        }
    }
}

/// A join token: enough to check one, not enough to use it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenRecord {
    /// The public half of the token.
    pub(crate) id: String,
    /// SHA-256 of its secret half, in hexadecimal.
    pub(crate) hash: String,
    /// What it lets in: `node`.
    pub(crate) role: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) expires: OffsetDateTime,
    /// How often it can be used again; `None` until it expires.
    pub(crate) uses_left: Option<u32>,
    /// The node names that used it.
    #[serde(default)]
    pub(crate) used_by: Vec<String>,
    /// Who made it.
    pub(crate) created_by: String,
    /// What for, in their words.
    #[serde(default)]
    pub(crate) description: String,
    /// What newer versions added.
    #[serde(flatten)]
    pub(crate) other: Other,
}

/// A bearer token: whose it is and what it allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CredentialRecord {
    /// The public half of the token.
    pub(crate) id: String,
    /// SHA-256 of its secret half, in hexadecimal.
    pub(crate) hash: String,
    /// The user it speaks for.
    pub(crate) user: String,
    /// `admin`, `operator` or `viewer`.
    pub(crate) role: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) expires: OffsetDateTime,
    /// Who made it.
    pub(crate) created_by: String,
    /// What newer versions added.
    #[serde(flatten)]
    pub(crate) other: Other,
}

/// The cluster's certificate authority. Its key is sealed with a key that only members' disks have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CaRecord {
    /// Grows by one with each rotation; the first is 1.
    pub(crate) generation: u64,
    /// What issues certificates now.
    pub(crate) current: CaKey,
    /// What will, once everybody trusts it.
    pub(crate) next: Option<CaKey>,
    /// The authority before, until a rotation is finished: still trusted, and still what the API shows to clients.
    #[serde(default)]
    pub(crate) previous: Vec<CaKey>,
    /// How far a rotation is.
    pub(crate) phase: CaPhase,
    /// What newer versions added.
    #[serde(flatten)]
    pub(crate) other: Other,
}

/// One authority: its certificate, and its key as nobody can read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CaKey {
    /// PEM.
    pub(crate) certificate: String,
    /// The sealed private key, base64.
    pub(crate) sealed_key: String,
}

/// How far the rotation of the authority is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CaPhase {
    /// No rotation.
    #[default]
    Stable,
    /// Members learn to trust the next one.
    Distributing,
    /// Members get certificates of the next one.
    Issuing,
}

/// Why the bytes under a key are not the record that belongs there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not readable by this version: {0}")]
pub(crate) struct RecordError(pub(crate) String);

/// The bytes of a record.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(record).map_err(|error| RecordError(error.to_string()))
}

/// The record of some bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(bytes).map_err(|error| RecordError(error.to_string()))
}

/// The member's record.
pub(crate) fn member_key(id: MemberId) -> Key {
    Key::from(format!("{MEMBERS}{id}"))
}

/// Which member has a node name; the value is its id, as JSON text.
pub(crate) fn name_key(node_name: &str) -> Key {
    Key::from(format!("{NAMES}{node_name}"))
}

/// The mark that an id was used and is none any more.
pub(crate) fn removed_key(id: MemberId) -> Key {
    Key::from(format!("{REMOVED}{id}"))
}

/// A join token, by the public half.
pub(crate) fn token_key(id: &str) -> Key {
    Key::from(format!("{TOKENS}{id}"))
}

/// A bearer token, by the public half.
pub(crate) fn credential_key(id: &str) -> Key {
    Key::from(format!("{CREDENTIALS}{id}"))
}

/// The certificate authority.
pub(crate) fn ca_key() -> Key {
    Key::from(CA)
}

/// The last part of a record's key.
pub(crate) fn id_of(key: &Key) -> Option<&str> {
    key.as_str().and_then(|key| key.rsplit('/').next())
}

/// A time as records keep it: whole seconds.
pub(crate) fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    fn member() -> MemberRecord {
        MemberRecord {
            peer: vec!["10.0.0.1:2380".to_owned()],
            api: vec!["10.0.0.1:6443".to_owned()],
            key: "00".repeat(32),
            version: "0.1.0".to_owned(),
            certificate_expires: Some(datetime!(2027-02-18 12:00 UTC)),
            trusts: "11".repeat(32),
            issuer: "22".repeat(32),
            ..MemberRecord::new(MemberId(0xc0ffee), "node-1", datetime!(2026-11-20 12:00 UTC))
        }
    }

    #[test]
    fn a_member_is_written_as_the_contract_says() {
        let value = serde_json::to_value(member()).expect("JSON");
        assert_eq!(value["id"], "0000000000c0ffee");
        assert_eq!(value["joined"], "2026-11-20T12:00:00Z");
        assert_eq!(value["certificateExpires"], "2027-02-18T12:00:00Z");
        assert_eq!(decode::<MemberRecord>(&encode(&member()).expect("encoded")), Ok(member()));
    }

    #[test]
    fn what_a_newer_version_added_is_kept() {
        let mut value = serde_json::to_value(member()).expect("JSON");
        value["zone"] = json!({"rack": 7});
        let read: MemberRecord = decode(value.to_string().as_bytes()).expect("lenient");
        let written = serde_json::to_value(&read).expect("JSON");
        assert_eq!(written["zone"]["rack"], 7);
    }

    #[test]
    fn a_known_field_of_another_type_is_an_error() {
        for (field, odd) in
            [("id", json!(7)), ("id", json!("0")), ("peer", json!("one")), ("joined", json!("now"))]
        {
            let mut value = serde_json::to_value(member()).expect("JSON");
            value[field] = odd;
            decode::<MemberRecord>(value.to_string().as_bytes()).expect_err(field);
        }
    }

    #[test]
    fn a_member_id_is_sixteen_digits_and_not_zero() {
        assert_eq!("00000000000000ff".parse(), Ok(MemberId(255)));
        for odd in ["", "ff", "0000000000000000", "+000000000000001", "00000000000000fg", "000000000000000ff"]
        {
            odd.parse::<MemberId>().expect_err(odd);
        }
    }

    #[test]
    fn a_tombstone_of_an_earlier_version_names_no_successor() {
        let before = br#"{"name":"n2","at":"2026-11-20T12:00:00Z","by":"root"}"#;
        let read: RemovedRecord = decode(before).expect("readable");
        assert_eq!(read.successor, None);
        assert_eq!(encode(&read).expect("encoded"), before, "and is written as that version does");
        let successor = RemovedRecord { successor: Some(MemberId(9)), ..read };
        assert_eq!(decode::<RemovedRecord>(&encode(&successor).expect("encoded")), Ok(successor));
    }

    #[test]
    fn keys_lie_below_the_prefix_and_tell_their_id() {
        let id = MemberId(1);
        for key in [member_key(id), name_key("n"), removed_key(id), token_key("t"), ca_key()] {
            assert!(key.starts_with(&Key::from(PREFIX)), "{key}");
        }
        assert_eq!(id_of(&member_key(id)), Some("0000000000000001"));
    }
}
