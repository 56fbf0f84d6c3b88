//! The log of a member that has never run: who is in the cluster, agreed on, and a snapshot of that.
//!
//! It is what `etcdutl snapshot restore` writes: an entry for each member in the order of their ids, the
//! state that says all are agreed on, and the record of the snapshot file written beside
//! ([`super::super::snap::write`]).

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use prost::Message;

use super::super::crc::Crc32c;
use super::super::raft::{ConfChange, ConfState, Entry, EntryId, EntryKind, HardState, Owner, SnapshotMark};
use super::super::stored_member::StoredMember;
use super::{Kind, Segment};

/// How long etcd makes a file of the log from its beginning.
pub const SEGMENT_BYTES: u64 = 64_000_000;

/// The term in which the first members of a cluster are agreed on.
pub const FIRST_TERM: u64 = 1;

#[derive(Clone, PartialEq, Message)]
struct RawRecord {
    #[prost(int64, optional, tag = "1")]
    kind: Option<i64>,
    #[prost(uint32, optional, tag = "2")]
    crc: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
}

/// Records in their frames, chained.
#[derive(Debug, Clone, Default)]
pub struct Records {
    bytes: Vec<u8>,
    crc: Crc32c,
}

impl Records {
    /// The records of a file that follows one that ended with this checksum; 0 for the first file.
    pub fn after(crc: u32) -> Self {
        let mut records = Self { bytes: Vec::new(), crc: Crc32c::continued(crc) };
        records.frame(Kind::Crc, None);
        records
    }

    /// Adds the ids of member and cluster.
    pub fn owner(&mut self, owner: Owner) {
        self.record(Kind::Metadata, owner.encode());
    }

    /// Adds an entry.
    pub fn entry(&mut self, entry: &Entry<'_>) {
        self.record(Kind::Entry, entry.encode());
    }

    /// Adds raft's state.
    pub fn state(&mut self, state: HardState) {
        self.record(Kind::State, state.encode());
    }

    /// Adds that a snapshot exists.
    pub fn snapshot(&mut self, mark: &SnapshotMark) {
        self.record(Kind::Snapshot, mark.encode());
    }

    /// The checksum so far, for the file that follows.
    pub fn crc(&self) -> u32 {
        self.crc.value()
    }

    /// The file so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn record(&mut self, kind: Kind, data: Vec<u8>) {
        self.crc.update(&data);
        self.frame(kind, Some(data));
    }

    fn frame(&mut self, kind: Kind, data: Option<Vec<u8>>) {
        let record = RawRecord { kind: Some(kind.number()), crc: Some(self.crc.value()), data };
        let record = record.encode_to_vec();
        let padding = record.len().next_multiple_of(8) - record.len();
        let mut head = record.len() as u64;
        if padding != 0 {
            head |= (0x80 | padding as u64) << 56;
        }
        self.bytes.extend(head.to_le_bytes());
        self.bytes.extend(record);
        self.bytes.extend(&[0; 8][..padding]);
    }
}

/// The snapshot with which a cluster of these members begins: one entry for each of them.
pub fn first_snapshot(members: &[StoredMember]) -> SnapshotMark {
    let mut voters: Vec<_> = members.iter().map(|member| member.id).collect();
    voters.sort_unstable();
    SnapshotMark {
        id: EntryId { term: FIRST_TERM, index: voters.len() as u64 },
        conf_state: Some(ConfState { voters, learners: Vec::new() }),
    }
}

/// The records of a log with which a cluster of these members begins. All of them vote: learners cannot
/// be among the first members.
pub fn first_records(owner: Owner, members: &[StoredMember]) -> Records {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_unstable_by_key(|member| member.id);
    let mut records = Records::after(0);
    records.owner(owner);
    records.snapshot(&SnapshotMark { id: EntryId::default(), conf_state: None });
    for (index, member) in (1..).zip(&members) {
        let data = ConfChange::founding(member);
        let id = EntryId { term: FIRST_TERM, index };
        records.entry(&Entry { kind: EntryKind::ConfChange, id, data: &data });
    }
    records.state(HardState {
        term: FIRST_TERM,
        vote: members.first().map_or(0, |member| member.id),
        commit: members.len() as u64,
    });
    let snapshot: Vec<_> = members.into_iter().cloned().collect();
    records.snapshot(&first_snapshot(&snapshot));
    records
}

/// Writes the first file of a log into `directory`, which is there and has none, durably but for the
/// directory itself. The zeros behind the records take no room on the disk.
pub fn first_file(directory: &Path, records: &Records) -> io::Result<()> {
    let path = directory.join(Segment { sequence: 0, first_index: 0 }.to_string());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(records.as_bytes())?;
    file.set_len(SEGMENT_BYTES.max(records.as_bytes().len() as u64))?;
    file.sync_all()
}
