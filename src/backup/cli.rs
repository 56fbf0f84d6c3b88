//! The command line of `etcd-backup`: what may be typed, and what it means.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Parser, Subcommand};

use super::command;
use crate::report::{EXIT_CODES_HELP, Exit};

const EXAMPLES: &str = "\
Examples:
  etcd-backup list
  etcd-backup save --store s3://bucket/etcd
  etcd-backup verify --deep
  etcd-backup restore --to 2026-11-26T11:38:00Z --from-link --initial-cluster-token \"$TOKEN\" --data-dir restored
  etcd-backup copy --all --to file:///mnt/elsewhere
  etcd-backup export keys.jsonl
  etcd-backup export keys.jsonl --to latest --store s3://bucket/etcd
  etcd-backup import keys.jsonl --etcd http://10.0.0.5:2379";

/// Takes backups of an etcd cluster, lists, checks and restores them.
#[derive(Debug, Parser)]
#[command(name = "etcd-backup", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES_HELP}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The job: scheduled backups, deltas, verification and defragmentation, on one instance at a time
    Run(command::run::Args),
    /// Say what is wrong with the job's properties
    Check(command::check::Args),
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
    /// Restore the whole cluster: to be run on all instances at once
    RestoreCluster(command::restore_cluster::Args),
    /// What BOSH Backup and Restore calls
    Bbr(command::bbr::Args),
    /// Remove the sets that the retention rules do not keep
    Prune(command::prune::Args),
    /// Copy sets into another store
    Copy(command::copy::Args),
    /// Write the keys of a running cluster into a file that any version of etcd takes
    Export(command::export::Args),
    /// Put such a file into a running cluster
    Import(command::import::Args),
}

/// Runs a command line.
pub fn run(args: &[OsString]) -> Result<Exit> {
    match Cli::parse_from(args).command {
        Command::Run(args) => command::run::run(&args),
        Command::Check(args) => command::check::run(&args),
        Command::Save(args) => command::save::run(&args),
        Command::List(args) => command::list::run(&args),
        Command::Show(args) => command::show::run(&args),
        Command::Verify(args) => command::verify::run(&args),
        Command::Restore(args) => command::restore::run(&args),
        Command::RestoreCluster(args) => command::restore_cluster::run(&args),
        Command::Bbr(args) => command::bbr::run(&args),
        Command::Prune(args) => command::prune::run(&args),
        Command::Copy(args) => command::copy::run(&args),
        Command::Export(args) => command::export::run(&args),
        Command::Import(args) => command::import::run(&args),
    }
}
