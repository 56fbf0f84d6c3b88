//! Writing a new bbolt file, bucket by bucket, without holding more than a page per level of a tree.
//!
//! ```no_run
//! use etcd_release::datadir::bolt::write::{WriteError, Writer};
//! # fn main() -> Result<(), WriteError> {
//! let mut writer = Writer::new(std::fs::File::create_new("db")?, 4096)?;
//! writer.bucket(b"cluster", |bucket| bucket.put(b"clusterVersion", b"3.6.0"))?;
//! writer.finish()?;
//! # Ok(()) }
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::meta::{Meta, PAGE_SIZES};
use super::node::{Sink, Tree};
use super::page::BUCKET;

/// The first page behind the headers.
const FIRST: u64 = 2;

/// Why nothing can be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The operating system says no.
    #[error("writing failed")]
    Io(#[from] io::Error),
    /// The file that is to be changed cannot be read.
    #[error(transparent)]
    Read(#[from] super::Error),
    /// bbolt has no pages of this size.
    #[error("a page cannot have {0} bytes")]
    PageSize(u32),
    /// A key or a value is empty or too large for bbolt.
    #[error("an entry cannot have a key of {key} bytes and a value of {value}")]
    Size {
        /// Bytes of the key.
        key: usize,
        /// Bytes of the value.
        value: usize,
    },
    /// Entries come in the wrong order.
    #[error("key '{}' comes after '{}', and is not greater", key.escape_ascii(), last.escape_ascii())]
    NotSorted {
        /// The key.
        key: Vec<u8>,
        /// The one before it.
        last: Vec<u8>,
    },
    /// No transaction can follow the last one.
    #[error("the header counts {0} transactions: there is no next one")]
    LastTransaction(u64),
}

/// A file that is being written.
pub struct Writer {
    sink: Sink,
    page_size: u32,
    roots: Tree,
}

/// A bucket that is being filled.
pub struct Filling<'w> {
    tree: &'w mut Tree,
    sink: &'w mut Sink,
}

impl Filling<'_> {
    /// Adds an entry; its key must be greater than the one before it.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        self.tree.put(self.sink, 0, key, value)
    }
}

impl Writer {
    /// Begins with an empty file. Page sizes are powers of two from 1 KiB to 1 MiB; etcd takes that of the
    /// operating system.
    pub fn new(file: File, page_size: u32) -> Result<Self, WriteError> {
        if !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size) {
            return Err(WriteError::PageSize(page_size));
        }
        Ok(Self { sink: Sink::new(file, page_size, FIRST)?, page_size, roots: Tree::new() })
    }

    /// Writes a bucket, which `fill` puts the entries into; names come in order.
    pub fn bucket<E: From<WriteError>>(
        &mut self,
        name: &[u8],
        fill: impl FnOnce(&mut Filling<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let root = filled(Tree::new(), &mut self.sink, fill)?;
        self.roots.put(&mut self.sink, BUCKET, name, &bucket_value(root, 0))?;
        Ok(())
    }

    /// Writes the list of buckets, then the headers: until then nobody takes the file for one. Everything is on
    /// the disk when this returns; the directory is the caller's.
    pub fn finish(mut self) -> Result<File, WriteError> {
        let root = self.roots.finish(&mut self.sink)?;
        let pages = self.sink.next();
        let file = self.sink.into_file()?;
        file.set_len(pages * u64::from(self.page_size))?;
        file.sync_all()?;
        for txid in [0, 1] {
            put_meta(&file, Meta { page_size: self.page_size, root, freelist: None, pages, txid })?;
        }
        file.sync_all()?;
        Ok(file)
    }
}

/// Fills a tree; gives the page it starts from.
pub(super) fn filled<E: From<WriteError>>(
    mut tree: Tree,
    sink: &mut Sink,
    fill: impl FnOnce(&mut Filling<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    fill(&mut Filling { tree: &mut tree, sink })?;
    tree.finish(sink).map_err(|error| WriteError::from(error).into())
}

/// What the list of buckets has of a bucket: its first page, and a number that the bucket keeps for its users.
pub(super) fn bucket_value(root: u64, sequence: u64) -> Vec<u8> {
    [root.to_le_bytes(), sequence.to_le_bytes()].concat()
}

/// Writes a header to the page that its transaction takes.
pub(super) fn put_meta(file: &File, meta: Meta) -> io::Result<()> {
    let mut page = meta.to_page();
    let page_size = u64::from(meta.page_size);
    page.resize(usize::try_from(page_size).map_err(io::Error::other)?, 0);
    file.write_all_at(&page, meta.txid % 2 * page_size)
}

#[cfg(test)]
pub(super) mod tests;
