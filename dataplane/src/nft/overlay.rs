//! Overlay: what the `nftables` crate 0.6.3 writes wrongly or can not say, put right in one place.
//!
//! The crate's types are our schema; each command becomes a `serde_json::Value`, passes through `fix` here, and goes
//! into our own envelope. Every item names what is wrong upstream (github.com/namib-project/nftables-rs) and has a test
//! on the emitted string, so that an upgrade of the crate that mends it is noticed and the item removed:
//!
//! * `Statement::Notrack` is written `"notrack"`; nft wants `{"notrack": null}` (not reported upstream when written).
//! * There is no `verdict` among the set types, so a named verdict map can neither be declared nor parsed: upstream
//!   issue 237. Declared here by hand.
//! * `Verdict::{Accept, Drop, Return}` as data of a map element are written as bare strings, which nft refuses;
//!   `Jump` and `Goto` are right. Written here by hand with the map.
//! * `Operator` has no `!`, and its `LT` and `GT` are swapped (`LT` writes `>`). We use none of the three: a bit test is
//!   written as a binary operation with `==` or `!=`, and ranges as sets.
//! * Optional fields without `skip_serializing_if` are written as null, inside elements too.

use nftables::schema::{NfCmd, NfObject};
use serde_json::{Value, json};

use crate::nft::ruleset::Verdict;
use crate::nft::script::exact;

/// One command as the JSON nft accepts.
pub(crate) fn command(command: NfCmd<'_>) -> Value {
    // Serialising to a Value fails only for maps with non-string keys, and the crate's schema has none.
    let mut value = serde_json::to_value(NfObject::CmdObject(command)).unwrap_or(Value::Null);
    fix(&mut value);
    value
}

/// The document `nft -j -f -` reads.
pub(crate) fn document(commands: Vec<Value>) -> String {
    json!({ "nftables": commands }).to_string()
}

/// Corrects one serialised command in place.
fn fix(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(fix),
        Value::Array(items) => {
            for item in items.iter_mut() {
                if item == "notrack" {
                    *item = json!({ "notrack": null });
                }
                fix(item);
            }
        }
        _ => {}
    }
}

/// `add map`: an empty verdict map keyed by interface name.
pub(crate) fn add_map(table: &str, name: &str) -> Value {
    json!({ "add": { "map": { "family": "inet", "table": table, "name": name, "type": "ifname", "map": "verdict" } } })
}

/// `delete map`.
pub(crate) fn delete_map(table: &str, name: &str) -> Value {
    json!({ "delete": { "map": { "family": "inet", "table": table, "name": name } } })
}

/// Adds one interface to a map by declaring the map again with that element inline: a plain `add element` would make
/// nft list every interval set on the host first (reference/nftables.md 2).
pub(crate) fn add_map_element(table: &str, map: &str, interface: &str, to: &Verdict) -> Value {
    let mut value = add_map(table, map);
    value["add"]["map"]["elem"] = json!([[exact(interface), verdict(to)]]);
    value
}

/// `delete element`: by key alone.
pub(crate) fn delete_map_element(table: &str, map: &str, interface: &str) -> Value {
    json!({ "delete": { "element": { "family": "inet", "table": table, "name": map, "elem": [exact(interface)] } } })
}

/// `delete counter` and its like: kinds of objects we never make and sweep when someone puts them into our table.
pub(crate) fn delete_stray(table: &str, kind: &str, name: &str) -> Value {
    json!({ "delete": { kind: { "family": "inet", "table": table, "name": name } } })
}

fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Accept => json!({ "accept": null }),
        Verdict::Drop => json!({ "drop": null }),
        Verdict::Return => json!({ "return": null }),
        Verdict::Jump(chain) => json!({ "jump": { "target": chain } }),
        Verdict::Goto(chain) => json!({ "goto": { "target": chain } }),
    }
}

#[cfg(test)]
mod tests {
    use nftables::expr;
    use nftables::schema::{NfListObject, Rule, SetType};
    use nftables::stmt::{Operator, Statement};

    use super::*;

    fn rule(statement: Statement<'static>) -> Rule<'static> {
        Rule { expr: vec![statement].into(), ..Rule::default() }
    }

    #[test]
    fn notrack_is_an_object() {
        let raw = serde_json::to_string(&Statement::Notrack).unwrap();
        assert_eq!(raw, r#""notrack""#, "mended upstream: remove the correction");
        let fixed = command(NfCmd::Add(NfListObject::Rule(rule(Statement::Notrack))));
        assert_eq!(fixed["add"]["rule"]["expr"].to_string(), r#"[{"notrack":null}]"#);
    }

    #[test]
    fn verdicts_in_maps_are_objects() {
        let raw = serde_json::to_string(&expr::Verdict::Drop).unwrap();
        assert_eq!(raw, r#""drop""#, "mended upstream: use the crate's verdict");
        let written = add_map_element("t", "m", "eth*", &Verdict::Drop)["add"]["map"]["elem"].to_string();
        assert_eq!(written, r#"[["eth\\*",{"drop":null}]]"#);
    }

    #[test]
    fn the_crate_still_has_no_verdict_type() {
        assert!(
            serde_json::from_str::<SetType>(r#""verdict""#).is_err(),
            "issue 237 is closed: declare maps by the crate"
        );
    }

    #[test]
    fn operators_we_rely_on_are_written_as_they_are_called() {
        for (operator, text) in
            [(Operator::EQ, r#""==""#), (Operator::NEQ, r#""!=""#), (Operator::IN, r#""in""#)]
        {
            assert_eq!(serde_json::to_string(&operator).unwrap(), text);
        }
        let swapped = [Operator::LT, Operator::GT].map(|operator| serde_json::to_string(&operator).unwrap());
        assert_eq!(swapped, [r#"">""#, r#""<""#], "mended upstream: say so above");
    }
}
