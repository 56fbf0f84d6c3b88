//! The bucket `key`: a record per change of a key, in the order of revisions.
//!
//! A record's name is its revision: which transaction (main), and which change in it (sub). A transaction that
//! changes something makes one revision, and its changes are numbered from 0; so above the last compaction no
//! number is missing. Below it, only the newest record of each key is left (docs/contract.md#keys).

use std::fmt;

use crate::datadir::wire::{Fields, Malformed, Value};

/// Bytes of a revision: main, `_`, sub.
const REVISION: usize = 17;
const SEPARATOR: u8 = b'_';
/// What follows the revision of a deletion.
const TOMBSTONE: u8 = b't';

/// A revision of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Revision {
    pub(super) main: i64,
    pub(super) sub: i64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

impl Revision {
    /// The revision that these bytes start with.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let (main, rest) = bytes.split_first_chunk()?;
        let (SEPARATOR, rest) = (*rest.first()?, rest.get(1..)?) else { return None };
        let (sub, _) = rest.split_first_chunk()?;
        let (main, sub) = (i64::from_be_bytes(*main), i64::from_be_bytes(*sub));
        (main >= 0 && sub >= 0).then_some(Self { main, sub })
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyFault {
    #[error("the name of a record is no revision: {bytes} bytes")]
    Name { bytes: usize },
    #[error("revision {0} is below 1, which etcd does not read")]
    BelowFirst(Revision),
    #[error("there are two records of revision {0}")]
    Twice(Revision),
    #[error("after revision {last} comes {found}: the changes in between are missing")]
    Gap { last: Revision, found: Revision },
    #[error("the first change of transaction {main} that is there is number {sub}, not 0")]
    Beginning { main: i64, sub: i64 },
    #[error("revision {revision} cannot be decoded: it {fault}")]
    Malformed { revision: Revision, fault: Malformed },
    #[error("revision {0} has a field that etcd does not write, or fields in another order")]
    Strange(Revision),
    #[error("revision {0} has no key")]
    NoKey(Revision),
    #[error("revision {0} has no content, above the last compaction")]
    NoContent(Revision),
    #[error("revision {revision} says it was made by transaction {found}")]
    OtherRevision { revision: Revision, found: i64 },
    #[error(
        "revision {revision} says its key was created at {created} and has version {version}, which cannot be"
    )]
    Impossible { revision: Revision, created: i64, version: i64 },
}

impl KeyFault {
    /// Whether etcd ends when it reads the record. It serves the others.
    pub(super) fn ends_etcd(&self) -> bool {
        matches!(self, Self::Name { .. } | Self::Malformed { .. })
    }
}

/// The records so far.
#[derive(Debug)]
pub(super) struct Keys {
    /// Up to where records may be missing; `None` if nobody can tell.
    compacted: Option<i64>,
    last: Option<Revision>,
    /// Whether entries were passed over since the last one.
    torn: bool,
    /// How many records there are.
    pub(super) records: u64,
}

/// What a record holds, as far as others have to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen<'r> {
    pub(super) revision: Revision,
    /// Whose record it is.
    pub(super) key: &'r [u8],
    /// The lease its key hangs on; 0 for none, and for a deletion.
    pub(super) lease: i64,
}

impl Keys {
    /// Before the first record of a store that is compacted up to this revision (0 if it never was).
    pub(super) fn new(compacted: Option<i64>) -> Self {
        Self { compacted, last: None, torn: false, records: 0 }
    }

    /// Records are missing here because their page is broken, which was told already.
    pub(super) fn skipped(&mut self) {
        self.torn = true;
    }

    /// The next record. Whatever is wrong with it, the next one is compared with it.
    pub(super) fn record<'r>(&mut self, name: &[u8], value: &'r [u8]) -> Result<Seen<'r>, KeyFault> {
        self.records += 1;
        let is_tombstone = match name.len().checked_sub(REVISION) {
            Some(0) => false,
            Some(1) if name.last() == Some(&TOMBSTONE) => true,
            _ => return Err(KeyFault::Name { bytes: name.len() }),
        };
        let revision = Revision::of(name).ok_or(KeyFault::Name { bytes: name.len() })?;
        let last = self.last.replace(revision);
        let torn = std::mem::take(&mut self.torn);
        if revision.main < 1 {
            return Err(KeyFault::BelowFirst(revision));
        }
        if last == Some(revision) {
            return Err(KeyFault::Twice(revision));
        }
        if let Some(compacted) = self.compacted
            && revision.main > compacted
            && !torn
        {
            follows(last, revision, compacted)?;
        }
        if is_tombstone { tombstone(revision, value) } else { self.content(revision, value) }
    }

    fn content<'r>(&self, revision: Revision, value: &'r [u8]) -> Result<Seen<'r>, KeyFault> {
        // What a restore leaves that raised the revision: all before it is compacted.
        if value.is_empty() {
            let is_mark = self.compacted.is_none_or(|compacted| revision.main <= compacted);
            let seen = Seen { revision, key: value, lease: 0 };
            return if is_mark { Ok(seen) } else { Err(KeyFault::NoContent(revision)) };
        }
        let fields = KeyValue::decode(value).map_err(|fault| KeyFault::Malformed { revision, fault })?;
        if fields.strange {
            return Err(KeyFault::Strange(revision));
        }
        if fields.key.is_empty() {
            return Err(KeyFault::NoKey(revision));
        }
        if fields.modified != revision.main {
            return Err(KeyFault::OtherRevision { revision, found: fields.modified });
        }
        // A key changes once in a transaction at most.
        let (created, version) = (fields.created, fields.version);
        if created < 1 || created > fields.modified || version < 1 || version - 1 > fields.modified - created
        {
            return Err(KeyFault::Impossible { revision, created, version });
        }
        Ok(Seen { revision, key: fields.key, lease: fields.lease })
    }
}

/// Whether a record follows the one before, above the last compaction.
fn follows(last: Option<Revision>, revision: Revision, compacted: i64) -> Result<(), KeyFault> {
    // The first change of a new store makes revision 2.
    let floor = compacted.max(1);
    let same = last.filter(|last| last.main == revision.main);
    match (same, last.filter(|last| last.main > floor)) {
        (Some(last), _) if revision.sub == last.sub + 1 => Ok(()),
        (Some(last), _) => Err(KeyFault::Gap { last, found: revision }),
        (None, Some(last)) if revision.main != last.main + 1 => Err(KeyFault::Gap { last, found: revision }),
        (None, None) if revision.main != floor + 1 => {
            Err(KeyFault::Gap { last: Revision { main: floor, sub: 0 }, found: revision })
        }
        (None, _) if revision.sub != 0 => Err(KeyFault::Beginning { main: revision.main, sub: revision.sub }),
        (None, _) => Ok(()),
    }
}

fn tombstone(revision: Revision, value: &[u8]) -> Result<Seen<'_>, KeyFault> {
    let fields = KeyValue::decode(value).map_err(|fault| KeyFault::Malformed { revision, fault })?;
    if fields.key.is_empty() {
        return Err(KeyFault::NoKey(revision));
    }
    Ok(Seen { revision, key: fields.key, lease: 0 })
}

/// etcd's `mvccpb.KeyValue`, without a copy of anything.
#[derive(Debug, Default)]
struct KeyValue<'r> {
    key: &'r [u8],
    created: i64,
    modified: i64,
    version: i64,
    lease: i64,
    /// Whether a field is there that etcd does not know, or one that does not follow the one before.
    strange: bool,
}

impl<'r> KeyValue<'r> {
    fn decode(message: &'r [u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut last = 0;
        for field in Fields::of(message) {
            let (number, value) = field?;
            found.strange |= number <= last;
            last = number;
            match number {
                1 => found.key = value.bytes()?,
                2 => found.created = signed(value)?,
                3 => found.modified = signed(value)?,
                4 => found.version = signed(value)?,
                5 => _ = value.bytes()?,
                6 => found.lease = signed(value)?,
                _ => found.strange = true,
            }
        }
        Ok(found)
    }
}

fn signed(value: Value<'_>) -> Result<i64, Malformed> {
    value.number().map(u64::cast_signed)
}

#[cfg(test)]
mod tests;
