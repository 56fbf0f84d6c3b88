//! Which files a data directory has: names only, nothing is opened, no link is followed.

use std::collections::BTreeSet;
use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::NAMES_MAX;
use super::wal::Segment;

/// What becomes `member` once it is complete (docs/contract.md#seeding). Nobody's data until then.
pub(super) const SEEDING: &str = ".seeding";
/// What the launcher and the file system keep beside etcd's data.
const BOOKKEEPING: [&str; 4] = ["aside", ".launcher", "lost+found", SEEDING];
const MEMBER: &str = "member";
/// An empty file by which etcd finds out, at each start, whether it may write to a directory. It stays where etcd was
/// killed in that moment (seen with 3.6.16), and says nothing.
const TRIAL: &str = ".touch";

/// The files of a data directory, by what they mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// Not ours and not etcd's, or ours but of another type of file.
    pub(super) foreign: Names,
    /// Below `member`, but nothing etcd writes; it ignores them.
    pub(super) strangers: Names,
    /// Half-written files, which etcd deletes at the next start.
    pub(super) unfinished: Names,
    /// Files that only a member that has worked leaves.
    pub(super) remains: Names,
    /// Whether the backend is there.
    pub(super) has_db: bool,
    /// The log's files, in order.
    pub(super) segments: BTreeSet<Segment>,
    /// Files of the log with names that etcd does not read.
    pub(super) misnamed: Names,
    /// Files of a log in `member/wal`, although another place is configured.
    pub(super) elsewhere: Names,
    /// The raft index of the newest snapshot file.
    pub(super) newest_snapshot: Option<u64>,
    /// The raft indexes of the databases received from a leader.
    pub(super) received: BTreeSet<u64>,
    /// The log's directory, for a person.
    pub(super) wal_name: String,
}

/// A few names for a person, in order, however many there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    fn note(&mut self, name: String) {
        self.0.insert(name);
        if self.0.len() > NAMES_MAX {
            self.0.pop_last();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn to_vec(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

impl<T: Into<String>> FromIterator<T> for Names {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut noted = Self::default();
        names.into_iter().for_each(|name| noted.note(name.into()));
        noted
    }
}

/// Where the backend lies.
pub(super) fn db(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/db")
}

/// Where the log lies.
pub(super) fn wal(data_dir: &Path, wal_dir: Option<&Path>) -> PathBuf {
    wal_dir.map_or_else(|| data_dir.join("member/wal"), Path::to_path_buf)
}

/// Opens a file for reading; `None` if it is no plain file. Neither follows a link in the last place
/// nor waits for the other end of a pipe.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    let tell = |error| about(path, &error);
    if !fs::symlink_metadata(path).map_err(tell)?.is_file() {
        return Ok(None);
    }
    let file =
        OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path).map_err(tell)?;
    let plain = file.metadata().map_err(tell)?.is_file();
    Ok(plain.then_some(file))
}

/// An error with the path it is about.
pub(super) fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Layout {
    /// Looks at the directories. An absent one is an empty one.
    pub(super) fn survey(data_dir: &Path, wal_dir: Option<&Path>) -> io::Result<Self> {
        let default_wal = wal(data_dir, None);
        let wal_dir = wal_dir.filter(|configured| *configured != default_wal);
        let wal_path = wal(data_dir, wal_dir);
        let mut layout = Self { wal_name: shown(&wal_path, data_dir), ..Self::default() };
        layout.top(data_dir, wal_dir)?;
        if layout.foreign.is_empty() {
            layout.member(data_dir)?;
            layout.snap(data_dir)?;
            layout.log(data_dir, &wal_path)?;
            if wal_dir.is_some() {
                let found = layout.list(data_dir, &default_wal)?;
                let logs = found.iter().filter(|(name, _)| extension(name) == Some("wal"));
                layout.elsewhere = logs.map(|(name, _)| format!("member/wal/{name}")).collect();
            }
        }
        Ok(layout)
    }

    fn top(&mut self, data_dir: &Path, wal_dir: Option<&Path>) -> io::Result<()> {
        // A log inside the data directory: etcd makes it under another name and renames it.
        let inside = wal_dir
            .and_then(|path| path.strip_prefix(data_dir).ok())
            .and_then(|path| path.components().next())
            .map(|first| first.as_os_str().to_string_lossy().into_owned());
        for (name, kind) in self.list(data_dir, data_dir)? {
            let ours = BOOKKEEPING.contains(&name.as_str())
                || name == MEMBER
                || inside.as_ref().is_some_and(|inside| *inside == name || format!("{inside}.tmp") == name);
            if !ours {
                self.foreign.note(name);
            } else if !kind.is_dir() {
                self.foreign.note(not_a(&name, "directory"));
            }
        }
        Ok(())
    }

    fn member(&mut self, data_dir: &Path) -> io::Result<()> {
        let directory = data_dir.join(MEMBER);
        for (name, kind) in self.list(data_dir, &directory)? {
            let shown = format!("{MEMBER}/{name}");
            match name.as_str() {
                "snap" | "wal" => {} // Listed on their own, which tells if they are none.
                "wal.tmp" => self.unfinished.note(shown),
                // An empty directory is nobody's data.
                _ if kind.is_dir()
                    && fs::read_dir(directory.join(&name)).is_ok_and(|mut list| list.next().is_none()) => {}
                _ => self.strangers.note(shown),
            }
        }
        Ok(())
    }

    fn snap(&mut self, data_dir: &Path) -> io::Result<()> {
        for (name, kind) in self.list(data_dir, &data_dir.join("member/snap"))? {
            let shown = format!("member/snap/{name}");
            if name == "db" && !kind.is_file() {
                self.foreign.note(not_a(&shown, "plain file"));
            } else if name == "db" {
                self.has_db = true;
            } else if let Some(stem) = name.strip_suffix(".snap.db") {
                self.received.extend(hexadecimal(stem));
                self.remains.note(shown);
            } else if let Some(stem) = name.strip_suffix(".snap") {
                let index = stem.split_once('-').and_then(|(_, index)| hexadecimal(index));
                self.newest_snapshot = self.newest_snapshot.max(index);
                self.remains.note(shown);
            } else if extension(&name) == Some("broken") {
                self.remains.note(shown);
            } else if name.starts_with("db.tmp") || name.starts_with("tmp") {
                self.unfinished.note(shown);
            } else {
                self.strangers.note(shown);
            }
        }
        Ok(())
    }

    fn log(&mut self, data_dir: &Path, wal_path: &Path) -> io::Result<()> {
        let directory = shown(wal_path, data_dir);
        for (name, kind) in self.list(data_dir, wal_path)? {
            let shown = format!("{directory}/{name}");
            match (extension(&name), Segment::from_name(&name)) {
                (Some("wal"), _) if !kind.is_file() => self.foreign.note(not_a(&shown, "plain file")),
                (Some("wal"), Some(segment)) => _ = self.segments.insert(segment),
                (Some("wal"), None) => self.misnamed.note(shown),
                (Some("broken"), _) => self.remains.note(shown),
                (Some("tmp"), _) => self.unfinished.note(shown),
                // Others lie beside a log that may be on a disk of its own: lost+found, for one.
                _ => {}
            }
        }
        Ok(())
    }

    /// The names in a directory. One that is none (or a link to one) is noted as foreign.
    fn list(&mut self, data_dir: &Path, directory: &Path) -> io::Result<Vec<(String, FileType)>> {
        let tell = |error| about(directory, &error);
        match fs::symlink_metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                self.foreign.note(not_a(&shown(directory, data_dir), "directory"));
                return Ok(Vec::new());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(tell(error)),
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(tell)? {
            let entry = entry.map_err(tell)?;
            let (name, kind) = (entry.file_name(), entry.file_type().map_err(tell)?);
            if name != TRIAL || !kind.is_file() {
                names.push((name.to_string_lossy().into_owned(), kind));
            }
        }
        Ok(names)
    }
}

fn not_a(name: &str, kind: &str) -> String {
    format!("{name} (not a {kind})")
}

/// A path as the data directory's owner says it.
pub(super) fn shown(path: &Path, data_dir: &Path) -> String {
    let inside = path.strip_prefix(data_dir).ok().filter(|rest| !rest.as_os_str().is_empty());
    inside.unwrap_or(path).display().to_string()
}

/// What follows the last dot, as etcd compares it.
pub(super) fn extension(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

fn hexadecimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
