use std::io::{Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::super::fixture::{Form, PAGE, bolt_file, branch_page, leaf_page, meta_page, pairs};
use super::*;

fn open(bytes: &[u8]) -> Result<Db, Error> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    Db::open(file)
}

fn numbered(count: usize) -> Vec<Entry> {
    (0..count)
        .map(|number| (format!("{number:04}").into_bytes(), format!("v{number}").into_bytes()))
        .collect()
}

fn corruption<T: std::fmt::Debug>(result: Result<T, Error>) -> Corruption {
    match result.unwrap_err() {
        Error::Corrupt(corruption) => corruption,
        Error::Io(error) => panic!("{error}"),
    }
}

#[test]
fn buckets_of_every_form_give_their_keys_in_order() {
    for form in [Form::Inline, Form::Leaf, Form::Branch(2), Form::Branch(7), Form::Branch(100)] {
        let db = open(&bolt_file(&[("before", Form::Inline, vec![]), ("x", form, numbered(100))])).unwrap();

        let bucket = db.bucket(b"x").unwrap().unwrap();

        assert_eq!(bucket.entries(1000).unwrap(), numbered(100), "{form:?}");
        assert_eq!(bucket.entries(13).unwrap(), numbered(13), "{form:?}");
        assert_eq!(bucket.get(b"0042").unwrap(), Some(b"v42".to_vec()), "{form:?}");
        assert_eq!(bucket.get(b"00425").unwrap(), None, "{form:?}");
        assert_eq!(bucket.get(b"").unwrap(), None, "{form:?}");
        assert!(!bucket.is_empty().unwrap(), "{form:?}");
        assert!(db.bucket(b"y").unwrap().is_none());
        assert!(db.bucket(b"before").unwrap().unwrap().is_empty().unwrap());
        assert!(db.bucket(b"before").unwrap().unwrap().entries(1).unwrap().is_empty());
    }
}

#[test]
fn a_value_that_needs_overflow_pages_is_read_whole() {
    let large = vec![9; 3 * PAGE];
    let db = open(&bolt_file(&[("x", Form::Leaf, vec![(b"k".to_vec(), large.clone())])])).unwrap();
    assert_eq!(db.bucket(b"x").unwrap().unwrap().get(b"k").unwrap(), Some(large));
}

#[test]
fn the_valid_header_with_the_higher_transaction_is_in_force() {
    let file = bolt_file(&[("x", Form::Inline, pairs(&[("k", "v")]))]);
    let torn = |page: usize| {
        let mut file = file.clone();
        file[page * PAGE + 40] ^= 1;
        open(&file).map(|db| db.meta().txid)
    };
    assert_eq!(open(&file).unwrap().meta().txid, 1);
    assert_eq!(torn(0).unwrap(), 1, "found by trying page sizes");
    assert_eq!(torn(1).unwrap(), 0);

    let mut both = file.clone();
    both[40] ^= 1;
    both[PAGE + 40] ^= 1;
    assert_eq!(corruption(open(&both)), Corruption::NoMeta { len: both.len() as u64 });
    assert_eq!(corruption(open(b"")), Corruption::NoMeta { len: 0 });
}

#[test]
fn a_file_that_was_cut_short_says_where() {
    let file = bolt_file(&[("x", Form::Leaf, pairs(&[("k", "v")]))]);
    let found = corruption(open(&file[..3 * PAGE]));
    assert_eq!(found, Corruption::Truncated { len: 12288, pages: 4, page_size: 4096 });
    insta::assert_snapshot!(found, @"the file ends at byte 12288, but its header counts 4 pages of 4096 bytes");
}

/// A file of headers, a list with bucket `x` whose root is page 3, and these pages from 3 on.
fn with_pages(pages: Vec<Vec<u8>>) -> Db {
    let mut file = Vec::new();
    let count = 3 + pages.len() as u64;
    let root = leaf_page(2, &[(1, b"x".to_vec(), [3_u64.to_le_bytes(), [0; 8]].concat())]);
    for mut page in
        [vec![meta_page(0, count, 0, u64::MAX), meta_page(1, count, 1, u64::MAX), root], pages].concat()
    {
        page.resize(PAGE, 0);
        file.extend(page);
    }
    open(&file).unwrap()
}

#[test]
fn damaged_pages_are_typed_errors_with_page_and_offset() {
    let key = |text: &str| text.as_bytes().to_vec();
    let leaf = |id, text: &str| leaf_page(id, &[(0, key(text), vec![])]);
    let mut huge = leaf(3, "a");
    huge[12..16].copy_from_slice(&9_u32.to_le_bytes());
    let mut outside = leaf(3, "a");
    outside[16 + 12..16 + 16].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut other_kind = leaf(3, "a");
    other_kind[8] = 0x10;
    #[rustfmt::skip]
    let cases = [
        // pages from 3 on                                                         page  fault
        (vec![leaf(4, "a")],                                                         3, PageFault::OtherId { found: 4 }),
        (vec![other_kind],                                                           3, PageFault::OtherKind { flags: 0x10 }),
        (vec![huge],                                                                 3, PageFault::OutOfRange { pages: 4 }),
        (vec![outside],                                                              3, PageFault::Element { index: 0 }),
        (vec![branch_page(3, &[])],                                                  3, PageFault::NoElements),
        (vec![branch_page(3, &[(key("a"), 9)])],                                     9, PageFault::OutOfRange { pages: 4 }),
        (vec![branch_page(3, &[(key("a"), 3)])],                                     3, PageFault::TooDeep),
        (vec![branch_page(3, &[(key("a"), 4), (key("b"), 4)]), leaf(4, "a")],        4, PageFault::Astray { index: 0 }),
        (vec![branch_page(3, &[(key("a"), 4)]), leaf_page(4, &[])],                  4, PageFault::NoElements),
        (vec![leaf_page(3, &[(0, key("b"), vec![]), (0, key("a"), vec![])])],        3, PageFault::NotSorted { index: 1 }),
    ];
    for (index, (pages, page, fault)) in cases.into_iter().enumerate() {
        let db = with_pages(pages);
        let found = corruption(db.bucket(b"x").unwrap().unwrap().entries(10));
        assert_eq!(found, Corruption::Page { page, offset: page * PAGE as u64, fault }, "case {index}");
    }
}

#[test]
fn a_loop_of_pages_ends_for_a_single_key_too() {
    let db = with_pages(vec![branch_page(3, &[(b"a".to_vec(), 3)])]);
    let found = corruption(db.bucket(b"x").unwrap().unwrap().get(b"a"));
    assert_eq!(found, Corruption::Page { page: 3, offset: 12288, fault: PageFault::TooDeep });
    insta::assert_snapshot!(found, @"page 3 at byte 12288: lies too deep: the pages above it form a loop");
}

#[test]
fn a_key_in_the_list_of_buckets_is_no_bucket() {
    let mut file = [meta_page(0, 3, 0, u64::MAX), meta_page(1, 3, 1, u64::MAX)].concat();
    file.extend(leaf_page(2, &[(0, b"k".to_vec(), vec![]), (1, b"t".to_vec(), vec![1, 2])]));
    file.resize(3 * PAGE, 0);
    let db = open(&file).unwrap();
    for name in [&b"k"[..], b"t"] {
        let fault = PageFault::NotABucket;
        assert_eq!(corruption(db.bucket(name)), Corruption::Page { page: 2, offset: 8192, fault });
    }
}

fn read_all(bytes: &[u8]) {
    let Ok(db) = open(bytes) else { return };
    for name in [&b"x"[..], b"y", b""] {
        if let Ok(Some(bucket)) = db.bucket(name) {
            let _ = (bucket.is_empty(), bucket.get(b"0005"), bucket.entries(50));
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..10_000)) {
        read_all(&bytes);
    }

    #[test]
    fn a_file_changed_behind_its_headers_never_panics(
        changes in proptest::collection::vec((2 * PAGE..9 * PAGE, any::<u8>()), 1..40),
        heads in proptest::collection::vec((2..9_usize, 0..64_usize, any::<u8>()), 0..20),
    ) {
        let mut file = bolt_file(&[("x", Form::Branch(20), numbered(100)), ("y", Form::Inline, numbered(20))]);
        // Most bytes of a page are unused: aim at headers and element heads as well.
        let aimed = heads.into_iter().map(|(page, at, byte)| (page * PAGE + at, byte));
        for (at, byte) in changes.into_iter().chain(aimed) {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        read_all(&file);
    }
}
