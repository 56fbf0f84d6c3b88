use std::convert::Infallible;

use super::*;
use crate::backup::delta::Lease;
use crate::backup::fixture::RecordWriter;
use crate::datadir::bolt::write::Writer;

/// A database with revision 2 of a key, and a lease.
fn database(directory: &tempfile::TempDir) -> File {
    let path = directory.path().join("db");
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let mut writer = Writer::new(file.try_clone().unwrap(), 4096).unwrap();
    let put = KeyValue {
        key: b"a".to_vec(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        ..KeyValue::default()
    };
    let first = [2_i64.to_be_bytes().as_slice(), b"_", &[0; 8]].concat();
    writer.bucket::<WriteError>(b"key", |keys| keys.put(&first, &put.encode_to_vec())).unwrap();
    let lease = StoredLease { id: 50, seconds: 60 };
    writer
        .bucket::<WriteError>(b"lease", |leases| leases.put(&50_i64.to_be_bytes(), &lease.encode_to_vec()))
        .unwrap();
    writer.finish().unwrap();
    file
}

fn put_of(key: &str, lease: i64) -> Change {
    Change {
        key: key.into(),
        value: b"v".to_vec(),
        create_revision: 2,
        version: 2,
        lease,
        ..Change::default()
    }
}

fn record(revision: i64, changes: Vec<Change>) -> Record {
    Record { revision, at_unix_ms: 1000 * revision, changes, leases: vec![] }
}

fn delta(records: &[Record]) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    for record in records {
        writer.put(record);
    }
    writer.take()
}

fn run(file: File, point: Point, deltas: &[Vec<u8>]) -> Result<Replayed, ReplayError<Infallible>> {
    replay(file, 2, point, deltas.len(), |place| Ok(deltas[place].as_slice())).map(|(_, replayed)| replayed)
}

/// Every entry of a bucket.
fn entries(directory: &tempfile::TempDir, bucket: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let db = Db::open(File::open(directory.path().join("db")).unwrap()).unwrap();
    db.bucket(bucket.as_bytes()).unwrap().unwrap().entries(1000).unwrap()
}

fn keys(directory: &tempfile::TempDir) -> Vec<String> {
    let show = |key: &[u8]| {
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        format!("{}_{}{}", number(&key[..8]), number(&key[9..17]), if key.len() > 17 { "t" } else { "" })
    };
    entries(directory, "key").iter().map(|(key, _)| show(key)).collect()
}

#[test]
fn changes_are_added_as_etcd_writes_them() {
    let directory = tempfile::tempdir().unwrap();
    let deleted = Change { deleted: true, key: b"a".to_vec(), ..Change::default() };
    let one = delta(&[record(3, vec![put_of("b", 50), put_of("c", 0)]), record(4, vec![deleted])]);

    let replayed = run(database(&directory), Point::Latest, &[one]).unwrap();

    assert_eq!(replayed, Replayed { last: 4, at: Timestamp::from_second(4).ok(), changes: 3 });
    assert_eq!(keys(&directory), ["2_0", "3_0", "3_1", "4_0t"]);
    let stored = |place: usize| KeyValue::decode(entries(&directory, "key")[place].1.as_slice()).unwrap();
    let put = KeyValue {
        key: b"b".to_vec(),
        value: b"v".to_vec(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        lease: 50,
    };
    assert_eq!(stored(1), put);
    assert_eq!(stored(3), KeyValue { key: b"a".to_vec(), ..KeyValue::default() });
}

#[test]
fn a_point_ends_it_and_what_is_there_already_is_skipped() {
    let deltas = [
        delta(&[
            record(1, vec![put_of("x", 0)]),
            record(2, vec![put_of("x", 0)]),
            record(3, vec![put_of("b", 0)]),
        ]),
        delta(&[record(3, vec![put_of("b", 0)]), record(4, vec![put_of("c", 0)])]),
        delta(&[record(5, vec![put_of("d", 0)]), record(6, vec![put_of("e", 0)])]),
    ];
    let at = |second| Point::Time(Timestamp::from_second(second).unwrap());
    for (point, last) in [
        (Point::Latest, 6),
        (Point::Revision(5), 5),
        (Point::Revision(3), 3),
        (Point::Revision(2), 0),
        (at(4), 4),
        (at(100), 6),
        (at(0), 0),
    ] {
        let directory = tempfile::tempdir().unwrap();

        let replayed = run(database(&directory), point, &deltas).unwrap();

        assert_eq!(replayed.last, last, "{point}");
        let expected: Vec<String> = (2..=last.max(2)).map(|revision| format!("{revision}_0")).collect();
        assert_eq!(keys(&directory), expected, "{point}");
    }
}

#[test]
fn leases_are_merged_by_id() {
    let directory = tempfile::tempdir().unwrap();
    let leases = [(7, 10), (50, 20), (i64::MAX, 30)].map(|(id, seconds)| Lease { id, seconds }).to_vec();
    let one = delta(&[Record { leases, ..record(3, vec![put_of("b", 7)]) }]);

    run(database(&directory), Point::Latest, &[one]).unwrap();

    let leases: Vec<(i64, i64)> = entries(&directory, "lease")
        .iter()
        .map(|(_, value)| {
            StoredLease::decode(value.as_slice()).map(|lease| (lease.id, lease.seconds)).unwrap()
        })
        .collect();
    assert_eq!(leases, [(7, 10), (50, 20), (i64::MAX, 30)]);
}

#[test]
fn after_an_error_the_database_is_as_it_was() {
    let cut = {
        let mut bytes = delta(&[record(4, vec![put_of("c", 0)])]);
        bytes.pop();
        bytes
    };
    let whole = delta(&[record(3, vec![put_of("b", 0)])]);
    for (what, deltas, told) in [
        ("a gap before it", vec![delta(&[record(4, vec![put_of("b", 0)])])], "begins with revision 4"),
        (
            "a gap between two",
            vec![whole.clone(), delta(&[record(5, vec![put_of("b", 0)])])],
            "delta 1 begins with",
        ),
        ("a cut one", vec![whole.clone(), cut.clone()], "delta 1: it ends within"),
    ] {
        let directory = tempfile::tempdir().unwrap();

        let error = run(database(&directory), Point::Latest, &deltas).unwrap_err().to_string();

        assert!(error.contains(told), "{what}: {error}");
        assert_eq!(keys(&directory), ["2_0"], "{what}");
    }
    // Behind the point it is read as well: an object is proven as a whole.
    let directory = tempfile::tempdir().unwrap();
    assert!(run(database(&directory), Point::Revision(3), &[whole, cut]).is_err());
}

#[test]
fn many_changes_take_many_pages() {
    let directory = tempfile::tempdir().unwrap();
    let records: Vec<Record> =
        (3..5000).map(|revision| record(revision, vec![put_of(&format!("key-{revision}"), 0)])).collect();

    let replayed = run(database(&directory), Point::Latest, &[delta(&records)]).unwrap();

    assert_eq!(replayed.last, 4999);
    let db = Db::open(File::open(directory.path().join("db")).unwrap()).unwrap();
    let mut count = 0;
    let keys = db.bucket(b"key").unwrap().unwrap();
    let _ = keys
        .visit::<()>(&mut |_, _, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(count, 4998);
}
