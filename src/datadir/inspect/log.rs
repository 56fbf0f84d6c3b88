//! The log in numbers, and the snapshot file a start begins with.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::super::layout;
use super::super::raft::EntryId;
use super::super::snap::{self, Choice, Snapshot};
use super::super::source::Map;
use super::super::v2store::V2Store;
use super::super::wal::{Fault, Log, Position, Summary, Tail, summarise};
use super::Unreadable;

/// What the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFacts {
    /// Its files.
    pub segments: Vec<String>,
    /// Their bytes, with what is only preallocated.
    pub bytes: u64,
    /// The first entry there is.
    pub first_index: Option<u64>,
    /// The last entry.
    pub last_index: Option<u64>,
    /// Its term.
    pub last_term: Option<u64>,
    /// Entries that count: those that a new leader overwrote do not.
    pub entries: u64,
    /// Raft's term.
    pub term: u64,
    /// Up to which index all is agreed on, as written last; more may have been.
    pub commit: u64,
    /// The index of the newest snapshot that counts: etcd from 3.7 on starts from it.
    pub snapshot_index: Option<u64>,
    /// Its term.
    pub snapshot_term: Option<u64>,
    /// The snapshot file that etcd up to 3.6 starts from.
    pub snapshot_file: Option<String>,
    /// The index of that snapshot.
    pub snapshot_file_index: Option<u64>,
    /// Snapshot files that cannot be read; etcd renames them and takes an older one.
    pub broken_snapshot_files: Vec<String>,
    /// The index of the snapshot that a start begins with; 0 if it begins with the first entry.
    pub start_index: u64,
    /// The last index before missing entries and the first one behind, if any are missing behind that.
    pub gap: Option<(u64, u64)>,
    /// How it ends.
    pub tail: TailFacts,
}

/// How the log ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum TailFacts {
    /// Behind the last record.
    Clean {
        /// In which file.
        file: String,
        /// Where.
        offset: u64,
        /// Where bytes follow that are no record: etcd overwrites them with zeros.
        remains: Option<u64>,
    },
    /// In a record that etcd cuts off.
    Torn {
        /// In which file.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong there.
        why: String,
        /// What is lost by cutting.
        repair: Repair,
    },
    /// In a record that ends etcd.
    Broken {
        /// In which file.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
}

/// What is lost when etcd cuts the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Repair {
    /// A record that was never written whole, and never acknowledged.
    Harmless,
    /// Whole records that follow.
    Loses {
        /// Where the first of them is.
        offset: u64,
    },
}

/// The log, and what only other parts of an inspection need.
pub(super) struct Read {
    pub(super) facts: Summary,
    pub(super) log: LogFacts,
    /// The old store of the snapshot file, and the index it is of; empty ones if the log begins with the
    /// first entry, `None` if neither is there.
    pub(super) store: Option<(u64, V2Store)>,
}

/// With which snapshot a start begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Up to 3.6: with a snapshot file's.
    File,
    /// From 3.7 on: with the newest one that the log speaks of.
    Mark,
}

/// Reads the log and the snapshot file. `None` if there is no log.
pub(super) fn read(
    data_dir: &Path,
    wal_dir: &Path,
    origin: Origin,
    unreadable: &mut Vec<Unreadable>,
) -> io::Result<Option<Read>> {
    let log = Log::open(wal_dir)?;
    if log.segments().is_empty() {
        return Ok(None);
    }
    let facts = summarise(&log)?;
    let mut bytes = 0;
    for segment in log.segments() {
        let path = log.path(*segment);
        bytes += fs::symlink_metadata(&path).map_err(|error| layout::about(&path, &error))?.len();
    }
    let directory = data_dir.join("member/snap");
    let choice = snap::choose(&directory, &facts.snapshots)?;
    let mut note = |file: &str, why: String| {
        unreadable.push(Unreadable { file: format!("member/snap/{file}"), why });
    };
    for (file, fault) in &choice.broken {
        note(file, fault.to_string());
    }
    let store = match &choice.chosen {
        Some((file, mark)) => match store(&directory.join(file))? {
            Ok(store) => Some((mark.id.index, store)),
            Err(why) => {
                note(file, why);
                None
            }
        },
        None if facts.first.is_some_and(|first| first.index == 1) => Some((0, V2Store::default())),
        None => None,
    };
    let log = log_facts(&log, bytes, &facts, choice, origin);
    Ok(Some(Read { facts, log, store }))
}

fn store(path: &Path) -> io::Result<Result<V2Store, String>> {
    let tell = |error| layout::about(path, &error);
    let Some(file) = layout::open(path)? else { return Ok(Err("is no plain file".to_owned())) };
    let map = Map::of(&file).map_err(tell)?;
    Ok(match Snapshot::decode(map.as_slice()) {
        Ok(snapshot) => V2Store::from_json(snapshot.store).map_err(|fault| fault.to_string()),
        Err(fault) => Err(fault.to_string()),
    })
}

fn log_facts(log: &Log, bytes: u64, facts: &Summary, choice: Choice, origin: Origin) -> LogFacts {
    let (snapshot_file, snapshot_file_index) =
        choice.chosen.map(|(file, mark)| (file, mark.id.index)).unzip();
    let newest = facts.newest_snapshot().map(|mark| mark.id);
    let index = |id: EntryId| id.index;
    let start = match origin {
        Origin::File => snapshot_file_index,
        Origin::Mark => newest.map(index),
    };
    let start_index = start.unwrap_or_default();
    LogFacts {
        segments: log.segments().iter().map(ToString::to_string).collect(),
        bytes,
        first_index: facts.first.map(index),
        last_index: facts.last.map(index),
        last_term: facts.last.map(|id| id.term),
        entries: facts.entries,
        term: facts.state.term,
        commit: facts.state.commit,
        snapshot_index: newest.map(index),
        snapshot_term: newest.map(|id| id.term),
        snapshot_file,
        snapshot_file_index,
        broken_snapshot_files: choice.broken.into_iter().map(|(file, _)| file).collect(),
        start_index,
        gap: facts.gap_after(start_index).map(|gap| (gap.last, gap.found)),
        tail: tail(&facts.tail, origin),
    }
}

fn tail(tail: &Tail, origin: Origin) -> TailFacts {
    let place = |at: &Position| (at.segment.to_string(), at.offset);
    match tail {
        // From 3.7 on this is no interrupted write (docs/contract.md#log).
        Tail::Torn { at, why: why @ Fault::Truncated { .. }, .. } if origin == Origin::Mark => {
            let (file, offset) = place(at);
            TailFacts::Broken { file, offset, why: why.to_string() }
        }
        Tail::Clean { at, remains } => {
            let (file, offset) = place(at);
            TailFacts::Clean { file, offset, remains: *remains }
        }
        Tail::Torn { at, why, followed_by } => {
            let (file, offset) = place(at);
            let repair = followed_by.map_or(Repair::Harmless, |offset| Repair::Loses { offset });
            TailFacts::Torn { file, offset, why: why.to_string(), repair }
        }
        Tail::Broken { at, why } => {
            let (file, offset) = place(at);
            TailFacts::Broken { file, offset, why: why.to_string() }
        }
        // A log without files was not read, and nobody stopped the reading.
        Tail::Empty => TailFacts::Clean { file: String::new(), offset: 0, remains: None },
        Tail::Stopped { at } => {
            let (file, offset) = place(at);
            TailFacts::Clean { file, offset, remains: None }
        }
    }
}
