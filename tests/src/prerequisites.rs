//! What the machine must have for end-to-end tests, said before they start rather than in the middle of one.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Every program the tests run, with the Debian package it comes from.
const PROGRAMS: [(&str, &str); 4] =
    [("nft", "nftables"), ("ip", "iproute2"), ("ping", "iputils-ping"), ("conntrack", "conntrack")];

/// Checks root and programs.
///
/// # Panics
/// When something is missing; the message says what and how to get it. Missing is a failure, never a skip.
pub fn check() {
    assert!(
        rustix::process::geteuid().is_root(),
        "the end-to-end tests make network namespaces: run them as root"
    );
    for (program, package) in PROGRAMS {
        assert!(runs(program), "`{program}` is not there: `make setup` or `apt-get install {package}`");
    }
    assert!(appliance().is_file(), "{} is not built: run `make build`", appliance().display());
}

/// The `appliance` binary built beside the running test.
///
/// # Panics
/// When the running program has no path, which no Linux does to us.
pub fn appliance() -> PathBuf {
    let mut directory = std::env::current_exe().expect("path of the running program");
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    directory.join("appliance")
}

fn runs(program: &str) -> bool {
    let version = if program == "ip" || program == "ping" { "-V" } else { "--version" };
    Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
