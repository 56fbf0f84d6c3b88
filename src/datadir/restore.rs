//! Making a member's data from a snapshot file: what `etcdutl snapshot restore` does, without Go
//! (docs/contract.md#seeding).
//!
//! The file is copied by the kernel while another thread compares its hash; then one transaction replaces the
//! membership, and the log of a new cluster is written beside it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::bolt::Db;
use super::membership::Membership;
use super::seed::{Birth, Changes, Place, SeedError, doing};
use super::snapshot_file::{self, Checked, Hash, Shape};
use super::source::Map;
use crate::etcd::version::EtcdVersion;

mod copy;
mod error;
mod facts;
mod plan;
mod report;

pub use error::RestoreError;
pub use report::{Alarm, HashCheck, Restored, RestoredMember};

use facts::Facts;

/// What is to be restored, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Restoring<'a> {
    /// What `etcdctl snapshot save` made, or a copy of a member's `db`.
    pub snapshot: &'a Path,
    /// Who founds the new cluster, and which of them this is.
    pub membership: &'a Membership,
    /// Where: absent, or a directory without data of a member.
    pub data_dir: &'a Path,
    /// Where the log lies, if it is not in the data directory.
    pub wal_dir: Option<&'a Path>,
    /// What is asked of the file.
    pub hash: HashRule,
    /// Raise the revision by this much, and mark everything before as compacted.
    pub bump: Option<u64>,
    /// Lower the version of the cluster to this one; the patch does not matter.
    pub target_version: Option<EtcdVersion>,
    /// Whether anything is written.
    pub run: Run,
}

/// What is asked of a snapshot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashRule {
    /// A hash, and the right one.
    Demanded,
    /// Nothing.
    Skipped,
    /// Nothing: the caller has made the file just now and proven it by a hash that stands elsewhere. It is the caller's
    /// own, and becomes the database: on the same disk it is moved and not copied.
    Proven,
}

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// The member is made.
    Real,
    /// Everything is read and checked, and nothing is made.
    Dry,
}

/// Makes a member's data from a snapshot. `progress` hears how many bytes are done, and of how many.
///
/// After an error nothing is left behind but empty directories, and nothing that was there has changed.
pub fn restore(
    restoring: &Restoring<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, RestoreError> {
    let path = restoring.snapshot;
    let file = File::open(path).map_err(doing("read", path))?;
    if !file.metadata().map_err(doing("read", path))?.is_file() {
        return Err(SeedError::Io { doing: format!("read {}", path.display()), source: no_file() }.into());
    }
    let map = Map::of(&file).map_err(doing("read", path))?;
    let shape = Shape::of(map.as_slice().len() as u64);
    if shape.hash == Hash::Absent && restoring.hash == HashRule::Demanded {
        return Err(RestoreError::NoHash { path: path.to_path_buf() });
    }
    let pages = usize::try_from(shape.pages).ok().and_then(|pages| map.as_slice().get(..pages));
    let pages = pages.unwrap_or_default();
    let facts = match Db::over(pages).and_then(|db| Facts::of(&db)) {
        Ok(facts) => facts,
        Err(source) => {
            // A file that is not what was saved is told as that, not by what does not fit in it.
            check(restoring, &map, progress)?;
            return Err(RestoreError::Unreadable { path: path.to_path_buf(), source });
        }
    };
    let changes = plan::changes(&facts, restoring.bump, restoring.target_version)?;
    let hash = match restoring.run {
        Run::Dry => {
            Place::expect_free(restoring.data_dir, restoring.wal_dir)?;
            check(restoring, &map, progress)?
        }
        Run::Real => make(restoring, &file, &map, changes.clone(), progress)?,
    };
    Ok(Restored::of(restoring, &facts, &changes, hash, shape.pages))
}

/// The last revision of a database, and up to which it is compacted.
pub(crate) fn revisions_of(file: &File) -> Result<(i64, i64), crate::datadir::bolt::Error> {
    let map = Map::of(file)?;
    let facts = Facts::of(&Db::over_cut(map.as_slice())?)?;
    Ok((facts.revision, facts.compacted))
}

/// Compares the hash, if that is demanded.
fn check(
    restoring: &Restoring<'_>,
    map: &Map,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<HashCheck, RestoreError> {
    match restoring.hash {
        HashRule::Demanded => {}
        HashRule::Skipped => return Ok(HashCheck::Skipped),
        HashRule::Proven => return Ok(HashCheck::Verified),
    }
    let of = Shape::of(map.as_slice().len() as u64).pages;
    match snapshot_file::check(map.as_slice(), &mut |done| progress(done, of)) {
        Checked::Intact => Ok(HashCheck::Verified),
        Checked::Changed { stored, computed } => {
            Err(RestoreError::WrongHash { path: restoring.snapshot.to_path_buf(), stored, computed })
        }
        Checked::Unknown => Err(RestoreError::NoHash { path: restoring.snapshot.to_path_buf() }),
    }
}

fn make(
    restoring: &Restoring<'_>,
    file: &File,
    map: &Map,
    changes: Changes,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<HashCheck, RestoreError> {
    let place = Place::take(restoring.data_dir, restoring.wal_dir)?;
    match write(restoring, &place, file, map, changes, progress) {
        Ok(hash) => {
            place.deploy()?;
            Ok(hash)
        }
        Err(error) => {
            place.give_up();
            Err(error)
        }
    }
}

fn write(
    restoring: &Restoring<'_>,
    place: &Place,
    file: &File,
    map: &Map,
    changes: Changes,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<HashCheck, RestoreError> {
    let path = place.db();
    let birth = Birth::of(restoring.membership);
    if restoring.hash == HashRule::Proven
        && let Some(db) = Place::adopt(restoring.snapshot, &path)?
    {
        birth.write_db(db, changes)?;
        birth.write_log(place)?;
        return Ok(HashCheck::Verified);
    }
    let db = Place::create(&path)?;
    let pages = Shape::of(map.as_slice().len() as u64).pages;
    let copied = |result: io::Result<()>| result.map_err(doing("copy the snapshot to", &path));
    let hash = match restoring.hash {
        HashRule::Skipped | HashRule::Proven => {
            copied(copy::copy(file, &db, pages, &mut |done| progress(done, pages)))?;
            check(restoring, map, progress)?
        }
        HashRule::Demanded => std::thread::scope(|scope| {
            let copying = scope.spawn(|| copy::copy(file, &db, pages, &mut |_| {}));
            let hash = check(restoring, map, progress);
            copied(copying.join().unwrap_or_else(|_| Err(io::Error::other("copying ended too early"))))?;
            hash
        })?,
    };
    birth.write_db(db, changes)?;
    birth.write_log(place)?;
    Ok(hash)
}

fn no_file() -> io::Error {
    io::Error::other("it is no plain file")
}

#[cfg(test)]
mod tests;
