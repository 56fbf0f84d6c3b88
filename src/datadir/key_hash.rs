//! etcd's own hash of keys and values (`HashKV`), computed over a database that no etcd has open
//! (docs/contract.md#key-hash).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::ops::ControlFlow;

use super::bolt::{Bucket, Db, Error};
use super::source::Map;
use super::wire::Fields;

/// What etcd may answer for the same content: since 3.4.34 and 3.5.16 it leaves out a deletion at the very revision up
/// to which it was compacted, because older members have removed that already and newer ones keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHashes {
    /// As the newer ones do.
    pub newer: u32,
    /// As the older ones do.
    pub older: u32,
}

impl KeyHashes {
    /// Whether etcd's answer is one of them.
    pub fn fits(self, hash: u32) -> bool {
        hash == self.newer || hash == self.older
    }
}

/// The hash of all records up to `revision`, where everything up to `compacted` has been compacted. `None`: a
/// compaction is going on in this database, and what it will remove cannot be told from what it keeps.
///
/// Records up to the compaction count only as long as nothing newer of their key does, so every key that was written
/// since then is remembered, by a number of 128 bits.
pub fn key_hash(db: &File, compacted: i64, revision: i64) -> Result<Option<KeyHashes>, Error> {
    // Never compacted: etcd says -1 for that.
    let compacted = compacted.max(0);
    let map = Map::of(db)?;
    let db = Db::over_cut(map.as_slice())?;
    let mark = |name: &str| -> Result<i64, Error> {
        let Some(meta) = db.bucket(b"meta")? else { return Ok(0) };
        Ok(meta.get(name.as_bytes())?.as_deref().and_then(main_revision).unwrap_or(0))
    };
    let (scheduled, finished) = (mark("scheduledCompactRev")?, mark("finishedCompactRev")?);
    if scheduled > finished || finished > compacted {
        return Ok(None);
    }
    let Some(keys) = db.bucket(b"key")? else {
        let empty = crc32c::crc32c(b"key");
        return Ok(Some(KeyHashes { newer: empty, older: empty }));
    };
    let mut written: HashMap<u128, Last> = HashMap::new();
    // Whether any key is there at the revision; if none is, etcd leaves out nothing.
    let mut alive = false;
    if compacted > 0 {
        each(&keys, revision, |at, value| {
            if at.main > compacted {
                written.insert(
                    number(value).unwrap_or_default(),
                    if at.deleted { Last::Deleted } else { Last::Written },
                );
            }
        })?;
        alive = written.values().any(|last| *last == Last::Written);
        if !alive {
            each(&keys, compacted, |at, value| {
                alive = alive || !(at.deleted || written.contains_key(&number(value).unwrap_or_default()));
            })?;
        }
    }
    let mut hashes = KeyHashes { newer: crc32c::crc32c(b"key"), older: crc32c::crc32c(b"key") };
    each(&keys, revision, |at, value| {
        if alive && at.main <= compacted && written.contains_key(&number(value).unwrap_or_default()) {
            return;
        }
        let add = |hash: u32| crc32c::crc32c_append(crc32c::crc32c_append(hash, at.key), value);
        hashes.older = add(hashes.older);
        if !(at.deleted && at.main == compacted) {
            hashes.newer = add(hashes.newer);
        }
    })?;
    Ok(Some(hashes))
}

/// How many keys there are at each of these revisions. Every key that is there is remembered by a number.
pub fn keys_at<const N: usize>(db: &File, revisions: [i64; N]) -> Result<[u64; N], Error> {
    let map = Map::of(db)?;
    let db = Db::over_cut(map.as_slice())?;
    let mut counts = [0; N];
    let Some(keys) = db.bucket(b"key")? else { return Ok(counts) };
    let mut there = HashSet::new();
    let mut counted = 0;
    let mut order: Vec<usize> = (0..N).collect();
    order.sort_by_key(|place| revisions[*place]);
    let mut count = |upto: i64, there: &HashSet<u128>| {
        while let Some(place) = order.get(counted).filter(|place| revisions[**place] < upto) {
            counts[*place] = there.len() as u64;
            counted += 1;
        }
    };
    each(&keys, revisions.iter().copied().max().unwrap_or_default(), |at, value| {
        count(at.main, &there);
        // What raises the revision of a restored cluster is a record without a key, which etcd tells nobody of.
        let Some(number) = number(value) else { return };
        if at.deleted {
            there.remove(&number);
        } else {
            there.insert(number);
        }
    })?;
    count(i64::MAX, &there);
    Ok(counts)
}

/// What the last record of a key since the compaction says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Written,
    Deleted,
}

/// Where a record stands.
struct At<'a> {
    key: &'a [u8],
    main: i64,
    deleted: bool,
}

/// Shows every record up to a revision.
fn each(keys: &Bucket<'_, &[u8]>, revision: i64, mut look: impl FnMut(&At<'_>, &[u8])) -> Result<(), Error> {
    let _ = keys.visit::<()>(&mut |key, value, _| {
        let Some(main) = main_revision(key) else { return ControlFlow::Continue(()) };
        if main > revision {
            return ControlFlow::Break(());
        }
        look(&At { key, main, deleted: key.get(17) == Some(&b't') }, value);
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// Stands for the key of a record, if it has one. Two keys with the same number are less likely than a broken memory.
fn number(record: &[u8]) -> Option<u128> {
    let key = Fields::of(record).find_map(|field| match field {
        Ok((1, value)) => value.bytes().ok(),
        _ => None,
    })?;
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(key);
        u128::from(hasher.finish())
    };
    Some(half(0) << 64 | half(1))
}

fn main_revision(key: &[u8]) -> Option<i64> {
    key.first_chunk().map(|main| i64::from_be_bytes(*main))
}
