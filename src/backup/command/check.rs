//! `etcd-backup check`: the job's pre-start.

use std::path::PathBuf;

use anyhow::Result;

use super::common::JOB_CONFIG;
use super::run::job;
use crate::report::{self, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// The job's properties
    #[arg(long, value_name = "FILE", default_value = JOB_CONFIG)]
    job_config: PathBuf,
}

/// Runs it. Nothing is asked of the store: one that is away for a moment must not keep a deploy from ending.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let job = job(&args.job_config)?;
    report::answer(&format!("backups go to {}", job.store.url()))?;
    Ok(Exit::Done)
}
