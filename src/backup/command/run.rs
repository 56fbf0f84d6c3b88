//! `etcd-backup run`.

use std::path::PathBuf;

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
    let wrong = |what: String| {
        Complaint::refused(
            what,
            "no backup is taken",
            "correct the properties of job etcd-backup and deploy again",
        )
    };
    let file = args.job_config.display();
    let text = std::fs::read_to_string(&args.job_config)
        .map_err(|error| wrong(format!("{file} cannot be read: {error}")))?;
    let job = Job::parse(&text).map_err(|faults| wrong(format!("{file}: {}", faults.join("; "))))?;
    let cluster = args.members.cluster()?;
    block_on(async {
        daemon::run(&job, &cluster).await?;
        Ok(Exit::Done)
    })
}
