//! The selector's tests: the tables in `testdata/selector`, and what must hold for any text at all.

use proptest::prelude::*;

use super::*;

/// The lines of a table, without comments.
fn rows(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn the_truth_table_holds() {
    let mut seen = 0;
    for row in rows(include_str!("../../testdata/selector/truth_table.txt")) {
        let (number, rest) = row.trim_start().split_once(' ').unwrap();
        let mut json = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        let text = json.next().unwrap().unwrap().as_str().unwrap().to_owned();
        let labels: Labels = serde_json::from_value(json.next().unwrap().unwrap()).unwrap();
        let expected = rest[json.byte_offset()..].trim();
        let found = match Selector::from_str(&text) {
            Err(_) => "error",
            Ok(selector) if selector.matches(&labels) => "match",
            Ok(_) => "no-match",
        };
        assert_eq!(found, expected, "row {number}: {text:?} on {labels:?}");
        seen += 1;
    }
    assert_eq!(seen, 128);
}

#[test]
fn canonical_texts_and_ids_are_calicos() {
    for row in rows(include_str!("../../testdata/selector/canonical.txt")) {
        let columns: Vec<&str> = row.split(" ;").map(str::trim).collect();
        let text: String = serde_json::from_str(columns[0]).unwrap();
        let selector = Selector::from_str(&text).unwrap();
        assert_eq!(selector.canonical(), columns[1], "{text}");
        if let Some(id) = columns.get(2).filter(|id| !id.is_empty()) {
            assert_eq!(selector.unique_id(), *id, "{text}");
        }
    }
}

#[test]
fn demands_on_single_labels() {
    for row in rows(include_str!("../../testdata/selector/restrictions.txt")) {
        let (text, expected) = row.rsplit_once(" |").unwrap();
        let demands = Selector::from_str(text.trim()).unwrap().restrictions();
        let printed: Vec<String> =
            demands.iter().map(|(label, demand)| print_demand(label, demand)).collect();
        assert_eq!(printed.join(" "), expected.trim(), "{text}");
    }
}

fn print_demand(label: &str, demand: &Restriction) -> String {
    match demand {
        Restriction::Present => format!("{label}="),
        Restriction::Absent => format!("!{label}"),
        Restriction::OneOf(values) => {
            format!("{label}={{{}}}", values.iter().cloned().collect::<Vec<_>>().join(","))
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_long_chains_are_not() {
    let nested = |depth: usize| format!("{}has(a){}", "(".repeat(depth), ")".repeat(depth));
    assert!(Selector::from_str(&nested(200)).is_ok());
    let error = Selector::from_str(&nested(201)).unwrap_err();
    assert_eq!(error.to_string(), "invalid selector at byte 200: parentheses nest deeper than 200");
    assert!(Selector::from_str(&nested(1_000_000)).is_err());
    assert!(Selector::from_str(&vec!["has(a)"; 10_000].join(" || ")).is_ok());
    assert!(Selector::from_str(&format!("{}has(a)", "!".repeat(100_001))).is_ok());
}

#[test]
fn rewriting_works_on_the_tree_and_not_on_the_text() {
    let selector = Selector::from_str("all() && a == 'all()' && !has(b)").unwrap();
    assert_eq!(
        selector.with_all_as("x").with_label_prefix("pcns.").canonical(),
        "(has(pcns.x) && pcns.a == \"all()\" && !has(pcns.b))"
    );
    let both = Selector::from_str("a == 'x' || has(b)").unwrap().and(Selector::has("c"));
    assert_eq!(both.canonical(), "((a == \"x\" || has(b)) && has(c))");
    assert_eq!(Selector::all().and(Selector::has("c")).canonical(), "has(c)");
}

/// Labels that meet often enough for a selector to say something about them.
fn label() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("in"), Just("has"), Just("x.y/z-1")].prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("x".to_owned()),
        Just("xy".to_owned()),
        "[a-z\"]{0,3}",
        "[a-z' é]{0,3}"
    ]
}

fn values() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set(value(), 0..4).prop_map(|values| values.into_iter().collect())
}

/// Any tree the parser could have made.
fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        Just(Expr::All),
        Just(Expr::Global),
        label().prop_map(Expr::Has),
        (label(), value()).prop_map(|(label, value)| Expr::Equal(label, value)),
        (label(), value()).prop_map(|(label, value)| Expr::NotEqual(label, value)),
        (label(), value()).prop_map(|(label, value)| Expr::Contains(label, value)),
        (label(), value()).prop_map(|(label, value)| Expr::StartsWith(label, value)),
        (label(), value()).prop_map(|(label, value)| Expr::EndsWith(label, value)),
        (label(), values()).prop_map(|(label, values)| Expr::In(label, values)),
        (label(), values()).prop_map(|(label, values)| Expr::NotIn(label, values)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let operands = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.clone().prop_map(Expr::negated),
            operands().prop_map(Expr::And),
            operands().prop_map(Expr::Or),
        ]
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map(label(), value(), 0..4)
}

proptest! {
    #[test]
    fn the_canonical_text_reads_back(expr in expr()) {
        let selector = Selector { expr };
        let again = Selector::from_str(&selector.canonical());
        prop_assert_eq!(again.as_ref(), Ok(&selector));
        prop_assert_eq!(again.unwrap().unique_id(), selector.unique_id());
    }

    #[test]
    fn a_negation_is_the_opposite(expr in expr(), labels in labels()) {
        let selector = Selector { expr };
        prop_assert_ne!(selector.matches(&labels), selector.clone().negated().matches(&labels));
    }

    #[test]
    fn whatever_matches_meets_every_demand(expr in expr(), labels in labels()) {
        let selector = Selector { expr };
        if selector.matches(&labels) {
            for (label, demand) in selector.restrictions() {
                let holds = match (&demand, labels.get(&label)) {
                    (Restriction::Present, found) => found.is_some(),
                    (Restriction::Absent, found) => found.is_none(),
                    (Restriction::OneOf(values), found) => found.is_some_and(|found| values.contains(found)),
                };
                prop_assert!(holds, "{selector} demands {demand:?} of {label}, labels {labels:?}");
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}") {
        let _ = Selector::from_str(&text);
    }

    #[test]
    fn no_text_of_its_own_letters_makes_it_panic(text in "[a-z(){}!&|=, '\"\tin]{0,60}") {
        if let Ok(selector) = Selector::from_str(&text) {
            prop_assert_eq!(Selector::from_str(&selector.canonical()), Ok(selector));
        }
    }
}
