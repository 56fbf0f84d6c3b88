//! Which etcd is installed, without starting it each time: a Go program needs longer to say its version
//! than the launcher needs for everything else.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::process;
use super::release_line::ReleaseLine;
use super::version::EtcdVersion;
use crate::job::paths::Paths;
use crate::lifecycle::records::{read_versioned, write_versioned};
use crate::report::Complaint;

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

/// The installed binary of a release line.
pub fn path(paths: &Paths, line: ReleaseLine) -> PathBuf {
    paths.etcd_package(line).join("etcd")
}

/// Its version: as noted if the file is still the same, else asked and noted.
pub fn version(paths: &Paths, line: ReleaseLine) -> anyhow::Result<EtcdVersion> {
    let binary = path(paths, line);
    let same = match identity(&binary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(line, &binary).into()),
        other => other.with_context(|| format!("look at {}", binary.display()))?,
    };
    if let Some(noted) = read_versioned::<Noted>(&paths.etcd_version(), VERSION)?
        && (Noted { etcd: noted.etcd.clone(), ..same.clone() }) == noted
    {
        return of_line(&noted.etcd, line, &binary);
    }
    let etcd =
        process::version(&binary).with_context(|| format!("ask {} for its version", binary.display()))?;
    let parsed = of_line(&etcd, line, &binary)?;
    write_versioned(&paths.etcd_version(), VERSION, &Noted { etcd, ..same })
        .context("note the version of etcd")?;
    Ok(parsed)
}

/// A version that is of the line its package is for: anything else would decide about data by the wrong rules.
fn of_line(text: &str, line: ReleaseLine, binary: &Path) -> anyhow::Result<EtcdVersion> {
    let version: EtcdVersion = text.parse().with_context(|| format!("'{text}' is no version of etcd"))?;
    if line.holds(version) {
        return Ok(version);
    }
    Err(Complaint::refused(
        format!("{} is etcd {version}, and etcd_version is \"{line}\"", binary.display()),
        format!(
            "package {} is to hold etcd {line}; data could be opened by a version that must not",
            line.package()
        ),
        "deploy a release whose packages hold what they are named after; docs/deploy.md#etcd-version",
    )
    .into())
}

fn missing(line: ReleaseLine, binary: &Path) -> Complaint {
    let (package, why) = (line.package(), "there is no etcd to start, and nothing was changed");
    let what = format!("etcd_version is \"{line}\", and there is no {}", binary.display());
    match line {
        ReleaseLine::V3_6 => Complaint::refused(what, why, "deploy again, which installs the packages anew"),
        _ => Complaint::refused(
            what,
            why,
            format!(
                "deploy with operations/use-{package}.yml, which adds job {package} and thereby its package; docs/deploy.md#etcd-version"
            ),
        ),
    }
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
