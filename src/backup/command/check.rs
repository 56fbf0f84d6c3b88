//! `etcd-backup check`: the job's pre-start.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::common::JOB_CONFIG;
use super::run::job;
use crate::backup::config::JobStore;
use crate::lifecycle::vcap;
use crate::report::{self, Complaint, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// The job's properties
    #[arg(long, value_name = "FILE", default_value = JOB_CONFIG)]
    job_config: PathBuf,
    /// The job is on this VM: a store that is a directory must be one that bpm can show it; it is made if it is not there
    #[arg(long)]
    on_vm: bool,
}

/// Runs it. Nothing is asked of the store: one that is away for a moment must not keep a deploy from ending.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    if let Some(directory) = directory(&args.job_config).filter(|_| args.on_vm) {
        if !visible(&directory) {
            return Err(out_of_sight(&directory).into());
        }
        make(&directory)?;
    }
    let job = job(&args.job_config)?;
    report::answer(&format!("backups go to {}", job.store.url()))?;
    Ok(Exit::Done)
}

/// The store, if it is one. What else is wrong with the properties is told by who reads them all.
fn directory(job_config: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(job_config).ok()?;
    JobStore::of_job(&text).ok()?.store.directory().map(Path::to_path_buf)
}

/// Whether bpm shows it to the job, which it does by the job's bpm.yml.
fn visible(directory: &Path) -> bool {
    let mut parts = directory.components();
    directory.starts_with("/var/vcap")
        && directory != Path::new("/var/vcap")
        && parts.all(|part| !matches!(part, Component::ParentDir))
}

fn out_of_sight(directory: &Path) -> Complaint {
    Complaint::refused(
        format!("store.url is the directory {}, which is not below /var/vcap", directory.display()),
        "bpm shows a job nothing else of the VM, so no backup could be written there",
        "mount it below /var/vcap, for example at /var/vcap/backups, and deploy again",
    )
}

/// One that is there stays as it is, whoever it belongs to: it may be mounted from elsewhere.
fn make(directory: &Path) -> Result<()> {
    if directory.exists() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("make {}, the store of backups", directory.display()))?;
    vcap::own(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_seen_below_var_vcap_only() {
        for (directory, seen) in [
            ("/var/vcap/backups", true),
            ("/var/vcap/store/etcd-backup/a", true),
            ("/var/vcap", false),
            ("/var/vcap/../backups", false),
            ("/var/vcapo/backups", false),
            ("/mnt/backups", false),
        ] {
            assert_eq!(visible(Path::new(directory)), seen, "{directory}");
        }
    }
}
