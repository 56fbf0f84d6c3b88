//! What the walk through the database shows, bucket by bucket, folded into numbers.

use serde::Deserialize;

use super::super::super::bolt::Place;
use super::super::super::bolt::pages::Visitor;
use super::super::super::stored_member::StoredMember;
use super::super::super::wire::{Fields, Malformed};
use super::super::{LISTED_MAX, MemberRow};
use super::{Alarm, BackendFacts, Compaction, Lease, User};
use crate::etcd::id::MemberId;

/// What came by so far.
#[derive(Default)]
pub(in super::super) struct Fold {
    bucket: Bucket,
    facts: BackendFacts,
    /// The largest revision of a key.
    largest: u64,
    live: LiveCount,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Alarm,
    Auth,
    Roles,
    Users,
    Cluster,
    Key,
    Lease,
    Members,
    Removed,
    Meta,
    #[default]
    Other,
}

/// Counts keys that exist without remembering any. At a finished compaction each key that exists has one
/// revision left at or below it; above it, a key begins with version 1 and ends with a removal.
#[derive(Debug, Default)]
struct LiveCount {
    /// The compaction that the keys are counted for.
    compacted: u64,
    count: i64,
}

impl LiveCount {
    fn take(&mut self, main: u64, version: u64, is_tombstone: bool) {
        match (main <= self.compacted, is_tombstone) {
            (true, false) => self.count += 1,
            (false, true) => self.count -= 1,
            (false, false) if version == 1 => self.count += 1,
            _ => {}
        }
    }
}

impl Visitor for Fold {
    fn bucket(&mut self, name: &[u8], _: Place) {
        self.bucket = match name {
            b"alarm" => Bucket::Alarm,
            b"auth" => Bucket::Auth,
            b"authRoles" => Bucket::Roles,
            b"authUsers" => Bucket::Users,
            b"cluster" => Bucket::Cluster,
            b"key" => Bucket::Key,
            b"lease" => Bucket::Lease,
            b"members" => Bucket::Members,
            b"members_removed" => Bucket::Removed,
            b"meta" => Bucket::Meta,
            _ => Bucket::Other,
        };
    }

    fn entry(&mut self, key: &[u8], value: &[u8], _: Place) {
        // An entry that cannot be read is passed over: finding it is what a validation is for.
        let _ = self.take(key, value);
    }

    fn nested(&mut self, _: &[u8], _: Place) {}

    fn skipped(&mut self) {}

    fn read(&mut self, _: u64) {}
}

impl Fold {
    /// For a database with a compaction that was finished at this revision; 0 for none. It is to be known
    /// beforehand, since the keys come before it.
    pub(in super::super) fn after(compacted: u64) -> Self {
        Self { live: LiveCount { compacted, count: 0 }, ..Self::default() }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let facts = &mut self.facts;
        match self.bucket {
            Bucket::Key => {
                let main =
                    key.first_chunk().map(|main| u64::from_be_bytes(*main)).ok_or(Malformed::Truncated)?;
                let is_tombstone = key.len() == 18 && key.last() == Some(&b't');
                self.largest = self.largest.max(main);
                facts.keys.records += 1;
                facts.keys.tombstones += u64::from(is_tombstone);
                let (mut version, mut bytes, mut has_name) = (0, 0, false);
                for field in Fields::of(value) {
                    match field? {
                        (1, value) => {
                            has_name = true;
                            bytes += value.bytes()?.len() as u64;
                        }
                        (5, value) => bytes += value.bytes()?.len() as u64,
                        (4, value) => version = value.number()?,
                        _ => {}
                    }
                }
                facts.keys.bytes += bytes;
                // A restore that raises the revision leaves a record without any key.
                if has_name {
                    self.live.take(main, version, is_tombstone);
                }
            }
            Bucket::Meta => match key {
                b"consistent_index" => facts.consistent_index = number(value)?,
                b"term" => facts.term = Some(number(value)?),
                b"scheduledCompactRev" => facts.compaction.scheduled = number(value)?,
                b"finishedCompactRev" => facts.compaction.finished = number(value)?,
                b"storageVersion" => facts.storage_version = Some(text(value)),
                _ => {}
            },
            Bucket::Cluster => match key {
                b"clusterVersion" => facts.cluster_version = Some(text(value)),
                b"downgrade" => facts.downgrade_to = downgrade(value),
                _ => {}
            },
            Bucket::Members => {
                let member = StoredMember::from_json(value).map_err(|_| Malformed::Invalid)?;
                push(&mut facts.members, MemberRow::from(&member));
            }
            Bucket::Removed => {
                push(&mut facts.removed, text(key).parse().map_err(|_| Malformed::Invalid)?);
            }
            Bucket::Lease => {
                facts.leases_count += 1;
                push(&mut facts.leases, lease(value)?);
            }
            Bucket::Alarm => push(&mut facts.alarms, alarm(key)?),
            Bucket::Auth => match key {
                b"authEnabled" => facts.auth.enabled = value == [1],
                b"authRevision" => facts.auth.revision = number(value)?,
                _ => {}
            },
            Bucket::Roles => push(&mut facts.auth.roles, text(key)),
            Bucket::Users => push(&mut facts.auth.users, user(value)?),
            Bucket::Other => {}
        }
        Ok(())
    }

    /// The facts, but for those about the file.
    pub(in super::super) fn facts(self) -> BackendFacts {
        let mut facts = self.facts;
        let Compaction { scheduled, finished } = facts.compaction;
        // As etcd finds it at a start; the first revision of an empty database is 1.
        facts.keys.live =
            (scheduled == finished).then_some(self.live.count).and_then(|count| count.try_into().ok());
        facts.revision = self.largest.max(1).max(finished).max(scheduled);
        facts
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() < LISTED_MAX {
        list.push(item);
    }
}

/// The number at the beginning: of a revision the main one, else all of it.
pub(super) fn number(bytes: &[u8]) -> Result<u64, Malformed> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or(Malformed::Truncated)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lease(message: &[u8]) -> Result<Lease, Malformed> {
    let (mut id, mut ttl, mut remaining) = (0, 0, 0);
    for field in Fields::of(message) {
        match field? {
            (1, value) => id = value.number()?,
            (2, value) => ttl = value.number()?,
            (3, value) => remaining = value.number()?,
            _ => {}
        }
    }
    Ok(Lease { id: format!("{id:x}"), ttl: ttl.cast_signed(), remaining: remaining.cast_signed() })
}

fn alarm(message: &[u8]) -> Result<Alarm, Malformed> {
    let (mut member, mut kind) = (0, 0);
    for field in Fields::of(message) {
        match field? {
            (1, value) => member = value.number()?,
            (2, value) => kind = value.number()?,
            _ => {}
        }
    }
    let alarm = match kind {
        1 => "NOSPACE".to_owned(),
        2 => "CORRUPT".to_owned(),
        other => other.to_string(),
    };
    Ok(Alarm { member: MemberId(member), alarm })
}

fn user(message: &[u8]) -> Result<User, Malformed> {
    let mut user = User { name: String::new(), roles: Vec::new() };
    for field in Fields::of(message) {
        match field? {
            (1, value) => user.name = text(value.bytes()?),
            (3, value) => push(&mut user.roles, text(value.bytes()?)),
            // The second is the password's hash.
            _ => {}
        }
    }
    Ok(user)
}

fn downgrade(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Downgrade {
        #[serde(default, rename = "target-version")]
        target: String,
        #[serde(default)]
        enabled: bool,
    }
    let downgrade: Downgrade = serde_json::from_slice(json).ok()?;
    downgrade.enabled.then_some(downgrade.target)
}
