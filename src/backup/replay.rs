//! Adds the changes of deltas to a database that no etcd has open, as etcd itself would have written them: the same
//! revisions, versions and leases (docs/contract.md#replay).
//!
//! Bucket `key` is sorted by revision, so everything new comes behind what is there: one transaction, written from
//! front to back, with a page per level of the tree in memory. No lease can expire meanwhile, because nothing runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;

use jiff::Timestamp;
use prost::Message;

use super::chain::Point;
use super::delta::{Change, Record, RecordError, Records};
use crate::datadir::bolt::edit::Edit;
use crate::datadir::bolt::write::{Filling, WriteError};
use crate::datadir::bolt::{Db, Error};
use crate::datadir::source::Map;

/// What etcd keeps of a key, by revision: `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(super) lease: i64,
}

/// What etcd keeps of a lease: `leasepb.Lease`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StoredLease {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(int64, tag = "2")]
    pub(super) seconds: i64,
}

/// What was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// The last revision the database has now; 0 if nothing was added.
    pub last: i64,
    /// When the last change that was added had arrived.
    pub at: Option<Timestamp>,
    /// How many changes of keys.
    pub changes: u64,
}

/// Why nothing was added; the database is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// A delta could not be opened.
    #[error(transparent)]
    Open(E),
    /// A delta, counted from 0.
    #[error("delta {0}: {1}")]
    Delta(usize, #[source] RecordError),
    /// The first record does not follow what is there.
    #[error("delta {delta} begins with revision {found} where the database ends with {last}")]
    Apart {
        /// Which delta, counted from 0.
        delta: usize,
        /// The last revision there.
        last: i64,
        /// The first new one.
        found: i64,
    },
    /// The database.
    #[error(transparent)]
    Database(#[from] WriteError),
}

/// Adds the changes of `deltas` up to `point` to the database in `file`, whose last revision is `last`. Every delta is
/// read to its end, also behind the point: its hash counts. `open` opens them one after the other.
pub fn replay<R: Read, E>(
    file: File,
    last: i64,
    point: Point,
    deltas: usize,
    mut open: impl FnMut(usize) -> Result<R, E>,
) -> Result<(File, Replayed), ReplayError<E>> {
    let mut leases = BTreeMap::new();
    let mut replayed = Replayed::default();
    let mut edit = Edit::begin(file.try_clone().map_err(WriteError::Io)?)?;
    edit.append::<ReplayError<E>>(b"key", |keys| {
        let (mut last, mut ended) = (last, false);
        for delta in 0..deltas {
            let mut records = Records::of(open(delta).map_err(ReplayError::Open)?);
            while let Some(record) = records.read().map_err(|error| ReplayError::Delta(delta, error))? {
                ended = ended || behind(point, &record);
                // Overlaps are what two writers leave, or a full snapshot taken meanwhile.
                if ended || record.revision <= last {
                    continue;
                }
                if record.revision != last + 1 {
                    return Err(ReplayError::Apart { delta, last, found: record.revision });
                }
                last = record.revision;
                replayed.last = last;
                replayed.at = Timestamp::from_millisecond(record.at_unix_ms).ok();
                replayed.changes += record.changes.len() as u64;
                leases.extend(record.leases.iter().map(|lease| (lease.id, lease.seconds)));
                put(keys, record)?;
            }
        }
        Ok(())
    })?;
    if replayed.changes == 0 {
        // Without a commit the file is as it was but for bytes that nobody reads.
        return Ok((file, replayed));
    }
    if !leases.is_empty() {
        let map = Map::of(&file).map_err(WriteError::Io)?;
        let db = Db::over_cut(map.as_slice()).map_err(WriteError::Read)?;
        edit.replace::<WriteError>(b"lease", |filling| put_leases(filling, &db, &leases))?;
    }
    Ok((edit.commit()?, replayed))
}

fn behind(point: Point, record: &Record) -> bool {
    match point {
        Point::Latest => false,
        Point::Revision(revision) => record.revision > revision,
        Point::Time(time) => record.at_unix_ms > time.as_millisecond(),
    }
}

/// One revision: its changes are numbered from 0.
fn put(keys: &mut Filling<'_>, record: Record) -> Result<(), WriteError> {
    let mut stored = Vec::new();
    for (sub, change) in record.changes.into_iter().enumerate() {
        let mut at = Vec::with_capacity(18);
        at.extend_from_slice(&record.revision.to_be_bytes());
        at.push(b'_');
        at.extend_from_slice(&(sub as u64).to_be_bytes());
        let Change { deleted, key, value, create_revision, version, lease } = change;
        let key_value = if deleted {
            at.push(b't');
            KeyValue { key, ..KeyValue::default() }
        } else {
            KeyValue { key, create_revision, mod_revision: record.revision, version, value, lease }
        };
        stored.clear();
        key_value.encode(&mut stored).expect("a vector grows");
        keys.put(&at, &stored)?;
    }
    Ok(())
}

/// The leases that were there and the new ones, by id; of one that is both, the new one counts.
fn put_leases(filling: &mut Filling<'_>, db: &Db<&[u8]>, new: &BTreeMap<i64, i64>) -> Result<(), WriteError> {
    // Sorted as etcd's keys are: eight bytes, as a number without a sign.
    let mut new = new
        .iter()
        .map(|(id, seconds)| (id.to_be_bytes(), StoredLease { id: *id, seconds: *seconds }))
        .collect::<Vec<_>>();
    new.sort_by_key(|(key, _)| *key);
    let mut new = new.into_iter().peekable();
    let put = |filling: &mut Filling<'_>, (key, lease): ([u8; 8], StoredLease)| {
        filling.put(&key, &lease.encode_to_vec())
    };
    if let Some(old) = db.bucket(b"lease").map_err(WriteError::Read)? {
        let flow = old.visit(&mut |key, value, _| {
            let mut merge = || -> Result<(), WriteError> {
                while let Some(before) = new.next_if(|(new, _)| new.as_slice() < key) {
                    put(filling, before)?;
                }
                match new.next_if(|(new, _)| new.as_slice() == key) {
                    Some(same) => put(filling, same),
                    None => filling.put(key, value),
                }
            };
            match merge() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        if let ControlFlow::Break(error) = flow.map_err(WriteError::Read)? {
            return Err(error);
        }
    }
    for rest in new {
        put(filling, rest)?;
    }
    Ok(())
}

/// The last revision a database has, and up to which it was compacted.
pub fn revisions(file: &File) -> Result<super::manifest::Revisions, Error> {
    let (last, compacted) = crate::datadir::restore::revisions_of(file)?;
    Ok(super::manifest::Revisions { compacted, last })
}

#[cfg(test)]
mod tests;
