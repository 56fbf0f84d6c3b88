//! The database in numbers: one walk through every page.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::super::bolt::{Db, Error, Headers, pages};
use super::super::layout;
use super::super::source::{Map, Source};
use super::log::Origin;
use super::{MemberRow, Unreadable};
use crate::etcd::id::MemberId;
use fold::number;

pub(super) use fold::Fold;

mod fold;

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

impl BackendFacts {
    /// The minor release that its layout, or else its cluster, is of. None before 3.5.
    pub(super) fn minor(&self) -> Option<u32> {
        let version = self.storage_version.as_ref().or(self.cluster_version.as_ref())?;
        version.split('.').nth(1)?.parse().ok()
    }

    /// With which snapshot an etcd of that release begins.
    pub(super) fn origin(&self) -> Origin {
        if self.minor().is_some_and(|minor| minor >= 7) { Origin::Mark } else { Origin::File }
    }
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
    let db = match Db::over_cut(&map) {
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
    let mut fold = Fold::after(compacted);
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
