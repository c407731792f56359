//! create, apply, replace, delete, label, patch, validate, diff (cases 1 to 20 and 49 to 56).

use serde_json::json;

use super::*;

const CREATED: &str = "Successfully created 1 'HostEndpoint' resource(s)\n";
const APPLIED: &str = "Successfully applied 1 'HostEndpoint' resource(s)\n";
const DELETED: &str = "Successfully deleted 1 'HostEndpoint' resource(s)\n";
const EXISTS: &str = "[resource already exists: HostEndpoint(endpoint1) with error: <nil>]\n";

#[test]
fn create_makes_what_is_not_there() {
    let lab = Lab::new();
    assert_eq!(lab.ctl("create -f -", HEP1), seen(0, CREATED, "")); // 1
    let failed = format!("failed to create 'HostEndpoint' resource: {EXISTS}");
    assert_eq!(lab.ctl("create -f -", HEP1), seen(1, "", &failed)); // 2
    assert_eq!(lab.ctl("create -f - --skip-exists", HEP1B), seen(0, CREATED, "")); // 3
    assert_eq!(lab.stored("hep endpoint1")["spec"]["node"], "host1");
}

#[test]
fn create_counts_kinds_and_partial_success() {
    let both = documents(&[HEP1, GNP1]);
    assert_eq!(Lab::new().ctl("create -f -", &both), seen(0, "Successfully created 2 resource(s)\n", "")); // 4
    let lab = Lab::with(&[HEP1]);
    let partial = "Partial success: created the first 2 out of 3 'HostEndpoint' resources:\n";
    let three = documents(&[HEP1, HEP2, HEP3]);
    assert_eq!(lab.ctl("create -f -", &three), seen(1, partial, &format!("hit error: {EXISTS}"))); // 5
    assert_eq!(lab.names("hep"), ["endpoint1", "endpoint2", "endpoint3"]);
}

#[test]
fn create_names_the_field_that_is_wrong() {
    let lab = Lab::new();
    let wrong =
        |manifest: &str| manifest.replace("eth0", "wibblywobblyeth0").replace("eth1", "wibblywobblyeth0");
    let both = documents(&[&wrong(HEP1), &wrong(HEP3)]);
    let failed = lab.ctl("create -f -", &both); // 6
    assert_eq!((failed.status, failed.out.as_str()), (1, ""));
    assert!(failed.err.starts_with("failed to create any 'HostEndpoint' resources: ["), "{failed:?}");
    assert!(failed.err.contains("InterfaceName = 'wibblywobblyeth0'"), "{failed:?}");
    assert!(lab.names("hep").is_empty());
}

#[test]
fn apply_creates_then_replaces_and_keeps_the_identity() {
    let lab = Lab::new();
    assert_eq!(lab.ctl("apply -f -", HEP1), seen(0, APPLIED, "")); // 7
    let first = lab.stored("hep endpoint1");
    assert_eq!(lab.ctl("apply -f -", HEP1B), seen(0, APPLIED, ""));
    let second = lab.stored("hep endpoint1");
    assert_ne!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    assert_eq!(first["metadata"]["uid"], second["metadata"]["uid"]);
    assert_eq!(first["metadata"]["creationTimestamp"], second["metadata"]["creationTimestamp"]);
    assert_eq!(second["metadata"]["labels"], json!({"type": "frontend"}));

    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let stale = with_metadata(HEP1, &format!("resourceVersion: \"{version}\""));
    let failed = "failed to apply 'HostEndpoint' resource: [update conflict: HostEndpoint(endpoint1)]\n";
    assert_eq!(lab.ctl("apply -f -", &stale), seen(1, "", failed)); // 8
    assert_eq!(lab.stored("hep endpoint1"), second);
    let deleted = lab.ctl("delete -f -", &stale); // 17
    assert_eq!(deleted.status, 1);
    assert!(deleted.err.contains("update conflict: HostEndpoint(endpoint1)"), "{deleted:?}");
    assert_eq!(lab.stored("hep endpoint1"), second);
}

#[test]
fn applying_the_same_again_writes_nothing_and_says_applied() {
    let lab = Lab::with(&[HEP1]);
    let before = lab.stored("hep endpoint1");
    let told = format!("HostEndpoint(endpoint1) unchanged\n{APPLIED}");
    assert_eq!(lab.ctl("apply -v -f -", HEP1), seen(0, &told, ""));
    assert_eq!(lab.stored("hep endpoint1"), before);
    let told = format!("HostEndpoint(endpoint1) configured\n{APPLIED}");
    assert_eq!(lab.ctl("apply -v -f -", HEP1B), seen(0, &told, ""));
}

#[test]
fn a_version_counts_only_for_what_exists() {
    let lab = Lab::new();
    let versioned = with_metadata(HEP1, "resourceVersion: \"99\"");
    let created = lab.ctl("create -f -", &versioned); // 10
    assert_eq!(created.status, 1);
    let complaint = "Metadata.ResourceVersion = '99' (field must not be set for a Create request)";
    assert!(created.err.contains(complaint), "{created:?}");
    assert_eq!(lab.ctl("apply -f -", &versioned), seen(0, APPLIED, "")); // 9
}

#[test]
fn replace_needs_the_object_and_keeps_what_is_not_the_writers() {
    let lab = Lab::new();
    let failed = lab.ctl("replace -f -", HEP1); // 11
    assert_eq!(failed.status, 1);
    assert!(failed.err.contains("resource does not exist: HostEndpoint(endpoint1)"), "{failed:?}");
    assert!(lab.names("hep").is_empty());

    let lab = Lab::with(&[HEP1]);
    let before = lab.stored("hep endpoint1");
    let replaced = "Successfully replaced 1 'HostEndpoint' resource(s)\n";
    assert_eq!(lab.ctl("replace -f -", HEP1B), seen(0, replaced, "")); // 12
    assert_eq!(lab.ctl("replace -f -", HEP1C), seen(0, replaced, "")); // 13
    let after = lab.stored("hep endpoint1");
    let metadata = &after["metadata"];
    assert_eq!(metadata["labels"], json!({"misc": "version1", "type": "frontend"}));
    assert_eq!(metadata["annotations"], json!({"key": "value"}));
    assert_eq!(metadata["uid"], before["metadata"]["uid"]);
    assert_eq!(metadata["creationTimestamp"], before["metadata"]["creationTimestamp"]);
    assert!(metadata.get("finalizers").is_none() && metadata.get("selfLink").is_none(), "{metadata}");
}

#[test]
fn delete_by_name_counts_what_went() {
    let lab = Lab::with(&[HEP1]);
    assert_eq!(lab.ctl("delete hep endpoint1", ""), seen(0, DELETED, "")); // 14
    let gone = "Failed to delete 'HostEndpoint' resource: resource does not exist: HostEndpoint(endpoint1) with error: \
                <nil>\n\n";
    assert_eq!(lab.ctl("delete hep endpoint1", ""), seen(1, "", gone)); // 15
    assert_eq!(lab.ctl("delete hep endpoint1 -s", ""), seen(0, DELETED, ""));

    let lab = Lab::with(&[HEP1, HEP2]);
    let seen = lab.ctl("delete hep endpoint1 blah endpoint2", ""); // 16
    assert_eq!((seen.status, seen.out.as_str()), (1, "Successfully deleted 2 'HostEndpoint' resource(s)\n"));
    assert!(seen.err.contains("HostEndpoint(blah)"), "{seen:?}");
    assert!(lab.names("hep").is_empty());
}

#[test]
fn delete_by_file_expands_lists() {
    let lab = Lab::with(&[HEP1, HEP2]);
    let list = lab.ctl("get hep -o yaml", "").out;
    let deleted = "Successfully deleted 2 'HostEndpoint' resource(s)\n";
    assert_eq!(lab.ctl("delete -f -", &list), seen(0, deleted, "")); // 18
}

#[test]
fn a_kind_alone_deletes_nothing_and_selections_are_listed_before_they_go() {
    let lab = Lab::with(&[HEP1, HEP2, HEP3]);
    let bare = lab.ctl("delete hep", "");
    assert_eq!(bare, seen(1, "", "which HostEndpoint is to be deleted? give names, -l LABELS or --all\n"));

    let listed = "HostEndpoint(endpoint1)\n";
    let advice = "the 1 'HostEndpoint' resource(s) above were not deleted: add --yes to delete them\n";
    assert_eq!(lab.ctl("delete hep -l type=database", ""), seen(1, listed, advice));
    assert_eq!(lab.names("hep").len(), 3);
    let dry = "HostEndpoint(endpoint1)\nSuccessfully deleted 1 'HostEndpoint' resource(s) (server dry run)\n";
    assert_eq!(lab.ctl("delete hep -l type=database --dry-run=server", ""), seen(0, dry, ""));
    assert_eq!(lab.names("hep").len(), 3);
    let gone = format!("{listed}{DELETED}");
    assert_eq!(lab.ctl("delete hep -l type=database --yes", ""), seen(0, &gone, ""));
    let rest = "HostEndpoint(endpoint2)\nHostEndpoint(endpoint3)\nSuccessfully deleted 2 'HostEndpoint' resource(s)\n";
    assert_eq!(lab.ctl("delete hep --all --yes", ""), seen(0, rest, ""));
    assert!(lab.names("hep").is_empty());
}

#[test]
fn tiers_are_needed_by_policies_and_kept_by_them() {
    let lab = Lab::with(&[TIER_ADMIN]);
    let lost = GNP1.replace("tier: default", "tier: nosuch");
    let failed = lab.ctl("apply -f -", &lost); // 19
    assert!(failed.status == 1 && failed.err.contains("resource does not exist: Tier(nosuch)"), "{failed:?}");
    let inside = GNP1.replace("tier: default", "tier: admin");
    assert_eq!(lab.ctl("apply -f -", &inside).status, 0);
    let failed = lab.ctl("delete tier admin", ""); // 20
    assert_eq!(failed.status, 1);
    let cause = "operation delete is not supported on admin: Cannot delete a non-empty tier";
    assert!(failed.err.contains(cause), "{failed:?}");
}

#[test]
fn labels_are_set_changed_only_when_meant_and_removed() {
    let lab = Lab::with(&[HEP1]);
    let set = "Successfully set label app on hep endpoint1\n";
    assert_eq!(lab.ctl("label hep endpoint1 app=web", ""), seen(0, set, "")); // 49
    assert_eq!(lab.stored("hep endpoint1")["metadata"]["labels"], json!({"app": "web", "type": "database"}));
    let refused = "failed to update label of hep endpoint1, key app is already present. please use '--overwrite' to set \
                   a new value\n";
    assert_eq!(lab.ctl("label hep endpoint1 app=order", ""), seen(1, "", refused)); // 50
    let updated = "Successfully updated label app on hep endpoint1\n";
    assert_eq!(lab.ctl("label hep endpoint1 app=order --overwrite", ""), seen(0, updated, "")); // 51
    assert_eq!(lab.ctl("label hep endpoint1 app=order", ""), seen(0, updated, ""));
    let absent = "cannot remove label of hep endpoint1, key cluster does not exist\n";
    assert_eq!(lab.ctl("label hep endpoint1 cluster --remove", ""), seen(1, "", absent)); // 52
    let removed = "Successfully removed label app from hep endpoint1\n";
    assert_eq!(lab.ctl("label hep endpoint1 app --remove", ""), seen(0, removed, ""));

    assert_eq!(lab.ctl("label hep nope a=b", ""), seen(1, "", "hep nope not found\n"));
    assert_eq!(lab.ctl("label hep endpoint1 app", ""), seen(1, "", "invalid label app\n"));
    let short = "requires at least 3 arg(s), only received 2\n";
    assert_eq!(lab.ctl("label hep endpoint1", ""), seen(1, "", short));
    let kind = "failed to get foo endpoint1, error resource type 'foo' is not supported\n";
    assert_eq!(lab.ctl("label foo endpoint1 a=b", ""), seen(1, "", kind));
    let equals = lab.ctl("label hep endpoint1 a=b=c", "");
    assert_eq!(equals.status, 1, "a label value has no `=`: {equals:?}");
    assert!(equals.err.starts_with("failed to update hep endpoint1, label not changed: "), "{equals:?}");
}

#[test]
fn a_patch_changes_a_part_and_unknown_fields_are_refused() {
    let lab = Lab::with(&[HEP1]);
    let patched = "Successfully patched 1 'HostEndpoint' resource\n";
    let words = ["patch", "hep", "endpoint1", "-p", r#"{"spec":{"interfaceName":"eth7"}}"#];
    assert_eq!(lab.ctl_words(&words, ""), seen(0, patched, "")); // 53
    let stored = lab.stored("hep endpoint1");
    assert_eq!(
        stored["spec"],
        json!({"node": "host1", "interfaceName": "eth7", "profiles": ["prof1", "prof2"]})
    );
    assert_eq!(stored["metadata"]["labels"], json!({"type": "database"}));

    let words = ["patch", "hep", "endpoint1", "-p", r#"{"http":{"exact":"x"}}"#];
    let unknown = "field in document is not recognized or is in the wrong location: http\n";
    assert_eq!(lab.ctl_words(&words, ""), seen(1, "", unknown)); // 54
    let words = [
        "patch",
        "hep",
        "endpoint1",
        "-t",
        "json",
        "-p",
        r#"[{"op":"replace","path":"/spec/node","value":"n"}]"#,
    ];
    assert_eq!(lab.ctl_words(&words, ""), seen(0, patched, ""));
    assert_eq!(lab.stored("hep endpoint1")["spec"]["node"], "n");

    let words = ["patch", "hep", "nope", "-p", "{}"];
    let absent = "hit error: resource does not exist: HostEndpoint(nope) with error: <nil>\n";
    assert_eq!(lab.ctl_words(&words, ""), seen(1, "", absent));
    let invalid = lab.ctl_words(&["patch", "hep", "endpoint1", "-p", "{"], "");
    assert!(
        invalid.err.starts_with("hit error: performing strategic merge patch: invalid JSON document"),
        "{invalid:?}"
    );
    assert_eq!(lab.ctl("patch hep -p {}", ""), seen(1, "", "accepts 2 arg(s), received 1\n"));
    let words =
        ["patch", "hep", "endpoint1", "-p", r#"{"metadata":{"resourceVersion":"1"},"spec":{"node":"m"}}"#];
    assert_eq!(
        lab.ctl_words(&words, ""),
        seen(1, "", "hit error: update conflict: HostEndpoint(endpoint1)\n")
    );
}

#[test]
fn validate_needs_no_node() {
    let validated = "Successfully validated 1 'HostEndpoint' resource(s)\n";
    assert_eq!(ctl(&["calicoctl", "validate", "-f", "-"], HEP1), seen(0, validated, "")); // 55
    let wrong = GNP1.replace("type=='database'", "ga@rb\"ag'e");
    let failed = ctl(&["calicoctl", "validate", "-f", "-"], &wrong); // 56, on the global kind
    assert_eq!(failed.status, 1);
    let head =
        "failed to validate 'GlobalNetworkPolicy' resource: [error with field Selector = 'ga@rb\"ag'e'";
    assert!(failed.err.starts_with(head), "{failed:?}");
}

#[test]
fn dry_runs_change_nothing() {
    let lab = Lab::with(&[HEP1]);
    let before = lab.stored("hep");
    let client = "Successfully applied 1 'HostEndpoint' resource(s) (client dry run)\n";
    let offline =
        ctl(&["calicoctl", "apply", "-f", "-", "--dry-run=client", "--socket", "/nonexistent"], HEP1B);
    assert_eq!(offline, seen(0, client, ""));
    let server = "HostEndpoint(endpoint1) configured (server dry run)\nSuccessfully applied 1 'HostEndpoint' resource(s) \
                  (server dry run)\n";
    assert_eq!(lab.ctl("apply -v -f - --dry-run=server", HEP1B), seen(0, server, ""));
    let created = "Successfully created 1 'HostEndpoint' resource(s) (server dry run)\n";
    assert_eq!(lab.ctl("create -f - --dry-run=server", HEP2), seen(0, created, ""));
    assert_eq!(lab.ctl("label hep endpoint1 a=b --dry-run=server", "").status, 0);
    assert_eq!(lab.ctl("label hep endpoint1 a=b --dry-run=client", "").status, 0);
    let words = ["patch", "hep", "endpoint1", "--dry-run=client", "-p", r#"{"spec":{"node":"m"}}"#];
    assert_eq!(lab.ctl_words(&words, "").status, 0);
    assert_eq!(lab.ctl("delete hep endpoint1 --dry-run=client", "").status, 0);
    assert_eq!(lab.stored("hep"), before);
}

#[test]
fn diff_tells_same_different_and_wrong_apart() {
    let lab = Lab::with(&[HEP1]);
    assert_eq!(lab.ctl("diff -f -", HEP1), seen(0, "", ""));
    let changed = lab.ctl("diff -f -", &HEP1.replace("eth0", "eth9"));
    assert_eq!(changed.status, 1);
    assert!(changed.out.contains("-  interfaceName: eth0\n+  interfaceName: eth9\n"), "{changed:?}");
    let created = lab.ctl("diff -f -", HEP3);
    assert!(created.status == 1 && created.out.contains("+  name: endpoint3\n"), "{created:?}");
    let wrong = lab.ctl("diff -f -", &HEP1.replace("eth0", "wibblywobblyeth0"));
    assert_eq!(wrong.status, 2, "{wrong:?}");
    assert_eq!(lab.ctl("diff -f /nonexistent", "").status, 2);
    assert_eq!(lab.names("hep"), ["endpoint1"]);
}
