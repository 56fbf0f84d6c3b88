//! The door for BOSH's scripts: one subcommand for each, called by the two-line shims of job `etcd`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use etcd_release::job::paths::Paths;
use etcd_release::lifecycle::{
    block_on, container_start, healthy, post_deploy, post_start, post_stop, pre_start, pre_stop,
};
use etcd_release::report::{self, EXIT_CODES_HELP, Exit};

/// Runs one of BOSH's lifecycle scripts of job etcd. Root; reads /var/vcap/jobs/etcd/config.
#[derive(Parser)]
#[command(name = "etcd-hook", version, after_help = format!("Example: etcd-hook pre-start\nExample: etcd-hook healthy && echo serving\n\n{EXIT_CODES_HELP}"))]
struct Args {
    #[command(subcommand)]
    script: Script,
}

#[derive(Subcommand)]
enum Script {
    /// Checks every property and certificate; all faults at once.
    PreStart,
    /// bpm's own hook before each start of the container: judges the persistent disk.
    BpmPreStart,
    /// Waits for this instance's own progress.
    PostStart,
    /// Demands that this instance serves linearizable reads as a voter; clears away entries without an instance.
    PostDeploy,
    /// Keeps the intent for drain; holds or refuses a stop that would cost quorum.
    PreStop,
    /// Tells how etcd ended; lets the next member stop.
    PostStop,
    /// dns/healthy: exit 0 exactly when this member serves linearizable reads.
    Healthy,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let paths = Paths::default();
    report::exit(match args.script {
        Script::PreStart => block_on(pre_start::run(&paths)).map(|()| Exit::Done),
        Script::BpmPreStart => container_start::run(&paths).map(|()| Exit::Done),
        Script::PostStart => block_on(post_start::run(&paths)),
        Script::PostDeploy => block_on(post_deploy::run(&paths)),
        Script::PreStop => block_on(pre_stop::run(&paths)),
        Script::PostStop => block_on(post_stop::run(&paths)).map(|()| Exit::Done),
        Script::Healthy => block_on(healthy::run(&paths)),
    })
}
