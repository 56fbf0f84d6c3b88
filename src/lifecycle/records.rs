//! The small files that outlive a process, each with a version (docs/contract.md#files).
//!
//! On the persistent disk, beside the data they describe: the launcher's (see
//! [`super::launch::records`]) and the mark that drain has begun. Between root's scripts until the next
//! boot: the intent of pre-stop and the progress of drain. A torn or foreign file counts as absent, and that is said.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::atomic_file::{self, Stored};
use crate::job::paths::Paths;
use crate::journal;

/// No record is larger.
const BYTES_MAX: u64 = 1 << 20;
/// Records on the disk are for user vcap (and root).
const MODE: u32 = 0o600;

/// A versioned file of the launcher's record directory.
pub trait Record: Serialize + DeserializeOwned {
    /// File name below the record directory.
    const FILE: &'static str;
    /// The version this release writes; older ones it must still read.
    const VERSION: u32;
}

/// Drain has begun: the launcher must not rejoin until pre-start clears it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainBegun {
    /// When, in UTC.
    pub at: String,
}

impl Record for DrainBegun {
    const FILE: &'static str = "drain-begun.json";
    const VERSION: u32 = 1;
}

/// Where a record lies.
pub fn path<R: Record>(paths: &Paths) -> PathBuf {
    paths.records().join(R::FILE)
}

/// Reads a record; an unusable one is logged and counts as absent.
pub fn read<R: Record>(paths: &Paths) -> io::Result<Option<R>> {
    read_versioned(&path::<R>(paths), R::VERSION)
}

/// Writes a record durably.
pub fn write<R: Record>(paths: &Paths, record: &R) -> io::Result<()> {
    ensure_directory(&paths.records())?;
    write_versioned(&path::<R>(paths), R::VERSION, record)
}

/// Removes a record durably; an absent one is fine.
pub fn remove<R: Record>(paths: &Paths) -> io::Result<()> {
    atomic_file::remove(&path::<R>(paths))
}

/// Reads a versioned file of another directory (root's, in `sys/run`).
pub fn read_versioned<T: DeserializeOwned>(path: &Path, version: u32) -> io::Result<Option<T>> {
    let why = match atomic_file::read_json::<Value>(path, BYTES_MAX)? {
        Stored::Absent => return Ok(None),
        Stored::Present(file) => match of_version(file, version) {
            Ok(record) => return Ok(Some(record)),
            Err(why) => why,
        },
        Stored::Unusable(why) => why,
    };
    let fields = json!({"path": path.display().to_string(), "why": why});
    journal::warn("a record is unusable and counts as absent", &fields);
    Ok(None)
}

/// What a file of this version holds. Errors: why it is of no use.
pub fn of_version<T: DeserializeOwned>(file: Value, version: u32) -> Result<T, String> {
    match file.get("version").and_then(Value::as_u64) {
        Some(found) if found == u64::from(version) => {
            serde_json::from_value(file).map_err(|error| error.to_string())
        }
        Some(found) => Err(format!("it has version {found}, this program reads {version}")),
        None => Err("it has no version".to_owned()),
    }
}

/// Writes a versioned file of another directory.
pub fn write_versioned<T: Serialize>(path: &Path, version: u32, record: &T) -> io::Result<()> {
    let mut file = serde_json::to_value(record)?;
    let Value::Object(fields) = &mut file else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is a JSON object"));
    };
    fields.insert("version".to_owned(), version.into());
    atomic_file::write_json(path, &file, MODE)
}

/// Makes a directory only its owner may enter; one that is there stays.
pub fn ensure_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if std::fs::symlink_metadata(directory)?.is_dir() { Ok(()) } else { Err(error) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn paths() -> (tempfile::TempDir, Paths) {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::below(directory.path());
        fs::create_dir_all(paths.data_dir()).unwrap();
        (directory, paths)
    }

    #[test]
    fn records_come_back_as_written_and_removal_is_final() {
        let (_keep, paths) = paths();
        let record = DrainBegun { at: journal::now() };

        write(&paths, &record).unwrap();
        assert_eq!(read::<DrainBegun>(&paths).unwrap(), Some(record));

        remove::<DrainBegun>(&paths).unwrap();
        assert_eq!(read::<DrainBegun>(&paths).unwrap(), None);
    }

    #[test]
    fn torn_and_foreign_files_count_as_absent() {
        let (_keep, paths) = paths();
        ensure_directory(&paths.records()).unwrap();
        for content in
            ["", "{", "{\"version\": 2, \"at\": \"a\"}", "[]", "{\"version\": 1}", "{\"at\": \"a\"}"]
        {
            fs::write(path::<DrainBegun>(&paths), content).unwrap();
            assert_eq!(read::<DrainBegun>(&paths).unwrap(), None, "{content:?}");
        }
    }
}
