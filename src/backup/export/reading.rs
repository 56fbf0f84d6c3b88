//! Reads an export, and proves it: what was cut off, changed or made by something else is never taken for one.

use std::io::{self, BufRead, Read};

use ring::digest::{Context, SHA256};

use super::record::{Counts, FORMAT, Head, LAST, Last, Record, VERSION, line, printable};
use crate::job::config::hex;

/// No line is longer: a key of the largest message there is, in base64.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Its first line is not that of an export.
    #[error("it is no export of etcd-backup")]
    Foreign,
    /// It is one of another version.
    #[error("it is an export of version {0}; this release reads version {VERSION}")]
    Version(u32),
    /// Its last line is missing.
    #[error("it is cut off behind line {0}: the last line of an export, with counts and hash, is not there")]
    CutOff(u64),
    /// A line that cannot be understood.
    #[error("it is damaged: line {line} {why}")]
    Line {
        /// Which; the first one is 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The hash or a count of the last line is not that of the others.
    #[error(
        "it is damaged: what its lines say is not what was written, by the counts and the hash in its last line"
    )]
    Changed,
    /// There is more behind the last line.
    #[error("it is damaged: something follows its last line")]
    Behind,
}

/// An export that is being read.
pub struct Reading<R> {
    from: R,
    sha256: Context,
    counts: Counts,
    lines: u64,
    bytes: u64,
    last_key: Option<Vec<u8>>,
    /// The hash that the last line had, once it was read and proven.
    proven: Option<String>,
}

impl<R: BufRead> Reading<R> {
    /// Reads the head.
    pub fn begin(from: R) -> Result<(Head, Self), Unproven> {
        let (sha256, counts) = (Context::new(&SHA256), Counts::default());
        let mut reading = Self { from, sha256, counts, lines: 0, bytes: 0, last_key: None, proven: None };
        let head = reading.line()?.ok_or(Unproven::Foreign)?;
        // Version and kind first: another version may have other fields.
        let value: serde_json::Value = serde_json::from_slice(&head).map_err(|_| Unproven::Foreign)?;
        if value.get("format").and_then(serde_json::Value::as_str) != Some(FORMAT) {
            return Err(Unproven::Foreign);
        }
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(Unproven::Version(version.try_into().unwrap_or(u32::MAX))),
            None => return Err(Unproven::Foreign),
        }
        let understood = serde_json::from_value(value);
        let understood =
            understood.map_err(|error| Unproven::Line { line: 1, why: not_understood(&error) })?;
        reading.sha256.update(&head);
        Ok((understood, reading))
    }

    /// The next line; `None` when the last one was read and everything is as it was written.
    pub fn read(&mut self) -> Result<Option<Record>, Unproven> {
        if self.proven.is_some() {
            return Ok(None);
        }
        let Some(text) = self.line()? else { return Err(Unproven::CutOff(self.lines)) };
        if text.starts_with(LAST) {
            return self.last(&text).map(|()| None);
        }
        let number = self.lines;
        let damaged = |why: String| Unproven::Line { line: number, why };
        let record: Record = serde_json::from_slice(&text).map_err(|error| match text.last() {
            Some(b'\n') => damaged(not_understood(&error)),
            _ => Unproven::CutOff(number - 1),
        })?;
        if let Record::Key(key) = &record {
            if self.last_key.as_ref().is_some_and(|last| *last >= key.key.0) {
                return Err(damaged(format!(
                    "has key {}, which is not behind the one before",
                    printable(&key.key.0)
                )));
            }
            self.last_key = Some(key.key.0.clone());
        }
        self.sha256.update(&text);
        self.counts.add(&record);
        Ok(Some(record))
    }

    /// How many bytes were read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The counts; those of the whole when the end has been reached.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The hash of everything before the last line, when the end has been reached.
    pub fn sha256(&self) -> Option<&str> {
        self.proven.as_deref()
    }

    /// The last line has one spelling only: so that no byte of it can be another one unseen.
    fn last(&mut self, text: &[u8]) -> Result<(), Unproven> {
        let sha256 = hex(self.sha256.clone().finish().as_ref());
        let expected = line(&Last::End { counts: self.counts, sha256: &sha256 });
        if text != expected {
            let cut = text.len() < expected.len() && text.last() != Some(&b'\n');
            return Err(if cut { Unproven::CutOff(self.lines - 1) } else { Unproven::Changed });
        }
        if !self.from.fill_buf()?.is_empty() {
            return Err(Unproven::Behind);
        }
        self.proven = Some(sha256);
        Ok(())
    }

    /// A line with its end; `None` at the end of the file.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Unproven> {
        let mut line = Vec::new();
        let read = (&mut self.from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.lines += 1;
        self.bytes += read as u64;
        if read as u64 == LINE_BYTES_MAX {
            let why = format!("has more than {LINE_BYTES_MAX} bytes");
            return Err(Unproven::Line { line: self.lines, why });
        }
        Ok(Some(line))
    }
}

/// Without serde's own line number, which is always 1.
fn not_understood(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let why = text.split(" at line ").next().unwrap_or_default();
    format!("cannot be understood ({why})")
}

#[cfg(test)]
mod tests;
