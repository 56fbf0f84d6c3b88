//! A whole log in a few lines: what a start needs to know of it, and every change of the membership.

use std::io;
use std::ops::ControlFlow;

use super::super::raft::request::Request;
use super::super::raft::{ConfChange, EntryId, EntryKind, HardState, Owner, SnapshotMark};
use super::super::wire::Malformed;
use super::{Content, Fault, Located, Log, Position, Start, Tail};

/// No more changes, and no more snapshots, are kept: the newest ones.
pub const KEPT_MAX: usize = 10_000;

/// What a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whose log it is; `None` if not even that could be read.
    pub owner: Option<Owner>,
    /// The first entry there is.
    pub first: Option<EntryId>,
    /// The last entry that counts: entries that a later leader overwrote do not.
    pub last: Option<EntryId>,
    /// How many entries count.
    pub entries: u64,
    /// Raft's state as written last.
    pub state: HardState,
    /// The snapshots that count: up to the commit index. The first of a log is of index 0.
    pub snapshots: Vec<SnapshotMark>,
    /// What the entries changed in the cluster, in order, also behind the commit index.
    pub changes: Vec<Change>,
    /// How many changes before those are not kept.
    pub omitted: u64,
    /// The last place where an entry is missing between two.
    pub gap: Option<Gap>,
    /// Where reading ended.
    pub tail: Tail,
}

/// An entry that changes the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which entry.
    pub id: EntryId,
    /// Where it stands.
    pub at: Position,
    /// What it does.
    pub what: What,
}

/// What an entry does to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Changes the membership.
    Membership(ConfChange),
    /// Says something else about the cluster: never [`Request::Empty`] or [`Request::Other`].
    Request(Request),
}

/// Missing entries. They matter if the snapshot that etcd starts from lies before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where the entry behind the gap stands.
    pub at: Position,
    /// The last index before it.
    pub last: u64,
    /// The first index behind it.
    pub found: u64,
}

impl Summary {
    /// The newest snapshot that counts.
    pub fn newest_snapshot(&self) -> Option<&SnapshotMark> {
        self.snapshots.last()
    }

    /// The gap, if it lies behind this index, a snapshot's: then entries are missing that a start needs.
    pub fn gap_after(&self, index: u64) -> Option<Gap> {
        self.gap.filter(|gap| gap.found > index.saturating_add(1))
    }

    /// The changes up to the commit index.
    pub fn committed(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.id.index <= self.state.commit)
    }
}

/// Reads a whole log once. An error is the operating system's; what is wrong with the log is in
/// [`Summary::tail`].
pub fn summarise(log: &Log) -> io::Result<Summary> {
    let mut fold = Fold::default();
    let mut fault = None;
    let tail = log.read(Start::First, &mut |located| match fold.take(located) {
        Ok(()) => ControlFlow::Continue(()),
        Err(why) => {
            fault = Some(Tail::Broken { at: located.at, why });
            ControlFlow::Break(())
        }
    })?;
    Ok(fold.finish(fault.unwrap_or(tail)))
}

/// Takes in record after record, for who reads the log anyway.
#[derive(Debug, Default)]
pub struct Fold {
    owner: Option<Owner>,
    first: Option<EntryId>,
    last: Option<EntryId>,
    entries: u64,
    state: HardState,
    snapshots: Vec<SnapshotMark>,
    changes: Vec<Change>,
    omitted: u64,
    gap: Option<Gap>,
}

impl Fold {
    /// Takes in one record. Fails if an entry's data cannot be decoded, on which etcd ends with a panic.
    pub fn take(&mut self, located: &Located<'_>) -> Result<(), Fault> {
        match &located.content {
            Content::Owner(owner) => self.owner = Some(*owner),
            Content::State(state) => self.state = *state,
            Content::Crc => {}
            Content::Snapshot(mark) => {
                self.snapshots.push(mark.clone());
                halve(&mut self.snapshots);
            }
            Content::Entry(entry) => {
                self.follow(entry.id, located.at);
                let malformed = |_: Malformed| Fault::Malformed { offset: located.at.offset };
                let what = match entry.kind {
                    EntryKind::ConfChange => {
                        Some(What::Membership(ConfChange::decode(entry.data).map_err(malformed)?))
                    }
                    EntryKind::Normal => match Request::decode(entry.data).map_err(malformed)? {
                        Request::Empty | Request::Other(_) => None,
                        request => Some(What::Request(request)),
                    },
                    EntryKind::ConfChangeV2 | EntryKind::Unknown(_) => {
                        return Err(malformed(Malformed::Invalid));
                    }
                };
                if let Some(what) = what {
                    self.changes.push(Change { id: entry.id, at: located.at, what });
                    self.omitted += halve(&mut self.changes);
                }
            }
        }
        Ok(())
    }

    /// The whole, after the last record.
    pub fn finish(self, tail: Tail) -> Summary {
        let commit = self.state.commit;
        let newest = |kept: usize| kept.saturating_sub(KEPT_MAX);
        let mut snapshots: Vec<_> =
            self.snapshots.into_iter().filter(|mark| mark.id.index <= commit).collect();
        snapshots.drain(..newest(snapshots.len()));
        let mut changes = self.changes;
        let beyond = newest(changes.len());
        changes.drain(..beyond);
        Summary {
            owner: self.owner,
            first: self.first,
            last: self.last,
            entries: self.entries,
            state: self.state,
            snapshots,
            changes,
            omitted: self.omitted + beyond as u64,
            gap: self.gap,
            tail,
        }
    }

    fn follow(&mut self, id: EntryId, at: Position) {
        if let Some(last) = self.last {
            if id.index > last.index.saturating_add(1) {
                self.gap = Some(Gap { at, last: last.index, found: id.index });
            } else if id.index <= last.index {
                // A new leader overwrites what was never agreed on.
                self.entries = self.entries.saturating_sub(last.index - id.index + 1);
                while self.changes.last().is_some_and(|change| change.id.index >= id.index) {
                    self.changes.pop();
                }
            }
        }
        self.first = Some(self.first.map_or(id, |first| if id.index < first.index { id } else { first }));
        self.last = Some(id);
        self.entries += 1;
    }
}

/// Drops the older half of a list that has become twice as long as it may be; says how many.
fn halve<T>(list: &mut Vec<T>) -> u64 {
    if list.len() < 2 * KEPT_MAX {
        return 0;
    }
    list.drain(..KEPT_MAX);
    KEPT_MAX as u64
}
