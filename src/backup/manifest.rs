//! What stands beside each object: where it comes from, what is in it and how it was packed
//! (docs/backup-format.md). Fields are added, never changed; a reader refuses a `version` it does not know.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::layout::SetId;
use crate::etcd::id::{ClusterId, MemberId};

/// The version of the manifests this release writes.
pub const VERSION: u32 = 1;

/// A full snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Full {
    /// [`VERSION`].
    pub version: u32,
    /// The set that it begins.
    pub set: SetId,
    /// The cluster it is of.
    pub cluster: Cluster,
    /// The revisions it has: from the content, never from what etcd said beside it.
    pub revisions: Revisions,
    /// When the snapshot was begun.
    pub begun: Timestamp,
    /// When the last byte of it was read.
    pub ended: Timestamp,
    /// etcd's own hash of keys and values, if it could be had.
    pub hash: Option<KeyHash>,
    /// How many keys there are at its last revision, as etcd counts them, if that could be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// The object.
    pub object: Object,
    /// The program that wrote it, `etcd-backup 0.1.0`.
    pub written_by: String,
}

/// Changes behind a full snapshot, or behind another delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// [`VERSION`].
    pub version: u32,
    /// The set.
    pub set: SetId,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The first revision in it: one more than the last of what comes before.
    pub first: i64,
    /// The last revision in it.
    pub last: i64,
    /// How many changes of keys.
    pub events: u64,
    /// When the first change arrived here.
    pub begun: Timestamp,
    /// When the last change arrived here.
    pub ended: Timestamp,
    /// The object before: the full snapshot or a delta, by its name in the store.
    pub previous: String,
    /// The object.
    pub object: Object,
    /// The program that wrote it.
    pub written_by: String,
}

/// Which cluster, and how it looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// The BOSH deployment, if it was known.
    pub deployment: Option<String>,
    /// The version of the etcd that gave the snapshot, `3.6.16`.
    pub etcd: String,
    /// The member that gave it.
    pub member: MemberId,
    /// All members.
    pub members: Vec<Member>,
    /// The job's properties without secrets, for whoever has to build the cluster anew.
    pub properties: BTreeMap<String, serde_json::Value>,
}

/// A member, as the cluster listed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; absent if it had never started.
    pub name: Option<String>,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Whether it did not vote.
    pub learner: bool,
}

/// Which revisions a snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revisions {
    /// Up to which it was compacted; 0 = never.
    pub compacted: i64,
    /// The last one.
    pub last: i64,
}

/// etcd's hash of all keys and values up to a revision (`HashKV`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyHash {
    /// Up to this revision.
    pub revision: i64,
    /// Two hashes can be compared only if this is equal as well.
    pub compacted: i64,
    /// The hash.
    pub hash: u32,
}

/// An object of the store, and how to get the content out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its name below the URL.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal digits.
    pub sha256: String,
    /// How it was compressed.
    pub compression: Compression,
    /// How it was encrypted.
    pub encryption: Encryption,
    /// The size of the content.
    pub content_bytes: u64,
    /// SHA-256 of the content.
    pub content_sha256: String,
}

/// How an object was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    None,
    /// By zstd.
    Zstd,
}

/// How an object was encrypted, after it was compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Encryption {
    /// Not at all.
    None,
    /// age-encryption.org/v1, for these recipients (public keys: they open nothing).
    Age {
        /// `age1…`.
        recipients: Vec<String>,
    },
}

/// A verification that found nothing wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// [`VERSION`].
    pub version: u32,
    /// The set.
    pub set: SetId,
    /// When.
    pub at: Timestamp,
    /// Whether it was restored for it and compared, or only read.
    pub deep: bool,
    /// Up to which revision.
    pub revision: i64,
    /// How many objects were read.
    pub objects: u64,
    /// How many bytes of them.
    pub bytes: u64,
}
