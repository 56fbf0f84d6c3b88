//! The command line of `etcd-backup`: what may be typed, and what it means.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Parser, Subcommand};

use super::command;
use crate::report::{Complaint, Exit};

/// Takes backups of an etcd cluster, lists, checks and restores them.
#[derive(Debug, Parser)]
#[command(name = "etcd-backup", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The job: scheduled backups, deltas, verification and defragmentation, on one instance at a time
    Run(command::run::Args),
    /// Take a full snapshot now
    Save(command::save::Args),
    /// List the sets in the store
    List(command::list::Args),
    /// Show one set with all of its objects
    Show(command::show::Args),
    /// Read backups back and prove that they are whole
    Verify(command::verify::Args),
    /// Make a member's data from a backup
    Restore(command::restore::Args),
    /// Remove the sets that the retention rules do not keep
    Prune(command::prune::Args),
    /// Copy sets into another store
    Copy(command::copy::Args),
    /// Write all keys of a backup or a cluster in a form that any version of etcd can import
    Export(command::export::Args),
    /// Read what `export` wrote into a cluster
    Import(command::import::Args),
    /// What BBR's scripts call
    #[command(hide = true)]
    Bbr(command::bbr::Args),
    /// What errand restore calls
    #[command(hide = true)]
    Errand(command::errand::Args),
}

/// Runs a command line.
pub fn run(args: &[OsString]) -> Result<Exit> {
    match Cli::parse_from(args).command {
        Command::Run(args) => command::run::run(args),
        Command::Save(args) => command::save::run(args),
        Command::List(args) => command::list::run(args),
        Command::Show(args) => command::show::run(args),
        Command::Verify(args) => command::verify::run(args),
        Command::Restore(args) => command::restore::run(args),
        Command::Prune(args) => command::prune::run(args),
        Command::Copy(args) => command::copy::run(args),
        Command::Export(args) => command::export::run(args),
        Command::Import(args) => command::import::run(args),
        Command::Bbr(args) => command::bbr::run(args),
        Command::Errand(args) => command::errand::run(args),
    }
}

/// What a command says that is not written yet.
pub(super) fn unwritten(command: &str) -> Result<Exit> {
    Err(Complaint::failed(
        format!("etcd-backup {command} is not written yet"),
        "nothing was done",
        "use etcdctl and etcd-datadir",
    )
    .into())
}
