//! A bbolt file: headers, pages, top-level buckets, keys. Read with `pread`, never mapped.
//!
//! Why not a memory map: a file that is cut short under a map ends the process with SIGBUS, and the
//! launcher must outlive a broken disk. Why not a crate: those that exist map the file, or write.
//!
//! Every number in the file is taken as a claim: offsets are compared with the page, page numbers
//! with the header, the header with the length of the file. Depth, page size and the bytes held are
//! limited, so a damaged file costs a typed error, not memory or time.
//!
//! A file that etcd has open may change while it is read; [`crate::datadir::in_use`] tells.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

mod page;

pub use page::PageFault;
use page::{Items, Page};

/// A valid header starts so.
const MAGIC: u32 = 0xED0C_DAED;
/// The only layout there has been since 2014.
const VERSION: u32 = 2;
/// Bytes from the start of a page to the end of a header.
const META_END: usize = page::HEADER + 64;
/// bbolt takes the operating system's page size: 4 KiB nearly everywhere, 64 KiB on some.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 20;
/// A page with its overflow pages is not read if it is larger. Only the bucket of the keys holds
/// values of this size, and that one is never read, only asked whether it is empty.
const PAGE_BYTES_MAX: u64 = 16 << 20;
/// Deeper than any tree can be: pages hold at least two children, page numbers have 64 bits.
const DEPTH_MAX: usize = 64;
/// What one listing may hold.
const ENTRY_BYTES_MAX: usize = 16 << 20;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system says no.
    #[error("reading failed")]
    Io(#[from] io::Error),
    /// The file contradicts itself.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// Where a file contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// Both headers are unreadable.
    #[error("neither of the two headers in pages 0 and 1 is valid ({len} bytes in the file)")]
    NoMeta {
        /// Length of the file in bytes.
        len: u64,
    },
    /// The file was cut short.
    #[error("the file ends at byte {len}, but its header counts {pages} pages of {page_size} bytes")]
    Truncated {
        /// Length of the file in bytes.
        len: u64,
        /// Pages in use, as the header says.
        pages: u64,
        /// Bytes in a page.
        page_size: u32,
    },
    /// A page is not what it should be.
    #[error("page {page} at byte {offset}: {fault}")]
    Page {
        /// Its number.
        page: u64,
        /// Where it starts in the file.
        offset: u64,
        /// What is wrong with it.
        fault: PageFault,
    },
}

/// The header in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Bytes in a page.
    pub page_size: u32,
    /// The page that the list of buckets starts from.
    pub root: u64,
    /// Pages in use: no page number reaches this.
    pub pages: u64,
    /// The last transaction.
    pub txid: u64,
}

/// An open file.
#[derive(Debug)]
pub struct Db {
    file: File,
    meta: Meta,
}

/// One top-level bucket.
#[derive(Debug)]
pub struct Bucket<'db> {
    db: &'db Db,
    root: Root,
}

#[derive(Debug)]
enum Root {
    Page(u64),
    /// A small bucket is a page image in the list of buckets.
    Inline(Page),
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

impl Db {
    /// Finds the header in force: the valid one of two with the higher transaction.
    pub fn open(file: File) -> Result<Self, Error> {
        let len = file.metadata()?.len();
        let first = meta_at(&file, 0, len)?;
        let second = match first {
            Some(meta) => meta_at(&file, u64::from(meta.page_size), len)?,
            // Without the first header its page size is unknown: the second then lies at its own.
            None => probe(&file, len)?,
        };
        let newer = |one: Meta, other: Meta| if other.txid > one.txid { other } else { one };
        let meta = match (first, second) {
            (Some(one), Some(other)) => newer(one, other),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Err(Corruption::NoMeta { len }.into()),
        };
        // From here on no page number below `pages` can lie outside the file.
        match meta.pages.checked_mul(u64::from(meta.page_size)) {
            Some(end) if end <= len => Ok(Self { file, meta }),
            _ => Err(Corruption::Truncated { len, pages: meta.pages, page_size: meta.page_size }.into()),
        }
    }

    /// The header in force.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// A top-level bucket; `None` if there is none of this name.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_>>, Error> {
        let buckets = Bucket { db: self, root: Root::Page(self.meta.root) };
        let Some((page, item)) = buckets.find(name)? else { return Ok(None) };
        let fault = |fault| Error::from(page.corrupt(fault));
        if !item.is_bucket {
            return Err(fault(PageFault::NotABucket));
        }
        let value = page.value(&item);
        let (head, image) = value.split_at_checked(16).ok_or_else(|| fault(PageFault::NotABucket))?;
        let root = match page::u64_at(head, 0) {
            Some(0) => Root::Inline(page.inline(image)),
            Some(root) => Root::Page(root),
            None => return Err(fault(PageFault::NotABucket)),
        };
        Ok(Some(Bucket { db: self, root }))
    }

    /// Reads a page with its overflow pages.
    fn page(&self, id: u64) -> Result<Page, Error> {
        let page_size = u64::from(self.meta.page_size);
        // Saturating: an impossible number is only told, never read.
        let offset = id.saturating_mul(page_size);
        let fault = |fault| Error::from(Corruption::Page { page: id, offset, fault });
        if id >= self.meta.pages {
            return Err(fault(PageFault::OutOfRange { pages: self.meta.pages }));
        }
        let mut header = [0; page::HEADER];
        self.file.read_exact_at(&mut header, offset)?;
        let overflow = page::overflow(&header);
        if overflow >= self.meta.pages - id {
            return Err(fault(PageFault::OutOfRange { pages: self.meta.pages }));
        }
        let bytes = (overflow + 1).saturating_mul(page_size);
        let length = usize::try_from(bytes).ok().filter(|_| bytes <= PAGE_BYTES_MAX);
        let mut image = vec![0; length.ok_or_else(|| fault(PageFault::TooLarge { bytes }))?];
        self.file.read_exact_at(&mut image, offset)?;
        let page = Page::new(id, offset, image);
        page.expect_id()?;
        Ok(page)
    }
}

impl Bucket<'_> {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.find(key)?;
        Ok(found.filter(|(_, item)| !item.is_bucket).map(|(page, item)| page.value(&item).to_vec()))
    }

    /// Whether it holds nothing; looks at one page only, whatever its size.
    pub fn is_empty(&self) -> Result<bool, Error> {
        match &self.root {
            Root::Inline(page) => Ok(page.count() == 0),
            Root::Page(id) => {
                let meta = self.db.meta;
                let offset = id.saturating_mul(u64::from(meta.page_size));
                if *id >= meta.pages {
                    let fault = PageFault::OutOfRange { pages: meta.pages };
                    return Err(Corruption::Page { page: *id, offset, fault }.into());
                }
                let mut header = vec![0; page::HEADER];
                self.db.file.read_exact_at(&mut header, offset)?;
                let page = Page::new(*id, offset, header);
                page.expect_id()?;
                page.expect_tree()?;
                // bbolt merges empty pages away: a branch has children, and those have keys.
                Ok(page.count() == 0)
            }
        }
    }

    /// The first `limit` keys in order, with their values; buckets within the bucket are left out.
    pub fn entries(&self, limit: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut seen = BTreeSet::new();
        // Page numbers still to visit, the next one last, with their depth.
        let mut ahead = Vec::new();
        let mut next = Some((self.root_page()?, 0));
        while let Some((page, depth)) = next {
            if depth > DEPTH_MAX {
                return Err(page.corrupt(PageFault::TooDeep).into());
            }
            match page.items()? {
                Items::Branch(children) => {
                    ahead.extend(children.iter().rev().map(|child| (child.page, depth + 1)));
                }
                // Only the root of an empty bucket has no key. Elsewhere it would cost visits that
                // the limit does not count.
                Items::Leaf(items) if items.is_empty() && depth > 0 => {
                    return Err(page.corrupt(PageFault::NoElements).into());
                }
                Items::Leaf(items) => {
                    for item in items.iter().filter(|item| !item.is_bucket) {
                        if entries.len() == limit {
                            return Ok(entries);
                        }
                        bytes += item.key.len() + item.value.len();
                        if bytes > ENTRY_BYTES_MAX {
                            let fault = PageFault::TooLarge { bytes: bytes as u64 };
                            return Err(page.corrupt(fault).into());
                        }
                        entries.push((page.key(item).to_vec(), page.value(item).to_vec()));
                    }
                }
            }
            next = match ahead.pop() {
                Some((id, depth)) => {
                    let page = self.db.page(id)?;
                    // A page that is reached twice could be reached for ever.
                    if !seen.insert(id) {
                        return Err(page.corrupt(PageFault::Repeated).into());
                    }
                    Some((page, depth))
                }
                None => None,
            };
        }
        Ok(entries)
    }

    /// Descends to the leaf that holds `key`.
    fn find(&self, key: &[u8]) -> Result<Option<(Page, page::Item)>, Error> {
        let mut page = self.root_page()?;
        for _ in 0..=DEPTH_MAX {
            match page.items()? {
                Items::Leaf(items) => {
                    let found = items.into_iter().find(|item| page.key(item) == key);
                    return Ok(found.map(|item| (page, item)));
                }
                Items::Branch(children) => {
                    // A child's key is its smallest: the last one that is not greater holds the key.
                    let after = children.partition_point(|child| page.key_at(&child.key) <= key);
                    let Some(child) = children.get(after.saturating_sub(1)) else {
                        return Err(page.corrupt(PageFault::NoElements).into());
                    };
                    page = self.db.page(child.page)?;
                }
            }
        }
        Err(page.corrupt(PageFault::TooDeep).into())
    }

    fn root_page(&self) -> Result<Page, Error> {
        match &self.root {
            Root::Page(id) => self.db.page(*id),
            Root::Inline(page) => Ok(page.clone()),
        }
    }
}

/// The header in the page at `offset`, if it is valid.
fn meta_at(file: &File, offset: u64, len: u64) -> io::Result<Option<Meta>> {
    let mut bytes = [0; META_END];
    if offset.checked_add(META_END as u64).is_none_or(|end| end > len) {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, offset)?;
    Ok(parse_meta(&bytes))
}

/// The second header, at whatever page size it names.
fn probe(file: &File, len: u64) -> io::Result<Option<Meta>> {
    let mut page_size = *PAGE_SIZES.start();
    while page_size <= *PAGE_SIZES.end() {
        let meta = meta_at(file, u64::from(page_size), len)?;
        if meta.is_some_and(|meta| meta.page_size == page_size) {
            return Ok(meta);
        }
        page_size *= 2;
    }
    Ok(None)
}

fn parse_meta(page: &[u8; META_END]) -> Option<Meta> {
    let body = &page[page::HEADER..];
    let number = |at| page::u64_at(body, at);
    let valid = page::u32_at(body, 0)? == MAGIC
        && page::u32_at(body, 4)? == VERSION
        && number(56)? == fnv_1a(&body[..56]);
    let page_size = page::u32_at(body, 8)?;
    let fits = page_size.is_power_of_two() && PAGE_SIZES.contains(&page_size);
    (valid && fits).then_some(Meta { page_size, root: number(16)?, pages: number(40)?, txid: number(48)? })
}

/// The 64-bit FNV-1a hash, which bbolt guards its headers with.
pub(super) fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
