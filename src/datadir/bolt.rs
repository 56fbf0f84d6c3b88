//! A bbolt file: headers, pages, top-level buckets, keys.
//!
//! Two ways to read the same file, by where its bytes come from ([`crate::datadir::source`]):
//! - [`Db::open`] reads a file with `pread`. A file that is cut short under a map ends the process with
//!   SIGBUS, and the launcher must outlive a broken disk.
//! - [`Db::over`] takes any source, a map above all: nothing is copied, and values may have any size.
//!
//! Why not a crate: those that exist map the file, or write.
//!
//! Every number in the file is taken as a claim: offsets are compared with the page, page numbers
//! with the header, the header with the length of the file. Depth, page size and the bytes held are
//! limited, so a damaged file costs a typed error, not memory or time.
//!
//! A file that etcd has open may change while it is read; [`crate::datadir::in_use`] tells.

use std::borrow::Cow;
use std::fs::File;
use std::io;

use super::source::Source;

mod bucket;
pub mod edit;
mod meta;
mod node;
mod page;
pub mod pages;
pub mod passing;
pub mod write;

pub use bucket::{Bucket, Entry, Place};
pub use meta::{Headers, Meta};
pub use page::PageFault;

#[cfg(test)]
pub(super) use meta::fnv_1a;
use page::{BUCKET, Page};

/// A page with its overflow pages is not read into memory if it is larger. Only the bucket of the keys
/// holds values of this size, and that one is only read from a map.
const PAGE_BYTES_MAX: u64 = 16 << 20;
/// Deeper than any tree can be: pages hold at least two children, page numbers have 64 bits.
const DEPTH_MAX: usize = 64;
/// A header of a file that was cut short is believed up to here: 1 TiB in pages of 4 KiB. Somebody keeps a bit a page.
const CUT_PAGES_MAX: u64 = 1 << 28;
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

/// A top-level bucket with its name.
pub type Named<'db, S = File> = (Vec<u8>, Bucket<'db, S>);

/// An open file.
#[derive(Debug)]
pub struct Db<S = File> {
    source: S,
    headers: Headers,
    meta: Meta,
    /// Bytes in the file.
    len: u64,
    page_bytes_max: u64,
}

impl Db {
    /// Opens a file to be read with `pread`. Pages above 16 MiB are refused: each one is held in memory.
    pub fn open(file: File) -> Result<Self, Error> {
        Ok(Self { page_bytes_max: PAGE_BYTES_MAX, ..Self::over(file)? })
    }

    /// As [`Db::open`], also of a file that was [cut short](Db::cut).
    pub fn open_cut(file: File) -> Result<Self, Error> {
        Ok(Self { page_bytes_max: PAGE_BYTES_MAX, ..Self::over_cut(file)? })
    }
}

impl<S: Source> Db<S> {
    /// Finds the header in force: the valid one of two with the higher transaction. Refuses a file that is shorter
    /// than its header says.
    pub fn over(source: S) -> Result<Self, Error> {
        let db = Self::over_cut(source)?;
        match db.cut() {
            None => Ok(db),
            Some(corruption) => Err(corruption.into()),
        }
    }

    /// As [`Db::over`], also of a file that was [cut short](Db::cut): a page that is gone is then a fault of that page.
    /// bbolt does so, too, and never notices that a free page is gone (docs/contract.md#judging).
    pub fn over_cut(source: S) -> Result<Self, Error> {
        let len = source.length()?;
        let headers = Headers::read(&source, len)?;
        let (_, meta) = headers.in_force().ok_or(Corruption::NoMeta { len })?;
        let db = Self { source, headers, meta, len, page_bytes_max: u64::MAX };
        match db.cut() {
            Some(corruption) if meta.pages > CUT_PAGES_MAX => Err(corruption.into()),
            _ => Ok(db),
        }
    }

    /// Whether the file is shorter than its header says.
    pub fn cut(&self) -> Option<Corruption> {
        let Meta { pages, page_size, .. } = self.meta;
        let end = pages.checked_mul(u64::from(page_size));
        end.is_none_or(|end| end > self.len).then_some(Corruption::Truncated {
            len: self.len,
            pages,
            page_size,
        })
    }

    /// The file as this header has it, which is not in the file yet. Its pages have any size, as values do that etcd was
    /// set to take: up to four of them are in one leaf.
    fn with_meta(source: S, meta: Meta) -> Self {
        Self { source, headers: Headers([None, None]), meta, len: u64::MAX, page_bytes_max: u64::MAX }
    }

    /// The header in force.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// Both headers.
    pub fn headers(&self) -> Headers {
        self.headers
    }

    /// A top-level bucket; `None` if there is none of this name.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_, S>>, Error> {
        let Some((page, index)) = self.root().find(name)? else { return Ok(None) };
        Ok(Some(Bucket::of(self, &page, &page.item(index)?)?))
    }

    /// All top-level buckets with their names, in order. Fails on more than bbolt's own limit of what is
    /// read at once; etcd has ten.
    pub fn buckets(&self) -> Result<Vec<Named<'_, S>>, Error> {
        let mut names = Vec::new();
        let mut bytes = 0;
        let root = self.root();
        let _ = root.each_item::<()>(&mut |page, item| {
            bytes += item.key.len() + item.value.len();
            if bytes > ENTRY_BYTES_MAX {
                return Err(page.corrupt(PageFault::TooLarge { bytes: bytes as u64 }).into());
            }
            names.push((item.key.to_vec(), Bucket::of(self, page, item)?));
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(names)
    }

    /// The list of buckets, which has the form of a bucket.
    fn root(&self) -> Bucket<'_, S> {
        Bucket::at(self, self.meta.root)
    }

    /// Reads a page with its overflow pages. What it is, is not looked at.
    fn raw_page(&self, id: u64) -> Result<Page<'_>, Error> {
        let page_size = u64::from(self.meta.page_size);
        // Saturating: an impossible number is only told, never read.
        let offset = id.saturating_mul(page_size);
        let fault = |fault| Error::from(Corruption::Page { page: id, offset, fault });
        if id >= self.meta.pages {
            return Err(fault(PageFault::OutOfRange { pages: self.meta.pages }));
        }
        let expect_in_file = |bytes: u64| {
            let in_file = offset.checked_add(bytes).is_some_and(|end| end <= self.len);
            if in_file { Ok(()) } else { Err(fault(PageFault::CutOff { len: self.len })) }
        };
        expect_in_file(page_size)?;
        let overflow = page::overflow(&self.source.bytes(offset, page::HEADER)?);
        if overflow >= self.meta.pages - id {
            return Err(fault(PageFault::OutOfRange { pages: self.meta.pages }));
        }
        let bytes = (overflow + 1).saturating_mul(page_size);
        expect_in_file(bytes)?;
        let length = usize::try_from(bytes).ok().filter(|_| bytes <= self.page_bytes_max);
        let length = length.ok_or_else(|| fault(PageFault::TooLarge { bytes }))?;
        let page = Page::new(id, offset, self.source.bytes(offset, length)?);
        page.expect_id()?;
        Ok(page)
    }

    /// Reads a branch or leaf with its overflow pages.
    fn page(&self, id: u64) -> Result<Page<'_>, Error> {
        let page = self.raw_page(id)?;
        page.expect_tree()?;
        Ok(page)
    }

    /// The first bytes of a page: enough to say what it is and how many elements it has.
    fn page_head(&self, id: u64) -> Result<Page<'_>, Error> {
        let page_size = u64::from(self.meta.page_size);
        let offset = id.saturating_mul(page_size);
        let fault = |fault| Error::from(Corruption::Page { page: id, offset, fault });
        if id >= self.meta.pages {
            return Err(fault(PageFault::OutOfRange { pages: self.meta.pages }));
        }
        if offset.checked_add(page_size).is_none_or(|end| end > self.len) {
            return Err(fault(PageFault::CutOff { len: self.len }));
        }
        let header: Cow<'_, [u8]> = self.source.bytes(offset, page::HEADER)?;
        let page = Page::new(id, offset, header);
        page.expect_id()?;
        page.expect_tree()?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests;
