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
}

impl Api {
    /// A client for the node that listens on `socket`, now or later.
    #[must_use]
    pub fn new(socket: PathBuf) -> Api {
        Api { socket }
    }

    /// One request, and its whole answer.
    ///
    /// # Errors
    /// When the node is not there, or goes before its answer is complete.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let (status, length, mut rest) = self.send(method, path, body)?;
        let mut text = Vec::new();
        rest.read_to_end(&mut text)?;
        if length.is_some_and(|length| length != text.len()) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let body =
            serde_json::from_slice(&text).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        Ok(Answer { status, body })
    }

    /// Begins a watch.
    ///
    /// # Errors
    /// When the node is not there or refuses.
    pub fn watch(&self, path: &str) -> Result<Events> {
        let (status, _, lines) = self.send("GET", path, None)?;
        if status == 200 {
            Ok(Events { lines })
        } else {
            Err(Error::other(format!("watch answered {status}")))
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Option<usize>, BufReader<UnixStream>)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        // 1.0, so that a body is neither chunked nor followed by another answer.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
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

fn head(stream: UnixStream) -> Result<(u16, Option<usize>, BufReader<UnixStream>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(ErrorKind::UnexpectedEof)?;
    let mut length = None;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(_) => {}
            None => return Ok((status, length, reader)),
        }
    }
}
