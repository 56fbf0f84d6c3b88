use proptest::prelude::*;

use super::super::fixture::{frame, wal_file};
use super::*;

fn owner_of(bytes: &[u8]) -> Result<Owner, Fault> {
    owner_in(bytes, bytes.len() as u64).map_err(|error| match error {
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
        (flipped,                      "the record at byte 16 has checksum"),
        (long,                         "the record at byte 16 has 65552 bytes, at most 4096 are expected here"),
        (other,                        "the record at byte 16 is of kind 3, where its metadata record should be"),
        (without_ids,                  "the record at byte 16 cannot be decoded"),
        (garbled,                      "the record at byte 16 cannot be decoded"),
    ];
    for (bytes, expected) in cases {
        let said = owner_of(&bytes).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}\nexpected: {expected}");
    }
}

#[test]
fn a_checksum_record_within_a_file_must_continue_the_chain() {
    let data = b"data".to_vec();
    let mut crc = Crc32c::default();
    crc.update(&data);
    let read = |restart: u32| {
        let bytes = [frame(2, crc.value(), Some(data.clone())), frame(4, restart, None)].concat();
        let mut records = Records::new(bytes.as_slice(), bytes.len() as u64, 100);
        assert_eq!(records.next_record().unwrap().unwrap().kind, Kind::Entry);
        records.next_record().map(|record| record.unwrap().kind)
    };
    assert_eq!(read(crc.value()).unwrap(), Kind::Crc);
    assert!(matches!(read(7).unwrap_err(), Error::Fault(Fault::BadCrc { stored: 7, .. })));
}

#[test]
fn only_names_that_etcd_reads_are_segments() {
    let segment = Segment { sequence: 0x1f, first_index: 0xabc };
    assert_eq!(segment.to_string(), "000000000000001f-0000000000000abc.wal");
    assert_eq!(Segment::from_name(&segment.to_string()), Some(segment));
    for wrong in [
        "",
        ".wal",
        "0-0.wal",
        "0.tmp",
        "000000000000001f-0000000000000abc.wal.broken",
        "+00000000000001f-0000000000000abc.wal",
    ] {
        assert_eq!(Segment::from_name(wrong), None, "{wrong}");
    }
}

fn read_all(bytes: &[u8]) {
    let _ = owner_of(bytes);
    let mut records = Records::new(bytes, bytes.len() as u64, 1 << 20);
    while let Ok(Some(_)) = records.next_record() {}
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        read_all(&bytes);
    }

    #[test]
    fn a_changed_file_never_panics_and_never_names_another_owner(at in 0..48_usize, bit in 0..8_u32) {
        let mut bytes = wal_file(0, 0xa1, 0xcc);
        bytes[at] ^= 1 << bit;
        read_all(&bytes);
        if let Ok(owner) = owner_of(&bytes) {
            prop_assert_eq!(owner, OWNER);
        }
    }

    #[test]
    fn names_and_segments_are_inverse(sequence: u64, first_index: u64) {
        let segment = Segment { sequence, first_index };
        prop_assert_eq!(Segment::from_name(&segment.to_string()), Some(segment));
    }
}
