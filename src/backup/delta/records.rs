//! Reads the content of a delta one record at a time.

use std::io::{self, BufReader, Read};

use prost::Message;

use super::{HEAD, Record};

/// A transaction of etcd has at most as much as a request, whose limit an operator may raise; more than this is damage.
const RECORD_BYTES_MAX: u64 = 512 << 20;

/// Why a delta cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Reading it failed; of an object it is a [`CodecError`](crate::backup::codec::CodecError).
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It does not begin as deltas do.
    #[error("it does not begin as a delta of version 1 does")]
    Head,
    /// It ends within a record.
    #[error("it ends within the record behind revision {0:?}")]
    Cut(Option<i64>),
    /// A record that is none.
    #[error("behind revision {behind:?}: {why}")]
    Malformed {
        /// The last revision that was read.
        behind: Option<i64>,
        /// What is wrong.
        why: String,
    },
    /// A record does not follow the one before it.
    #[error("revision {found} comes after {last}")]
    Gap {
        /// The last one that was read.
        last: i64,
        /// The one that came.
        found: i64,
    },
}

/// As much is read at a time: whoever opens an object hashes and counts with each read, and a record may be some bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// The records of a delta. After an error nothing more is read.
pub struct Records<R> {
    from: BufReader<R>,
    message: Vec<u8>,
    begun: bool,
    last: Option<i64>,
}

impl<R: Read> Records<R> {
    /// Begins before the head.
    pub fn of(from: R) -> Self {
        let from = BufReader::with_capacity(BUFFER_BYTES, from);
        Self { from, message: Vec::new(), begun: false, last: None }
    }

    /// The next record; `None` is the end, and then everything was read.
    pub fn read(&mut self) -> Result<Option<Record>, RecordError> {
        if !self.begun {
            let mut head = [0; HEAD.len()];
            self.from.read_exact(&mut head).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => RecordError::Head,
                _ => error.into(),
            })?;
            if head != *HEAD {
                return Err(RecordError::Head);
            }
            self.begun = true;
        }
        let Some(length) = self.length()? else { return Ok(None) };
        let malformed = |why: String| RecordError::Malformed { behind: self.last, why };
        if length > RECORD_BYTES_MAX {
            return Err(malformed(format!("a record of {length} bytes")));
        }
        self.message.clear();
        // Grows with what is there, not with what is claimed.
        let read = (&mut self.from).take(length).read_to_end(&mut self.message)?;
        if (read as u64) < length {
            return Err(RecordError::Cut(self.last));
        }
        let record = Record::decode(self.message.as_slice()).map_err(|error| malformed(error.to_string()))?;
        if record.changes.is_empty() || record.changes.iter().any(|change| change.key.is_empty()) {
            return Err(malformed(format!("revision {} has no change, or one of no key", record.revision)));
        }
        match self.last {
            Some(last) if record.revision != last.saturating_add(1) => {
                return Err(RecordError::Gap { last, found: record.revision });
            }
            None if record.revision < 1 => return Err(malformed(format!("revision {}", record.revision))),
            _ => {}
        }
        self.last = Some(record.revision);
        Ok(Some(record))
    }

    /// A varint; `None` at the end.
    fn length(&mut self) -> Result<Option<u64>, RecordError> {
        let mut length = 0_u64;
        for place in 0..10 {
            let mut byte = [0];
            if self.from.read(&mut byte)? == 0 {
                return if place == 0 { Ok(None) } else { Err(RecordError::Cut(self.last)) };
            }
            length |= u64::from(byte[0] & 0x7f) << (7 * place);
            if byte[0] & 0x80 == 0 {
                return Ok(Some(length));
            }
        }
        Err(RecordError::Malformed { behind: self.last, why: "a length of more than 64 bits".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::delta::Change;
    use crate::backup::fixture::RecordWriter;

    fn record(revision: i64) -> Record {
        let change = Change {
            key: b"key".to_vec(),
            value: vec![7; 300],
            create_revision: 1,
            version: 2,
            ..Change::default()
        };
        Record { revision, at_unix_ms: 1000 * revision, changes: vec![change], leases: vec![] }
    }

    fn written(revisions: &[i64]) -> Vec<u8> {
        let mut writer = RecordWriter::default();
        for revision in revisions {
            writer.put(&record(*revision));
        }
        writer.take()
    }

    fn read(bytes: &[u8]) -> Result<Vec<i64>, RecordError> {
        let mut records = Records::of(bytes);
        let mut revisions = Vec::new();
        while let Some(record) = records.read()? {
            revisions.push(record.revision);
        }
        Ok(revisions)
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&written(&[])).unwrap(), Vec::<i64>::new());
        assert_eq!(read(&written(&[5, 6, 7])).unwrap(), [5, 6, 7]);
        let mut records = Records::of(written(&[5]).leak() as &[u8]);
        assert_eq!(records.read().unwrap(), Some(record(5)));
    }

    #[test]
    fn what_is_no_delta_is_told() {
        let whole = written(&[5, 6]);
        for (what, bytes, told) in [
            ("nothing", vec![], "does not begin"),
            ("another head", [b"etcd-delta 2\n\0\0\0".as_slice(), &whole[16..]].concat(), "does not begin"),
            ("a gap", written(&[5, 7]), "revision 7 comes after 5"),
            ("a step back", written(&[5, 4]), "revision 4 comes after 5"),
            ("revision 0", written(&[0]), "revision 0"),
            ("cut", whole[..whole.len() - 1].to_vec(), "ends within the record behind revision Some(5)"),
            ("cut within a length", [HEAD.as_slice(), &[0x80]].concat(), "ends within"),
            ("a huge length", [HEAD.as_slice(), &[0xff; 9], &[0x01]].concat(), "bytes"),
            ("an endless length", [HEAD.as_slice(), &[0xff; 11]].concat(), "64 bits"),
            ("no message", [HEAD.as_slice(), &[2, 0xff, 0xff]].concat(), "behind revision None"),
            ("a record of nothing", [HEAD.as_slice(), &[2, 0x08, 9]].concat(), "no change"),
        ] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(told), "{what}: {error}");
        }
    }

    /// An object hashes and counts with each read: several for each record were a quarter of what adding it took.
    #[test]
    fn small_records_do_not_make_small_reads() {
        struct Counting<'a>(&'a [u8], usize);
        impl Read for Counting<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.1 += 1;
                self.0.read(buffer)
            }
        }
        let revisions: Vec<i64> = (1..=1000).collect();
        let bytes = written(&revisions);
        let mut counting = Counting(&bytes, 0);

        let mut records = Records::of(&mut counting);
        let mut count = 0;
        while records.read().unwrap().is_some() {
            count += 1;
        }

        assert_eq!(count, 1000);
        let whole = bytes.len().div_ceil(BUFFER_BYTES);
        assert!(counting.1 <= whole + 2, "{} reads of {} bytes", counting.1, bytes.len());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = written(&[5, 6]);
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[place] ^= 1 << bit;
                let _ = read(&bytes);
            }
        }
    }
}
