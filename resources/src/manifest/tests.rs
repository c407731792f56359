//! The manifest reader's tests: what is read, from where, and what is said about what is not.

use super::*;

const HEP: &str =
    "{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: NAME}, spec: {node: n}}";

fn hep(name: &str) -> String {
    HEP.replace("NAME", name)
}

fn names(text: &str) -> Vec<(String, usize, usize)> {
    let documents = read(text, "f.yaml").unwrap();
    let named = documents.into_iter().map(|document| {
        (document.resource.meta().name.clone(), document.source.document, document.source.line)
    });
    named.collect()
}

fn complaints(text: &str) -> Vec<String> {
    read(text, "f.yaml").unwrap_err().iter().map(ManifestError::to_string).collect()
}

#[test]
fn documents_lists_and_list_objects_are_flattened() {
    let text = format!(
        "---\n{}\n---\n# nothing\n---\n- {}\n- kind: HostEndpointList\n  apiVersion: projectcalico.org/v3\n  \
         metadata: {{resourceVersion: '7'}}\n  items:\n  - {}\n---\n",
        hep("a"),
        hep("b"),
        hep("c")
    );
    assert_eq!(names(&text), [("a".to_owned(), 1, 2), ("b".to_owned(), 3, 6), ("c".to_owned(), 3, 11)]);
}

#[test]
fn the_seeds_read_validate_and_print_back() {
    for (text, count) in [
        (include_str!("../../testdata/manifest/seed-000.yaml"), 2),
        (include_str!("../../testdata/manifest/seed-001.yaml"), 1),
        (include_str!("../../testdata/manifest/seed-002.yaml"), 3),
    ] {
        let documents = read(text, "seed").unwrap();
        assert_eq!(documents.len(), count);
        for document in documents {
            let mut resource = document.resource;
            crate::set_defaults(&mut resource);
            assert_eq!(crate::validate(&resource), Ok(()));
            let printed = yaml::write(&resource.to_value());
            assert_eq!(read(&printed, "-").unwrap()[0].resource, resource, "{printed}");
        }
    }
}

#[test]
fn json_reads_and_names_may_be_in_any_case() {
    let text = r#"{"APIVersion": "projectcalico.org/v3", "Kind": "HostEndpoint", "metadata": {"Name": "a"}, "spec": {"Node": "n"}}"#;
    assert_eq!(names(text), [("a".to_owned(), 1, 1)]);
    assert_eq!(names(""), []);
    assert_eq!(names("\u{feff}# only a comment\n"), []);
}

#[test]
fn every_mistake_has_its_place() {
    let text = format!(
        "{}\n---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata:\n  name: b\nspec:\n  node: 1\n  \
         ports:\n  - port: 70000\n    protocol: TCP\n",
        hep("a")
    );
    assert_eq!(
        complaints(&text),
        [
            "f.yaml:8 (document 2): HostEndpoint(b): spec.node: Invalid value: 1: must be a string, not a number",
            "f.yaml:10 (document 2): HostEndpoint(b): spec.ports[0].port: Invalid value: 70000: must be a whole \
             number between 0 and 65535"
        ]
    );
}

#[test]
fn unknown_and_doubled_fields_are_refused() {
    let text = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: a}\nspec:\n  unknown: thing\n";
    assert_eq!(
        complaints(text),
        [
            "f.yaml:5 (document 1): HostEndpoint(a): field in document is not recognized or is in the wrong location: \
          spec.unknown"
        ]
    );
    let text = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nspec:\n  node: a\n  Node: b\n";
    assert_eq!(
        complaints(text),
        ["f.yaml:4 (document 1): HostEndpoint(): spec.node: Duplicate value: given twice, also as \"Node\""]
    );
    let text = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nspec:\n  odd: a\n  node: 1\n";
    assert_eq!(complaints(text).len(), 2, "the odd field does not hide what is wrong with the others");
    assert!(complaints("a: 1\na: 2\n")[0].starts_with("f.yaml:2 (document 1): duplicate"));
}

#[test]
fn what_is_not_a_resource_is_named() {
    for (text, expected) in [
        ("apiVersion: projectcalico.org/v3\n", "kind is missing in document 1 of f.yaml"),
        (
            "# c\n---\nfoo\n",
            "f.yaml:3 (document 1): expected an object with apiVersion and kind, or a list of them",
        ),
        (
            "apiVersion: v1\nkind: hostEndpoint\n",
            "f.yaml:1 (document 1): unknown resource type (hostEndpoint) and/or version (v1); v1 is the old calicoctl \
             format, write apiVersion: projectcalico.org/v3 and kind: HostEndpoint",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: []\n",
            "f.yaml:1 (document 1): unknown resource type (List) and/or version (v1); write the objects as a YAML list \
             or as documents separated by ---",
        ),
        (
            "apiVersion: v7\nkind: HostEndpoint\n",
            "f.yaml:1 (document 1): unknown resource type (HostEndpoint) and/or version (v7); did you mean apiVersion: \
             projectcalico.org/v3 and kind: HostEndpoint",
        ),
    ] {
        assert_eq!(complaints(text), [expected]);
    }
}

#[test]
fn a_document_has_a_size() {
    let long = format!("{}\n---\n# {}\n", hep("a"), "x".repeat(DOCUMENT_BYTES_MAX));
    assert_eq!(complaints(&long), ["document 2 of f.yaml is larger than 10 MiB"]);
}

#[test]
fn the_end_of_a_file_loses_nothing() {
    for end in ["", "\n", "\n---", "\n--- ", "\n---\n", "\n..."] {
        assert_eq!(names(&format!("{}{end}", hep("a"))).len(), 1, "{end:?}");
    }
}
