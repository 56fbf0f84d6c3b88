use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;

use super::super::fixture::{frame, wal_file};
use super::super::raft::{ConfState, Entry, EntryId, EntryKind, HardState, SnapshotMark};
use super::super::stored_member::StoredMember;
use super::write::Records;
use super::*;
use crate::etcd::id::{ClusterId, MemberId};

mod damage;
mod summary;

fn owner_of(bytes: &[u8]) -> Result<Owner, Fault> {
    head::owner_in(bytes).map_err(|error| match error {
        Error::Fault(fault) => fault,
        Error::Io(error) => panic!("{error}"),
    })
}

const OWNER: Owner = Owner { member_id: MemberId(0xa1), cluster_id: ClusterId(0xcc) };

#[test]
fn the_first_and_any_later_file_tell_whose_they_are() {
    assert_eq!(owner_of(&wal_file(0, 0xa1, 0xcc)), Ok(OWNER));
    assert_eq!(owner_of(&wal_file(0x1234_5678, 0xa1, 0xcc)), Ok(OWNER));
}

#[test]
fn what_is_wrong_is_said_with_the_place() {
    let whole = wal_file(0, 0xa1, 0xcc);
    let second = frame(4, 0, None).len();
    let mut flipped = whole.clone();
    flipped[second + 8 + 12] ^= 1;
    let mut long = whole.clone();
    long[second + 2] = 1;
    let other = [frame(4, 0, None), frame(3, 0, None)].concat();
    let without_ids = [frame(4, 0, None), frame(1, 0, None)].concat();
    let garbled = [frame(4, 0, None), 8_u64.to_le_bytes().to_vec(), vec![0xff; 8]].concat();
    #[rustfmt::skip]
    let cases = [
        (vec![],                       "ends at byte 0, where its checksum record should be"),
        (vec![0; 64],                  "ends at byte 0, where its checksum record should be"),
        (whole[..second].to_vec(),     "ends at byte 16, where its metadata record should be"),
        (whole[..second + 9].to_vec(), "the record at byte 16 is torn: it should have 16 bytes, the file has 1 left"),
        (whole[..second + 3].to_vec(), "the record at byte 16 is torn: it should have 8 bytes, the file has 3 left"),
        (flipped,                      "the record at byte 16 has checksum"),
        (long,                         "the record at byte 16 has 65552 bytes, at most 4096 are expected here"),
        (other,                        "the record at byte 16 is of kind 3, where its metadata record should be"),
        (without_ids,                  "the record at byte 16 cannot be decoded"),
        (garbled,                      "the record at byte 16 ends in the middle of a field"),
    ];
    for (bytes, expected) in cases {
        let said = owner_of(&bytes).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}\nexpected: {expected}");
    }
}

#[test]
fn names_of_files_are_etcds() {
    let segment = Segment { sequence: 26, first_index: 0xabc };
    assert_eq!(segment.to_string(), "000000000000001a-0000000000000abc.wal");
    assert_eq!(Segment::from_name(&segment.to_string()), Some(segment));
    for other in ["", ".wal", "0-0.wal", "000000000000001a-0000000000000abc.wal.broken", "0.tmp"] {
        assert_eq!(Segment::from_name(other), None, "{other}");
    }
}

/// What etcdutl 3.6.16 writes for a restore of two members, up to the zeros.
const RESTORED: &str = "\
     040000000000008408041000000000001f00000000000081080110a6aeb3bb0c1a1508809fe6c197ffa2d4581082bea9\
     e1ccebbda9d601000e00000000000082080510ede8cff6091a040800100000006a00000000000086080210e6c4f7d205\
     1a6008011001180122580800100018809fe6c197ffa2d45822487b226964223a36333838353039393735303035323034\
     3335322c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a31225d2c226e616d65223a226d31\
     227d0000000000007f00000000000081080210f4fdb9fb071a75080110011802226d0800100018a5d7c8aa9487ba8263\
     225d7b226964223a373133353038333034323333353530313232312c227065657255524c73223a5b22687474703a2f2f\
     3132372e302e302e323a32222c22687474703a2f2f3132372e302e302e333a33225d2c226e616d65223a226d32227d00\
     1800000000000000080310ab8cedbe081a0e080110809fe6c197ffa2d45818022600000000000082080510a1ecf19a01\
     1a1c080210011a1608809fe6c197ffa2d45808a5d7c8aa9487ba826328000000";

fn restored_members() -> Vec<StoredMember> {
    let member = |id, name: &str, urls: &[&str]| StoredMember {
        id,
        name: name.to_owned(),
        peer_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        ..StoredMember::default()
    };
    vec![
        member(7_135_083_042_335_501_221, "m2", &["http://127.0.0.2:2", "http://127.0.0.3:3"]),
        member(6_388_509_975_005_204_352, "m1", &["http://127.0.0.1:1"]),
    ]
}

#[test]
fn the_log_of_a_new_cluster_is_byte_for_byte_etcds() {
    let owner = Owner {
        member_id: MemberId(6_388_509_975_005_204_352),
        cluster_id: ClusterId(0xd652_f75c_cc2a_5f02),
    };
    let restored: Vec<u8> = RESTORED
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    assert_eq!(write::first_records(owner, &restored_members()).as_bytes(), restored);
}

/// A log of files with these entries each; every file begins as etcd begins it.
fn log_of(directory: &Path, files: &[&[(u64, u64)]]) -> Log {
    let mut crc = 0;
    for (sequence, entries) in (0..).zip(files) {
        let mut records = Records::after(crc);
        records.owner(OWNER);
        if sequence == 0 {
            records.snapshot(&SnapshotMark { id: EntryId::default(), conf_state: None });
        }
        for (term, index) in *entries {
            let id = EntryId { term: *term, index: *index };
            records.entry(&Entry { kind: EntryKind::Normal, id, data: &[] });
            records.state(HardState { term: *term, vote: 1, commit: *index });
        }
        crc = records.crc();
        let first_index = if sequence == 0 { 0 } else { entries.first().map_or(0, |entry| entry.1) };
        put(directory, Segment { sequence, first_index }, records.as_bytes());
    }
    Log::open(directory).unwrap()
}

fn put(directory: &Path, segment: Segment, bytes: &[u8]) {
    fs::write(directory.join(segment.to_string()), bytes).unwrap();
}

fn read(log: &Log, start: Start) -> (Vec<u64>, Tail) {
    let mut entries = Vec::new();
    let tail = log.read(start, &mut |located| {
        if let Content::Entry(entry) = &located.content {
            entries.push(entry.id.index);
        }
        ControlFlow::Continue(())
    });
    (entries, tail.unwrap())
}

#[test]
fn reading_begins_with_the_file_that_has_what_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_of(directory.path(), &[&[(1, 1), (1, 2)], &[(1, 3), (2, 4)], &[(2, 5)]]);
    let (all, tail) = read(&log, Start::First);
    assert_eq!(all, [1, 2, 3, 4, 5]);
    assert!(matches!(tail, Tail::Clean { at, remains: None } if at.segment.sequence == 2), "{tail:?}");
    assert_eq!(read(&log, Start::After(0)).0, all);
    assert_eq!(read(&log, Start::After(2)).0, [1, 2, 3, 4, 5]);
    assert_eq!(read(&log, Start::After(3)).0, [3, 4, 5]);
    assert_eq!(read(&log, Start::After(9)).0, [5]);

    // Old files are purged from the front.
    fs::remove_file(log.path(log.segments()[0])).unwrap();
    let log = Log::open(directory.path()).unwrap();
    assert_eq!(read(&log, Start::First).0, [3, 4, 5]);
    let oldest = Position { segment: log.segments()[0], offset: 0 };
    let too_young = Tail::Broken { at: oldest, why: Fault::TooYoung { index: 2 } };
    assert_eq!(read(&log, Start::After(2)), (vec![], too_young));
    assert_eq!(
        read(&Log::open(&directory.path().join("none")).unwrap(), Start::First),
        (vec![], Tail::Empty)
    );
}

#[test]
fn a_reader_that_has_enough_is_not_given_more() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_of(directory.path(), &[&[(1, 1), (1, 2)]]);
    let mut seen = 0;
    let tail = log.read(Start::First, &mut |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(seen, 2);
    assert!(matches!(tail.unwrap(), Tail::Stopped { .. }));
}

#[test]
fn entries_of_a_new_leader_take_the_place_of_those_before() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_of(directory.path(), &[&[(1, 1), (1, 2), (1, 3), (2, 2), (2, 3)]]);
    assert_eq!(read(&log, Start::After(0)).0, [1, 2, 3, 2, 3]);
    // Behind a rewind the next index counts from there.
    let directory = tempfile::tempdir().unwrap();
    let log = log_of(directory.path(), &[&[(1, 1), (1, 2), (1, 3), (2, 2), (2, 4)]]);
    let (_, tail) = read(&log, Start::After(0));
    assert!(matches!(tail, Tail::Broken { why: Fault::Gap { last: 2, found: 4, .. }, .. }), "{tail:?}");
    assert_eq!(read(&log, Start::After(3)).0.len(), 5, "below a snapshot nothing is missed");
}

fn any_entry() -> impl Strategy<Value = (u64, u64, u64, Vec<u8>)> {
    (0..3_u64, any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..300))
}

fn kind(number: u64) -> EntryKind {
    [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2][usize::try_from(number).unwrap()]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = owner_of(&bytes);
        let _ = damage::read_one(&bytes);
    }

    #[test]
    fn one_changed_byte_never_goes_unseen_in_the_first_records(at in 0..32_usize, bit in 0..8_u32) {
        let mut bytes = wal_file(0x1234_5678, 0xa1, 0xcc);
        bytes[at] ^= 1 << bit;
        // Nobody reads the byte of a head that says how much padding there is where there is none, and
        // the bits of a checksum beyond its 32.
        let unread = [7, 23].contains(&at) || ([15, 31].contains(&at) && bit >= 4);
        prop_assert!(owner_of(&bytes) != Ok(OWNER) || unread, "byte {at}");
    }

    #[test]
    fn what_is_written_is_read(
        entries in proptest::collection::vec(any_entry(), 0..20),
        state: (u64, u64, u64),
        voters: Vec<u64>,
        learners: Vec<u64>,
        cut in 0..20_usize,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let state = HardState { term: state.0, vote: state.1, commit: state.2 };
        let id = EntryId { term: state.vote, index: state.term };
        let mark = SnapshotMark { id, conf_state: Some(ConfState { voters, learners }) };
        let (one, two) = entries.split_at(cut.min(entries.len()));
        let mut crc = 0;
        for (sequence, part) in (0..).zip([one, two]) {
            let mut records = Records::after(crc);
            records.owner(OWNER);
            for (number, term, index, data) in part {
                let id = EntryId { term: *term, index: *index };
                records.entry(&Entry { kind: kind(*number), id, data });
            }
            records.state(state);
            records.snapshot(&mark);
            crc = records.crc();
            put(directory.path(), Segment { sequence, first_index: 0 }, records.as_bytes());
        }
        let mut found = Vec::new();
        let tail = Log::open(directory.path()).unwrap().read(Start::First, &mut |located| {
            match &located.content {
                Content::Owner(owner) => assert_eq!(*owner, OWNER),
                Content::State(found) => assert_eq!(*found, state),
                Content::Snapshot(found) => assert_eq!(*found, mark),
                Content::Crc => {}
                Content::Entry(entry) => found.push((entry.kind, entry.id, entry.data.to_vec())),
            }
            ControlFlow::Continue(())
        });
        let is_clean = matches!(tail.unwrap(), Tail::Clean { remains: None, .. });
        prop_assert!(is_clean);
        let expected: Vec<_> = entries
            .into_iter()
            .map(|(number, term, index, data)| (kind(number), EntryId { term, index }, data))
            .collect();
        prop_assert_eq!(found, expected);
    }
}
