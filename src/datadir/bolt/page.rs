//! One page of a bbolt file, with its overflow pages: a header, element heads, keys and values.

use std::ops::Range;

use super::Corruption;

/// Bytes of a page's header, of a branch's element head and of a leaf's.
pub(super) const HEADER: usize = 16;
const ELEMENT: usize = 16;
/// What a page is.
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// A leaf's element is a bucket.
const BUCKET: u32 = 1;

/// What is wrong with a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    /// Its number, or its last overflow page's, is not in the file.
    #[error("lies beyond the {pages} pages in use")]
    OutOfRange {
        /// Pages in use.
        pages: u64,
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
    /// Keys are not in order.
    #[error("the key of element {index} is not greater than the one before it")]
    NotSorted {
        /// Which one, from 0.
        index: usize,
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
pub(super) struct Page {
    id: u64,
    offset: u64,
    image: Vec<u8>,
}

/// What a page holds; ranges are places in the page.
pub(super) enum Items {
    Branch(Vec<Child>),
    Leaf(Vec<Item>),
}

pub(super) struct Child {
    pub(super) key: Range<usize>,
    pub(super) page: u64,
}

pub(super) struct Item {
    pub(super) is_bucket: bool,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Page {
    /// A page at `offset` of the file; `image` is at least a header.
    pub(super) fn new(id: u64, offset: u64, image: Vec<u8>) -> Self {
        Self { id, offset, image }
    }

    /// The page that is kept as a value of this page; faults then name this one.
    pub(super) fn inline(&self, image: &[u8]) -> Self {
        Self::new(self.id, self.offset, image.to_vec())
    }

    pub(super) fn corrupt(&self, fault: PageFault) -> Corruption {
        Corruption::Page { page: self.id, offset: self.offset, fault }
    }

    pub(super) fn key(&self, item: &Item) -> &[u8] {
        self.key_at(&item.key)
    }

    pub(super) fn value(&self, item: &Item) -> &[u8] {
        self.key_at(&item.value)
    }

    /// The bytes at a place that [`Page::items`] gave; nothing for any other.
    pub(super) fn key_at(&self, place: &Range<usize>) -> &[u8] {
        self.image.get(place.clone()).unwrap_or_default()
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

    /// How many elements it says it has.
    pub(super) fn count(&self) -> u16 {
        u16_at(&self.image, 10).unwrap_or_default()
    }

    /// All elements, each within the page and in order.
    pub(super) fn items(&self) -> Result<Items, Corruption> {
        self.expect_tree()?;
        let count = usize::from(self.count());
        let element = |index| self.element(index).ok_or_else(|| self.corrupt(PageFault::Element { index }));
        let mut previous: Option<Range<usize>> = None;
        let mut in_order = |index: usize, key: &Range<usize>| {
            let greater =
                previous.replace(key.clone()).is_none_or(|last| self.key_at(&last) < self.key_at(key));
            if greater { Ok(()) } else { Err(self.corrupt(PageFault::NotSorted { index })) }
        };
        if self.flags() == BRANCH {
            let mut children = Vec::with_capacity(count);
            for index in 0..count {
                let (head, base) = element(index)?;
                let child =
                    self.child(head, base).ok_or_else(|| self.corrupt(PageFault::Element { index }))?;
                in_order(index, &child.key)?;
                children.push(child);
            }
            if children.is_empty() {
                return Err(self.corrupt(PageFault::NoElements));
            }
            Ok(Items::Branch(children))
        } else {
            let mut items = Vec::with_capacity(count);
            for index in 0..count {
                let (head, base) = element(index)?;
                let item = self.item(head, base).ok_or_else(|| self.corrupt(PageFault::Element { index }))?;
                in_order(index, &item.key)?;
                items.push(item);
            }
            Ok(Items::Leaf(items))
        }
    }

    fn flags(&self) -> u16 {
        u16_at(&self.image, 8).unwrap_or_default()
    }

    /// The head of an element and its place: the element's own offsets count from there.
    fn element(&self, index: usize) -> Option<(&[u8], usize)> {
        let base = HEADER + index * ELEMENT;
        Some((self.image.get(base..base + ELEMENT)?, base))
    }

    fn child(&self, head: &[u8], base: usize) -> Option<Child> {
        let key = self.place(base, u32_at(head, 0)?, u32_at(head, 4)?)?;
        Some(Child { key, page: u64_at(head, 8)? })
    }

    fn item(&self, head: &[u8], base: usize) -> Option<Item> {
        let key = self.place(base, u32_at(head, 4)?, u32_at(head, 8)?)?;
        let value = self.place(key.end, 0, u32_at(head, 12)?)?;
        Some(Item { is_bucket: u32_at(head, 0)? & BUCKET != 0, key, value })
    }

    /// `length` bytes from `base + position` on, if the page has them.
    fn place(&self, base: usize, position: u32, length: u32) -> Option<Range<usize>> {
        let start = base.checked_add(usize::try_from(position).ok()?)?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        (end <= self.image.len()).then_some(start..end)
    }
}

/// Overflow pages, from a page's header.
pub(super) fn overflow(header: &[u8; HEADER]) -> u64 {
    u64::from(u32_at(header, 12).unwrap_or_default())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
