//! The two headers of a bbolt file: a transaction writes the older one anew, as its last step.

use std::io;

use super::page::{self, u32_at, u64_at};
use crate::datadir::source::Source;

/// A valid header starts so.
const MAGIC: u32 = 0xED0C_DAED;
/// The only layout there has been since 2014.
const VERSION: u32 = 2;
/// Bytes from the start of a page to the end of a header.
pub(super) const META_END: usize = page::HEADER + 64;
/// bbolt takes the operating system's page size: 4 KiB nearly everywhere, 64 KiB on some.
pub(super) const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 20;
/// What stands for "there is no list of free pages". etcd never writes one.
const NO_FREELIST: u64 = u64::MAX;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Bytes in a page.
    pub page_size: u32,
    /// The page that the list of buckets starts from.
    pub root: u64,
    /// The page of the list of free pages, if the file has one: those of etcd have none, and what no page
    /// refers to is free.
    pub freelist: Option<u64>,
    /// Pages in use: no page number reaches this.
    pub pages: u64,
    /// The last transaction.
    pub txid: u64,
}

/// Both headers; `None` for one that is not valid. One that is torn is what a crash in the middle of a
/// transaction leaves: the other one is then in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers(pub [Option<Meta>; 2]);

impl Headers {
    /// Reads both. An error means that the operating system says no.
    pub(super) fn read<S: Source + ?Sized>(source: &S, len: u64) -> io::Result<Self> {
        let first = at(source, 0, len)?;
        let second = match first {
            // bbolt maps the file with the first header's page size, whatever the second one says.
            Some(meta) => at(source, u64::from(meta.page_size), len)?
                .filter(|second| second.page_size == meta.page_size),
            // Without the first header its page size is unknown: the second then lies at its own.
            None => probe(source, len)?,
        };
        Ok(Self([first, second]))
    }

    /// Which of the two is in force (0 or 1) and what it says: the valid one with the higher transaction.
    pub fn in_force(&self) -> Option<(usize, Meta)> {
        match self.0 {
            [Some(first), Some(second)] if second.txid > first.txid => Some((1, second)),
            [Some(first), _] => Some((0, first)),
            [None, Some(second)] => Some((1, second)),
            [None, None] => None,
        }
    }
}

impl Meta {
    /// The page that holds it, with its header; a transaction's number decides which of the two it is.
    pub(super) fn to_page(self) -> Vec<u8> {
        let mut page = Vec::with_capacity(META_END);
        page.extend((self.txid % 2).to_le_bytes());
        page.extend(page::META.to_le_bytes());
        page.extend([0; 6]);
        for number in [MAGIC, VERSION, self.page_size, 0] {
            page.extend(number.to_le_bytes());
        }
        // After the root comes its sequence, which nobody uses.
        for number in [self.root, 0, self.freelist.unwrap_or(NO_FREELIST), self.pages, self.txid] {
            page.extend(number.to_le_bytes());
        }
        let checksum = fnv_1a(&page[page::HEADER..]);
        page.extend(checksum.to_le_bytes());
        page
    }
}

/// The header in the page at `offset`, if it is valid.
fn at<S: Source + ?Sized>(source: &S, offset: u64, len: u64) -> io::Result<Option<Meta>> {
    if offset.checked_add(META_END as u64).is_none_or(|end| end > len) {
        return Ok(None);
    }
    Ok(parse(&source.bytes(offset, META_END)?))
}

/// The second header, at whatever page size it names.
fn probe<S: Source + ?Sized>(source: &S, len: u64) -> io::Result<Option<Meta>> {
    let mut page_size = *PAGE_SIZES.start();
    while page_size <= *PAGE_SIZES.end() {
        let meta = at(source, u64::from(page_size), len)?;
        if meta.is_some_and(|meta| meta.page_size == page_size) {
            return Ok(meta);
        }
        page_size *= 2;
    }
    Ok(None)
}

pub(super) fn parse(page: &[u8]) -> Option<Meta> {
    let body = page.get(page::HEADER..)?;
    let number = |at| u64_at(body, at);
    let valid =
        u32_at(body, 0)? == MAGIC && u32_at(body, 4)? == VERSION && number(56)? == fnv_1a(body.get(..56)?);
    let page_size = u32_at(body, 8)?;
    let fits = page_size.is_power_of_two() && PAGE_SIZES.contains(&page_size);
    (valid && fits).then_some(Meta {
        page_size,
        root: number(16)?,
        freelist: number(32).filter(|page| *page != NO_FREELIST),
        pages: number(40)?,
        txid: number(48)?,
    })
}

/// The 64-bit FNV-1a hash, which bbolt guards its headers with.
pub(in crate::datadir) fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
