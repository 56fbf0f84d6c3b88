//! `etcd-backup run`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::save::Members;
use crate::backup::daemon::{self, Deep, Job, Pages};
use crate::job::paths::Paths;
use crate::lifecycle::block_on;
use crate::report::{Complaint, Exit};

/// The ephemeral disk, as bpm shows it to the job.
const DATA: &str = "/var/vcap/data/etcd-backup";

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// The job's properties
    #[arg(long, value_name = "FILE", default_value = super::common::JOB_CONFIG)]
    job_config: PathBuf,
    /// Where a deep verification has room for a database
    #[arg(long, value_name = "DIR", default_value = DATA)]
    temporary_dir: PathBuf,
    #[command(flatten)]
    members: Members,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let job = job(&args.job_config)?;
    let cluster = args.members.cluster()?;
    // A cluster that is elsewhere lends no certificates for a listener.
    let pages = args.members.of_job().then(|| Pages::of_job(&Paths::default(), job.port)).transpose()?;
    let deep = Deep { job_config: args.job_config.clone(), temporary_dir: args.temporary_dir.clone() };
    block_on(async {
        daemon::run(&job, &cluster, &deep, pages).await?;
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
