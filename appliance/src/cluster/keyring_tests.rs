//! A node's keys from one start to the next: a first start and its crashes, a directory of an earlier version, a
//! rotation. Over a real store and a real log.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use appliance_consensus::{Origin, Raft};
use appliance_storage::{Store, StoreOptions};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::ca;
use super::keyring::{self, Keyring, KeyringError, Opening};
use super::keys::Who;
use super::records::{self, CaRecord};
use super::registry::{self, Records, Standing};
use crate::author;
use crate::authority::{Authority, Pem};
use crate::cluster::certificate::Certificate;

/// A node's store and keys between two starts.
struct Node {
    records: Records,
    keyring: Keyring,
    raft: Raft,
}

fn open_store(directory: &Path) -> Store {
    let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
    Store::open(&directory.join("store"), options).expect("the store opens")
}

fn opening(directory: &Path, formed: bool) -> Opening<'_> {
    Opening {
        data_dir: directory,
        cluster_id: "c0ffee",
        who: Who::new(0xc0ffee, 1, "n1", &["10.0.0.1".parse().expect("host")]),
        formed,
        joined: false,
        server: "https://10.0.0.1:6443".to_owned(),
    }
}

/// A start up to where the authority would be stored.
fn half_start(directory: &Path, formed: bool) -> Result<Node, KeyringError> {
    let store = open_store(directory);
    let reader = store.reader();
    let record = keyring::ca_record(&reader)?;
    let keyring = Keyring::open(opening(directory, formed), record.as_ref(), OffsetDateTime::now_utc())?;
    let config = appliance_consensus::Config::new(1, directory);
    let raft =
        appliance_consensus::start(config, store, Origin::Founder, Box::new(drop)).expect("raft starts");
    Ok(Node { records: Records::new(raft.clone(), reader), keyring, raft })
}

async fn start(directory: &Path, formed: bool) -> Result<Node, KeyringError> {
    let node = half_start(directory, formed)?;
    node.keyring.establish(&node.records, || author::node("n1", "test")).await?;
    Ok(node)
}

impl Node {
    fn record(&self) -> Standing<CaRecord> {
        keyring::ca_record(self.records.reader()).expect("readable").expect("stored")
    }

    /// The authority's public key, and the certificate the node shows.
    fn shows(&self) -> (String, String) {
        let keys = self.keyring.keys().borrow().clone();
        (keys.pin().expect("an authority"), keys.node.certificate.clone())
    }

    async fn put(&self, record: &CaRecord) {
        let op = registry::put(records::ca_key(), record).expect("encodes");
        self.records.txn(author::node("n1", "test"), Vec::new(), vec![op]).await.expect("written");
    }

    async fn stop(self) {
        self.raft.stop().await;
    }
}

/// Every file below a directory, read whole.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("listed") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), fs::read(&path).expect("read")));
        }
    }
    found
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("pki")).expect("listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("name")).collect();
    names.sort();
    names
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("tempdir")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_start_finds_everything_as_the_first_left_it_and_every_file_is_private() {
    let directory = temporary();
    let first = start(directory.path(), false).await.expect("made");
    let (shown, kept) = (first.shows(), contents(&directory.path().join("pki")));
    first.stop().await;
    let wanted = ["admin.crt", "admin.key", "ca.crt", "node.crt", "node.key", "seal.key"];
    assert_eq!(names(directory.path()), wanted);
    for name in wanted {
        let file = fs::metadata(directory.path().join("pki").join(name)).expect("metadata");
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let kubeconfig = fs::read_to_string(directory.path().join("admin.kubeconfig")).expect("written");
    assert!(kubeconfig.contains("server: \"https://10.0.0.1:6443\""), "{kubeconfig}");

    let second = start(directory.path(), true).await.expect("kept");
    assert_eq!(second.shows(), shown);
    assert_eq!(contents(&directory.path().join("pki")), kept);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authoritys_key_is_nowhere_on_the_disk_in_the_clear() {
    let directory = temporary();
    let node = start(directory.path(), false).await.expect("made");
    let seal = node.keyring.seal().clone();
    let authorities =
        ca::Authorities::open(&node.record().value, node.record().revision, &seal).expect("opens");
    let key = authorities.current.pem().key.clone();
    node.stop().await;
    // A line from the middle of the PEM, which would show wherever the key was written as text.
    let line = key.lines().nth(1).expect("a line").as_bytes().to_vec();
    let der = rcgen::KeyPair::from_pem(&key).expect("key").serialize_der();
    let scalar = &der[36..68];
    let mut files = 0;
    for (path, bytes) in contents(directory.path()) {
        files += 1;
        assert!(!bytes.windows(line.len()).any(|window| window == line), "{path} holds the key as text");
        assert!(!bytes.windows(scalar.len()).any(|window| window == scalar), "{path} holds the key");
    }
    assert!(files > 8, "the search found only {files} files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_authority_is_stored_begins_anew_and_one_after_finds_it() {
    let directory = temporary();
    let before = half_start(directory.path(), false).expect("made");
    let first = before.shows();
    assert_eq!(names(directory.path()), ["seal.key"], "nothing that anybody could have seen");
    before.stop().await;

    let crashed = start(directory.path(), false).await.expect("made anew");
    let second = crashed.shows();
    assert_ne!(first.0, second.0);
    crashed.stop().await;
    // As if the crash had come between the store and the files.
    for name in ["ca.crt", "node.crt", "node.key", "admin.crt", "admin.key"] {
        fs::remove_file(directory.path().join("pki").join(name)).expect("removed");
    }
    let third = start(directory.path(), false).await.expect("found");
    assert_eq!(third.shows().0, second.0, "never a second authority");
    assert_eq!(third.record().value.generation, 1);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_certificate_is_made_anew_and_a_lost_sealing_key_stops_the_start() {
    let directory = temporary();
    let first = start(directory.path(), false).await.expect("made");
    let shown = first.shows();
    first.stop().await;
    fs::write(directory.path().join("pki/node.crt"), "garbage").expect("write");
    let again = start(directory.path(), true).await.expect("made anew");
    assert_eq!(again.shows().0, shown.0);
    assert_ne!(again.shows().1, shown.1);
    again.stop().await;

    fs::remove_file(directory.path().join("pki/seal.key")).expect("removed");
    let said = half_start(directory.path(), true).err().expect("refused").to_string();
    assert!(said.contains("seal.key: missing") && said.contains("another member"), "{said}");
    fs::write(directory.path().join("pki/seal.key"), "x").expect("write");
    let said = half_start(directory.path(), true).err().expect("refused").to_string();
    assert!(said.contains("seal.key: is no sealing key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_in_a_certificate_or_key_is_healed_whichever_bit_it_is() {
    let directory = temporary();
    start(directory.path(), false).await.expect("made").stop().await;
    for name in ["ca.crt", "node.crt", "node.key", "admin.crt", "admin.key"] {
        for bit in [0x01, 0x80] {
            let path = directory.path().join("pki").join(name);
            let mut bytes = fs::read(&path).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= bit;
            fs::write(&path, &bytes).expect("written");
            let node =
                start(directory.path(), true).await.unwrap_or_else(|error| panic!("{name} {bit}: {error}"));
            assert_ne!(fs::read(&path).expect("read"), bytes, "{name} {bit}");
            node.stop().await;
        }
    }
    let path = directory.path().join("pki/seal.key");
    let mut bytes = fs::read(&path).expect("read");
    bytes[0] ^= 0x80;
    fs::write(&path, bytes).expect("written");
    let said = half_start(directory.path(), true).err().expect("refused").to_string();
    assert!(said.contains("seal.key: is no sealing key"), "what nothing heals is named: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_formed_node_without_any_authority_makes_no_second_one() {
    let directory = temporary();
    fs::create_dir(directory.path().join("pki")).expect("made");
    let seal = super::seal::SealKey::generate().expect("randomness").to_base64();
    fs::write(directory.path().join("pki/seal.key"), seal).expect("write");
    let said = half_start(directory.path(), true).err().expect("refused").to_string();
    assert!(
        said.contains("appliance ctl member remove"),
        "without a certificate it can not be re-seeded: {said}"
    );
    assert_eq!(names(directory.path()), ["seal.key"]);
}

/// What a node of the version before kept: the authority in the clear, and a certificate of another shape.
fn old_directory(directory: &Path) -> Pem {
    let authority =
        Authority::create("c0ffee", 1, OffsetDateTime::now_utc() - Duration::days(30)).expect("created");
    let pki = directory.join("pki");
    fs::create_dir(&pki).expect("made");
    for (name, text) in [
        ("ca.crt", authority.pem().certificate.as_str()),
        ("ca.key", authority.pem().key.as_str()),
        ("server.crt", "old"),
        ("server.key", "old"),
    ] {
        fs::write(pki.join(name), text).expect("written");
    }
    authority.pem().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_in_the_clear_is_sealed_and_its_file_goes_only_then() {
    let directory = temporary();
    let old = old_directory(directory.path());
    let pin = Certificate::from_pem(&old.certificate).expect("read").key_hash;
    // A crash before the record is committed leaves the file where it is.
    let half = half_start(directory.path(), true).expect("starts");
    assert!(names(directory.path()).contains(&"ca.key".to_owned()));
    half.stop().await;

    let node = start(directory.path(), true).await.expect("starts");
    assert_eq!(node.shows().0, pin, "the authority that clients know");
    assert_eq!(node.record().value.current.certificate, old.certificate);
    assert!(
        !String::from_utf8_lossy(&serde_json::to_vec(&node.record().value).expect("JSON"))
            .contains("PRIVATE")
    );
    let wanted = ["admin.crt", "admin.key", "ca.crt", "node.crt", "node.key", "seal.key"];
    assert_eq!(names(directory.path()), wanted);
    node.stop().await;

    // A crash after the record was committed and before the file was removed.
    fs::write(directory.path().join("pki/ca.key"), &old.key).expect("written");
    let again = start(directory.path(), true).await.expect("starts");
    assert_eq!(names(directory.path()), wanted);
    again.stop().await;

    // A key that is not ours is left alone, and used for nothing.
    let other = Authority::create("beef", 1, OffsetDateTime::now_utc()).expect("created");
    fs::write(directory.path().join("pki/ca.key"), &other.pem().key).expect("written");
    let again = start(directory.path(), true).await.expect("starts");
    assert_eq!(again.shows().0, pin);
    assert!(names(directory.path()).contains(&"ca.key".to_owned()));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_authority_of_an_earlier_version_stops_the_start_and_is_not_replaced() {
    let directory = temporary();
    old_directory(directory.path());
    let key = directory.path().join("pki/ca.key");
    fs::write(&key, "garbage").expect("write");
    let said = half_start(directory.path(), true).err().expect("refused").to_string();
    assert!(said.contains("ca.crt: no private key in it"), "{said}");
    assert_eq!(fs::read_to_string(&key).expect("read"), "garbage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_sealing_key_is_elsewhere_gets_an_authority_of_its_own_before_it_is_formed() {
    let directory = temporary();
    let first = start(directory.path(), false).await.expect("made");
    let old = first.shows();
    first.stop().await;
    fs::remove_dir_all(directory.path().join("pki")).expect("removed");
    let restored = start(directory.path(), false).await.expect("made anew");
    assert_ne!(restored.shows().0, old.0);
    restored.stop().await;
    let next = start(directory.path(), true).await.expect("opens its own");
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_the_keys_hear_of_every_step_of_a_rotation_and_a_restart_keeps_it() {
    let directory = temporary();
    let node = start(directory.path(), false).await.expect("made");
    let (mut api, mut peers) = (node.keyring.api_tls(), node.keyring.peer_tls());
    let now = OffsetDateTime::now_utc();
    let before = node.shows();
    let mut record = ca::begin(&node.record().value, "c0ffee", node.keyring.seal(), now).expect("begins");
    for _ in 0..2 {
        node.put(&record).await;
        api.mark_unchanged();
        peers.mark_unchanged();
        node.keyring.follow(&node.record(), now).expect("follows");
        assert!(api.has_changed().expect("open") && peers.has_changed().expect("open"), "{:?}", record.phase);
        assert!(node.keyring.follow(&node.record(), now).expect("follows").is_empty(), "once is enough");
        record = ca::advance(&record, &[], false).expect("advances");
    }
    let after = node.shows();
    assert_eq!(after.0, before.0, "clients go on seeing the authority they know");
    assert_ne!(after.1, before.1);
    node.put(&record).await;
    node.stop().await;

    let node = start(directory.path(), true).await.expect("starts");
    assert_eq!(node.shows(), after);
    assert!(names(directory.path()).contains(&"api.crt".to_owned()));
    let finished = ca::finish(&node.record().value, &[], false).expect("finishes");
    node.put(&finished).await;
    node.keyring.follow(&node.record(), now).expect("follows");
    assert!(!names(directory.path()).contains(&"api.crt".to_owned()));
    assert_ne!(node.shows().0, before.0);
    node.stop().await;
}
