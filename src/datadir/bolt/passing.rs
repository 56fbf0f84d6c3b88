//! Which revisions a snapshot of etcd has, told while its pages pass by once, in order, and are not kept.
//!
//! The last revision is the last key of the last leaf of bucket `key`, and the way there leads through pages that lie
//! anywhere. The header comes first and names the root; of everything else that might be on the way, what is needed
//! is noted: of a branch its last child, of a leaf its last key, the largest ones of them. Which of them count is known
//! at the end, so that pages that are free, and older, never decide (docs/contract.md#passing-revisions).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::bucket::{Root, root_of};
use super::meta::{META_END, Meta, parse};
use super::page::{BRANCH, ELEMENT, HEADER, LEAF, Page, u32_at, u64_at};
use super::{BUCKET, DEPTH_MAX};

/// Notes of branches and leaves: some hundred would do, but for deletions that were compacted away: their pages are
/// free and have larger keys than all that count.
const NOTES_MAX: usize = 16_384;
/// Leaves of the list of buckets: one counts, others are what earlier transactions left.
const LISTS_MAX: usize = 16_384;
/// Keys and lists that reach into overflow pages and are waited for at the same time.
const WAITING_MAX: usize = 1_024;
/// A list of buckets has ten names, and small buckets in it a quarter of a page each.
const LIST_OVERFLOW_MAX: u32 = 4;
/// How far compaction is.
const MARKS: [&[u8]; 2] = [b"finishedCompactRev", b"scheduledCompactRev"];

/// Reads pages as they pass by.
pub struct Passing {
    /// The page that is being filled, and its number.
    page: Vec<u8>,
    number: u64,
    meta: Option<Meta>,
    notes: Notes,
    cut_keys: Vec<CutKey>,
    cut_lists: Vec<(u64, usize, Vec<u8>)>,
    lists: BTreeMap<u64, List>,
    /// The root, if the list of buckets has more than one leaf: first names and pages.
    list_root: Vec<(Vec<u8>, u64)>,
    /// The largest mark of compaction in any page that may be the bucket `meta`.
    marks: i64,
}

/// Which revisions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Up to which everything was, or is to be, compacted; 0 = never.
    pub compacted: i64,
    /// The last one; 1 if there was never a key.
    pub last: i64,
}

/// Why that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// No header, or an invalid one.
    #[error("it does not begin with the header of a database")]
    NoHeader,
    /// Fewer pages than the header says.
    #[error("it ended behind page {passed} of {pages}")]
    Short {
        /// Pages that passed by.
        passed: u64,
        /// Pages in use, as the header says.
        pages: u64,
    },
    /// The way to the last revision leads to a page that is not what it should be.
    #[error("page {page} is no part of bucket {bucket}, to which it should belong")]
    Lost {
        /// The bucket.
        bucket: &'static str,
        /// The page.
        page: u64,
    },
}

/// A place in the order of bucket `key`: main and sub-revision.
type Key = (u64, u64);

/// The largest last keys, the pages they are in and, of branches, the last child.
#[derive(Default)]
struct Notes {
    by_key: BTreeSet<(Key, u64, Option<u64>)>,
    /// The largest main revision of all that had no room.
    dropped: u64,
}

/// The last key of a leaf, which lies behind its first page.
struct CutKey {
    leaf: u64,
    /// Where it starts in the file.
    from: u64,
    bytes: Vec<u8>,
}

/// What a leaf of the list of buckets says.
#[derive(Default, Clone)]
struct List {
    key: Option<KeyBucket>,
    /// The marks in a small bucket `meta`.
    compacted: Option<i64>,
}

#[derive(Clone, Copy)]
enum KeyBucket {
    Page(u64),
    Small(i64),
}

impl Default for Passing {
    fn default() -> Self {
        Self::new()
    }
}

impl Passing {
    /// Nothing has passed by.
    pub fn new() -> Self {
        Self {
            page: Vec::new(),
            number: 0,
            meta: None,
            notes: Notes::default(),
            cut_keys: Vec::new(),
            cut_lists: Vec::new(),
            lists: BTreeMap::new(),
            list_root: Vec::new(),
            marks: 0,
        }
    }

    /// The next bytes, however many.
    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // The header tells the size of pages.
            let wanted = self.meta.map_or(META_END, |meta| meta.page_size as usize);
            let taken = bytes.len().min(wanted - self.page.len());
            self.page.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.page.len() < wanted {
                return;
            }
            if self.meta.is_none() {
                match parse(&self.page) {
                    meta @ Some(_) => self.meta = meta,
                    // What comes then is nothing that could be read; `finish` says so.
                    None => return self.page.clear(),
                }
                continue;
            }
            let page = std::mem::take(&mut self.page);
            self.look(&page);
            self.number += 1;
            self.page = page;
            self.page.clear();
        }
    }

    /// What it was.
    pub fn finish(self) -> Result<Passed, Untold> {
        let meta = self.meta.ok_or(Untold::NoHeader)?;
        if self.number < meta.pages {
            return Err(Untold::Short { passed: self.number, pages: meta.pages });
        }
        let compacted = self.list(meta.root, b"meta")?.and_then(|list| list.compacted).unwrap_or(self.marks);
        let last = match self.list(meta.root, b"key")?.and_then(|list| list.key) {
            None => 0,
            Some(KeyBucket::Small(last)) => last,
            Some(KeyBucket::Page(root)) => match self.notes.last(root) {
                Ok(last) => last,
                // What had no room is compacted, and so is what would be found.
                Err(_) if compacted.cast_unsigned() > self.notes.dropped && self.notes.dropped > 0 => 0,
                Err(page) => return Err(Untold::Lost { bucket: "key", page }),
            },
        };
        Ok(Passed { compacted, last: last.max(compacted).max(1) })
    }

    /// The leaf of the list of buckets that would have this name.
    fn list(&self, root: u64, name: &[u8]) -> Result<Option<&List>, Untold> {
        let below = self.list_root.iter().rev().find(|(first, _)| first.as_slice() <= name);
        let page = match (below, self.list_root.first()) {
            (Some((_, page)), _) | (None, Some((_, page))) => *page,
            (None, None) => root,
        };
        self.lists.get(&page).map(Some).ok_or(Untold::Lost { bucket: "(list of buckets)", page })
    }

    fn look(&mut self, image: &[u8]) {
        let number = self.number;
        self.wait(image);
        // A page that says another number is free and was never written, or it is an overflow page.
        if number < 2 || u64_at(image, 0) != Some(number) {
            return;
        }
        let page = Page::new(number, 0, Cow::Borrowed(image));
        match page.flags() {
            BRANCH => self.branch(&page),
            LEAF => self.leaf(&page),
            _ => {}
        }
    }

    /// Takes what earlier pages need of this one.
    fn wait(&mut self, image: &[u8]) {
        let start = self.number * image.len() as u64;
        for cut in &mut self.cut_keys {
            let at = (cut.from + cut.bytes.len() as u64)
                .checked_sub(start)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(rest) = at.and_then(|at| image.get(at..)) {
                let missing = HEADER.saturating_sub(cut.bytes.len()) + 1;
                cut.bytes.extend_from_slice(&rest[..missing.min(rest.len())]);
            }
        }
        let (whole, cut) =
            std::mem::take(&mut self.cut_keys).into_iter().partition(|cut| cut.bytes.len() > HEADER);
        self.cut_keys = cut;
        let whole: Vec<CutKey> = whole;
        for cut in whole {
            if let Some(key) = key(&cut.bytes) {
                self.notes.add(key, cut.leaf, None);
            }
        }
        for list in &mut self.cut_lists {
            list.1 -= 1;
            list.2.extend_from_slice(image);
        }
        let (whole, cut): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.cut_lists).into_iter().partition(|(_, missing, _)| *missing == 0);
        self.cut_lists = cut;
        for (number, _, image) in whole {
            self.note_list(&Page::new(number, 0, Cow::Borrowed(&image)));
        }
    }

    fn branch(&mut self, page: &Page<'_>) {
        if self.meta.is_some_and(|meta| meta.root == page.id()) {
            let children = (0..page.count()).map_while(|index| page.child(index).ok());
            self.list_root = children.map(|child| (child.key.to_vec(), child.page)).collect();
            return;
        }
        let last = page.count().checked_sub(1).and_then(|last| page.child(last).ok());
        if let Some((child, key)) = last.and_then(|child| Some((child.page, key(child.key)?))) {
            self.notes.add(key, page.id(), Some(child));
        }
    }

    fn leaf(&mut self, page: &Page<'_>) {
        let Some(last) = page.count().checked_sub(1) else { return };
        let base = HEADER + last * ELEMENT;
        let head = |at: usize| u32_at(page.bytes(), base + at);
        let (Some(flags), Some(place), Some(length)) = (head(0), head(4), head(8)) else { return };
        if flags & BUCKET != 0 {
            let overflow = u32_at(page.bytes(), 12).unwrap_or_default();
            if overflow == 0 {
                self.note_list(page);
            } else if overflow <= LIST_OVERFLOW_MAX && self.cut_lists.len() < WAITING_MAX {
                self.cut_lists.push((page.id(), overflow as usize, page.bytes().to_vec()));
            }
            return;
        }
        if !(17..=18).contains(&length) {
            self.note_marks(page);
            return;
        }
        let at = base + place as usize;
        match page.bytes().get(at..at + length as usize).map(key) {
            Some(Some(key)) => self.notes.add(key, page.id(), None),
            Some(None) => self.note_marks(page),
            None if self.cut_keys.len() < WAITING_MAX => {
                let bytes = page.bytes().get(at..).unwrap_or_default().to_vec();
                let from = page.id() * page.bytes().len() as u64 + at as u64;
                self.cut_keys.push(CutKey { leaf: page.id(), from, bytes });
            }
            None => {}
        }
    }

    /// A leaf that may be the one of bucket `meta`.
    fn note_marks(&mut self, page: &Page<'_>) {
        self.marks = self.marks.max(marks(page));
    }

    fn note_list(&mut self, page: &Page<'_>) {
        let mut list = List::default();
        for item in (0..page.count()).map_while(|index| page.item(index).ok()) {
            match (item.key, root_of(page, &item)) {
                (b"key", Ok(Root::Page(root))) => list.key = Some(KeyBucket::Page(root)),
                (b"key", Ok(Root::Inline(small))) => {
                    let index = small.count().checked_sub(1);
                    let key = index.and_then(|index| key(small.item(index).ok()?.key));
                    let last = key.map_or(0, |(main, _)| main.cast_signed());
                    list.key = Some(KeyBucket::Small(last));
                }
                (b"meta", Ok(Root::Inline(small))) => list.compacted = Some(marks(&small)),
                _ => {}
            }
        }
        if self.lists.len() < LISTS_MAX || self.meta.is_some_and(|meta| meta.root == page.id()) {
            self.lists.insert(page.id(), list);
        }
    }
}

impl Notes {
    fn add(&mut self, key: Key, page: u64, child: Option<u64>) {
        self.by_key.insert((key, page, child));
        if self.by_key.len() > NOTES_MAX
            && let Some(((main, _), _, _)) = self.by_key.pop_first()
        {
            self.dropped = self.dropped.max(main);
        }
    }

    /// The last main revision below a page; an error is the page where the way ends.
    fn last(&self, root: u64) -> Result<i64, u64> {
        let by_page: BTreeMap<u64, (Key, Option<u64>)> =
            self.by_key.iter().map(|&(key, page, child)| (page, (key, child))).collect();
        let mut page = root;
        for _ in 0..DEPTH_MAX {
            match by_page.get(&page) {
                Some(((main, _), None)) => return Ok(main.cast_signed()),
                Some((_, Some(child))) => page = *child,
                None => break,
            }
        }
        Err(page)
    }
}

/// The marks of compaction in bucket `meta`, the larger one.
fn marks(page: &Page<'_>) -> i64 {
    let items = (0..page.count()).map_while(|index| page.item(index).ok());
    let marks = items.filter(|item| MARKS.contains(&item.key)).filter_map(|item| key(item.value));
    marks.map(|(main, _)| main.cast_signed()).max().unwrap_or(0)
}

/// A revision as etcd writes it: main, `_`, sub, and perhaps the mark of a deletion.
fn key(bytes: &[u8]) -> Option<Key> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (main, sub) = (number(0)?, number(9)?);
    (bytes[8] == b'_' && i64::try_from(main).is_ok()).then_some((main, sub))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::Db;
    use super::super::write::{WriteError, Writer};
    use super::*;
    use crate::datadir::fixture::{self, Form, PAGE};

    fn revision(main: u64, sub: u64) -> Vec<u8> {
        [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes()].concat()
    }

    fn pass(bytes: &[u8], step: usize) -> Result<Passed, Untold> {
        let mut passing = Passing::new();
        bytes.chunks(step).for_each(|chunk| passing.add(chunk));
        passing.finish()
    }

    /// A database by our own writer, with values of a size.
    fn written(keys: u64, value: usize, compacted: u64) -> Vec<u8> {
        let mut writer = Writer::new(tempfile::tempfile().unwrap(), 4096).unwrap();
        writer
            .bucket::<WriteError>(b"key", |bucket| {
                (1..=keys).try_for_each(|main| bucket.put(&revision(main, 0), &vec![7; value]))
            })
            .unwrap();
        writer
            .bucket::<WriteError>(b"meta", |bucket| {
                bucket.put(b"consistent_index", &[0; 8])?;
                bucket.put(b"finishedCompactRev", &revision(compacted, 0))
            })
            .unwrap();
        let mut file = writer.finish().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_last_revision_is_that_of_the_tree_whatever_its_depth_and_its_values() {
        //   keys    bytes of a value
        for (keys, value) in
            [(1, 10), (5, 10), (300, 20), (9, 1_500), (9, 9_000), (3, 200_000), (60_000, 100)]
        {
            let bytes = written(keys, value, 0);
            let db = Db::over(bytes.as_slice()).unwrap();
            assert_eq!(db.bucket(b"key").unwrap().unwrap().last().unwrap().unwrap().0, revision(keys, 0));
            let last = i64::try_from(keys).unwrap();

            for step in [1_000, 32 << 10, bytes.len()] {
                assert_eq!(pass(&bytes, step), Ok(Passed { compacted: 0, last }), "{keys} keys of {value}");
            }
        }
    }

    #[test]
    fn what_is_compacted_counts_also_if_its_last_key_is_gone() {
        assert_eq!(pass(&written(300, 20, 200), 4096), Ok(Passed { compacted: 200, last: 300 }));
        assert_eq!(pass(&written(300, 20, 400), 4096), Ok(Passed { compacted: 400, last: 400 }));
    }

    #[test]
    fn small_buckets_lie_in_the_list_and_none_at_all_is_revision_1() {
        let keys = vec![(revision(2, 0), vec![1]), (revision(7, 0), vec![1])];
        let marks = vec![(b"scheduledCompactRev".to_vec(), revision(5, 0))];
        let bytes = fixture::bolt_file(&[("key", Form::Inline, keys), ("meta", Form::Inline, marks)]);
        assert_eq!(pass(&bytes, 700), Ok(Passed { compacted: 5, last: 7 }));

        let empty = fixture::bolt_file(&[("key", Form::Inline, vec![]), ("meta", Form::Inline, vec![])]);
        assert_eq!(pass(&empty, 700), Ok(Passed { compacted: 0, last: 1 }));
    }

    /// A page that no page refers to has a larger revision: what a transaction left that never ended.
    #[test]
    fn a_free_page_does_not_decide() {
        let mut bytes = written(300, 20, 0);
        let pages = bytes.len() / PAGE;
        let meta = Db::over(bytes.as_slice()).unwrap().meta();
        let free = fixture::leaf_page(pages as u64, &[(0, revision(999, 0), vec![1])]);
        bytes.extend(free);
        bytes.resize((pages + 1) * PAGE, 0);
        for number in 0..2 {
            let header = Meta { pages: pages as u64 + 1, txid: meta.txid + 2 + number, ..meta }.to_page();
            let at = (header[0] as usize) * PAGE;
            bytes[at..at + header.len()].copy_from_slice(&header);
        }

        assert_eq!(pass(&bytes, 4096), Ok(Passed { compacted: 0, last: 300 }));
    }

    #[test]
    fn what_is_cut_off_or_no_database_tells_nothing() {
        let bytes = written(300, 20, 0);
        let pages = (bytes.len() / PAGE) as u64;

        assert_eq!(pass(&bytes[..bytes.len() - 1], 4096), Err(Untold::Short { passed: pages - 1, pages }));
        assert_eq!(pass(&[], 1), Err(Untold::NoHeader));
        assert_eq!(pass(&[7; 10_000], 4096), Err(Untold::NoHeader));
    }
}
