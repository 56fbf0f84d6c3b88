//! `etcd-backup`: takes backups, lists, checks and restores them; runs the job of that name.

use std::process::ExitCode;

use etcd_release::backup::{cli, memory};
use etcd_release::report;

fn main() -> ExitCode {
    memory::give_back_at_once();
    let args: Vec<_> = std::env::args_os().collect();
    report::exit(cli::run(&args))
}
