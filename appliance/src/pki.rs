//! The node's keys and certificates on disk: made at the first start, kept, and re-made when they no longer fit.
//!
//! Under `<data-dir>/pki`: the authority (`ca.crt`, `ca.key`), the API's certificate (`server.*`) and the first
//! administrator's (`admin.*`), every file 0600. The authority is never replaced: clients and, later, members trust it,
//! so one that can not be read stops the start. The other two are re-made whenever they do not fit; the log says why.

use std::io;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::authority::{ADMIN_GROUP, Authority, COMMON_SERVER_NAME, IssueError, Pem};
use crate::config::Host;
use crate::data_dir;

/// Below the data directory.
const DIRECTORY: &str = "pki";

/// The user of the first kubeconfig.
const ADMIN_USER: &str = "admin";

/// Everything the listeners and the kubeconfig need.
#[derive(Debug)]
pub(crate) struct Pki {
    /// The authority's certificate, which clients trust and are checked against.
    pub(crate) authority: String,
    /// What the API shows to clients.
    pub(crate) server: Pem,
    /// What the first administrator shows to the API.
    pub(crate) admin: Pem,
}

/// Why the node has no usable keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error("{path}: {attempt}: {source}; the node needs its keys, restore the file or its rights")]
    Io { path: PathBuf, attempt: &'static str, source: io::Error },
    #[error(
        "{path}: {reason}; clients trust this authority, so it is not replaced: restore ca.crt and ca.key from a backup"
    )]
    Authority { path: PathBuf, reason: String },
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// Loads what is there and makes what is missing or does not fit. `formed` says whether the cluster exists already.
pub(crate) fn prepare(
    data_dir: &Path,
    cluster_id: &str,
    formed: bool,
    node_name: &str,
    reached_on: &[Host],
    now: OffsetDateTime,
) -> Result<Pki, PkiError> {
    let directory = data_dir.join(DIRECTORY);
    create_directory(&directory)?;
    let authority = authority(&directory, cluster_id, formed, now)?;
    let names = server_names(node_name, reached_on);
    let server = keep_or_make(&directory, "server", &authority, &names, now, || {
        authority.issue_server(node_name, &names, now)
    })?;
    let admin = keep_or_make(&directory, ADMIN_USER, &authority, &[], now, || {
        authority.issue_client(ADMIN_USER, ADMIN_GROUP, now)
    })?;
    Ok(Pki { authority: authority.pem().certificate.clone(), server, admin })
}

/// Every name and address this node's certificate answers to, each once.
fn server_names(node_name: &str, reached_on: &[Host]) -> Vec<Host> {
    let always = [COMMON_SERVER_NAME, "localhost", "127.0.0.1", "::1"];
    // A node name that is no DNS name can not be dialled either.
    let named = [node_name].into_iter().chain(always).filter_map(|name| name.parse().ok());
    let mut names: Vec<Host> = Vec::new();
    for name in named.chain(reached_on.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn authority(
    directory: &Path,
    cluster_id: &str,
    formed: bool,
    now: OffsetDateTime,
) -> Result<Authority, PkiError> {
    let path = directory.join("ca.crt");
    let lost = |reason: String| PkiError::Authority { path: path.clone(), reason };
    match load(directory, "ca")? {
        Some(pem) => Authority::from_pem(pem).map_err(lost),
        None if formed => Err(lost("the cluster's certificate or key is missing".to_owned())),
        None => {
            let authority = Authority::create(cluster_id, now)?;
            save(directory, "ca", authority.pem())?;
            tracing::info!("made the cluster's certificate authority in {}", directory.display());
            Ok(authority)
        }
    }
}

fn keep_or_make(
    directory: &Path,
    name: &str,
    authority: &Authority,
    names: &[Host],
    now: OffsetDateTime,
    make: impl FnOnce() -> Result<Pem, IssueError>,
) -> Result<Pem, PkiError> {
    if let Some(pem) = load(directory, name)? {
        match authority.replace_reason(&pem, names, now) {
            None => return Ok(pem),
            Some(reason) => tracing::info!("making the {name} certificate anew: {reason}"),
        }
    }
    let pem = make()?;
    save(directory, name, &pem)?;
    Ok(pem)
}

/// Certificate and key, or nothing when either is missing: a crash may have come between the two.
fn load(directory: &Path, name: &str) -> Result<Option<Pem>, PkiError> {
    let read = |extension: &str| {
        let path = directory.join(format!("{name}.{extension}"));
        data_dir::read_small(&path).map_err(|source| PkiError::Io {
            path,
            attempt: "can not be read",
            source,
        })
    };
    Ok(match (read("crt")?, read("key")?) {
        (Some(certificate), Some(key)) => Some(Pem { certificate, key }),
        _ => None,
    })
}

fn save(directory: &Path, name: &str, pem: &Pem) -> Result<(), PkiError> {
    for (extension, text) in [("key", &pem.key), ("crt", &pem.certificate)] {
        let path = directory.join(format!("{name}.{extension}"));
        data_dir::write_private(&path, text.as_bytes()).map_err(|source| PkiError::Io {
            path,
            attempt: "can not be written",
            source,
        })?;
    }
    Ok(())
}

fn create_directory(path: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| PkiError::Io {
        path: path.to_owned(),
        attempt: "can not be made",
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

    fn start(directory: &Path, formed: bool, address: &str) -> Result<Pki, PkiError> {
        prepare(directory, "c0ffee", formed, "node-1", &[address.parse().expect("host")], NOW)
    }

    #[test]
    fn the_second_start_finds_everything_as_the_first_left_it() {
        let directory = tempfile::tempdir().expect("tempdir");
        let first = start(directory.path(), false, "10.0.0.1").expect("made");
        let second = start(directory.path(), true, "10.0.0.1").expect("kept");

        assert_eq!(first.authority, second.authority);
        assert_eq!(first.server, second.server);
        assert_eq!(first.admin, second.admin);
    }

    #[test]
    fn every_file_is_private() {
        let directory = tempfile::tempdir().expect("tempdir");
        start(directory.path(), false, "10.0.0.1").expect("made");
        let mut names = Vec::new();
        for entry in fs::read_dir(directory.path().join(DIRECTORY)).expect("listed") {
            let entry = entry.expect("entry");
            assert_eq!(entry.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
            names.push(entry.file_name().into_string().expect("name"));
        }
        names.sort();
        assert_eq!(names, ["admin.crt", "admin.key", "ca.crt", "ca.key", "server.crt", "server.key"]);
    }

    #[test]
    fn another_address_makes_another_server_certificate_and_nothing_else() {
        let directory = tempfile::tempdir().expect("tempdir");
        let first = start(directory.path(), false, "10.0.0.1").expect("made");
        let second = start(directory.path(), true, "10.0.0.2").expect("kept");

        assert_ne!(first.server, second.server);
        assert_eq!((first.authority, first.admin), (second.authority, second.admin));
    }

    #[test]
    fn a_lost_or_damaged_authority_stops_the_start_and_is_not_replaced() {
        let directory = tempfile::tempdir().expect("tempdir");
        start(directory.path(), false, "10.0.0.1").expect("made");
        let certificate = directory.path().join(DIRECTORY).join("ca.crt");

        fs::write(&certificate, "garbage").expect("write");
        let refusal = start(directory.path(), true, "10.0.0.1").expect_err("refused").to_string();
        assert!(refusal.contains("ca.crt: no certificate in it"), "{refusal}");
        assert_eq!(fs::read_to_string(&certificate).expect("read"), "garbage");

        fs::remove_file(&certificate).expect("remove");
        let refusal = start(directory.path(), true, "10.0.0.1").expect_err("refused").to_string();
        assert!(refusal.contains("certificate or key is missing"), "{refusal}");
    }

    #[test]
    fn names_are_asked_for_once() {
        let names = server_names("localhost", &["10.0.0.1".parse().expect("host")]);
        let names: Vec<String> = names.iter().map(Host::to_string).collect();
        assert_eq!(names, ["localhost", "appliance", "127.0.0.1", "::1", "10.0.0.1"]);
        assert_eq!(server_names("-odd_", &[]).len(), 4, "a name that can not be dialled is left out");
    }
}
