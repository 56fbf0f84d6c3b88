//! `etcd-backup bbr`: what BOSH Backup and Restore calls, as root on the host (docs/contract.md#bbr).
//!
//! It runs `restore` and then `post-restore-unlock` on one instance after the other, in no order that could be relied
//! on, and waits for each. So nobody waits for an instance that has not been called yet: the source makes the data in
//! `restore`, the others stop for it in `post-restore-unlock`, and whoever is called last waits until all serve.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args as ClapArgs, Subcommand};
use serde::Deserialize;

use crate::backup::chain::Point;
use crate::backup::recovery::{Errand, From, Typed};
use crate::lifecycle::block_on;
use crate::report::{self, Complaint, Exit};

/// Where the job has its properties.
const CONFIG: &str = "/var/vcap/jobs/bbr-etcd/config/job.json";
/// What the predecessor's `bbr-etcd` leaves in its artifact.
const SNAPSHOT: &str = "snapshotdb";
/// What the request says was asked for.
const ASKED: &str = "a BBR artifact";

/// Its flags.
#[derive(Debug, ClapArgs)]
pub(in crate::backup) struct Args {
    /// What is called
    #[command(subcommand)]
    script: Script,
    /// The job's properties
    #[arg(long, value_name = "FILE", default_value = CONFIG, global = true)]
    job_config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Script {
    /// Say what is wrong with the job's properties
    Check,
    /// Print what BBR wants to know of the job
    Metadata,
    /// Take a backup into `BBR_ARTIFACT_DIRECTORY`, on one instance
    Backup,
    /// Make the data of the new cluster from the artifact, on one instance
    Restore,
    /// Let the cluster change over to it
    PostRestoreUnlock,
}

#[derive(Deserialize)]
struct Config {
    bootstrap: bool,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "bbr.backup_one_restore_all")]
    backup_one_restore_all: bool,
    bump_revision: u64,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let file = &args.job_config;
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut json = serde_json::Deserializer::from_str(&text);
    let config: Config =
        serde_path_to_error::deserialize(&mut json).with_context(|| format!("read {}", file.display()))?;
    if !config.properties.backup_one_restore_all {
        return Err(Complaint::refused(
            "bbr.backup_one_restore_all: false is not true; for example: true",
            "BBR gives what one instance saved to all of them only if it says so in the manifest itself",
            "set it in the manifest as a plain `true`, as deployment/operations/bbr.yml does, and deploy again",
        )
        .into());
    }
    match args.script {
        Script::Check => {}
        Script::Metadata => report::answer("---")?,
        Script::Backup => backup(&config)?,
        Script::Restore => {
            let errand = Errand::new(restoring(&config, from(&artifact()?)?))?;
            block_on(async { errand.stage().await })?;
        }
        Script::PostRestoreUnlock => {
            // What is restored is in the request by now, if `restore` has left one.
            let errand = Errand::new(restoring(&config, From::Snapshot(PathBuf::from(SNAPSHOT))))?;
            block_on(async { errand.change_over().await })?;
        }
    }
    Ok(Exit::Done)
}

/// One instance saves, whichever member gives the snapshot; BBR keeps nothing of the others.
fn backup(config: &Config) -> Result<()> {
    let directory = artifact()?;
    if !config.bootstrap {
        return Ok(());
    }
    let status = std::process::Command::new("/proc/self/exe")
        .args(["save", "--store", &store(&directory)?])
        .status()
        .context("start etcd-backup save")?;
    if status.success() {
        return Ok(());
    }
    Err(Complaint::failed(
        format!("etcd-backup save ended with {status}"),
        "there is no backup in the artifact",
        "what it says above is what to repair; then run `bbr deployment backup` again",
    )
    .into())
}

fn restoring(config: &Config, from: From) -> Typed {
    Typed {
        from,
        asked: Some(ASKED.to_owned()),
        bump: Some(config.properties.bump_revision).filter(|bump| *bump > 0),
        expiry: Duration::from_hours(1),
        wait: Duration::from_mins(30),
        despite_silence: false,
        again: true,
    }
}

/// What lies in an artifact: a set of this program, or the predecessor's snapshot.
fn from(artifact: &Path) -> Result<From> {
    let snapshot = artifact.join(SNAPSHOT);
    if snapshot.is_file() {
        return Ok(From::Snapshot(snapshot));
    }
    let store = vec![OsString::from("--store"), store(artifact)?.into()];
    Ok(From::Backup { to: Point::Latest, set: None, store })
}

fn store(directory: &Path) -> Result<String> {
    let path = directory.to_str().context("the artifact's directory has a name that is no text")?;
    Ok(format!("file://{path}"))
}

#[expect(clippy::disallowed_methods, reason = "BBR tells it by a variable, and by nothing else")]
fn artifact() -> Result<PathBuf> {
    let told = std::env::var("BBR_ARTIFACT_DIRECTORY").ok().filter(|told| told.starts_with('/'));
    let told = told.ok_or_else(|| {
        Complaint::refused(
            "BBR_ARTIFACT_DIRECTORY is not set to a directory",
            "it says where the backup is, and BBR sets it",
            "run `bbr deployment backup` or `restore`, not this script",
        )
    })?;
    Ok(PathBuf::from(told.trim_end_matches('/')))
}
