//! One page of a bbolt file, with its overflow pages: a header, element heads, keys and values.
//!
//! Elements are read where they lie: what is asked for is checked against the page, nothing is copied.

use std::borrow::Cow;
use std::ops::Range;

use super::Corruption;

/// Bytes of a page's header, of a branch's element head and of a leaf's.
pub(super) const HEADER: usize = 16;
pub(super) const ELEMENT: usize = 16;
/// What a page is.
pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;
/// A leaf's element is a bucket.
pub(super) const BUCKET: u32 = 1;

/// What is wrong with a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    /// Its number, or its last overflow page's, is not in the file.
    #[error("lies beyond the {pages} pages in use")]
    OutOfRange {
        /// Pages in use.
        pages: u64,
    },
    /// The file ends before it does.
    #[error("lies behind byte {len}, where the file ends")]
    CutOff {
        /// Length of the file in bytes.
        len: u64,
    },
    /// It carries another number.
    #[error("says it is page {found}")]
    OtherId {
        /// The number it carries.
        found: u64,
    },
    /// It is neither a branch nor a leaf.
    #[error("is neither a branch nor a leaf (flags {flags:#06x})")]
    OtherKind {
        /// What its header says it is.
        flags: u16,
    },
    /// It should be the list of free pages.
    #[error("is not the list of free pages that the header says it is (flags {flags:#06x})")]
    NotAFreelist {
        /// What its header says it is.
        flags: u16,
    },
    /// The list of free pages has a page that cannot be free.
    #[error("lists page {page} as free, which {fault}")]
    FalselyFree {
        /// The page.
        page: u64,
        /// Why it cannot be free.
        fault: &'static str,
    },
    /// It, or what it holds, is larger than this reader holds in memory.
    #[error("holds {bytes} bytes, more than is read at once")]
    TooLarge {
        /// How large.
        bytes: u64,
    },
    /// An element reaches out of the page.
    #[error("element {index} reaches out of the page")]
    Element {
        /// Which one, from 0.
        index: usize,
    },
    /// An element's key has no bytes.
    #[error("element {index} has an empty key")]
    EmptyKey {
        /// Which one, from 0.
        index: usize,
    },
    /// Between two elements is a gap, or they overlap: nothing writes them so.
    #[error("element {index} does not begin where the one before it ends")]
    Scattered {
        /// Which one, from 0.
        index: usize,
    },
    /// Keys are not in order.
    #[error("the key of element {index} is not greater than the one before it")]
    NotSorted {
        /// Which one, from 0.
        index: usize,
    },
    /// A key does not belong below the page that refers to this one.
    #[error("the key of element {index} lies outside the keys that the page above gives to this one")]
    Astray {
        /// Which one, from 0.
        index: usize,
    },
    /// The page above has another first key for this one. bbolt keeps them equal.
    #[error("begins with another key than the page above says")]
    OtherFirstKey,
    /// It has overflow pages that its elements do not need.
    #[error("has {overflow} overflow pages, and needs {needed}")]
    SpareOverflow {
        /// Pages it has beside the first.
        overflow: u64,
        /// Pages it needs beside the first.
        needed: u64,
    },
    /// The page image of a small bucket has bytes that its elements do not need.
    #[error("holds a bucket with {bytes} bytes behind its last element")]
    SpareBytes {
        /// How many.
        bytes: u64,
    },
    /// A page below the root is empty.
    #[error("has no elements")]
    NoElements,
    /// Two pages refer to it.
    #[error("is referred to twice")]
    Repeated,
    /// The tree is deeper than a tree can be.
    #[error("lies too deep: the pages above it form a loop")]
    TooDeep,
    /// A key stands where a bucket should be, or a bucket's head is torn.
    #[error("holds a broken bucket")]
    NotABucket,
}

/// A page in memory.
#[derive(Debug, Clone)]
pub(super) struct Page<'a> {
    id: u64,
    offset: u64,
    image: Cow<'a, [u8]>,
}

/// An element of a branch: the page below, and the smallest key in it.
pub(super) struct Child<'p> {
    pub(super) key: &'p [u8],
    pub(super) page: u64,
    /// Where the key lies in the page.
    pub(super) at: usize,
}

/// An element of a leaf.
pub(super) struct Item<'p> {
    pub(super) flags: u32,
    pub(super) key: &'p [u8],
    pub(super) value: &'p [u8],
    /// Where the key lies in the page; the value follows.
    pub(super) at: usize,
}

impl Item<'_> {
    pub(super) fn is_bucket(&self) -> bool {
        self.flags & BUCKET != 0
    }

    /// Where the value lies in the page.
    pub(super) fn value_range(&self) -> Range<usize> {
        let start = self.at + self.key.len();
        start..start + self.value.len()
    }
}

impl<'a> Page<'a> {
    /// A page at `offset` of the file; `image` is at least a header.
    pub(super) fn new(id: u64, offset: u64, image: Cow<'a, [u8]>) -> Self {
        Self { id, offset, image }
    }

    /// The page that is kept at this place of this page; faults name this page, and the place.
    pub(super) fn inline(&self, place: Range<usize>) -> Self {
        let offset = self.offset + place.start as u64;
        let image = match &self.image {
            Cow::Borrowed(image) => Cow::Borrowed(image.get(place).unwrap_or_default()),
            Cow::Owned(image) => Cow::Owned(image.get(place).unwrap_or_default().to_vec()),
        };
        Self::new(self.id, offset, image)
    }

    pub(super) fn corrupt(&self, fault: PageFault) -> Corruption {
        Corruption::Page { page: self.id, offset: self.offset, fault }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Where the page starts in the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Its bytes, overflow pages included.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.image
    }

    pub(super) fn expect_id(&self) -> Result<(), Corruption> {
        match u64_at(&self.image, 0) {
            Some(found) if found == self.id => Ok(()),
            found => Err(self.corrupt(PageFault::OtherId { found: found.unwrap_or_default() })),
        }
    }

    pub(super) fn expect_tree(&self) -> Result<(), Corruption> {
        match self.flags() {
            BRANCH | LEAF => Ok(()),
            flags => Err(self.corrupt(PageFault::OtherKind { flags })),
        }
    }

    pub(super) fn is_branch(&self) -> bool {
        self.flags() == BRANCH
    }

    pub(super) fn flags(&self) -> u16 {
        u16_at(&self.image, 8).unwrap_or_default()
    }

    /// How many elements it says it has.
    pub(super) fn count(&self) -> usize {
        usize::from(u16_at(&self.image, 10).unwrap_or_default())
    }

    /// All elements are within the page and in order.
    pub(super) fn expect_order(&self) -> Result<(), Corruption> {
        self.expect_tree()?;
        if self.is_branch() && self.count() == 0 {
            return Err(self.corrupt(PageFault::NoElements));
        }
        let mut previous: Option<&[u8]> = None;
        for index in 0..self.count() {
            let key = self.key(index)?;
            if previous.is_some_and(|previous| previous >= key) {
                return Err(self.corrupt(PageFault::NotSorted { index }));
            }
            previous = Some(key);
        }
        Ok(())
    }

    /// The key of an element of either kind of page.
    pub(super) fn key(&self, index: usize) -> Result<&[u8], Corruption> {
        if self.is_branch() {
            self.child(index).map(|child| child.key)
        } else {
            self.item(index).map(|item| item.key)
        }
    }

    /// An element of a branch.
    pub(super) fn child(&self, index: usize) -> Result<Child<'_>, Corruption> {
        self.read_child(index).ok_or_else(|| self.corrupt(PageFault::Element { index }))
    }

    /// An element of a leaf.
    pub(super) fn item(&self, index: usize) -> Result<Item<'_>, Corruption> {
        self.read_item(index).ok_or_else(|| self.corrupt(PageFault::Element { index }))
    }

    fn read_child(&self, index: usize) -> Option<Child<'_>> {
        let (head, base) = self.head(index)?;
        let at = place(base, head, 0)?;
        let end = at.checked_add(length(head, 4)?)?;
        Some(Child { key: self.image.get(at..end)?, page: u64_at(head, 8)?, at })
    }

    fn read_item(&self, index: usize) -> Option<Item<'_>> {
        let (head, base) = self.head(index)?;
        let at = place(base, head, 4)?;
        let middle = at.checked_add(length(head, 8)?)?;
        let end = middle.checked_add(length(head, 12)?)?;
        let (key, value) = self.image.get(at..end)?.split_at(middle - at);
        Some(Item { flags: u32_at(head, 0)?, key, value, at })
    }

    /// The head of an element and its place: the element's own offsets count from there.
    fn head(&self, index: usize) -> Option<(&[u8], usize)> {
        let base = HEADER + index * ELEMENT;
        Some((self.image.get(base..base + ELEMENT)?, base))
    }
}

fn place(base: usize, head: &[u8], at: usize) -> Option<usize> {
    base.checked_add(length(head, at)?)
}

fn length(head: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(head, at)?).ok()
}

/// Overflow pages, from a page's header.
pub(super) fn overflow(header: &[u8]) -> u64 {
    u64::from(u32_at(header, 12).unwrap_or_default())
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
