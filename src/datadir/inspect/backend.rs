//! The database in numbers: one walk through every page.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::bolt::pages::{self, Visitor};
use super::super::bolt::{Db, Error, Headers, Place};
use super::super::layout;
use super::super::source::{Map, Source};
use super::super::stored_member::StoredMember;
use super::super::wire::{Fields, Malformed};
use super::{LISTED_MAX, MemberRow, Unreadable};
use crate::etcd::id::MemberId;

/// What the database says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BackendFacts {
    /// The index of the last entry it holds.
    pub consistent_index: u64,
    /// The term of that entry; not there in 3.4.
    pub term: Option<u64>,
    /// The version the members have agreed on; up to 3.4 only the old store has it.
    pub cluster_version: Option<String>,
    /// The version of its layout; not there before 3.6.
    pub storage_version: Option<String>,
    /// The release that a downgrade goes to, if one is allowed.
    pub downgrade_to: Option<String>,
    /// The members.
    pub members: Vec<MemberRow>,
    /// Ids that were removed, at most [`LISTED_MAX`].
    pub removed: Vec<MemberId>,
    /// The current revision.
    pub revision: u64,
    /// How far old revisions are gone.
    pub compaction: Compaction,
    /// Keys and their revisions.
    pub keys: Keys,
    /// Leases, counted.
    pub leases_count: u64,
    /// The first [`LISTED_MAX`] of them.
    pub leases: Vec<Lease>,
    /// Users and roles; never a password's hash.
    pub auth: Auth,
    /// Alarms.
    pub alarms: Vec<Alarm>,
    /// The file itself.
    pub file: File,
}

/// How far old revisions are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Compaction {
    /// The revision a compaction was asked for last; 0 for none.
    pub scheduled: u64,
    /// The revision it was finished at last. A start finishes what is scheduled.
    pub finished: u64,
}

/// Keys and their revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Keys {
    /// Revisions of keys that the database holds, removals included.
    pub records: u64,
    /// Removals among them.
    pub tombstones: u64,
    /// Keys that exist at the current revision. Not known while a compaction is unfinished: it is counted
    /// from first and last revisions of keys, and some of them may be gone already.
    pub live: Option<u64>,
    /// Bytes of keys and values in the database, with all revisions.
    pub bytes: u64,
}

/// A lease. The time runs anew from each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// Its id, in hexadecimal as etcdctl has it.
    pub id: String,
    /// Seconds.
    pub ttl: i64,
    /// Seconds that were left when the leader wrote it down last; 0 if it never did.
    pub remaining: i64,
}

/// Users and roles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Auth {
    /// Whether users must authenticate.
    pub enabled: bool,
    /// Counts up with each change of users and roles.
    pub revision: u64,
    /// The first [`LISTED_MAX`] users.
    pub users: Vec<User>,
    /// The first [`LISTED_MAX`] roles.
    pub roles: Vec<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// Who raised it.
    pub member: MemberId,
    /// `NOSPACE`, `CORRUPT`, or a number that no etcd known here has.
    pub alarm: String,
}

/// The file of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct File {
    /// Its length.
    pub bytes: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// Pages in use.
    pub live_pages: u64,
    /// Pages that are free again.
    pub free_pages: u64,
    /// Pages at the end that were never used.
    pub tail_pages: u64,
    /// The last transaction.
    pub transaction: u64,
    /// The header that is not in force.
    pub other_header: Header,
    /// Faults of pages in use.
    pub faults: u64,
}

/// The header that is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Header {
    /// As it should be.
    #[default]
    Valid,
    /// What a crash within a transaction leaves; the next transaction writes it anew.
    Torn,
}

/// Reads the database. `None` if there is none, or none that can be read; that is noted.
pub(super) fn read(data_dir: &Path, unreadable: &mut Vec<Unreadable>) -> io::Result<Option<BackendFacts>> {
    let path = layout::db(data_dir);
    let file = match layout::open(&path) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let map = Map::of(&file).map_err(|error| layout::about(&path, &error))?;
    let mut note = |why: String| unreadable.push(Unreadable { file: "member/snap/db".to_owned(), why });
    let db = match Db::over(&map) {
        Ok(db) => db,
        Err(Error::Corrupt(corruption)) => {
            note(corruption.to_string());
            return Ok(None);
        }
        Err(Error::Io(error)) => return Err(layout::about(&path, &error)),
    };
    // Known beforehand, since the keys come before it.
    let compacted = match finished(&db) {
        Ok(compacted) => compacted,
        Err(Error::Corrupt(_)) => 0,
        Err(Error::Io(error)) => return Err(layout::about(&path, &error)),
    };
    let mut fold = Fold { live: LiveCount { compacted, count: 0 }, ..Fold::default() };
    let survey = pages::survey(&db, &mut fold).map_err(|error| layout::about(&path, &error))?;
    for fault in survey.faults.iter().take(3) {
        note(fault.what.to_string());
    }
    let mut facts = fold.facts();
    let meta = db.meta();
    facts.file = File {
        bytes: map.as_slice().len() as u64,
        page_size: u64::from(meta.page_size),
        live_pages: survey.live,
        free_pages: survey.free,
        tail_pages: survey.tail,
        transaction: meta.txid,
        other_header: other(db.headers()),
        faults: survey.faults.len() as u64 + survey.omitted,
    };
    Ok(Some(facts))
}

/// The revision a compaction was finished at last.
fn finished<S: Source>(db: &Db<S>) -> Result<u64, Error> {
    let Some(meta) = db.bucket(b"meta")? else { return Ok(0) };
    Ok(meta.get(b"finishedCompactRev")?.and_then(|revision| number(&revision).ok()).unwrap_or_default())
}

fn other(headers: Headers) -> Header {
    if headers.0.iter().all(Option::is_some) { Header::Valid } else { Header::Torn }
}

/// What comes by, bucket by bucket.
#[derive(Default)]
struct Fold {
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
            (true, true) => {}
            (false, true) => self.count -= 1,
            (false, false) if version == 1 => self.count += 1,
            (false, false) => {}
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
                let (mut version, mut bytes) = (0, 0);
                for field in Fields::of(value) {
                    match field? {
                        (1 | 5, value) => bytes += value.bytes()?.len() as u64,
                        (4, value) => version = value.number()?,
                        _ => {}
                    }
                }
                facts.keys.bytes += bytes;
                self.live.take(main, version, is_tombstone);
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

    fn facts(self) -> BackendFacts {
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
fn number(bytes: &[u8]) -> Result<u64, Malformed> {
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
