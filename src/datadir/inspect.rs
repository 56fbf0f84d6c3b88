//! Everything an operator asks about a data directory, read from its files.
//!
//! [`inspect`] reads the log and the database once each; what it holds does not grow with either, but for
//! lists that are cut at a length named here. Directories that are damaged are told of as far as they can
//! be read: a part that cannot is left out, and [`Inspection::unreadable`] says why.
//!
//! [`page`] is the same for people, [`Start`] what a start of etcd would make of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::stored_member::StoredMember;
use super::{Found, classify, in_use};
use crate::etcd::id::{ClusterId, MemberId};

mod backend;
mod changes;
mod log;
mod page;
mod start;

pub use backend::{Alarm, Auth, BackendFacts, Compaction, File, Header, Keys, Lease, User};
pub use changes::{ChangeRow, Difference, Membership};
pub use log::{LogFacts, Repair, TailFacts};
pub use page::page;
pub use start::Start;

/// No more leases, users, roles, alarms, removed members are listed; they are counted all the same.
pub const LISTED_MAX: usize = 1000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether every change of the membership in the log is listed.
    pub conf_changes: ConfChanges,
    /// What happens when an etcd has the data open.
    pub running: Running,
}

/// Whether the changes of the membership are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfChanges {
    /// All that the log has.
    Listed,
    /// None.
    Omitted,
}

/// What happens when an etcd has the data open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// Nothing is read: [`Error::Locked`].
    Refuse,
    /// It is read, though it changes meanwhile: parts may not fit each other.
    Read,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An etcd has the data open.
    #[error("an etcd has {} open", data_dir.display())]
    Locked {
        /// Which data.
        data_dir: PathBuf,
    },
    /// The operating system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a data directory holds. Ids are in hexadecimal, as etcdctl prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The layout of this document: 1. Fields are added, never changed.
    pub version: u32,
    /// The directory.
    pub data_dir: PathBuf,
    /// Where its log is.
    pub wal_dir: PathBuf,
    /// What kind of directory it is.
    pub class: Class,
    /// The cluster, as the log has it.
    pub cluster_id: Option<ClusterId>,
    /// The member, as the log has it.
    pub member_id: Option<MemberId>,
    /// The log.
    pub log: Option<LogFacts>,
    /// The database.
    pub backend: Option<BackendFacts>,
    /// The membership in the store of the old API: what etcd up to 3.5 goes by.
    pub v2_store: Option<Membership>,
    /// Where the two memberships differ, and what follows.
    pub differences: Vec<Difference>,
    /// Every change of the membership in the log, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conf_changes: Option<Vec<ChangeRow>>,
    /// How many more there were before those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conf_changes_omitted: Option<u64>,
    /// The names of what the launcher keeps beside the data.
    pub records: Vec<String>,
    /// What could not be read, and why.
    pub unreadable: Vec<Unreadable>,
    /// What a start of etcd would make of it.
    pub start: Start,
}

/// The kinds of a directory (docs/contract.md#files).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Class {
    /// Nothing in it.
    Empty,
    /// What a start that did not get far leaves.
    Partial {
        /// What is there.
        what: String,
    },
    /// Not etcd's, or not etcd's alone.
    Foreign {
        /// What does not belong there.
        names: Vec<String>,
    },
    /// Data that etcd cannot run on.
    Damaged {
        /// Why.
        why: String,
    },
    /// Data of a member.
    Data,
}

/// A part that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The file, relative to the data directory.
    pub file: String,
    /// Why.
    pub why: String,
}

/// A member, as one of the stores has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MemberRow {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty if it has none yet.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it is a learner.
    pub learner: bool,
}

impl From<&StoredMember> for MemberRow {
    fn from(member: &StoredMember) -> Self {
        Self {
            id: member.member_id(),
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            learner: member.is_learner,
        }
    }
}

/// Reads what lies in `data_dir`, whose log is in `wal_dir` if that is another place. Reads only.
pub fn inspect(data_dir: &Path, wal_dir: Option<&Path>, options: Options) -> Result<Inspection, Error> {
    if options.running == Running::Refuse && in_use(data_dir)? {
        return Err(Error::Locked { data_dir: data_dir.to_path_buf() });
    }
    let class = match classify(data_dir, wal_dir)? {
        Found::Empty => Class::Empty,
        Found::Partial { what } => Class::Partial { what },
        Found::Foreign { names } => Class::Foreign { names },
        Found::Damaged { why, .. } => Class::Damaged { why: why.to_string() },
        Found::Data(_) => Class::Data,
    };
    let mut inspection = Inspection {
        version: 1,
        data_dir: data_dir.to_path_buf(),
        wal_dir: super::layout::wal(data_dir, wal_dir),
        class,
        cluster_id: None,
        member_id: None,
        log: None,
        backend: None,
        v2_store: None,
        differences: Vec::new(),
        conf_changes: None,
        conf_changes_omitted: None,
        records: records(data_dir)?,
        unreadable: Vec::new(),
        start: Start::Empty,
    };
    // Nothing is opened in a directory that is not etcd's.
    if !matches!(inspection.class, Class::Empty | Class::Foreign { .. }) {
        let backend = backend::read(data_dir, &mut inspection.unreadable)?;
        let origin = backend.as_ref().map_or(log::Origin::File, BackendFacts::origin);
        let summary = log::read(data_dir, &inspection.wal_dir, origin, &mut inspection.unreadable)?;
        if let Some(summary) = &summary {
            inspection.cluster_id = summary.facts.owner.map(|owner| owner.cluster_id);
            inspection.member_id = summary.facts.owner.map(|owner| owner.member_id);
            inspection.log = Some(summary.log.clone());
            let applied = backend.as_ref().map_or(0, |backend| backend.consistent_index);
            let (membership, differences) = changes::compare(summary, backend.as_ref(), applied);
            inspection.v2_store = membership;
            inspection.differences = differences;
            if options.conf_changes == ConfChanges::Listed {
                inspection.conf_changes = Some(changes::listed(&summary.facts, applied));
                inspection.conf_changes_omitted = Some(summary.facts.omitted);
            }
        }
        inspection.backend = backend;
    }
    inspection.start = start::foresee(&start::Facts::of(&inspection, data_dir)?);
    Ok(inspection)
}

/// The names in the launcher's own directory.
fn records(data_dir: &Path) -> io::Result<Vec<String>> {
    let directory = data_dir.join(".launcher");
    let mut names = Vec::new();
    match fs::read_dir(&directory) {
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(|error| super::layout::about(&directory, &error))?.file_name();
                names.push(name.to_string_lossy().into_owned());
            }
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => return Err(super::layout::about(&directory, &error)),
    }
    names.sort_unstable();
    names.truncate(LISTED_MAX);
    Ok(names)
}

#[cfg(test)]
mod tests;
