//! Making a member's data before any etcd runs: a database with the members in it, the first snapshot, and a log in
//! which the membership is agreed on (docs/contract.md#seeding).
//!
//! ```no_run
//! use etcd_release::datadir::membership::{Membership, initial_cluster, peer_urls};
//! use etcd_release::datadir::seed::{Seeding, populate};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listed = initial_cluster::parse("n1=https://a.test:2380,n2=https://b.test:2380")?;
//! let own = "n1".parse()?;
//! let membership = Membership::found(&listed, "2d711642", &own, &peer_urls("https://a.test:2380")?)?;
//! let data_dir = "/var/vcap/store/etcd".as_ref();
//! let seeded = populate(&Seeding { membership: &membership, data_dir, wal_dir: None, db: None })?;
//! println!("member {} of cluster {}", seeded.member_id, seeded.cluster_id);
//! # Ok(()) }
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::backend::BUCKETS;
use super::bolt::write::{WriteError, Writer};
use super::bolt::{self, Db};
use super::layout;
use super::membership::Membership;
use crate::etcd::id::{ClusterId, MemberId};
use crate::report::Complaint;

mod birth;
mod place;
pub mod step;

pub(super) use birth::{Birth, Changes};
pub(super) use place::{Place, doing};

/// bbolt reads any page size; this is that of nearly every system.
const PAGE_SIZE: u32 = 4096;

/// A member to be made.
#[derive(Debug, Clone, Copy)]
pub struct Seeding<'a> {
    /// Who founds the cluster, and which of them this is.
    pub membership: &'a Membership,
    /// Where: absent, or a directory without data of a member. `member` appears in it at once, or not at all.
    pub data_dir: &'a Path,
    /// Where the log lies, if it is not in the data directory.
    pub wal_dir: Option<&'a Path>,
    /// An empty database that [`init`] made; without one it is made.
    pub db: Option<&'a Path>,
}

/// A member that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seeded {
    /// The layout of this document: 1. Fields are added, never changed.
    pub version: u32,
    /// Its id.
    pub member_id: MemberId,
    /// Its cluster's.
    pub cluster_id: ClusterId,
    /// Where it is.
    pub data_dir: PathBuf,
}

/// Why no member was made. Nothing is left behind but empty directories, and nothing that was there has changed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Something is there already.
    #[error("{} is not empty: {what}", data_dir.display())]
    Occupied {
        /// The data directory.
        data_dir: PathBuf,
        /// What is there.
        what: String,
    },
    /// Somebody else makes a member in the same place.
    #[error("another process is putting data into {}", data_dir.display())]
    Busy {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The file to be made is there already.
    #[error("{} exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system says no.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// Its reason.
        source: io::Error,
    },
    /// The database that was given cannot be read.
    #[error("{} is no database of etcd: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: bolt::Error,
    },
    /// The database that was given has something in it.
    #[error("{} is not empty: its bucket '{bucket}' has entries", path.display())]
    NotBlank {
        /// The file.
        path: PathBuf,
        /// The first bucket that has something in it.
        bucket: &'static str,
    },
    /// The database cannot be written.
    #[error("the database cannot be written: {0}")]
    Write(#[from] WriteError),
}

impl SeedError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        let untouched = "nothing was written";
        match self {
            Self::Occupied { data_dir, .. } => Complaint::refused(
                what,
                "data of a member is never overwritten; nothing was changed",
                format!(
                    "look with `etcd-datadir inspect --data-dir {}`, and name another directory or move what is there aside",
                    data_dir.display()
                ),
            ),
            Self::Busy { .. } => {
                Complaint::try_again(what, "two of them would mix their files", "wait until it has ended")
            }
            Self::Exists { .. } => {
                Complaint::refused(what, "a file that exists is never overwritten", "name another --output")
            }
            Self::Io { .. } | Self::Write(_) => Complaint::failed(
                what,
                "the member was not made; nothing that was there has changed",
                "mend what the system complains about and run it again",
            ),
            Self::Unreadable { .. } => Complaint::refused(
                what,
                untouched,
                "make one with `etcd-datadir init --output FILE`, or leave --db out",
            ),
            Self::NotBlank { .. } => Complaint::refused(
                what,
                "a new cluster begins without keys; nothing was written",
                "restore a database that has keys with `etcd-datadir restore FILE --skip-hash-check`, or leave --db out",
            ),
        }
    }
}

/// Refuses a place that has data or files of somebody else: for who is about to spend time on what comes there.
pub fn expect_free(data_dir: &Path, wal_dir: Option<&Path>) -> Result<(), SeedError> {
    Place::expect_free(data_dir, wal_dir)
}

/// Makes an empty database: the buckets that etcd makes, with nothing in them.
pub fn init(output: &Path) -> Result<(), SeedError> {
    let exists = || SeedError::Exists { path: output.to_path_buf() };
    if output.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let temporary = beside(output);
    let made = Place::create(&temporary).and_then(blank).and_then(|()| {
        place::put(&temporary, output).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => doing("make", output)(error),
        })
    });
    if made.is_err() {
        // Ignored: the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return made;
    }
    let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty());
    place::sync(directory.unwrap_or(Path::new(".")))
}

/// Makes the data of a member of a new cluster.
pub fn populate(seeding: &Seeding<'_>) -> Result<Seeded, SeedError> {
    if let Some(db) = seeding.db {
        expect_blank(db)?;
    }
    let place = Place::take(seeding.data_dir, seeding.wal_dir)?;
    let birth = Birth::of(seeding.membership);
    let written = write(&place, &birth, seeding.db);
    if let Err(error) = written {
        place.give_up();
        return Err(error);
    }
    place.deploy()?;
    Ok(Seeded {
        version: 1,
        member_id: seeding.membership.own().id,
        cluster_id: seeding.membership.cluster_id(),
        data_dir: seeding.data_dir.to_path_buf(),
    })
}

fn write(place: &Place, birth: &Birth, db: Option<&Path>) -> Result<(), SeedError> {
    let path = place.db();
    let mut file = Place::create(&path)?;
    match db {
        Some(source) => {
            let mut source_file = File::open(source).map_err(doing("read", source))?;
            io::copy(&mut source_file, &mut file).map_err(doing("copy", source))?;
        }
        None => blank(file.try_clone().map_err(doing("write", &path))?)?,
    }
    birth.write_db(file, birth::Changes::default())?;
    birth.write_log(place)
}

/// Writes an empty database into an empty file.
fn blank(file: File) -> Result<(), SeedError> {
    let mut writer = Writer::new(file, PAGE_SIZE)?;
    for bucket in BUCKETS {
        writer.bucket::<WriteError>(bucket.as_bytes(), |_| Ok(()))?;
    }
    writer.finish()?;
    Ok(())
}

fn expect_blank(path: &Path) -> Result<(), SeedError> {
    let unreadable = |source| SeedError::Unreadable { path: path.to_path_buf(), source };
    let file =
        layout::open(path).and_then(|file| file.ok_or_else(|| io::Error::other("it is no plain file")));
    let db = Db::open(file.map_err(doing("read", path))?).map_err(unreadable)?;
    for bucket in BUCKETS {
        let found = db.bucket(bucket.as_bytes()).map_err(unreadable)?;
        let empty = found.map_or(Ok(true), |found| found.is_empty()).map_err(unreadable)?;
        if !empty {
            return Err(SeedError::NotBlank { path: path.to_path_buf(), bucket });
        }
    }
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

impl fmt::Display for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member_id, cluster_id, data_dir, .. } = self;
        write!(f, "member {member_id} of cluster {cluster_id} is in {}", data_dir.display())
    }
}

#[cfg(test)]
mod tests;
