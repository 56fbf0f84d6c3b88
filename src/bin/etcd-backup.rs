//! `etcd-backup`: takes backups, lists, checks and restores them; runs the job of that name.

use std::process::ExitCode;

use etcd_release::backup::cli;
use etcd_release::report;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    report::exit(cli::run(&args))
}
