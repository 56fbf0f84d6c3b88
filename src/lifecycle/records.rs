//! The small files that outlive a process, each with a version (docs/contract.md#files).
//!
//! On the persistent disk, beside the data they describe: the bootstrap nonce and record, the exit
//! record, the mark that drain has begun. Between root's scripts until the next boot: the intent of
//! pre-stop and the progress of drain. A torn or foreign file counts as absent, and that is said.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::atomic_file::{self, Stored};
use crate::etcd::id::{ClusterId, PeerUrl};
use crate::etcd::process::Ended;
use crate::job::config::hex;
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

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    record: T,
}

/// A random number that says "this disk, in this life". Bootstrap needs one from every instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce {
    /// 32 hexadecimal digits.
    pub nonce: String,
}

impl Record for Nonce {
    const FILE: &'static str = "nonce.json";
    const VERSION: u32 = 1;
}

impl Nonce {
    /// A fresh one from the system's random numbers.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; 16];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| io::Error::other("the system gives no random numbers"))?;
        Ok(Self { nonce: hex(&bytes) })
    }
}

/// The cluster this disk was bootstrapped into; written before etcd first starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapRecord {
    /// The cluster token, derived from the nonces.
    pub token: String,
    /// Each instance's nonce, by instance id.
    pub nonces: BTreeMap<String, String>,
    /// Each first member's peer URL, by instance id.
    pub peer_urls: BTreeMap<String, PeerUrl>,
    /// The id the new cluster has.
    pub cluster_id: ClusterId,
    /// When, in UTC.
    pub at: String,
}

impl Record for BootstrapRecord {
    const FILE: &'static str = "bootstrap.json";
    const VERSION: u32 = 1;
}

/// How etcd last ended; written after it ended and removed before the next start, so that a kill in
/// between leaves none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Its exit code or signal.
    pub ended: Ended,
    /// Whether the launcher had been told to stop.
    pub requested: bool,
    /// When, in UTC.
    pub at: String,
}

impl ExitRecord {
    /// Whether etcd closed its files itself.
    pub fn is_graceful(&self) -> bool {
        self.requested && matches!(self.ended, Ended::Code(0) | Ended::Signal(15 | 2))
    }
}

impl Record for ExitRecord {
    const FILE: &'static str = "exit.json";
    const VERSION: u32 = 1;
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
    atomic_file::write_json(&path::<R>(paths), &Versioned { version: R::VERSION, record }, MODE)
}

/// Removes a record durably; an absent one is fine.
pub fn remove<R: Record>(paths: &Paths) -> io::Result<()> {
    atomic_file::remove(&path::<R>(paths))
}

/// Reads a versioned file of another directory (root's, in `sys/run`).
pub fn read_versioned<T: DeserializeOwned>(path: &Path, version: u32) -> io::Result<Option<T>> {
    let why = match atomic_file::read_json::<Versioned<T>>(path, BYTES_MAX)? {
        Stored::Absent => return Ok(None),
        Stored::Present(file) if file.version == version => return Ok(Some(file.record)),
        Stored::Present(file) => format!("it has version {}, this program reads {version}", file.version),
        Stored::Unusable(why) => why,
    };
    journal::warn(
        "a record is unusable and counts as absent",
        &json!({"path": path.display().to_string(), "why": why}),
    );
    Ok(None)
}

/// Writes a versioned file of another directory.
pub fn write_versioned<T: Serialize>(path: &Path, version: u32, record: &T) -> io::Result<()> {
    atomic_file::write_json(path, &Versioned { version, record }, MODE)
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
        let record = ExitRecord { ended: Ended::Signal(15), requested: true, at: journal::now() };

        write(&paths, &record).unwrap();
        assert_eq!(read::<ExitRecord>(&paths).unwrap(), Some(record));

        remove::<ExitRecord>(&paths).unwrap();
        assert_eq!(read::<ExitRecord>(&paths).unwrap(), None);
    }

    #[test]
    fn every_version_ever_written_is_still_read() {
        let (_keep, paths) = paths();
        ensure_directory(&paths.records()).unwrap();
        fs::write(path::<Nonce>(&paths), r#"{"version": 1, "nonce": "00ff"}"#).unwrap();
        fs::write(
            path::<ExitRecord>(&paths),
            r#"{"version": 1, "ended": {"signal": 15}, "requested": true, "at": "2026-11-21T00:00:00.000Z"}"#,
        )
        .unwrap();
        fs::write(
            path::<BootstrapRecord>(&paths),
            r#"{"version": 1, "token": "t", "nonces": {"a": "00"}, "peer_urls": {"a": "https://a:2380"}, "cluster_id": "cdf818194e3a8c32", "at": "2026-11-21T00:00:00.000Z"}"#,
        )
        .unwrap();
        fs::write(path::<DrainBegun>(&paths), r#"{"version": 1, "at": "2026-11-21T00:00:00.000Z"}"#).unwrap();

        assert_eq!(read::<Nonce>(&paths).unwrap().unwrap().nonce, "00ff");
        assert!(read::<ExitRecord>(&paths).unwrap().unwrap().is_graceful());
        assert_eq!(read::<BootstrapRecord>(&paths).unwrap().unwrap().token, "t");
        assert!(read::<DrainBegun>(&paths).unwrap().is_some());
    }

    #[test]
    fn torn_and_foreign_files_count_as_absent() {
        let (_keep, paths) = paths();
        ensure_directory(&paths.records()).unwrap();
        for content in ["", "{", "{\"version\": 2, \"nonce\": \"a\"}", "[]", "{\"version\": 1}"] {
            fs::write(path::<Nonce>(&paths), content).unwrap();
            assert_eq!(read::<Nonce>(&paths).unwrap(), None, "{content:?}");
        }
    }

    #[test]
    fn only_a_requested_stop_that_etcd_finished_is_graceful() {
        let record = |ended, requested| ExitRecord { ended, requested, at: String::new() };
        assert!(record(Ended::Signal(15), true).is_graceful());
        assert!(record(Ended::Code(0), true).is_graceful());
        assert!(!record(Ended::Signal(9), true).is_graceful());
        assert!(!record(Ended::Code(0), false).is_graceful());
        assert!(!record(Ended::Code(2), true).is_graceful());
    }

    #[test]
    fn two_nonces_differ() {
        let (a, b) = (Nonce::generate().unwrap(), Nonce::generate().unwrap());
        assert_eq!(a.nonce.len(), 32);
        assert_ne!(a, b);
    }
}
