//! A log in a few lines.

use super::super::super::raft::request::Request;
use super::super::super::raft::{ChangeKind, ConfChange};
use super::*;

fn summary(files: &[&[(u64, u64)]]) -> Summary {
    let directory = tempfile::tempdir().unwrap();
    summarise(&log_of(directory.path(), files)).unwrap()
}

#[test]
fn first_and_last_entry_count_what_is_left_of_the_log() {
    let id = |term, index| Some(EntryId { term, index });
    let whole = summary(&[&[(1, 1), (1, 2), (1, 3), (2, 2)], &[(2, 3)]]);
    assert_eq!((whole.owner, whole.first, whole.last, whole.entries), (Some(OWNER), id(1, 1), id(2, 3), 3));
    assert_eq!(whole.state, HardState { term: 2, vote: 1, commit: 3 });
    assert_eq!(whole.gap, None);

    let gap = summary(&[&[(1, 5), (1, 6), (1, 9), (1, 10)]]);
    assert_eq!(gap.gap_after(7).map(|gap| (gap.last, gap.found)), Some((6, 9)));
    assert_eq!(gap.gap_after(8), None, "the snapshot has what is missing");

    assert_eq!(summary(&[]).tail, Tail::Empty);
}

#[test]
fn the_snapshots_that_count_are_agreed_on() {
    let directory = tempfile::tempdir().unwrap();
    let mark = |index| SnapshotMark { id: EntryId { term: 1, index }, conf_state: None };
    let mut records = Records::after(0);
    for index in [0, 3, 6] {
        records.snapshot(&mark(index));
    }
    records.state(HardState { term: 1, vote: 0, commit: 5 });
    put(directory.path(), Segment { sequence: 0, first_index: 0 }, records.as_bytes());

    let summary = summarise(&Log::open(directory.path()).unwrap()).unwrap();

    assert_eq!(summary.snapshots, [mark(0), mark(3)]);
    assert_eq!(summary.newest_snapshot(), Some(&mark(3)));
}

#[test]
fn changes_of_the_cluster_are_kept_unless_they_were_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = restored_members().try_into().unwrap();
    let add = |member: &StoredMember| ConfChange::founding(member);
    // As 3.5 publishes itself, and as 3.6 does.
    let v2 =
        request(2, &[text(3, "/0/members/a1/attributes"), text(4, r#"{"name":"x","clientURLs":["u"]}"#)]);
    let v3 = request(1301, &[number(1, 0xa1), message(2, &[text(1, "y")])]);
    let version = request(1300, &[text(1, "3.6.0")]);
    let mut records = Records::after(0);
    records.owner(OWNER);
    let mut entry = |kind, term, index, data: &[u8]| {
        records.entry(&Entry { kind, id: EntryId { term, index }, data });
    };
    entry(EntryKind::ConfChange, 1, 1, &add(&one));
    entry(EntryKind::Normal, 1, 2, &v2);
    entry(EntryKind::ConfChange, 1, 3, &add(&two));
    entry(EntryKind::Normal, 2, 3, &version);
    entry(EntryKind::Normal, 2, 4, &v3);
    records.state(HardState { term: 2, vote: 0, commit: 3 });
    put(directory.path(), Segment { sequence: 0, first_index: 0 }, records.as_bytes());

    let summary = summarise(&Log::open(directory.path()).unwrap()).unwrap();

    let published = |name: &str, urls: &[&str]| {
        What::Request(Request::Published {
            member_id: MemberId(0xa1),
            name: name.to_owned(),
            client_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        })
    };
    let added = ConfChange { kind: ChangeKind::Add, member_id: one.member_id(), member: Some(one) };
    let expected = [
        (1, What::Membership(added)),
        (2, published("x", &["u"])),
        (3, What::Request(Request::ClusterVersion("3.6.0".to_owned()))),
        (4, published("y", &[])),
    ];
    let found: Vec<_> = summary.changes.iter().map(|change| (change.id.index, change.what.clone())).collect();
    assert_eq!(found, expected);
    assert_eq!(summary.committed().count(), 3);
}

#[test]
fn an_entry_that_cannot_be_decoded_ends_etcd() {
    let directory = tempfile::tempdir().unwrap();
    let mut records = Records::after(0);
    records.owner(OWNER);
    let id = EntryId { term: 1, index: 1 };
    records.entry(&Entry { kind: EntryKind::Normal, id, data: &[0x12, 0xff] });
    put(directory.path(), Segment { sequence: 0, first_index: 0 }, records.as_bytes());

    let summary = summarise(&Log::open(directory.path()).unwrap()).unwrap();

    assert!(matches!(summary.tail, Tail::Broken { why: Fault::Malformed { .. }, .. }), "{:?}", summary.tail);
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f | 0x80).to_le_bytes()[0]);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}

fn number(field: u64, number: u64) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

fn message(field: u64, fields: &[Vec<u8>]) -> Vec<u8> {
    let content = fields.concat();
    [varint(field << 3 | 2), varint(content.len() as u64), content].concat()
}

fn text(field: u64, text: &str) -> Vec<u8> {
    message(field, &[text.as_bytes().to_vec()])
}

/// A request with its number and header, as etcd writes them.
fn request(field: u64, fields: &[Vec<u8>]) -> Vec<u8> {
    [number(1, 77), message(field, fields), message(100, &[number(1, 77)])].concat()
}
