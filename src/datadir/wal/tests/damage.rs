//! Damage, and where reading stops at it: as etcd's.

use super::*;

/// Reads a log of one file.
pub(super) fn read_one(bytes: &[u8]) -> (Vec<u64>, Tail) {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), Segment { sequence: 0, first_index: 0 }, bytes);
    read(&Log::open(directory.path()).unwrap(), Start::First)
}

/// A file of entries 1 to `count` of `bytes` bytes each, a zero tail behind, and where each begins.
fn file(count: u64, bytes: usize) -> (Vec<u8>, Vec<usize>) {
    let mut records = Records::after(0);
    records.owner(OWNER);
    let mut places = Vec::new();
    for index in 1..=count {
        places.push(records.as_bytes().len());
        let data = vec![0xee; bytes];
        let id = EntryId { term: 1, index };
        records.entry(&Entry { kind: EntryKind::Normal, id, data: &data });
    }
    places.push(records.as_bytes().len());
    let mut file = records.as_bytes().to_vec();
    file.resize(file.len() + 2000, 0);
    (file, places)
}

#[derive(Debug, PartialEq)]
enum Judged {
    Clean,
    Remains,
    Torn,
    TornBefore(u64),
    Broken,
}

fn judge(bytes: &[u8]) -> (u64, Judged) {
    let (entries, tail) = read_one(bytes);
    let judged = match tail {
        Tail::Clean { remains: None, .. } => Judged::Clean,
        Tail::Clean { remains: Some(_), .. } => Judged::Remains,
        Tail::Torn { followed_by: None, .. } => Judged::Torn,
        Tail::Torn { followed_by: Some(offset), .. } => Judged::TornBefore(offset),
        Tail::Broken { .. } => Judged::Broken,
        Tail::Empty | Tail::Stopped { .. } => panic!("{tail:?}"),
    };
    (entries.len() as u64, judged)
}

#[test]
fn the_newest_file_may_end_in_an_interrupted_write() {
    let (whole, places) = file(5, 1000);
    let [.., third, fourth, last, end] = places.try_into().unwrap_or([0; 6]);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    let behind = Judged::TornBefore(fourth as u64);
    let whole_sector = third.next_multiple_of(512);
    assert!(whole_sector + 512 < fourth);
    #[rustfmt::skip]
    let cases: [(&str, Vec<u8>, (u64, Judged)); 12] = [
        ("nothing",                   whole.clone(),                                              (5, Judged::Clean)),
        ("no zero tail",              whole[..end].to_vec(),                                      (5, Judged::Clean)),
        ("cut within a record",       whole[..end - 1].to_vec(),                                  (4, Judged::Torn)),
        ("cut within a head",         whole[..last + 5].to_vec(),                                 (4, Judged::Torn)),
        ("a sector of the last zero", changed(&|b| b[last + 8 + 512..end].fill(0)),               (4, Judged::Torn)),
        ("a bit of the last",         changed(&|b| b[last + 600] ^= 1),                           (4, Judged::Broken)),
        ("a bit in the middle",       changed(&|b| b[third + 600] ^= 1),                          (2, Judged::Broken)),
        ("a sector in the middle",    changed(&|b| b[whole_sector..whole_sector + 512].fill(0)),  (2, behind)),
        ("a head wiped out",          changed(&|b| b[third..third + 8].fill(0)),                  (2, Judged::Remains)),
        ("a length too long",         changed(&|b| b[third + 3] = 0xff),                          (2, Judged::TornBefore(fourth as u64))),
        ("a field cut short",         changed(&|b| b[third] -= 8),                                (2, Judged::TornBefore(fourth as u64))),
        ("something behind the end",  changed(&|b| b[end + 100] = 1),                             (5, Judged::Remains)),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(judge(&bytes), expected, "{name}");
    }
}

#[test]
fn an_older_file_may_not() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_of(directory.path(), &[&[(1, 1), (1, 2)], &[(1, 3)]]);
    let older = log.path(log.segments()[0]);
    let bytes = fs::read(&older).unwrap();
    fs::write(&older, &bytes[..bytes.len() - 1]).unwrap();

    let (entries, tail) = read(&log, Start::First);

    assert_eq!(entries, [1, 2]);
    assert!(matches!(tail, Tail::Broken { why: Fault::Torn { .. }, .. }), "{tail:?}");
}

#[test]
fn files_must_belong_together() {
    let with = |change: &dyn Fn(&Path, &Log)| {
        let directory = tempfile::tempdir().unwrap();
        let log = log_of(directory.path(), &[&[(1, 1), (1, 2)], &[(1, 3)], &[(1, 4)]]);
        change(directory.path(), &log);
        let log = Log::open(directory.path()).unwrap();
        match read(&log, Start::First).1 {
            Tail::Broken { why, .. } => why.to_string(),
            other => format!("{other:?}"),
        }
    };
    let missing = with(&|_, log| fs::remove_file(log.path(log.segments()[1])).unwrap());
    assert!(missing.starts_with("does not follow 0000000000000000-0000000000000000.wal"), "{missing}");

    // The chain of checksums sees a file that lost its last record.
    let shorter = with(&|directory, log| {
        let bytes = fs::read(log.path(log.segments()[1])).unwrap();
        put(directory, log.segments()[1], &bytes[..bytes.len() - 24]);
    });
    assert!(shorter.starts_with("the record at byte 0 has checksum"), "{shorter}");

    let foreign = with(&|directory, log| {
        let crc = Records::after(0);
        let mut records = Records::after(crc.crc());
        records.owner(Owner { member_id: MemberId(0xb2), ..OWNER });
        put(directory, log.segments()[0], records.as_bytes());
        let mut next = Records::after(records.crc());
        next.owner(OWNER);
        put(directory, log.segments()[1], next.as_bytes());
    });
    assert!(foreign.ends_with("has other ids of member and cluster than the files before"), "{foreign}");
}

#[test]
fn a_record_of_a_kind_nobody_knows_ends_etcd() {
    let mut crc = super::super::super::crc::Crc32c::default();
    crc.update(b"x");
    let bytes = [frame(4, 0, None), frame(9, crc.value(), Some(b"x".to_vec()))].concat();
    let (_, tail) = read_one(&bytes);
    assert!(
        matches!(tail, Tail::Broken { why: Fault::UnknownKind { found: 9, offset: 16 }, .. }),
        "{tail:?}"
    );
}

#[test]
fn bytes_that_all_look_like_heads_end_in_time() {
    // Every eighth byte begins what could be a record of half the file.
    let head = 0x0008_0000_u64.to_le_bytes();
    let content = [0x08, 2, 0x10, 0, 0x1a, 0, 0x22, 0];
    let mut bytes = frame(4, 0, None);
    bytes.extend((1_u64 << 50).to_le_bytes());
    bytes.extend([head, content].concat().repeat(1 << 16));
    assert!(matches!(read_one(&bytes).1, Tail::Torn { .. }));
}

proptest! {
    #[test]
    fn a_changed_file_never_panics_and_loses_nothing_before_the_change(
        at in 0..6000_usize,
        byte: u8,
        length in 0..6000_usize,
    ) {
        let (mut bytes, places) = file(4, 1000);
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(length.max(at));
        let before = places.iter().skip(1).filter(|end| **end <= at).count();
        prop_assert!(read_one(&bytes).0.len() >= before);
    }
}
