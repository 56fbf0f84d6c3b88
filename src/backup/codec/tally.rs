//! Size and hash of what went by.

use ring::digest::{Context, SHA256};

use crate::job::config::hex;

pub(super) struct Tally {
    bytes: u64,
    sha256: Context,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { bytes: 0, sha256: Context::new(&SHA256) }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    /// Both, the hash in hexadecimal digits.
    pub(super) fn read(&self) -> (u64, String) {
        (self.bytes, hex(self.sha256.clone().finish().as_ref()))
    }
}
