use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::super::pages::{Survey, survey};
use super::super::{Db, Place};
use super::*;
use crate::datadir::fixture::Shown;
use crate::datadir::source::Map;

pub(in crate::datadir::bolt) type Model = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

pub(in crate::datadir::bolt) fn written(model: &Model, page_size: u32) -> File {
    let mut writer = Writer::new(tempfile::tempfile().unwrap(), page_size).unwrap();
    for (name, entries) in model {
        writer
            .bucket(name, |bucket| entries.iter().try_for_each(|(key, value)| bucket.put(key, value)))
            .unwrap();
    }
    writer.finish().unwrap()
}

/// Everything in a file, read in every way there is; all ways must agree.
pub(in crate::datadir::bolt) fn read(file: &File) -> (Model, Survey) {
    let map = Map::of(file).unwrap();
    let db = Db::over(&map).unwrap();
    let mut shown = Shown::default();
    let survey = survey(&db, &mut shown).unwrap();
    let mut model = Model::new();
    for (name, bucket) in db.buckets().unwrap() {
        let mut entries = Vec::new();
        let _ = bucket
            .visit::<()>(&mut |key, value, Place { page, offset }| {
                assert!(survey.class(page) == super::super::pages::PageClass::Live);
                let at = usize::try_from(offset).unwrap();
                assert_eq!(&map.as_slice()[at..at + key.len()], key);
                entries.push((key.to_vec(), value.to_vec()));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(bucket.is_empty().unwrap(), entries.is_empty());
        assert_eq!(bucket.first().unwrap().as_ref(), entries.first());
        assert_eq!(bucket.last().unwrap().as_ref(), entries.last());
        assert_eq!(bucket.entries(usize::MAX).unwrap(), entries);
        let by_read = Db::open(file.try_clone().unwrap()).unwrap();
        let by_read = by_read.bucket(&name).unwrap().unwrap();
        for (key, value) in entries.iter().step_by(1 + entries.len() / 10) {
            assert_eq!(bucket.get(key).unwrap().as_ref(), Some(value));
            assert_eq!(by_read.get(key).unwrap().as_ref(), Some(value));
        }
        model.insert(name, entries.into_iter().collect());
    }
    assert_eq!(shown.model, model);
    (model, survey)
}

pub(in crate::datadir::bolt) fn entries(
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    // Keys and values of all sizes around a page, few of them large.
    let key = prop_oneof![9 => Just(0_usize), 1 => 1..1500_usize];
    let key = (vec(any::<u8>(), 1..20), key).prop_map(|(key, more)| [key, vec![1; more]].concat());
    let value = prop_oneof![8 => 0..60_usize, 1 => 0..9000_usize];
    let value = (any::<u8>(), value).prop_map(|(byte, length)| vec![byte; length]);
    btree_map(key, value, count)
}

pub(in crate::datadir::bolt) fn page_size() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![1024, 4096, 16384])
}

#[test]
fn a_file_without_buckets_and_an_empty_bucket_are_read_as_such() {
    let (model, survey) = read(&written(&Model::new(), 4096));
    assert_eq!((model.len(), survey.live, survey.free), (0, 3, 0));

    let model = Model::from([(b"x".to_vec(), BTreeMap::new())]);
    assert_eq!(read(&written(&model, 4096)).0, model);
}

type Pair<'a> = (&'a [u8], &'a [u8]);

#[test]
fn what_bbolt_would_refuse_is_refused() {
    let mut writer = Writer::new(tempfile::tempfile().unwrap(), 4096).unwrap();
    let key = vec![1; 32769];
    #[rustfmt::skip]
    let cases: [(&[Pair], &str); 4] = [
        (&[(b"b", b""), (b"a", b"")], "key 'a' comes after 'b', and is not greater"),
        (&[(b"b", b""), (b"b", b"")], "key 'b' comes after 'b', and is not greater"),
        (&[(b"", b"")],               "an entry cannot have a key of 0 bytes and a value of 0"),
        (&[(&key, b"x")],             "an entry cannot have a key of 32769 bytes and a value of 1"),
    ];
    for (entries, expected) in cases {
        let found =
            writer.bucket(b"x", |bucket| entries.iter().try_for_each(|(key, value)| bucket.put(key, value)));
        assert_eq!(found.unwrap_err().to_string(), expected);
    }
    assert!(matches!(Writer::new(tempfile::tempfile().unwrap(), 3000), Err(WriteError::PageSize(3000))));
}

#[test]
fn a_large_bucket_has_branches_of_two_children_at_least_and_full_pages() {
    let entries: BTreeMap<_, _> =
        (0..50_000_u64).map(|number| (number.to_be_bytes().to_vec(), vec![7; 20])).collect();
    let model = Model::from([(b"key".to_vec(), entries)]);

    let (found, survey) = read(&written(&model, 4096));

    assert_eq!(found, model);
    assert_eq!((survey.free, survey.tail, &survey.faults), (0, 0, &vec![]));
    assert!(survey.content_bytes * 100 / (survey.live * 4096) > 95, "{survey:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_written_is_read(
        model in btree_map(vec(any::<u8>(), 1..20), entries(0..120), 0..6),
        page_size in page_size(),
    ) {
        let file = written(&model, page_size);
        let (found, survey) = read(&file);
        prop_assert_eq!(found, model);
        prop_assert_eq!(survey.faults, vec![]);
        prop_assert_eq!((survey.free, survey.tail), (0, 0));
    }
}
