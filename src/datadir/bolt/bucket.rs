//! One top-level bucket: a tree of pages, or a page image in the list of buckets.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::page::{self, Item, Page};
use super::{Corruption, DEPTH_MAX, Db, ENTRY_BYTES_MAX, Error, PageFault};
use crate::datadir::source::Source;

/// Bytes before the page image in a bucket's value: the number of its root page and a sequence.
const BUCKET_HEAD: usize = 16;

/// One top-level bucket.
#[derive(Debug)]
pub struct Bucket<'db, S = std::fs::File> {
    db: &'db Db<S>,
    root: Root<'db>,
}

#[derive(Debug)]
pub(super) enum Root<'db> {
    Page(u64),
    /// A small bucket is a page image in the list of buckets.
    Inline(Page<'db>),
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The page it is on: the first one, if it reaches into overflow pages; of a small bucket, the page of
    /// the list of buckets.
    pub page: u64,
    /// Where its key starts in the file, in bytes. The value follows.
    pub offset: u64,
}

/// What is asked at each element of the leaves.
type Look<'f, 'db, B> = dyn FnMut(&Page<'db>, &Item<'_>) -> Result<ControlFlow<B>, Error> + 'f;

/// The root of the bucket that is this item of this page.
pub(super) fn root_of<'a>(page: &Page<'a>, item: &Item<'_>) -> Result<Root<'a>, Corruption> {
    let fault = || page.corrupt(PageFault::NotABucket);
    let value = item.value_range();
    let (true, Some(head)) = (item.is_bucket(), item.value.get(..BUCKET_HEAD)) else { return Err(fault()) };
    let inline = || page.inline(value.start + BUCKET_HEAD..value.end);
    Root::of(head, inline).ok_or_else(fault)
}

impl<'a> Root<'a> {
    /// What a bucket's head says; `inline` gives the page image behind it.
    fn of(head: &[u8], inline: impl FnOnce() -> Page<'a>) -> Option<Self> {
        match page::u64_at(head, 0)? {
            0 => Some(inline()).filter(|image| image.bytes().len() >= page::HEADER).map(Self::Inline),
            root => Some(Self::Page(root)),
        }
    }
}

impl<'db, S: Source> Bucket<'db, S> {
    /// The bucket whose tree starts at this page.
    pub(super) fn at(db: &'db Db<S>, root: u64) -> Self {
        Self { db, root: Root::Page(root) }
    }

    /// The bucket that is this item of this page.
    pub(super) fn of(db: &'db Db<S>, page: &Page<'db>, item: &Item<'_>) -> Result<Self, Corruption> {
        Ok(Self { db, root: root_of(page, item)? })
    }

    /// The bucket with this value in the list of buckets, whose page is not known any more.
    pub(super) fn of_value(db: &'db Db<S>, value: &'db [u8]) -> Result<Self, Corruption> {
        let page = Page::new(db.meta.root, 0, Cow::Borrowed(value));
        let root = Root::of(value, || page.inline(BUCKET_HEAD..value.len()));
        Ok(Self { db, root: root.ok_or_else(|| page.corrupt(PageFault::NotABucket))? })
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some((page, index)) = self.find(key)? else { return Ok(None) };
        let item = page.item(index)?;
        Ok((!item.is_bucket()).then(|| item.value.to_vec()))
    }

    /// Whether it holds nothing; looks at one page only, whatever its size.
    pub fn is_empty(&self) -> Result<bool, Error> {
        match &self.root {
            Root::Inline(page) => Ok(page.count() == 0),
            // bbolt merges empty pages away: a branch has children, and those have keys.
            Root::Page(id) => Ok(self.db.page_head(*id)?.count() == 0),
        }
    }

    /// The first key and its value.
    pub fn first(&self) -> Result<Option<Entry>, Error> {
        self.end(|_| 0)
    }

    /// The last key and its value.
    pub fn last(&self) -> Result<Option<Entry>, Error> {
        self.end(|count| count - 1)
    }

    /// The first `limit` keys in order, with their values; buckets within the bucket are left out.
    pub fn entries(&self, limit: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let _ = self.each_item(&mut |page, item| {
            if item.is_bucket() {
                return Ok(ControlFlow::Continue(()));
            }
            if entries.len() == limit {
                return Ok(ControlFlow::Break(()));
            }
            bytes += item.key.len() + item.value.len();
            if bytes > ENTRY_BYTES_MAX {
                return Err(page.corrupt(PageFault::TooLarge { bytes: bytes as u64 }).into());
            }
            entries.push((item.key.to_vec(), item.value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(entries)
    }

    /// Shows every key with its value, in order, until it is told to stop; buckets within the bucket are
    /// left out. Holds one page per level of the tree, and of a map none at all.
    pub fn visit<B>(
        &self,
        visitor: &mut impl FnMut(&[u8], &[u8], Place) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        self.each_item(&mut |page, item| {
            if item.is_bucket() {
                return Ok(ControlFlow::Continue(()));
            }
            let place = Place { page: page.id(), offset: page.offset() + item.at as u64 };
            Ok(visitor(item.key, item.value, place))
        })
    }

    /// Shows every element of the leaves, in order.
    pub(super) fn each_item<B>(&self, look: &mut Look<'_, 'db, B>) -> Result<ControlFlow<B>, Error> {
        self.below(&self.root_page()?, 0, &[], None, look)
    }

    /// Everything below a page. Keys have to lie from `from` on and below `to`: bounds that grow tighter
    /// with each level also end every loop, since no two pages can hold keys of the same bounds.
    fn below<B>(
        &self,
        page: &Page<'db>,
        depth: usize,
        from: &[u8],
        to: Option<&[u8]>,
        look: &mut Look<'_, 'db, B>,
    ) -> Result<ControlFlow<B>, Error> {
        if depth > DEPTH_MAX {
            return Err(page.corrupt(PageFault::TooDeep).into());
        }
        page.expect_order()?;
        let count = page.count();
        if count == 0 && depth > 0 {
            return Err(page.corrupt(PageFault::NoElements).into());
        }
        for index in [0, count.saturating_sub(1)].into_iter().filter(|index| *index < count) {
            let key = page.key(index)?;
            if key < from || to.is_some_and(|to| key >= to) {
                return Err(page.corrupt(PageFault::Astray { index }).into());
            }
        }
        for index in 0..count {
            let flow = if page.is_branch() {
                let child = page.child(index)?;
                let next = if index + 1 < count { Some(page.key(index + 1)?) } else { to };
                self.below(&self.db.page(child.page)?, depth + 1, child.key, next, look)?
            } else {
                look(page, &page.item(index)?)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Descends to the leaf that holds `key`: the page, and which of its items.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<(Page<'db>, usize)>, Error> {
        let mut page = self.root_page()?;
        for _ in 0..=DEPTH_MAX {
            page.expect_order()?;
            // How many keys are not greater than the one that is looked for.
            let (mut low, mut high) = (0, page.count());
            while low < high {
                let middle = usize::midpoint(low, high);
                if page.key(middle)? <= key { low = middle + 1 } else { high = middle }
            }
            if !page.is_branch() {
                let index = low.checked_sub(1);
                let found = index.map(|index| page.key(index).map(|found| found == key)).transpose()?;
                return Ok(index.filter(|_| found == Some(true)).map(|index| (page, index)));
            }
            // A child's key is its smallest: the last one that is not greater holds the key.
            page = self.db.page(page.child(low.saturating_sub(1))?.page)?;
        }
        Err(page.corrupt(PageFault::TooDeep).into())
    }

    /// Descends to one end of the tree.
    fn end(&self, pick: fn(usize) -> usize) -> Result<Option<Entry>, Error> {
        let leaf = self.descend(pick, &mut |_| Ok(()))?;
        if leaf.count() == 0 {
            return Ok(None);
        }
        let item = leaf.item(pick(leaf.count()))?;
        Ok(Some((item.key.to_vec(), item.value.to_vec())))
    }

    /// Shows the branches down to the last leaf, and gives that leaf.
    pub(super) fn rightmost(
        &self,
        branch: &mut dyn FnMut(&Page<'db>) -> Result<(), Corruption>,
    ) -> Result<Page<'db>, Error> {
        self.descend(|count| count - 1, branch)
    }

    /// Descends by one child of each branch, which `pick` picks of so many; gives the leaf, which is empty only
    /// if the bucket is.
    fn descend(
        &self,
        pick: fn(usize) -> usize,
        branch: &mut dyn FnMut(&Page<'db>) -> Result<(), Corruption>,
    ) -> Result<Page<'db>, Error> {
        let mut page = self.root_page()?;
        for depth in 0..=DEPTH_MAX {
            page.expect_order()?;
            if page.count() == 0 && depth > 0 {
                return Err(page.corrupt(PageFault::NoElements).into());
            }
            if !page.is_branch() {
                return Ok(page);
            }
            branch(&page)?;
            page = self.db.page(page.child(pick(page.count()))?.page)?;
        }
        Err(page.corrupt(PageFault::TooDeep).into())
    }

    pub(super) fn root_page(&self) -> Result<Page<'db>, Error> {
        match &self.root {
            Root::Page(id) => self.db.page(*id),
            Root::Inline(page) => {
                page.expect_tree()?;
                Ok(page.clone())
            }
        }
    }
}
