//! The beginning of one file: whose log it is, and whether anything follows. A few kilobytes are read,
//! nothing is mapped: the launcher asks at every start.

use std::fs::File;

use super::super::raft::Owner;
use super::super::source::Source;
use super::scan::Scan;
use super::{Error, Fault, Kind, Record};

/// The records before the first entry are tens of bytes long.
const RECORD_BYTES_MAX: u64 = 4096;
/// Enough for the four records of a file without entries, each as large as it may be.
const HEAD_BYTES: u64 = 5 * RECORD_BYTES_MAX;

/// Whose log a file belongs to: its first two records.
pub fn owner(file: &File) -> Result<Owner, Error> {
    owner_in(file)
}

pub(super) fn owner_in(source: &(impl Source + ?Sized)) -> Result<Owner, Error> {
    let length = source.length()?;
    let bytes = beginning(source, length)?;
    let mut records = Scan::beginning(&bytes, length, RECORD_BYTES_MAX);
    due(&mut records, Kind::Crc, "checksum")?;
    let metadata = due(&mut records, Kind::Metadata, "metadata")?;
    Owner::decode(metadata.data).map_err(|_| Fault::Malformed { offset: metadata.offset }.into())
}

/// Whether a log's first file has nothing in it but whose it is: no entry, no term, no vote.
///
/// etcd makes the file first and writes the members of a first boot afterwards. Killed in between it
/// starts again with a log of no members, and waits for a leader for ever (seen with 3.6.16). Anything
/// that cannot be read counts as content: only certainty says "nothing".
pub fn is_blank(file: &File) -> Result<bool, Error> {
    let length = file.length()?;
    let bytes = beginning(file, length)?;
    let mut records = Scan::beginning(&bytes, length, RECORD_BYTES_MAX);
    loop {
        match records.next_record() {
            Ok(None) => return Ok(true),
            Ok(Some(record)) => match record.kind {
                Kind::Crc | Kind::Metadata => {}
                // A new log begins with the snapshot of index 0 and term 0, two fields of two bytes.
                Kind::Snapshot if record.data.chunks(2).all(|field| field.get(1) == Some(&0)) => {}
                Kind::Snapshot | Kind::Entry | Kind::State | Kind::Unknown(_) => return Ok(false),
            },
            Err(_) => return Ok(false),
        }
    }
}

fn beginning(source: &(impl Source + ?Sized), length: u64) -> Result<Vec<u8>, Error> {
    let wanted = usize::try_from(length.min(HEAD_BYTES)).unwrap_or_default();
    Ok(source.bytes(0, wanted)?.into_owned())
}

fn due<'a>(records: &mut Scan<'a>, kind: Kind, due: &'static str) -> Result<Record<'a>, Fault> {
    let offset = records.offset();
    let record = records.next_record().map_err(|stop| stop.fault)?;
    match record {
        Some(record) if record.kind == kind => Ok(record),
        Some(record) => Err(Fault::OtherKind { offset, due, found: record.kind.number() }),
        None => Err(Fault::NoRecord { offset, due }),
    }
}
