//! What the lines of an export say.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::etcd::client::access::{Grant, Kind};
use crate::etcd::id::{ClusterId, LeaseId};

/// What the first line says that it is.
pub const FORMAT: &str = "etcd-export";
/// The layout that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// Any bytes; base64 in the file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.0))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A key for people: what is no printable ASCII as an escape, and the end left out if it is long.
pub fn printable(key: &[u8]) -> String {
    const LONG: usize = 200;
    let (shown, cut) = if key.len() > LONG { (&key[..LONG], "…") } else { (key, "") };
    format!("\"{}\"{cut}", shown.escape_ascii())
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Whose keys they are.
    pub cluster_id: ClusterId,
    /// At which revision.
    pub revision: i64,
    /// The version of the member that gave them.
    pub etcd: String,
    /// Only keys that begin with this; empty: all.
    pub prefix: Blob,
    /// When it was begun.
    pub begun: Timestamp,
    /// Who wrote it.
    pub written_by: String,
}

/// A line between the first and the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// A key. Each is larger than the one before.
    Key(Key),
    /// A lease on which some of the keys hang.
    Lease(Lease),
    /// A role.
    Role(Role),
    /// A user.
    User(User),
    /// Whether authentication was on.
    Auth(Auth),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The key.
    pub key: Blob,
    /// Its value.
    pub value: Blob,
    /// The lease it hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// For how long it was granted; nothing if it had ended before it could be asked for.
    pub seconds: Option<i64>,
    /// How many of the keys hang on it.
    pub keys: u64,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
}

/// What a role may do with some keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// What.
    pub kind: Kind,
    /// From this key on.
    pub key: Blob,
    /// Up to, and without, this one; empty = only the key, a zero byte = to the end.
    pub range_end: Blob,
}

impl From<Grant> for Permission {
    fn from(Grant { key, range_end, kind }: Grant) -> Self {
        Self { kind, key: Blob(key), range_end: Blob(range_end) }
    }
}

impl From<Permission> for Grant {
    fn from(Permission { kind, key, range_end }: Permission) -> Self {
        Self { key: key.0, range_end: range_end.0, kind }
    }
}

/// A user. etcd tells nobody its password, nor the hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
}

/// The state of authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// Whether it was on.
    pub enabled: bool,
}

/// How many lines of each kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Keys.
    pub keys: u64,
    /// Leases.
    pub leases: u64,
    /// Roles.
    pub roles: u64,
    /// Users.
    pub users: u64,
}

impl Counts {
    /// One more.
    pub(super) fn add(&mut self, record: &Record) {
        match record {
            Record::Key(_) => self.keys += 1,
            Record::Lease(_) => self.leases += 1,
            Record::Role(_) => self.roles += 1,
            Record::User(_) => self.users += 1,
            Record::Auth(_) => {}
        }
    }
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Last<'a> {
    /// The counts, and the hash of all bytes before this line in hexadecimal.
    End {
        #[serde(flatten)]
        counts: Counts,
        sha256: &'a str,
    },
}

/// How the last line begins.
pub(super) const LAST: &[u8] = b"{\"end\":";

/// A value as a line.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("plain data without maps");
    line.push(b'\n');
    line
}
