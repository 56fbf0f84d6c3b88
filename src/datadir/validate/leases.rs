//! Whether the leases that keys hang on are there.
//!
//! Only a key's newest record counts: older ones keep the lease they had until they are compacted. Which one is
//! the newest would take an index of all keys; so only keys whose lease is missing are remembered, until a later
//! record of the same key.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;

use super::backend::FILE;
use super::findings::{Details, Effect};
use super::keys::{Revision, Seen};
use crate::datadir::bolt::{Bucket, Db, Error};
use crate::datadir::source::Source;
use crate::datadir::verdict::Finding;

/// Leases that were asked for last are not looked up again.
const REMEMBERED: usize = 1024;
/// No more keys are remembered: beyond, nothing is said.
const KEYS_MAX: usize = 50_000;

/// The bucket `lease`, and the keys that hang on nothing.
pub(super) struct Leases<'db, S> {
    bucket: Option<Bucket<'db, S>>,
    /// By the lowest bits of their ids.
    found: Vec<i64>,
    /// By a hash of the key.
    hanging: HashMap<u64, (Revision, i64)>,
    hasher: RandomState,
    /// Whether nothing can be said.
    gave_up: bool,
}

impl<'db, S: Source> Leases<'db, S> {
    /// The leases of this backend.
    pub(super) fn of(db: &'db Db<S>) -> io::Result<Self> {
        let (bucket, gave_up) = match db.bucket(b"lease") {
            Ok(bucket) => (bucket, false),
            // The walk tells which page is broken.
            Err(Error::Corrupt(_)) => (None, true),
            Err(Error::Io(error)) => return Err(error),
        };
        let hasher = RandomState::new();
        Ok(Self { bucket, found: vec![0; REMEMBERED], hanging: HashMap::new(), hasher, gave_up })
    }

    /// The next record.
    pub(super) fn record(&mut self, seen: Seen<'_>) -> io::Result<()> {
        if self.gave_up || (seen.lease == 0 && self.hanging.is_empty()) {
            return Ok(());
        }
        let is_there = seen.lease == 0 || self.exists(seen.lease)?;
        if is_there && self.hanging.is_empty() {
            return Ok(());
        }
        let key = self.hasher.hash_one(seen.key);
        if is_there {
            self.hanging.remove(&key);
        } else if self.hanging.len() < KEYS_MAX {
            self.hanging.insert(key, (seen.revision, seen.lease));
        } else {
            self.gave_up = true;
            self.hanging = HashMap::new();
        }
        Ok(())
    }

    fn exists(&mut self, lease: i64) -> io::Result<bool> {
        let slot = usize::try_from(lease.cast_unsigned() % REMEMBERED as u64).unwrap_or_default();
        if self.found.get(slot) == Some(&lease) {
            return Ok(true);
        }
        let found = match self.bucket.as_ref().map(|bucket| bucket.get(&lease.to_be_bytes())) {
            Some(Ok(found)) => found.is_some(),
            Some(Err(Error::Io(error))) => return Err(error),
            Some(Err(Error::Corrupt(_))) => true,
            None => false,
        };
        if found && let Some(place) = self.found.get_mut(slot) {
            *place = lease;
        }
        Ok(found)
    }

    /// What to say of keys whose lease is missing, after the last record.
    pub(super) fn finding(&self) -> Option<Finding> {
        let (revision, lease) = self.hanging.values().min()?;
        let count = self.hanging.len();
        let what = format!(
            "{count} keys hang on leases that are not there; the first is that of revision {revision}, lease {lease:016x}"
        );
        let why = "etcd logs that it cannot attach them, and these keys never expire";
        let next = "find these keys by their lease, and delete or put them again";
        Some(Effect::Runs.finding(FILE, what).in_place("bucket 'key'").matters(why).next(next))
    }
}
