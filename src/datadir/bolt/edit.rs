//! Changing a bbolt file as one transaction: new pages behind those in use, new headers last.
//!
//! Nothing that the old headers refer to is overwritten. A process that ends in the middle leaves the file as
//! it was, with some bytes behind it that nobody reads. Pages that are no longer referred to are free: bbolt
//! finds them when it opens the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;

use super::meta::Meta;
use super::node::{Sink, Tree};
use super::page::{self, BUCKET};
use super::write::{Filling, WriteError, bucket_value, filled, put_meta};
use super::{Db, ENTRY_BYTES_MAX, Error, PageFault};

/// A transaction on a file that nobody else has open.
pub struct Edit {
    file: File,
    sink: Sink,
    meta: Meta,
    /// The list of buckets: small ones are in it as page images.
    roots: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Edit {
    /// Begins; the file must be open for reading and writing.
    pub fn begin(file: File) -> Result<Self, WriteError> {
        let db = Db::over(&file).map_err(WriteError::Read)?;
        let mut roots = BTreeMap::new();
        let mut bytes = 0;
        let _ = db.root().each_item::<()>(&mut |page, item| {
            bytes += item.key.len() + item.value.len();
            if bytes > ENTRY_BYTES_MAX {
                return Err(page.corrupt(PageFault::TooLarge { bytes: bytes as u64 }).into());
            }
            // Refuses what is no bucket, and what has no page.
            super::bucket::root_of(page, item)?;
            roots.insert(item.key.to_vec(), item.value.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        let meta = db.meta();
        let sink = Sink::new(file.try_clone()?, meta.page_size, meta.pages)?;
        Ok(Self { file, sink, meta, roots })
    }

    /// Gives a bucket another content, which `fill` puts in; makes the bucket if there is none.
    pub fn replace<E: From<WriteError>>(
        &mut self,
        bucket: &[u8],
        fill: impl FnOnce(&mut Filling<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.fill(bucket, Tree::new(), fill)
    }

    /// Adds entries behind the last one of a bucket, which `fill` puts in; makes the bucket if there is none.
    /// However many there are, a page per level of the tree is held.
    pub fn append<E: From<WriteError>>(
        &mut self,
        bucket: &[u8],
        fill: impl FnOnce(&mut Filling<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let tree = self.tree(bucket)?;
        self.fill(bucket, tree, fill)
    }

    /// Writes the list of buckets, waits until everything is on the disk, then writes one header and, when that
    /// is on the disk, the other. The file then has the length that its header says.
    pub fn commit(mut self) -> Result<File, WriteError> {
        let mut list = Tree::new();
        for (name, value) in &self.roots {
            list.put(&mut self.sink, BUCKET, name, value)?;
        }
        let root = list.finish(&mut self.sink)?;
        let pages = self.sink.next();
        self.sink.flush()?;
        self.file.set_len(pages.saturating_mul(u64::from(self.meta.page_size)))?;
        self.file.sync_all()?;
        let mut txid = self.meta.txid;
        for _ in 0..2 {
            txid = txid.checked_add(1).ok_or(WriteError::LastTransaction(txid))?;
            put_meta(&self.file, Meta { root, freelist: None, pages, txid, ..self.meta })?;
            self.file.sync_all()?;
        }
        Ok(self.file)
    }

    fn fill<E: From<WriteError>>(
        &mut self,
        bucket: &[u8],
        tree: Tree,
        fill: impl FnOnce(&mut Filling<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let sequence = self.roots.get(bucket).and_then(|value| page::u64_at(value, 8)).unwrap_or(0);
        let root = filled(tree, &mut self.sink, fill)?;
        self.roots.insert(bucket.to_vec(), bucket_value(root, sequence));
        Ok(())
    }

    /// The rightmost pages of a bucket.
    fn tree(&mut self, bucket: &[u8]) -> Result<Tree, WriteError> {
        let Some(value) = self.roots.get(bucket) else { return Ok(Tree::new()) };
        // What this transaction has written is read like the rest.
        self.sink.flush()?;
        let meta = Meta { pages: self.sink.next(), ..self.meta };
        let db = Db::with_meta(&self.file, meta);
        let found = super::Bucket::of_value(&db, value).map_err(Error::from)?;
        Ok(Tree::behind(&found)?)
    }
}

impl From<super::Corruption> for WriteError {
    fn from(corruption: super::Corruption) -> Self {
        Self::Read(corruption.into())
    }
}

#[cfg(test)]
mod tests;
