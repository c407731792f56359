//! Listing: nft's JSON listing of our table as `Actual`. Used at start and for audits only.
//!
//! Read object by object and without the crate's types, for a table may hold what they can not parse (a named verdict
//! map already is such). An object of which one thing is not understood is known to exist and otherwise unknown, which
//! gets it rewritten; nothing here is an error but a listing that is no listing.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::nft::actual::{Actual, ActualHook, ActualRule, ActualSet};
use crate::nft::fingerprint::Fingerprint;
use crate::nft::ruleset::{ChainKind, Element, Elements, Family, Hook, HookPoint, Set, SetKind, Verdict};
use crate::nft::script;

/// Every kind, to find the one a listed set is of.
const KINDS: [SetKind; 7] = [
    SetKind::Addresses(Family::V4),
    SetKind::Addresses(Family::V6),
    SetKind::Nets(Family::V4),
    SetKind::Nets(Family::V6),
    SetKind::AddressPorts(Family::V4),
    SetKind::AddressPorts(Family::V6),
    SetKind::ProtocolPorts,
];
const HOOKS: [HookPoint; 5] =
    [HookPoint::Prerouting, HookPoint::Input, HookPoint::Forward, HookPoint::Output, HookPoint::Postrouting];

/// The text is not a listing.
#[derive(Debug, thiserror::Error)]
#[error("nft's listing is not understood: {0}")]
pub struct ListingError(String);

/// What `text`, the listing of `table` and of nothing else, says.
pub fn parse(table: &str, text: &str) -> Result<Actual, ListingError> {
    let mut listing: Value = serde_json::from_str(text).map_err(|error| ListingError(error.to_string()))?;
    let Some(Value::Array(objects)) = listing.get_mut("nftables").map(Value::take) else {
        return Err(ListingError("it has no \"nftables\"".to_owned()));
    };
    let mut actual = Actual::default();
    for object in objects {
        let Value::Object(object) = object else { continue };
        for (kind, fields) in &object {
            let ours = |fields: &&Value| [&fields["table"], &fields["name"]].contains(&&Value::from(table));
            if let Some(Value::Object(fields)) = Some(fields).filter(ours) {
                read(&mut actual, kind, fields);
            }
        }
    }
    Ok(actual)
}

fn read(actual: &mut Actual, kind: &str, fields: &Map<String, Value>) {
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind {
        "table" => actual.table = true,
        "chain" => {
            actual.chains.entry(text("name")).or_default().hook = hook(fields);
        }
        "rule" => actual.chains.entry(text("chain")).or_default().rules.push(rule(fields)),
        "set" => {
            actual.sets.insert(text("name"), set(fields));
        }
        "map" => {
            actual.maps.insert(text("name"), map(fields));
        }
        stray => {
            actual.strays.insert((stray.to_owned(), text("name")));
        }
    }
}

fn hook(fields: &Map<String, Value>) -> ActualHook {
    let Some(point) = fields.get("hook").and_then(Value::as_str) else { return ActualHook::None };
    let kind = match fields.get("type").and_then(Value::as_str) {
        Some("filter") => Some(ChainKind::Filter),
        Some("route") => Some(ChainKind::Route),
        _ => None,
    };
    let point = HOOKS.into_iter().find(|known| script::hook_point(*known) == point);
    let priority =
        fields.get("prio").and_then(Value::as_i64).and_then(|priority| i32::try_from(priority).ok());
    let accepts =
        fields.get("policy").and_then(Value::as_str) == Some("accept") && !fields.contains_key("dev");
    match (kind, point, priority) {
        (Some(kind), Some(point), Some(priority)) if accepts => {
            ActualHook::Ours(Hook { kind, point, priority })
        }
        _ => ActualHook::Unknown,
    }
}

fn rule(fields: &Map<String, Value>) -> ActualRule {
    let fingerprint = fields.get("comment").and_then(Value::as_str).and_then(Fingerprint::parse);
    match (fingerprint, fields.get("handle").and_then(Value::as_u64)) {
        (Some(fingerprint), Some(handle)) => ActualRule::Listed { fingerprint, handle },
        _ => ActualRule::Unknown,
    }
}

fn set(fields: &Map<String, Value>) -> ActualSet {
    let Some(kind) = set_kind(fields) else { return ActualSet::Unknown };
    let members = list(fields, "elem");
    match members.iter().map(|member| element(kind, member)).collect::<Option<Elements>>() {
        Some(elements) => ActualSet::Known(Set { kind, elements }),
        None => ActualSet::Unreadable(kind),
    }
}

fn set_kind(fields: &Map<String, Value>) -> Option<SetKind> {
    let known = ["family", "name", "table", "type", "handle", "flags", "elem"];
    if fields.keys().any(|field| !known.contains(&&field[..])) {
        // A time limit, a size, a comment: nothing we make.
        return None;
    }
    let types: Vec<&str> = match fields.get("type")? {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let flags = list(fields, "flags");
    let interval = flags.iter().any(|flag| *flag == "interval");
    let plain = flags.iter().all(|flag| *flag == "interval");
    KINDS
        .into_iter()
        .find(|kind| plain && kind.is_interval() == interval && script::set_types(*kind) == types)
}

/// A list, or the single value nft writes for a list of one.
fn list<'a>(fields: &'a Map<String, Value>, field: &str) -> Vec<&'a Value> {
    match fields.get(field) {
        None => Vec::new(),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
    }
}

fn element(kind: SetKind, member: &Value) -> Option<Element> {
    match (kind, member) {
        (SetKind::Addresses(_) | SetKind::Nets(_), Value::String(address)) => {
            Some(Element::address(address.parse().ok()?))
        }
        (SetKind::Nets(_), Value::Object(_)) => {
            let prefix = member.get("prefix")?;
            let address = prefix.get("addr")?.as_str()?.parse().ok()?;
            let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
            Some(Element::Net(IpNet::new(address, length).ok()?))
        }
        (SetKind::AddressPorts(_) | SetKind::ProtocolPorts, _) => {
            concat(kind, member.get("concat")?.as_array()?)
        }
        _ => None,
    }
}

fn concat(kind: SetKind, fields: &[Value]) -> Option<Element> {
    let (address, rest) = match kind {
        SetKind::AddressPorts(_) => (Some(fields.first()?.as_str()?.parse().ok()?), fields.get(1..)?),
        _ => (None, fields),
    };
    let [protocol, port] = rest else { return None };
    let (protocol, port) = (u8::try_from(protocol.as_u64()?).ok()?, u16::try_from(port.as_u64()?).ok()?);
    Some(match address {
        Some(address) => Element::AddressPort { address, protocol, port },
        None => Element::ProtocolPort { protocol, port },
    })
}

fn map(fields: &Map<String, Value>) -> Option<BTreeMap<String, Verdict>> {
    // A time limit, a size, flags: nothing we make.
    let known = ["family", "name", "table", "type", "handle", "map", "elem"];
    let plain = fields.keys().all(|field| known.contains(&&field[..]));
    if !plain || fields.get("type")? != "ifname" || fields.get("map")? != "verdict" {
        return None;
    }
    let pair = |entry: &&Value| {
        let [key, to] = &entry.as_array()?[..] else { return None };
        Some((unescaped(key.as_str()?), verdict(to)?))
    };
    list(fields, "elem").iter().map(pair).collect()
}

fn verdict(value: &Value) -> Option<Verdict> {
    let (word, target) = value.as_object()?.iter().next()?;
    let chain = || Some(target.get("target")?.as_str()?.to_owned());
    match &word[..] {
        "accept" => Some(Verdict::Accept),
        "drop" => Some(Verdict::Drop),
        "return" => Some(Verdict::Return),
        "jump" => Some(Verdict::Jump(chain()?)),
        "goto" => Some(Verdict::Goto(chain()?)),
        _ => None,
    }
}

/// An exact name as the kernel has it: nft lists a name that ends in `*` with a backslash before it.
fn unescaped(name: &str) -> String {
    match name.strip_suffix("\\*") {
        Some(prefix) => format!("{prefix}*"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "t", "handle": 1}},
        {"map": {"family": "inet", "name": "m", "table": "t", "type": "ifname", "handle": 4, "map": "verdict",
                 "elem": [["eth0", {"goto": {"target": "c"}}]]}},
        {"map": {"family": "inet", "name": "strange", "table": "t", "type": "ifname", "handle": 4, "map": "mark"}},
        {"set": {"family": "inet", "name": "nets", "table": "t", "type": "ipv4_addr", "handle": 5, "flags": ["interval"],
                 "elem": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, "192.168.1.1"]}},
        {"set": {"family": "inet", "name": "ranged", "table": "t", "type": "ipv4_addr", "handle": 5,
                 "flags": ["interval"], "elem": [{"range": ["10.0.0.1", "10.0.0.5"]}]}},
        {"set": {"family": "inet", "name": "timed", "table": "t", "type": "ipv4_addr", "handle": 5, "timeout": 60}},
        {"set": {"family": "inet", "name": "np", "table": "t", "type": ["ipv4_addr", "inet_proto", "inet_service"],
                 "handle": 7, "elem": [{"concat": ["10.0.0.1", 6, 80]}]}},
        {"counter": {"family": "inet", "name": "stray", "table": "t", "handle": 9, "packets": 0, "bytes": 0}},
        {"chain": {"family": "inet", "table": "t", "name": "c", "handle": 1}},
        {"chain": {"family": "inet", "table": "t", "name": "b", "handle": 2, "type": "filter", "hook": "input",
                   "prio": -5, "policy": "accept"}},
        {"chain": {"family": "inet", "table": "t", "name": "d", "handle": 2, "type": "filter", "hook": "input",
                   "prio": -5, "policy": "drop"}},
        {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 9, "comment": "0123456789abcdef label",
                  "expr": [{"drop": null}]}},
        {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 10, "expr": [{"drop": null}]}},
        {"rule": {"family": "inet", "table": "other", "chain": "c", "handle": 10, "expr": [{"drop": null}]}}]}"#;

    #[test]
    fn what_is_understood_is_known_and_the_rest_exists() {
        let actual = parse("t", LISTING).unwrap();
        assert!(actual.table);
        let elements =
            ["10.0.0.0/8", "192.168.1.1/32"].iter().map(|net| Element::Net(net.parse().unwrap())).collect();
        let nets = Set { kind: SetKind::Nets(Family::V4), elements };
        assert_eq!(actual.sets["nets"], ActualSet::Known(nets));
        assert_eq!(actual.sets["ranged"], ActualSet::Unreadable(SetKind::Nets(Family::V4)));
        assert_eq!(actual.sets["timed"], ActualSet::Unknown);
        assert!(matches!(&actual.sets["np"], ActualSet::Known(set) if set.elements.len() == 1));
        assert_eq!(actual.maps["m"], Some([("eth0".to_owned(), Verdict::Goto("c".to_owned()))].into()));
        assert_eq!(actual.maps["strange"], None);
        assert_eq!(actual.strays, [("counter".to_owned(), "stray".to_owned())].into());
        let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Input, priority: -5 };
        assert_eq!(actual.chains["b"].hook, ActualHook::Ours(hook));
        assert_eq!(actual.chains["d"].hook, ActualHook::Unknown);
        let fingerprint = Fingerprint::parse("0123456789abcdef").unwrap();
        assert_eq!(
            actual.chains["c"].rules,
            [ActualRule::Listed { fingerprint, handle: 9 }, ActualRule::Unknown]
        );
    }

    #[test]
    fn a_text_that_is_no_listing_is_refused() {
        for text in ["", "{}", "[]", r#"{"nftables": 1}"#, "Error: no such file"] {
            assert!(parse("t", text).is_err(), "{text}");
        }
    }
}
