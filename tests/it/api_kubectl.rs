//! The API over TLS, as its clients meet it: `kubectl` of Debian 12 and whatever else is installed, and strangers.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use appliance_tests::ctl::{Printed, program, run};
use appliance_tests::eventually::PATIENCE;

use crate::world::{BARE, World, object, policy};

/// Debian 12's kubectl 1.20, unpacked by `make setup`, and the one on the PATH where there is another.
fn kubectls() -> Vec<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/usr/bin/kubectl");
    assert!(unpacked.is_file(), "{} is not there: run `make setup`", unpacked.display());
    let installed = program("sh", &["-c", "command -v kubectl"]).out;
    let installed = PathBuf::from(installed.trim());
    if installed.is_file() { vec![unpacked, installed] } else { vec![unpacked] }
}

fn kubectl(world: &World, path: &Path) -> Command {
    let mut command = world.h1.namespace.command(path.to_str().expect("a printable path"));
    // A cache of its own for each: discovery of another test's node must not answer for ours.
    command.arg("--cache-dir").arg(world.node.data_dir().join("../kube-cache"));
    command.arg("--kubeconfig").arg(world.node.kubeconfig());
    command
}

fn says(world: &World, path: &Path, arguments: &[&str]) -> Printed {
    run(kubectl(world, path).args(arguments), "")
}

#[test]
fn kubectl_gets_watches_and_deletes() {
    let world =
        World::enforcing(&format!("{BARE}{}", policy("allow-ssh", "order: 10, ingress: [{action: Allow}]")));
    for path in kubectls() {
        let table = says(&world, &path, &["get", "hostendpoints"]).success();
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0][..3], ["NAME", "NODE", "INTERFACE"], "{table}");
        assert_eq!(rows[1][..3], ["h1-eth0", "h1", "eth0"], "{table}");

        let policies = says(&world, &path, &["get", "gnp"]).success();
        assert!(
            policies.lines().any(|line| line.starts_with("allow-ssh") && line.contains("default")),
            "{policies}"
        );
        let label = says(&world, &path, &["get", "hep", "-l", "ep=h1", "-o", "name"]).success();
        assert_eq!(label, "hostendpoint.projectcalico.org/h1-eth0\n");
        assert_eq!(says(&world, &path, &["get", "hep", "-l", "ep=other", "-o", "name"]).success(), "");
        let node = says(&world, &path, &["get", "hep", "h1-eth0", "-o", "jsonpath={.spec.node}"]).success();
        assert_eq!(node, "h1");
        let missing = says(&world, &path, &["get", "hep", "nope"]).failure();
        assert!(missing.contains("(NotFound)") && missing.contains("\"nope\" not found"), "{missing}");

        watch_sees_changes(&world, &path);

        let deleted = says(&world, &path, &["delete", "hep", "h1-eth0"]).success();
        assert_eq!(deleted, "hostendpoint.projectcalico.org \"h1-eth0\" deleted\n");
        world.node.wait_enforced();
        assert!(world.reaches(8055), "deleting with kubectl opens as well");
        world.node.apply(BARE);
    }
}

fn watch_sees_changes(world: &World, path: &Path) {
    let mut watch = kubectl(world, path);
    let mut child = watch.args(["get", "hep", "-w"]).stdout(Stdio::piped()).spawn().expect("start kubectl");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let next = || receiver.recv_timeout(PATIENCE).expect("a line from kubectl get -w");

    assert!(next().starts_with("NAME"));
    assert!(next().starts_with("h1-eth0"));
    world.node.apply(&object("HostEndpoint", "name: other", "node: elsewhere, interfaceName: eth7"));
    let row = next();
    assert!(row.starts_with("other") && row.contains("eth7"), "{row}");
    world.node.delete("hep", "other");
    assert!(next().starts_with("other"), "the deletion shows the last state");
    child.kill().expect("stop kubectl");
    child.wait().expect("reap kubectl");
}

#[test]
fn strangers_get_nothing_but_health() {
    let world = World::new();
    let curl = |path: &str, more: &[&str]| {
        let url = format!("https://127.0.0.1:6443{path}");
        let mut command = world.h1.namespace.command("curl");
        command.args(["-sS", "-k", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"]).args(more).arg(url);
        let printed = run(&mut command, "");
        printed.out + &printed.err
    };
    for open in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(curl(open, &[]), "200", "{open}");
    }
    let endpoints = "/apis/projectcalico.org/v3/hostendpoints";
    for closed in [endpoints, "/apis", "/api", "/metrics", "/apis/projectcalico.org/v3", "/nothing"] {
        assert_eq!(curl(closed, &[]), "401", "{closed}");
        assert_eq!(
            curl(closed, &["-H", "Authorization: Bearer guess"]),
            "401",
            "{closed} with a made-up token"
        );
    }
    assert_eq!(curl(endpoints, &["-X", "POST", "-d", "{}"]), "401");
    assert_eq!(curl(endpoints, &["-X", "DELETE"]), "401");
}

#[test]
fn metrics_are_there_for_the_admin() {
    let world = World::enforcing(BARE);
    for path in kubectls() {
        let metrics = says(&world, &path, &["get", "--raw", "/metrics"]).success();
        assert!(metrics.contains("# TYPE"), "{metrics}");
        assert_eq!(says(&world, &path, &["get", "--raw", "/readyz"]).success().trim(), "ok");
    }
}
