//! Reading manifests (cases 41 to 48), usage errors and the connection file (57, 58).

use super::*;

#[test]
fn json_and_streams_of_documents_are_read() {
    let lab = Lab::new();
    let json = r#"{"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "metadata": {"name": "endpoint1"},
                   "spec": {"node": "host1", "interfaceName": "eth0"}}"#;
    let created = "Successfully created 1 'HostEndpoint' resource(s)\n";
    assert_eq!(lab.ctl("create -f -", json), seen(0, created, "")); // 41
    let stream = format!("---\n{HEP2}---\n# nothing here\n---\n{HEP3}---\n");
    let created = "Successfully created 2 'HostEndpoint' resource(s)\n";
    assert_eq!(lab.ctl("create -f -", &stream), seen(0, created, "")); // 42
}

#[test]
fn empty_input_is_an_error_unless_it_may_be_empty() {
    let lab = Lab::new();
    let file = lab.file("e.yaml", "");
    let empty = format!("no resources specified in file {file}\n");
    assert_eq!(lab.ctl(&format!("create -f {file}"), ""), seen(1, "", &empty)); // 43
    let skipped = lab.ctl(&format!("create -f {file} --skip-empty"), "");
    assert_eq!(skipped, seen(0, "No resources specified\n", ""));
    let folder = lab.folder.path().join("empty");
    std::fs::create_dir(&folder).unwrap();
    let empty = format!("no resources specified in directory {}\n", folder.display());
    assert_eq!(lab.ctl(&format!("create -f {}", folder.display()), ""), seen(1, "", &empty));
    let missing = "failed to execute command: open /nonexistent.yaml: no such file or directory\n";
    assert_eq!(lab.ctl("create -f /nonexistent.yaml", ""), seen(1, "", missing));
    assert_eq!(lab.ctl("create", ""), seen(1, "", "must specify --filename\n"));
}

#[test]
fn directories_are_read_by_extension_and_deeper_only_when_asked() {
    let lab = Lab::new();
    lab.file("d/a.yaml", HEP1);
    lab.file("d/b.yml", HEP2);
    let json = r#"{"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "metadata": {"name": "endpoint3"},
                   "spec": {"node": "host3", "interfaceName": "eth1"}}"#;
    lab.file("d/c.JSON", json);
    lab.file("d/n.txt", "rubbish: [");
    lab.file("d/s/e.yaml", GNP1);
    let folder = lab.folder.path().join("d").display().to_string();
    let created = "Successfully created 3 'HostEndpoint' resource(s)\n";
    assert_eq!(lab.ctl(&format!("create -f {folder}"), ""), seen(0, created, "")); // 44
    let applied = "Successfully applied 4 resource(s)\n";
    assert_eq!(lab.ctl(&format!("apply -R -f {folder}"), ""), seen(0, applied, ""));
}

#[test]
fn one_bad_document_changes_nothing() {
    let lab = Lab::new();
    let unknown = format!("{HEP1}  unknown: thing\n");
    let complaint = "field in document is not recognized or is in the wrong location: unknown\n";
    assert_eq!(lab.ctl("create -f -", &unknown), seen(1, "", complaint)); // 45
    let version = HEP1.replace("projectcalico.org/v3", "v7");
    let complaint = "failed to execute command: unknown resource type (HostEndpoint) and/or version (v7)\n";
    assert_eq!(lab.ctl("create -f -", &version), seen(1, "", complaint)); // 46
    let both = documents(&[HEP1, &format!("{GNP1}  bogus: 1\n")]);
    let failed = lab.ctl("create -f -", &both); // 47
    assert_eq!(failed.status, 1);
    let first = failed.err.lines().next().unwrap();
    assert_eq!(first, "field in document is not recognized or is in the wrong location: bogus");
    assert!(failed.err.contains("document 2") && failed.err.contains("mypolicy1"), "{failed:?}");
    assert!(lab.names("hep").is_empty());
}

#[test]
fn namespaces_of_file_and_command_line_must_agree() {
    let wep = "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata:\n  name: x\n  namespace: test\n\
               spec:\n  node: n\n";
    let failed = ctl(&["calicoctl", "validate", "-f", "-", "-n", "prod"], wep); // 48, on the namespaced kind there is
    let complaint = "resource namespace does not match client namespace. test != prod\n";
    assert_eq!(failed, seen(1, "", complaint));
    let failed = ctl(&["calicoctl", "validate", "-f", "-"], &with_metadata(HEP1, "namespace: x"));
    let complaint = "namespace should not be specified for a non-namespaced resource. HostEndpoint is not a namespaced \
                     resource\n";
    assert_eq!(failed, seen(1, "", complaint));
}

#[test]
fn a_name_that_is_to_be_generated_is_refused_as_such() {
    let manifest = HEP1.replace("name: endpoint1", "generateName: endpoint");
    let complaint = "error with field Metadata.Name = '' (field must be set for a Create request (GenerateName is not \
                     supported))";
    let failed = ctl(&["calicoctl", "validate", "-f", "-"], &manifest);
    assert!(failed.status == 1 && failed.err.contains(complaint), "{failed:?}");
}

#[test]
fn usage_errors_are_one_line_and_exit_1() {
    assert_eq!(ctl(&["calicoctl", "--unknown-flag"], ""), seen(1, "", "unknown flag: --unknown-flag\n")); // 57
    let config = ctl(&["calicoctl", "get", "hep", "-c", "/nonexistent.cfg"], ""); // 58
    assert_eq!(config, seen(1, "", "Error reading config file: /nonexistent.cfg\n"));
    let level = "unknown log level: loud, expected one of: panic, fatal, error, warn, info, debug\n";
    assert_eq!(ctl(&["calicoctl", "--log-level=loud", "get", "hep"], ""), seen(1, "", level));
    let help = ctl(&["calicoctl"], "");
    assert!(help.status == 0 && help.out.contains("Usage:") && help.err.is_empty(), "{help:?}");
}

#[test]
fn every_command_has_examples_in_its_help() {
    for command in [
        "create", "apply", "replace", "delete", "get", "patch", "label", "validate", "diff", "endpoint",
        "version",
    ] {
        let help = ctl(&["calicoctl", command, "--help"], "");
        assert!(help.status == 0 && help.out.contains("Examples:"), "{command}");
    }
}

#[test]
fn connection_options_may_stand_before_or_after_the_verb() {
    let lab = Lab::with(&[HEP1]);
    let socket = lab.folder.path().join("appliance.sock").display().to_string();
    let before = ctl(&["calicoctl", "--socket", &socket, "get", "hep", "-o", "name"], "");
    let after = ctl(&["calicoctl", "get", "hep", "-o", "name", "--socket", &socket], "");
    assert_eq!(before, seen(0, "hostendpoint.projectcalico.org/endpoint1\n", ""));
    assert_eq!(before, after);
}
