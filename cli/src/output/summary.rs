//! What a command over several resources says at its end: calicoctl's message catalogue. Pure.
//!
//! Counts are honest where upstream's are not: a failed `replace` is not counted as replaced. Lines for single
//! objects (`-v`) are also worded here. Printing and exit codes are not decided here.

use appliance_resources::Kind;

/// The verbs that end with a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Apply,
    Replace,
    Delete,
    Validate,
}

impl Verb {
    pub(crate) fn infinitive(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Apply => "apply",
            Verb::Replace => "replace",
            Verb::Delete => "delete",
            Verb::Validate => "validate",
        }
    }

    fn participle(self) -> &'static str {
        match self {
            Verb::Create => "created",
            Verb::Apply => "applied",
            Verb::Replace => "replaced",
            Verb::Delete => "deleted",
            Verb::Validate => "validated",
        }
    }
}

/// What became of one resource that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Created,
    Configured,
    Unchanged,
    Deleted,
    /// Present (`--skip-exists`) or absent (`--skip-not-exists`), and left so.
    Skipped,
    Valid,
}

impl Effect {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Effect::Created => "created",
            Effect::Configured => "configured",
            Effect::Unchanged => "unchanged",
            Effect::Deleted => "deleted",
            Effect::Skipped => "skipped",
            Effect::Valid => "valid",
        }
    }
}

/// One resource after it was tried: its effect, or the cause of its failure.
#[derive(Clone, Debug)]
pub(crate) struct Handled {
    pub(crate) kind: Kind,
    pub(crate) result: Result<Effect, String>,
}

/// The closing words: for stdout, for stderr, and whether anything failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) failed: bool,
}

/// The closing words of `verb` over all resources of the input; `suffix` marks a dry run.
pub(crate) fn summarise(verb: Verb, handled: &[Handled], suffix: &str) -> Summary {
    let causes: Vec<&str> =
        handled.iter().filter_map(|one| one.result.as_ref().err().map(String::as_str)).collect();
    let done = handled.len() - causes.len();
    let success =
        || format!("Successfully {} {done} {}{suffix}\n", verb.participle(), counted(handled, "resource(s)"));
    if causes.is_empty() {
        return Summary { out: success(), err: String::new(), failed: false };
    }
    if verb == Verb::Delete {
        let kind = counted(handled, "resource");
        let lines = causes.iter().map(|cause| format!("Failed to delete {kind}: {cause}\n"));
        let out = if done > 0 { success() } else { String::new() };
        return Summary { out, err: lines.chain(["\n".to_string()]).collect(), failed: true };
    }
    let list = format!("[{}]", causes.join(" "));
    let out = if done > causes.len() { partial(verb, done, handled) } else { String::new() };
    let err = match (done, handled.len()) {
        (0, 1) => format!("failed to {} {}: {list}\n", verb.infinitive(), counted(handled, "resource")),
        (0, _) => format!("failed to {} any {}: {list}\n", verb.infinitive(), counted(handled, "resources")),
        _ => format!("hit error: {list}\n"),
    };
    Summary { out, err, failed: true }
}

/// Upstream's wording: "the first" is not literally so, and the line is left out when half or more failed.
fn partial(verb: Verb, done: usize, handled: &[Handled]) -> String {
    let resources = counted(handled, "resources");
    format!("Partial success: {} the first {done} out of {} {resources}:\n", verb.participle(), handled.len())
}

/// `'HostEndpoint' resources` when there is one kind, `resources` when there are several.
fn counted(handled: &[Handled], noun: &str) -> String {
    match handled {
        [first, rest @ ..] if rest.iter().all(|one| one.kind == first.kind) => {
            format!("'{}' {noun}", first.kind.name())
        }
        _ => noun.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Result<Effect, &str> = Ok(Effect::Created);
    const EXISTS: Result<Effect, &str> =
        Err("resource already exists: HostEndpoint(endpoint1) with error: <nil>");

    fn check(verb: Verb, results: &[(Kind, Result<Effect, &str>)], out: &str, err: &str) {
        let handled: Vec<Handled> = results
            .iter()
            .map(|(kind, result)| Handled { kind: *kind, result: result.map_err(str::to_string) })
            .collect();
        let summary = summarise(verb, &handled, "");
        assert_eq!((summary.out.as_str(), summary.err.as_str()), (out, err));
        assert_eq!(summary.failed, !err.is_empty());
    }

    #[test]
    fn the_message_catalogue() {
        let (hep, gnp) = (Kind::HostEndpoint, Kind::GlobalNetworkPolicy);
        check(Verb::Create, &[(hep, OK)], "Successfully created 1 'HostEndpoint' resource(s)\n", "");
        check(Verb::Apply, &[(hep, OK), (gnp, OK)], "Successfully applied 2 resource(s)\n", "");
        check(
            Verb::Create,
            &[(hep, EXISTS)],
            "",
            "failed to create 'HostEndpoint' resource: [resource already exists: HostEndpoint(endpoint1) with error: <nil>]\n",
        );
        check(
            Verb::Create,
            &[(hep, EXISTS), (hep, OK), (hep, OK)],
            "Partial success: created the first 2 out of 3 'HostEndpoint' resources:\n",
            "hit error: [resource already exists: HostEndpoint(endpoint1) with error: <nil>]\n",
        );
        check(Verb::Apply, &[(hep, Err("a")), (hep, OK)], "", "hit error: [a]\n");
        check(
            Verb::Create,
            &[(hep, Err("a")), (hep, Err("b"))],
            "",
            "failed to create any 'HostEndpoint' resources: [a b]\n",
        );
        check(
            Verb::Validate,
            &[(hep, Err("a")), (gnp, Err("b"))],
            "",
            "failed to validate any resources: [a b]\n",
        );
        check(
            Verb::Apply,
            &[(hep, OK), (gnp, OK), (gnp, Err("a"))],
            "Partial success: applied the first 2 out of 3 resources:\n",
            "hit error: [a]\n",
        );
    }

    #[test]
    fn deletions_fail_one_by_one_and_count_only_what_went() {
        let hep = Kind::HostEndpoint;
        let gone = Err("resource does not exist: HostEndpoint(blah) with error: <nil>");
        check(
            Verb::Delete,
            &[(hep, Ok(Effect::Deleted)), (hep, gone), (hep, Ok(Effect::Deleted))],
            "Successfully deleted 2 'HostEndpoint' resource(s)\n",
            "Failed to delete 'HostEndpoint' resource: resource does not exist: HostEndpoint(blah) with error: <nil>\n\n",
        );
        check(
            Verb::Delete,
            &[(hep, Err("a")), (Kind::Tier, Err("b"))],
            "",
            "Failed to delete resource: a\nFailed to delete resource: b\n\n",
        );
    }
}
