use std::fs;

use proptest::prelude::*;

use super::super::raft::ConfState;
use super::*;

fn mark(term: u64, index: u64) -> SnapshotMark {
    let conf_state = Some(ConfState { voters: vec![1, 2], learners: vec![3] });
    SnapshotMark { id: EntryId { term, index }, conf_state }
}

fn put(directory: &Path, term: u64, index: u64) {
    write(directory, &Snapshot { mark: mark(term, index), store: b"{}" }).unwrap();
}

#[test]
fn the_newest_file_that_the_log_speaks_of_is_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for (term, index) in [(1, 10), (2, 20), (2, 30)] {
        put(at, term, index);
    }
    fs::write(at.join(file_name(EntryId { term: 3, index: 40 })), b"torn").unwrap();
    fs::write(at.join("db"), b"").unwrap();
    let choice = choose(at, &[mark(1, 10), mark(2, 20)]).unwrap();

    assert_eq!(choice.chosen, Some((file_name(EntryId { term: 2, index: 20 }), mark(2, 20))));
    assert_eq!(choice.unknown, [file_name(EntryId { term: 2, index: 30 })]);
    assert_eq!(choice.broken.len(), 1);

    assert_eq!(choose(at, &[]).unwrap().chosen, None);
    assert_eq!(choose(&at.join("none"), &[]).unwrap(), Choice::default());
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let whole = Snapshot { mark: mark(1, 2), store: b"{}" }.encode();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        (vec![], "is empty"),
        (vec![0x08, 0, 0x12, 1, 0], "is empty"),
        (whole[..5].to_vec(), "ends in the middle of a field"),
        (flipped, "has checksum"),
    ];
    for (bytes, expected) in cases {
        let said = Snapshot::decode(&bytes).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}\nexpected: {expected}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        term: u64, index: u64, voters: Vec<u64>, learners: Vec<u64>, store: Vec<u8>,
    ) {
        let id = EntryId { term, index };
        let mark = SnapshotMark { id, conf_state: Some(ConfState { voters, learners }) };
        let snapshot = Snapshot { mark, store: &store };
        let file = snapshot.encode();
        prop_assert_eq!(Snapshot::decode(&file), Ok(snapshot));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Snapshot::decode(&bytes);
    }
}
