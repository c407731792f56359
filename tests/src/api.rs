//! The API over its Unix socket, one plain HTTP/1.0 exchange a connection: for tests that write faster than a process
//! can be started for each write, and that must tell an answer from the silence of a killed node.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes; a node that is silent for so long is a failure and not a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of one node. An error means that no whole answer came: what was asked may have happened or not.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
    patience: Duration,
}

/// The events of a watch, until the node closes it or is gone.
#[derive(Debug)]
pub struct Events {
    lines: BufReader<UnixStream>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The object, list or Status in it.
    pub body: Value,
    /// After how many seconds to ask again, if it says so.
    pub retry_after: Option<u64>,
}

/// The beginning of an answer.
struct Head {
    status: u16,
    length: Option<usize>,
    retry_after: Option<u64>,
}

impl Api {
    /// A client for the node that listens on `socket`, now or later.
    #[must_use]
    pub fn new(socket: PathBuf) -> Api {
        Api { socket, patience: PATIENCE }
    }

    /// The same client with another idea of how long a node may be silent.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Api {
        self.patience = patience;
        self
    }

    /// One request, and its whole answer.
    ///
    /// # Errors
    /// When the node is not there, or goes before its answer is complete.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.ask_with(method, path, &[], body)
    }

    /// One request with headers of its own, and its whole answer.
    ///
    /// # Errors
    /// When the node is not there, or goes before its answer is complete.
    pub fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let (Head { status, length, retry_after }, rest) = self.send(method, path, headers, body)?;
        let body = serde_json::from_slice(&whole(length, rest)?)
            .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        Ok(Answer { status, body, retry_after })
    }

    /// One of the node's numbers, as `/metrics` tells it of nobody in particular; nothing if it is not told.
    ///
    /// # Errors
    /// When the node is not there, or goes before its answer is complete.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let (Head { length, .. }, rest) = self.send("GET", "/metrics", &[], None)?;
        let text = whole(length, rest)?;
        let text = String::from_utf8_lossy(&text);
        let number = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
        Ok(text.lines().find_map(number))
    }

    /// Begins a watch.
    ///
    /// # Errors
    /// When the node is not there or refuses.
    pub fn watch(&self, path: &str) -> Result<Events> {
        let (head, lines) = self.send("GET", path, &[], None)?;
        if head.status == 200 {
            Ok(Events { lines })
        } else {
            Err(Error::other(format!("watch answered {}", head.status)))
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(Head, BufReader<UnixStream>)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let own: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // 1.0, so that a body is neither chunked nor followed by another answer; in one piece, so that a node either
        // has all of it or none.
        let request = format!(
            "{method} {path} HTTP/1.0\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{own}\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;
        head(stream)
    }
}

impl Events {
    /// The next event, or nothing when the watch has ended. Half an event is none.
    pub fn next_event(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(1..) if line.ends_with('\n') => serde_json::from_str(&line).ok(),
            _ => None,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.lines.get_ref().shutdown(Shutdown::Both);
    }
}

/// The body, unless some of it is missing.
fn whole(length: Option<usize>, mut rest: BufReader<UnixStream>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    rest.read_to_end(&mut text)?;
    if length.is_some_and(|length| length != text.len()) {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(text)
}

fn head(stream: UnixStream) -> Result<(Head, BufReader<UnixStream>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut head = Head { status: status.ok_or(ErrorKind::UnexpectedEof)?, length: None, retry_after: None };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => head.length = value.parse().ok(),
            Some(("retry-after", value)) => head.retry_after = value.parse().ok(),
            Some(_) => {}
            None => return Ok((head, reader)),
        }
    }
}
