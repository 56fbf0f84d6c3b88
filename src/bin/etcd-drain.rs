//! The door the agent opens before it stops the job.

use std::process::ExitCode;

use clap::Parser;
use etcd_release::job::paths::Paths;
use etcd_release::lifecycle::{block_on, drain};
use etcd_release::report::{self, EXIT_CODES_HELP, Exit};

/// Hands leadership over, or leaves the cluster when the instance goes for good. Called by the BOSH agent.
///
/// Prints exactly one integer on success and nothing on failure; the story is in
/// /var/vcap/sys/log/etcd/drain.log.
#[derive(Parser)]
#[command(name = "etcd-drain", version, after_help = format!("Environment: BOSH_JOB_STATE, BOSH_JOB_NEXT_STATE ({{\"persistent_disk\":MiB}})\nExample: etcd-drain job_shutdown hash_unchanged\nExample: etcd-drain job_check_status hash_unchanged\n\n{EXIT_CODES_HELP}"))]
struct Args {
    /// What BOSH calls it with: `job_shutdown`, `job_changed` or `job_check_status`, whether the rendered
    /// templates changed, and the names of changed packages.
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::exit(block_on(async {
        let integer = drain::act::run(&Paths::default(), &args.arguments).await?;
        report::answer(&integer)?;
        Ok(Exit::Done)
    }))
}
