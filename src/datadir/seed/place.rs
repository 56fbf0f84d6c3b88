//! Where a member's files are made, and how they come to their place at once (docs/contract.md#seeding).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::SeedError;
use super::step::Step;
use crate::datadir::layout::SEEDING;
use crate::datadir::{Found, classify};

/// As etcd makes its directories and files.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A place where a member's files are made: beside where they will be, so that a rename brings them there.
#[derive(Debug)]
pub(in crate::datadir) struct Place {
    data_dir: PathBuf,
    wal_dir: Option<PathBuf>,
    /// Who else wants to put data here waits for nothing, and is refused.
    _turn: Flock<File>,
}

impl Place {
    /// Takes a data directory that holds no data, and a directory for the log that holds no log; what is absent is
    /// made. Nothing that lies there is touched, except what a seeding that was killed has left.
    pub(in crate::datadir) fn take(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Self, SeedError> {
        let default_wal = data_dir.join("member/wal");
        let wal_dir = wal_dir.filter(|path| *path != default_wal);
        // What is half placed is put back first, below.
        if !wal_dir.is_some_and(|wal_dir| wal_dir.join(SEEDING).exists()) {
            Self::expect_free(data_dir, wal_dir)?;
        }
        for directory in [Some(data_dir), wal_dir].into_iter().flatten() {
            make_directory(directory)?;
        }
        let handle = File::open(data_dir).map_err(doing("open", data_dir))?;
        let turn =
            Flock::lock(handle, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
                Errno::EWOULDBLOCK => SeedError::Busy { data_dir: data_dir.to_path_buf() },
                errno => doing("lock", data_dir)(errno.into()),
            })?;
        let place =
            Self { data_dir: data_dir.to_path_buf(), wal_dir: wal_dir.map(Path::to_path_buf), _turn: turn };
        place.take_back_log()?;
        // Somebody may have been here before the lock was held.
        Self::expect_free(data_dir, wal_dir)?;
        place.clear()?;
        for directory in [place.snap(), place.log()] {
            DirBuilder::new()
                .mode(DIRECTORY_MODE)
                .recursive(true)
                .create(&directory)
                .map_err(doing("make", &directory))?;
        }
        Ok(place)
    }

    /// Refuses a place with anything in it that is not the launcher's or the file system's.
    pub(in crate::datadir) fn expect_free(data_dir: &Path, wal_dir: Option<&Path>) -> Result<(), SeedError> {
        let occupied = |what: String| Err(SeedError::Occupied { data_dir: data_dir.to_path_buf(), what });
        match classify(data_dir, wal_dir).map_err(doing("look at", data_dir))? {
            Found::Empty => Ok(()),
            Found::Foreign { names } => occupied(format!("it holds {}", names.join(", "))),
            Found::Partial { what } => occupied(what),
            Found::Damaged { why, .. } => occupied(format!("it holds damaged data of a member: {why}")),
            Found::Data(identity) => {
                occupied(format!("it holds member {} of cluster {}", identity.member_id, identity.cluster_id))
            }
        }
    }

    /// Where the database is made.
    pub(in crate::datadir) fn db(&self) -> PathBuf {
        self.snap().join("db")
    }

    /// Where snapshot files are made.
    pub(in crate::datadir) fn snap(&self) -> PathBuf {
        self.unfinished().join("snap")
    }

    /// The directory that the log is made in.
    pub(in crate::datadir) fn log(&self) -> PathBuf {
        self.wal_dir.as_ref().map_or_else(|| self.unfinished().join("wal"), |wal_dir| wal_dir.join(SEEDING))
    }

    /// A new file, readable and writable by its owner only.
    pub(in crate::datadir) fn create(path: &Path) -> Result<File, SeedError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)
            .map_err(doing("make", path))
    }

    /// Takes a file that was made elsewhere; `None` if it lies on another disk and has to be copied.
    pub(in crate::datadir) fn adopt(from: &Path, path: &Path) -> Result<Option<File>, SeedError> {
        match fs::rename(from, path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(None),
            Err(error) => return Err(doing("move", from)(error)),
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(doing("open", path))?;
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(doing("restrict", path))?;
        Ok(Some(file))
    }

    /// Brings everything to its place: first a log in a directory of its own, then the rest in one step. A log without
    /// its database is something that etcd refuses; a database without its log it would take for an empty disk.
    pub(in crate::datadir) fn deploy(self) -> Result<(), SeedError> {
        give(&self.unfinished(), &self.data_dir)?;
        if let Some(wal_dir) = &self.wal_dir {
            give(&self.log(), wal_dir)?;
        }
        for directory in [self.snap(), self.log(), self.unfinished()] {
            sync(&directory)?;
        }
        Step::Written.reach();
        let placed = self.place_log().and_then(|()| {
            let member = self.data_dir.join("member");
            remove_empty(&member);
            fs::rename(self.unfinished(), &member).map_err(doing("put in place", &member))
        });
        if let Err(error) = placed {
            self.give_up();
            return Err(error);
        }
        sync(&self.data_dir)?;
        Step::Placed.reach();
        // The second name of a log in a directory of its own. Ignored: the member is there, and nobody reads it.
        let _ = self.clear();
        Ok(())
    }

    /// Brings a log to a directory of its own. What was made keeps its first name as well until all is in place: two
    /// names of one file tell whose it is.
    fn place_log(&self) -> Result<(), SeedError> {
        let Some(wal_dir) = &self.wal_dir else { return Ok(()) };
        for (made, placed) in self.log_files(wal_dir)? {
            fs::hard_link(&made, &placed).map_err(doing("put in place", &placed))?;
        }
        sync(wal_dir)?;
        Step::LogPlaced.reach();
        Ok(())
    }

    /// Takes back a log whose data did not follow: no etcd can have used it.
    fn take_back_log(&self) -> Result<(), SeedError> {
        let Some(wal_dir) = &self.wal_dir else { return Ok(()) };
        if self.data_dir.join("member").symlink_metadata().is_ok() {
            return Ok(());
        }
        for (made, placed) in self.log_files(wal_dir)? {
            let (Ok(one), Ok(other)) = (fs::symlink_metadata(&made), fs::symlink_metadata(&placed)) else {
                continue;
            };
            if (one.dev(), one.ino()) == (other.dev(), other.ino()) {
                fs::remove_file(&placed).map_err(doing("remove", &placed))?;
            }
        }
        Ok(())
    }

    /// The files of the log that were made, and where they belong.
    fn log_files(&self, wal_dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>, SeedError> {
        let made = self.log();
        let entries = match fs::read_dir(&made) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(doing("list", &made)(error)),
        };
        entries
            .map(|entry| entry.map(|entry| (entry.path(), wal_dir.join(entry.file_name()))))
            .collect::<io::Result<_>>()
            .map_err(doing("list", &made))
    }

    /// Takes away what was made, after a failure.
    pub(in crate::datadir) fn give_up(self) {
        // Ignored: the first error is the one to tell, and the next seeding clears what is left.
        let _ = self.take_back_log().and_then(|()| self.clear());
    }

    fn unfinished(&self) -> PathBuf {
        self.data_dir.join(SEEDING)
    }

    /// Removes what an unfinished seeding has made: files of ours that no etcd ever had.
    fn clear(&self) -> Result<(), SeedError> {
        for directory in [self.log(), self.unfinished()] {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(doing("remove", &directory)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes a directory that may be there already; what is made belongs to the owner of the directory above it.
fn make_directory(path: &Path) -> Result<(), SeedError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(parent)?;
    DirBuilder::new().mode(DIRECTORY_MODE).create(path).map_err(doing("make", path))?;
    give(path, parent)?;
    sync(parent)
}

/// A file, or a directory with all in it, to the owner of `model`.
fn give(path: &Path, model: &Path) -> Result<(), SeedError> {
    let owner = fs::metadata(model).map_err(doing("look at", model))?;
    let own = fs::symlink_metadata(path).map_err(doing("look at", path))?;
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        lchown(path, Some(owner.uid()), Some(owner.gid())).map_err(doing("give away", path))?;
    }
    if own.is_dir() {
        for entry in fs::read_dir(path).map_err(doing("list", path))? {
            give(&entry.map_err(doing("list", path))?.path(), model)?;
        }
    }
    Ok(())
}

/// An empty `member` directory, with empty directories in it, is nobody's data, and would be in the way. What is not
/// empty stays: removing a directory never removes a file.
fn remove_empty(member: &Path) {
    for entry in fs::read_dir(member).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(member);
}

/// Gives a file its name, unless something has it already; a rename would replace that.
pub(in crate::datadir) fn put(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

pub(in crate::datadir) fn sync(directory: &Path) -> Result<(), SeedError> {
    File::open(directory).and_then(|handle| handle.sync_all()).map_err(doing("write out", directory))
}

/// An error with what was being done.
pub(in crate::datadir) fn doing<'a>(
    verb: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> SeedError + 'a {
    move |source| SeedError::Io { doing: format!("{verb} {}", path.display()), source }
}
