//! Data moved aside, never deleted: a rename within the disk, since bpm's mounts allow no other
//! (docs/contract.md#files).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::decide::plan::AsideReason;
use crate::job::paths::Paths;

/// More directories of one second are not tried.
const NAMES_MAX: u32 = 100;

/// Moves the member directory to `aside/UTC-REASON/member` and says where it is now; `None` if there is
/// none. Dying in between leaves an empty directory or the finished move.
pub fn move_member(paths: &Paths, reason: AsideReason, now: jiff::Timestamp) -> io::Result<Option<PathBuf>> {
    let member = paths.data_dir().join("member");
    if fs::symlink_metadata(&member).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let target = fresh_directory(&paths.aside(), reason, now)?;
    let moved = target.join("member");
    fs::rename(&member, &moved)?;
    for directory in [target.as_path(), &paths.aside(), &paths.data_dir()] {
        File::open(directory)?.sync_all()?;
    }
    Ok(Some(moved))
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
