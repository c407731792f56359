//! Usage errors in calicoctl's words: one line on stderr, no usage text, and never clap's own exit code 2. Pure.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What to print for a command line clap refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Help or version was asked for: stdout, success.
    Help(String),
    /// A mistake: stderr, failure.
    Mistake(String),
}

/// Words a refusal of the command line of `program`.
pub(crate) fn describe(program: &str, error: &clap::Error) -> Usage {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let line = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::DisplayVersion => {
            return Usage::Help(error.render().to_string());
        }
        ErrorKind::UnknownArgument => unknown(context(ContextKind::InvalidArg).unwrap_or_default()),
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let hint = context(ContextKind::SuggestedSubcommand)
                .map(|suggestion| format!("\n\nDid you mean this?\n\t{suggestion}\n"))
                .unwrap_or_default();
            format!("unknown command \"{word}\" for \"{program}\"{hint}")
        }
        _ => first_line(&error.render().to_string()),
    };
    Usage::Mistake(line + "\n")
}

/// `--flag` and `-f` are told apart, as calicoctl's library does.
fn unknown(argument: &str) -> String {
    match argument.strip_prefix('-') {
        Some(short) if !short.starts_with('-') => {
            let letter: String = short.chars().take(1).collect();
            format!("unknown shorthand flag: '{letter}' in {argument}")
        }
        Some(_) => format!("unknown flag: {argument}"),
        None => format!("unexpected argument \"{argument}\""),
    }
}

/// clap's first sentence; what follows it is usage text. A list of missing arguments is part of the sentence.
fn first_line(rendered: &str) -> String {
    let body = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let sentence = body.split("\n\n").next().unwrap_or(body);
    sentence.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Calicoctl;

    fn check(arguments: &[&str], expected: &str) {
        let words = std::iter::once("calicoctl").chain(arguments.iter().copied());
        let error = Calicoctl::try_parse_from(words).unwrap_err();
        assert_eq!(describe("calicoctl", &error), Usage::Mistake(format!("{expected}\n")));
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        check(&["--unknown-flag"], "unknown flag: --unknown-flag");
        check(&["get", "hep", "--unknown-flag"], "unknown flag: --unknown-flag");
        check(&["get", "-m"], "unknown shorthand flag: 'm' in -m");
        check(&["foo"], "unknown command \"foo\" for \"calicoctl\"");
        check(&["patch", "hep", "a"], "the following required arguments were not provided: --patch <JSON>");
        check(
            &["patch", "hep", "a", "-p", "{}", "-t", "x"],
            "invalid value 'x' for '--type <TYPE>' [possible values: strategic, merge, json]",
        );
    }

    #[test]
    fn help_is_an_answer_and_not_a_mistake() {
        for arguments in [vec!["calicoctl", "--help"], vec!["calicoctl", "get", "-h"]] {
            let error = Calicoctl::try_parse_from(arguments).unwrap_err();
            assert!(matches!(describe("calicoctl", &error), Usage::Help(_)));
        }
    }
}
