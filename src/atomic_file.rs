//! Files that are either the old one or the new one, never half of it.
//!
//! Every file we persist goes through here: temporary file beside the target, fsync, rename, fsync
//! of the directory. Without the two fsyncs only what the next start writes anew ([`write_for_now`]).
//! The temporary lies in the same directory because a rename across the bind
//! mounts of bpm fails (docs/contract.md#files).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What reading a persisted JSON file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored<T> {
    /// There is no such file.
    Absent,
    /// A file is there but cannot be used: torn, foreign or of an unknown version. The text says why;
    /// callers treat it as absent and say so.
    Unusable(String),
    /// The value, as written.
    Present(T),
}

impl<T> Stored<T> {
    /// The value if there is one.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unusable(_) => None,
        }
    }
}

/// Writes `bytes` to `path` with the permission bits `mode`, durably and atomically.
///
/// Errors carry no path: callers add it with what was being done.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, bytes, mode, Durability::Fsync)
}

/// Like [`write()`], but waits for no disk: only for a file that nothing is decided from and that the next
/// start writes anew. Readers still see the old one or the new one; a power loss may leave neither.
pub fn write_for_now(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, bytes, mode, Durability::PageCache)
}

/// How far a written file has to come before the work goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Fsync,
    PageCache,
}

fn put(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let directory = parent(path)?;
    let temporary = temporary_beside(path)?;
    let written = write_temporary(&temporary, bytes, mode, durability)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| match durability {
            Durability::Fsync => File::open(directory)?.sync_all(),
            Durability::PageCache => Ok(()),
        });
    if written.is_err() {
        // Ignored: the first error is the one to tell, and a left-over temporary is overwritten.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Serialises `value` as indented JSON and writes it like [`write()`].
pub fn write_json<T: Serialize>(path: &Path, value: &T, mode: u32) -> io::Result<()> {
    write(path, &json(value)?, mode)
}

/// Serialises `value` as indented JSON and writes it like [`write_for_now`].
pub fn write_json_for_now<T: Serialize>(path: &Path, value: &T, mode: u32) -> io::Result<()> {
    write_for_now(path, &json(value)?, mode)
}

fn json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

/// Reads a JSON file of at most `bytes_max` bytes; anything unusable is told apart from absent.
pub fn read_json<T: DeserializeOwned>(path: &Path, bytes_max: u64) -> io::Result<Stored<T>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Absent),
        Err(error) => return Err(error),
    };
    // Root reads files that user vcap wrote: a symlink there could point anywhere.
    if !metadata.file_type().is_file() {
        return Ok(Stored::Unusable("it is not a regular file".to_owned()));
    }
    if metadata.len() > bytes_max {
        return Ok(Stored::Unusable(format!(
            "it has {} bytes, more than the {bytes_max} such a file can have",
            metadata.len()
        )));
    }
    Ok(match serde_json::from_slice(&fs::read(path)?) {
        Ok(value) => Stored::Present(value),
        Err(error) => Stored::Unusable(error.to_string()),
    })
}

/// Removes a file and makes the removal durable; an absent file is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => File::open(parent(path)?)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no directory"))
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // create_new refuses to follow a symlink that somebody put there meanwhile.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    match durability {
        Durability::Fsync => file.sync_all(),
        Durability::PageCache => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_content_replaces_the_old_and_leaves_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");

        for new_content in [write, write_for_now] {
            write(&path, b"old", 0o600).unwrap();
            new_content(&path, b"new", 0o640).unwrap();

            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_torn_file_a_symlink_and_a_huge_file_are_unusable_not_absent() {
        let directory = tempfile::tempdir().unwrap();
        let torn = directory.path().join("torn.json");
        fs::write(&torn, b"{\"version\": 1, \"no").unwrap();
        let link = directory.path().join("link.json");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let huge = directory.path().join("huge.json");
        fs::write(&huge, vec![b'['; 100]).unwrap();

        for path in [&torn, &link, &huge] {
            let stored = read_json::<serde_json::Value>(path, 50).unwrap();
            assert!(matches!(stored, Stored::Unusable(_)), "{}: {stored:?}", path.display());
        }
        assert_eq!(
            read_json::<serde_json::Value>(&directory.path().join("none"), 50).unwrap(),
            Stored::Absent
        );
    }

    #[test]
    fn removing_twice_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mark");
        write(&path, b"", 0o600).unwrap();

        remove(&path).unwrap();
        remove(&path).unwrap();

        assert!(!path.exists());
    }
}
