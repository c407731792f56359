//! Tells the binary what it was built from: the commit (`APPLIANCE_COMMIT`, else what git says) and the target.
//! A build from a source archive has neither variable nor repository and says `unknown`.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=APPLIANCE_COMMIT");
    // Debug builds do not follow every commit: rebuilding the binary for a line of its version is not worth it there.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
    let commit = env::var("APPLIANCE_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(commit_of_git);
    println!("cargo::rustc-env=APPLIANCE_BUILD_COMMIT={}", commit.unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo::rustc-env=APPLIANCE_BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
}

fn commit_of_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
