//! What a start of etcd would make of a data directory.
//!
//! [`foresee`] decides from a few facts; where they come from is [`Facts::of`]'s business. What etcd does
//! was seen with real ones on such directories (docs/contract.md#starting).

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::super::layout;
use super::log::{Repair, TailFacts};
use super::{Class, Inspection};
use crate::etcd::id::{ClusterId, MemberId};

/// What a start would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Start {
    /// Begin as a new member: there is nothing. Its flags decide whether it founds a cluster or joins one.
    Empty,
    /// The same, on top of what an earlier start has left.
    OnRemains,
    /// Nobody can say: the directory is not etcd's.
    Foreign,
    /// Go on as this member.
    Member {
        /// Which member.
        member: MemberId,
        /// Of which cluster.
        cluster: ClusterId,
        /// How many vote.
        voters: usize,
        /// How many of them must run.
        quorum: usize,
        /// Whether this one votes.
        learner: bool,
        /// Entries of the log that the database has not seen yet.
        replayed: u64,
        /// Whether etcd cuts the log first.
        repair: Option<Repair>,
    },
    /// End, since the cluster has removed this member.
    Removed {
        /// Which member.
        member: MemberId,
    },
    /// Found a new cluster on top of old data, if it is told to found one: the old keys can be read, and
    /// every write times out.
    NewClusterOnOldData {
        /// The last index of the old data.
        consistent_index: u64,
    },
    /// Start, and let every write time out: the log ends before what the database holds, and entries that
    /// the database has by their index are passed over.
    PassesOverWrites {
        /// Where the log ends, after a repair.
        last_index: u64,
        /// What the database holds.
        consistent_index: u64,
    },
    /// End, at every start.
    Ends {
        /// Why.
        because: String,
    },
}

/// What a start depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) class: Class,
    /// Member and cluster.
    pub(super) owner: Option<(MemberId, ClusterId)>,
    pub(super) db: DbFacts,
    pub(super) log: Option<LogState>,
    /// Voters and learners.
    pub(super) voters: Vec<MemberId>,
    pub(super) learners: Vec<MemberId>,
    pub(super) removed: Vec<MemberId>,
}

/// The database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DbFacts {
    Missing,
    Unreadable,
    Readable { consistent_index: u64, records: u64 },
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogState {
    pub(super) first_index: Option<u64>,
    pub(super) last_index: Option<u64>,
    /// Of the snapshot that a start begins with; 0 for none.
    pub(super) snapshot_index: u64,
    /// Whether the database that the leader sent with this snapshot lies beside.
    pub(super) received: bool,
    pub(super) gap: Option<(u64, u64)>,
    pub(super) tail: TailFacts,
}

impl Facts {
    /// The facts of an inspection. An error is the operating system's.
    pub(super) fn of(inspection: &Inspection, data_dir: &Path) -> io::Result<Self> {
        let db = match (&inspection.backend, layout::db(data_dir).symlink_metadata()) {
            (Some(backend), _) => DbFacts::Readable {
                consistent_index: backend.consistent_index,
                records: backend.keys.records,
            },
            (None, Ok(_)) => DbFacts::Unreadable,
            (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => DbFacts::Missing,
            (None, Err(error)) => return Err(layout::about(&layout::db(data_dir), &error)),
        };
        let members = inspection.backend.as_ref().map(|backend| &backend.members);
        let old = inspection.v2_store.as_ref().map(|store| &store.members);
        let members = members.filter(|members| !members.is_empty()).or(old).cloned().unwrap_or_default();
        let (learners, voters): (Vec<_>, Vec<_>) = members.iter().partition(|row| row.learner);
        let ids = |rows: Vec<&super::MemberRow>| rows.into_iter().map(|row| row.id).collect();
        let removed = inspection.backend.iter().flat_map(|backend| &backend.removed);
        let removed_before = inspection.v2_store.iter().flat_map(|store| &store.removed);
        let log = inspection.log.as_ref().map(|log| {
            let snapshot_index = log.start_index;
            let received = data_dir.join(format!("member/snap/{snapshot_index:016x}.snap.db"));
            LogState {
                first_index: log.first_index,
                last_index: log.last_index,
                snapshot_index,
                received: fs::symlink_metadata(received).is_ok(),
                gap: log.gap,
                tail: log.tail.clone(),
            }
        });
        Ok(Self {
            class: inspection.class.clone(),
            owner: inspection.member_id.zip(inspection.cluster_id),
            db,
            log,
            voters: ids(voters),
            learners: ids(learners),
            removed: removed.chain(removed_before).copied().collect(),
        })
    }
}

/// What a start would do. The first fault that a start meets decides.
pub(super) fn foresee(facts: &Facts) -> Start {
    match &facts.class {
        Class::Empty => return Start::Empty,
        Class::Partial { .. } => return Start::OnRemains,
        Class::Foreign { .. } => return Start::Foreign,
        Class::Damaged { .. } | Class::Data => {}
    }
    let Some(log) = &facts.log else {
        return match facts.db {
            DbFacts::Readable { consistent_index, records } if consistent_index > 0 || records > 0 => {
                Start::NewClusterOnOldData { consistent_index }
            }
            DbFacts::Unreadable => ends("the database cannot be read"),
            DbFacts::Readable { .. } | DbFacts::Missing => Start::OnRemains,
        };
    };
    let consistent_index = match facts.db {
        DbFacts::Unreadable => return ends("the database cannot be read"),
        DbFacts::Missing if log.snapshot_index > 0 && !log.received => {
            return ends("the database is missing, and the snapshot file asks for it: etcd panics");
        }
        DbFacts::Missing => return ends("the log is there, and the database is missing"),
        DbFacts::Readable { consistent_index, .. } => consistent_index,
    };
    let repair = match &log.tail {
        TailFacts::Broken { file, offset, why } => {
            return ends(&format!("{file}, byte {offset}: {why}"));
        }
        TailFacts::Torn { repair, .. } => Some(*repair),
        TailFacts::Clean { .. } => None,
    };
    let snapshot = log.snapshot_index;
    if snapshot > consistent_index && !log.received {
        return ends(&format!(
            "the database ends at index {consistent_index}, before the snapshot of index {snapshot}: etcd panics"
        ));
    }
    if let Some((last, found)) = log.gap {
        return ends(&format!("the log lacks the entries between {last} and {found}"));
    }
    if let Some(first) = log.first_index.filter(|first| *first > snapshot + 1) {
        return ends(&format!("the log begins with entry {first}, and no snapshot reaches up to it"));
    }
    let reached = log.last_index.unwrap_or(snapshot).max(snapshot);
    if reached < consistent_index {
        return Start::PassesOverWrites { last_index: reached, consistent_index };
    }
    let Some((member, cluster)) = facts.owner else {
        return ends("the log does not say whose it is");
    };
    if facts.removed.contains(&member) {
        return Start::Removed { member };
    }
    if let Class::Damaged { why } = &facts.class {
        return ends(why);
    }
    let voters = facts.voters.len();
    Start::Member {
        member,
        cluster,
        voters,
        quorum: voters / 2 + 1,
        learner: facts.learners.contains(&member),
        replayed: reached - consistent_index,
        repair,
    }
}

fn ends(because: &str) -> Start {
    Start::Ends { because: because.to_owned() }
}
