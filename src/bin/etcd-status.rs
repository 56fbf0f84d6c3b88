//! The door to one look at the whole cluster.

use std::process::ExitCode;

use clap::Parser;
use etcd_release::job::config::JobConfig;
use etcd_release::job::paths::Paths;
use etcd_release::job::reach::Reach;
use etcd_release::lifecycle::block_on;
use etcd_release::report::{self, EXIT_CODES_HELP, Exit};
use etcd_release::status;

/// Shows every instance of this cluster: member, role, health, and what its launcher decided and why.
///
/// Answers within two seconds, also with part of the cluster down. Run as root on any instance.
#[derive(Parser)]
#[command(name = "etcd-status", version, after_help = format!("Example: etcd-status\nExample: etcd-status --json | jq '.instances[].launcher'\n\nExits 0 when every instance serves as a voter, else 1.\n{EXIT_CODES_HELP}"))]
struct Args {
    /// Prints JSON (version 1; fields are added, never changed).
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    report::exit(block_on(async {
        let paths = Paths::default();
        let job = JobConfig::load(&paths.job_json())?;
        let status = status::gather(&job, &Reach::load(&paths)?, &paths.config()).await;
        if args.json {
            report::answer_json(&status)?;
        } else {
            report::answer(&status::table(&status, jiff::Timestamp::now().as_second()))?;
        }
        Ok(if status.is_healthy() { Exit::Done } else { Exit::Failed })
    }))
}
