//! Log lines: one event, one line of JSON, with the keys of etcd's own log (`level`, `ts`, `caller`,
//! `msg`), so that one `jq` reads both.
//!
//! `msg` is a constant sentence; what varies is a field under a fixed name. `info` is what an operator
//! would tell a colleague, `warn` expects a person soon, `error` now.
//!
//! ```
//! use etcd_release::journal;
//! journal::info("launch decided", &serde_json::json!({"row": 4, "plan": "start"}));
//! ```
//!
//! Why not `tracing`: a subscriber with JSON output outweighs the launcher's whole log, which is a few
//! lines per start.

use std::io::Write;
use std::panic::Location;
use std::sync::Mutex;

use serde_json::{Map, Value};

/// How urgently somebody should read the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What an operator would tell a colleague.
    Info,
    /// Expects a person soon.
    Warn,
    /// Expects a person now.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Where lines go besides stderr: drain's story must not touch stdout, and BOSH keeps no log for it.
static FILE: Mutex<Option<std::fs::File>> = Mutex::new(None);

/// Sends all further lines to the end of `file` instead of stderr.
pub fn append_to(file: std::fs::File) {
    *FILE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(file);
}

/// Logs what an operator would tell a colleague. `fields` is a JSON object.
#[track_caller]
pub fn info(message: &str, fields: &Value) {
    event(Level::Info, message, fields, Location::caller());
}

/// Logs what a person should look at soon.
#[track_caller]
pub fn warn(message: &str, fields: &Value) {
    event(Level::Warn, message, fields, Location::caller());
}

/// Logs what a person should look at now.
#[track_caller]
pub fn error(message: &str, fields: &Value) {
    event(Level::Error, message, fields, Location::caller());
}

fn event(level: Level, message: &str, fields: &Value, caller: &Location<'_>) {
    let line = line(level, &now(), caller, message, fields);
    let mut guard = FILE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // A log that cannot be written (full disk, closed pipe) must not stop what it tells about.
    let _ = match guard.as_mut() {
        Some(file) => file.write_all(line.as_bytes()),
        None => std::io::stderr().lock().write_all(line.as_bytes()),
    };
}

/// This moment in UTC with milliseconds, as etcd's log writes it.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn line(level: Level, ts: &str, caller: &Location<'_>, message: &str, fields: &Value) -> String {
    let mut event = Map::new();
    event.insert("level".to_owned(), level.name().into());
    event.insert("ts".to_owned(), ts.into());
    let file = caller.file().strip_prefix("src/").unwrap_or(caller.file());
    event.insert("caller".to_owned(), format!("{file}:{}", caller.line()).into());
    event.insert("msg".to_owned(), message.into());
    if let Value::Object(fields) = fields {
        for (key, value) in fields {
            event.insert(key.clone(), value.clone());
        }
    }
    let mut text = Value::Object(event).to_string();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_one_line_with_the_keys_of_etcds_log() {
        let text = line(
            Level::Warn,
            "2026-01-02T03:04:05.678Z",
            Location::caller(),
            "peer is silent",
            &serde_json::json!({"peer_url": "https://a:2380", "why": "line\nbreak"}),
        );

        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(parsed["level"], "warn");
        assert_eq!(parsed["msg"], "peer is silent");
        assert_eq!(parsed["why"], "line\nbreak");
        assert!(parsed["caller"].as_str().unwrap().starts_with("journal.rs:"));
    }
}
