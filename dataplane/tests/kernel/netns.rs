//! Network namespaces for tests: made, entered by a thread of their own, and removed whatever happens.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The nft these tests use.
pub(crate) const NFT: &str = "nft";

/// A namespace, removed when dropped.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new() -> Namespace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        sh(&["ip", "netns", "add", &name]);
        let namespace = Namespace { name };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Runs a command inside, words separated by blanks, and returns what it printed.
    pub(crate) fn run(&self, command: &str) -> String {
        let inside = ["ip", "netns", "exec", &self.name];
        sh(&inside.into_iter().chain(command.split(' ')).collect::<Vec<_>>())
    }

    /// Runs a script of nft inside.
    pub(crate) fn nft(&self, script: &str) -> String {
        sh(&["ip", "netns", "exec", &self.name, NFT, script])
    }

    /// Moves the calling thread inside, for good.
    pub(crate) fn enter(&self) {
        let file = File::open(Path::new("/run/netns").join(&self.name)).expect("open the namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("enter the namespace");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Best effort: a test that failed has more to say than this.
        let _ = command(&["ip", "netns", "del", &self.name]).status();
    }
}

/// Runs `test` on a thread inside a new namespace, with a runtime to block on; or says why not.
pub(crate) fn inside(test: impl FnOnce(&Namespace, &tokio::runtime::Runtime) + Send) {
    if let Err(missing) = available() {
        #[expect(
            clippy::disallowed_methods,
            reason = "whether skipping is allowed is said by the environment"
        )]
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "{missing}");
        eprintln!("skipped: {missing}");
        return;
    }
    let namespace = Namespace::new();
    let outcome = std::thread::scope(|scope| {
        let run = || {
            namespace.enter();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start a runtime");
            test(&namespace, &runtime);
        };
        scope.spawn(run).join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    for program in [&[NFT, "--version"][..], &["ip", "-V"]] {
        command(program).output().map_err(|error| format!("{}: {error}", program[0]))?;
    }
    Ok(())
}

fn command(words: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the test plays the operator and the intruder")]
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Runs a command that must succeed.
pub(crate) fn sh(words: &[&str]) -> String {
    let output = command(words).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks again until the answer is yes, for as long as anyone would wait; fails with the last answer.
pub(crate) async fn eventually<T: std::fmt::Debug>(mut ask: impl AsyncFnMut() -> Result<(), T>) {
    let asking = async {
        loop {
            match ask().await {
                Ok(()) => return,
                Err(answer) => LAST.with(|last| *last.borrow_mut() = format!("{answer:?}")),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), asking).await.is_err() {
        panic!("still: {}", LAST.with(|last| last.borrow().clone()));
    }
}

thread_local! {
    static LAST: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}
