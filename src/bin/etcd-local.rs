//! `etcd-local`: deploys BOSH releases on this machine.

use std::process::ExitCode;

use etcd_release::local::cli;
use etcd_release::report;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    report::exit(cli::run(&args))
}
