//! Manifests: what people write (YAML or JSON, one object or many) → resources, each with the place it came from.
//!
//! A file is a stream of documents; a document is an object, a list object (`kind: HostEndpointList`), or a list of
//! either, as in the host endpoint how-to. Everything is flattened in order. Field names may be in any case, unknown
//! and doubled ones are refused. Every mistake of every document is collected, since nothing is sent when one is wrong.
//! Validation is not done here: the caller decides what it validates, and against what.

use std::fmt;

use crate::{
    decode::{DecodeError, Unknown, decode},
    field_error::{FieldError, quoted_list},
    kind::Kind,
    resource::AnyResource,
    schema::Spelling,
    yaml::{self, Node, Tree},
};

/// A larger document is refused before it is parsed, as calicoctl refuses it.
const DOCUMENT_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Where something was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, or `-` for standard input.
    pub file: String,
    /// Which document of the file, from 1.
    pub document: usize,
    /// The line, from 1.
    pub line: usize,
}

/// `FILE:LINE (document N)`.
impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{} (document {})", self.file, self.line, self.document)
    }
}

/// One resource of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The resource, as written: not defaulted, not validated.
    pub resource: AnyResource,
    /// The line it begins on.
    pub source: Source,
}

/// One mistake in a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestError {
    /// Where the mistake is.
    pub source: Source,
    /// Which object it is in, once that is known: `HostEndpoint(name)`.
    pub object: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a manifest; `ctl` words some of these in its own way.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// It is not YAML, or it has the same key twice.
    Syntax(String),
    /// The document is too large to look at.
    TooLarge,
    /// It is neither an object nor a list of objects.
    NotAnObject,
    /// It does not say what it is.
    KindMissing,
    /// It says it is something we do not know.
    UnknownKind {
        /// What it says its version is.
        api_version: String,
        /// What it says its kind is.
        kind: String,
    },
    /// It has a field its kind does not have; the path of the field.
    UnknownField(String),
    /// It has a value its field can not hold.
    Field(FieldError),
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { file, document, .. } = &self.source;
        // Which document and which file are all there is to say about these two.
        match &self.problem {
            Problem::KindMissing => return write!(f, "kind is missing in document {document} of {file}"),
            Problem::TooLarge => {
                let limit = DOCUMENT_BYTES_MAX / (1024 * 1024);
                return write!(f, "document {document} of {file} is larger than {limit} MiB");
            }
            _ => write!(f, "{}: ", self.source)?,
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ManifestError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Syntax(message) => f.write_str(message),
            Problem::TooLarge => f.write_str("the document is too large"),
            Problem::NotAnObject => {
                f.write_str("expected an object with apiVersion and kind, or a list of them")
            }
            Problem::KindMissing => f.write_str("kind is missing"),
            Problem::UnknownKind { api_version, kind } => {
                write!(f, "unknown resource type ({kind}) and/or version ({api_version})")?;
                f.write_str(&hint(api_version, kind))
            }
            Problem::UnknownField(path) => {
                write!(f, "field in document is not recognized or is in the wrong location: {path}")
            }
            Problem::Field(error) => error.fmt(f),
        }
    }
}

/// What the author of an unknown kind or version probably meant.
fn hint(api_version: &str, kind: &str) -> String {
    let close = Kind::from_name(kind).or_else(|| Kind::from_alias(kind));
    match (close, api_version, kind) {
        (_, "v1", "List") => "; write the objects as a YAML list or as documents separated by ---".to_owned(),
        (Some(close), "v1", _) => {
            let api_version = close.api_version();
            format!("; v1 is the old calicoctl format, write apiVersion: {api_version} and kind: {close}")
        }
        (Some(close), ..) => {
            format!("; did you mean apiVersion: {} and kind: {close}", close.api_version())
        }
        (None, ..) => {
            format!("; known kinds: {}", quoted_list(Kind::ALL.iter().map(|kind| kind.name())))
        }
    }
}

/// Reads every object of a file, or tells every mistake in it. `file` is only for telling.
pub fn read(text: &str, file: &str) -> Result<Vec<Document>, Vec<ManifestError>> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = Reader { file, document: 1, found: Vec::new(), errors: Vec::new() };
    let starts = document_starts(text);
    if let Some((document, line)) = too_large(text, &starts) {
        reader.document = document;
        reader.refuse(line, None, Problem::TooLarge);
        return Err(reader.errors);
    }
    for document in yaml::documents(text) {
        let line = match &document {
            Ok(node) => node.line,
            Err(error) => error.line,
        };
        reader.document = starts.iter().filter(|start| start.line <= line).count().max(1);
        match document {
            Ok(node) => reader.node(&node),
            Err(error) => reader.refuse(error.line, None, Problem::Syntax(error.message)),
        }
    }
    if reader.errors.is_empty() { Ok(reader.found) } else { Err(reader.errors) }
}

/// Where a document begins.
struct Start {
    line: usize,
    byte: usize,
}

/// Where each document of a stream begins: at a `---`, or at the first content when no `---` comes before it.
fn document_starts(text: &str) -> Vec<Start> {
    let mut starts = Vec::new();
    let mut byte = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let content = line.trim();
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim_end().is_empty() || rest.starts_with([' ', '\t']));
        let first = starts.is_empty() && !content.is_empty() && !content.starts_with(['#', '%']);
        if marker || first {
            starts.push(Start { line: index + 1, byte });
        }
        byte += line.len();
    }
    starts
}

/// The first document that is too large, and its line.
fn too_large(text: &str, starts: &[Start]) -> Option<(usize, usize)> {
    let ends = starts.iter().skip(1).map(|start| start.byte).chain([text.len()]);
    let sized = starts.iter().zip(ends).enumerate();
    sized
        .filter(|(_, (start, end))| end - start.byte > DOCUMENT_BYTES_MAX)
        .map(|(index, (start, _))| (index + 1, start.line))
        .next()
}

/// What has been read so far, and where the reading is.
struct Reader<'a> {
    file: &'a str,
    document: usize,
    found: Vec<Document>,
    errors: Vec<ManifestError>,
}

impl Reader<'_> {
    /// Reads an object, a list object, or a list. YAML's own bound on depth bounds the recursion.
    fn node(&mut self, node: &Node) {
        match &node.tree {
            Tree::List(items) => items.iter().for_each(|item| self.node(item)),
            Tree::Map(_) => match list_kind(node) {
                Some(_) => self.list(node),
                None => self.object(node),
            },
            _ => self.refuse(node.line, None, Problem::NotAnObject),
        }
    }

    /// Reads the items of a list object; its own metadata is that of some earlier answer and says nothing to us.
    fn list(&mut self, node: &Node) {
        if let Tree::Map(members) = &node.tree {
            const KNOWN: &[&str] = &["apiVersion", "kind", "metadata", "items"];
            for (name, member) in members {
                if !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    self.refuse(member.line, None, Problem::UnknownField(name.clone()));
                }
            }
        }
        match node.member("items").map(|items| (&items.tree, items)) {
            Some((Tree::List(items), _)) => items.iter().for_each(|item| self.node(item)),
            None | Some((Tree::Null, _)) => {}
            Some((_, items)) => self.refuse(items.line, None, Problem::NotAnObject),
        }
    }

    fn object(&mut self, node: &Node) {
        match decode(node.to_value(), Unknown::Refuse, Spelling::AnyCase) {
            Ok(decoded) => {
                let source = self.source(node.line);
                self.found.push(Document { resource: decoded.resource, source });
            }
            Err(error) => self.refuse_object(node, error),
        }
    }

    fn refuse_object(&mut self, node: &Node, error: DecodeError) {
        match error {
            DecodeError::NotAnObject => self.refuse(node.line, None, Problem::NotAnObject),
            DecodeError::KindMissing => self.refuse(node.line, None, Problem::KindMissing),
            DecodeError::UnknownKind { api_version, kind } => {
                self.refuse(node.line, None, Problem::UnknownKind { api_version, kind });
            }
            DecodeError::UnknownFields { kind, name, fields } => {
                for field in fields {
                    let object = Some(format!("{kind}({name})"));
                    self.refuse(node.line_of(&field), object, Problem::UnknownField(field));
                }
                // A second look without the strange fields shows what is wrong with the others.
                if let Err(error) = decode(node.to_value(), Unknown::Drop, Spelling::AnyCase) {
                    self.refuse_object(node, error);
                }
            }
            DecodeError::Invalid { kind, name, errors } => {
                for error in errors.0 {
                    let object = Some(format!("{kind}({name})"));
                    self.refuse(node.line_of(&error.path), object, Problem::Field(error));
                }
            }
        }
    }

    fn source(&self, line: usize) -> Source {
        Source { file: self.file.to_owned(), document: self.document, line }
    }

    fn refuse(&mut self, line: usize, object: Option<String>, problem: Problem) {
        self.errors.push(ManifestError { source: self.source(line), object, problem });
    }
}

/// The kind whose list this object says it is.
fn list_kind(node: &Node) -> Option<Kind> {
    let text = |name: &str| match node.member(name).map(|member| &member.tree) {
        Some(Tree::String(text)) => text.as_str(),
        _ => "",
    };
    Kind::from_list_name(text("kind")).filter(|kind| kind.api_version() == text("apiVersion"))
}

#[cfg(test)]
mod tests;
