//! Every page of a bbolt file, once: which are in use, which are free, and what is wrong with those in use.
//!
//! What bbolt itself looks at when it opens a file without a list of free pages, as etcd's are: each page is
//! referred to once, carries its number, is a branch or a leaf; keys are in order, on the page and against the
//! page above. bbolt panics at the first fault; here the walk goes on behind it. Beyond that, elements must lie
//! side by side as bbolt writes them: a length or a place that changed shows by it.
//!
//! Entries are shown to a [`Visitor`] in the same pass, so that whoever reads everything reads it once.

use std::io;

use super::bucket::{Root, root_of};
use super::page::{self, ELEMENT, HEADER, Page};
use super::{Corruption, DEPTH_MAX, Db, Error, PageFault, Place};
use crate::datadir::source::Source;

mod bits;
mod freelist;

use bits::Bits;

/// No more faults are kept.
pub const FAULTS_MAX: usize = 100;

/// What a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageClass {
    /// Read by bbolt: a header, or a page that something in use refers to.
    Live,
    /// Below the high-water mark, and nothing refers to it: its bytes mean nothing.
    Free,
    /// Beyond the high-water mark: the file is grown ahead of its use.
    Tail,
}

/// A fault, and where in the tree it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The bucket; `None` in the list of buckets, and in the list of free pages.
    pub bucket: Option<Vec<u8>>,
    /// What is wrong.
    pub what: Corruption,
}

/// What the walk found.
#[derive(Debug)]
pub struct Survey {
    /// Pages in use, headers included.
    pub live: u64,
    /// Free pages below the high-water mark.
    pub free: u64,
    /// Whole pages beyond the high-water mark.
    pub tail: u64,
    /// Bytes of headers, element heads, keys and values in the trees.
    pub content_bytes: u64,
    /// Free pages that the file's list of free pages does not have: lost to bbolt until a defragmentation. Zero
    /// if the file has no such list.
    pub lost: u64,
    /// What is wrong, in the order of the walk; at most [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// How many more there were.
    pub omitted: u64,
    used: Bits,
    pages: u64,
}

/// Who is shown what the walk meets.
pub trait Visitor {
    /// A top-level bucket begins.
    fn bucket(&mut self, name: &[u8], place: Place);
    /// An entry of that bucket; entries come in order.
    fn entry(&mut self, key: &[u8], value: &[u8], place: Place);
    /// A bucket within that bucket. Its entries are not shown.
    fn nested(&mut self, name: &[u8], place: Place);
    /// Entries of that bucket are missing here: their page is broken.
    fn skipped(&mut self);
    /// So many bytes of the file were read since the last call.
    fn read(&mut self, bytes: u64);
}

/// A walk for the pages only.
impl Visitor for () {
    fn bucket(&mut self, _: &[u8], _: Place) {}
    fn entry(&mut self, _: &[u8], _: &[u8], _: Place) {}
    fn nested(&mut self, _: &[u8], _: Place) {}
    fn skipped(&mut self) {}
    fn read(&mut self, _: u64) {}
}

/// Walks through everything that is in use. An error means that the operating system says no.
pub fn survey<S: Source, V: Visitor>(db: &Db<S>, visitor: &mut V) -> io::Result<Survey> {
    let meta = db.meta();
    let mut walk = Walk {
        db,
        visitor,
        used: Bits::new(meta.pages),
        content_bytes: 0,
        faults: Vec::new(),
        omitted: 0,
        bucket: None,
    };
    for header in 0..2 {
        walk.used.set(header);
    }
    walk.list()?;
    let mut lost = 0;
    if let Some(list) = meta.freelist {
        lost = freelist::check(&mut walk, list)?;
    }
    let live = walk.used.count();
    let pages_in_file = db.source.length()? / u64::from(meta.page_size);
    Ok(Survey {
        live,
        free: meta.pages - live,
        tail: pages_in_file.saturating_sub(meta.pages),
        content_bytes: walk.content_bytes,
        lost,
        faults: walk.faults,
        omitted: walk.omitted,
        used: walk.used,
        pages: meta.pages,
    })
}

impl Survey {
    /// What a page is for.
    pub fn class(&self, page: u64) -> PageClass {
        if page >= self.pages {
            PageClass::Tail
        } else if self.used.get(page) {
            PageClass::Live
        } else {
            PageClass::Free
        }
    }
}

struct Walk<'w, S, V> {
    db: &'w Db<S>,
    visitor: &'w mut V,
    used: Bits,
    content_bytes: u64,
    faults: Vec<Fault>,
    omitted: u64,
    /// The top-level bucket that is being walked through.
    bucket: Option<Vec<u8>>,
}

/// Where in the file a page is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// In the list of buckets.
    List,
    /// In a top-level bucket.
    Bucket,
    /// In a bucket within a bucket.
    Nested,
}

/// What the page above says about the keys of a page: the first one, and one that all are below.
#[derive(Debug, Clone, Copy, Default)]
struct Bounds<'k> {
    first: Option<&'k [u8]>,
    below: Option<&'k [u8]>,
}

impl<S: Source, V: Visitor> Walk<'_, S, V> {
    fn list(&mut self) -> io::Result<()> {
        self.page(self.db.meta.root, Level::List, 0, Bounds::default())
    }

    fn fault(&mut self, what: Corruption) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { bucket: self.bucket.clone(), what });
        } else {
            self.omitted += 1;
        }
    }

    /// Notes that a page cannot be used.
    fn give_up(&mut self, level: Level, what: Corruption) {
        self.fault(what);
        if level == Level::Bucket {
            self.visitor.skipped();
        }
    }

    /// A page and everything below it.
    fn page(&mut self, id: u64, level: Level, depth: usize, bounds: Bounds<'_>) -> io::Result<()> {
        let db = self.db;
        let page = match db.raw_page(id) {
            Ok(page) => page,
            Err(Error::Io(error)) => return Err(error),
            Err(Error::Corrupt(corruption)) => {
                // Somebody refers to it all the same.
                if id < db.meta.pages {
                    self.used.set(id);
                }
                self.give_up(level, corruption);
                return Ok(());
            }
        };
        let page_size = u64::from(db.meta.page_size);
        let mut repeated = false;
        for number in id..id + page.bytes().len() as u64 / page_size {
            repeated |= !self.used.set(number);
        }
        if repeated {
            self.give_up(level, page.corrupt(PageFault::Repeated));
            return Ok(());
        }
        self.visitor.read(page.bytes().len() as u64);
        if let Some(used) = self.elements(&page, level, depth, bounds)? {
            let overflow = page::overflow(page.bytes());
            // Early releases of bbolt took a page more if the last one was full to the last byte.
            if overflow > used / page_size {
                let needed = used.div_ceil(page_size).saturating_sub(1);
                self.fault(page.corrupt(PageFault::SpareOverflow { overflow, needed }));
            }
        }
        Ok(())
    }

    /// The elements of a page and everything below them; how many bytes of the page they use, if all are well.
    fn elements(
        &mut self,
        page: &Page<'_>,
        level: Level,
        depth: usize,
        bounds: Bounds<'_>,
    ) -> io::Result<Option<u64>> {
        let used = match checked(page, depth, bounds) {
            Ok(used) => {
                // bbolt reads it all the same.
                if bounds.first.is_some_and(|first| page.key(0).is_ok_and(|found| found != first)) {
                    self.fault(page.corrupt(PageFault::OtherFirstKey));
                }
                Some(used as u64)
            }
            Err(corruption) => {
                self.give_up(level, corruption);
                None
            }
        };
        self.content_bytes += used.unwrap_or(0);
        if page.is_branch() && depth <= DEPTH_MAX {
            self.children(page, level, depth, used.map(|_| bounds))?;
        } else if used.is_some() {
            self.items(page, level, depth)?;
        }
        Ok(used)
    }

    /// The pages below a branch; without bounds if it is broken: what can be reached is looked at all the same.
    fn children(
        &mut self,
        page: &Page<'_>,
        level: Level,
        depth: usize,
        bounds: Option<Bounds<'_>>,
    ) -> io::Result<()> {
        let count = page.count();
        for index in 0..count {
            let Ok(child) = page.child(index) else { continue };
            let below = match bounds {
                Some(bounds) => {
                    let next = page.child(index + 1).ok().filter(|_| index + 1 < count);
                    let below = next.map(|next| next.key).or(bounds.below);
                    Bounds { first: Some(child.key), below }
                }
                None => Bounds::default(),
            };
            self.page(child.page, level, depth + 1, below)?;
        }
        Ok(())
    }

    fn items(&mut self, page: &Page<'_>, level: Level, depth: usize) -> io::Result<()> {
        for index in 0..page.count() {
            let Ok(item) = page.item(index) else { continue };
            let place = Place { page: page.id(), offset: page.offset() + item.at as u64 };
            if level == Level::Bucket && !item.is_bucket() {
                self.visitor.entry(item.key, item.value, place);
                continue;
            }
            match level {
                Level::List => {
                    self.bucket = Some(item.key.to_vec());
                    self.visitor.bucket(item.key, place);
                }
                Level::Bucket => self.visitor.nested(item.key, place),
                Level::Nested if item.is_bucket() => {}
                Level::Nested => continue,
            }
            let inner = if level == Level::List { Level::Bucket } else { Level::Nested };
            match root_of(page, &item) {
                Ok(Root::Page(root)) => {
                    // Of a bucket's own root nothing is said above. Depth counts on: buckets within buckets end, too.
                    let depth = if level == Level::List { 0 } else { depth + 1 };
                    self.page(root, inner, depth, Bounds::default())?;
                }
                Ok(Root::Inline(image)) if image.flags() == page::LEAF => {
                    let depth = if level == Level::List { 0 } else { depth + 1 };
                    let length = image.bytes().len() as u64;
                    let used = self.elements(&image, inner, depth, Bounds::default())?;
                    if let Some(bytes) =
                        used.and_then(|used| length.checked_sub(used)).filter(|bytes| *bytes > 0)
                    {
                        self.fault(image.corrupt(PageFault::SpareBytes { bytes }));
                    }
                }
                Ok(Root::Inline(image)) => {
                    self.give_up(inner, image.corrupt(PageFault::OtherKind { flags: image.flags() }));
                }
                Err(corruption) => self.give_up(inner, corruption),
            }
            if level == Level::List {
                self.bucket = None;
            }
        }
        Ok(())
    }
}

/// Whether all elements of a page are as bbolt writes them; how many bytes of the page they use.
fn checked(page: &Page<'_>, depth: usize, bounds: Bounds<'_>) -> Result<usize, Corruption> {
    page.expect_tree()?;
    let count = page.count();
    // Only the root of an empty bucket has no key.
    if count == 0 && (depth > 0 || page.is_branch()) {
        return Err(page.corrupt(PageFault::NoElements));
    }
    if depth > DEPTH_MAX {
        return Err(page.corrupt(PageFault::TooDeep));
    }
    let mut end = HEADER + count * ELEMENT;
    let mut previous: &[u8] = &[];
    for index in 0..count {
        let (key, at, length) = if page.is_branch() {
            let child = page.child(index)?;
            (child.key, child.at, child.key.len())
        } else {
            let item = page.item(index)?;
            (item.key, item.at, item.key.len() + item.value.len())
        };
        let fault = if key.is_empty() {
            PageFault::EmptyKey { index }
        } else if at != end {
            PageFault::Scattered { index }
        } else if previous >= key {
            PageFault::NotSorted { index }
        } else {
            (previous, end) = (key, at + length);
            continue;
        };
        return Err(page.corrupt(fault));
    }
    if bounds.below.is_some_and(|below| previous >= below) {
        return Err(page.corrupt(PageFault::Astray { index: count - 1 }));
    }
    if let Some(first) = bounds.first
        && page.key(0)? < first
    {
        return Err(page.corrupt(PageFault::Astray { index: 0 }));
    }
    Ok(end)
}

#[cfg(test)]
mod tests;
