//! `etcd-datadir`: looks into etcd's data directory, judges it and makes one, without any etcd.

use std::process::ExitCode;

use etcd_release::datadir_tool::cli;
use etcd_release::report;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    report::exit(cli::run(&args))
}
