//! Reads one property after the other and collects what is wrong with each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Fault;
use crate::etcd::config::OWNED;
use crate::etcd::id::ClientUrl;
use crate::etcd::release_line::ReleaseLine;
use crate::job::paths::{BESIDE_DATA, Paths};

/// The suites of TLS 1.2 that etcd's HTTP/2 accepts, none of which is known to be weak, and that this release's own
/// tools speak as well.
const CIPHER_SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Whether a duration may be zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

pub(super) struct Reader<'a> {
    raw: &'a Map<String, Value>,
    read: Vec<&'static str>,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn of(raw: &'a Map<String, Value>) -> Self {
        Self { raw, read: Vec::new(), faults: Vec::new() }
    }

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

    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        if self.value(name).is_null() { None } else { Some(parse(self)) }
    }

    pub(super) fn number(&mut self, name: &'static str, min: u64, max: u64, example: u64) -> u64 {
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

    pub(super) fn port(&mut self, name: &'static str, example: u16) -> u16 {
        self.number(name, 1, 65_535, u64::from(example)).try_into().unwrap_or(example)
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> bool {
        let value = self.value(name);
        value.as_bool().unwrap_or_else(|| {
            self.fault(name, value, "must be true or false", "false");
            false
        })
    }

    /// One of a few words; YAML's `true` counts as the word `true`.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> T {
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

    pub(super) fn word(&mut self, name: &'static str, known: &[&'static str]) -> String {
        let choices: Vec<(&str, &str)> = known.iter().map(|word| (*word, *word)).collect();
        self.choice(name, &choices).to_owned()
    }

    pub(super) fn duration(&mut self, name: &'static str, example: &'static str, zero: Zero) -> Duration {
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

    pub(super) fn address(&mut self, name: &'static str) -> Option<IpAddr> {
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

    pub(super) fn release_line(&mut self, name: &'static str) -> ReleaseLine {
        let value = self.value(name);
        value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let rule = "must be a release line of etcd in quotes: \"3.4\", \"3.5\", \"3.6\" or \"3.7\"";
            self.fault(name, value, rule, "\"3.6\"");
            ReleaseLine::V3_6
        })
    }

    /// A text; null and, as earlier releases had it, the empty text mean that it is not set.
    fn text(&mut self, name: &'static str, rule: &str, example: &str) -> Option<&'a str> {
        let value = self.value(name);
        match value {
            Value::Null => None,
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => {
                self.fault(name, value, rule, example);
                None
            }
        }
    }

    /// The log lies on the persistent disk or not at all: what bpm shows besides is lost with the VM.
    pub(super) fn wal_dir(&mut self, name: &'static str) -> Option<PathBuf> {
        const EXAMPLE: &str = "/var/vcap/store/etcd/wal";
        let rule =
            "must be a directory of its own right below /var/vcap/store/etcd, where the persistent disk is";
        let path = PathBuf::from(self.text(name, rule, EXAMPLE)?);
        let inside = path.strip_prefix(Paths::default().data_dir()).ok().and_then(|inside| {
            let mut parts = inside.components();
            match (parts.next(), parts.next()) {
                (Some(Component::Normal(only)), None) => only.to_str(),
                _ => None,
            }
        });
        let fits = inside.is_some_and(|directory| !BESIDE_DATA.contains(&directory))
            && path == path.components().collect::<PathBuf>()
            && !path.as_os_str().to_string_lossy().ends_with('/');
        if !fits {
            self.fault(name, self.raw.get(name).unwrap_or(&Value::Null), rule, EXAMPLE);
        }
        Some(path)
    }

    /// Origins with commas. etcd dies with a stack trace on one that is no URL with a port (seen with 3.6.16).
    pub(super) fn origins(&mut self, name: &'static str) -> Option<String> {
        let rule = "must be `*` or URLs with scheme, host and port, separated by commas";
        let example = "https://console.example.com:443";
        let text = self.text(name, rule, example)?;
        if !text.split(',').all(|origin| origin == "*" || origin.parse::<ClientUrl>().is_ok()) {
            self.fault(name, &Value::from(text), rule, example);
        }
        Some(text.to_owned())
    }

    /// Host names with commas.
    pub(super) fn hosts(&mut self, name: &'static str) -> Option<String> {
        let rule = "must be `*` or host names, separated by commas";
        let example = "etcd.example.com,127.0.0.1";
        let text = self.text(name, rule, example)?;
        let is_host = |host: &str| {
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
        };
        if !text.split(',').all(|host| host == "*" || is_host(host)) {
            self.fault(name, &Value::from(text), rule, example);
        }
        Some(text.to_owned())
    }

    pub(super) fn cipher_suites(&mut self, name: &'static str) -> Vec<String> {
        let value = self.value(name);
        let names: Option<Vec<String>> = value.as_array().and_then(|names| {
            names
                .iter()
                .map(|name| name.as_str().filter(|name| CIPHER_SUITES.contains(name)).map(str::to_owned))
                .collect()
        });
        names.unwrap_or_else(|| {
            let rule = format!("must be a list of some of: {}", CIPHER_SUITES.join(", "));
            self.fault(name, value, rule, "[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]");
            Vec::new()
        })
    }

    pub(super) fn feature_gates(&mut self, name: &'static str) -> BTreeMap<String, bool> {
        const OWN: [(&str, &str); 2] =
            [("InitialCorruptCheck", "initial_corrupt_check"), ("CompactHashCheck", "compact_hash_check")];
        let value = self.value(name);
        let gates: Option<BTreeMap<String, bool>> = value.as_object().and_then(|gates| {
            gates
                .iter()
                .map(|(gate, on)| {
                    let is_name = !gate.is_empty() && gate.bytes().all(|byte| byte.is_ascii_alphanumeric());
                    on.as_bool().filter(|_| is_name).map(|on| (gate.clone(), on))
                })
                .collect()
        });
        let Some(gates) = gates else {
            let rule = "must be a mapping from names of etcd's feature gates to true or false";
            self.fault(name, value, rule, "{LeaseCheckpoint: true}");
            return BTreeMap::new();
        };
        for (gate, property) in OWN.iter().filter(|(gate, _)| gates.contains_key(*gate)) {
            let rule = format!("names {gate}, which the property {property} sets");
            self.fault(name, value, rule, "{LeaseCheckpoint: true}");
        }
        gates
    }

    /// What has no property. A key that this release writes itself would be there twice, and one that decides who a
    /// member is or whom it trusts would undo what the launcher decided.
    pub(super) fn extra_config(&mut self, name: &'static str) -> Map<String, Value> {
        const EXAMPLE: &str = "{backend-batch-limit: 5000}";
        let value = self.value(name);
        let Some(settings) = value.as_object() else {
            self.fault(name, value, "must be a mapping from etcd's settings to values", EXAMPLE);
            return Map::new();
        };
        for (key, setting) in settings {
            let is_key = !key.is_empty()
                && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            let rule = match OWNED.iter().find(|(owned, _)| owned == key) {
                Some((_, Some(property))) => format!("sets {key}, which the property {property} sets"),
                Some((_, None)) => format!("sets {key}, which is the launcher's"),
                None if !is_key => {
                    format!("has {key:?}, which is no name of a setting (etcd's flags without the dashes)")
                }
                None if setting.is_null() => format!("has no value for {key}"),
                None => continue,
            };
            self.fault(name, &Value::from(key.as_str()), rule, EXAMPLE);
        }
        settings.clone()
    }

    /// A duration for `periodic`, a count for `revision`, "0" for off; the mode was checked before.
    pub(super) fn retention(&mut self) -> String {
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

    pub(super) fn report_unknown(&mut self) {
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
