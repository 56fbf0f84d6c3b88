//! The door bpm opens: starts, joins or restarts this member, then stays as etcd's parent.

use std::process::ExitCode;

use clap::Parser;
use etcd_release::job::paths::Paths;
use etcd_release::lifecycle::{block_on, launch};
use etcd_release::report::{self, EXIT_CODES_HELP};

/// Decides from disk, records and cluster whether to create the cluster, to start on the data or to wait,
/// and then runs etcd. Run by bpm as user vcap; reads /var/vcap/jobs/etcd/config.
#[derive(Parser)]
#[command(name = "etcd-launcher", version, after_help = format!("Example: etcd-launcher (from bpm.yml)\nExample: etcd-status tells what it decided and why\n\nEnds with etcd's own exit code (128+n for a signal).\n{EXIT_CODES_HELP}"))]
struct Args {}

fn main() -> ExitCode {
    Args::parse();
    report::exit(block_on(launch::run::run(&Paths::default())))
}
