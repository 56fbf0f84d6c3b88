//! What the backend says about the member and its cluster: a few keys out of a few buckets.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::Deserialize;

use super::bolt::{Db, Error};
use crate::etcd::id::MemberId;
use crate::etcd::member::Member;

/// The buckets that etcd makes, in order.
pub(super) const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];
/// No cluster has more members; etcd's own advice is seven.
const MEMBERS_MAX: usize = 1000;

/// The facts that classification needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Backend {
    pub(super) consistent_index: Index,
    pub(super) has_keys: bool,
    /// `None` if an entry is there that nobody can read.
    pub(super) members: Option<Vec<Member>>,
    pub(super) removed: Option<bool>,
    pub(super) cluster_version: Option<String>,
    pub(super) storage_version: Option<String>,
}

/// The index of the last raft entry the backend holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    /// As written; 0 if nothing was applied yet.
    At(u64),
    /// Not the eight bytes it should be; etcd panics on it.
    Malformed,
}

impl Default for Index {
    fn default() -> Self {
        Self::At(0)
    }
}

/// A member as etcd writes it.
#[derive(Deserialize)]
struct Stored {
    id: u64,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(default, rename = "isLearner")]
    is_learner: bool,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
}

impl Backend {
    /// Reads the facts; `own` is the member whose data it is, if the log told.
    pub(super) fn read(db: &Db, own: Option<MemberId>) -> Result<Self, Error> {
        let consistent_index = match value(db, b"meta", b"consistent_index")? {
            None => Index::At(0),
            Some(bytes) => {
                bytes.try_into().map_or(Index::Malformed, |bytes| Index::At(u64::from_be_bytes(bytes)))
            }
        };
        let removed = match own {
            Some(own) => Some(value(db, b"members_removed", own.to_string().as_bytes())?.is_some()),
            None => None,
        };
        Ok(Self {
            consistent_index,
            has_keys: db.bucket(b"key")?.map(|keys| keys.is_empty()).transpose()? == Some(false),
            members: members(db)?,
            removed,
            cluster_version: text(value(db, b"cluster", b"clusterVersion")?),
            storage_version: text(value(db, b"meta", b"storageVersion")?),
        })
    }
}

fn value(db: &Db, bucket: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    match db.bucket(bucket)? {
        Some(bucket) => bucket.get(key),
        None => Ok(None),
    }
}

fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.and_then(|bytes| String::from_utf8(bytes).ok())
}

fn members(db: &Db) -> Result<Option<Vec<Member>>, Error> {
    let Some(bucket) = db.bucket(b"members")? else { return Ok(Some(Vec::new())) };
    let entries = bucket.entries(MEMBERS_MAX + 1)?;
    if entries.len() > MEMBERS_MAX {
        return Ok(None);
    }
    Ok(entries.iter().map(|(key, value)| member(key, value)).collect())
}

fn member(key: &[u8], value: &[u8]) -> Option<Member> {
    let stored: Stored = serde_json::from_slice(value).ok()?;
    let id = MemberId(stored.id);
    // The key is the id as well: two that differ say that the entry cannot be trusted.
    if id.to_string().as_bytes() != key {
        return None;
    }
    Some(Member {
        id,
        name: (!stored.name.is_empty()).then_some(stored.name),
        peer_urls: known(stored.peer_urls),
        client_urls: known(stored.client_urls),
        is_learner: stored.is_learner,
    })
}

/// URLs of other kinds (`unix://`) are left out: no other member could use them.
fn known<T: FromStr + Ord>(urls: Option<Vec<String>>) -> BTreeSet<T> {
    urls.unwrap_or_default().iter().filter_map(|url| url.parse().ok()).collect()
}
