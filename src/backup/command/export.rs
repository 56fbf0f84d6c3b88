//! `etcd-backup export`.

use anyhow::Result;

use crate::backup::cli::unwritten;
use crate::report::Exit;

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {}

/// Runs it.
pub(in crate::backup) fn run(_: Args) -> Result<Exit> {
    unwritten("export")
}
