//! All files of a log, read as etcd reads them at a start.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::super::crc::Crc32c;
use super::super::layout;
use super::super::raft::{Entry, HardState, Owner, SnapshotMark};
use super::super::source::Map;
use super::super::wire::Malformed;
use super::scan::{Scan, Stop};
use super::{Fault, Kind, Record, Segment};

/// The files of a log.
#[derive(Debug, Clone)]
pub struct Log {
    directory: PathBuf,
    segments: Vec<Segment>,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest file. Entries may be missing before the first one and in between: what counts
    /// is behind the snapshot, and who reads everything may not know yet which one that is.
    First,
    /// With the file that has the entry after this index, a snapshot's; 0 for a log without snapshot.
    /// From that entry on none may be missing.
    After(u64),
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub segment: Segment,
    /// The byte.
    pub offset: u64,
}

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<'a> {
    /// Where its frame begins.
    pub at: Position,
    /// What it holds.
    pub content: Content<'a>,
}

/// What a record holds, decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Content<'a> {
    /// Whose log it is: at the beginning of each file.
    Owner(Owner),
    /// An entry; it takes the place of all before that have its index or a higher one.
    Entry(Entry<'a>),
    /// Raft's state.
    State(HardState),
    /// The checksum so far: at the beginning of each file.
    Crc,
    /// That a snapshot exists.
    Snapshot(SnapshotMark),
}

/// How reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// There is no file.
    Empty,
    /// Behind the last record.
    Clean {
        /// Where the next record would be written.
        at: Position,
        /// The first byte behind it that is not zero: what a record leaves whose head was never
        /// written, or whose head was wiped out. etcd overwrites it with zeros without a word.
        remains: Option<u64>,
    },
    /// At what looks like a write that was interrupted, in the newest file: etcd cuts the file here,
    /// keeps a copy of it and goes on.
    Torn {
        /// Where etcd cuts.
        at: Position,
        /// What is wrong there.
        why: Fault,
        /// Where whole records follow. They would be cut off as well: then this is no interrupted
        /// write, unless the disk wrote a batch in another order before anybody was told.
        followed_by: Option<u64>,
    },
    /// At something that ends etcd.
    Broken {
        /// Where.
        at: Position,
        /// What.
        why: Fault,
    },
    /// Where the reader had enough.
    Stopped {
        /// The last record it was given.
        at: Position,
    },
}

impl Log {
    /// Looks which files there are. An absent directory is an empty one. Names that etcd does not read
    /// are passed over.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut segments = Vec::new();
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry.map_err(|error| layout::about(directory, &error))?;
                    segments.extend(entry.file_name().to_str().and_then(Segment::from_name));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(layout::about(directory, &error)),
        }
        segments.sort_unstable();
        Ok(Self { directory: directory.to_path_buf(), segments })
    }

    /// The files, the oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Where a file lies.
    pub fn path(&self, segment: Segment) -> PathBuf {
        self.directory.join(segment.to_string())
    }

    /// The first place behind `at`, in the same file, where whole records stand that belong together:
    /// what was once written there and is no longer reached.
    pub fn records_behind(&self, at: Position) -> io::Result<Option<u64>> {
        let path = self.path(at.segment);
        let Some(file) = layout::open(&path)? else { return Ok(None) };
        let map = Map::of(&file).map_err(|error| layout::about(&path, &error))?;
        Ok(Scan::after(map.as_slice(), Crc32c::default()).whole_records_behind(at.offset))
    }

    /// Gives every record to `visit`, in order, until it breaks or etcd would stop. One file is mapped
    /// at a time. An error is the operating system's and says nothing about the log.
    pub fn read(
        &self,
        start: Start,
        visit: &mut dyn FnMut(&Located<'_>) -> ControlFlow<()>,
    ) -> io::Result<Tail> {
        let segments = match (start, self.segments.first()) {
            (_, None) => return Ok(Tail::Empty),
            (Start::First, _) => self.segments.as_slice(),
            (Start::After(index), Some(oldest)) => {
                let Some(first) = self.segments.iter().rposition(|segment| segment.first_index <= index)
                else {
                    let at = Position { segment: *oldest, offset: 0 };
                    return Ok(Tail::Broken { at, why: Fault::TooYoung { index } });
                };
                self.segments.get(first..).unwrap_or_default()
            }
        };
        let mut reading = Reading::from(start);
        let mut tail = Tail::Empty;
        let mut before: Option<Segment> = None;
        for (place, segment) in segments.iter().enumerate() {
            let at = Position { segment: *segment, offset: 0 };
            if let Some(before) =
                before.filter(|before| before.sequence.checked_add(1) != Some(segment.sequence))
            {
                return Ok(Tail::Broken { at, why: Fault::Hole { before } });
            }
            before = Some(*segment);
            let path = self.path(*segment);
            let file = layout::open(&path)?
                .ok_or_else(|| io::Error::other(format!("{}: is no plain file", path.display())))?;
            let map = Map::of(&file).map_err(|error| layout::about(&path, &error))?;
            let is_newest = place + 1 == segments.len();
            tail = reading.file(*segment, map.as_slice(), is_newest, visit);
            if !matches!(tail, Tail::Clean { .. }) {
                break;
            }
        }
        Ok(tail)
    }
}

/// What reading remembers from record to record.
struct Reading {
    owner: Option<Vec<u8>>,
    entries: Start,
    /// The index of the last entry, if it matters where reading began.
    last: u64,
    crc: Crc32c,
}

impl Reading {
    fn from(start: Start) -> Self {
        let last = if let Start::After(index) = start { index } else { 0 };
        Self { owner: None, entries: start, last, crc: Crc32c::default() }
    }

    fn file(
        &mut self,
        segment: Segment,
        bytes: &[u8],
        is_newest: bool,
        visit: &mut dyn FnMut(&Located<'_>) -> ControlFlow<()>,
    ) -> Tail {
        let mut scan = Scan::after(bytes, self.crc);
        loop {
            let at = Position { segment, offset: scan.offset() };
            let record = match scan.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => {
                    self.crc = scan.crc();
                    // Only the newest file has bytes behind its last record.
                    let remains = if is_newest { scan.first_nonzero(at.offset) } else { None };
                    return Tail::Clean { at, remains };
                }
                Err(Stop { fault: why, is_torn }) if is_torn && is_newest => {
                    let followed_by = scan.whole_records_behind(at.offset);
                    return Tail::Torn { at, why, followed_by };
                }
                Err(Stop { fault: why, .. }) => return Tail::Broken { at, why },
            };
            let content = match self.content(&record) {
                Ok(content) => content,
                Err(why) => return Tail::Broken { at, why },
            };
            if visit(&Located { at, content }).is_break() {
                return Tail::Stopped { at };
            }
        }
    }

    /// What a record holds, and whether etcd would take it after all before.
    fn content<'a>(&mut self, record: &Record<'a>) -> Result<Content<'a>, Fault> {
        let offset = record.offset;
        let malformed = |_: Malformed| Fault::Malformed { offset };
        Ok(match record.kind {
            Kind::Metadata => {
                if self.owner.as_ref().is_some_and(|owner| owner != record.data) {
                    return Err(Fault::OtherOwner { offset });
                }
                let owner = Owner::decode(record.data).map_err(malformed)?;
                self.owner = Some(record.data.to_vec());
                Content::Owner(owner)
            }
            Kind::Entry => {
                let entry = Entry::decode(record.data).map_err(malformed)?;
                self.follow(offset, entry.id.index)?;
                Content::Entry(entry)
            }
            Kind::State => Content::State(HardState::decode(record.data).map_err(malformed)?),
            Kind::Crc => Content::Crc,
            Kind::Snapshot => Content::Snapshot(SnapshotMark::decode(record.data).map_err(malformed)?),
            Kind::Unknown(found) => return Err(Fault::UnknownKind { offset, found }),
        })
    }

    fn follow(&mut self, offset: u64, found: u64) -> Result<(), Fault> {
        let Start::After(start) = self.entries else { return Ok(()) };
        if found > start {
            let last = self.last;
            if found > last.saturating_add(1) {
                return Err(Fault::Gap { offset, last, found });
            }
            // A lower index than before: a new leader overwrites what was never agreed on.
            self.last = found;
        }
        Ok(())
    }
}

/// Reads files from memory, for who has arbitrary bytes.
#[cfg(any(test, fuzzing))]
pub(in super::super) fn read_bytes(
    files: &[&[u8]],
    start: Start,
    visit: &mut dyn FnMut(&Located<'_>) -> ControlFlow<()>,
) -> Tail {
    let mut reading = Reading::from(start);
    let mut tail = Tail::Empty;
    for (sequence, bytes) in (0..).zip(files) {
        let is_newest = sequence + 1 == files.len() as u64;
        tail = reading.file(Segment { sequence, first_index: 0 }, bytes, is_newest, visit);
        if !matches!(tail, Tail::Clean { .. }) {
            break;
        }
    }
    tail
}
