//! From the files to the class of the disk: [`look`] reads, [`judge`] decides.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::backend::{Backend, Index};
use super::bolt::{self, Corruption, Db};
use super::damage::Damage;
use super::layout::{self, Layout};
use super::wal::{self, Owner, Segment};
use super::{Found, Identity, Remains};
use crate::etcd::id::MemberId;
use crate::etcd::member::Member;

/// Says what lies in `data_dir`, whose log is in `wal_dir` if that is configured.
///
/// Reads only. On data that an etcd has open the answer may be wrong: ask [`super::in_use`] first.
/// An error means that the operating system refused to tell (permissions, a failing disk), and says
/// nothing about the data.
pub fn classify(data_dir: &Path, wal_dir: Option<&Path>) -> io::Result<Found> {
    // A trailing slash would make the system follow a link that stands in the directory's place.
    let bare = |path: &Path| path.components().collect::<PathBuf>();
    look(&bare(data_dir), wal_dir.map(bare).as_deref()).map(judge)
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    layout: Layout,
    log: Log,
    db: Content,
}

/// The write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Log {
    #[default]
    Absent,
    Broken {
        why: Damage,
        /// Whose it is, if another file of it tells.
        owner: Option<Owner>,
    },
    /// The files that follow each other without a gap up to the newest.
    Usable {
        owner: Owner,
        run_from: Segment,
        /// The file before, if there is one: between the two is a gap.
        before_gap: Option<Segment>,
        /// Whether there is nothing in it but whose it is.
        blank: bool,
    },
}

/// The backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Content {
    #[default]
    Absent,
    /// A file of no bytes.
    Blank,
    Broken(Corruption),
    Readable(Backend),
}

fn look(data_dir: &Path, wal_dir: Option<&Path>) -> io::Result<Seen> {
    let layout = Layout::survey(data_dir, wal_dir)?;
    if !layout.foreign.is_empty() {
        // Nothing is opened in a directory that is not ours.
        return Ok(Seen { layout, ..Seen::default() });
    }
    let log = read_log(&layout, &layout::wal(data_dir, wal_dir))?;
    let db = if layout.has_db { read_db(&layout::db(data_dir), &log)? } else { Content::Absent };
    Ok(Seen { layout, log, db })
}

fn read_log(layout: &Layout, directory: &Path) -> io::Result<Log> {
    let Some(newest) = layout.segments.last().copied() else {
        let names = layout.misnamed.to_vec();
        let broken = || Log::Broken { why: Damage::WalNames { names: names.clone() }, owner: None };
        return Ok(if names.is_empty() { Log::Absent } else { broken() });
    };
    let mut run_from = newest;
    let mut before_gap = None;
    for segment in layout.segments.iter().rev().skip(1) {
        if segment.sequence.checked_add(1) != Some(run_from.sequence) {
            before_gap = Some(*segment);
            break;
        }
        run_from = *segment;
    }
    let file = |segment: Segment| format!("{}/{segment}", layout.wal_name);
    let owner = |segment: Segment| -> io::Result<Result<Owner, Damage>> {
        let path = directory.join(segment.to_string());
        match wal::owner(&plain(&path)?) {
            Ok(owner) => Ok(Ok(owner)),
            Err(wal::Error::Fault(fault)) => Ok(Err(Damage::Wal { file: file(segment), fault })),
            Err(wal::Error::Io(error)) => Err(layout::about(&path, &error)),
        }
    };
    Ok(match (owner(run_from)?, owner(newest)?) {
        (Err(why), other) | (other, Err(why)) => Log::Broken { why, owner: other.ok() },
        (Ok(first), Ok(last)) if first != last => Log::Broken {
            why: Damage::WalOfTwo {
                first: file(run_from),
                first_ids: (first.member_id, first.cluster_id),
                newest: file(newest),
                newest_ids: (last.member_id, last.cluster_id),
            },
            owner: None,
        },
        (Ok(owner), Ok(_)) => {
            let only_file = layout.segments.len() == 1 && newest.sequence == 0;
            let blank = only_file && is_blank(&directory.join(newest.to_string()))?;
            Log::Usable { owner, run_from, before_gap, blank }
        }
    })
}

fn is_blank(path: &Path) -> io::Result<bool> {
    match wal::is_blank(&plain(path)?) {
        Ok(blank) => Ok(blank),
        Err(wal::Error::Fault(_)) => Ok(false),
        Err(wal::Error::Io(error)) => Err(layout::about(path, &error)),
    }
}

fn read_db(path: &Path, log: &Log) -> io::Result<Content> {
    let file = plain(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Content::Blank);
    }
    let own = match log {
        Log::Usable { owner, .. } => Some(owner.member_id),
        Log::Absent | Log::Broken { .. } => None,
    };
    match Db::open_cut(file).and_then(|db| Backend::read(&db, own)) {
        Ok(backend) => Ok(Content::Readable(backend)),
        Err(bolt::Error::Corrupt(corruption)) => Ok(Content::Broken(corruption)),
        Err(bolt::Error::Io(error)) => Err(layout::about(path, &error)),
    }
}

fn plain(path: &Path) -> io::Result<std::fs::File> {
    layout::open(path)?
        .ok_or_else(|| io::Error::other(format!("{}: changed while it was looked at", path.display())))
}

fn judge(seen: Seen) -> Found {
    let Seen { layout, log, db } = seen;
    if !layout.foreign.is_empty() {
        return Found::Foreign { names: layout.foreign.to_vec() };
    }
    // A log that the configuration does not point to: etcd would not look there, and a person has to
    // say which of the two is meant.
    if log == Log::Absent && !layout.elsewhere.is_empty() {
        return Found::Foreign { names: layout.elsewhere.to_vec() };
    }
    let remains = remains(&log, &db);
    let damaged = |why| Found::Damaged { why, remains };
    match (log, db) {
        (Log::Broken { why, .. }, _) => damaged(why),
        (_, Content::Broken(corruption)) => damaged(Damage::Db(corruption)),
        (Log::Absent, Content::Readable(backend)) if is_used(&backend) => {
            damaged(Damage::WalMissing { consistent_index: last_index(&backend), directory: layout.wal_name })
        }
        (Log::Absent, _) if !layout.remains.is_empty() => {
            damaged(Damage::RemainsOnly { names: layout.remains.to_vec() })
        }
        (Log::Absent, Content::Blank | Content::Readable(_)) => Found::Partial {
            what: "member/snap/db has nothing in it, and there is no write-ahead log".to_owned(),
        },
        (Log::Absent, Content::Absent) => without_data(&layout),
        (Log::Usable { blank: true, .. }, Content::Readable(backend))
            if !is_used(&backend) && layout.newest_snapshot.is_none() =>
        {
            Found::Partial {
                what: "the write-ahead log has no entry, and member/snap/db has nothing in it".to_owned(),
            }
        }
        (Log::Usable { .. }, Content::Absent) => damaged(Damage::DbMissing),
        (Log::Usable { .. }, Content::Blank) => damaged(Damage::DbBlank),
        (Log::Usable { owner, run_from, before_gap, .. }, Content::Readable(backend)) => {
            match mismatch(&layout, run_from, before_gap, &backend) {
                Some(why) => damaged(why),
                None => Found::Data(identity(owner, backend)),
            }
        }
    }
}

fn remains(log: &Log, db: &Content) -> Remains {
    let owner = match log {
        Log::Absent => None,
        Log::Broken { owner, .. } => *owner,
        Log::Usable { owner, .. } => Some(*owner),
    };
    Remains {
        cluster_id: owner.map(|owner| owner.cluster_id),
        member_id: owner.map(|owner| owner.member_id),
        voters: match db {
            Content::Readable(backend) => voters(backend),
            Content::Absent | Content::Blank | Content::Broken(_) => None,
        },
    }
}

/// Neither log nor backend: what else is there?
fn without_data(layout: &Layout) -> Found {
    if !layout.strangers.is_empty() {
        Found::Foreign { names: layout.strangers.to_vec() }
    } else if !layout.unfinished.is_empty() {
        Found::Partial { what: format!("only unfinished files: {}", layout.unfinished.to_vec().join(", ")) }
    } else {
        Found::Empty
    }
}

fn is_used(backend: &Backend) -> bool {
    backend.has_keys || backend.consistent_index != Index::At(0)
}

fn last_index(backend: &Backend) -> u64 {
    match backend.consistent_index {
        Index::At(index) => index,
        Index::Malformed => 0,
    }
}

/// Whether log, snapshot file and backend do not belong together.
fn mismatch(
    layout: &Layout,
    run_from: Segment,
    before_gap: Option<Segment>,
    backend: &Backend,
) -> Option<Damage> {
    let Index::At(consistent_index) = backend.consistent_index else {
        return Some(Damage::Bucket {
            bucket: "meta",
            fault: "has a consistent_index that is not eight bytes long",
        });
    };
    let snapshot = layout.newest_snapshot.unwrap_or(0);
    // etcd writes the backend before the snapshot file of the same index, or receives it beforehand.
    // docs/contract.md#files
    if snapshot > consistent_index && !layout.received.contains(&snapshot) {
        return Some(Damage::DbBehindSnapshot { consistent_index, snapshot_index: snapshot });
    }
    // Old files are purged from the front. A hole breaks the chain of checksums, and etcd reads all files
    // there are, whatever the snapshot (docs/contract.md#log).
    if let Some(before) = before_gap {
        return Some(Damage::WalGap { before: before.to_string(), after: run_from.to_string() });
    }
    let reached = snapshot.max(consistent_index);
    (run_from.first_index > reached.saturating_add(1))
        .then(|| Damage::WalTooShort { first: run_from.to_string(), reached })
}

/// No cluster has no voters: the backend is too young to tell, or unreadable.
fn voters(backend: &Backend) -> Option<BTreeSet<MemberId>> {
    let members = backend.members.as_ref()?;
    let voters: BTreeSet<_> =
        members.iter().filter(|member: &&Member| !member.is_learner).map(|member| member.id).collect();
    (!voters.is_empty()).then_some(voters)
}

fn identity(owner: Owner, backend: Backend) -> Identity {
    Identity {
        cluster_id: owner.cluster_id,
        member_id: owner.member_id,
        voters: voters(&backend),
        members: backend.members.unwrap_or_default(),
        removed: backend.removed == Some(true),
        cluster_version: backend.cluster_version,
        storage_version: backend.storage_version,
        consistent_index: match backend.consistent_index {
            Index::At(index) => index,
            Index::Malformed => 0,
        },
    }
}

#[cfg(test)]
mod tests;
