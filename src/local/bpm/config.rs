//! `config/bpm.yml` of a job, read and judged as bpm does: unknown keys are dropped, scalars are taken
//! where texts are wanted, and every process of the file is checked whichever is started.
//! docs/contract.md#bpm

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};

/// Why a `bpm.yml` cannot be used; the texts are bpm's.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(#[source] std::io::Error),
    /// It is not YAML of the right shape.
    #[error("{0}")]
    Malformed(#[source] serde_yaml::Error),
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
    #[error("shutdown signal should either be 'TERM' or 'INT' but got '{0}'")]
    ShutdownSignal(String),
}

/// A job's processes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JobConfig {
    /// In the order of the file.
    #[serde(default)]
    pub processes: Vec<Process>,
}

/// One process: what runs in one container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Process {
    /// Its name.
    #[serde(default, deserialize_with = "text")]
    pub name: String,
    /// The program, as seen inside the container.
    #[serde(default, deserialize_with = "text")]
    pub executable: String,
    /// Its arguments, verbatim.
    #[serde(default, deserialize_with = "texts")]
    pub args: Vec<String>,
    /// Its environment, besides bpm's defaults.
    #[serde(default, deserialize_with = "text_map")]
    pub env: BTreeMap<String, String>,
    /// Working directory; empty means the job's directory.
    #[serde(default, deserialize_with = "text")]
    pub workdir: String,
    /// Programs run around it.
    #[serde(default)]
    pub hooks: Hooks,
    /// Linux capabilities, without `CAP_`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Whether it sees `/var/vcap/data/JOB`.
    #[serde(default)]
    pub ephemeral_disk: bool,
    /// Whether it sees `/var/vcap/store/JOB`.
    #[serde(default)]
    pub persistent_disk: bool,
    /// More directories it sees.
    #[serde(default)]
    pub additional_volumes: Vec<Volume>,
    /// The first signal of a stop: TERM or INT.
    #[serde(default, deserialize_with = "text")]
    pub shutdown_signal: String,
    /// Exceptions from isolation.
    #[serde(default, rename = "unsafe")]
    pub exceptions: Option<serde_yaml::Value>,
}

/// Programs run on the host around a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Hooks {
    /// Run as root before each start; empty means none.
    #[serde(default, deserialize_with = "text")]
    pub pre_start: String,
}

/// What a process may use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Limits {
    /// Memory, such as `512M`.
    #[serde(default, deserialize_with = "optional_text")]
    pub memory: Option<String>,
    /// Open files.
    pub open_files: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Size of core files in bytes.
    pub core_file_size: Option<u64>,
}

/// A directory shown inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// Absolute path, the same inside and outside.
    #[serde(default, deserialize_with = "text")]
    pub path: String,
    /// Read-only unless set.
    #[serde(default)]
    pub writable: bool,
    /// Nothing in it can be executed unless set.
    #[serde(default)]
    pub allow_executions: bool,
    /// Neither made nor given to vcap.
    #[serde(default)]
    pub mount_only: bool,
}

impl JobConfig {
    /// Reads and judges the file at `path` for `job`.
    pub fn read(path: &Path, job: &str) -> Result<Self, ConfigError> {
        Self::parse(&std::fs::read_to_string(path).map_err(ConfigError::Unreadable)?, job)
    }

    /// Parses and judges the text of a `bpm.yml` for `job`.
    pub fn parse(yaml: &str, job: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_yaml::from_str(yaml).map_err(ConfigError::Malformed)?;
        config.processes.iter().try_for_each(|process| process.judge(job))?;
        Ok(config)
    }

    /// The process of that name; of several, the first.
    pub fn process(&self, name: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
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

/// A path without empty, `.` and `..` elements.
fn shortest(path: &str) -> String {
    let mut elements: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." => {
                elements.pop();
            }
            name => elements.push(name),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    let joined = format!("{root}{}", elements.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}

/// YAML scalars that Go's decoder takes where a text is wanted.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Truth(bool),
    Integer(i64),
    Number(f64),
    Nothing(()),
}

impl From<Scalar> for String {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Text(text) => text,
            Scalar::Truth(truth) => truth.to_string(),
            Scalar::Integer(number) => number.to_string(),
            Scalar::Number(number) => number.to_string(),
            Scalar::Nothing(()) => Self::new(),
        }
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Scalar::deserialize(deserializer).map(String::from)
}

fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer).map(Some)
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let scalars = Option::<Vec<Scalar>>::deserialize(deserializer)?;
    Ok(scalars.unwrap_or_default().into_iter().map(String::from).collect())
}

fn text_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let scalars = Option::<BTreeMap<String, Scalar>>::deserialize(deserializer)?;
    Ok(scalars.unwrap_or_default().into_iter().map(|(key, value)| (key, String::from(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<JobConfig, String> {
        JobConfig::parse(yaml, "etcd").map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_process_is_read_and_unknown_keys_are_dropped() {
        let config = parse(
            "processes:\n- name: etcd\n  executable: /bin/etcd\n  args: [--port, 2379, true]\n  env: {A: 1, B: x}\n  \
             hooks: {pre_start: /bin/hook}\n  limits: {open_files: 65536, memory: 1G}\n  persistent_disk: true\n  \
             additional_volumes: [{path: /var/vcap/sys/run/etcd, writable: true}]\n  misspelt: 1\n",
        )
        .unwrap();

        let process = config.process("etcd").unwrap();
        assert_eq!(process.args, ["--port", "2379", "true"]);
        assert_eq!(process.env["A"], "1");
        assert_eq!(process.hooks.pre_start, "/bin/hook");
        assert_eq!(process.limits.open_files, Some(65536));
        assert_eq!(process.limits.memory.as_deref(), Some("1G"));
        assert!(process.persistent_disk && !process.ephemeral_disk);
        assert!(process.additional_volumes[0].writable && !process.additional_volumes[0].allow_executions);
        assert!(config.process("other").is_none());
    }

    #[test]
    fn faults_are_told_in_bpms_words() {
        let volume = |path: &str| {
            format!("processes: [{{name: a, executable: /b, additional_volumes: [{{path: '{path}'}}]}}]")
        };
        let cases = [
            ("processes: [{executable: /b}]".to_owned(), "invalid config: name"),
            ("processes: [{name: a}]".to_owned(), "invalid config: executable"),
            (
                volume("/var/vcap/x/"),
                "volume path must be canonical, expected /var/vcap/x but got /var/vcap/x/",
            ),
            (
                volume("/var/vcap/x/../y"),
                "volume path must be canonical, expected /var/vcap/y but got /var/vcap/x/../y",
            ),
            (
                volume("/var/vcap/store/etcd"),
                "invalid volume path: /var/vcap/store/etcd cannot conflict with default job data or store directories",
            ),
            (volume("/tmp/x"), "invalid volume path: /tmp/x must be within /var/vcap"),
            (volume("/var/vcap"), "invalid volume path: /var/vcap must be within /var/vcap"),
            (
                "processes: [{name: a, executable: /b, shutdown_signal: HUP}]".to_owned(),
                "shutdown signal should either be 'TERM' or 'INT' but got 'HUP'",
            ),
        ];
        for (yaml, text) in cases {
            assert_eq!(parse(&yaml).unwrap_err(), text, "{yaml}");
        }
        assert!(parse(&volume("/var/vcap/store/etcd/sub")).is_ok());
        assert!(parse("processes: [{name: [a], executable: /b}]").is_err());
    }

    #[test]
    fn one_bad_process_spoils_the_whole_file() {
        assert!(parse("processes: [{name: a, executable: /b}, {name: c}]").is_err());
    }
}
