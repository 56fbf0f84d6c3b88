use proptest::prelude::*;
use prost::Message;

use super::*;

#[derive(Clone, PartialEq, Message)]
struct Written {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    created: i64,
    #[prost(int64, tag = "3")]
    modified: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
    #[prost(int64, tag = "6")]
    lease: i64,
}

fn name(main: i64, sub: i64) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes()].concat()
}

fn put(main: i64, sub: i64) -> (Vec<u8>, Vec<u8>) {
    (name(main, sub), content(main, main, 1))
}

fn content(created: i64, modified: i64, version: i64) -> Vec<u8> {
    Written { key: b"k".to_vec(), created, modified, version, value: b"v".to_vec(), lease: 0 }.encode_to_vec()
}

fn delete(main: i64, sub: i64) -> (Vec<u8>, Vec<u8>) {
    let value = Written { key: b"k".to_vec(), ..Written::default() };
    ([name(main, sub), b"t".to_vec()].concat(), value.encode_to_vec())
}

/// The faults of these records, in a store that is compacted up to a revision.
fn faults(compacted: i64, records: &[(Vec<u8>, Vec<u8>)]) -> Vec<String> {
    let mut keys = Keys::new(Some(compacted));
    records
        .iter()
        .filter_map(|(name, value)| keys.record(name, value).err())
        .map(|fault| fault.to_string())
        .collect()
}

#[test]
fn above_the_compaction_no_revision_is_missing() {
    #[rustfmt::skip]
    let cases = [
        // compacted  records                                                faults
        (0,           vec![],                                                None),
        (0,           vec![put(2, 0), put(3, 0), delete(3, 1), put(4, 0)],   None),
        (5,           vec![put(2, 3), put(4, 0), put(6, 0), delete(7, 0)],   None),
        (5,           vec![put(6, 0)],                                       None),
        (5,           vec![put(2, 0), put(5, 7)],                            None),
        (0,           vec![put(3, 0)],                                       Some("after revision 1.0 comes 3.0: the changes in between are missing")),
        (5,           vec![put(2, 0), put(7, 0)],                            Some("after revision 5.0 comes 7.0: the changes in between are missing")),
        (0,           vec![put(2, 0), put(4, 0)],                            Some("after revision 2.0 comes 4.0: the changes in between are missing")),
        (0,           vec![put(2, 0), put(2, 2)],                            Some("after revision 2.0 comes 2.2: the changes in between are missing")),
        (0,           vec![put(2, 1)],                                       Some("the first change of transaction 2 that is there is number 1, not 0")),
        (0,           vec![put(2, 0), put(3, 1)],                            Some("the first change of transaction 3 that is there is number 1, not 0")),
        (0,           vec![put(2, 0), delete(2, 0)],                         Some("there are two records of revision 2.0")),
        (9,           vec![put(0, 0)],                                       Some("revision 0.0 is below 1, which etcd does not read")),
    ];
    for (index, (compacted, records, expected)) in cases.into_iter().enumerate() {
        let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(faults(compacted, &records), expected, "case {index}");
    }
}

#[test]
fn what_is_missing_because_of_a_broken_page_is_not_told_again() {
    let mut keys = Keys::new(Some(0));
    let record = |keys: &mut Keys, (name, value): (Vec<u8>, Vec<u8>)| keys.record(&name, &value).is_ok();
    assert!(record(&mut keys, put(2, 0)));
    keys.skipped();
    assert!(record(&mut keys, put(9, 4)));
    assert!(record(&mut keys, put(9, 5)));
    assert!(!record(&mut keys, put(11, 0)));
}

#[test]
fn nobody_knows_of_a_gap_who_does_not_know_the_compaction() {
    let mut keys = Keys::new(None);
    for (name, value) in [put(7, 1), put(9, 0)] {
        assert!(keys.record(&name, &value).is_ok());
    }
}

#[test]
fn a_record_must_be_as_etcd_writes_it() {
    let negative = [&(-1_i64).to_be_bytes()[..], b"_", &0_i64.to_be_bytes()].concat();
    let unordered = [&content(2, 2, 1)[3..], &content(2, 2, 1)[..3]].concat();
    let unknown = [content(2, 2, 1), vec![0x38, 1]].concat();
    #[rustfmt::skip]
    let cases = [
        // name                                   value                        fault
        (name(2, 0),                              content(2, 2, 1),            None),
        (name(2, 0)[..16].to_vec(),               content(2, 2, 1),            Some("the name of a record is no revision: 16 bytes")),
        ([name(2, 0), b"x".to_vec()].concat(),    content(2, 2, 1),            Some("the name of a record is no revision: 18 bytes")),
        ([name(2, 0), b"tt".to_vec()].concat(),   content(2, 2, 1),            Some("the name of a record is no revision: 19 bytes")),
        (negative,                                content(2, 2, 1),            Some("the name of a record is no revision: 17 bytes")),
        (name(2, 0),                              vec![0x0a, 5],               Some("revision 2.0 cannot be decoded: it ends in the middle of a field")),
        (name(2, 0),                              vec![0x08, 5],               Some("revision 2.0 cannot be decoded: it has a field of a wrong form")),
        (name(2, 0),                              unordered,                   Some("revision 2.0 has a field that etcd does not write, or fields in another order")),
        (name(2, 0),                              unknown,                     Some("revision 2.0 has a field that etcd does not write, or fields in another order")),
        (name(2, 0),                              vec![0x10, 2],               Some("revision 2.0 has no key")),
        (delete(2, 0).0,                          vec![],                      Some("revision 2.0 has no key")),
        (name(2, 0),                              vec![],                      Some("revision 2.0 has no content, above the last compaction")),
        (name(2, 0),                              content(2, 3, 1),            Some("revision 2.0 says it was made by transaction 3")),
        (name(2, 0),                              content(3, 2, 1),            Some("revision 2.0 says its key was created at 3 and has version 1, which cannot be")),
        (name(2, 0),                              content(0, 2, 1),            Some("revision 2.0 says its key was created at 0 and has version 1, which cannot be")),
        (name(2, 0),                              content(2, 2, 0),            Some("revision 2.0 says its key was created at 2 and has version 0, which cannot be")),
        (name(2, 0),                              content(2, 2, 2),            Some("revision 2.0 says its key was created at 2 and has version 2, which cannot be")),
    ];
    for (index, (name, value, expected)) in cases.into_iter().enumerate() {
        let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(faults(0, &[(name, value)]), expected, "case {index}");
    }
}

/// A restore that raises the revision leaves a record without content, and all before it compacted.
#[test]
fn a_raised_revision_is_legal() {
    let raised = (name(1_000_000, 0), vec![]);
    assert_eq!(faults(1_000_000, &[put(2, 0), raised.clone(), put(1_000_001, 0)]), Vec::<String>::new());
    assert_eq!(faults(0, &[put(2, 0), raised]).len(), 1);
}

#[test]
fn a_record_tells_its_key_and_lease() {
    let value = Written { key: b"k".to_vec(), created: 2, modified: 2, version: 1, value: vec![], lease: 7 };
    let mut keys = Keys::new(Some(0));
    let seen = keys.record(&name(2, 0), &value.encode_to_vec()).map(|seen| (seen.key.to_vec(), seen.lease));
    assert_eq!(seen, Ok((b"k".to_vec(), 7)));
}

proptest! {
    #[test]
    fn any_bytes_are_judged(records in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), proptest::collection::vec(any::<u8>(), 0..40)), 0..20)) {
        faults(3, &records);
    }

    #[test]
    fn what_etcd_writes_is_fine(changes in proptest::collection::vec(1..4_i64, 0..30), compacted in 0..40_i64) {
        let mut records = Vec::new();
        for (main, subs) in (2..).zip(changes) {
            for sub in 0..subs {
                records.push(if sub == 2 { delete(main, sub) } else { put(main, sub) });
            }
        }
        // A compaction leaves some of the older ones.
        records.retain(|(name, _)| Revision::of(name).is_some_and(|revision| revision.main > compacted || revision.sub == 1));
        prop_assert_eq!(faults(compacted, &records), Vec::<String>::new());
    }
}
