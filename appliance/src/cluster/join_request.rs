//! Request: a wish to join as it is read, before anybody looks at who may. Pure.
//!
//! Strangers send these. It is held to our protocol, our clock and our bounds here, so that nothing behind this has to
//! doubt a field; the reason of a refusal is told in the words of whoever has to mend it.

use time::OffsetDateTime;

use super::join_protocol::{ADDRESSES_MAX, CLOCK_TOLERANCE_MS, Envelope, JoinRequest};
use super::join_refusal::JoinRefusal;
use super::records::PROTOCOL;
use crate::config::{Host, parse_node_name};
use crate::identity::cluster_number;

/// Reads a request, first what every version understands. Whether its node may join is nobody's question yet.
pub(crate) fn understand(body: &[u8], now: OffsetDateTime) -> Result<JoinRequest, JoinRefusal> {
    let malformed = |error: serde_json::Error| JoinRefusal::Malformed(error.to_string());
    let envelope: Envelope = serde_json::from_slice(body).map_err(malformed)?;
    if envelope.protocol != PROTOCOL {
        let version: String = envelope.version.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        return Err(JoinRefusal::Protocol { theirs: envelope.protocol, version });
    }
    let request: JoinRequest = serde_json::from_slice(body).map_err(malformed)?;
    parse_node_name(&request.name)
        .map_err(|reason| JoinRefusal::Malformed(format!("node name {:?} {reason}", request.name)))?;
    for addresses in [&request.peer, &request.api] {
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(JoinRefusal::Malformed(format!("a member has 1 to {ADDRESSES_MAX} addresses")));
        }
    }
    if let Some(cluster) = &request.belongs_to
        && cluster_number(cluster).is_none()
    {
        return Err(JoinRefusal::Malformed("belongsTo is no cluster's id".to_owned()));
    }
    clock(request.now_ms, u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default())?;
    Ok(request)
}

fn clock(theirs: u64, ours: u64) -> Result<(), JoinRefusal> {
    let off = theirs.abs_diff(ours);
    if off <= CLOCK_TOLERANCE_MS {
        return Ok(());
    }
    let minutes = off / 60_000;
    let by = match minutes {
        0..=119 => format!("{minutes} minutes"),
        120..=2_879 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    };
    Err(JoinRefusal::Clock { by, than: if theirs > ours { "ahead of" } else { "behind" } })
}

/// Every host the member is reached on, as its certificate will say.
pub(crate) fn hosts(request: &JoinRequest) -> Result<Vec<Host>, JoinRefusal> {
    let mut hosts = Vec::new();
    for address in request.api.iter().chain(&request.peer) {
        let odd = || JoinRefusal::Malformed(format!("address {address:?} is not host:port"));
        let (host, port) = address.rsplit_once(':').ok_or_else(odd)?;
        port.parse::<u16>().map_err(|_| odd())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host: Host = host.parse().map_err(|_| odd())?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;
    use crate::api::respond::Refusal;

    pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

    /// A request that nothing is wrong with.
    pub(crate) fn request() -> Value {
        json!({
            "token": "at1.x", "member": "00000000000000ff", "name": "n2", "csr": "",
            "peer": ["10.0.0.2:2380"], "api": ["[fd00::2]:6443", "10.0.0.2:6443"], "version": "9", "protocol": PROTOCOL,
            "nowMs": u64::try_from(NOW.unix_timestamp()).expect("after 1970") * 1_000,
        })
    }

    fn refusal(field: &str, value: Value) -> (u16, String) {
        let mut request = request();
        request[field] = value;
        let refusal = understand(request.to_string().as_bytes(), NOW).expect_err("refused");
        let text = refusal.to_string();
        (Refusal::from(refusal).status().code, text)
    }

    #[test]
    fn a_good_request_is_understood_and_its_hosts_are_told_once() {
        let request = understand(request().to_string().as_bytes(), NOW).expect("understood");
        let hosts: Vec<String> = hosts(&request).expect("hosts").iter().map(Host::to_string).collect();
        assert_eq!(hosts, ["fd00::2", "10.0.0.2"]);
    }

    #[test]
    fn each_mistake_is_answered_with_its_code_and_the_way_out() {
        let hour = u64::try_from(NOW.unix_timestamp()).expect("after 1970") * 1_000 + 3_600_000;
        for (field, value, code, says) in [
            ("protocol", json!(2), 426, "speaks protocol 2 (version 9), this cluster speaks 1"),
            ("nowMs", json!(hour), 412, "60 minutes ahead of"),
            ("nowMs", json!(0), 412, "days behind"),
            ("name", json!("-x"), 400, "node name"),
            ("member", json!("0"), 400, "16 hexadecimal"),
            ("peer", json!([]), 400, "1 to 16 addresses"),
            ("belongsTo", json!("\u{1b}[2J"), 400, "no cluster's id"),
        ] {
            let (found, text) = refusal(field, value);
            assert!(found == code && text.contains(says), "{field}: {found} {text}");
        }
        let (code, text) = refusal("csr", json!(7));
        assert!(code == 400 && text.contains("string"), "{text}");
    }

    #[test]
    fn a_newer_request_is_refused_for_its_protocol_and_not_for_its_shape() {
        let later = json!({"protocol": 7, "version": "12", "shape": "other"});
        let refusal = understand(later.to_string().as_bytes(), NOW).expect_err("refused");
        assert!(matches!(refusal, JoinRefusal::Protocol { theirs: 7, .. }), "{refusal}");
    }
}
