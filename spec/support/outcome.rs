//! What real etcd makes of a data directory: started alone, asked for everything, and given something to write.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::corpus::{Entry, ROOT};
use super::etcd::{Etcd, Start, base64};
use super::facts::{Facts, Key, dump};

/// A damaged member that neither serves nor ends by then does neither.
const PATIENCE: Duration = Duration::from_secs(40);

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It serves; two that serve the same are equal.
    Serves(Box<Served>),
    /// A member of a cluster has read its disk and looks for the others.
    Campaigns {
        /// The members as it knows them, by id.
        members: Vec<String>,
    },
    /// It ended, or does nothing at all.
    Fails {
        /// The last thing it said.
        why: String,
    },
}

/// What it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    facts: Facts,
    keys: Vec<Key>,
    /// What was answered to a write and a read of it.
    write: Result<(), String>,
}

impl Outcome {
    /// Starts etcd of the entry's series on a copy of its directory.
    pub(crate) fn of(entry: &Entry, data_dir: &Path) -> Self {
        let how = Start::alone(entry.series, data_dir);
        if !entry.is_alone() {
            return campaign(&how);
        }
        let mut etcd = Etcd::spawn(&how);
        // A member whose log ends before its database never gets ready: what it writes is skipped.
        let serves = ["ready to serve client requests", "failed to publish local member"];
        if etcd.hears(&serves, PATIENCE) != Ok(0) {
            return Self::failure(etcd);
        }
        match served(&mut etcd, entry.facts.auth_enabled) {
            Ok(what) => {
                etcd.end(Signal::SIGKILL);
                Self::Serves(Box::new(what))
            }
            Err(why) => Self::Fails { why },
        }
    }

    pub(crate) fn fails(&self) -> bool {
        match self {
            Self::Serves(served) => served.write.is_err(),
            Self::Campaigns { .. } => false,
            Self::Fails { .. } => true,
        }
    }

    fn failure(etcd: Etcd) -> Self {
        // Most have ended by themselves.
        etcd.signal(Signal::SIGKILL);
        let (status, told) = etcd.ended();
        let telling = ["panic", "fatal", "\"level\":\"error\"", "crc", "corrupt"];
        let last = told.lines().rfind(|line| telling.iter().any(|word| line.contains(word)));
        Self::Fails { why: format!("{status}: {}", last.or(told.lines().next_back()).unwrap_or_default()) }
    }
}

fn served(etcd: &mut Etcd, auth_enabled: bool) -> Result<Served, String> {
    if auth_enabled {
        etcd.log_in(ROOT.0, ROOT.1)?;
    }
    let facts = Facts { raft: None, ..Facts::of(etcd, &[])? };
    let keys = dump(etcd)?;
    let key = base64(b"written after the start");
    // A deletion: it also works without any space left.
    let write = etcd
        .try_call("kv/deleterange", &json!({"key": key}))
        .and_then(|_| etcd.try_call("kv/range", &json!({"key": key})))
        .and_then(|_| if facts.alarms.is_empty() { put_and_read(etcd, &key) } else { Ok(()) });
    Ok(Served { facts, keys, write })
}

fn put_and_read(etcd: &Etcd, key: &str) -> Result<(), String> {
    etcd.try_call("kv/put", &json!({"key": key, "value": key}))?;
    let answer = etcd.try_call("kv/range", &json!({"key": key}))?;
    if answer["kvs"][0]["value"] == *key {
        Ok(())
    } else {
        Err(format!("what was written is not there: {answer}"))
    }
}

fn campaign(start: &Start) -> Outcome {
    let mut etcd = Etcd::spawn(start);
    // Twice: the second time everything that is committed has been applied.
    for _ in 0..2 {
        if etcd.hears(&["is starting a new election"], PATIENCE).is_err() {
            return Outcome::failure(etcd);
        }
    }
    let Some(answer) = etcd.peers_answer() else { return Outcome::failure(etcd) };
    let mut members: Vec<String> =
        answer.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(Value::to_string).collect();
    members.sort();
    etcd.end(Signal::SIGKILL);
    Outcome::Campaigns { members }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serves(served) => write!(
                f,
                "serves {} keys at revision {}, hash {}, write {:?}",
                served.keys.len(),
                served.facts.revision,
                served.facts.hash_kv,
                served.write
            ),
            Self::Campaigns { members } => write!(f, "campaigns, {} members", members.len()),
            Self::Fails { why } => write!(f, "fails: {}", why.chars().take(300).collect::<String>()),
        }
    }
}
