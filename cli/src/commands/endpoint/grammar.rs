//! The words of the `endpoint` commands → an action. Pure.
//!
//! The ID stands before the verb, which a tree of subcommands can not express; and an endpoint may itself be called
//! `show`, so `endpoint show profile show` is about that one.

use super::listing::Filter;
use crate::args::Endpoint;

/// What is to be done to an endpoint's profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Append,
    Remove,
    Set,
}

/// One of the three commands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Show { filter: Filter, detailed: bool },
    Profile { filter: Filter, change: Change, profiles: Vec<String> },
    ShowProfiles { filter: Filter },
}

/// Reads the words; `None` is a usage error.
pub(super) fn parse(args: &Endpoint) -> Option<Action> {
    // An empty filter means any, as it did in the old command.
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let filter = |endpoint: Option<String>| Filter {
        host: given(&args.host),
        orchestrator: given(&args.orchestrator),
        workload: given(&args.workload),
        endpoint,
    };
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["show"] => Some(Action::Show { filter: filter(given(&args.endpoint)), detailed: args.detailed }),
        _ if args.detailed || args.endpoint.is_some() => None,
        [id, "profile", "show"] => Some(Action::ShowProfiles { filter: filter(Some(id.to_string())) }),
        [id, "profile", verb, profiles @ ..] => {
            let change = match *verb {
                "append" => Change::Append,
                "remove" => Change::Remove,
                "set" => Change::Set,
                _ => return None,
            };
            let profiles = profiles.iter().map(|profile| profile.to_string()).collect();
            Some(Action::Profile { filter: filter(Some(id.to_string())), change, profiles })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Action> {
        let words = line.split_whitespace().map(str::to_string).collect();
        parse(&Endpoint { words, host: Some("host1".to_string()), ..Endpoint::default() })
    }

    fn filter(endpoint: Option<&str>) -> Filter {
        Filter {
            host: Some("host1".to_string()),
            endpoint: endpoint.map(str::to_string),
            ..Filter::default()
        }
    }

    #[test]
    fn the_three_commands() {
        assert_eq!(words("show"), Some(Action::Show { filter: filter(None), detailed: false }));
        assert_eq!(words("a1 profile show"), Some(Action::ShowProfiles { filter: filter(Some("a1")) }));
        let profiles = vec!["WEB".to_string(), "PROF".to_string()];
        let expected = Action::Profile { filter: filter(Some("a1")), change: Change::Remove, profiles };
        assert_eq!(words("a1 profile remove WEB PROF"), Some(expected));
        assert_eq!(words("show profile show"), Some(Action::ShowProfiles { filter: filter(Some("show")) }));
    }

    #[test]
    fn everything_else_is_a_usage_error() {
        for line in
            ["", "show x", "a1", "a1 profile", "a1 profile drop X", "a1 profile show X", "a1 tag show"]
        {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
