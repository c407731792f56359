//! World: what a command may touch besides its arguments: the console, standard input, files, and the node.
//!
//! The environment is read here and nowhere else. Nothing is contacted before a command asks for a client, so that
//! offline commands need neither configuration nor node.

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use crate::args::{Args, ConnectionFlags};
use crate::client::Client;
use crate::config::{self, ConfigError, Environment};
use crate::console::Console;
use crate::error::ClientError;
use crate::offline::Offline;

/// Nobody types a longer answer.
const LINE_BYTES_MAX: usize = 1_024;

/// A text for standard error that ends the command.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure(error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Failure {
        Failure(text.to_string())
    }
}

/// The edges of one invocation.
pub(crate) struct World {
    pub(crate) console: Console,
    pub(crate) stdin: Box<dyn Read>,
    /// The commit the binary was built from, for `version`.
    pub(crate) commit: &'static str,
    /// What the binary does with files of the store.
    pub(crate) offline: Offline,
    /// When this command was started.
    pub(crate) now: time::OffsetDateTime,
    /// Whether a person can be asked: standard input is a terminal.
    pub(crate) person: bool,
    environment: Environment,
    flags: ConnectionFlags,
    reason: Option<String>,
}

impl World {
    /// The world of this process.
    pub(crate) fn process(args: &Args, commit: &'static str, offline: Offline) -> World {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let environment = Environment {
            socket: variable("APPLIANCE_SOCKET"),
            kubeconfig: variable("APPLIANCE_KUBECONFIG"),
            server: variable("APPLIANCE_SERVER"),
        };
        World {
            console: Console::process(),
            stdin: Box::new(io::stdin()),
            commit,
            offline,
            now: time::OffsetDateTime::now_utc(),
            person: io::stdin().is_terminal(),
            environment,
            flags: args.connection.clone(),
            reason: args.general.reason.clone(),
        }
    }

    /// A world of strings, for tests.
    #[cfg(test)]
    pub(crate) fn captured(args: &Args, stdin: &str) -> World {
        World {
            console: Console::captured(),
            stdin: Box::new(io::Cursor::new(stdin.as_bytes().to_vec())),
            commit: "unknown",
            offline: crate::cases::OFFLINE,
            now: crate::cases::NOW,
            person: false,
            environment: Environment::default(),
            flags: args.connection.clone(),
            reason: args.general.reason.clone(),
        }
    }

    /// What a person types next, without blanks around it.
    pub(crate) fn line(&mut self) -> Result<String, Failure> {
        let (mut text, mut byte) = (Vec::new(), [0]);
        // Byte by byte: whatever follows the line is not ours to take.
        while text.len() < LINE_BYTES_MAX {
            match self.stdin.read(&mut byte) {
                Ok(0) => break,
                Ok(_) if byte[0] == b'\n' => break,
                Ok(_) => text.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("standard input: {error}").into()),
            }
        }
        Ok(String::from_utf8_lossy(&text).trim().to_string())
    }

    /// The client this invocation is meant to use; what was odd about finding it is told on stderr.
    pub(crate) fn client(&mut self) -> Result<Client, Failure> {
        let read = |path: &Path| std::fs::read(path);
        let resolved = config::resolve(&self.flags, &self.environment, &read)?;
        for warning in &resolved.warnings {
            self.console.err(&format!("Warning: {warning}\n"));
        }
        Ok(Client::new(&resolved.connection, self.reason.clone(), self.console.notices())?)
    }
}
