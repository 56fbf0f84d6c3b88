use super::*;
use crate::backup::export::record::{Auth, Blob, Key, Lease, Permission, Role, User};
use crate::backup::export::writing::Writing;
use crate::etcd::client::access::Kind;
use crate::etcd::id::LeaseId;

fn head() -> Head {
    Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        cluster_id: "cdf818194e3a8c32".parse().unwrap(),
        revision: 4711,
        etcd: "3.4.41".to_owned(),
        prefix: Blob::default(),
        begun: "2026-11-26T11:38:00Z".parse().unwrap(),
        written_by: "etcd-backup test".to_owned(),
    }
}

fn key(key: &[u8], value: &[u8], lease: Option<u64>) -> Record {
    Record::Key(Key { key: Blob(key.to_vec()), value: Blob(value.to_vec()), lease: lease.map(LeaseId) })
}

fn records() -> Vec<Record> {
    let everything =
        Permission { kind: Kind::ReadWrite, key: Blob(b"\0".to_vec()), range_end: Blob(b"\0".to_vec()) };
    vec![
        key(b"\0\xff", b"", None),
        key(b"a", &[0, 255, 10, 13], Some(0x7fff_ffff_ffff_ffff)),
        key(b"b", b"plain", None),
        Record::Lease(Lease { id: LeaseId(0x7fff_ffff_ffff_ffff), seconds: Some(60), keys: 1 }),
        Record::Role(Role { name: "root".to_owned(), permissions: vec![everything] }),
        Record::User(User { name: "root".to_owned(), roles: vec!["root".to_owned()] }),
        Record::Auth(Auth { enabled: true }),
    ]
}

fn written(records: &[Record]) -> Vec<u8> {
    let mut writing = Writing::begin(Vec::new(), &head()).unwrap();
    for record in records {
        writing.put(record).unwrap();
    }
    writing.end().unwrap().0
}

/// Everything to the end, and the counts.
fn read(file: &[u8]) -> Result<(Head, Vec<Record>, Counts), Unproven> {
    let (head, mut reading) = Reading::begin(file)?;
    let mut records = Vec::new();
    while let Some(record) = reading.read()? {
        records.push(record);
    }
    assert_eq!(reading.bytes(), file.len() as u64);
    assert!(reading.sha256().is_some());
    assert!(reading.read().unwrap().is_none());
    Ok((head, records, reading.counts()))
}

fn refused(file: &[u8]) -> String {
    read(file).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read() {
    let (read_head, read_records, counts) = read(&written(&records())).unwrap();

    assert_eq!((read_head, read_records), (head(), records()));
    assert_eq!(counts, Counts { keys: 3, leases: 1, roles: 1, users: 1 });
    assert_eq!(read(&written(&[])).unwrap().2, Counts::default());
}

/// Other programs read it, too: what docs/export.md shows stays as it is.
#[test]
fn the_lines_are_as_they_are_documented() {
    let text = String::from_utf8(written(&records())).unwrap();

    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(
        r#"{"format":"etcd-export","version":1,"cluster_id":"cdf818194e3a8c32","revision":4711,"#
    ));
    assert_eq!(lines[2], r#"{"key":{"key":"YQ==","value":"AP8KDQ==","lease":"7fffffffffffffff"}}"#);
    assert_eq!(lines[3], r#"{"key":{"key":"Yg==","value":"cGxhaW4="}}"#);
    assert_eq!(lines[4], r#"{"lease":{"id":"7fffffffffffffff","seconds":60,"keys":1}}"#);
    assert_eq!(
        lines[5],
        r#"{"role":{"name":"root","permissions":[{"kind":"readwrite","key":"AA==","range_end":"AA=="}]}}"#
    );
    assert_eq!(lines[6], r#"{"user":{"name":"root","roles":["root"]}}"#);
    assert_eq!(lines[7], r#"{"auth":{"enabled":true}}"#);
    assert!(lines[8].starts_with(r#"{"end":{"keys":3,"leases":1,"roles":1,"users":1,"sha256":""#));
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_told_as_that() {
    let whole = written(&records());
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;

    for end in 0..whole.len() {
        let told = refused(&whole[..end]);
        let wanted = if end < first_line - 1 { "no export" } else { "cut off behind line" };
        assert!(told.contains(wanted), "{end}: {told}");
    }
}

#[test]
fn no_byte_can_be_another_one() {
    let whole = written(&records());
    for at in 0..whole.len() {
        for other in [whole[at] ^ 1, whole[at] ^ 0x20, b' ', b'\n', 0] {
            if other == whole[at] {
                continue;
            }
            let mut changed = whole.clone();
            changed[at] = other;
            // One clear message, whichever: never a panic, never taken.
            assert!(!refused(&changed).contains('\n'), "{at} {other}");
        }
    }
}

#[test]
fn what_is_something_else_is_told_by_name() {
    let whole = String::from_utf8(written(&records())).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let without = |which: usize| {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != which);
        kept.map(|(_, line)| *line).collect::<String>()
    };
    for (what, file, told) in [
        ("nothing", String::new(), "it is no export of etcd-backup"),
        ("JSON of somebody else", "{\"version\":1}\n".to_owned(), "it is no export of etcd-backup"),
        ("no JSON", "PUT\nkey\nvalue\n".to_owned(), "it is no export of etcd-backup"),
        (
            "a later version",
            whole.replace("\"version\":1", "\"version\":2"),
            "it is an export of version 2; this release reads version 1",
        ),
        ("a key is gone", without(2), "it is damaged: what its lines say is not what was written"),
        ("a role is gone", without(5), "it is damaged: what its lines say is not what was written"),
        ("more behind it", whole.clone() + "\n", "it is damaged: something follows its last line"),
        ("a kind of the future", without(2).replace("{\"user\"", "{\"pet\""), "it is damaged: line 6"),
        (
            "two keys the other way round",
            [&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat().concat(),
            "it is damaged: line 4 has key \"a\", which is not behind the one before",
        ),
        (
            "the same key twice",
            [&lines[..3], &lines[2..]].concat().concat(),
            "it is damaged: line 4 has key \"a\", which is not behind the one before",
        ),
        ("no base64", whole.replace("YQ==", "Y?=="), "it is damaged: line 3 cannot be understood"),
    ] {
        assert!(refused(file.as_bytes()).starts_with(told), "{what}: {}", refused(file.as_bytes()));
    }
}

#[test]
fn keys_are_printed_so_that_a_terminal_survives_them() {
    assert_eq!(printable(b"/a\x1b[2J\xff"), r#""/a\x1b[2J\xff""#);
    assert!(printable(&[b'x'; 1_000]).len() < 210);
}
