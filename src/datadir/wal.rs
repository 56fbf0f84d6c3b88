//! The write-ahead log: its files, what is in them, and what is wrong with them.
//!
//! Every file begins with the checksum the file before ended with, followed by the ids of member and
//! cluster. Records are chained: each carries the CRC-32C of all data up to and including its own. The
//! newest file is as long as it will get from its beginning, with zeros behind the last record
//! (docs/contract.md#log).
//!
//! [`owner`] and [`is_blank`] read the first bytes of one file, for the launcher. [`Log`] reads
//! everything, in place and one file at a time, and stops where etcd stops. [`write`] makes the log of
//! a member that has never run.
//!
//! Lengths are taken as claims: a record is read only if the file has that many bytes left.

use std::fmt;
use std::io;

pub use super::raft::Owner;

pub mod commit;
pub mod write;

mod head;
mod log;
mod old_request;
mod scan;
mod summary;

pub use head::{is_blank, owner};
#[cfg(any(test, fuzzing))]
pub(super) use log::read_bytes;
pub use log::{Content, Located, Log, Position, Start, Tail};
pub use old_request::old_request;
pub use summary::{Change, Fold, Gap, KEPT_MAX, Summary, What, summarise};

/// One file of the log, as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its place in the log, from 0, without gaps.
    pub sequence: u64,
    /// The raft index of the first entry it may hold.
    pub first_index: u64,
}

impl Segment {
    /// The segment with this file name.
    pub fn from_name(name: &str) -> Option<Self> {
        let (sequence, first_index) = name.strip_suffix(".wal")?.split_once('-')?;
        let number = |text: &str| {
            let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        Some(Self { sequence: number(sequence)?, first_index: number(first_index)? })
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index)
    }
}

/// What is wrong with a file of the log. Offsets are those of the record's frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file ends, or its zero tail begins, where a record is due.
    #[error("ends at byte {offset}, where its {due} record should be")]
    NoRecord {
        /// Where.
        offset: u64,
        /// Which record.
        due: &'static str,
    },
    /// A record says it is longer than the rest of the file.
    #[error("the record at byte {offset} is torn: it should have {bytes} bytes, the file has {left} left")]
    Torn {
        /// Where.
        offset: u64,
        /// Its length as it says.
        bytes: u64,
        /// Bytes left in the file.
        left: u64,
    },
    /// A record is larger than expected here.
    #[error("the record at byte {offset} has {bytes} bytes, at most {max} are expected here")]
    TooLarge {
        /// Where.
        offset: u64,
        /// Its length as it says.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A record cannot be decoded.
    #[error("the record at byte {offset} cannot be decoded")]
    Malformed {
        /// Where.
        offset: u64,
    },
    /// A record ends in the middle of a field. etcd up to 3.6 takes this for an interrupted write
    /// (docs/contract.md#log).
    #[error("the record at byte {offset} ends in the middle of a field")]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// A record's checksum does not fit.
    #[error("the record at byte {offset} has checksum {stored:08x} where its data gives {computed:08x}")]
    BadCrc {
        /// Where.
        offset: u64,
        /// The checksum in the file.
        stored: u32,
        /// The checksum of the data.
        computed: u32,
    },
    /// Another kind of record stands there.
    #[error("the record at byte {offset} is of kind {found}, where its {due} record should be")]
    OtherKind {
        /// Where.
        offset: u64,
        /// The kind that should be there.
        due: &'static str,
        /// The kind in the file.
        found: i64,
    },
    /// A record of a kind that etcd does not know.
    #[error("the record at byte {offset} is of kind {found}, which etcd does not know")]
    UnknownKind {
        /// Where.
        offset: u64,
        /// The kind in the file.
        found: i64,
    },
    /// The ids differ from those of the files before.
    #[error("the record at byte {offset} has other ids of member and cluster than the files before")]
    OtherOwner {
        /// Where.
        offset: u64,
    },
    /// An entry does not follow the one before.
    #[error("the entry at byte {offset} has index {found}, but the log ends with index {last} before it")]
    Gap {
        /// Where.
        offset: u64,
        /// The last index before it.
        last: u64,
        /// Its index.
        found: u64,
    },
    /// A file does not follow the one before.
    #[error("does not follow {before}: the files in between are missing")]
    Hole {
        /// The file before.
        before: Segment,
    },
    /// No file is old enough.
    #[error("is the oldest file of the log, and begins after index {index}")]
    TooYoung {
        /// The index that reading should begin with.
        index: u64,
    },
}

/// Why a file of the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system says no.
    #[error("reading failed")]
    Io(#[from] io::Error),
    /// The file is not what it should be.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// One record whose checksum was right, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where its frame begins in the file.
    pub offset: u64,
    /// What it holds.
    pub kind: Kind,
    /// Its content, a message of its own.
    pub data: &'a [u8],
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The ids of member and cluster.
    Metadata,
    /// A raft entry.
    Entry,
    /// Term, vote and commit index.
    State,
    /// The checksum the file before ended with.
    Crc,
    /// That a snapshot exists.
    Snapshot,
    /// None that etcd writes.
    Unknown(i64),
}

impl Kind {
    fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Metadata,
            2 => Self::Entry,
            3 => Self::State,
            4 => Self::Crc,
            5 => Self::Snapshot,
            other => Self::Unknown(other),
        }
    }

    fn number(self) -> i64 {
        match self {
            Self::Metadata => 1,
            Self::Entry => 2,
            Self::State => 3,
            Self::Crc => 4,
            Self::Snapshot => 5,
            Self::Unknown(number) => number,
        }
    }
}

#[cfg(test)]
mod tests;
