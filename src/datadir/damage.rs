//! What is wrong with a data directory, in words for the person who has to decide.

use crate::etcd::id::{ClusterId, MemberId};

use super::bolt::Corruption;
use super::wal::Fault;

/// Why etcd cannot run on the data. Files are named relative to the data directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The backend is gone; etcd ends, or panics if it also finds a snapshot file.
    #[error("the write-ahead log is there, but the database member/snap/db is missing")]
    DbMissing,
    /// The backend has no content at all.
    #[error("the write-ahead log is there, but the database member/snap/db is an empty file")]
    DbBlank,
    /// The log is gone: etcd would take the disk for a new one, and bootstrap on top of the data.
    #[error(
        "member/snap/db holds data (up to raft index {consistent_index}), but {directory} has no \
         write-ahead log (*.wal): etcd would start a new cluster on top of the old data"
    )]
    WalMissing {
        /// The last entry the backend holds.
        consistent_index: u64,
        /// Where the log should be.
        directory: String,
    },
    /// Neither log nor usable backend, but files that only used data has.
    #[error("neither a database with data nor a write-ahead log is there, only remains of them: {}", names.join(", "))]
    RemainsOnly {
        /// Some of the files.
        names: Vec<String>,
    },
    /// The backend cannot be read.
    #[error("member/snap/db: {0}")]
    Db(Corruption),
    /// The backend lacks what etcd writes before anything else.
    #[error("member/snap/db: its bucket '{bucket}' {fault}")]
    Bucket {
        /// Which one.
        bucket: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A file of the log cannot be read.
    #[error("{file}: {fault}")]
    Wal {
        /// Which one.
        file: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The files of the log have names that etcd does not read.
    #[error("no file of the write-ahead log has a usable name: {}", names.join(", "))]
    WalNames {
        /// Some of the files.
        names: Vec<String>,
    },
    /// A file of the log that is still needed is gone.
    #[error("the write-ahead log has a gap between {before} and {after}")]
    WalGap {
        /// The last file before the gap.
        before: String,
        /// The first file after it.
        after: String,
    },
    /// The log begins too late: entries that the backend has not seen are gone.
    #[error(
        "the write-ahead log begins with {first}, but the data ends at raft index {reached}: the entries \
         in between are gone"
    )]
    WalTooShort {
        /// The first file there is.
        first: String,
        /// The last entry that the backend or a snapshot file holds.
        reached: u64,
    },
    /// Files of two members.
    #[error(
        "the write-ahead log is of two members: {first} is of member {} in cluster {}, {newest} of member {} in cluster {}",
        first_ids.0, first_ids.1, newest_ids.0, newest_ids.1
    )]
    WalOfTwo {
        /// The first file needed.
        first: String,
        /// Whose it is.
        first_ids: (MemberId, ClusterId),
        /// The newest file.
        newest: String,
        /// Whose it is.
        newest_ids: (MemberId, ClusterId),
    },
    /// The backend is older than the snapshot, and the log no longer reaches back to it.
    #[error(
        "member/snap/db ends at raft index {consistent_index}, but the newest snapshot file is of index \
         {snapshot_index} and its database member/snap/{snapshot_index:016x}.snap.db is missing"
    )]
    DbBehindSnapshot {
        /// The last entry the backend holds.
        consistent_index: u64,
        /// The newest snapshot file's.
        snapshot_index: u64,
    },
}
