//! The snapshot files of a member (`*.snap`): who is in the cluster at a raft index, and since when the
//! log is needed. The data itself is in the backend (docs/contract.md#snap-files).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use prost::Message;

use super::crc::Crc32c;
use super::layout;
use super::raft::{ConfState, EntryId, SnapshotFile, SnapshotMark};
use super::source::Map;
use super::wire::{Fields, Malformed};

/// What is wrong with a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It has no content, or says that it has none.
    #[error("is empty")]
    Empty,
    /// It is no message.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// Its checksum does not fit.
    #[error("has checksum {stored:08x} where its data gives {computed:08x}")]
    BadCrc {
        /// The checksum in the file.
        stored: u32,
        /// The checksum of the data.
        computed: u32,
    },
}

/// A snapshot file's content, in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<'a> {
    /// Which snapshot it is.
    pub mark: SnapshotMark,
    /// The JSON of the old store ([`super::v2store`]).
    pub store: &'a [u8],
}

/// What a start makes of the snapshot files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// The file etcd up to 3.6 starts from, and which snapshot it is.
    pub chosen: Option<(String, SnapshotMark)>,
    /// Files that cannot be read: etcd up to 3.6 renames them to `*.snap.broken` and goes on.
    pub broken: Vec<(String, Fault)>,
    /// Files the log does not speak of, or not yet as agreed on: passed over.
    pub unknown: Vec<String>,
}

impl<'a> Snapshot<'a> {
    /// Reads a file.
    pub fn decode(file: &'a [u8]) -> Result<Self, Fault> {
        let (mut stored, mut data) = (0, &[][..]);
        for field in Fields::of(file) {
            match field? {
                #[expect(clippy::cast_possible_truncation, reason = "so does etcd's decoder")]
                (1, value) => stored = value.number()? as u32,
                (2, value) => data = value.bytes()?,
                _ => {}
            }
        }
        if data.is_empty() || stored == 0 {
            return Err(Fault::Empty);
        }
        let mut crc = Crc32c::default();
        crc.update(data);
        if crc.value() != stored {
            return Err(Fault::BadCrc { stored, computed: crc.value() });
        }
        let mut snapshot =
            Self { mark: SnapshotMark { id: EntryId::default(), conf_state: None }, store: &[] };
        for field in Fields::of(data) {
            match field? {
                (1, value) => snapshot.store = value.bytes()?,
                (2, value) => snapshot.mark = mark(value.bytes()?)?,
                _ => {}
            }
        }
        Ok(snapshot)
    }

    /// The file with this content.
    pub fn encode(&self) -> Vec<u8> {
        let data = SnapshotFile { data: Some(self.store.to_vec()), metadata: Some(self.mark.metadata()) };
        let data = data.encode_to_vec();
        let mut crc = Crc32c::default();
        crc.update(&data);
        Envelope { crc: Some(crc.value()), data: Some(data) }.encode_to_vec()
    }
}

/// The name of the file of this snapshot.
pub fn file_name(id: EntryId) -> String {
    format!("{:016x}-{:016x}.snap", id.term, id.index)
}

/// Which file etcd up to 3.6 starts from: the newest readable one of a snapshot that the log speaks of.
/// `marks` are those that count ([`super::wal::Summary::snapshots`]). Older files are not read. An error
/// is the operating system's.
///
/// etcd from 3.7 on reads none: it starts from the newest mark.
pub fn choose(directory: &Path, marks: &[SnapshotMark]) -> io::Result<Choice> {
    let mut choice = Choice::default();
    for name in names(directory)? {
        let path = directory.join(&name);
        let Some(file) = layout::open(&path)? else { continue };
        let map = Map::of(&file).map_err(|error| layout::about(&path, &error))?;
        match Snapshot::decode(map.as_slice()) {
            Ok(snapshot) if marks.iter().any(|mark| mark.id == snapshot.mark.id) => {
                choice.chosen = Some((name, snapshot.mark));
                break;
            }
            Ok(_) => choice.unknown.push(name),
            Err(fault) => choice.broken.push((name, fault)),
        }
    }
    Ok(choice)
}

/// The names of the snapshot files, in the order in which etcd tries them.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(|error| layout::about(directory, &error))?;
                let name = entry.file_name().into_string().ok();
                names.extend(name.filter(|name| layout::extension(name) == Some("snap")));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(layout::about(directory, &error)),
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

/// Writes a file into `directory`, which is there and has none of this name, durably but for the
/// directory itself.
pub fn write(directory: &Path, snapshot: &Snapshot<'_>) -> io::Result<()> {
    let path = directory.join(file_name(snapshot.mark.id));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&snapshot.encode())?;
    file.sync_all()
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, optional, tag = "1")]
    crc: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    data: Option<Vec<u8>>,
}

fn mark(message: &[u8]) -> Result<SnapshotMark, Malformed> {
    let mut mark = SnapshotMark { id: EntryId::default(), conf_state: None };
    for field in Fields::of(message) {
        match field? {
            (1, value) => mark.conf_state = Some(ConfState::decode(value.bytes()?)?),
            (2, value) => mark.id.index = value.number()?,
            (3, value) => mark.id.term = value.number()?,
            _ => {}
        }
    }
    Ok(mark)
}

#[cfg(test)]
mod tests;
