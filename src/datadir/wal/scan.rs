//! The records of one file, in place: frames, padding and the chain of checksums.

use super::super::crc::Crc32c;
use super::super::wire::{Fields, Malformed};
use super::{Fault, Kind, Record};

/// Bytes of a frame's head.
pub(super) const HEAD: u64 = 8;
/// The low seven bytes of a frame's head are the record's length, the top bit says that it is padded.
const LENGTH_MASK: u64 = (1 << 56) - 1;
/// What a disk writes at once: a write that was interrupted leaves whole sectors of zeros.
const SECTOR: u64 = 512;

/// Reads the records of one file in order.
pub(super) struct Scan<'a> {
    /// The file from its first byte on; all of it, or what a look at its beginning needs.
    bytes: &'a [u8],
    /// The length of the file.
    length: u64,
    record_bytes_max: u64,
    offset: u64,
    crc: Crc32c,
}

/// Why reading ends before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) fault: Fault,
    /// Whether it has the form of an interrupted write, which etcd repairs in the newest file.
    pub(super) is_torn: bool,
}

/// A record as it stands in its frame, its checksum not yet compared.
struct Frame<'a> {
    kind: Kind,
    crc: u32,
    data: &'a [u8],
    /// Bytes from its head to the next one's.
    bytes: u64,
}

impl<'a> Scan<'a> {
    /// The records of a whole file, after a file that ended with this checksum.
    pub(super) fn after(bytes: &'a [u8], crc: Crc32c) -> Self {
        Self { bytes, length: bytes.len() as u64, record_bytes_max: u64::MAX, offset: 0, crc }
    }

    /// The records at the beginning of a file of `length` bytes of which only these are at hand.
    pub(super) fn beginning(bytes: &'a [u8], length: u64, record_bytes_max: u64) -> Self {
        Self { bytes, length, record_bytes_max, offset: 0, crc: Crc32c::default() }
    }

    /// Where the next record is due: behind the last good one.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The checksum so far.
    pub(super) fn crc(&self) -> Crc32c {
        self.crc
    }

    /// The next record; `None` at the end of the file or where its zero tail begins.
    pub(super) fn next_record(&mut self) -> Result<Option<Record<'a>>, Stop> {
        let offset = self.offset;
        let Some(frame) = self.frame_at(offset).map_err(|fault| self.stop(fault))? else { return Ok(None) };
        let (kind, stored, data) = (frame.kind, frame.crc, frame.data);
        let mut crc = self.crc;
        if kind == Kind::Crc {
            // The first one of a log is where the chain starts; a later one must continue it.
            let computed = crc.value();
            if computed != 0 && computed != stored {
                return Err(Stop { fault: Fault::BadCrc { offset, stored, computed }, is_torn: false });
            }
            crc = Crc32c::continued(stored);
        } else {
            crc.update(data);
            let computed = crc.value();
            if computed != stored {
                let is_torn = self.has_zero_sector(offset + HEAD, frame.bytes - HEAD);
                return Err(Stop { fault: Fault::BadCrc { offset, stored, computed }, is_torn });
            }
        }
        self.crc = crc;
        self.offset += frame.bytes;
        Ok(Some(Record { offset, kind, data }))
    }

    /// The first place behind the record at `torn` where two records stand whose checksums belong
    /// together. Where an interrupted write ended, there is none.
    pub(super) fn whole_records_behind(&self, torn: u64) -> Option<u64> {
        // Bytes made to look like the heads of long records must not make this endless.
        let mut budget = self.length.saturating_mul(4);
        let first = torn.next_multiple_of(HEAD) + HEAD;
        (first..self.length).step_by(8).find(|offset| {
            let mut frame_at = |offset| {
                let [length, padding] = self.extent(offset)?;
                // As etcd writes them: the kind first, then the checksum.
                let begins = self.take(offset + HEAD, 3)?;
                if !matches!(begins, [0x08, 1..=5, 0x10]) {
                    return None;
                }
                budget = budget.checked_sub(length + padding)?;
                self.frame_at(offset).ok()?
            };
            let mut pair = || {
                let one = frame_at(*offset)?;
                let two = frame_at(offset + one.bytes)?;
                let mut crc = Crc32c::continued(one.crc);
                if two.kind != Kind::Crc {
                    crc.update(two.data);
                }
                Some(crc.value() == two.crc)
            };
            pair() == Some(true)
        })
    }

    /// The first byte from `offset` on that is not zero.
    pub(super) fn first_nonzero(&self, offset: u64) -> Option<u64> {
        let start = usize::try_from(offset).ok()?;
        let rest = self.bytes.get(start..)?;
        // Whole blocks first: a file is mostly zeros here.
        let skipped = rest.chunks_exact(4096).take_while(|block| **block == [0; 4096]).count() * 4096;
        let found = rest.get(skipped..)?.iter().position(|byte| *byte != 0)?;
        Some(offset + (skipped + found) as u64)
    }

    fn frame_at(&self, offset: u64) -> Result<Option<Frame<'a>>, Fault> {
        let left = self.length.saturating_sub(offset);
        let torn = |bytes, left| Fault::Torn { offset, bytes, left };
        if left == 0 {
            return Ok(None);
        }
        let Some([length, padding]) = self.extent(offset) else { return Err(torn(HEAD, left)) };
        if [length, padding] == [0, 0] && self.take(offset, HEAD) == Some(&[0; 8]) {
            return Ok(None);
        }
        let (bytes, left) = (length + padding, left - HEAD);
        if length > self.record_bytes_max {
            return Err(Fault::TooLarge { offset, bytes: length, max: self.record_bytes_max });
        }
        let content = if bytes > left { None } else { self.take(offset + HEAD, length) };
        let content = content.ok_or_else(|| torn(bytes, left))?;
        let (kind, crc, data) = record(content).map_err(|malformed| match malformed {
            Malformed::Truncated => Fault::Truncated { offset },
            Malformed::Invalid => Fault::Malformed { offset },
        })?;
        Ok(Some(Frame { kind, crc, data, bytes: HEAD + bytes }))
    }

    fn stop(&self, fault: Fault) -> Stop {
        let is_torn = match fault {
            // etcd's decoder up to 3.6 has one word for a file and for a message that end too early.
            Fault::Torn { .. } | Fault::Truncated { .. } => true,
            Fault::Malformed { offset } => self
                .extent(offset)
                .is_some_and(|[length, padding]| self.has_zero_sector(offset + HEAD, length + padding)),
            _ => false,
        };
        Stop { fault, is_torn }
    }

    /// What a frame's head says: the bytes of its record, and those of the padding behind it.
    fn extent(&self, offset: u64) -> Option<[u64; 2]> {
        let head = u64::from_le_bytes(self.take(offset, HEAD)?.try_into().ok()?);
        // The top byte is 0x80 with the padding in its low three bits, or zero.
        let padding = if head >> 63 == 1 { (head >> 56) & 7 } else { 0 };
        Some([head & LENGTH_MASK, padding])
    }

    /// Whether the part of a record that lies in one sector is nothing but zeros.
    fn has_zero_sector(&self, start: u64, bytes: u64) -> bool {
        let end = start + bytes;
        let mut from = start;
        while from < end {
            let to = (from - from % SECTOR + SECTOR).min(end);
            if self.take(from, to - from).is_some_and(|part| part.iter().all(|byte| *byte == 0)) {
                return true;
            }
            from = to;
        }
        false
    }

    /// `bytes` bytes from `offset` on, if they are at hand.
    fn take(&self, offset: u64, bytes: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(bytes).ok()?)?)
    }
}

fn record(content: &[u8]) -> Result<(Kind, u32, &[u8]), Malformed> {
    let (mut kind, mut crc, mut data) = (0, 0, &[][..]);
    for field in Fields::of(content) {
        match field? {
            (1, value) => kind = value.number()?.cast_signed(),
            #[expect(clippy::cast_possible_truncation, reason = "so does etcd's decoder")]
            (2, value) => crc = value.number()? as u32,
            (3, value) => data = value.bytes()?,
            _ => {}
        }
    }
    Ok((Kind::from_number(kind), crc, data))
}
