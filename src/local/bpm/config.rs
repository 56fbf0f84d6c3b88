//! `config/bpm.yml` of a job, read and judged as bpm does: unknown keys are dropped, scalars are taken
//! where texts are wanted, and every process of the file is checked whichever is started.
//! docs/local-director.md#bpm

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;

/// Why a `bpm.yml` cannot be used; the texts are bpm's.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(#[source] std::io::Error),
    /// It is not YAML of the right shape.
    #[error("{0}")]
    Malformed(#[source] serde_yaml::Error),
    /// YAML that bpm's parser follows and ours does not: better refused than read as another key.
    #[error("etcd-local does not follow YAML's merge key '<<'; write the keys out")]
    MergeKey,
    /// A process lacks a required key.
    #[error("invalid config: {0}")]
    Missing(&'static str),
    /// A path is not in its shortest form.
    #[error("volume path must be canonical, expected {expected} but got {got}")]
    NotCanonical {
        /// The shortest form.
        expected: String,
        /// What the file has.
        got: String,
    },
    /// A volume is one of the directories that have keys of their own.
    #[error("invalid volume path: {0} cannot conflict with default job data or store directories")]
    DefaultVolume(String),
    /// A volume lies elsewhere.
    #[error("invalid volume path: {0} must be within /var/vcap")]
    OutsideVcap(String),
    /// Only TERM and INT are possible.
    #[error("shutdown signal should either be 'TERM' or 'INT' (or left unspecified), but got '{0}'")]
    ShutdownSignal(String),
}

/// A job's processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct JobConfig {
    /// In the order of the file.
    #[serde(default, deserialize_with = "or_default")]
    pub processes: Vec<Process>,
}

/// One process: what runs in one container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Process {
    /// Its name.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// The program, as seen inside the container.
    #[serde(default, deserialize_with = "or_default")]
    pub executable: String,
    /// Its arguments, verbatim.
    #[serde(default, deserialize_with = "texts")]
    pub args: Vec<String>,
    /// Its environment, besides bpm's defaults.
    #[serde(default, deserialize_with = "text_map")]
    pub env: BTreeMap<String, String>,
    /// Working directory; empty means the job's directory.
    #[serde(default, deserialize_with = "or_default")]
    pub workdir: String,
    /// Programs run around it. Present without a program is a fault, but only of a start.
    #[serde(default)]
    pub hooks: Option<Hooks>,
    /// Linux capabilities, without `CAP_`.
    #[serde(default, deserialize_with = "texts")]
    pub capabilities: Vec<String>,
    /// What it may use.
    #[serde(default, deserialize_with = "or_default")]
    pub limits: Limits,
    /// Whether it sees `/var/vcap/data/JOB`.
    #[serde(default, deserialize_with = "truth")]
    pub ephemeral_disk: bool,
    /// Whether it sees `/var/vcap/store/JOB`.
    #[serde(default, deserialize_with = "truth")]
    pub persistent_disk: bool,
    /// More directories it sees.
    #[serde(default, deserialize_with = "or_default")]
    pub additional_volumes: Vec<Volume>,
    /// The first signal of a stop: TERM or INT; empty means TERM.
    #[serde(default, deserialize_with = "or_default")]
    pub shutdown_signal: String,
    /// Exceptions from isolation.
    #[serde(default, rename = "unsafe", deserialize_with = "or_default")]
    pub exceptions: Exceptions,
}

/// Programs run on the host around a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Hooks {
    /// Run as root before each start.
    #[serde(default, deserialize_with = "or_default")]
    pub pre_start: String,
}

/// What a process may use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Limits {
    /// Memory, such as `512M`; read only by a start: [`super::size::bytes`].
    #[serde(default)]
    pub memory: Option<String>,
    /// Open files.
    #[serde(default, deserialize_with = "whole")]
    pub open_files: Option<u64>,
    /// Processes and threads, the init among them. Zero and less set none.
    #[serde(default, deserialize_with = "signed")]
    pub processes: Option<i64>,
    /// Size of core files in bytes.
    #[serde(default, deserialize_with = "whole")]
    pub core_file_size: Option<u64>,
}

/// A directory shown inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of bpm.yml")]
pub struct Volume {
    /// Absolute path, the same inside and outside.
    #[serde(default, deserialize_with = "or_default")]
    pub path: String,
    /// Read-only unless set.
    #[serde(default, deserialize_with = "truth")]
    pub writable: bool,
    /// Nothing in it can be executed unless set.
    #[serde(default, deserialize_with = "truth")]
    pub allow_executions: bool,
    /// Neither made nor given to vcap.
    #[serde(default, deserialize_with = "truth")]
    pub mount_only: bool,
    /// What is mounted in it later is seen on both sides.
    #[serde(default, deserialize_with = "truth")]
    pub shared: bool,
}

/// Exceptions from isolation; never judged, whatever they say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Exceptions {
    /// Root, nearly all capabilities, no filter of system calls.
    #[serde(default, deserialize_with = "truth")]
    pub privileged: bool,
    /// Volumes anywhere, by patterns.
    #[serde(default, deserialize_with = "or_default")]
    pub unrestricted_volumes: Vec<Volume>,
    /// The process ids of the machine.
    #[serde(default, deserialize_with = "truth")]
    pub host_pid_namespace: bool,
}

impl JobConfig {
    /// Reads and judges the file at `path` for `job`.
    pub fn read(path: &Path, job: &str) -> Result<Self, ConfigError> {
        Self::parse(&std::fs::read_to_string(path).map_err(ConfigError::Unreadable)?, job)
    }

    /// Parses and judges the text of a `bpm.yml` for `job`. Of several documents the first counts.
    pub fn parse(yaml: &str, job: &str) -> Result<Self, ConfigError> {
        let document = || serde_yaml::Deserializer::from_str(yaml).next();
        let Some(raw) = document() else { return Ok(Self::default()) };
        // As a whole first: here a key that comes twice is found, also one that nobody knows.
        let raw = Value::deserialize(raw).map_err(ConfigError::Malformed)?;
        if raw.is_null() {
            return Ok(Self::default());
        }
        if merges(&raw) {
            return Err(ConfigError::MergeKey);
        }
        let config = document().map_or_else(|| Ok(Self::default()), Self::deserialize);
        let config = config.map_err(ConfigError::Malformed)?;
        config.processes.iter().try_for_each(|process| process.judge(job))?;
        Ok(config)
    }

    /// The process of that name; of several, the first.
    pub fn process(&self, name: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
    }
}

fn merges(value: &Value) -> bool {
    match value {
        Value::Sequence(values) => values.iter().any(merges),
        Value::Mapping(mapping) => {
            mapping.iter().any(|(key, value)| key.as_str() == Some("<<") || merges(value))
        }
        _ => false,
    }
}

impl Process {
    fn judge(&self, job: &str) -> Result<(), ConfigError> {
        if self.name.is_empty() {
            return Err(ConfigError::Missing("name"));
        }
        if self.executable.is_empty() {
            return Err(ConfigError::Missing("executable"));
        }
        for volume in &self.additional_volumes {
            volume.judge(job)?;
        }
        match self.shutdown_signal.as_str() {
            "" | "TERM" | "INT" => Ok(()),
            other => Err(ConfigError::ShutdownSignal(other.to_owned())),
        }
    }
}

impl Volume {
    fn judge(&self, job: &str) -> Result<(), ConfigError> {
        let expected = shortest(&self.path);
        if expected != self.path {
            return Err(ConfigError::NotCanonical { expected, got: self.path.clone() });
        }
        if ["data", "store"].iter().any(|kind| self.path == format!("/var/vcap/{kind}/{job}")) {
            return Err(ConfigError::DefaultVolume(self.path.clone()));
        }
        if !self.path.starts_with("/var/vcap/") {
            return Err(ConfigError::OutsideVcap(self.path.clone()));
        }
        Ok(())
    }
}

/// A path without empty, `.` and `..` elements, but for those `..` that lead out of a relative one.
fn shortest(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut elements: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." if elements.last().is_some_and(|last| *last != "..") => {
                elements.pop();
            }
            ".." if is_absolute => {}
            name => elements.push(name),
        }
    }
    let joined = format!("{}{}", if is_absolute { "/" } else { "" }, elements.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}

/// Null is the same as an absent key. A text is whatever a scalar says: `1.50`, `true` and `0x10` are texts too.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts: Vec<Option<String>> = or_default(deserializer)?;
    Ok(texts.into_iter().map(Option::unwrap_or_default).collect())
}

fn text_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let texts: BTreeMap<String, Option<String>> = or_default(deserializer)?;
    Ok(texts.into_iter().map(|(key, text)| (key, text.unwrap_or_default())).collect())
}

/// YAML 1.1's words are taken as well: `yes`, `on`, `y` and their opposites, even in quotes.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Truth;
    impl Visitor<'_> for Truth {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: Error>(self, truth: bool) -> Result<bool, E> {
            Ok(truth)
        }

        fn visit_unit<E: Error>(self) -> Result<bool, E> {
            Ok(false)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
            match text.to_ascii_lowercase().as_str() {
                "y" | "yes" | "on" => Ok(true),
                "n" | "no" | "off" => Ok(false),
                _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
            }
        }
    }
    deserializer.deserialize_any(Truth)
}

/// `1e3` and `100.5` are taken, without what follows the point.
fn signed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Number;
    impl Visitor<'_> for Number {
        type Value = Option<i64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            i64::try_from(number).map(Some).map_err(E::custom)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            Ok(Some(number))
        }

        #[expect(clippy::cast_possible_truncation, reason = "the point of it, and the range is looked at")]
        fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
            // Beyond it not every whole number has a float.
            const LARGEST: f64 = 9_007_199_254_740_992.0;
            if number.abs() <= LARGEST {
                Ok(Some(number as i64))
            } else {
                Err(E::invalid_value(serde::de::Unexpected::Float(number), &self))
            }
        }
    }
    deserializer.deserialize_any(Number)
}

fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = signed(deserializer)?;
    number.map(u64::try_from).transpose().map_err(|_| D::Error::custom("a number below zero counts nothing"))
}

#[cfg(test)]
mod tests;
