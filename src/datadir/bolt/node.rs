//! Pages that are being filled, and the tree above them: entries come in order, and a page is written when
//! the next entry has no room on it. One page per level of the tree is held.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use super::page::{self, BRANCH, ELEMENT, HEADER, LEAF, Page};
use super::write::WriteError;
use super::{Bucket, Error};
use crate::datadir::source::Source;

/// bbolt's own limits of a key and a value, in bytes.
const KEY_MAX: usize = 32768;
const VALUE_MAX: usize = (1 << 31) - 2;
/// bbolt wants a branch to have two children.
const CHILDREN_MIN: usize = 2;
const BUFFER: usize = 1 << 20;

/// Where pages go: one after the other.
pub(super) struct Sink {
    out: BufWriter<File>,
    page_size: u32,
    next: u64,
}

/// A page that is being filled.
#[derive(Default)]
struct Node {
    heads: Vec<Head>,
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
}

struct Head {
    /// Of a leaf's element its flags, of a branch's the page below.
    mark: u64,
    key: usize,
    value: usize,
}

/// A tree that is being filled: its rightmost page of each level, leaves first.
pub(super) struct Tree {
    levels: Vec<Node>,
    last: Vec<u8>,
}

impl Sink {
    /// Pages from number `next` on.
    pub(super) fn new(mut file: File, page_size: u32, next: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(next.saturating_mul(u64::from(page_size))))?;
        Ok(Self { out: BufWriter::with_capacity(BUFFER, file), page_size, next })
    }

    /// The number that the next page will have.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The file, with everything in it.
    pub(super) fn into_file(mut self) -> io::Result<File> {
        self.out.flush()?;
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }

    /// Writes the first `count` elements of a node as a page, with as many overflow pages as it needs.
    fn write(&mut self, node: &Node, count: usize, kind: u16) -> io::Result<u64> {
        let heads = &node.heads[..count];
        let content: usize = heads.iter().map(|head| head.key + head.value).sum();
        let bytes = (HEADER + count * ELEMENT + content) as u64;
        let pages = bytes.div_ceil(u64::from(self.page_size));
        let id = self.next;
        self.out.write_all(&id.to_le_bytes())?;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&u16::try_from(count).map_err(too_large)?.to_le_bytes())?;
        self.out.write_all(&u32::try_from(pages - 1).map_err(too_large)?.to_le_bytes())?;
        let mut at = 0;
        for (index, head) in heads.iter().enumerate() {
            // Counted from the element's own head.
            let position = ((count - index) * ELEMENT + at) as u64;
            at += head.key + head.value;
            // Keys and values are below 2 GiB, and only one of them can be large.
            let word = |number: u64| u32::try_from(number).map_err(too_large).map(u32::to_le_bytes);
            if kind == BRANCH {
                self.out.write_all(&word(position)?)?;
                self.out.write_all(&word(head.key as u64)?)?;
                self.out.write_all(&head.mark.to_le_bytes())?;
            } else {
                for number in [head.mark, position, head.key as u64, head.value as u64] {
                    self.out.write_all(&word(number)?)?;
                }
            }
        }
        self.out.write_all(&node.bytes[..content])?;
        io::copy(&mut io::repeat(0).take(pages * u64::from(self.page_size) - bytes), &mut self.out)?;
        self.next += pages;
        Ok(id)
    }
}

fn too_large(_: std::num::TryFromIntError) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "a page has no room for this")
}

impl Node {
    fn push(&mut self, mark: u64, key: &[u8], value: &[u8]) {
        self.heads.push(Head { mark, key: key.len(), value: value.len() });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    fn size(&self) -> usize {
        HEADER + self.heads.len() * ELEMENT + self.bytes.len()
    }

    fn first_key(&self) -> Vec<u8> {
        let length = self.heads.first().map_or(0, |head| head.key);
        self.bytes[..length].to_vec()
    }

    fn remove_first(&mut self, count: usize) {
        let content: usize = self.heads.drain(..count).map(|head| head.key + head.value).sum();
        self.bytes.drain(..content);
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { levels: vec![Node::default()], last: Vec::new() }
    }

    /// The tree of a bucket that is there, to be gone on with behind its last key: its rightmost pages, which
    /// will be written anew elsewhere.
    pub(super) fn behind<S: Source>(bucket: &Bucket<'_, S>) -> Result<Self, Error> {
        let mut levels = Vec::new();
        let leaf = bucket.rightmost(&mut |page: &Page<'_>| {
            let mut node = Node::default();
            // The last child is the page that is written anew.
            for index in 0..page.count().saturating_sub(1) {
                let child = page.child(index)?;
                node.push(child.page, child.key, &[]);
            }
            levels.push(node);
            Ok(())
        })?;
        let mut node = Node::default();
        let mut last = Vec::new();
        for index in 0..leaf.count() {
            let item = leaf.item(index)?;
            node.push(u64::from(item.flags), item.key, item.value);
            last = item.key.to_vec();
        }
        levels.push(node);
        levels.reverse();
        Ok(Self { levels, last })
    }

    /// Adds an entry behind all others.
    pub(super) fn put(
        &mut self,
        sink: &mut Sink,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), WriteError> {
        if key.is_empty() || key.len() > KEY_MAX || value.len() > VALUE_MAX {
            return Err(WriteError::Size { key: key.len(), value: value.len() });
        }
        if key <= self.last.as_slice() {
            return Err(WriteError::NotSorted { key: key.to_vec(), last: self.last.clone() });
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        let [leaf, ..] = self.levels.as_mut_slice() else { unreachable!("a tree has leaves") };
        let size = leaf.size() + ELEMENT + key.len() + value.len();
        if !leaf.heads.is_empty() && size > sink.page_size as usize {
            let (first, count) = (leaf.first_key(), leaf.heads.len());
            let id = sink.write(leaf, count, LEAF)?;
            leaf.remove_first(count);
            leaf.push(u64::from(flags), key, value);
            self.add_child(sink, 1, &first, id)?;
        } else {
            leaf.push(u64::from(flags), key, value);
        }
        Ok(())
    }

    fn add_child(&mut self, sink: &mut Sink, level: usize, key: &[u8], id: u64) -> io::Result<()> {
        if level == self.levels.len() {
            self.levels.push(Node::default());
        }
        let node = &mut self.levels[level];
        node.push(id, key, &[]);
        let count = node.heads.len();
        if count >= 2 * CHILDREN_MIN && node.size() > sink.page_size as usize {
            // What stays behind is a branch of its own at the end, and must be enough for one.
            let written = count - CHILDREN_MIN;
            let first = node.first_key();
            let id = sink.write(node, written, BRANCH)?;
            node.remove_first(written);
            self.add_child(sink, level + 1, &first, id)?;
        }
        Ok(())
    }

    /// Writes what is left; gives the page that the tree starts from.
    pub(super) fn finish(mut self, sink: &mut Sink) -> io::Result<u64> {
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.levels.len();
            let node = std::mem::take(&mut self.levels[level]);
            // A branch of one child says nothing.
            if let ([only], true) = (node.heads.as_slice(), is_top && level > 0) {
                return Ok(only.mark);
            }
            let kind = if level == 0 { page::LEAF } else { page::BRANCH };
            let id = sink.write(&node, node.heads.len(), kind)?;
            if is_top {
                return Ok(id);
            }
            level += 1;
            self.add_child(sink, level, &node.first_key(), id)?;
        }
    }
}
