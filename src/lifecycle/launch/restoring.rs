//! Putting restored data in its place: what the errand laid ready beside the old data becomes the member's
//! (docs/contract.md#restore).
//!
//! A mark says that the old data has been moved aside and the new is being put there: whoever goes on after a death
//! must not take half of the new for the old.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::records::{RECORD_VERSION, RestoreRecord, RestoreRequest};
use crate::atomic_file;
use crate::job::paths::Paths;
use crate::lifecycle::records;

/// Where the data of a request lies ready, on the same disk as what it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    directory: PathBuf,
}

impl Ready {
    /// Of this request.
    pub fn of(paths: &Paths, request: uuid::Uuid) -> Self {
        Self { directory: paths.restoring().join(request.to_string()) }
    }

    /// Everything of it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The data directory, with `member` in it.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The log, where it is to lie outside of the data directory.
    pub fn wal_dir(&self) -> PathBuf {
        self.directory.join("wal")
    }

    /// The same, if this instance has it outside.
    pub fn own_wal_dir(&self, paths: &Paths) -> Option<PathBuf> {
        paths.wal_dir().map(|_| self.wal_dir())
    }

    fn member(&self) -> PathBuf {
        self.data_dir().join("member")
    }

    fn mark(&self) -> PathBuf {
        self.directory.join("placing")
    }

    /// Whether all of it is there.
    pub fn is_whole(&self, paths: &Paths) -> bool {
        self.member().is_dir() && (paths.wal_dir().is_none() || self.wal_dir().is_dir())
    }

    /// Whether it is being put in place: then what is in the way has been moved already.
    pub fn is_being_placed(&self) -> bool {
        self.mark().exists()
    }
}

/// Whether there is something to put in place, or the rest of it.
pub fn is_ready(paths: &Paths, request: &RestoreRequest) -> bool {
    let ready = Ready::of(paths, request.id);
    ready.is_being_placed() || ready.is_whole(paths)
}

/// Puts the data of a request, which is [ready](is_ready), where etcd will look for it. Safe to repeat after a death at
/// any place.
pub fn place(paths: &Paths, request: &RestoreRequest) -> anyhow::Result<()> {
    let ready = Ready::of(paths, request.id);
    if !ready.is_being_placed() {
        atomic_file::write(&ready.mark(), b"", 0o600)?;
    }
    // The log first: a member that is in place without one would count as damaged.
    if let Some(wal_dir) = paths.wal_dir() {
        rename(&ready.wal_dir(), wal_dir)?;
    }
    rename(&ready.member(), &paths.data_dir().join("member"))?;
    for directory in [paths.data_dir(), ready.data_dir(), ready.directory().to_path_buf()] {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// One that was renamed already is fine.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
        done => done,
    }
}

/// Notes that the request was carried out. What an earlier restore replaced stays replaced.
pub fn note(paths: &Paths, request: &RestoreRequest) -> io::Result<()> {
    let before: BTreeSet<_> = match records::read::<RestoreRecord>(paths)? {
        Some(before) => before.replaced.into_iter().chain([before.cluster_id]).collect(),
        None => BTreeSet::new(),
    };
    let mut replaced: BTreeSet<_> = before.into_iter().chain(request.replaces.iter().copied()).collect();
    replaced.remove(&request.cluster_id);
    let (version, cluster_id) = (RECORD_VERSION, request.cluster_id);
    records::write(paths, &RestoreRecord { version, request: request.id, cluster_id, replaced })?;
    // What is left of it are empty directories and the mark.
    let _ = fs::remove_dir_all(Ready::of(paths, request.id).directory());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::id::ClusterId;
    use crate::lifecycle::launch::attestation::InstanceId;
    use crate::lifecycle::launch::records::RestorePhase;

    fn request() -> RestoreRequest {
        RestoreRequest {
            version: RECORD_VERSION,
            id: uuid::Uuid::from_u128(1),
            asked: "latest".to_owned(),
            point: "set 1 up to revision 7".to_owned(),
            source: InstanceId::from("a"),
            phase: RestorePhase::Prepared,
            cluster_id: ClusterId(3),
            members: [].into(),
            replaces: [ClusterId(1)].into(),
            created_unix_secs: 0,
            expires_unix_secs: 0,
        }
    }

    /// Data lies ready, with a log of its own.
    fn ready() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        fs::create_dir_all(paths.records()).unwrap();
        let paths = paths.with_wal_dir(Some(&paths.data_dir().join("log")));
        let ready = Ready::of(&paths, request().id);
        fs::create_dir_all(ready.member()).unwrap();
        fs::write(ready.member().join("db"), "new").unwrap();
        fs::create_dir_all(ready.wal_dir()).unwrap();
        (root, paths)
    }

    fn is_placed(paths: &Paths) -> bool {
        fs::read(paths.data_dir().join("member/db")).is_ok_and(|db| db == b"new")
            && paths.data_dir().join("log").is_dir()
    }

    #[test]
    fn what_lies_ready_is_put_in_place_once_and_a_death_in_between_changes_nothing() {
        let (_root, paths) = ready();
        place(&paths, &request()).unwrap();
        assert!(is_placed(&paths));
        place(&paths, &request()).unwrap();
        assert!(is_placed(&paths));

        let (_root, paths) = ready();
        let ready = Ready::of(&paths, request().id);
        // Died between the two.
        fs::write(ready.mark(), "").unwrap();
        fs::rename(ready.wal_dir(), paths.data_dir().join("log")).unwrap();
        assert!(ready.is_being_placed());
        place(&paths, &request()).unwrap();
        assert!(is_placed(&paths));
    }

    #[test]
    fn half_of_the_data_is_none_unless_the_other_half_is_in_place_already() {
        let (_root, paths) = ready();
        assert!(is_ready(&paths, &request()));
        let ready = Ready::of(&paths, request().id);

        fs::remove_dir_all(ready.wal_dir()).unwrap();
        assert!(!is_ready(&paths, &request()));

        fs::write(ready.mark(), "").unwrap();
        assert!(is_ready(&paths, &request()));
    }

    #[test]
    fn the_record_names_all_clusters_that_were_ever_replaced() {
        let (_root, paths) = ready();
        note(&paths, &request()).unwrap();
        let second = RestoreRequest {
            id: uuid::Uuid::from_u128(2),
            cluster_id: ClusterId(4),
            replaces: [ClusterId(3), ClusterId(9)].into(),
            ..request()
        };

        note(&paths, &second).unwrap();

        let record: RestoreRecord = records::read(&paths).unwrap().unwrap();
        assert_eq!(record.replaced, [ClusterId(1), ClusterId(3), ClusterId(9)].into());
        assert_eq!((record.cluster_id, record.request), (ClusterId(4), second.id));
        assert!(!Ready::of(&paths, request().id).directory().exists());
    }
}
