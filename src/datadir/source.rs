//! Where the bytes of a file come from: read with `pread`, or mapped.
//!
//! The launcher reads ([`File`]): a disk that fails under a map ends the process with SIGBUS, and the launcher must
//! outlive a broken disk. Whoever reads everything maps ([`Map`]): nothing is copied, and a process that a broken
//! disk ends can be started again by the one that waits for its verdict.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memmap2::Mmap;

/// Bytes at known places.
pub trait Source {
    /// How many there are.
    fn length(&self) -> io::Result<u64>;

    /// Exactly `length` bytes from `offset` on. Fails with [`io::ErrorKind::UnexpectedEof`] if there are not so many.
    fn bytes(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>>;
}

/// A file, mapped for reading.
#[derive(Debug)]
pub struct Map(Option<Mmap>);

impl Map {
    /// Maps a whole file; an empty one is no bytes.
    ///
    /// The file must not be cut short by anybody while the map lives: etcd's lock is held by the caller, or the file
    /// is a snapshot that nobody writes.
    pub fn of(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is private and read-only, so that Rust never sees it written by this process. Another
        // process that writes to the file meanwhile changes what is read, which every reader takes as damage of the
        // file: each length and number in it is a claim that is checked before it is used, and is read once.
        #[expect(unsafe_code, reason = "there is no safe way to map a file")]
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(Some(map)))
    }

    /// All of it.
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Source for Map {
    fn length(&self) -> io::Result<u64> {
        Ok(self.as_slice().len() as u64)
    }

    fn bytes(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        slice(self.as_slice(), offset, length).map(Cow::Borrowed)
    }
}

impl Source for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn bytes(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        slice(self, offset, length).map(Cow::Borrowed)
    }
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn bytes(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(Cow::Owned(bytes))
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn bytes(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        (**self).bytes(offset, length)
    }
}

fn slice(all: &[u8], offset: u64, length: usize) -> io::Result<&[u8]> {
    usize::try_from(offset)
        .ok()
        .and_then(|start| all.get(start..start.checked_add(length)?))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_and_its_map_give_the_same_bytes_and_refuse_the_same_ones() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let map = Map::of(&file).unwrap();

        for (offset, length) in [(0, 10), (3, 4), (10, 0), (9, 2), (11, 0), (u64::MAX, 1), (0, 11)] {
            let read = file.bytes(offset, length).ok().filter(|_| length > 0).map(Cow::into_owned);
            let mapped = map.bytes(offset, length).ok().filter(|_| length > 0).map(Cow::into_owned);
            assert_eq!(read, mapped, "{length} bytes from {offset} on");
        }
        assert_eq!((file.length().unwrap(), map.length().unwrap()), (10, 10));
    }

    #[test]
    fn an_empty_file_is_mapped_as_no_bytes() {
        let map = Map::of(&tempfile::tempfile().unwrap()).unwrap();

        assert_eq!(map.as_slice(), b"");
    }
}
