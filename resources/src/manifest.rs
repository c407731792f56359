//! Manifests: YAML or JSON documents → resources.

use std::fmt;

use crate::resource::AnyResource;

/// Where a resource was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, or `-`.
    pub file: String,
    /// Which document of the file, from 1.
    pub document: usize,
    /// The line the object starts on, from 1.
    pub line: usize,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{} (document {})", self.file, self.line, self.document)
    }
}

/// One resource of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The resource.
    pub resource: AnyResource,
    /// Where it stands.
    pub source: Source,
}

/// One mistake in a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestError {
    /// Where.
    pub source: Source,
    /// What.
    pub message: String,
}

/// Reads every object of a file.
pub fn read(_text: &str, _file: &str) -> Result<Vec<Document>, Vec<ManifestError>> {
    Ok(Vec::new())
}
