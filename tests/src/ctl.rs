//! Runs `appliance ctl` as an administrator would and keeps what a person would read.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

/// What a command printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The exit code; −1 when a signal ended it.
    pub code: i32,
}

impl Printed {
    /// The standard output of a command that must have succeeded.
    ///
    /// # Panics
    /// When it did not; the message carries all it printed.
    #[must_use]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "the command failed: {self:#?}");
        self.out
    }

    /// The standard error of a command that must have failed with exit code 1.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[must_use]
    pub fn failure(self) -> String {
        assert_eq!(self.code, 1, "the command should have failed: {self:#?}");
        self.err
    }
}

/// Runs a command to its end with `input` on its standard input.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command, input: &str) -> Printed {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a piped standard input");
    let input = input.to_owned();
    // A command that does not read its input closes the pipe, and that is its good right.
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("wait for the command");
    writer.join().expect("feed the command");
    printed(&output)
}

/// Runs a program with arguments and no input.
///
/// # Panics
/// When it cannot be started.
pub fn program(path: impl AsRef<OsStr>, arguments: &[&str]) -> Printed {
    run(Command::new(path).args(arguments), "")
}

fn printed(output: &Output) -> Printed {
    Printed {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}
