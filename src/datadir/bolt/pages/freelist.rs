//! The list of free pages, of a file that has one. etcd's have none: it lets bbolt find them at each start.
//! bbolt believes a list that is there, and would write over any page in it.

use std::io;

use super::bits::Bits;
use super::{Visitor, Walk};
use crate::datadir::bolt::page::{self, FREELIST, HEADER, Page, u64_at};
use crate::datadir::bolt::{Corruption, Error, PageFault};
use crate::datadir::source::Source;

/// A count of so many says that the first number of the list is the count.
const COUNT_IS_FIRST: usize = 0xFFFF;

/// Compares the list, which starts at page `id`, with what the walk has met; gives the number of free pages that
/// it does not have.
pub(super) fn check<S: Source, V: Visitor>(walk: &mut Walk<'_, S, V>, id: u64) -> io::Result<u64> {
    let db = walk.db;
    let page = match db.raw_page(id) {
        Ok(page) => page,
        Err(Error::Io(error)) => return Err(error),
        Err(Error::Corrupt(corruption)) => {
            walk.fault(corruption);
            return Ok(0);
        }
    };
    walk.visitor.read(page.bytes().len() as u64);
    let mut repeated = false;
    for number in id..id + page.bytes().len() as u64 / u64::from(db.meta.page_size) {
        repeated |= !walk.used.set(number);
    }
    if repeated {
        walk.fault(page.corrupt(PageFault::Repeated));
        return Ok(0);
    }
    let mut listed = Bits::new(db.meta.pages);
    let numbers = match numbers(&page) {
        Ok(numbers) => numbers,
        Err(corruption) => {
            walk.fault(corruption);
            return Ok(0);
        }
    };
    for number in numbers {
        let fault = if number < 2 {
            "is a header"
        } else if number >= db.meta.pages {
            "lies beyond the pages in use"
        } else if walk.used.get(number) {
            "is in use"
        } else if !listed.set(number) {
            "is in the list already"
        } else {
            continue;
        };
        walk.fault(page.corrupt(PageFault::FalselyFree { page: number, fault }));
    }
    Ok(db.meta.pages.saturating_sub(walk.used.count() + listed.count()))
}

/// The numbers in the list.
fn numbers<'p>(page: &'p Page<'_>) -> Result<impl Iterator<Item = u64> + 'p, Corruption> {
    if page.flags() != FREELIST {
        return Err(page.corrupt(PageFault::NotAFreelist { flags: page.flags() }));
    }
    let body = page.bytes().get(HEADER..).unwrap_or_default();
    let (skip, count) = match page.count() {
        COUNT_IS_FIRST => (1, u64_at(body, 0).and_then(|count| usize::try_from(count).ok())),
        count => (0, Some(count)),
    };
    let fits = count.and_then(|count| count.checked_add(skip)).filter(|count| *count <= body.len() / 8);
    let end = fits.ok_or_else(|| page.corrupt(PageFault::Element { index: body.len() / 8 }))?;
    Ok((skip..end).filter_map(|index| page::u64_at(body, index * 8)))
}
