//! Files of `etcdctl snapshot save`: the pages of a backend, and behind them the SHA-256 of these pages.
//!
//! A copy of a member's `db` is the same without the hash (docs/contract.md#snapshot-files).

use std::fmt::Write;

use ring::digest::{Context, SHA256};

/// Bytes of the hash.
pub const HASH_BYTES: u64 = 32;
/// Pages are a multiple of this, whatever their size: what is over is the hash.
const SECTOR: u64 = 512;
/// Bytes that are hashed between two calls of the progress.
const STEP: usize = 1 << 20;

/// What the length of a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of pages.
    pub pages: u64,
    /// Whether a hash follows them.
    pub hash: Hash,
}

/// Whether a file has a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// Behind the pages.
    Present,
    /// It is a copy of a member's `db`, or the end is missing.
    Absent,
}

/// What the hash says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The pages are those that were saved.
    Intact,
    /// They are not.
    Changed {
        /// The hash in the file, in hexadecimal.
        stored: String,
        /// The hash of the pages.
        computed: String,
    },
    /// There is no hash to compare with.
    Unknown,
}

impl Shape {
    /// The shape of a file of this length.
    pub fn of(length: u64) -> Self {
        if length % SECTOR == HASH_BYTES {
            Self { pages: length - HASH_BYTES, hash: Hash::Present }
        } else {
            Self { pages: length, hash: Hash::Absent }
        }
    }
}

/// Compares the hash of a file with its pages. `progress` hears how many bytes are done.
pub fn check(file: &[u8], progress: &mut dyn FnMut(u64)) -> Checked {
    let shape = Shape::of(file.len() as u64);
    let pages = usize::try_from(shape.pages).ok().and_then(|pages| file.split_at_checked(pages));
    let (Hash::Present, Some((pages, stored))) = (shape.hash, pages) else { return Checked::Unknown };
    let mut context = Context::new(&SHA256);
    let mut done = 0;
    for part in pages.chunks(STEP) {
        context.update(part);
        done += part.len() as u64;
        progress(done);
    }
    let computed = context.finish();
    if computed.as_ref() == stored {
        Checked::Intact
    } else {
        Checked::Changed { stored: hexadecimal(stored), computed: hexadecimal(computed.as_ref()) }
    }
}

/// The hash to write behind these pages.
pub fn hash(pages: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&SHA256, pages);
    digest.as_ref().try_into().expect("a SHA-256 hash has 32 bytes")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_tells_whether_there_is_a_hash() {
        for (length, pages, hash) in [
            (0, 0, Hash::Absent),
            (31, 31, Hash::Absent),
            (32, 0, Hash::Present),
            (8192, 8192, Hash::Absent),
            (8192 + 32, 8192, Hash::Present),
            (8192 + 33, 8192 + 33, Hash::Absent),
        ] {
            assert_eq!(Shape::of(length), Shape { pages, hash }, "{length}");
        }
    }

    #[test]
    fn a_changed_byte_is_seen_wherever_it_is() {
        let pages = vec![7; 3 * STEP + 512];
        let file = [pages.as_slice(), &hash(&pages)].concat();
        let mut steps = Vec::new();
        assert_eq!(check(&file, &mut |done| steps.push(done)), Checked::Intact);
        assert_eq!(steps.last(), Some(&(pages.len() as u64)));

        for at in [0, STEP, pages.len() - 1, pages.len(), file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(matches!(check(&changed, &mut |_| {}), Checked::Changed { .. }), "byte {at}");
        }
        assert_eq!(check(&pages, &mut |_| {}), Checked::Unknown);
        assert_eq!(check(&[], &mut |_| {}), Checked::Unknown);
    }
}
