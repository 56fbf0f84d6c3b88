//! Which etcd is installed, without starting it each time: a Go program needs longer to say its version
//! than the launcher needs for everything else.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::process;
use super::version::EtcdVersion;
use crate::job::paths::Paths;
use crate::lifecycle::records::{read_versioned, write_versioned};

const VERSION: u32 = 1;

/// What was once asked, and of which file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i64,
    changed_ns: i64,
    etcd: String,
}

/// The installed binary.
pub fn path(paths: &Paths) -> PathBuf {
    paths.etcd_package().join("etcd")
}

/// Its version: as noted if the file is still the same, else asked and noted.
pub fn version(paths: &Paths) -> anyhow::Result<EtcdVersion> {
    let binary = path(paths);
    let same = identity(&binary).with_context(|| format!("look at {}", binary.display()))?;
    if let Some(noted) = read_versioned::<Noted>(&paths.etcd_version(), VERSION)?
        && (Noted { etcd: noted.etcd.clone(), ..same.clone() }) == noted
    {
        return parse(&noted.etcd);
    }
    let etcd =
        process::version(&binary).with_context(|| format!("ask {} for its version", binary.display()))?;
    let parsed = parse(&etcd)?;
    write_versioned(&paths.etcd_version(), VERSION, &Noted { etcd, ..same })
        .context("note the version of etcd")?;
    Ok(parsed)
}

fn parse(text: &str) -> anyhow::Result<EtcdVersion> {
    text.parse().with_context(|| format!("'{text}' is no version of etcd"))
}

fn identity(binary: &Path) -> io::Result<Noted> {
    let file = std::fs::metadata(binary)?;
    Ok(Noted {
        device: file.dev(),
        inode: file.ino(),
        size: file.size(),
        modified_ns: file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec()),
        changed_ns: file.ctime().saturating_mul(1_000_000_000).saturating_add(file.ctime_nsec()),
        etcd: String::new(),
    })
}
