//! `logs`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::{Session, absolute, identities};
use crate::local::model::Identity;
use crate::local::slug::Slug;
use crate::report::Complaint;

/// What a person typed after `logs`.
#[derive(Debug, Clone)]
pub struct Logs {
    /// Which instances; all if not given.
    pub slug: Option<Slug>,
    /// Follow instead of collecting.
    pub follow: bool,
    /// Where the archive goes; the working directory if not given.
    pub directory: Option<PathBuf>,
}

/// Collects logs into an archive, or follows them.
pub fn run(session: &Session, typed: &Logs) -> Result<()> {
    let deployment = session.open()?;
    let all = identities(&deployment);
    let chosen = Slug::choose(typed.slug.as_ref(), &all)?;
    let directories: Vec<(&Identity, PathBuf)> = chosen
        .into_iter()
        .map(|identity| (identity, deployment.instance_directory(identity).root().join("data/sys/log")))
        .filter(|(_, directory)| directory.exists())
        .collect();
    if directories.is_empty() {
        return Err(Complaint::failed(
            "no chosen instance has a machine",
            "logs lie on the machines",
            "`etcd-local instances --details` shows which have one",
        )
        .into());
    }
    if typed.follow {
        return Err(follow(&directories));
    }
    collect(session, &deployment.record().name, &directories, typed.directory.as_deref())
}

/// Becomes `tail`; returns only to tell why that failed.
fn follow(directories: &[(&Identity, PathBuf)]) -> anyhow::Error {
    let mut files = Vec::new();
    for (_, directory) in directories {
        for job in fs::read_dir(directory).into_iter().flatten().flatten() {
            let logs = fs::read_dir(job.path()).into_iter().flatten().flatten().map(|entry| entry.path());
            files.extend(logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")));
        }
    }
    files.sort();
    anyhow::Error::new(Command::new("tail").arg("-F").arg("--").args(files).exec()).context("run tail")
}

/// One archive with a directory per instance.
fn collect(
    session: &Session,
    deployment: &str,
    directories: &[(&Identity, PathBuf)],
    target: Option<&Path>,
) -> Result<()> {
    let suffix = match directories {
        [(one, _)] => format!(".{}.{}", one.group, one.id),
        _ => String::new(),
    };
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S-%9f").to_string();
    let target =
        absolute(target.unwrap_or(Path::new(".")))?.join(format!("{deployment}{suffix}-{stamp}.tgz"));
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&target);
    for (identity, directory) in directories {
        tar.arg("-C").arg(directory).arg(format!("--transform=s,^\\.,{}.{},", identity.group, identity.id));
        tar.arg(".");
    }
    // One transform for all would mix instances up, so several are collected one archive after the other.
    if directories.len() > 1 {
        return directories
            .iter()
            .try_for_each(|one| collect(session, deployment, std::slice::from_ref(one), target.parent()));
    }
    let output = tar.output().context("run tar")?;
    // 1: a file grew while it was read, which logs do.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("tar: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    session.console.line(&format!("Downloading logs to '{}'...", target.display()))
}
