//! Gathers the layers a configuration is made of: the flags as parsed, the environment, the configuration file. The
//! only place that reads either of the last two; what they mean is decided in `config`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::args::RunArgs;
use crate::config::{self, Config, ConfigError};
use crate::settings::{CONFIG_FILE, CONFIG_FILE_BYTES_MAX, ENVIRONMENT_PREFIX, Layers};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatherError {
    #[error("configuration file {path}: {source}; name one that can be read with --config")]
    File { path: String, source: io::Error },
    #[error(
        "configuration file {path}: larger than {CONFIG_FILE_BYTES_MAX} bytes; name the right one with --config"
    )]
    TooLarge { path: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The configuration this process was asked to run with.
pub(crate) fn config(args: RunArgs) -> Result<Config, GatherError> {
    let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(ENVIRONMENT_PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    };
    let environment: BTreeMap<String, String> = std::env::vars_os().filter_map(ours).collect();
    let file = match args.config {
        Some(path) => Some(read(&path)?.ok_or_else(|| missing(path))?),
        None => read(CONFIG_FILE)?,
    };
    Ok(config::resolve(&Layers { flags: args.flags, environment, file })?)
}

/// The file's path and text; `None` when there is no such file, which only the default may be.
fn read(path: &str) -> Result<Option<(String, String)>, GatherError> {
    let failed = |source| GatherError::File { path: path.to_owned(), source };
    let file = match File::open(Path::new(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(GatherError::TooLarge { path: path.to_owned() });
    }
    Ok(Some((path.to_owned(), text)))
}

/// A file that was named and is not there; saying so beats running with the defaults.
fn missing(path: String) -> GatherError {
    GatherError::File { path, source: io::Error::new(io::ErrorKind::NotFound, "there is no such file") }
}
