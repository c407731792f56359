//! Json: transactions in the types of the `nftables` crate, for `nft -j -f -`.
//!
//! The encoder the kernel is programmed through. What the crate writes wrongly is corrected in `overlay`. Elements of
//! sets are written inline in the set object wherever they may be: an `add element` command would make nft list every
//! interval set of every table on the host first.

use std::borrow::Cow;
use std::collections::HashSet;

use ipnet::IpNet;
use nftables::expr::{
    BinaryOperation, CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload,
    PayloadField, Prefix, Range, SetItem,
};
use nftables::schema::{self, FlushObject, NfCmd, NfListObject};
use nftables::stmt::{self, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};
use serde_json::Value;

use crate::nft::fingerprint;
use crate::nft::overlay;
use crate::nft::ruleset::{
    ChainKind, Element, Expr, Family, Hook, HookPoint, Is, LogLevel, PortRange, Reject, Rule, SetKind, Side,
    Verdict,
};
use crate::nft::script;
use crate::nft::transaction::{Operation, Transaction};

const INET: NfFamily = NfFamily::INet;

/// The document for one transaction.
pub fn document(transaction: &Transaction) -> String {
    let table = &transaction.table;
    overlay::document(
        transaction.operations.iter().flat_map(|operation| commands(table, operation)).collect(),
    )
}

/// The commands of one operation: one, or two where nft has no single word for it.
fn commands(table: &str, operation: &Operation) -> Vec<Value> {
    let one = |command| vec![overlay::command(command)];
    match operation {
        Operation::AddTable => one(NfCmd::Add(NfListObject::Table(self::table(table)))),
        Operation::DeleteTable => one(NfCmd::Delete(NfListObject::Table(self::table(table)))),
        Operation::AddSet { name, set } => one(add_set(table, name, set.kind, set.elements.iter())),
        Operation::DeleteSet { name } => {
            one(NfCmd::Delete(NfListObject::Set(Box::new(named_set(table, name, None)))))
        }
        Operation::ChangeSet { name, kind, delta } => {
            let removals = (!delta.removed.is_empty())
                .then(|| NfCmd::Delete(elements(table, name, *kind, &delta.removed)));
            // Declared again with the new members inline: the same to the kernel, and no listing of the host's sets.
            let additions = (!delta.added.is_empty()).then(|| add_set(table, name, *kind, &delta.added));
            removals.into_iter().chain(additions).map(overlay::command).collect()
        }
        Operation::RefillSet { name, set } => {
            let flush = NfCmd::Flush(FlushObject::Set(Box::new(named_set(table, name, None))));
            vec![
                overlay::command(flush),
                overlay::command(add_set(table, name, set.kind, set.elements.iter())),
            ]
        }
        Operation::AddMap { name } => vec![overlay::add_map(table, name)],
        Operation::DeleteMap { name } => vec![overlay::delete_map(table, name)],
        Operation::AddMapElement { map, interface, verdict } => {
            vec![overlay::add_map_element(table, map, interface, verdict)]
        }
        Operation::DeleteMapElement { map, interface } => {
            vec![overlay::delete_map_element(table, map, interface)]
        }
        Operation::AddChain { name, hook } => {
            one(NfCmd::Add(NfListObject::Chain(chain(table, name, hook.as_ref()))))
        }
        Operation::FlushChain { name } => one(NfCmd::Flush(FlushObject::Chain(chain(table, name, None)))),
        Operation::DeleteChain { name } => one(NfCmd::Delete(NfListObject::Chain(chain(table, name, None)))),
        Operation::AddRule { chain, rule } => {
            one(NfCmd::Add(NfListObject::Rule(self::rule(table, chain, rule))))
        }
        Operation::DeleteStray { kind, name } => vec![overlay::delete_stray(table, kind, name)],
    }
}

fn table(name: &str) -> schema::Table<'static> {
    schema::Table { family: INET, name: owned(name), handle: None }
}

fn add_set<'a>(
    table: &str,
    name: &str,
    kind: SetKind,
    members: impl IntoIterator<Item = &'a Element>,
) -> NfCmd<'static> {
    let elements: Vec<Expression<'static>> =
        members.into_iter().map(|element| member(kind, element)).collect();
    let mut object = named_set(table, name, Some(kind));
    // nft refuses an empty list, so for no members there is no list.
    object.elem = (!elements.is_empty()).then_some(Cow::Owned(elements));
    NfCmd::Add(NfListObject::Set(Box::new(object)))
}

/// A set object; without a kind it only names one, and nft does not look at the type.
fn named_set(table: &str, name: &str, kind: Option<SetKind>) -> schema::Set<'static> {
    schema::Set {
        family: INET,
        table: owned(table),
        name: owned(name),
        set_type: set_type(kind.unwrap_or(SetKind::Addresses(Family::V4))),
        flags: kind.filter(|kind| kind.is_interval()).map(|_| [schema::SetFlag::Interval].into()),
        ..schema::Set::default()
    }
}

fn set_type(kind: SetKind) -> schema::SetTypeValue<'static> {
    use schema::SetType::{InetProto, InetService, Ipv4Addr, Ipv6Addr};
    use schema::SetTypeValue::{Concatenated, Single};
    match kind {
        SetKind::Addresses(Family::V4) | SetKind::Nets(Family::V4) => Single(Ipv4Addr),
        SetKind::Addresses(Family::V6) | SetKind::Nets(Family::V6) => Single(Ipv6Addr),
        SetKind::AddressPorts(Family::V4) => Concatenated(vec![Ipv4Addr, InetProto, InetService].into()),
        SetKind::AddressPorts(Family::V6) => Concatenated(vec![Ipv6Addr, InetProto, InetService].into()),
        SetKind::ProtocolPorts => Concatenated(vec![InetProto, InetService].into()),
    }
}

fn elements(table: &str, set: &str, kind: SetKind, members: &[Element]) -> NfListObject<'static> {
    let elem: Vec<Expression<'static>> = members.iter().map(|element| member(kind, element)).collect();
    NfListObject::Element(schema::Element {
        family: INET,
        table: owned(table),
        name: owned(set),
        elem: elem.into(),
    })
}

fn member(kind: SetKind, element: &Element) -> Expression<'static> {
    match element {
        // A hash set has no prefixes; what is not a single address is written as one and refused by the kernel.
        Element::Net(net) if !kind.is_interval() => text(net.addr()),
        Element::Net(net) => self::net(net),
        Element::AddressPort { address, protocol, port } => {
            concat(vec![text(address), number(*protocol), number(*port)])
        }
        Element::ProtocolPort { protocol, port } => concat(vec![number(*protocol), number(*port)]),
    }
}

fn chain(table: &str, name: &str, hook: Option<&Hook>) -> schema::Chain<'static> {
    schema::Chain {
        family: INET,
        table: owned(table),
        name: owned(name),
        _type: hook.map(|hook| match hook.kind {
            ChainKind::Filter => NfChainType::Filter,
            ChainKind::Route => NfChainType::Route,
        }),
        hook: hook.map(|hook| match hook.point {
            HookPoint::Prerouting => NfHook::Prerouting,
            HookPoint::Input => NfHook::Input,
            HookPoint::Forward => NfHook::Forward,
            HookPoint::Output => NfHook::Output,
            HookPoint::Postrouting => NfHook::Postrouting,
        }),
        prio: hook.map(|hook| hook.priority),
        policy: hook.map(|_| NfChainPolicy::Accept),
        ..schema::Chain::default()
    }
}

fn rule(table: &str, chain: &str, rule: &Rule) -> schema::Rule<'static> {
    schema::Rule {
        family: INET,
        table: owned(table),
        chain: owned(chain),
        expr: rule.exprs.iter().map(statement).collect::<Vec<_>>().into(),
        comment: Some(Cow::Owned(fingerprint::comment(rule))),
        ..schema::Rule::default()
    }
}

/// One expression as the crate's statement.
fn statement(expr: &Expr) -> Statement<'static> {
    match expr {
        Expr::Interface { side, is, name } => compare(interface_key(*side), *is, text(name)),
        Expr::Dispatch { side, map } => Statement::VerdictMap(stmt::VerdictMap {
            key: interface_key(*side),
            data: text(format_args!("@{map}")),
        }),
        Expr::NfProto(Family::V4) => compare(meta(MetaKey::Nfproto), Is::In, text("ipv4")),
        Expr::NfProto(Family::V6) => compare(meta(MetaKey::Nfproto), Is::In, text("ipv6")),
        Expr::L4Proto { is, protocols } => {
            compare(meta(MetaKey::L4proto), *is, any_of(protocols.iter().map(|protocol| number(*protocol))))
        }
        Expr::Address { side, is, family, nets } => {
            compare(address_key(*family, *side), *is, any_of(script::cover(nets).iter().map(net)))
        }
        Expr::AddressSet { side, is, family, set } => {
            compare(address_key(*family, *side), *is, set_name(set))
        }
        Expr::Port { side, is, ports } => {
            compare(port_key(*side), *is, any_of(script::port_cover(ports).iter().map(port_range)))
        }
        Expr::AddressPortSet { side, is, family, set } => {
            let key = vec![address_key(*family, *side), meta(MetaKey::L4proto), port_key(*side)];
            compare(concat(key), *is, set_name(set))
        }
        Expr::ProtocolPortSet { side, is, set } => {
            compare(concat(vec![meta(MetaKey::L4proto), port_key(*side)]), *is, set_name(set))
        }
        Expr::IcmpType { family, is, types } => {
            compare(icmp_key(*family, "type"), *is, any_of(types.iter().map(|kind| number(*kind))))
        }
        Expr::IcmpTypeCode { family, is, pairs } => {
            let key = concat(vec![icmp_key(*family, "type"), icmp_key(*family, "code")]);
            let pairs = pairs.iter().map(|(kind, code)| concat(vec![number(*kind), number(*code)]));
            compare(key, *is, set_of(pairs))
        }
        Expr::CtState(states) => Statement::Match(stmt::Match {
            left: ct("state"),
            right: Expression::List(states.iter().map(|state| text(script::ct_state(*state))).collect()),
            op: Operator::IN,
        }),
        Expr::CtStatus { is, status } => {
            // "Bit set" is "not equal to zero", so the sense of the operator turns round.
            let op = if *is == Is::In { Operator::NEQ } else { Operator::EQ };
            let left = and(ct("status"), text(script::ct_status(*status)));
            Statement::Match(stmt::Match { left, right: Expression::Number(0), op })
        }
        Expr::Local { side, is } => compare(address_type(*side), *is, text("local")),
        Expr::CtDirection(direction) => {
            compare(ct("direction"), Is::In, text(script::ct_direction(*direction)))
        }
        Expr::Mark { is, mask, value } => {
            compare(and(meta(MetaKey::Mark), Expression::Number(*mask)), *is, Expression::Number(*value))
        }
        Expr::SetMark { keep, set } => Statement::Mangle(stmt::Mangle {
            key: meta(MetaKey::Mark),
            value: Expression::BinaryOperation(Box::new(BinaryOperation::OR(vec![
                and(meta(MetaKey::Mark), Expression::Number(*keep)),
                Expression::Number(*set),
            ]))),
        }),
        Expr::Limit { rate, per, burst } => Statement::Limit(stmt::Limit {
            rate: *rate,
            rate_unit: None,
            per: Some(Cow::Borrowed(script::per(*per))),
            burst: Some(*burst),
            burst_unit: None,
            inv: None,
        }),
        Expr::Log { prefix, level } => Statement::Log(Some(stmt::Log {
            prefix: Some(owned(prefix.as_str())),
            level: Some(log_level(*level)),
            ..stmt::Log::new(None)
        })),
        Expr::Counter => Statement::Counter(stmt::Counter::Anonymous(None)),
        Expr::Notrack => Statement::Notrack,
        Expr::Reject(reject) => Statement::Reject(Some(self::reject(*reject))),
        Expr::Verdict(verdict) => self::verdict(verdict),
    }
}

/// What kind of address the routing table says the packet's is.
fn address_type(side: Side) -> Expression<'static> {
    let flag = match side {
        Side::Source => FibFlag::Saddr,
        Side::Destination => FibFlag::Daddr,
    };
    Expression::Named(NamedExpression::Fib(Fib { result: FibResult::Type, flags: HashSet::from([flag]) }))
}

fn compare(left: Expression<'static>, is: Is, right: Expression<'static>) -> Statement<'static> {
    let op = match is {
        Is::In => Operator::EQ,
        Is::NotIn => Operator::NEQ,
    };
    Statement::Match(stmt::Match { left, right, op })
}

fn verdict(verdict: &Verdict) -> Statement<'static> {
    let target = |chain: &str| stmt::JumpTarget { target: owned(chain) };
    match verdict {
        Verdict::Accept => Statement::Accept(None),
        Verdict::Drop => Statement::Drop(None),
        Verdict::Return => Statement::Return(None),
        Verdict::Jump(chain) => Statement::Jump(target(chain)),
        Verdict::Goto(chain) => Statement::Goto(target(chain)),
    }
}

fn reject(reject: Reject) -> stmt::Reject {
    match reject {
        Reject::PortUnreachable => {
            stmt::Reject::new(Some(stmt::RejectType::ICMPX), Some(RejectCode::PortUnreach))
        }
        Reject::TcpReset => stmt::Reject::new(Some(stmt::RejectType::TCPReset), None),
    }
}

fn log_level(level: LogLevel) -> stmt::LogLevel {
    match level {
        LogLevel::Emerg => stmt::LogLevel::Emerg,
        LogLevel::Alert => stmt::LogLevel::Alert,
        LogLevel::Crit => stmt::LogLevel::Crit,
        LogLevel::Err => stmt::LogLevel::Err,
        LogLevel::Warn => stmt::LogLevel::Warn,
        LogLevel::Notice => stmt::LogLevel::Notice,
        LogLevel::Info => stmt::LogLevel::Info,
        LogLevel::Debug => stmt::LogLevel::Debug,
    }
}

/// One value as itself, several as an anonymous set.
fn any_of(values: impl ExactSizeIterator<Item = Expression<'static>>) -> Expression<'static> {
    let mut values = values;
    if values.len() == 1 {
        return values.next().unwrap_or(Expression::Number(0));
    }
    set_of(values)
}

fn set_of(values: impl Iterator<Item = Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Set(values.map(SetItem::Element).collect()))
}

fn and(left: Expression<'static>, right: Expression<'static>) -> Expression<'static> {
    Expression::BinaryOperation(Box::new(BinaryOperation::AND(left, right)))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn ct(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: Cow::Borrowed(key), family: None, dir: None }))
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: Cow::Borrowed(protocol), field: Cow::Borrowed(field) };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn interface_key(side: Side) -> Expression<'static> {
    match side {
        Side::Source => meta(MetaKey::Iifname),
        Side::Destination => meta(MetaKey::Oifname),
    }
}

fn address_key(family: Family, side: Side) -> Expression<'static> {
    let protocol = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    match side {
        Side::Source => payload(protocol, "saddr"),
        Side::Destination => payload(protocol, "daddr"),
    }
}

fn port_key(side: Side) -> Expression<'static> {
    match side {
        Side::Source => payload("th", "sport"),
        Side::Destination => payload("th", "dport"),
    }
}

fn icmp_key(family: Family, field: &'static str) -> Expression<'static> {
    match family {
        Family::V4 => payload("icmp", field),
        Family::V6 => payload("icmpv6", field),
    }
}

fn net(net: &IpNet) -> Expression<'static> {
    if net.prefix_len() == net.max_prefix_len() {
        return text(net.addr());
    }
    let prefix = Prefix { addr: Box::new(text(net.network())), len: u32::from(net.prefix_len()) };
    Expression::Named(NamedExpression::Prefix(prefix))
}

fn port_range(range: &PortRange) -> Expression<'static> {
    if range.min == range.max {
        return number(range.min);
    }
    Expression::Range(Box::new(Range { range: [number(range.min), number(range.max)] }))
}

fn concat(fields: Vec<Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Concat(fields))
}

fn set_name(set: &str) -> Expression<'static> {
    text(format_args!("@{set}"))
}

fn number(value: impl Into<u32>) -> Expression<'static> {
    Expression::Number(value.into())
}

fn text(value: impl ToString) -> Expression<'static> {
    Expression::String(Cow::Owned(value.to_string()))
}

fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::ruleset::{CtState, CtStatus, Elements, Set};

    fn check(expr: Expr, wanted: &str) {
        let operation = Operation::AddRule { chain: "c".into(), rule: Rule::new("", vec![expr]) };
        let written = commands("t", &operation).remove(0);
        assert_eq!(written["add"]["rule"]["expr"][0].to_string(), wanted);
    }

    #[test]
    fn bit_tests_are_written_as_bit_tests() {
        check(
            Expr::CtStatus { is: Is::NotIn, status: CtStatus::Dnat },
            r#"{"match":{"left":{"&":[{"ct":{"key":"status"}},"dnat"]},"right":0,"op":"=="}}"#,
        );
        check(
            Expr::CtState(vec![CtState::Established, CtState::Related]),
            r#"{"match":{"left":{"ct":{"key":"state"}},"right":["established","related"],"op":"in"}}"#,
        );
    }

    #[test]
    fn one_value_is_itself_and_several_are_a_set() {
        let ports = |ports: &[(u16, u16)]| Expr::Port {
            side: Side::Destination,
            is: Is::NotIn,
            ports: ports.iter().map(|(min, max)| PortRange { min: *min, max: *max }).collect(),
        };
        let key = r#"{"payload":{"protocol":"th","field":"dport"}}"#;
        check(ports(&[(80, 80)]), &format!(r#"{{"match":{{"left":{key},"right":80,"op":"!="}}}}"#));
        let set = r#"{"set":[22,{"range":[80,90]}]}"#;
        check(
            ports(&[(80, 90), (22, 22)]),
            &format!(r#"{{"match":{{"left":{key},"right":{set},"op":"!="}}}}"#),
        );
    }

    #[test]
    fn a_set_without_members_has_no_member_list() {
        let set = Set { kind: SetKind::Nets(Family::V4), elements: Elements::new() };
        let written = commands("t", &Operation::AddSet { name: "s".into(), set }).remove(0).to_string();
        assert_eq!(
            written,
            r#"{"add":{"set":{"family":"inet","table":"t","name":"s","type":"ipv4_addr","flags":["interval"]}}}"#
        );
    }
}
