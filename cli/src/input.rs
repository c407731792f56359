//! Reading manifests: a file, a directory or standard input becomes a list of resources, all or nothing.
//!
//! Every path is read and every document parsed before any is used. It finds and opens files and words what went
//! wrong; parsing is `resources::manifest`. Called by every command that takes `-f`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use appliance_resources::AnyResource;
use appliance_resources::manifest::{self, ManifestError, Problem, Source};
use serde_json::Value;

use crate::args::Input;
use crate::error::UNKNOWN_FIELD;
use crate::object::{self, Scope};
use crate::target::Target;
use crate::world::Failure;

/// A file larger than this is no manifest; calicoctl's limit is 10 MiB a document, a file may hold several.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The extensions of files that are read from a directory.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// One resource of the input.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) target: Target,
    /// As it will be sent: its namespace filled in, metadata that is not the writer's left out.
    pub(crate) object: Value,
    pub(crate) resource: AnyResource,
    pub(crate) source: Source,
}

/// The resources of `-f`, in order. `None` means there are none and `--skip-empty` says that this is fine.
pub(crate) fn read(input: &Input, stdin: &mut dyn Read) -> Result<Option<Vec<Manifest>>, Failure> {
    let path = input.filename.as_deref().ok_or("must specify --filename")?;
    let (mut resources, mut mistakes, mut documents) = (Vec::new(), Vec::new(), 0);
    for (file, text) in texts(path, input.recursive, stdin)? {
        match manifest::read(&text, &file) {
            Ok(found) => {
                documents += found.len();
                resources.extend(found);
            }
            Err(errors) => {
                documents += errors.iter().map(|error| error.source.document).max().unwrap_or(0);
                mistakes.extend(errors);
            }
        }
    }
    if !mistakes.is_empty() {
        return Err(Failure(describe(&mistakes, documents > 1)));
    }
    if resources.is_empty() {
        let place = if path.is_dir() { "directory" } else { "file" };
        let complaint = format!("no resources specified in {place} {}", path.display());
        return if input.skip_empty { Ok(None) } else { Err(Failure(complaint)) };
    }
    let scope = Scope { namespace: input.namespace.as_deref(), all_namespaces: false };
    let manifests = resources.into_iter().map(|document| manifest_of(document, scope));
    manifests.collect::<Result<Vec<_>, _>>().map(Some)
}

fn manifest_of(document: manifest::Document, scope: Scope) -> Result<Manifest, Failure> {
    let manifest::Document { mut resource, source } = document;
    let kind = resource.kind();
    let namespace = scope.of_document(kind, resource.meta().namespace.as_deref())?;
    resource.meta_mut().namespace = namespace.clone();
    if resource.meta().name.is_empty() {
        // A workload endpoint's name follows from its spec; for the others this changes nothing.
        let mut named = resource.clone();
        appliance_resources::set_defaults(&mut named);
        resource.meta_mut().name.clone_from(&named.meta().name);
    }
    let target = Target { kind, namespace, name: resource.meta().name.clone() };
    let object = object::written(resource.to_value());
    Ok(Manifest { target, object, resource, source })
}

/// calicoctl's one line first, since scripts match it; then, where the input has several documents, each place.
fn describe(mistakes: &[ManifestError], several: bool) -> String {
    let Some(first) = mistakes.first() else { return String::new() };
    let line = match &first.problem {
        Problem::UnknownField(path) => {
            format!("{UNKNOWN_FIELD}{}", path.rsplit('.').next().unwrap_or(path))
        }
        // What used to be calicoctl's own format deserves the longer answer, which says what to write instead.
        Problem::UnknownKind { api_version, kind } if api_version != "v1" => {
            format!(
                "failed to execute command: unknown resource type ({kind}) and/or version ({api_version})"
            )
        }
        _ => format!("failed to execute command: {first}"),
    };
    if !several && mistakes.len() == 1 {
        return line;
    }
    let places = mistakes.iter().map(|mistake| format!("\n  {mistake}"));
    std::iter::once(line).chain(places).collect()
}

/// The name and the text of every file the path stands for.
fn texts(path: &Path, recursive: bool, stdin: &mut dyn Read) -> Result<Vec<(String, String)>, Failure> {
    if path == Path::new("-") {
        return Ok(vec![("-".to_string(), text("-", stdin)?)]);
    }
    let fail = |path: &Path, error: &io::Error| {
        Failure(format!("failed to execute command: {}", open_error(path, error)))
    };
    let metadata = fs::metadata(path).map_err(|error| fail(path, &error))?;
    let files = if metadata.is_dir() { folder(path, recursive)? } else { vec![path.to_path_buf()] };
    let read = |file: PathBuf| {
        let mut opened = File::open(&file).map_err(|error| fail(&file, &error))?;
        let name = file.display().to_string();
        let text = text(&name, &mut opened)?;
        Ok((name, text))
    };
    files.into_iter().map(read).collect()
}

fn text(name: &str, reader: &mut dyn Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = reader.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("failed to execute command: read {name}: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure(format!(
            "failed to execute command: {name} is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    let text = String::from_utf8(bytes);
    text.map_err(|error| Failure(format!("failed to execute command: {name} is not UTF-8: {error}")))
}

/// The manifests of a directory in lexical order; sub-directories only when asked, symbolic links to them never.
fn folder(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error: io::Error| Failure(format!("failed to execute command: {}", open_error(path, &error)));
    let mut entries = fs::read_dir(path).map_err(fail)?.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().map_err(fail)?);
        if kind.is_dir() {
            files.extend(if recursive { folder(&path, true)? } else { Vec::new() });
        } else if is_manifest(&path) && !path.is_dir() {
            files.push(path);
        }
    }
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The words of Go's os.Open, which calicoctl's users have seen.
fn open_error(path: &Path, error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_string(),
        io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        _ => error.to_string(),
    };
    format!("open {}: {reason}", path.display())
}
