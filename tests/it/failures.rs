//! `FAILURES.md` says which test makes which failure happen. It says so truly: every name in it is the name of a test
//! that is there, and every scenario has a line.

use std::{collections::BTreeSet, fs};

use crate::tree;

/// The names of all tests, and of all golden scripts.
fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in tree::files() {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => names.extend(tests(&fs::read_to_string(&file).expect("read a source file"))),
            Some("txt") => names.extend(file.file_name().map(|name| name.to_string_lossy().into_owned())),
            _ => {}
        }
    }
    names
}

/// The functions of a source that the test runner calls: no other says of itself that it ran.
fn tests(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = line.split("fn ").nth(1).filter(|_| !line.starts_with("//")) {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            tests.extend(is_test.then(|| name.to_owned()));
            is_test = false;
        }
    }
    tests
}

#[test]
fn only_tests_count_as_such() {
    let source = "
        /// fn in_a_comment() {}
        fn helper() {}
        #[test]
        // fn commented_out() {}
        #[ignore = \"slow\"]
        fn one() {}
        fn another_helper() {}
            #[tokio::test(flavor = \"multi_thread\")]
            async fn two() {}
        pub fn third_helper<T>() {}";
    assert_eq!(tests(source), ["one", "two"]);
}

#[test]
fn every_failure_names_tests_that_exist() {
    let page = fs::read_to_string(tree::root().join("tests/FAILURES.md")).expect("the page");
    let names = names();
    let mut missing: BTreeSet<String> =
        (1..=50).map(|at| at.to_string()).chain((1..=11).map(|at| format!("T{at}"))).collect();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, _, tests] = cells[..] else { panic!("a line with other cells: {line}") };
        missing.remove(number);
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(number == "#" || !named.is_empty() || tests.starts_with("Not: "), "{number} names no test");
        for name in named.into_iter().filter(|name| !name.contains('/')) {
            assert!(names.contains(name), "{number} names {name}, which does not exist");
        }
    }
    assert!(missing.is_empty(), "these have no line: {missing:?}");
}
