//! What etcd, etcdctl and etcdutl say about a data directory: what our own reading is compared with.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::etcd::{Etcd, PATIENCE, base64, etcd_of, number};

/// The answers of one member, of the last moment before it ended (or of a copy of its directory, started).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// `etcd --version`.
    pub(crate) etcd: String,
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    /// By id; nothing of a member that was removed: it is often cut off before it hears of it.
    pub(crate) members: Option<Vec<MemberFact>>,
    /// Members that were removed.
    pub(crate) removed: Vec<u64>,
    /// As `X.Y.0`.
    pub(crate) cluster_version: Option<String>,
    /// As `X.Y.0`, from 3.6 on.
    pub(crate) storage_version: Option<String>,
    pub(crate) revision: u64,
    /// 0 if it was never compacted.
    pub(crate) compact_revision: u64,
    /// Of the newest revision, over all revisions that are kept.
    pub(crate) hash_kv: u64,
    /// Keys that a read of everything finds.
    pub(crate) keys: u64,
    pub(crate) leases: Vec<LeaseFact>,
    pub(crate) auth_enabled: bool,
    pub(crate) users: Vec<UserFact>,
    pub(crate) roles: Vec<String>,
    pub(crate) alarms: Vec<AlarmFact>,
    /// The last entry it applied and the term of raft; `None` if it wrote on, or nobody asked last of all.
    pub(crate) raft: Option<RaftFact>,
    /// `etcdutl snapshot status` on the database file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) status: Option<StatusFact>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct MemberFact {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
    pub(crate) client_urls: Vec<String>,
    pub(crate) learner: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LeaseFact {
    pub(crate) id: u64,
    /// As granted, in seconds.
    pub(crate) ttl: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct UserFact {
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct AlarmFact {
    pub(crate) member: u64,
    pub(crate) alarm: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RaftFact {
    pub(crate) applied: u64,
    pub(crate) term: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusFact {
    /// The tool that was asked: older ones count every revision of a key.
    pub(crate) series: String,
    pub(crate) hash: u64,
    pub(crate) revision: u64,
    pub(crate) total_keys: u64,
    pub(crate) total_size: u64,
}

/// One key as a read of everything gives it, without its value: that is in the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    name: String,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    lease: u64,
}

impl Facts {
    /// Asks a member that serves; an error is what it answered instead. With authentication on, it has to be logged in
    /// as root.
    pub(crate) fn of(etcd: &Etcd, removed: &[u64]) -> Result<Self, String> {
        let (status, version) = settled(etcd)?;
        let header = &status["header"];
        let (hash_kv, compact_revision) = hash_kv(etcd)?;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let mut facts = Self {
            etcd: text(&status["version"]).expect("a version"),
            cluster_id: number(&header["cluster_id"]),
            member_id: number(&header["member_id"]),
            members: Some(members(etcd)?),
            removed: removed.to_vec(),
            cluster_version: text(&version["etcdcluster"]),
            storage_version: text(&status["storageVersion"]),
            revision: number(&header["revision"]),
            compact_revision,
            hash_kv,
            keys: number(&etcd.try_call("kv/range", &everything(json!({"count_only": true})))?["count"]),
            leases: leases(etcd)?,
            auth_enabled: etcd.is_logged_in(),
            users: users(etcd)?,
            roles: names(&etcd.try_call("auth/role/list", &json!({}))?["roles"]),
            alarms: alarms(etcd)?,
            raft: None,
            status: None,
        };
        // Last: some of these questions are entries of the log themselves.
        let status = caught_up(etcd)?;
        facts.raft = Some(RaftFact {
            applied: number(&status["raftAppliedIndex"]),
            term: number(&status["raftTerm"]),
        });
        Ok(facts)
    }

    /// Adds what `etcdutl snapshot status` of a series says about the database of a directory that nobody uses.
    pub(crate) fn with_status(mut self, series: &str, data_dir: &Path) -> Self {
        // A copy: 3.5 opens it for writing.
        let copy = tempfile::tempdir().unwrap();
        let db = copy.path().join("db");
        std::fs::copy(data_dir.join("member/snap/db"), &db).unwrap();
        let output = Command::new(etcd_of(series, "etcdutl"))
            .args(["snapshot", "status", "-w", "json"])
            .arg(&db)
            .output()
            .expect("etcdutl starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        self.status = Some(StatusFact {
            series: series.to_owned(),
            hash: number(&status["hash"]),
            revision: number(&status["revision"]),
            total_keys: number(&status["totalKey"]),
            total_size: number(&status["totalSize"]),
        });
        self
    }

    /// What holds of a member that nobody could ask any more.
    pub(crate) fn of_removed(self, member_id: u64) -> Self {
        Self { member_id, members: None, raft: None, status: None, ..self }
    }

    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).unwrap() + "\n";
        std::fs::write(path, text).unwrap();
    }
}

/// Its status and versions, once the cluster has agreed on a version and the database is marked with it: that takes
/// some tenths of a second after a first start.
fn settled(etcd: &Etcd) -> Result<(Value, Value), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = etcd.try_call("maintenance/status", &json!({}))?;
        let version = etcd.version()?;
        let agreed = &version["etcdcluster"];
        let marked = matches!(etcd.series, "3.4" | "3.5") || status["storageVersion"] == *agreed;
        if agreed != "not_decided" && marked {
            return Ok((status, version));
        }
        if Instant::now() >= deadline {
            return Err(format!("no version is agreed on: {version} {status}"));
        }
        thread::yield_now();
    }
}

/// Its status once it counts everything that is agreed on: a question is answered a moment before its own entry counts
/// as applied.
fn caught_up(etcd: &Etcd) -> Result<Value, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = etcd.try_call("maintenance/status", &json!({}))?;
        if status["raftIndex"] == status["raftAppliedIndex"] {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(format!("not everything is applied: {status}"));
        }
        thread::yield_now();
    }
}

/// Every key with its revisions.
pub(crate) fn dump(etcd: &Etcd) -> Result<Vec<Key>, String> {
    let answer = etcd.try_call("kv/range", &everything(json!({"keys_only": true})))?;
    Ok(list(&answer["kvs"])
        .iter()
        .map(|key| Key {
            name: key["key"].as_str().unwrap_or_default().to_owned(),
            create_revision: number(&key["create_revision"]),
            mod_revision: number(&key["mod_revision"]),
            version: number(&key["version"]),
            lease: number(&key["lease"]),
        })
        .collect())
}

/// The hash of all revisions, and the one everything was compacted to (0 if never).
fn hash_kv(etcd: &Etcd) -> Result<(u64, u64), String> {
    // 3.4 has no way to it but gRPC.
    let answer = if etcd.series == "3.4" {
        etcd.try_etcdctl(&["endpoint", "hashkv"], b"")?[0]["HashKV"].clone()
    } else {
        etcd.try_call("maintenance/hashkv", &json!({}))?
    };
    // -1 stands for never.
    let compacted = match &answer["compact_revision"] {
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    };
    Ok((number(&answer["hash"]), compacted))
}

fn everything(mut request: Value) -> Value {
    request["key"] = base64(&[0]).into();
    request["range_end"] = base64(&[0]).into();
    request
}

pub(crate) fn members(etcd: &Etcd) -> Result<Vec<MemberFact>, String> {
    let answer = etcd.try_call("cluster/member/list", &json!({}))?;
    let mut members: Vec<_> = list(&answer["members"])
        .iter()
        .map(|member| MemberFact {
            id: number(&member["ID"]),
            name: member["name"].as_str().unwrap_or_default().to_owned(),
            peer_urls: names(&member["peerURLs"]),
            client_urls: names(&member["clientURLs"]),
            learner: member["isLearner"] == true,
        })
        .collect();
    members.sort();
    Ok(members)
}

fn leases(etcd: &Etcd) -> Result<Vec<LeaseFact>, String> {
    let answer = etcd.try_call("lease/leases", &json!({}))?;
    let mut leases = Vec::new();
    for lease in list(&answer["leases"]) {
        let answer = etcd.try_call("lease/timetolive", &json!({"ID": lease["ID"]}))?;
        leases.push(LeaseFact { id: number(&lease["ID"]), ttl: number(&answer["grantedTTL"]) });
    }
    leases.sort();
    Ok(leases)
}

fn users(etcd: &Etcd) -> Result<Vec<UserFact>, String> {
    let mut users = Vec::new();
    for name in names(&etcd.try_call("auth/user/list", &json!({}))?["users"]) {
        let roles = names(&etcd.try_call("auth/user/get", &json!({"name": name}))?["roles"]);
        users.push(UserFact { name, roles });
    }
    Ok(users)
}

fn alarms(etcd: &Etcd) -> Result<Vec<AlarmFact>, String> {
    let answer = etcd.try_call("maintenance/alarm", &json!({"action": "GET"}))?;
    let mut alarms: Vec<_> = list(&answer["alarms"])
        .iter()
        .map(|alarm| AlarmFact {
            member: number(&alarm["memberID"]),
            alarm: alarm["alarm"].as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    alarms.sort();
    Ok(alarms)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn names(value: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        list(value).iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}
