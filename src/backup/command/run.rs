//! `etcd-backup run`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::save::Members;
use crate::backup::daemon::{self, Job};
use crate::lifecycle::block_on;
use crate::report::{Complaint, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// The job's properties
    #[arg(long, value_name = "FILE", default_value = super::common::JOB_CONFIG)]
    job_config: PathBuf,
    #[command(flatten)]
    members: Members,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let job = job(&args.job_config)?;
    let cluster = args.members.cluster()?;
    block_on(async {
        daemon::run(&job, &cluster).await?;
        Ok(Exit::Done)
    })
}

/// Reads the job's properties; all that is wrong with them is told at once.
pub(super) fn job(file: &Path) -> Result<Job> {
    let wrong = |what: String| {
        Complaint::refused(
            what,
            "no backup is taken",
            "correct the properties of job etcd-backup and deploy again",
        )
    };
    let name = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|error| wrong(format!("{name} cannot be read: {error}")))?;
    Ok(Job::parse(&text).map_err(|faults| wrong(format!("{name}: {}", faults.join("; "))))?)
}
