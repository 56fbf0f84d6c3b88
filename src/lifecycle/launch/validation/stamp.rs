//! Which files were checked: a verdict counts for them only as long as nobody changes them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The files of data and log, and what tells a changed one from the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(BTreeMap<OsString, Marks>);

/// Device, inode, size, and when content and inode last changed (seconds and nanoseconds). The time of the
/// last reading is not among them.
type Marks = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamp {
    /// The files as they are now. What is not there is not in it.
    pub(super) fn of(data_dir: &Path, wal_dir: Option<&Path>) -> io::Result<Self> {
        let mut marks = BTreeMap::new();
        let elsewhere = wal_dir.map(|directory| ("wal-dir", directory.to_path_buf()));
        let below = ["member/snap", "member/wal"].map(|part| (part, data_dir.join(part)));
        for (part, directory) in below.into_iter().chain(elsewhere) {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                let entry = entry?;
                let file = match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other?,
                };
                let mut name = OsString::from(part);
                name.push("/");
                name.push(entry.file_name());
                let written = (file.mtime(), file.mtime_nsec());
                let changed = (file.ctime(), file.ctime_nsec());
                marks.insert(name, (file.dev(), file.ino(), file.size(), written, changed));
            }
        }
        Ok(Self(marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_leaves_a_stamp_as_it_is_and_every_change_does_not() {
        let root = tempfile::tempdir().unwrap();
        let member = root.path().join("member");
        fs::create_dir_all(member.join("snap")).unwrap();
        fs::create_dir_all(member.join("wal")).unwrap();
        let (db, log) = (member.join("snap/db"), member.join("wal/1.wal"));
        fs::write(&db, "a").unwrap();
        fs::write(&log, "b").unwrap();
        let stamp = || Stamp::of(root.path(), None).unwrap();

        let first = stamp();
        fs::read(&db).unwrap();
        assert_eq!(stamp(), first);

        fs::write(&db, "aa").unwrap();
        let longer = stamp();
        assert_ne!(longer, first);
        // A copy that is put in its place has another inode, whatever else is the same.
        fs::copy(&log, member.join("copy")).unwrap();
        fs::rename(member.join("copy"), &log).unwrap();
        let replaced = stamp();
        assert_ne!(replaced, longer);
        fs::remove_file(&log).unwrap();
        assert_ne!(stamp(), replaced);
        assert_eq!(Stamp::of(&root.path().join("none"), None).unwrap(), Stamp(BTreeMap::new()));
    }
}
