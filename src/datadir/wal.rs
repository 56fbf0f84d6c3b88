//! The write-ahead log: its files, and the first records of a file, which say whose log it is.
//!
//! Every file begins with the checksum the file before ended with, followed by the ids of member and
//! cluster. Records are chained: each carries the CRC-32C of all data up to and including its own.
//!
//! Lengths are taken as claims: a record is read only if the file has that many bytes left and the
//! caller wants records of this size.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};

use prost::Message;

use super::crc::Crc32c;
use crate::etcd::id::{ClusterId, MemberId};

/// The records before the first entry are tens of bytes long.
const HEADER_BYTES_MAX: u64 = 4096;
/// The low seven bytes of a frame's head are the record's length, the top bit says that it is padded.
const LENGTH_MASK: u64 = (1 << 56) - 1;

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

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The member.
    pub member_id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
}

/// One record whose checksum was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where its frame begins in the file.
    pub offset: u64,
    /// What it holds.
    pub kind: Kind,
    /// Its content, a message of its own.
    pub data: Vec<u8>,
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

/// Reads the records of one file in order.
pub struct Records<R> {
    source: R,
    offset: u64,
    left: u64,
    record_bytes_max: u64,
    crc: Crc32c,
}

#[derive(Clone, PartialEq, Message)]
struct RawRecord {
    #[prost(int64, optional, tag = "1")]
    kind: Option<i64>,
    #[prost(uint32, optional, tag = "2")]
    crc: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct RawMetadata {
    #[prost(uint64, optional, tag = "1")]
    member_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    cluster_id: Option<u64>,
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

impl<R: Read> Records<R> {
    /// Records of a source of `bytes` bytes, none larger than `record_bytes_max`.
    pub fn new(source: R, bytes: u64, record_bytes_max: u64) -> Self {
        Self { source, offset: 0, left: bytes, record_bytes_max, crc: Crc32c::default() }
    }

    /// The next record; `None` at the end of the file or where its zero tail begins.
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let offset = self.offset;
        let Some(head) = self.take(8)? else { return Ok(None) };
        let head = u64::from_le_bytes(head.try_into().expect("eight bytes were taken"));
        if head == 0 {
            return Ok(None);
        }
        // The top byte is 0x80 with the padding in its low three bits, or zero.
        let padding = if head >> 63 == 1 { (head >> 56) & 7 } else { 0 };
        let length = head & LENGTH_MASK;
        if length > self.record_bytes_max {
            return Err(Fault::TooLarge { offset, bytes: length, max: self.record_bytes_max }.into());
        }
        let (bytes, left) = (length + padding, self.left);
        let frame = self.take(bytes)?.ok_or(Fault::Torn { offset, bytes, left })?;
        let content = usize::try_from(length).ok().and_then(|length| frame.get(..length)).unwrap_or_default();
        let raw = RawRecord::decode(content).map_err(|_| Fault::Malformed { offset })?;
        let (kind, stored) = (Kind::from_number(raw.kind.unwrap_or_default()), raw.crc.unwrap_or_default());
        let data = raw.data.unwrap_or_default();
        if kind == Kind::Crc {
            // The first one of a file is where the chain starts; a later one must continue it.
            let computed = self.crc.value();
            if computed != 0 && computed != stored {
                return Err(Fault::BadCrc { offset, stored, computed }.into());
            }
            self.crc = Crc32c::continued(stored);
        } else {
            self.crc.update(&data);
            let computed = self.crc.value();
            if computed != stored {
                return Err(Fault::BadCrc { offset, stored, computed }.into());
            }
        }
        Ok(Some(Record { offset, kind, data }))
    }

    /// The next `bytes` bytes, if there are so many.
    fn take(&mut self, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        if bytes > self.left {
            return Ok(None);
        }
        let Ok(length) = usize::try_from(bytes) else { return Ok(None) };
        let mut taken = vec![0; length];
        self.source.read_exact(&mut taken)?;
        self.offset += bytes;
        self.left -= bytes;
        Ok(Some(taken))
    }
}

/// Whose log a file belongs to: its first two records.
pub fn owner(file: File) -> Result<Owner, Error> {
    let bytes = file.metadata()?.len();
    owner_in(BufReader::with_capacity(512, file), bytes)
}

fn owner_in(source: impl Read, bytes: u64) -> Result<Owner, Error> {
    let mut records = Records::new(source, bytes, HEADER_BYTES_MAX);
    due(&mut records, Kind::Crc, "checksum")?;
    let metadata = due(&mut records, Kind::Metadata, "metadata")?;
    let malformed = || Fault::Malformed { offset: metadata.offset };
    let ids = RawMetadata::decode(metadata.data.as_slice()).map_err(|_| malformed())?;
    match (ids.member_id, ids.cluster_id) {
        (Some(member), Some(cluster)) => {
            Ok(Owner { member_id: MemberId(member), cluster_id: ClusterId(cluster) })
        }
        _ => Err(malformed().into()),
    }
}

/// Whether a log's first file has nothing in it but whose it is: no entry, no term, no vote.
///
/// etcd makes the file first and writes the members of a first boot afterwards. Killed in between it
/// starts again with a log of no members, and waits for a leader for ever (seen with 3.6.16). Anything
/// that cannot be read counts as content: only certainty says "nothing".
pub fn is_blank(file: File) -> Result<bool, Error> {
    let bytes = file.metadata()?.len();
    let mut records = Records::new(BufReader::with_capacity(512, file), bytes, HEADER_BYTES_MAX);
    loop {
        match records.next_record() {
            Ok(None) => return Ok(true),
            Ok(Some(record)) => match record.kind {
                Kind::Crc | Kind::Metadata => {}
                // A new log begins with the snapshot of index 0 and term 0, two fields of two bytes.
                Kind::Snapshot if record.data.chunks(2).all(|field| field.get(1) == Some(&0)) => {}
                Kind::Snapshot | Kind::Entry | Kind::State | Kind::Unknown(_) => return Ok(false),
            },
            Err(Error::Fault(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn due(records: &mut Records<impl Read>, kind: Kind, due: &'static str) -> Result<Record, Error> {
    let offset = records.offset;
    let record = records.next_record()?.ok_or(Fault::NoRecord { offset, due })?;
    if record.kind == kind {
        Ok(record)
    } else {
        Err(Fault::OtherKind { offset, due, found: record.kind.number() }.into())
    }
}

#[cfg(test)]
mod tests;
