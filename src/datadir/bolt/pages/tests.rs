use proptest::prelude::*;

use super::PageClass::{Free, Live, Tail};
use super::*;
use crate::datadir::bolt::write::tests::{Model, written};
use crate::datadir::fixture::{Form, PAGE, Shown, bolt_file, branch_page, leaf_page, meta_page, pairs};
use crate::datadir::source::Map;

fn survey_of(bytes: &[u8]) -> (Survey, Shown) {
    let db = Db::over(bytes).unwrap();
    let mut shown = Shown::default();
    let survey = survey(&db, &mut shown).unwrap();
    (survey, shown)
}

fn key(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn leaf(id: u64, keys: &[&str]) -> Vec<u8> {
    leaf_page(id, &keys.iter().map(|text| (0, key(text), b"v".to_vec())).collect::<Vec<_>>())
}

/// A file of headers, a list with bucket `x` whose root is page 3, and these pages from 3 on.
fn with_pages(freelist: Option<u64>, pages: Vec<Vec<u8>>) -> Vec<u8> {
    let count = 3 + pages.len() as u64;
    let list = leaf_page(2, &[(1, key("x"), [3_u64.to_le_bytes(), [0; 8]].concat())]);
    let freelist = freelist.unwrap_or(u64::MAX);
    let headers = [0, 1].map(|txid| meta_page(txid, count, txid, freelist));
    let mut file = Vec::new();
    for mut page in headers.into_iter().chain([list]).chain(pages) {
        page.resize(PAGE, 0);
        file.extend(page);
    }
    file
}

#[test]
fn each_page_is_live_free_or_tail() {
    let mut file = with_pages(
        None,
        vec![branch_page(3, &[(key("a"), 5)]), vec![1; PAGE], leaf(5, &["a", "b"]), vec![2; PAGE]],
    );
    file.extend([3; 2 * PAGE + 100]);

    let (survey, shown) = survey_of(&file);

    let classes: Vec<_> = (0..10).map(|page| survey.class(page)).collect();
    assert_eq!(classes, [Live, Live, Live, Live, Free, Live, Free, Tail, Tail, Tail]);
    assert_eq!((survey.live, survey.free, survey.tail, survey.lost), (5, 2, 2, 0));
    assert_eq!(survey.faults, vec![]);
    assert_eq!(shown.model[&key("x")].len(), 2);
    // List, branch and leaf: header, element heads, keys and values.
    assert_eq!(survey.content_bytes, (16 + 16 + 1 + 16) + (16 + 16 + 1) + (16 + 2 * 16 + 4));
}

#[test]
fn every_fault_is_told_and_the_walk_goes_on() {
    let (a, b, c) = (|id| leaf(id, &["a", "b"]), |id| leaf(id, &["c", "d"]), |id| leaf(id, &["e"]));
    let change = |mut page: Vec<u8>, at: usize, byte: u8| {
        page[at] = byte;
        page
    };
    let good = || branch_page(3, &[(key("a"), 4), (key("c"), 5), (key("e"), 6)]);
    let first = 16;
    #[rustfmt::skip]
    let cases = [
        // what                      pages from 3 on                                                             page  fault                                 keys left
        ("nothing",                  vec![good(), a(4), b(5), c(6)],                                              None,                                       5),
        ("number",                   vec![good(), a(4), change(b(5), 0, 7), c(6)],                                Some((5, PageFault::OtherId { found: 7 })), 3),
        ("kind",                     vec![good(), a(4), change(b(5), 8, 4), c(6)],                                Some((5, PageFault::OtherKind { flags: 4 })), 3),
        ("kind of two",              vec![good(), a(4), change(b(5), 8, 3), c(6)],                                Some((5, PageFault::OtherKind { flags: 3 })), 3),
        ("child out of range",       vec![branch_page(3, &[(key("a"), 4), (key("c"), 9), (key("e"), 6)]), a(4), b(5), c(6)], Some((9, PageFault::OutOfRange { pages: 7 })), 3),
        ("overflow out of range",    vec![good(), a(4), b(5), change(c(6), 12, 1)],                               Some((6, PageFault::OutOfRange { pages: 7 })), 4),
        ("overflow over another",    vec![good(), change(a(4), 12, 1), b(5), c(6)],                               Some((4, PageFault::SpareOverflow { overflow: 1, needed: 0 })), 3),
        ("spare overflow",           vec![good(), a(4), b(5), change(c(6), 12, 1), vec![0; PAGE]],                Some((6, PageFault::SpareOverflow { overflow: 1, needed: 0 })), 5),
        ("no elements",              vec![good(), a(4), change(b(5), 10, 0), c(6)],                               Some((5, PageFault::NoElements)),           3),
        ("an element less",          vec![good(), a(4), change(b(5), 10, 1), c(6)],                               Some((5, PageFault::Scattered { index: 0 })), 3),
        ("an element more",          vec![good(), a(4), change(b(5), 10, 3), c(6)],                               Some((5, PageFault::Scattered { index: 0 })), 3),
        ("place",                    vec![good(), a(4), change(b(5), first + 4, 33), c(6)],                       Some((5, PageFault::Scattered { index: 0 })), 3),
        ("key length",               vec![good(), a(4), change(b(5), first + 8, 2), c(6)],                        Some((5, PageFault::Scattered { index: 1 })), 3),
        ("empty key",                vec![good(), a(4), change(b(5), first + 8, 0), c(6)],                        Some((5, PageFault::EmptyKey { index: 0 })), 3),
        ("value length",             vec![good(), a(4), change(b(5), first + 12, 9), c(6)],                       Some((5, PageFault::Scattered { index: 1 })), 3),
        ("value out of the page",    vec![good(), a(4), change(b(5), first + 15, 9), c(6)],                       Some((5, PageFault::Element { index: 0 })), 3),
        ("order",                    vec![good(), a(4), leaf(5, &["d", "c"]), c(6)],                              Some((5, PageFault::NotSorted { index: 1 })), 3),
        ("above the next page",      vec![good(), a(4), leaf(5, &["c", "f"]), c(6)],                              Some((5, PageFault::Astray { index: 1 })),  3),
        ("below its own",            vec![good(), a(4), leaf(5, &["b", "d"]), c(6)],                              Some((5, PageFault::Astray { index: 0 })),  3),
        ("first key",                vec![good(), a(4), leaf(5, &["cc", "d"]), c(6)],                             Some((5, PageFault::OtherFirstKey)),        5),
        ("branch in disorder",       vec![branch_page(3, &[(key("c"), 5), (key("a"), 4), (key("e"), 6)]), a(4), b(5), c(6)], Some((3, PageFault::NotSorted { index: 1 })), 5),
        ("loop",                     vec![branch_page(3, &[(key("a"), 4), (key("c"), 3)]), a(4)],                 Some((3, PageFault::Repeated)),             2),
        ("twice",                    vec![branch_page(3, &[(key("a"), 4), (key("c"), 4)]), a(4)],                 Some((4, PageFault::Repeated)),             2),
        ("a header as a page",       vec![branch_page(3, &[(key("a"), 4), (key("c"), 1)]), a(4)],                 Some((1, PageFault::Repeated)),             2),
    ];
    for (what, pages, expected, keys_left) in cases {
        let (survey, shown) = survey_of(&with_pages(None, pages));
        let first = survey.faults.first().map(|fault| match &fault.what {
            Corruption::Page { page, fault, .. } => (*page, fault.clone()),
            other => panic!("{what}: {other}"),
        });
        assert_eq!(first, expected, "{what}");
        assert_eq!(shown.model[&key("x")].len(), keys_left, "{what}");
        let read_all_the_same =
            |fault| matches!(fault, PageFault::SpareOverflow { .. } | PageFault::OtherFirstKey);
        let whole = expected.is_none_or(|(_, fault)| read_all_the_same(fault));
        assert_eq!(shown.skipped > 0, !whole || keys_left < 5, "{what}");
    }
}

#[test]
fn what_is_wrong_with_the_list_of_buckets_hides_no_other_bucket() {
    let list = |x: (u32, Vec<u8>)| {
        let list =
            leaf_page(2, &[(1, key("a"), [3_u64.to_le_bytes(), [0; 8]].concat()), (x.0, key("x"), x.1)]);
        let headers = [0, 1].map(|txid| meta_page(txid, 4, txid, u64::MAX));
        let mut file = Vec::new();
        for mut page in headers.into_iter().chain([list, leaf(3, &["k"])]) {
            page.resize(PAGE, 0);
            file.extend(page);
        }
        file
    };
    let inline = |flags: u8| {
        let mut image = leaf(0, &["k"]);
        image[8] = flags;
        [vec![0; 16], image].concat()
    };
    #[rustfmt::skip]
    let cases = [
        ((1, inline(2)),                                          None),
        ((0, inline(2)),                                          Some((2, PageFault::NotABucket))),
        ((1, vec![1, 2]),                                         Some((2, PageFault::NotABucket))),
        ((1, vec![0; 20]),                                        Some((2, PageFault::NotABucket))),
        ((1, inline(1)),                                          Some((2, PageFault::OtherKind { flags: 1 }))),
        ((1, [9_u64.to_le_bytes(), [0; 8]].concat()),             Some((9, PageFault::OutOfRange { pages: 4 }))),
        ((1, [3_u64.to_le_bytes(), [0; 8]].concat()),             Some((3, PageFault::Repeated))),
    ];
    for (index, (x, expected)) in cases.into_iter().enumerate() {
        let (survey, shown) = survey_of(&list(x));
        let first = survey.faults.first().map(|fault| match &fault.what {
            Corruption::Page { page, fault, .. } => (*page, fault.clone()),
            other => panic!("{other}"),
        });
        assert_eq!(first, expected, "case {index}");
        assert_eq!(shown.model[&key("a")].len(), 1, "case {index}");
    }
}

#[test]
fn buckets_within_buckets_are_named_and_end() {
    // A bucket in a bucket in a bucket …, each a page image in the one around it.
    let mut inner = [vec![0; 16], leaf(0, &["k"])].concat();
    for _ in 0..100 {
        inner = [vec![0; 16], leaf_page(0, &[(1, key("n"), inner)])].concat();
    }
    let mut page = leaf_page(3, &[(1, key("n"), inner)]);
    page[12..16].copy_from_slice(&1_u32.to_le_bytes());
    assert!(page.len() < 2 * PAGE);
    page.resize(2 * PAGE, 0);
    let second = page.split_off(PAGE);
    let (survey, shown) = survey_of(&with_pages(None, vec![page, second]));

    assert_eq!(shown.nested, [key("n")]);
    let faults: Vec<_> = survey.faults.iter().map(|fault| fault.what.to_string()).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("too deep"), "{faults:?}");
}

#[test]
fn a_list_of_free_pages_must_have_all_of_them_and_no_other() {
    let list = |count: u16, numbers: &[u64]| {
        let mut page =
            [&4_u64.to_le_bytes()[..], &0x10_u16.to_le_bytes(), &count.to_le_bytes(), &[0; 4]].concat();
        page.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        page
    };
    let fault = |page, fault| Some(PageFault::FalselyFree { page, fault });
    #[rustfmt::skip]
    let cases = [
        // pages 5 and 6 are free                lost  fault
        (list(2, &[5, 6]),                       0,    None),
        (list(0xFFFF, &[2, 5, 6]),               0,    None),
        (list(1, &[6]),                          1,    None),
        (list(0, &[]),                           2,    None),
        (list(3, &[3, 5, 6]),                    0,    fault(3, "is in use")),
        (list(3, &[4, 5, 6]),                    0,    fault(4, "is in use")),
        (list(3, &[5, 5, 6]),                    0,    fault(5, "is in the list already")),
        (list(3, &[5, 6, 7]),                    0,    fault(7, "lies beyond the pages in use")),
        (list(3, &[1, 5, 6]),                    0,    fault(1, "is a header")),
        (list(600, &[]),                         0,    Some(PageFault::Element { index: 510 })),
        (list(0xFFFF, &[u64::MAX]),              0,    Some(PageFault::Element { index: 510 })),
        (leaf(4, &["a"]),                        0,    Some(PageFault::NotAFreelist { flags: 2 })),
    ];
    for (index, (list, lost, expected)) in cases.into_iter().enumerate() {
        let file = with_pages(Some(4), vec![leaf(3, &["k"]), list, vec![1; PAGE], vec![1; PAGE]]);
        let (survey, _) = survey_of(&file);
        let faults: Vec<_> = survey.faults.iter().map(|fault| &fault.what).collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|fault| Corruption::Page { page: 4, offset: 4 * PAGE as u64, fault })
            .collect();
        assert_eq!(faults, expected.iter().collect::<Vec<_>>(), "case {index}");
        assert_eq!(survey.lost, lost, "case {index}");
        assert_eq!(survey.class(4), PageClass::Live, "case {index}");
    }
}

fn walk_all(bytes: &[u8]) {
    let Ok(db) = Db::over(bytes) else { return };
    let survey = survey(&db, &mut Shown::default()).unwrap();
    assert_eq!(survey.live + survey.free, db.meta().pages);
    assert!(survey.faults.len() <= FAULTS_MAX);
}

fn large() -> Vec<u8> {
    let entries = (0..3000_u32).map(|number| (number.to_be_bytes().to_vec(), vec![7; 30])).collect();
    let small = [(b"k".to_vec(), vec![1; 6000])].into();
    let file = written(&Model::from([(key("a"), entries), (key("b"), small)]), 1024);
    Map::of(&file).unwrap().as_slice().to_vec()
}

proptest! {
    #[test]
    fn changed_files_never_panic_and_are_walked_to_the_end(
        changes in proptest::collection::vec((0..150_usize, 0..80_usize, any::<u8>()), 1..30),
        swapped in proptest::option::of((2..150_usize, 2..150_usize)),
    ) {
        let mut file = large();
        let pages = file.len() / 1024;
        for (page, at, byte) in changes {
            // Behind the headers: those have a checksum.
            file[(2 + page % (pages - 2)) * 1024 + at] = byte;
        }
        if let Some((one, other)) = swapped {
            let (one, other) = (one % pages * 1024, other % pages * 1024);
            let kept = file[one..one + 1024].to_vec();
            file.copy_within(other..other + 1024, one);
            file[other..other + 1024].copy_from_slice(&kept);
        }
        walk_all(&file);
    }

    #[test]
    fn small_files_of_any_bytes_behind_valid_headers_never_panic(
        pages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..6),
        kinds in proptest::collection::vec(0..3_u8, 6),
    ) {
        let pages = pages.into_iter().zip(kinds).enumerate().map(|(index, (mut page, kind))| {
            page.resize(page.len().max(16), 0);
            page[..8].copy_from_slice(&(3 + index as u64).to_le_bytes());
            let count = page[10] % 5;
            page[8..16].copy_from_slice(&[kind, 0, count, 0, 0, 0, 0, 0]);
            page
        });
        walk_all(&with_pages(None, pages.collect()));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        walk_all(&bytes);
    }
}

#[test]
fn both_kinds_of_file_are_walked_alike() {
    let bytes = bolt_file(&[
        ("a", Form::Inline, pairs(&[("k", "v")])),
        ("b", Form::Branch(2), pairs(&[("a", ""), ("b", ""), ("c", "")])),
    ]);
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    let mut shown = Shown::default();

    let survey = survey(&Db::open(file).unwrap(), &mut shown).unwrap();

    let (mapped, shown_mapped) = survey_of(&bytes);
    assert_eq!(
        (survey.live, survey.content_bytes, survey.faults),
        (mapped.live, mapped.content_bytes, vec![])
    );
    assert_eq!(shown.model, shown_mapped.model);
    assert_eq!(shown.bytes, 4 * PAGE as u64);
}
