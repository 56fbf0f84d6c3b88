//! What a snapshot says that restoring depends on: versions, revisions, the members that go, alarms.

use std::collections::BTreeMap;

use crate::datadir::bolt::{Bucket, Db, Error};
use crate::datadir::source::Source;
use crate::datadir::wire::{Fields, Malformed};
use crate::etcd::id::MemberId;
use crate::etcd::version::EtcdVersion;

use super::report::Alarm;

/// No cluster has more members, and none more alarms than a few for each.
const ENTRIES_MAX: usize = 1000;

/// What restoring depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// The last revision: of a record, or one up to which everything was compacted.
    pub(super) revision: i64,
    /// Up to which revision compaction is done, or to be done.
    pub(super) compacted: i64,
    /// The version the cluster had agreed on.
    pub(super) cluster_version: Option<EtcdVersion>,
    /// The version of the layout.
    pub(super) storage_version: Option<EtcdVersion>,
    /// Whether a downgrade was noted.
    pub(super) downgrade: bool,
    /// The members of the old cluster.
    pub(super) members: Vec<MemberId>,
    /// Alarms that were raised.
    pub(super) alarms: Vec<Alarm>,
}

impl Facts {
    /// Reads a few keys, whatever the size of the file.
    pub(super) fn of<S: Source>(db: &Db<S>) -> Result<Self, Error> {
        let meta = entries(db, "meta")?;
        let cluster = entries(db, "cluster")?;
        let compacted = ["finishedCompactRev", "scheduledCompactRev"]
            .iter()
            .filter_map(|name| revision(meta.get(name.as_bytes())?))
            .fold(0, i64::max);
        let last = match db.bucket(b"key")? {
            Some(keys) => keys.last()?.and_then(|(key, _)| revision(&key)),
            None => None,
        };
        let version = |entries: &BTreeMap<Vec<u8>, Vec<u8>>, name: &str| {
            std::str::from_utf8(entries.get(name.as_bytes())?).ok()?.parse().ok()
        };
        Ok(Self {
            // A cluster without a key is at revision 1.
            revision: last.unwrap_or(0).max(compacted).max(1),
            compacted,
            cluster_version: version(&cluster, "clusterVersion"),
            storage_version: version(&meta, "storageVersion"),
            downgrade: cluster.contains_key(b"downgrade".as_slice()),
            members: entries(db, "members")?.keys().filter_map(|key| id(key)).collect(),
            alarms: entries(db, "alarm")?.keys().filter_map(|key| alarm(key).ok()).collect(),
        })
    }
}

fn entries<S: Source>(db: &Db<S>, bucket: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    match db.bucket(bucket.as_bytes())? {
        Some(bucket) => Ok(Bucket::entries(&bucket, ENTRIES_MAX)?.into_iter().collect()),
        None => Ok(BTreeMap::new()),
    }
}

fn id(key: &[u8]) -> Option<MemberId> {
    std::str::from_utf8(key).ok()?.parse().ok()
}

/// The main revision of a key of bucket `key`, or of a mark of compaction.
fn revision(key: &[u8]) -> Option<i64> {
    key.first_chunk().map(|main| i64::from_be_bytes(*main)).filter(|main| *main >= 0)
}

/// An alarm is a message, kept as a key: member, then kind.
fn alarm(key: &[u8]) -> Result<Alarm, Malformed> {
    let (mut member_id, mut kind) = (0, 0);
    for field in Fields::of(key) {
        match field? {
            (1, value) => member_id = value.number()?,
            (2, value) => kind = value.number()?,
            _ => {}
        }
    }
    let kind = match kind {
        1 => "NOSPACE".to_owned(),
        2 => "CORRUPT".to_owned(),
        other => other.to_string(),
    };
    Ok(Alarm { member_id: MemberId(member_id), kind })
}
