//! Writes an export, line by line.

use std::io::{self, Write};

use ring::digest::{Context, SHA256};

use super::record::{Counts, Head, Last, Record, line};
use crate::job::config::hex;

/// An export that is being written. Without [`Writing::end`] nobody takes it for whole.
pub struct Writing<W> {
    out: W,
    sha256: Context,
    counts: Counts,
    bytes: u64,
}

impl<W: Write> Writing<W> {
    /// Writes the head.
    pub fn begin(out: W, head: &Head) -> io::Result<Self> {
        let mut writing = Self { out, sha256: Context::new(&SHA256), counts: Counts::default(), bytes: 0 };
        writing.line(&line(head))?;
        Ok(writing)
    }

    /// Writes a line; keys in their order.
    pub fn put(&mut self, record: &Record) -> io::Result<()> {
        self.counts.add(record);
        self.line(&line(record))
    }

    /// Writes the last line, and gives what was written to, the counts and the number of bytes.
    pub fn end(mut self) -> io::Result<(W, Counts, u64)> {
        let sha256 = hex(self.sha256.clone().finish().as_ref());
        let counts = self.counts;
        self.line(&line(&Last::End { counts, sha256: &sha256 }))?;
        self.out.flush()?;
        Ok((self.out, counts, self.bytes))
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.sha256.update(line);
        self.bytes += line.len() as u64;
        self.out.write_all(line)
    }
}
