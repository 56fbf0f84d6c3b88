//! Data moved aside, never deleted: a rename within the disk, since bpm's mounts allow no other
//! (docs/contract.md#files).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::decide::plan::AsideReason;
use super::record_files::NonceFile;
use super::records::{BootstrapRecord, ExitRecord, JoinRecord};
use crate::job::paths::Paths;
use crate::lifecycle::records::Record;

/// More directories of one second are not tried.
const NAMES_MAX: u32 = 100;

/// Moves the member directory to `aside/UTC-REASON/member`, and a log that lies elsewhere beside it; says where the
/// member directory is now. `None` if there is neither. Dying in between leaves an empty directory, a member without
/// its log, which counts as damaged and is moved aside as well, or the finished move.
pub fn move_member(paths: &Paths, reason: AsideReason, now: jiff::Timestamp) -> io::Result<Option<PathBuf>> {
    let parts = parts(paths);
    if parts.is_empty() {
        return Ok(None);
    }
    let target = fresh_directory(&paths.aside(), reason, now)?;
    let moved = target.join("member");
    for part in parts {
        let name = part.file_name().ok_or_else(|| io::Error::other("the directory has no name"))?;
        fs::rename(&part, target.join(name))?;
    }
    for directory in [target.as_path(), &paths.aside(), &paths.data_dir()] {
        File::open(directory)?.sync_all()?;
    }
    Ok(Some(moved))
}

/// Puts the records of data that was moved aside beside it: into `beside`, or a directory of their own if
/// nothing was moved in this run. A restore request stays: it is about what comes next.
pub fn retire_records(
    paths: &Paths,
    beside: Option<&Path>,
    reason: AsideReason,
    now: jiff::Timestamp,
) -> io::Result<PathBuf> {
    let target = match beside.and_then(Path::parent) {
        Some(directory) => directory.to_owned(),
        None => fresh_directory(&paths.aside(), reason, now)?,
    };
    for file in [NonceFile::FILE, BootstrapRecord::FILE, JoinRecord::FILE, ExitRecord::FILE] {
        match fs::rename(paths.records().join(file), target.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    for directory in [&target, &paths.records()] {
        File::open(directory)?.sync_all()?;
    }
    Ok(target)
}

/// What moving the member aside means for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Size of the member directory, in bytes: about what its successor will need.
    pub member_bytes: u64,
    /// What is free for an ordinary user, in bytes.
    pub free_bytes: u64,
}

/// Measures the disk.
pub fn room(paths: &Paths) -> io::Result<Room> {
    let disk = nix::sys::statvfs::statvfs(&paths.data_dir())?;
    let member_bytes = parts(paths).iter().map(|part| bytes_below(part)).sum::<io::Result<u64>>()?;
    Ok(Room { member_bytes, free_bytes: disk.blocks_available() * disk.fragment_size() })
}

/// What is there of a member, the log first: without its database a log alone would be taken for sound by some
/// versions of etcd (docs/contract.md#starting).
fn parts(paths: &Paths) -> Vec<PathBuf> {
    let log = paths.wal_dir().map(Path::to_path_buf);
    let parts = log.into_iter().chain([paths.data_dir().join("member")]);
    parts.filter(|part| fs::symlink_metadata(part).is_ok()).collect()
}

fn bytes_below(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // What the file occupies, not its length: etcd makes its log longer than what is in it.
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// What was moved aside before the newest two times: nobody else will ever remove it, so it is named.
pub fn older(paths: &Paths) -> io::Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(paths.aside())?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    // Their names begin with the time.
    all.sort();
    all.truncate(all.len().saturating_sub(2));
    Ok(all)
}

fn fresh_directory(aside: &Path, reason: AsideReason, now: jiff::Timestamp) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(aside)?;
    let stem = format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), reason.name());
    for number in 1..=NAMES_MAX {
        let name = if number == 1 { stem.clone() } else { format!("{stem}-{number}") };
        let directory = aside.join(name);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{} has {NAMES_MAX} directories named {stem}", aside.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data directory with what a first start leaves that was killed early.
    fn partial() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        fs::create_dir_all(paths.data_dir().join("member/snap")).unwrap();
        File::create(paths.data_dir().join("member/snap/db")).unwrap();
        (root, paths)
    }

    #[test]
    fn a_member_directory_moves_with_all_its_files_and_nothing_is_left() {
        let (_root, paths) = partial();
        let now = "2026-01-02T03:04:05Z".parse().unwrap();

        let moved = move_member(&paths, AsideReason::Partial, now).unwrap().unwrap();

        assert_eq!(moved, paths.aside().join("20260102T030405Z-partial/member"));
        assert!(moved.join("snap/db").exists());
        assert!(!paths.data_dir().join("member").exists());
    }

    #[test]
    fn a_log_that_lies_elsewhere_goes_with_its_member() {
        let (_root, paths) = partial();
        let log = paths.data_dir().join("log");
        fs::create_dir(&log).unwrap();
        fs::write(log.join("1.wal"), vec![1; 10_000]).unwrap();
        let paths = paths.with_wal_dir(Some(&log));
        assert!(room(&paths).unwrap().member_bytes >= 10_000);

        let moved = move_member(&paths, AsideReason::Partial, jiff::Timestamp::UNIX_EPOCH).unwrap().unwrap();

        assert!(moved.with_file_name("log").join("1.wal").exists() && !log.exists());
        assert!(moved.join("snap/db").exists());
    }

    #[test]
    fn the_records_of_the_data_go_with_it_and_a_restore_request_stays() {
        let (_root, paths) = partial();
        fs::create_dir_all(paths.records()).unwrap();
        for file in ["nonce.json", "join.json", "bootstrap.json", "exit.json", "restore-request.json"] {
            fs::write(paths.records().join(file), "{}").unwrap();
        }
        let now = jiff::Timestamp::UNIX_EPOCH;
        let moved = move_member(&paths, AsideReason::Removed, now).unwrap();

        let target = retire_records(&paths, moved.as_deref(), AsideReason::Removed, now).unwrap();

        assert_eq!(Some(target.as_path()), moved.as_deref().and_then(Path::parent));
        assert!(target.join("join.json").exists() && target.join("nonce.json").exists());
        let left: Vec<_> = fs::read_dir(paths.records()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["restore-request.json"]);
        // A run that died in between has moved the data already: the records get a directory of their own.
        let alone = retire_records(&paths, None, AsideReason::Removed, now).unwrap();
        assert_ne!(alone, target);
    }

    #[test]
    fn all_but_the_newest_two_are_named_and_none_is_removed() {
        let (_root, paths) = partial();
        for name in ["20260101T000000Z-removed", "20260103T000000Z-removed", "20260102T000000Z-damaged"] {
            fs::create_dir_all(paths.aside().join(name)).unwrap();
        }

        assert_eq!(older(&paths).unwrap(), [paths.aside().join("20260101T000000Z-removed")]);
        assert_eq!(fs::read_dir(paths.aside()).unwrap().count(), 3);
    }

    #[test]
    fn the_room_is_measured_by_what_files_occupy() {
        let (_root, paths) = partial();
        fs::write(paths.data_dir().join("member/snap/db"), vec![1; 100_000]).unwrap();

        let room = room(&paths).unwrap();

        assert!((100_000..200_000).contains(&room.member_bytes), "{room:?}");
        assert!(room.free_bytes > 0);
    }

    #[test]
    fn doing_it_again_finds_nothing_to_move() {
        let (_root, paths) = partial();
        let now = jiff::Timestamp::UNIX_EPOCH;
        move_member(&paths, AsideReason::Partial, now).unwrap();

        assert_eq!(move_member(&paths, AsideReason::Partial, now).unwrap(), None);
    }

    #[test]
    fn what_was_moved_before_stays_where_it_is() {
        let (_root, paths) = partial();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let first = move_member(&paths, AsideReason::Partial, now).unwrap().unwrap();
        fs::create_dir_all(paths.data_dir().join("member")).unwrap();

        let second = move_member(&paths, AsideReason::Partial, now).unwrap().unwrap();

        assert_ne!(first, second);
        assert!(first.join("snap/db").exists());
    }
}
