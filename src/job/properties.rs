//! The job's properties, read one by one so that *all* faults are told at once.
//!
//! Why not `#[derive(Deserialize)]`: serde stops at the first fault, and an operator who repairs a
//! manifest wants the whole list (docs/contract.md#properties).

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One thing wrong with what the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Property (or file) name.
    pub name: String,
    /// What is there now; never a secret.
    pub value: String,
    /// What it must be.
    pub rule: String,
    /// A value that would be right.
    pub example: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}; for example: {}", self.name, self.value, self.rule, self.example)
    }
}

/// How the first members are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootstrapMethod {
    /// etcd's static bootstrap: each etcd is told all of them and writes them into its log.
    #[default]
    Static,
    /// The launcher writes the data of its member before etcd runs (docs/contract.md#seeded).
    Seeded,
}

/// Whether and how this deploy may create a new cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootstrapFlag {
    /// `false`: never.
    Off,
    /// `true`: when every instance of the link is virgin.
    On,
    /// `again`: also when a backup of this deployment exists.
    Again,
}

/// What to do when the cluster removed this member while it was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRemovedMember {
    /// Move the data aside and join as a new member.
    Rejoin,
    /// Stop and ask.
    Refuse,
}

/// How old revisions are compacted away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompactionMode {
    /// By age.
    Periodic,
    /// By count.
    Revision,
}

/// The checked properties. Names and defaults are those of `jobs/etcd/spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct Properties {
    /// Whether this deploy may create a new cluster.
    pub bootstrap_cluster: BootstrapFlag,
    /// How the first members are made.
    pub bootstrap_method: BootstrapMethod,
    /// Where clients connect.
    pub client_port: u16,
    /// Where peers connect.
    pub peer_port: u16,
    /// etcd's own metrics listener, off when absent.
    pub metrics_port: Option<u16>,
    /// The launcher's listener.
    pub launcher_port: u16,
    /// Address of the client listener; `None` = the instance's own.
    pub client_listen_address: Option<IpAddr>,
    /// Address of the peer listener; `None` = the instance's own.
    pub peer_listen_address: Option<IpAddr>,
    /// How long the launcher waits for all answers of one observation.
    pub observe_timeout: Duration,
    /// How long post-start and post-deploy wait for this member to serve.
    pub ready_timeout: Duration,
    /// How long pre-stop holds for a member that is recovering.
    pub hold_timeout: Duration,
    /// How long drain may take to leave or to hand over.
    pub drain_timeout: Duration,
    /// What to do when the cluster removed this member while it was away.
    pub on_removed_member: OnRemovedMember,
    /// Whether a damaged single member may be restored from backups unasked.
    pub auto_restore: bool,
    /// The etcd release line to run, `major.minor`.
    pub etcd_version: String,
    /// etcd's `heartbeat-interval`.
    pub heartbeat_interval: Duration,
    /// etcd's `election-timeout`.
    pub election_timeout: Duration,
    /// etcd's `snapshot-count`, in applied entries.
    pub snapshot_count: u64,
    /// etcd's `quota-backend-bytes`.
    pub quota_backend_bytes: u64,
    /// etcd's `auto-compaction-mode`.
    pub auto_compaction_mode: CompactionMode,
    /// etcd's `auto-compaction-retention`, as etcd reads it ("0" = off).
    pub auto_compaction_retention: String,
    /// etcd's `max-request-bytes`.
    pub max_request_bytes: u64,
    /// etcd's `max-txn-ops`.
    pub max_txn_ops: u64,
    /// etcd's `log-level`.
    pub log_level: String,
    /// etcd's `metrics` (basic or extensive).
    pub metrics: String,
    /// etcd's feature gate `InitialCorruptCheck`.
    pub initial_corrupt_check: bool,
    /// etcd's `corrupt-check-time`; zero = off.
    pub corrupt_check_time: Duration,
    /// Limit of open files (bpm's `limits.open_files`; the launcher only reports it).
    pub open_files: u64,
}

impl Properties {
    /// Reads and checks all properties; every fault is in the error.
    pub fn parse(raw: &Map<String, Value>) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { raw, read: Vec::new(), faults: Vec::new() };
        let properties = read(&mut reader);
        check_together(&properties, &mut reader.faults);
        reader.report_unknown();
        if reader.faults.is_empty() { Ok(properties) } else { Err(reader.faults) }
    }
}

fn read(reader: &mut Reader<'_>) -> Properties {
    Properties {
        bootstrap_cluster: reader.choice(
            "bootstrap_cluster",
            &[("false", BootstrapFlag::Off), ("true", BootstrapFlag::On), ("again", BootstrapFlag::Again)],
        ),
        bootstrap_method: reader.choice(
            "bootstrap_method",
            &[("static", BootstrapMethod::Static), ("seeded", BootstrapMethod::Seeded)],
        ),
        client_port: reader.port("client_port", 2379),
        peer_port: reader.port("peer_port", 2380),
        metrics_port: reader.optional("metrics_port", |reader| reader.port("metrics_port", 2381)),
        launcher_port: reader.port("launcher_port", 2382),
        client_listen_address: reader.address("client_listen_address"),
        peer_listen_address: reader.address("peer_listen_address"),
        observe_timeout: reader.duration("observe_timeout", "2s", Zero::Refused),
        ready_timeout: reader.duration("ready_timeout", "10m", Zero::Refused),
        hold_timeout: reader.duration("hold_timeout", "10m", Zero::Allowed),
        drain_timeout: reader.duration("drain_timeout", "5m", Zero::Refused),
        on_removed_member: reader.choice(
            "on_removed_member",
            &[("rejoin", OnRemovedMember::Rejoin), ("refuse", OnRemovedMember::Refuse)],
        ),
        auto_restore: reader.boolean("auto_restore"),
        etcd_version: reader.version("etcd_version"),
        heartbeat_interval: reader.duration("heartbeat_interval", "100ms", Zero::Refused),
        election_timeout: reader.duration("election_timeout", "1s", Zero::Refused),
        snapshot_count: reader.number("snapshot_count", 1, u64::MAX, 10_000),
        quota_backend_bytes: reader.number("quota_backend_bytes", 0, u64::MAX, 2_147_483_648),
        auto_compaction_mode: reader.choice(
            "auto_compaction_mode",
            &[("periodic", CompactionMode::Periodic), ("revision", CompactionMode::Revision)],
        ),
        auto_compaction_retention: reader.retention(),
        max_request_bytes: reader.number("max_request_bytes", 1, 1 << 30, 1_572_864),
        max_txn_ops: reader.number("max_txn_ops", 1, u64::from(u32::MAX), 128),
        log_level: reader.word("log_level", &["debug", "info", "warn", "error", "panic", "fatal"]),
        metrics: reader.word("metrics", &["basic", "extensive"]),
        initial_corrupt_check: reader.boolean("initial_corrupt_check"),
        corrupt_check_time: reader.duration("corrupt_check_time", "0s", Zero::Allowed),
        open_files: reader.number("open_files", 64, 1 << 24, 16_384),
    }
}

/// Rules between properties.
fn check_together(properties: &Properties, faults: &mut Vec<Fault>) {
    let ports = [
        ("client_port", Some(properties.client_port)),
        ("peer_port", Some(properties.peer_port)),
        ("launcher_port", Some(properties.launcher_port)),
        ("metrics_port", properties.metrics_port),
    ];
    for (position, (name, port)) in ports.iter().enumerate() {
        for (other, taken) in &ports[..position] {
            if port.is_some() && port == taken {
                faults.push(Fault {
                    name: (*name).to_owned(),
                    value: port.unwrap_or_default().to_string(),
                    rule: format!("is also {other}; each listener needs its own port"),
                    example: "2379, 2380 and 2382".to_owned(),
                });
            }
        }
    }
    // etcd refuses to start outside these bounds (config validation, seen with 3.6.16).
    let heartbeat = properties.heartbeat_interval;
    let election = properties.election_timeout;
    if election < heartbeat * 5 {
        faults.push(Fault {
            name: "election_timeout".to_owned(),
            value: format!("{election:?}"),
            rule: format!("must be at least five times heartbeat_interval ({heartbeat:?})"),
            example: "1s with heartbeat_interval 100ms".to_owned(),
        });
    }
    if election > Duration::from_secs(50) {
        faults.push(Fault {
            name: "election_timeout".to_owned(),
            value: format!("{election:?}"),
            rule: "must be at most 50s".to_owned(),
            example: "1s".to_owned(),
        });
    }
    for (name, duration) in [("heartbeat_interval", heartbeat), ("election_timeout", election)] {
        if duration.subsec_nanos() % 1_000_000 != 0 {
            faults.push(Fault {
                name: name.to_owned(),
                value: format!("{duration:?}"),
                rule: "must be whole milliseconds".to_owned(),
                example: "100ms".to_owned(),
            });
        }
    }
}

/// Whether a duration may be zero.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zero {
    Allowed,
    Refused,
}

struct Reader<'a> {
    raw: &'a Map<String, Value>,
    read: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, name: &'static str) -> &'a Value {
        self.read.push(name);
        self.raw.get(name).unwrap_or(&Value::Null)
    }

    fn fault(&mut self, name: &str, value: &Value, rule: impl Into<String>, example: &str) {
        let value = if value.is_null() { "(not set)".to_owned() } else { shortened(&value.to_string()) };
        self.faults.push(Fault {
            name: name.to_owned(),
            value,
            rule: rule.into(),
            example: example.to_owned(),
        });
    }

    fn optional<T>(&mut self, name: &'static str, parse: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.value(name).is_null() { None } else { Some(parse(self)) }
    }

    fn number(&mut self, name: &'static str, min: u64, max: u64, example: u64) -> u64 {
        let value = self.value(name);
        if let Some(number) = value.as_u64().filter(|number| (min..=max).contains(number)) {
            number
        } else {
            let bounds =
                if max == u64::MAX { format!("of at least {min}") } else { format!("from {min} to {max}") };
            self.fault(name, value, format!("must be a whole number {bounds}"), &example.to_string());
            example
        }
    }

    fn port(&mut self, name: &'static str, example: u16) -> u16 {
        self.number(name, 1, 65_535, u64::from(example)).try_into().unwrap_or(example)
    }

    fn boolean(&mut self, name: &'static str) -> bool {
        let value = self.value(name);
        value.as_bool().unwrap_or_else(|| {
            self.fault(name, value, "must be true or false", "false");
            false
        })
    }

    /// One of a few words; YAML's `true` counts as the word `true`.
    fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> T {
        let value = self.value(name);
        let word = match value {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => flag.to_string(),
            _ => String::new(),
        };
        if let Some((_, choice)) = choices.iter().find(|(known, _)| *known == word) {
            return *choice;
        }
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        self.fault(name, value, format!("must be one of: {}", known.join(", ")), known[0]);
        choices[0].1
    }

    fn word(&mut self, name: &'static str, known: &[&'static str]) -> String {
        let choices: Vec<(&str, &str)> = known.iter().map(|word| (*word, *word)).collect();
        self.choice(name, &choices).to_owned()
    }

    fn duration(&mut self, name: &'static str, example: &'static str, zero: Zero) -> Duration {
        let value = self.value(name);
        let parsed = value.as_str().and_then(parse_duration);
        match parsed {
            Some(duration) if zero == Zero::Allowed || !duration.is_zero() => duration,
            _ => {
                let rule = match zero {
                    Zero::Allowed => "must be a duration with its unit (ms, s, m, h)",
                    Zero::Refused => "must be a duration above zero with its unit (ms, s, m, h)",
                };
                self.fault(name, value, rule, example);
                parse_duration(example).unwrap_or_default()
            }
        }
    }

    fn address(&mut self, name: &'static str) -> Option<IpAddr> {
        let value = self.value(name);
        if value.is_null() {
            return None;
        }
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        if parsed.is_none() {
            // etcd refuses host names in listen URLs (seen with 3.6.16: "expected IP in URL for binding").
            self.fault(name, value, "must be an IP address, or null for the instance's own", "10.0.0.5");
        }
        parsed
    }

    fn version(&mut self, name: &'static str) -> String {
        let value = self.value(name);
        let text = value.as_str().unwrap_or_default();
        let fits = text.split_once('.').is_some_and(|(major, minor)| {
            [major, minor]
                .iter()
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        });
        if !fits {
            self.fault(name, value, "must be a release line in quotes (major.minor)", "\"3.6\"");
            return "3.6".to_owned();
        }
        text.to_owned()
    }

    /// A duration for `periodic`, a count for `revision`, "0" for off; the mode was checked before.
    fn retention(&mut self) -> String {
        let name = "auto_compaction_retention";
        let value = self.value(name);
        let by_count = self.raw.get("auto_compaction_mode").and_then(Value::as_str) == Some("revision");
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let is_count =
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_ok();
        let fits = if by_count { is_count } else { is_count || parse_duration(&text).is_some() };
        if !fits {
            let (rule, example) = if by_count {
                ("must be a number of revisions (0 = off) with auto_compaction_mode revision", "10000")
            } else {
                (
                    "must be a duration, or a number of hours (0 = off), with auto_compaction_mode periodic",
                    "1h",
                )
            };
            self.fault(name, value, rule, example);
        }
        text
    }

    fn report_unknown(&mut self) {
        for name in self.raw.keys().filter(|name| !self.read.contains(&name.as_str())) {
            self.faults.push(Fault {
                name: name.clone(),
                value: "(set)".to_owned(),
                rule: "is not a property of this version of job etcd".to_owned(),
                example: "deploy release and etcd-tools of the same version".to_owned(),
            });
        }
    }
}

/// `30s`, `10m`, `1h30m`, `100ms`; no sign, no calendar units.
fn parse_duration(text: &str) -> Option<Duration> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) || text.contains(['-', ' ']) {
        return None;
    }
    let span: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(span).ok()
}

fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    if text.chars().count() <= SHOWN_MAX {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(SHOWN_MAX).collect::<String>())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// The defaults of `jobs/etcd/spec`.
    pub(crate) fn defaults() -> Map<String, Value> {
        let Value::Object(map) = json!({
            "bootstrap_cluster": false, "bootstrap_method": "static",
            "client_port": 2379, "peer_port": 2380, "metrics_port": null, "launcher_port": 2382,
            "client_listen_address": null, "peer_listen_address": null,
            "observe_timeout": "2s", "ready_timeout": "10m", "hold_timeout": "10m", "drain_timeout": "5m",
            "on_removed_member": "rejoin", "auto_restore": false, "etcd_version": "3.6",
            "heartbeat_interval": "100ms", "election_timeout": "1s", "snapshot_count": 10000,
            "quota_backend_bytes": 2_147_483_648_u64, "auto_compaction_mode": "periodic",
            "auto_compaction_retention": "1h", "max_request_bytes": 1_572_864, "max_txn_ops": 128,
            "log_level": "info", "metrics": "basic", "initial_corrupt_check": true,
            "corrupt_check_time": "0s", "open_files": 16384,
        }) else {
            unreachable!("a JSON object literal")
        };
        map
    }

    #[test]
    fn the_defaults_are_accepted() {
        let properties = Properties::parse(&defaults()).unwrap();

        assert_eq!(properties.ready_timeout, Duration::from_mins(10));
        assert_eq!(properties.bootstrap_cluster, BootstrapFlag::Off);
    }

    #[test]
    fn every_fault_is_told_at_once_with_an_example() {
        let mut raw = defaults();
        raw.insert("client_port".into(), json!(70_000));
        raw.insert("observe_timeout".into(), json!("2"));
        raw.insert("bootstrap_cluster".into(), json!("maybe"));
        raw.insert("bootstrap_clusters".into(), json!(true));

        let faults = Properties::parse(&raw).unwrap_err();

        let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "bootstrap_cluster: \"maybe\" must be one of: false, true, again; for example: false",
                "client_port: 70000 must be a whole number from 1 to 65535; for example: 2379",
                "observe_timeout: \"2\" must be a duration above zero with its unit (ms, s, m, h); for example: 2s",
                "bootstrap_clusters: (set) is not a property of this version of job etcd; for example: deploy release and etcd-tools of the same version",
            ]
        );
    }

    #[test]
    fn each_bad_value_is_one_fault_of_its_property() {
        let cases = [
            ("client_port", json!(0)),
            ("client_port", json!("2379")),
            ("client_port", json!(2380)),
            ("peer_port", json!(-1)),
            ("metrics_port", json!(2379)),
            ("launcher_port", json!(null)),
            ("client_listen_address", json!("host.name")),
            ("peer_listen_address", json!(5)),
            ("ready_timeout", json!("0s")),
            ("ready_timeout", json!("-5s")),
            ("hold_timeout", json!(600)),
            ("drain_timeout", json!("soon")),
            ("on_removed_member", json!("maybe")),
            ("auto_restore", json!("yes")),
            ("etcd_version", json!(3.6)),
            ("etcd_version", json!("3.6.1")),
            ("heartbeat_interval", json!("1s")),
            ("election_timeout", json!("51s")),
            ("heartbeat_interval", json!("1500us")),
            ("snapshot_count", json!(0)),
            ("quota_backend_bytes", json!(-1)),
            ("auto_compaction_retention", json!("often")),
            ("auto_compaction_mode", json!("daily")),
            ("max_request_bytes", json!(0)),
            ("max_txn_ops", json!("many")),
            ("log_level", json!("loud")),
            ("metrics", json!(true)),
            ("initial_corrupt_check", json!(1)),
            ("corrupt_check_time", json!("1")),
            ("open_files", json!(1)),
        ];
        for (name, value) in cases {
            let mut raw = defaults();
            raw.insert(name.into(), value.clone());
            let faults = Properties::parse(&raw).expect_err(&format!("{name}: {value}"));
            assert_eq!(faults.len(), 1, "{name}: {value}: {faults:?}");
        }
    }

    #[test]
    fn retention_is_a_count_with_mode_revision() {
        let mut raw = defaults();
        raw.insert("auto_compaction_mode".into(), json!("revision"));
        assert!(Properties::parse(&raw).is_err(), "1h is no number of revisions");
        raw.insert("auto_compaction_retention".into(), json!(5000));
        assert_eq!(Properties::parse(&raw).unwrap().auto_compaction_retention, "5000");
    }
}
