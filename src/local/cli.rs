//! The command line of `etcd-local`: what may be typed, and what it means.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use super::change::DiskFate;
use super::command::{
    Scripts, Session, absolute_state_dir, delete, deploy, errand, ignore, instances, internal, logs, power,
    ssh,
};
use super::console::Console;
use super::layout::StateDir;
use super::manifest::Amount;
use super::model::{BpmRunner, NetworkMode};
use super::slug::Slug;
use super::update::Pace;
use crate::report::Exit;

const EXAMPLES: &str = "\
Examples:
  etcd-local deploy deployment/etcd.yml -o deployment/operations/bootstrap.yml -n
  etcd-local instances --ps
  etcd-local ssh etcd/0 -c 'etcdctl member list'
  etcd-local -n recreate etcd/1
  etcd-local -n delete-deployment

Environment:
  ETCD_LOCAL_PACKAGES  where built packages are (as --packages)

Exit codes: 0 done, 1 failed, 2 usage, 3 refused (a person must decide), 4 try again";

/// Deploys BOSH releases on this machine: a director for trying, developing and testing.
#[derive(Debug, Parser)]
#[command(name = "etcd-local", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Deployment name; not needed while there is only one
    #[arg(short, long, global = true, value_name = "NAME")]
    deployment: Option<String>,
    /// Do not ask
    #[arg(short, long, global = true)]
    non_interactive: bool,
    /// Print one JSON document, as `bosh --json` does
    #[arg(long, global = true)]
    json: bool,
    /// Where everything is kept
    #[arg(long, global = true, value_name = "DIR", default_value = ".etcd-local")]
    state_dir: PathBuf,
    /// How often processes are looked at, in seconds; kept for later commands [default: monit's 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    monit_cycle: Option<Duration>,
    /// How instances are connected; settled by the first deploy [default: loopback]
    #[arg(long, global = true, value_enum, value_name = "MODE")]
    network: Option<NetworkMode>,
    /// Who runs processes under bpm, from their next start on; kept for later commands [default: namespaces]
    #[arg(long, global = true, value_enum, value_name = "RUNNER")]
    bpm: Option<BpmRunner>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deploy a manifest, or go on after a failure
    #[command(
        after_help = "Example: etcd-local -n deploy deployment/etcd.yml -o deployment/operations/single-node.yml"
    )]
    Deploy(DeployArgs),
    /// Show instances
    #[command(after_help = "Example: etcd-local instances --ps")]
    Instances {
        /// Also their processes
        #[arg(long)]
        ps: bool,
        /// Also what the director knows of them
        #[arg(short = 'i', long)]
        details: bool,
    },
    /// Start stopped instances
    #[command(after_help = "Example: etcd-local -n start etcd/0")]
    Start(PowerArgs),
    /// Stop instances; they stay stopped until `start`
    #[command(after_help = "Example: etcd-local -n stop etcd/0 --hard")]
    Stop {
        #[command(flatten)]
        power: PowerArgs,
        /// Also delete the machine; the disk stays
        #[arg(long)]
        hard: bool,
    },
    /// Stop and start instances
    #[command(after_help = "Example: etcd-local -n restart")]
    Restart(PowerArgs),
    /// Make machines anew; disks, ids and addresses stay
    #[command(after_help = "Example: etcd-local -n recreate etcd/1")]
    Recreate {
        #[command(flatten)]
        power: PowerArgs,
        /// Put disks aside, as if they were lost; they are moved to orphaned-disks
        #[arg(long)]
        lose_disk: bool,
    },
    /// Leave an instance alone: deploys neither update nor delete it
    #[command(after_help = "Example: etcd-local ignore etcd/1")]
    Ignore {
        /// GROUP/ID or GROUP/INDEX
        instance: String,
    },
    /// End what `ignore` began
    #[command(after_help = "Example: etcd-local unignore etcd/1")]
    Unignore {
        /// GROUP/ID or GROUP/INDEX
        instance: String,
    },
    /// Collect logs into an archive, or follow them
    #[command(after_help = "Example: etcd-local logs etcd/0 -f")]
    Logs {
        /// GROUP, GROUP/ID or GROUP/INDEX
        instance: Option<String>,
        /// Follow instead of collecting
        #[arg(short, long)]
        follow: bool,
        /// Where the archive goes [default: working directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Run a login shell or a command as root in an instance; its exit code is that of the command
    #[command(after_help = "Example: etcd-local ssh etcd/0 -c 'etcdctl endpoint health'")]
    Ssh {
        /// GROUP/ID or GROUP/INDEX
        instance: String,
        /// Command for `bash -lc`
        #[arg(short, long)]
        command: Option<String>,
    },
    /// Run an errand
    #[command(after_help = "Example: etcd-local run-errand smoke-tests")]
    RunErrand {
        /// Job with bin/run, or instance group
        name: String,
        /// GROUP, GROUP/ID or GROUP/INDEX
        #[arg(long, value_name = "INSTANCE")]
        instance: Option<String>,
        /// Keep the machine of an errand's own instance group
        #[arg(long)]
        keep_alive: bool,
    },
    /// Stop and delete everything but disks, which are moved to orphaned-disks, and generated variables
    #[command(after_help = "Example: etcd-local -n delete-deployment")]
    DeleteDeployment {
        /// Leave pre-stop and drain out
        #[arg(long)]
        skip_drain: bool,
        /// Go on when scripts fail; nothing to delete is fine
        #[arg(long)]
        force: bool,
    },
    /// Print the directory that an instance sees as /var/vcap
    #[command(after_help = "Example: ls $(etcd-local instance-dir etcd/0)/sys/log/etcd")]
    InstanceDir {
        /// GROUP/ID or GROUP/INDEX
        instance: String,
    },
}

#[derive(Debug, Args)]
struct DeployArgs {
    /// Manifest inside the directory of its release
    manifest: PathBuf,
    /// Ops file; may be repeated
    #[arg(short, long = "ops-file", value_name = "FILE")]
    ops_file: Vec<PathBuf>,
    /// Variable, NAME=YAML; may be repeated
    #[arg(short, long = "var", value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// File with variables; may be repeated
    #[arg(short = 'l', long = "vars-file", value_name = "FILE")]
    vars_file: Vec<PathBuf>,
    /// Where generated variables are kept [default: the state directory]
    #[arg(long, value_name = "FILE")]
    vars_store: Option<PathBuf>,
    /// Make all machines anew
    #[arg(long)]
    recreate: bool,
    /// Copy persistent disks to new ones; the old ones are moved to orphaned-disks
    #[arg(long)]
    recreate_persistent_disks: bool,
    /// Leave pre-stop and drain out
    #[arg(long)]
    skip_drain: bool,
    #[command(flatten)]
    pace: PaceArgs,
    /// Where built packages are, a directory each [default: .build/packages of the release]
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct PowerArgs {
    /// GROUP, GROUP/ID or GROUP/INDEX [default: all]
    instance: Option<String>,
    /// Leave pre-stop and drain out
    #[arg(long)]
    skip_drain: bool,
    /// Work on this one instance only, whatever the others need
    #[arg(long)]
    no_converge: bool,
    #[command(flatten)]
    pace: PaceArgs,
}

#[derive(Debug, Args)]
struct PaceArgs {
    /// How many canaries, N or N%, over what the manifest says
    #[arg(long, value_name = "AMOUNT")]
    canaries: Option<Amount>,
    /// How many instances at a time, N or N%, over what the manifest says
    #[arg(long, value_name = "AMOUNT")]
    max_in_flight: Option<Amount>,
}

impl PaceArgs {
    fn pace(&self) -> Pace {
        Pace { canaries: self.canaries, max_in_flight: self.max_in_flight }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("'{text}' is not a number of seconds"))?;
    if !(0.1..=3600.0).contains(&number) {
        return Err("a cycle takes between 0.1 and 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(number))
}

/// Carries out what was typed.
///
/// Subcommands that etcd-local starts itself have a command line of their own, without the options above.
pub fn run(args: &[OsString]) -> Result<Exit> {
    if args.get(1).and_then(|arg| arg.to_str()).is_some_and(|arg| arg.starts_with(internal::PREFIX)) {
        return internal::run(&internal::Internal::parse_from(args));
    }
    let cli = Cli::parse_from(args);
    let session = Session {
        state: StateDir::at(absolute_state_dir(&cli.state_dir)?),
        deployment: cli.deployment,
        console: Console::new(cli.json, !cli.non_interactive),
        monit_cycle: cli.monit_cycle,
        network: cli.network,
        bpm: cli.bpm,
    };
    let outcome = carry_out(&session, cli.command);
    session.console.finish(&outcome)?;
    match outcome {
        // Told in the document already.
        Err(_) if cli.json => Ok(Exit::Failed),
        outcome => outcome.map(|()| Exit::Done),
    }
}

fn carry_out(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Deploy(typed) => deploy::run(
            session,
            &deploy::Deploy {
                manifest: typed.manifest,
                ops_files: typed.ops_file,
                vars: typed.var,
                vars_files: typed.vars_file,
                vars_store: typed.vars_store,
                recreate: typed.recreate,
                recreate_persistent_disks: typed.recreate_persistent_disks,
                skip_drain: typed.skip_drain,
                pace: typed.pace.pace(),
                packages: typed.packages,
            },
        ),
        Command::Instances { ps, details } => instances::run(session, ps, details),
        Command::Start(power) => power.run(session, power::Verb::Start, DiskFate::Keep),
        Command::Stop { power, hard } => {
            power.run(session, if hard { power::Verb::StopHard } else { power::Verb::Stop }, DiskFate::Keep)
        }
        Command::Restart(power) => power.run(session, power::Verb::Restart, DiskFate::Keep),
        Command::Recreate { power, lose_disk } => {
            let disk = if lose_disk { DiskFate::Lose } else { DiskFate::Keep };
            power.run(session, power::Verb::Recreate, disk)
        }
        Command::Ignore { instance } => ignore::run(session, &Slug::parse(&instance)?, true),
        Command::Unignore { instance } => ignore::run(session, &Slug::parse(&instance)?, false),
        Command::Logs { instance, follow, dir } => {
            logs::run(session, &logs::Logs { slug: slug(instance)?, follow, directory: dir })
        }
        Command::Ssh { instance, command } => ssh::run(session, &Slug::parse(&instance)?, command.as_deref()),
        Command::RunErrand { name, instance, keep_alive } => {
            errand::run(session, &errand::Errand { name, slug: slug(instance)?, keep_alive })
        }
        Command::DeleteDeployment { skip_drain, force } => {
            delete::run(session, Scripts { skip_drain, force })
        }
        Command::InstanceDir { instance } => instances::directory(session, &Slug::parse(&instance)?),
    }
}

impl PowerArgs {
    fn run(self, session: &Session, verb: power::Verb, disk: DiskFate) -> Result<()> {
        let typed = power::Power {
            verb,
            slug: slug(self.instance)?,
            skip_drain: self.skip_drain,
            no_converge: self.no_converge,
            disk,
            pace: self.pace.pace(),
        };
        power::run(session, &typed)
    }
}

fn slug(text: Option<String>) -> Result<Option<Slug>> {
    text.map(|text| Slug::parse(&text)).transpose().context("choose instances")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_monit_cycle_is_a_number_of_seconds_within_reason() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("10"), Ok(Duration::from_secs(10)));
        assert!(seconds("0").is_err() && seconds("x").is_err() && seconds("1e9").is_err());
    }
}
