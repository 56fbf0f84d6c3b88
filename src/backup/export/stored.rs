//! Reads the database of a backup for an export, without any etcd. The names of its keys are in memory, their values are
//! not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;

use jiff::Timestamp;
use prost::Message;

use super::Exported;
use super::record::{Auth, Blob, FORMAT, Head, Key, Lease, Permission, Record, Role, User, VERSION};
use super::writing::Writing;
use crate::backup::full::written_by;
use crate::backup::manifest::Cluster;
use crate::backup::replay::{KeyValue, StoredLease};
use crate::datadir::bolt::{Bucket, Db, Error};
use crate::datadir::source::Map;
use crate::etcd::client::access::Kind;
use crate::etcd::id::LeaseId;
use crate::report::Complaint;

/// Where a record of a key lies: its revision, its place in it, and a mark if it is of a deletion.
type Place = Vec<u8>;
/// So many keys without a look at anything else.
const AT_ONCE: u64 = 1_000;
/// A record's place without that mark.
const PLACE_BYTES: usize = 17;

/// `authpb.Role`, as etcd keeps it.
#[derive(Clone, PartialEq, Message)]
struct StoredRole {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<StoredPermission>,
}

/// `authpb.Permission`.
#[derive(Clone, PartialEq, Message)]
struct StoredPermission {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    range_end: Vec<u8>,
}

/// `authpb.User`, without its password: an import could not put it anywhere.
#[derive(Clone, PartialEq, Message)]
struct StoredUser {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(string, repeated, tag = "3")]
    roles: Vec<String>,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// The database cannot be read.
    #[error("the database of the backup cannot be read: {0}")]
    Database(#[from] Error),
    /// A record cannot be.
    #[error("the database of the backup has a record in bucket {bucket} that cannot be read: {why}")]
    Record {
        /// Where.
        bucket: &'static str,
        /// Why not.
        why: String,
    },
    /// The operating system says no.
    #[error("the export cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl StoredError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let next = match self {
            Self::Io(_) => "mend what the system complains about and run it again",
            _ => "`etcd-backup verify --deep` says what is wrong with it; choose another set with --set",
        };
        Complaint::failed(self.to_string(), "half an export is none: nothing was kept of it", next)
    }
}

/// Exports the keys that begin with `prefix` at the last revision of a database; users and roles only with all keys.
/// `told` hears how many keys are done, of how many.
pub async fn export<W: Write>(
    db: &File,
    cluster: &Cluster,
    revision: i64,
    prefix: &[u8],
    out: W,
    told: &mut dyn FnMut(u64, u64),
) -> Result<(W, Exported), StoredError> {
    let map = Map::of(db)?;
    let db = Db::over_cut(map.as_slice())?;
    let head = Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        cluster_id: cluster.id,
        revision,
        etcd: cluster.etcd.clone(),
        prefix: Blob(prefix.to_vec()),
        begun: Timestamp::now(),
        written_by: written_by(),
    };
    let mut writing = Writing::begin(out, &head)?;
    let seconds = leases(&db)?;
    let mut hanging: BTreeMap<LeaseId, Lease> = BTreeMap::new();
    if let Some(keys) = db.bucket(b"key")? {
        let index = index(&keys, prefix)?;
        let (mut done, of) = (0, index.len() as u64);
        for place in index.values() {
            let Some(value) = keys.get(place)? else { continue };
            let pair: KeyValue = decoded("key", &value)?;
            let lease = Some(LeaseId(pair.lease.cast_unsigned())).filter(|id| id.0 != 0);
            if let Some(id) = lease {
                let seconds = seconds.get(&pair.lease).copied();
                hanging.entry(id).or_insert(Lease { id, seconds, keys: 0 }).keys += 1;
            }
            writing.put(&Record::Key(Key { key: Blob(pair.key), value: Blob(pair.value), lease }))?;
            done += 1;
            told(done, of);
            if done % AT_ONCE == 0 {
                // Signals are heard in between.
                tokio::task::yield_now().await;
            }
        }
    }
    for lease in hanging.into_values() {
        writing.put(&Record::Lease(lease))?;
    }
    let (mut no_access, mut auth) = (Some(super::ONLY_SOME.to_owned()), None);
    if prefix.is_empty() {
        no_access = None;
        let (records, enabled) = access(&db)?;
        auth = Some(enabled);
        records.iter().try_for_each(|record| writing.put(record))?;
    }
    let (out, counts, bytes) = writing.end()?;
    Ok((out, Exported { cluster: cluster.id, revision, counts, bytes, no_access, auth }))
}

/// Where the last record of each key lies that is there.
fn index(keys: &Bucket<'_, &[u8]>, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Place>, StoredError> {
    let mut index = BTreeMap::new();
    each(keys, "key", |place, value| {
        let pair: KeyValue = decoded("key", value)?;
        // A record without a key is what raised the revision of a restored cluster.
        if !pair.key.is_empty() && pair.key.starts_with(prefix) {
            if place.len() > PLACE_BYTES {
                index.remove(&pair.key);
            } else {
                index.insert(pair.key, place.to_vec());
            }
        }
        Ok(())
    })?;
    Ok(index)
}

/// For how many seconds each lease was granted.
fn leases(db: &Db<&[u8]>) -> Result<BTreeMap<i64, i64>, StoredError> {
    let mut leases = BTreeMap::new();
    if let Some(bucket) = db.bucket(b"lease")? {
        each(&bucket, "lease", |_, value| {
            let lease: StoredLease = decoded("lease", value)?;
            leases.insert(lease.id, lease.seconds);
            Ok(())
        })?;
    }
    Ok(leases)
}

/// Roles, users, and whether authentication was on.
fn access(db: &Db<&[u8]>) -> Result<(Vec<Record>, bool), StoredError> {
    let mut records = Vec::new();
    if let Some(bucket) = db.bucket(b"authRoles")? {
        each(&bucket, "authRoles", |_, value| {
            let role: StoredRole = decoded("authRoles", value)?;
            let permission = |stored: StoredPermission| {
                let kind = match stored.kind {
                    0 => Kind::Read,
                    1 => Kind::Write,
                    2 => Kind::ReadWrite,
                    other => return Err(unreadable("authRoles", format!("permission {other}"))),
                };
                Ok(Permission { kind, key: Blob(stored.key), range_end: Blob(stored.range_end) })
            };
            let permissions = role.permissions.into_iter().map(permission).collect::<Result<_, _>>()?;
            records.push(Record::Role(Role { name: text("authRoles", role.name)?, permissions }));
            Ok(())
        })?;
    }
    if let Some(bucket) = db.bucket(b"authUsers")? {
        each(&bucket, "authUsers", |_, value| {
            let user: StoredUser = decoded("authUsers", value)?;
            records.push(Record::User(User { name: text("authUsers", user.name)?, roles: user.roles }));
            Ok(())
        })?;
    }
    let enabled = match db.bucket(b"auth")? {
        Some(bucket) => bucket.get(b"authEnabled")?.is_some_and(|value| value == [1]),
        None => false,
    };
    records.push(Record::Auth(Auth { enabled }));
    Ok((records, enabled))
}

/// Shows every record of a bucket.
fn each(
    bucket: &Bucket<'_, &[u8]>,
    name: &'static str,
    mut look: impl FnMut(&[u8], &[u8]) -> Result<(), StoredError>,
) -> Result<(), StoredError> {
    let visited = bucket.visit(&mut |key, value, _| match look(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    })?;
    match visited {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(StoredError::Record { why, .. }) => Err(unreadable(name, why)),
        ControlFlow::Break(error) => Err(error),
    }
}

fn decoded<T: Message + Default>(bucket: &'static str, value: &[u8]) -> Result<T, StoredError> {
    T::decode(value).map_err(|error| unreadable(bucket, error.to_string()))
}

fn text(bucket: &'static str, name: Vec<u8>) -> Result<String, StoredError> {
    String::from_utf8(name).map_err(|_| unreadable(bucket, "a name that is no text".to_owned()))
}

fn unreadable(bucket: &'static str, why: String) -> StoredError {
    StoredError::Record { bucket, why }
}
