//! A file that appears whole and never takes another one's place.
//!
//! It is written beside its target under a name that the target alone decides and that is locked as long as somebody
//! writes: what a killed run left is taken over by the next one, and two at once do not mix.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, RenameFlags, renameat2};

use crate::report::Complaint;

/// Only for who wrote it: it has everything that the cluster has.
const MODE: u32 = 0o600;

/// Why there is no new file.
#[derive(Debug, thiserror::Error)]
pub enum NoFile {
    /// Something has that name.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// Another run writes it.
    #[error("another process is writing {}", .0.display())]
    Busy(PathBuf),
    /// The operating system says no.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

impl NoFile {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        match self {
            Self::Exists(_) => {
                Complaint::refused(what, "a file that exists is never overwritten", "name another one")
            }
            Self::Busy(_) => Complaint::try_again(
                what,
                "two of them would mix their lines",
                "wait until it has ended, or name another file",
            ),
            Self::Io { .. } => Complaint::failed(
                what,
                "nothing was left behind",
                "mend what the system complains about, or name a file elsewhere, and run it again",
            ),
        }
    }
}

/// A file that nobody sees yet. Given up, nothing is left of it.
#[derive(Debug)]
pub struct NewFile {
    file: Flock<File>,
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Begins one.
    pub fn begin(path: &Path) -> Result<Self, NoFile> {
        if path.symlink_metadata().is_ok() {
            return Err(NoFile::Exists(path.to_path_buf()));
        }
        let failed = |source| NoFile::Io { path: path.to_path_buf(), source };
        let name = path.file_name().ok_or_else(|| failed(io::Error::from(io::ErrorKind::IsADirectory)))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".etcd-export");
        let temporary = path.with_file_name(hidden);
        let mut options = File::options();
        // A link that somebody put there is not followed.
        options.write(true).create(true).truncate(false).mode(MODE).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = options.open(&temporary).map_err(failed)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => NoFile::Busy(path.to_path_buf()),
            errno => failed(errno.into()),
        })?;
        let (own, there) = (file.metadata().map_err(failed)?, fs::symlink_metadata(&temporary));
        // Whoever had the lock before may have given this very file its name just now.
        if !there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) || own.nlink() != 1
        {
            return Err(NoFile::Busy(path.to_path_buf()));
        }
        let new = Self { file, temporary, path: path.to_path_buf(), kept: false };
        new.file.set_len(0).map_err(failed)?;
        new.file.set_permissions(fs::Permissions::from_mode(MODE)).map_err(failed)?;
        Ok(new)
    }

    /// Gives it its name, when everything is on the disk.
    pub fn keep(mut self) -> Result<(), NoFile> {
        let failed = |source| NoFile::Io { path: self.path.clone(), source };
        self.file.sync_all().map_err(failed)?;
        match put(&self.temporary, &self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(NoFile::Exists(self.path.clone()));
            }
            Err(error) => return Err(failed(error)),
        }
        let directory = self.path.parent().filter(|parent| *parent != Path::new(""));
        let synced =
            File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
        synced.map_err(failed)?;
        self.kept = true;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // Ignored: the next run takes it over. While it is locked, the name is ours.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Moves a file to a name that nobody has.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems, NFS among them, do not know it; a hard link does not replace either.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        moved => Ok(moved?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn it_appears_whole_for_its_owner_only_and_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");

        let mut new = NewFile::begin(&path).unwrap();
        new.write_all(b"whole").unwrap();
        assert!(!path.exists());
        assert!(matches!(NewFile::begin(&path), Err(NoFile::Busy(_))));
        new.keep().unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names(directory.path()), ["keys"]);
        assert!(matches!(NewFile::begin(&path), Err(NoFile::Exists(_))));
    }

    #[test]
    fn what_came_meanwhile_stays_and_what_was_given_up_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let new = NewFile::begin(&path).unwrap();
        fs::write(&path, b"theirs").unwrap();

        assert!(matches!(new.keep(), Err(NoFile::Exists(_))));

        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(directory.path()), ["keys"]);
    }

    #[test]
    fn what_a_killed_run_left_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(directory.path().join(".keys.etcd-export"), b"half of something longer").unwrap();

        let mut new = NewFile::begin(&path).unwrap();
        new.write_all(b"whole").unwrap();
        new.keep().unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"whole");
        // A link in that place is nobody's leftover.
        let other = directory.path().join("other");
        std::os::unix::fs::symlink(&path, directory.path().join(".other.etcd-export")).unwrap();
        assert!(matches!(NewFile::begin(&other), Err(NoFile::Io { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
}
