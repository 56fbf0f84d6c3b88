//! Subcommands that etcd-local starts itself: entering an instance, its supervisor, its containers, and
//! what stands behind the `bpm` and `monit` shims.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Parser, Subcommand};

use crate::local::bpm::container::{self, CONTAINER};
use crate::local::bpm::{self, BPM, Logs, Unit};
use crate::local::layout::InstanceDir;
use crate::local::model::BpmRunner;
use crate::local::monit::{MONIT, Request, SUPERVISE, Which, client};
use crate::local::sandbox;
use crate::report::{self, Exit};

/// What the names of these subcommands begin with.
pub const PREFIX: &str = "internal-";

/// Their command line.
#[derive(Debug, Parser)]
#[command(name = "etcd-local", version)]
pub enum Internal {
    /// Enter an instance and become a program
    #[command(name = sandbox::ENTER)]
    Enter(Enter),
    /// Watch the processes of an instance
    #[command(name = SUPERVISE)]
    Supervise(Supervise),
    /// Become the init of a container
    #[command(name = CONTAINER)]
    Container,
    /// Play bpm
    #[command(name = BPM)]
    Bpm(Bpm),
    /// Play monit
    #[command(name = MONIT)]
    Monit(Monit),
}

/// Carries one of them out.
pub fn run(typed: &Internal) -> Result<Exit> {
    match typed {
        Internal::Enter(typed) => enter(typed),
        Internal::Supervise(typed) => supervise(typed),
        Internal::Container => Ok(Exit::Code(container::main())),
        Internal::Bpm(typed) => Ok(play_bpm(typed)),
        Internal::Monit(typed) => play_monit(typed),
    }
}

/// Enters an instance and becomes a program.
#[derive(Debug, Args)]
pub struct Enter {
    /// Directory of the instance
    #[arg(long)]
    pub instance: PathBuf,
    /// Directory for a file named after the pid
    #[arg(long)]
    pub note: Option<PathBuf>,
    /// Die with this parent for as long as the program does not run
    #[arg(long)]
    pub starter: Option<i32>,
    /// Program and arguments
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Watches the processes of an instance.
#[derive(Debug, Args)]
pub struct Supervise {
    /// Directory of the instance
    #[arg(long)]
    pub instance: PathBuf,
    /// Milliseconds between looks
    #[arg(long)]
    pub cycle_ms: u64,
}

/// bpm, as far as etcd-local plays it.
#[derive(Debug, Args)]
#[command(after_help = "Example: bpm logs etcd -f")]
pub struct Bpm {
    /// Who runs what is started
    #[arg(long, value_enum)]
    runner: Option<BpmRunner>,
    #[command(subcommand)]
    verb: BpmVerb,
}

#[derive(Debug, Subcommand)]
enum BpmVerb {
    /// Start a process of a job
    Start(BpmUnit),
    /// Stop a process of a job
    Stop(BpmUnit),
    /// Print the pid of a process
    Pid(BpmUnit),
    /// List all processes
    List,
    /// Show the last lines of a process' logs
    Logs {
        #[command(flatten)]
        unit: BpmUnit,
        /// Both stdout and stderr
        #[arg(short, long)]
        all: bool,
        /// stderr instead of stdout
        #[arg(short, long)]
        err: bool,
        /// Follow
        #[arg(short, long)]
        follow: bool,
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 25)]
        lines: u32,
    },
}

#[derive(Debug, Args)]
struct BpmUnit {
    /// Name of the job
    job: Option<String>,
    /// Name of the process, if not that of the job
    #[arg(short, long)]
    process: Option<String>,
}

impl BpmUnit {
    fn unit(&self) -> Result<Unit> {
        let job = self.job.clone().ok_or_else(|| anyhow!("must specify a job"))?;
        Ok(Unit { process: self.process.clone().unwrap_or_else(|| job.clone()), job })
    }
}

/// monit, as far as etcd-local plays it.
#[derive(Debug, Args)]
#[command(after_help = "Example: monit restart etcd")]
pub struct Monit {
    #[command(subcommand)]
    verb: MonitVerb,
}

#[derive(Debug, Subcommand)]
enum MonitVerb {
    /// Show all services
    Summary,
    /// Show all services
    Status,
    /// Read the monit files again
    Reload,
    /// Start a service, or `all`
    Start(Target),
    /// Stop a service, or `all`
    Stop(Target),
    /// Restart a service, or `all`
    Restart(Target),
    /// Watch a service, or `all`
    Monitor(Target),
    /// Do not watch a service, or `all`
    Unmonitor(Target),
}

#[derive(Debug, Args)]
struct Target {
    /// Name of the service, or `all`
    name: String,
}

impl Target {
    fn which(&self) -> Which {
        if self.name == "all" { Which::All } else { Which::Service(self.name.clone()) }
    }
}

/// Enters; returns only to tell why that failed.
fn enter(typed: &Enter) -> Result<Exit> {
    if let Some(starter) = typed.starter {
        sandbox::live_with(starter)?;
    }
    if let Some(notes) = &typed.note {
        sandbox::leave_note(notes)?;
    }
    let (program, args) = typed.command.split_first().ok_or_else(|| anyhow!("there is no program to run"))?;
    Err(sandbox::exec(&InstanceDir::at(&typed.instance), program, args))
}

/// Watches until asked to end.
fn supervise(typed: &Supervise) -> Result<Exit> {
    let instance = InstanceDir::at(&typed.instance);
    crate::local::monit::supervisor::main(&instance, Duration::from_millis(typed.cycle_ms))?;
    Ok(Exit::Done)
}

/// Plays bpm, whose errors begin and end as its own do.
fn play_bpm(typed: &Bpm) -> Exit {
    match answer_as_bpm(typed) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("Error: {}", report::chain(&error));
            Exit::Failed
        }
    }
}

fn answer_as_bpm(typed: &Bpm) -> Result<()> {
    match &typed.verb {
        BpmVerb::Start(unit) => {
            let warnings = bpm::start(&unit.unit()?, typed.runner.unwrap_or_default())?;
            bpm::tell(&warnings)
        }
        BpmVerb::Stop(unit) => bpm::stop(&unit.unit()?),
        BpmVerb::Pid(unit) => bpm::answer(&bpm::pid(&unit.unit()?)?.to_string()),
        BpmVerb::List => {
            let (table, faults) = bpm::list()?;
            for fault in faults {
                eprintln!("{fault}");
            }
            bpm::answer(&table)
        }
        BpmVerb::Logs { unit, all, err, follow, lines } => {
            let which = match (all, err) {
                (true, _) => Logs::Both,
                (false, true) => Logs::Stderr,
                (false, false) => Logs::Stdout,
            };
            Err(bpm::logs(&unit.unit()?, which, *follow, *lines))
        }
    }
}

/// Plays monit.
fn play_monit(typed: &Monit) -> Result<Exit> {
    let request = match &typed.verb {
        MonitVerb::Summary | MonitVerb::Status => Request::Summary,
        MonitVerb::Reload => Request::Reload,
        MonitVerb::Start(target) => Request::Start(target.which()),
        MonitVerb::Stop(target) => Request::Stop(target.which()),
        MonitVerb::Restart(target) => Request::Restart(target.which()),
        MonitVerb::Monitor(target) => Request::Monitor(target.which()),
        MonitVerb::Unmonitor(target) => Request::Unmonitor(target.which()),
    };
    let answer = client::ask_from_inside(&request)?;
    if request == Request::Summary {
        for service in &answer.services {
            let name = format!("Process '{}'", service.name);
            report::answer(&format!("{name:<35} {}", service.status.monit_word()))?;
        }
    }
    Ok(Exit::Done)
}
