//! A directory for copies, beside what they are for. It is locked as long as somebody uses it: what a run leaves that was
//! killed is removed by the next one, and nobody else's.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use uuid::Uuid;

/// Behind it is a UUID, and nothing else.
const NAME: &str = ".etcd-backup-";

/// A directory that is removed in the end, with what was put into it.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// Where directories can be locked. Where not, nobody takes it for left behind.
    _lock: Option<Flock<File>>,
}

impl Scratch {
    /// A new one, only for us; what killed runs have left in the same place is gone then.
    pub(super) fn below(parent: &Path) -> io::Result<Self> {
        clear(parent);
        loop {
            let path = parent.join(format!("{NAME}{}", Uuid::new_v4()));
            DirBuilder::new().mode(0o700).create(&path)?;
            let lock = Flock::lock(File::open(&path)?, FlockArg::LockExclusive).ok();
            // Another run may have seen it before it was locked, and removed it.
            if path.symlink_metadata().is_ok() {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Ignored: it holds copies only, its name says whose it is, and the next run tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what runs have left that are gone. Whatever fails is left alone: it is only room on a disk.
fn clear(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_str().is_some_and(is_ours) {
            let _ = remove_if_left(&entry.path());
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(NAME)
        .is_some_and(|rest| Uuid::try_parse(rest).is_ok_and(|uuid| uuid.to_string() == rest))
}

fn remove_if_left(path: &Path) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        return Ok(());
    }
    match Flock::lock(File::open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(_held) => fs::remove_dir_all(path),
        Err((_, errno)) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_left_is_removed_and_what_is_used_or_somebody_elses_stays() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let uuid = "6f3e0c1a-0000-4000-8000-000000000001";
        let left = format!("{NAME}{uuid}");
        let others = [
            "etcd-backup-6f3e0c1a-0000-4000-8000-000000000001".to_owned(),
            format!("{NAME}1"),
            format!("{left}.old"),
            format!("{NAME}{}", uuid.to_uppercase()),
            format!("{NAME}{}", uuid.replace('-', "")),
        ];
        for name in others.iter().chain([&left]) {
            fs::create_dir_all(place.join(name).join("data")).unwrap();
            fs::write(place.join(name).join("data/db"), b"x").unwrap();
        }
        // The name alone decides nothing: a file and a link are nobody's leftovers.
        let (file, link) = (left.replace('1', "2"), left.replace('1', "3"));
        fs::write(place.join(&file), b"x").unwrap();
        std::os::unix::fs::symlink(place.join(&others[0]), place.join(&link)).unwrap();
        let used = Scratch::below(place).unwrap();
        fs::write(used.path().join("db"), b"x").unwrap();

        let own = Scratch::below(place).unwrap();

        let name = |scratch: &Scratch| scratch.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut wanted: Vec<String> = [&others[..], &[file, link, name(&used), name(&own)]].concat();
        wanted.sort();
        assert_eq!(names(place), wanted);
        assert!(used.path().join("db").exists());
        let gone = name(&own);
        drop(own);
        assert!(!names(place).contains(&gone));
    }
}
