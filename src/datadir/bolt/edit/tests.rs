use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::super::write::tests::{Model, entries, page_size, read, written};
use super::*;
use crate::datadir::fixture::{Form, bolt_file, pairs};

#[derive(Debug, Clone)]
enum Step {
    Replace(Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>),
    Append(Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>),
    Commit,
}

fn put_all(filling: &mut Filling<'_>, entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), WriteError> {
    entries.iter().try_for_each(|(key, value)| filling.put(key, value))
}

/// What lies behind the last key of a bucket stays in order when each key has it in front.
fn behind(model: &Model, bucket: &[u8], entries: BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let last = model.get(bucket).and_then(|entries| entries.keys().next_back());
    let front: Vec<u8> = last.map_or(vec![], |last| vec![last[0].saturating_add(1); 1]);
    let fits = |key: &Vec<u8>| last.is_none_or(|last| key > last);
    entries
        .into_iter()
        .map(|(key, value)| ([front.clone(), key].concat(), value))
        .filter(|(key, _)| fits(key))
        .collect()
}

fn file_of(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    file
}

#[test]
fn buckets_that_are_page_images_are_kept_appended_to_and_replaced() {
    let small = pairs(&[("a", "1"), ("b", "2")]);
    let file = bolt_file(&[
        ("kept", Form::Inline, small.clone()),
        ("more", Form::Inline, small.clone()),
        ("new", Form::Inline, small),
    ]);
    let mut edit = Edit::begin(file_of(&file)).unwrap();

    edit.append(b"more", |bucket| bucket.put(b"c", b"3")).unwrap();
    edit.append(b"more", |bucket| bucket.put(b"d", b"4")).unwrap();
    edit.replace(b"new", |bucket| bucket.put(b"z", b"5")).unwrap();
    let refused = edit.append(b"more", |bucket| bucket.put(b"d", b"4")).unwrap_err();
    let file = edit.commit().unwrap();

    assert_eq!(refused.to_string(), "key 'd' comes after 'd', and is not greater");
    let of = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    };
    let expected = Model::from([
        (b"kept".to_vec(), of(&[("a", "1"), ("b", "2")])),
        (b"more".to_vec(), of(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")])),
        (b"new".to_vec(), of(&[("z", "5")])),
    ]);
    assert_eq!(read(&file).0, expected);
}

#[test]
fn both_headers_say_the_same_and_the_file_ends_where_they_say() {
    let file = written(&Model::new(), 4096);
    file.set_len(1 << 20).unwrap();
    let before = Db::over(&file).unwrap().meta();
    let mut edit = Edit::begin(file).unwrap();
    edit.replace(b"x", |bucket| bucket.put(b"k", b"v")).unwrap();

    let file = edit.commit().unwrap();

    let db = Db::over(&file).unwrap();
    let [Some(first), Some(second)] = db.headers().0 else { panic!("{:?}", db.headers()) };
    assert_eq!(
        (first.txid.min(second.txid), first.txid.max(second.txid)),
        (before.txid + 1, before.txid + 2)
    );
    assert_eq!(Meta { txid: 0, ..first }, Meta { txid: 0, ..second });
    assert_eq!(file.metadata().unwrap().len(), first.pages * 4096);
}

#[test]
fn an_edit_that_is_not_committed_leaves_the_file_as_it_was() {
    let model = Model::from([(b"x".to_vec(), BTreeMap::from([(b"k".to_vec(), b"v".to_vec())]))]);
    let file = written(&model, 4096);
    let mut edit = Edit::begin(file.try_clone().unwrap()).unwrap();
    edit.replace(b"x", |bucket| bucket.put(b"other", &[1; 10_000])).unwrap();
    edit.append(b"x", |bucket| bucket.put(b"p", b"")).unwrap();
    drop(edit);

    assert_eq!(read(&file).0, model);
}

#[test]
fn a_broken_list_of_buckets_is_not_written_on() {
    let mut file = bolt_file(&[("x", Form::Leaf, pairs(&[("k", "v")]))]);
    file[2 * 4096 + 16] = 0;
    assert!(matches!(Edit::begin(file_of(&file)), Err(WriteError::Read(Error::Corrupt(_)))));
}

#[test]
fn millions_of_entries_behind_a_bucket_cost_a_few_pages_of_memory_each_level() {
    let file = written(&Model::new(), 4096);
    let mut edit = Edit::begin(file).unwrap();
    for half in 0..2_u64 {
        edit.append(b"key", |bucket| {
            (0..100_000_u64).try_for_each(|number| bucket.put(&(half << 32 | number).to_be_bytes(), &[7; 30]))
        })
        .unwrap();
    }
    let (model, survey) = read(&edit.commit().unwrap());
    assert_eq!(model[b"key".as_slice()].len(), 200_000);
    assert_eq!(survey.faults, vec![]);
    // The old headers, list and the rightmost pages of the first half.
    assert!(survey.free < 10, "{survey:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn edits_give_what_a_map_would(
        model in btree_map(vec(any::<u8>(), 1..3), entries(0..60), 0..4),
        steps in vec(prop_oneof![
            4 => (vec(0..4_u8, 1..2), entries(0..60)).prop_map(|(name, entries)| Step::Append(name, entries)),
            2 => (vec(0..4_u8, 1..2), entries(0..60)).prop_map(|(name, entries)| Step::Replace(name, entries)),
            1 => Just(Step::Commit),
        ], 0..8),
        page_size in page_size(),
    ) {
        let mut model = model;
        let mut edit = Edit::begin(written(&model, page_size)).unwrap();
        for step in steps {
            match step {
                Step::Replace(name, entries) => {
                    edit.replace(&name, |bucket| put_all(bucket, &entries)).unwrap();
                    model.insert(name, entries);
                }
                Step::Append(name, entries) => {
                    let entries = behind(&model, &name, entries);
                    edit.append(&name, |bucket| put_all(bucket, &entries)).unwrap();
                    model.entry(name).or_default().extend(entries);
                }
                Step::Commit => edit = Edit::begin(edit.commit().unwrap()).unwrap(),
            }
        }
        let (found, survey) = read(&edit.commit().unwrap());
        prop_assert_eq!(found, model);
        prop_assert_eq!(survey.faults, vec![]);
        prop_assert_eq!(survey.tail, 0);
    }
}
