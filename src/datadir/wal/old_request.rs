//! Entries that only etcd up to 3.5 wrote, where a start would replay them.
//!
//! A member of 3.5 publishes itself with a request of the old API, without the envelope of all others. 3.7 begins with
//! the newest snapshot of the log, reads what lies behind it, and ends with a panic on such an entry (seen with 3.7.3).
//! 3.6 reads them: once it has taken a snapshot, they lie before it (docs/contract.md#versions).

use std::io;
use std::ops::ControlFlow;

use super::super::raft::EntryKind;
use super::super::raft::request::Request;
use super::{Content, Log, Start};

/// The raft index of the first such entry behind the newest snapshot; `None` if there is none. Reads the whole log.
pub fn old_request(log: &Log) -> io::Result<Option<u64>> {
    let (mut found, mut snapshots, mut commit) = (Vec::new(), Vec::new(), 0);
    log.read(Start::First, &mut |located| {
        match &located.content {
            Content::State(state) => commit = state.commit,
            Content::Snapshot(mark) => snapshots.push(mark.id.index),
            Content::Entry(entry) => {
                // What a later leader overwrote is not replayed.
                while found.last().is_some_and(|index| *index >= entry.id.index) {
                    found.pop();
                }
                if entry.kind == EntryKind::Normal && Request::is_bare(entry.data) {
                    found.push(entry.id.index);
                }
            }
            Content::Owner(_) | Content::Crc => {}
        }
        ControlFlow::Continue(())
    })?;
    let newest = snapshots.into_iter().filter(|index| *index <= commit).max().unwrap_or(0);
    Ok(found.into_iter().find(|index| *index > newest))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Directories that real etcd of each line wrote.
    #[test]
    fn only_what_etcd_up_to_3_5_wrote_behind_its_snapshot_is_old() {
        for (directory, is_old) in [
            ("3.4-killed", true),
            ("3.5-three-voter", true),
            ("3.6-fresh", false),
            ("3.6-everything", false),
            ("3.7-killed", false),
            ("3.7-restored", false),
        ] {
            let log = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("spec/fixtures/datadir")
                .join(directory)
                .join("data/member/wal");

            let found = old_request(&Log::open(&log).unwrap()).unwrap();

            assert_eq!(found.is_some(), is_old, "{directory}: {found:?}");
        }
    }
}
