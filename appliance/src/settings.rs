//! Settings: the one table of everything an operator can set, and the layers it is read from.
//!
//! A setting is named once, here; its flag (`--data-dir`), its environment variable (`APPLIANCE_DATA_DIR`) and its key
//! in the configuration file (`data-dir`) follow from the name, so that no two of them can drift apart. `layer` puts
//! flag over environment over file over default and keeps where each value came from. Values are text here:
//! `config` says what they mean. Pure: whoever calls hands in the flags, the environment and the file's text.

use std::collections::BTreeMap;
use std::fmt;

/// Prefix of every environment variable of ours.
pub(crate) const ENVIRONMENT_PREFIX: &str = "APPLIANCE_";

/// Where the configuration file is looked for when nobody names another.
pub(crate) const CONFIG_FILE: &str = "/etc/appliance/config.yaml";

/// Variables of ours that are no settings of the node: the file itself, and what `appliance ctl` reads.
const OTHER_VARIABLES: &[&str] =
    &["APPLIANCE_CONFIG", "APPLIANCE_SOCKET", "APPLIANCE_KUBECONFIG", "APPLIANCE_SERVER"];

/// A configuration file larger than this is not one of ours.
pub(crate) const CONFIG_FILE_BYTES_MAX: u64 = 256 * 1024;

/// One thing an operator can set.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The flag without its dashes, which is also the key in the file.
    pub(crate) name: &'static str,
    /// What stands for the value in the help text; a setting without one is a switch.
    pub(crate) placeholder: Option<&'static str>,
    /// The value when nobody says otherwise; `None` where the node finds it out for itself.
    pub(crate) default: Option<&'static str>,
    /// One line for the help text.
    pub(crate) help: &'static str,
    /// Its value is never logged.
    pub(crate) secret: bool,
    /// For tests and hard cases: not in the help text.
    pub(crate) hidden: bool,
}

const fn setting(
    name: &'static str,
    placeholder: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { name, placeholder: Some(placeholder), default, help, secret: false, hidden: false }
}

/// Every setting of `appliance run`, in the order of the help text and of the lines logged at start.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "data-dir",
        "DIR",
        Some("/var/lib/appliance"),
        "Store, keys, identity and last enforced ruleset; created 0700",
    ),
    setting(
        "run-dir",
        "DIR",
        Some("/run/appliance"),
        "Holds appliance.sock, the API on a Unix socket, root only",
    ),
    setting("api-listen", "ADDRESS:PORT", Some("[::]:6443"), "Where the API listens with TLS"),
    setting(
        "peer-listen",
        "ADDRESS:PORT",
        Some("[::]:2380"),
        "Where members of the cluster reach this one; always kept open by policy",
    ),
    setting(
        "advertise-address",
        "ADDRESS[,…]",
        None,
        "Addresses or names others reach this node on [default: the address of the default route's interface]",
    ),
    setting("join", "HOST:PORT", None, "Join the cluster of this member [default: form a new cluster]"),
    Setting {
        name: "token",
        placeholder: Some("TOKEN"),
        default: None,
        help: "The join token printed by `appliance ctl token create`",
        secret: true,
        hidden: false,
    },
    setting(
        "node-name",
        "NAME",
        None,
        "Must equal spec.node of this node's endpoints [default: the host name, lower-cased]",
    ),
    Setting {
        name: "no-enforce",
        placeholder: None,
        default: Some("false"),
        help: "Run store and API only; the kernel is not touched",
        secret: false,
        hidden: false,
    },
    setting(
        "replace-lost-voters-after",
        "TIME|off",
        Some("10m"),
        "A voter silent for this long gives its vote to a learner that has caught up",
    ),
    setting(
        "heartbeat-interval",
        "TIME",
        Some("100ms"),
        "How often the leader says that it lives; an election waits ten times as long; more for slow links",
    ),
    setting(
        "snapshot-interval",
        "TIME|off",
        Some("12h"),
        "How often this node writes the whole state to a file under DIR/snapshots, if it changed",
    ),
    setting("snapshot-keep", "COUNT", Some("3"), "How many of these files stay, 1 to 1000"),
    Setting {
        name: "force-new-cluster",
        placeholder: None,
        default: Some("false"),
        help: "Go on alone with what this node holds, as a new cluster; for when the quorum is gone for good. Acts once, and not \
               while another member answers that there is one",
        secret: false,
        hidden: false,
    },
    Setting {
        name: "checkpoint-entries",
        placeholder: Some("COUNT"),
        default: None,
        help: "Log entries between two checkpoints of the store",
        secret: false,
        hidden: true,
    },
    Setting {
        name: "retained-entries",
        placeholder: Some("COUNT"),
        default: None,
        help: "Log entries kept behind a checkpoint",
        secret: false,
        hidden: true,
    },
    setting("nft", "PATH", Some("nft"), "The nft program, looked up in PATH"),
    setting(
        "log-level",
        "LEVEL",
        Some("info"),
        "error, warn, info, debug or trace; also per part, as in info,appliance_dataplane=debug",
    ),
    setting("worker-threads", "COUNT", Some("2"), "Threads that serve requests, 1 to 64"),
];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Given on the command line.
    Flag,
    /// Taken from this environment variable.
    Environment(String),
    /// Read from this file.
    File(String),
    /// Nobody said otherwise.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("the command line"),
            Source::Environment(variable) => write!(f, "the environment variable {variable}"),
            Source::File(path) => f.write_str(path),
            Source::Default => f.write_str("the default"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sourced {
    /// The text as it was given; `None` when neither given nor defaulted.
    pub(crate) value: Option<String>,
    /// Who gave it.
    pub(crate) source: Source,
}

/// The layers in the order in which they win.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// Setting name → value, from the command line.
    pub(crate) flags: BTreeMap<&'static str, String>,
    /// Variable → value; variables that are not ours are ignored.
    pub(crate) environment: BTreeMap<String, String>,
    /// The configuration file's path and text, if there is one.
    pub(crate) file: Option<(String, String)>,
}

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FileError {
    #[error("{path}: not a YAML mapping of settings: {reason}")]
    Syntax { path: String, reason: String },
    #[error("{path}: unknown key \"{key}\"; known keys are {}", known_keys())]
    UnknownKey { path: String, key: String },
    #[error("{path}: key \"{key}\" must be a text, a number, true or false, or a list of these")]
    NotScalar { path: String, key: String },
}

/// Every setting with the value that won; one without a value is left to the node to find out.
pub(crate) fn layer(layers: &Layers) -> Result<BTreeMap<&'static str, Sourced>, FileError> {
    let file = match &layers.file {
        Some((path, text)) => read_file(path, text)?,
        None => BTreeMap::new(),
    };
    Ok(SETTINGS.iter().map(|setting| (setting.name, choose(setting, layers, &file))).collect())
}

/// Variables that begin like ours and mean nothing to us: most likely a slip of the pen worth a warning.
pub(crate) fn unknown_variables(environment: &BTreeMap<String, String>) -> Vec<&str> {
    let known = |name: &str| {
        OTHER_VARIABLES.contains(&name) || SETTINGS.iter().any(|setting| variable(setting.name) == name)
    };
    environment
        .keys()
        .map(String::as_str)
        .filter(|v| v.starts_with(ENVIRONMENT_PREFIX) && !known(v))
        .collect()
}

/// The environment variable of a setting.
pub(crate) fn variable(name: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", name.to_ascii_uppercase().replace('-', "_"))
}

fn choose(setting: &Setting, layers: &Layers, file: &BTreeMap<&'static str, String>) -> Sourced {
    let variable = variable(setting.name);
    let given = |value: &String, source| Sourced { value: Some(value.clone()), source };
    if let Some(value) = layers.flags.get(setting.name) {
        return given(value, Source::Flag);
    }
    // An empty variable is how a unit file or a shell says "not set".
    if let Some(value) = layers.environment.get(&variable).filter(|value| !value.is_empty()) {
        return given(value, Source::Environment(variable));
    }
    if let (Some(value), Some((path, _))) = (file.get(setting.name), &layers.file) {
        return given(value, Source::File(path.clone()));
    }
    Sourced { value: setting.default.map(str::to_owned), source: Source::Default }
}

fn read_file(path: &str, text: &str) -> Result<BTreeMap<&'static str, String>, FileError> {
    let mapping: Option<BTreeMap<String, serde_json::Value>> =
        serde_saphyr::from_str(text).map_err(|error| {
            // Only the first line: the rest draws the file, and a start-up error is one line.
            let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
            FileError::Syntax { path: path.to_owned(), reason }
        })?;
    let mut values = BTreeMap::new();
    for (key, value) in mapping.unwrap_or_default() {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) else {
            return Err(FileError::UnknownKey { path: path.to_owned(), key });
        };
        match text_of(&value) {
            Some(text) => values.insert(setting.name, text),
            None => return Err(FileError::NotScalar { path: path.to_owned(), key }),
        };
    }
    Ok(values)
}

/// A list becomes what the flag would carry: its items joined by commas.
fn text_of(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(switch) => Some(switch.to_string()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Array(items) => {
            let items: Option<Vec<String>> =
                items.iter().map(|item| if item.is_array() { None } else { text_of(item) }).collect();
            items.map(|items| items.join(","))
        }
        serde_json::Value::Null | serde_json::Value::Object(_) => None,
    }
}

fn known_keys() -> String {
    SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(flag: Option<&str>, variable: Option<&str>, file: Option<&str>) -> Layers {
        Layers {
            flags: flag.map(|value| ("data-dir", value.to_owned())).into_iter().collect(),
            environment: variable
                .map(|value| ("APPLIANCE_DATA_DIR".to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
            file: file.map(|text| ("c.yaml".to_owned(), text.to_owned())),
        }
    }

    fn data_dir(layers: &Layers) -> (Option<String>, String) {
        let mut values = layer(layers).expect("layers");
        let chosen = values.remove("data-dir").expect("every setting is there");
        (chosen.value, chosen.source.to_string())
    }

    #[test]
    fn flag_over_environment_over_file_over_default() {
        let file = Some("data-dir: /file");
        let some = |value: &str, source: &str| (Some(value.to_owned()), source.to_owned());

        assert_eq!(data_dir(&layers(Some("/flag"), Some("/env"), file)), some("/flag", "the command line"));
        assert_eq!(
            data_dir(&layers(None, Some("/env"), file)),
            some("/env", "the environment variable APPLIANCE_DATA_DIR")
        );
        assert_eq!(data_dir(&layers(None, None, file)), some("/file", "c.yaml"));
        assert_eq!(data_dir(&layers(None, None, None)), some("/var/lib/appliance", "the default"));
    }

    #[test]
    fn an_empty_variable_is_no_variable() {
        assert_eq!(data_dir(&layers(None, Some(""), None)).1, "the default");
    }

    #[test]
    fn a_file_may_be_empty_or_all_comment() {
        assert_eq!(data_dir(&layers(None, None, Some(""))).1, "the default");
        assert_eq!(data_dir(&layers(None, None, Some("# nothing yet\n"))).1, "the default");
    }

    #[test]
    fn lists_numbers_and_switches_read_like_their_flags() {
        let text = "advertise-address: [10.0.0.1, 'fd00::1']\nworker-threads: 4\nno-enforce: true\n";
        let values = layer(&layers(None, None, Some(text))).expect("layers");

        assert_eq!(values["advertise-address"].value.as_deref(), Some("10.0.0.1,fd00::1"));
        assert_eq!(values["worker-threads"].value.as_deref(), Some("4"));
        assert_eq!(values["no-enforce"].value.as_deref(), Some("true"));
    }

    #[test]
    fn a_bad_file_names_the_file_and_the_key() {
        let refused = |text: &str| layer(&layers(None, None, Some(text))).expect_err("refused").to_string();

        assert!(
            refused("dta-dir: /x").starts_with("c.yaml: unknown key \"dta-dir\"; known keys are data-dir,")
        );
        assert!(refused("data-dir: {a: b}").starts_with("c.yaml: key \"data-dir\" must be a text"));
        assert!(refused("data-dir:").starts_with("c.yaml: key \"data-dir\" must be a text"));
        let syntax = refused("- a\n- b\n");
        assert!(syntax.starts_with("c.yaml: not a YAML mapping of settings: "), "{syntax}");
        assert_eq!(syntax.lines().count(), 1, "{syntax}");
    }

    #[test]
    fn the_installation_page_has_a_row_for_every_setting() {
        let page = include_str!("../../images/README.md");
        for setting in SETTINGS.iter().filter(|setting| !setting.hidden) {
            let (flag, variable) = (format!("| `--{}", setting.name), variable(setting.name));
            let row = page
                .lines()
                .find(|line| line.strip_prefix(&flag).is_some_and(|rest| rest.starts_with([' ', '`'])));
            let row = row.unwrap_or_else(|| panic!("no row for --{}", setting.name));
            assert!(row.contains(&format!("`{variable}` | `{}` |", setting.name)), "{row}");
            let default = setting.default.unwrap_or_default();
            assert!(row.contains(default), "the default is {default}: {row}");
        }
    }

    #[test]
    fn a_mistyped_variable_is_noticed_and_those_of_ctl_are_not() {
        let environment = ["APPLIANCE_DATADIR", "APPLIANCE_DATA_DIR", "APPLIANCE_SOCKET", "HOME"]
            .map(|name| (name.to_owned(), "x".to_owned()))
            .into_iter()
            .collect();
        assert_eq!(unknown_variables(&environment), ["APPLIANCE_DATADIR"]);
    }
}
