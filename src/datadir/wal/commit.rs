//! Saying of every entry of a log that it was agreed on: what the last survivor of a cluster knows counts as a whole
//! (docs/contract.md#survivors).
//!
//! The state that says so stands in a file of its own, behind the others, as when etcd begins a new one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::super::crc::Crc32c;
use super::super::layout;
use super::super::raft::{EntryId, HardState};
use super::super::source::Map;
use super::scan::Scan;
use super::summary::summarise;
use super::write::{Records, SEGMENT_BYTES};
use super::{Log, Segment, Tail};

/// What a log says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The last entry.
    pub last: EntryId,
    /// Up to where entries were agreed on before.
    pub before: u64,
}

/// Commits all entries of the log in `directory`, which nobody else has open. An interrupted write at its end is cut
/// off, as etcd does.
pub fn commit_all(directory: &Path) -> io::Result<Committed> {
    let log = Log::open(directory)?;
    let summary = summarise(&log)?;
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    match &summary.tail {
        Tail::Clean { .. } | Tail::Torn { followed_by: None, .. } => {}
        tail => return Err(wrong(format!("the log in {} is broken: {tail:?}", directory.display()))),
    }
    let from = summary.newest_snapshot().map_or(0, |mark| mark.id.index);
    if let Some(gap) = summary.gap_after(from) {
        return Err(wrong(format!("entries {} to {} are missing in the log", gap.last + 1, gap.found - 1)));
    }
    let (Some(owner), Some(newest)) = (summary.owner, log.segments().last().copied()) else {
        return Err(wrong(format!("there is no log in {}", directory.display())));
    };
    let snapshot = summary.newest_snapshot().map(|mark| mark.id);
    let last = summary.last.max(snapshot).unwrap_or_default();
    let (end, crc) = end(&log)?;
    let state = HardState { commit: last.index.max(summary.state.commit), ..summary.state };
    let mut records = Records::after(crc.value());
    records.owner(owner);
    records.state(state);
    let file = OpenOptions::new().write(true).open(log.path(newest))?;
    file.set_len(end)?;
    file.sync_all()?;
    let next = Segment { sequence: newest.sequence + 1, first_index: last.index + 1 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(log.path(next))?;
    file.write_all(records.as_bytes())?;
    file.set_len(SEGMENT_BYTES)?;
    file.sync_all()?;
    Ok(Committed { last, before: summary.state.commit })
}

/// Where the newest file ends, and the checksum of all before.
fn end(log: &Log) -> io::Result<(u64, Crc32c)> {
    let (mut end, mut crc) = (0, Crc32c::default());
    for segment in log.segments() {
        let path = log.path(*segment);
        let file = layout::open(&path)?.ok_or_else(|| io::Error::other("a file of the log is gone"))?;
        let map = Map::of(&file)?;
        let mut scan = Scan::after(map.as_slice(), crc);
        loop {
            (end, crc) = (scan.offset(), scan.crc());
            // What ends the last file was judged by who called.
            if !matches!(scan.next_record(), Ok(Some(_))) {
                break;
            }
        }
    }
    Ok((end, crc))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::super::raft::{Entry, EntryKind, Owner};
    use super::*;
    use crate::etcd::id::{ClusterId, MemberId};

    fn entry(term: u64, index: u64) -> Entry<'static> {
        Entry { kind: EntryKind::Normal, id: EntryId { term, index }, data: &[] }
    }

    fn state(term: u64, commit: u64) -> HardState {
        HardState { term, vote: 1, commit }
    }

    /// Three entries, of which one was agreed on, in two files.
    fn log(directory: &Path) {
        let owner = Owner { member_id: MemberId(1), cluster_id: ClusterId(2) };
        let mut first = Records::after(0);
        first.owner(owner);
        first.entry(&entry(1, 1));
        first.state(state(1, 1));
        let mut second = Records::after(first.crc());
        second.owner(owner);
        second.state(state(1, 1));
        second.entry(&entry(1, 2));
        second.entry(&entry(2, 3));
        second.state(state(2, 1));
        for (sequence, records) in [(0, &first), (1, &second)] {
            let name = Segment { sequence, first_index: if sequence == 0 { 0 } else { 2 } }.to_string();
            let mut bytes = records.as_bytes().to_vec();
            bytes.resize(4096, 0);
            fs::write(directory.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn all_entries_count_and_the_log_stays_whole() {
        let directory = tempfile::tempdir().unwrap();
        log(directory.path());

        let committed = commit_all(directory.path()).unwrap();

        assert_eq!(committed, Committed { last: EntryId { term: 2, index: 3 }, before: 1 });
        let log = Log::open(directory.path()).unwrap();
        let summary = summarise(&log).unwrap();
        assert_eq!(summary.state, state(2, 3));
        assert_eq!((summary.entries, summary.gap), (3, None));
        assert!(matches!(summary.tail, Tail::Clean { remains: None, .. }), "{:?}", summary.tail);
        // Nothing is lost by doing it again.
        assert_eq!(commit_all(directory.path()).unwrap().before, 3);
    }

    #[test]
    fn an_interrupted_write_is_cut_off_and_a_broken_log_refused() {
        let directory = tempfile::tempdir().unwrap();
        log(directory.path());
        let newest = directory.path().join(Segment { sequence: 1, first_index: 2 }.to_string());
        let whole = fs::read(&newest).unwrap();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        // The last record, raft's state, is cut in its middle.
        let mut torn = whole.clone();
        torn.truncate(end - 4);
        fs::write(&newest, torn).unwrap();
        assert_eq!(commit_all(directory.path()).unwrap().last.index, 3);
        assert_eq!(summarise(&Log::open(directory.path()).unwrap()).unwrap().state, state(1, 3));

        let directory = tempfile::tempdir().unwrap();
        log(directory.path());
        let oldest = directory.path().join(Segment { sequence: 0, first_index: 0 }.to_string());
        let mut bytes = fs::read(&oldest).unwrap();
        bytes[40] ^= 1;
        fs::write(&oldest, bytes).unwrap();
        assert!(commit_all(directory.path()).unwrap_err().to_string().contains("is broken"));
    }
}
