//! The machine as the search for the tool sees it: no home directory.
//!
//! Why not what crate `which` brings: for a `~` in PATH it asks for the user's home, and so, by way of the name service,
//! for every module that glibc has for looking up users and hosts. In a static binary these are 0.14 MB, and
//! at run time they load libraries of the machine's glibc, which need not be the one it was built with.

use std::ffi::{OsStr, OsString};
use std::fs::{DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use which::sys::{RealSys, Sys};

/// All of the real one but the home directory: a `~` in PATH is a directory of that name.
pub(super) struct Machine;

impl Sys for Machine {
    type ReadDirEntry = DirEntry;
    type Metadata = Metadata;

    fn is_windows(&self) -> bool {
        RealSys.is_windows()
    }

    fn current_dir(&self) -> io::Result<PathBuf> {
        RealSys.current_dir()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        None
    }

    fn env_split_paths(&self, paths: &OsStr) -> Vec<PathBuf> {
        RealSys.env_split_paths(paths)
    }

    fn env_path(&self) -> Option<OsString> {
        RealSys.env_path()
    }

    fn env_path_ext(&self) -> Option<OsString> {
        RealSys.env_path_ext()
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        RealSys.metadata(path)
    }

    fn symlink_metadata(&self, path: &Path) -> io::Result<Metadata> {
        RealSys.symlink_metadata(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>>>> {
        RealSys.read_dir(path)
    }

    fn is_valid_executable(&self, path: &Path) -> io::Result<bool> {
        RealSys.is_valid_executable(path)
    }
}
