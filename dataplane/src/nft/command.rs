//! Command: runs nft. The only code that starts a process.
//!
//! `nft -j -f -` for transactions, with `-c` to ask without doing, `nft -j list table` for listings. Standard input has
//! its own task, so that a large document can not block on an answer nobody reads; standard error is kept, for it is the
//! only thing nft says; every run has a time limit, and a run that is given up is killed. nft's words are in English
//! whatever the host speaks.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Loading 50,000 rules takes 3 seconds and listing them beside a busy writer 9; beyond this, something hangs.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Of nft's standard error, what is kept for people: the first complaint and its surroundings.
const STDERR_MAX: usize = 2_000;
/// Of nft's standard error, what is read into memory: `STDERR_MAX` characters of four bytes at most.
const STDERR_BYTES: u64 = 4 * STDERR_MAX as u64;
/// Older nft processes the whole ruleset for every command (reference/nftables.md 9).
const OLDEST: NftVersion = NftVersion { major: 1, minor: 0, patch: 1 };

/// Why a run of nft failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("{} can not be run: {error}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("nft did not answer within {} seconds", TIME_LIMIT.as_secs())]
    TimeLimit,
    /// It was killed, or lost sight of.
    #[error("nft was interrupted: {how}")]
    Interrupted {
        /// By what.
        how: String,
    },
    /// It ended with an error.
    #[error("nft refused: {stderr}")]
    Refused {
        /// What it said.
        stderr: String,
    },
}

/// Whether a listing is of a table that is switched off.
pub(crate) fn is_dormant(listing: &str) -> bool {
    let mut flags = listing.lines().filter_map(|line| line.trim_start().strip_prefix("flags "));
    flags.any(|flags| flags.contains("dormant"))
}

/// Runs one nft.
#[derive(Clone, Debug)]
pub struct NftCommand {
    path: PathBuf,
}

impl NftCommand {
    /// Will run the program at `path`, or the one of that name in the search path.
    pub fn new(path: &Path) -> NftCommand {
        NftCommand { path: path.to_owned() }
    }

    /// Commits the transaction in `document`.
    pub async fn run(&self, document: String) -> Result<(), CommandError> {
        self.spawn(&["-j", "-f", "-"], document).await.map(drop)
    }

    /// Asks the kernel whether it would commit the transaction in `document`.
    pub async fn check(&self, document: String) -> Result<(), CommandError> {
        self.spawn(&["-j", "-c", "-f", "-"], document).await.map(drop)
    }

    /// The JSON listing of `inet table`; none when there is no such table.
    pub async fn list(&self, table: &str) -> Result<Option<String>, CommandError> {
        match self.spawn(&["-j", "-n", "list", "table", "inet", table], String::new()).await {
            Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
            Err(CommandError::Refused { stderr }) if stderr.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The listing of `inet table` in nft's own words, members of sets left out; none when there is no such table.
    pub async fn terse(&self, table: &str) -> Result<Option<String>, CommandError> {
        match self.spawn(&["-t", "list", "table", "inet", table], String::new()).await {
            Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
            Err(CommandError::Refused { stderr }) if stderr.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Commits a script, as the boot unit does.
    pub async fn load(&self, script: String) -> Result<(), CommandError> {
        self.spawn(&["-f", "-"], script).await.map(drop)
    }

    /// Whether `inet table` is switched off, which the JSON of nft 1.0.6 does not say; for hosts that refuse netlink.
    pub async fn dormant(&self, table: &str) -> Result<bool, CommandError> {
        Ok(self.terse(table).await?.is_some_and(|listing| is_dormant(&listing)))
    }

    async fn spawn(&self, arguments: &[&str], input: String) -> Result<Output, CommandError> {
        let start = |error| CommandError::Start { path: self.path.clone(), error };
        #[expect(clippy::disallowed_methods, reason = "the one place that starts a process")]
        let mut child = tokio::process::Command::new(&self.path)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A write that fails is an nft that ended early, and its standard error says why.
            tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
        }
        let output = tokio::time::timeout(TIME_LIMIT, outcome(child))
            .await
            .map_err(|_| CommandError::TimeLimit)?
            .map_err(|error| CommandError::Interrupted { how: error.to_string() })?;
        match output.status.code() {
            Some(0) => Ok(output),
            Some(_) => Err(CommandError::Refused { stderr: stderr(&output) }),
            None => Err(CommandError::Interrupted { how: output.status.to_string() }),
        }
    }
}

/// Waits for the end. All of standard error is read, so that nobody waits for us to do so, and its beginning is kept:
/// nft complains once for each command, and a transaction may have 100,000.
async fn outcome(mut child: tokio::process::Child) -> io::Result<Output> {
    let (mut said, mut complained) = (child.stdout.take(), child.stderr.take());
    let listing = async {
        let mut bytes = Vec::new();
        if let Some(said) = &mut said {
            said.read_to_end(&mut bytes).await?;
        }
        Ok(bytes)
    };
    let complaint = async {
        let mut bytes = Vec::new();
        if let Some(complained) = &mut complained {
            complained.take(STDERR_BYTES).read_to_end(&mut bytes).await?;
            tokio::io::copy(complained, &mut tokio::io::sink()).await?;
        }
        Ok(bytes)
    };
    let (status, stdout, stderr) = tokio::try_join!(child.wait(), listing, complaint)?;
    Ok(Output { status, stdout, stderr })
}

fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    match text.is_empty() {
        true => format!("({})", output.status),
        false => text.chars().take(STDERR_MAX).collect(),
    }
}

/// nft's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NftVersion {
    /// 1 in 1.0.6.
    pub major: u32,
    /// 0 in 1.0.6.
    pub minor: u32,
    /// 6 in 1.0.6.
    pub patch: u32,
}

impl std::fmt::Display for NftVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl NftVersion {
    /// Reads `nftables v1.0.6 (Lester Gooch #5)`.
    fn parse(text: &str) -> Option<NftVersion> {
        let version = text.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
        let mut numbers = version.split('.').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0)).ok();
        Some(NftVersion { major: next()?, minor: next()?, patch: next()? })
    }
}

/// Why this host can not enforce, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no nft.
    #[error("nft was not found at {}: install the package nftables", .0.display())]
    NotInstalled(PathBuf),
    /// It can not be run.
    #[error("{} can not be run: {error}: reinstall the package nftables", path.display())]
    NotRunnable {
        /// The program.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is older than we can work with.
    #[error("nft is version {found}, at least {OLDEST} is needed: upgrade the package nftables")]
    TooOld {
        /// What is installed.
        found: NftVersion,
    },
    /// It was built without JSON.
    #[error("nft was built without JSON: install a build with libjansson (Debian's package nftables has it)")]
    NoJson,
    /// We may not change the firewall.
    #[error(
        "no permission to change nftables: run as root or with CAP_NET_ADMIN, in a network namespace of your own"
    )]
    NotPermitted,
    /// Anything else.
    #[error("nft does not work here: {stderr}: check that the kernel has nf_tables (modprobe nf_tables)")]
    Broken {
        /// What it said.
        stderr: String,
    },
}

/// Finds out whether the nft at `nft` can do what we need here. Runs it twice and changes nothing.
pub fn probe(nft: &Path) -> Result<NftVersion, ProbeError> {
    let version = run_blocking(nft, &["--version"])?;
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    let version =
        NftVersion::parse(&text).ok_or(ProbeError::Broken { stderr: format!("it calls itself {text:?}") })?;
    if version < OLDEST {
        return Err(ProbeError::TooOld { found: version });
    }
    // Asks to create a table, without doing it: needs JSON and the privilege, and lists nobody's rules.
    let document = r#"{"nftables":[{"add":{"table":{"family":"inet","name":"appliance-probe"}}}]}"#;
    let answer = run_blocking_with(nft, &["-j", "-c", "-f", "-"], document)?;
    if answer.status.success() { Ok(version) } else { Err(refusal(stderr(&answer))) }
}

fn refusal(stderr: String) -> ProbeError {
    if stderr.contains("JSON support not compiled") {
        ProbeError::NoJson
    } else if stderr.contains("Operation not permitted") || stderr.contains("must be root") {
        ProbeError::NotPermitted
    } else {
        ProbeError::Broken { stderr }
    }
}

fn run_blocking(nft: &Path, arguments: &[&str]) -> Result<Output, ProbeError> {
    run_blocking_with(nft, arguments, "")
}

fn run_blocking_with(nft: &Path, arguments: &[&str], input: &str) -> Result<Output, ProbeError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ProbeError::NotInstalled(nft.to_owned()),
        _ => ProbeError::NotRunnable { path: nft.to_owned(), error },
    };
    #[expect(clippy::disallowed_methods, reason = "the one place that starts a process")]
    let mut child = std::process::Command::new(nft)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Far less than a pipe holds; a failure is an nft that ended early, and its standard error says why.
        let _ = io::Write::write_all(&mut stdin, input.as_bytes());
    }
    child.wait_with_output().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that says `said` and ends with `code`, in place of nft; `--version` is answered by 1.0.6.
    fn script(directory: &tempfile::TempDir, body: &str) -> PathBuf {
        let path = directory.path().join("nft");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn versions_are_read() {
        let version = |major, minor, patch| Some(NftVersion { major, minor, patch });
        assert_eq!(NftVersion::parse("nftables v1.0.6 (Lester Gooch #5)"), version(1, 0, 6));
        assert_eq!(NftVersion::parse("nftables v1.1 (x)"), version(1, 1, 0));
        assert_eq!(NftVersion::parse("iptables"), None);
        assert_eq!(NftVersion::parse("nftables v1.x.2"), None);
    }

    #[test]
    fn a_probe_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert!(matches!(probe(&missing), Err(ProbeError::NotInstalled(path)) if path == missing));
        let old = script(&directory, "echo 'nftables v0.9.8 (E.D.S.)'");
        assert!(matches!(probe(&old), Err(ProbeError::TooOld { .. })));
        let answers = |complaint: &str| {
            let body = "[ $1 = --version ] && { echo 'nftables v1.0.6 (x)'; exit 0; }\ncat >/dev/null";
            probe(&script(&directory, &format!("{body}\necho '{complaint}' >&2; exit 1")))
        };
        assert!(matches!(answers("Error: JSON support not compiled-in"), Err(ProbeError::NoJson)));
        assert!(matches!(answers("Error: Operation not permitted"), Err(ProbeError::NotPermitted)));
        assert!(matches!(answers("kaput"), Err(ProbeError::Broken { stderr }) if stderr == "kaput"));
    }

    #[tokio::test]
    async fn an_nft_that_ends_early_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let nft = NftCommand::new(&script(&directory, "echo 'no memory' >&2; exit 3"));
        let refused = nft.run("x".repeat(1_000_000)).await;
        assert!(matches!(refused, Err(CommandError::Refused { stderr }) if stderr == "no memory"));
    }

    #[tokio::test]
    async fn an_nft_that_complains_without_end_is_cut_short() {
        let directory = tempfile::tempdir().unwrap();
        let nft =
            NftCommand::new(&script(&directory, "head -c 50000000 /dev/zero | tr '\\0' 'e' >&2; exit 1"));
        let refused = nft.run(String::new()).await;
        assert!(matches!(refused, Err(CommandError::Refused { stderr }) if stderr == "e".repeat(STDERR_MAX)));
    }

    /// Killed is not refused: it may have committed.
    #[tokio::test]
    async fn an_nft_that_is_killed_leaves_the_outcome_open() {
        let directory = tempfile::tempdir().unwrap();
        let nft = NftCommand::new(&script(&directory, "kill -9 $$"));
        let killed = nft.run(String::new()).await;
        assert!(
            matches!(&killed, Err(CommandError::Interrupted { how }) if how.contains("SIGKILL")),
            "{killed:?}"
        );
    }

    /// Time is paused and jumps when there is nothing to do but wait.
    #[tokio::test(start_paused = true)]
    async fn an_nft_that_hangs_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let nft = NftCommand::new(&script(&directory, "exec sleep 1000"));
        assert!(matches!(nft.run("x".repeat(1_000_000)).await, Err(CommandError::TimeLimit)));
    }
}
