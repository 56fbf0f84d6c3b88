//! etcd's own hash of keys and values (`HashKV`), computed over a database that no etcd has open
//! (docs/contract.md#key-hash).

use std::fs::File;
use std::ops::ControlFlow;

use super::bolt::{Db, Error};
use super::source::Map;

/// What etcd may answer for the same content: since 3.5.12 and 3.6 it leaves out a deletion at the very revision up to
/// which it was compacted, because members may or may not have removed that already.
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
pub fn key_hash(db: &File, compacted: i64, revision: i64) -> Result<Option<KeyHashes>, Error> {
    let map = Map::of(db)?;
    let db = Db::over_cut(map.as_slice())?;
    let mark = |name: &str| -> Result<Option<Vec<u8>>, Error> {
        match db.bucket(b"meta")? {
            Some(meta) => meta.get(name.as_bytes()),
            None => Ok(None),
        }
    };
    let main = |mark: Option<Vec<u8>>| mark.as_deref().and_then(main_revision).unwrap_or(0);
    let (scheduled, finished) = (main(mark("scheduledCompactRev")?), main(mark("finishedCompactRev")?));
    if scheduled > finished || finished > compacted {
        return Ok(None);
    }
    let mut hashes = KeyHashes { newer: crc32c::crc32c(b"key"), older: crc32c::crc32c(b"key") };
    if let Some(keys) = db.bucket(b"key")? {
        let _ = keys.visit::<()>(&mut |key, value, _| {
            let Some(main) = main_revision(key) else { return ControlFlow::Continue(()) };
            if main > revision {
                return ControlFlow::Break(());
            }
            let add = |hash: u32| crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
            hashes.older = add(hashes.older);
            let deleted = key.len() > 17 && key[17] == b't';
            if !(deleted && main == compacted) {
                hashes.newer = add(hashes.newer);
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(Some(hashes))
}

fn main_revision(key: &[u8]) -> Option<i64> {
    key.first_chunk().map(|main| i64::from_be_bytes(*main))
}
