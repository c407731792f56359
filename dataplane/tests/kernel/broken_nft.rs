//! What becomes of the policy when nft itself fails: it stays as it was, the report says why, and the change comes when
//! nft is back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use appliance_dataplane::{Options, Report};
use appliance_resources::EnforcementState;

use crate::listing::listing;
use crate::netns::{Namespace, inside};
use crate::reconciler::{POLICY, Running, block_on, veth};

/// A program in place of nft that does what it is told to, before or instead of running the real one.
struct Wrapper {
    directory: tempfile::TempDir,
}

impl Wrapper {
    fn new() -> Wrapper {
        let wrapper = Wrapper { directory: tempfile::tempdir().expect("a directory") };
        wrapper.does("");
        wrapper
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("nft")
    }

    /// From now on every run begins with `body`.
    fn does(&self, body: &str) {
        let unfinished = self.directory.path().join("nft.new");
        let log = self.directory.path().join("log");
        let text = format!("#!/bin/sh\necho \"$@\" >> {}\n{body}\nexec nft \"$@\"\n", log.display());
        fs::write(&unfinished, text).expect("write");
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).expect("make it a program");
        fs::rename(unfinished, self.path()).expect("put it in place");
    }

    /// How often it was run.
    fn runs(&self) -> usize {
        fs::read_to_string(self.directory.path().join("log")).expect("read the log").lines().count()
    }

    async fn enforcing(&self, namespace: &Namespace) -> Running {
        veth(namespace);
        let mut running = Running::with(Options { nft: self.path(), ..Options::new("here") });
        running.begin(POLICY).await;
        running
    }
}

/// The policy with another rule: a change of structure, which takes nft.
fn changed(round: u64) -> String {
    POLICY.replace("ports: [80, 443]", &format!("ports: [80, {}]", 1_000 + round))
}

fn enforcing(revision: u64) -> impl Fn(&Report) -> bool {
    move |report| report.state == EnforcementState::Enforcing && report.revision == revision
}

#[test]
fn an_nft_that_fails_leaves_the_policy_and_is_reported() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            let wrapper = Wrapper::new();
            let mut running = wrapper.enforcing(namespace).await;
            let failures = [
                ("echo 'internal error' >&2; exit 1", "internal error"),
                ("head -c 20000000 /dev/zero | tr '\\0' e >&2; exit 1", "eeee"),
                ("kill -9 $$", "SIGKILL"),
                ("exit 3", "exit status: 3"),
            ];
            for (revision, (body, reason)) in (2..).zip(failures) {
                let before = listing(namespace);
                wrapper.does(body);
                running.send(revision, &changed(revision)).await;
                let failed = |report: &Report| report.state == EnforcementState::Failed;
                let report = running.reported(failed).await;
                assert!(report.message.contains(reason), "{}", report.message);
                assert!(report.message.len() < 3_000, "{}", report.message.len());
                assert_eq!(report.revision, revision - 1);
                assert_eq!(listing(namespace), before, "{body}");
                wrapper.does("");
                running.reported(enforcing(revision)).await;
                assert!(listing(namespace).contains(&(1_000 + revision).to_string()));
            }
            running.killed().await;
        });
    });
}

#[test]
fn an_nft_that_is_gone_is_reported_and_drift_meanwhile_is_repaired_when_it_is_back() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            let wrapper = Wrapper::new();
            let mut running = wrapper.enforcing(namespace).await;
            let before = listing(namespace);
            fs::remove_file(wrapper.path()).expect("remove");
            running.send(2, &changed(2)).await;
            let report = running.reported(|report| report.state == EnforcementState::Failed).await;
            let path = wrapper.path().display().to_string();
            assert!(report.message.contains(&format!("{path} can not be run")), "{}", report.message);
            assert_eq!(listing(namespace), before);
            namespace.nft("delete table inet appliance");
            // The next attempts fail as well; then nft is back.
            tokio::time::sleep(std::time::Duration::from_millis(700)).await;
            assert_eq!(running.reported(|_| true).await.drift.repairs, 0);
            wrapper.does("");
            let report = running.reported(|report| report.drift.repairs == 1).await;
            let change = &report.drift.last_change;
            assert!(change.contains("the table was deleted (by nft (pid"), "{change}");
            running.reported(enforcing(2)).await;
            running.killed().await;
        });
    });
}

/// Committed, but killed before it could say so: looked up, not done twice and not blamed on anyone.
#[test]
fn an_nft_killed_after_its_commit_is_not_repeated() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            let wrapper = Wrapper::new();
            let mut running = wrapper.enforcing(namespace).await;
            wrapper.does("case \"$*\" in '-j -f -') nft \"$@\"; kill -9 $$;; esac");
            let more = format!("{}---{}", changed(2), POLICY.replace("name: web}", "name: more}"));
            running.send(2, &more).await;
            let report = running.reported(enforcing(2)).await;
            assert_eq!((report.drift.repairs, report.drift.last_change.as_str()), (0, ""));
            wrapper.does("");
            let adopted = listing(namespace);
            running.killed().await;
            Running::enforcing(&more, None).await.killed().await;
            assert_eq!(listing(namespace), adopted, "no rule twice");
        });
    });
}

#[test]
fn an_nft_that_hangs_does_not_hold_up_the_end() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            let wrapper = Wrapper::new();
            let running = wrapper.enforcing(namespace).await;
            let (before, runs) = (listing(namespace), wrapper.runs());
            wrapper.does("exec sleep 1000");
            running.send(2, &changed(2)).await;
            crate::netns::eventually(async || if wrapper.runs() > runs { Ok(()) } else { Err("not run") })
                .await;
            running.stopped().await;
            assert_eq!(listing(namespace), before);
        });
    });
}

/// Who commits to other tables, however often, costs us no run of nft.
#[test]
fn a_busy_neighbour_costs_no_listing() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            let wrapper = Wrapper::new();
            let mut running = wrapper.enforcing(namespace).await;
            let runs = wrapper.runs();
            let file = tempfile::NamedTempFile::new().expect("a file");
            let adds: Vec<String> = (0..600)
                .map(|at| format!("add element ip other s {{ 10.0.{}.{} }}\n", at / 250, at % 250))
                .collect();
            let table = "add table ip other\nadd set ip other s { type ipv4_addr; }\n";
            fs::write(file.path(), format!("{table}{}", adds.concat())).expect("write");
            let name = namespace.name.clone();
            // Interactive, nft commits line by line.
            let script = format!(
                "while read -r line; do echo \"$line\"; sleep 0.002; done < {} | nft -i",
                file.path().display()
            );
            let neighbour = tokio::task::spawn_blocking(move || {
                crate::netns::sh(&["ip", "netns", "exec", &name, "sh", "-c", &script])
            });
            let cpu = || {
                fs::read_to_string("/proc/thread-self/schedstat")
                    .expect("read")
                    .split(' ')
                    .next()
                    .and_then(|ns| ns.parse::<u64>().ok())
                    .expect("a number")
            };
            let before = cpu();
            neighbour.await.expect("it ends");
            println!("600 foreign commits cost {} us", (cpu() - before) / 1_000);
            let neighbours = namespace.nft("list set ip other s");
            assert!(neighbours.contains("10.0.2.99"), "{neighbours}");
            // What is answered after the announcements shows that they were read.
            running.send(2, POLICY).await;
            let report = running.reported(enforcing(2)).await;
            assert_eq!((wrapper.runs(), report.drift.repairs), (runs, 0));
            running.killed().await;
        });
    });
}
