//! Figures next to what people use today, each a line `name value unit` on stdout; how much they vary and
//! whether a goal was missed is told on stderr. docs/figures.md says what each figure is.
//!
//! A slow machine is no failure: whatever can be is a ratio or a difference of runs that alternate, and a
//! missed goal is only told. The exit code is 1 only if something could not be measured.

#![allow(missing_docs, unreachable_pub, reason = "a bench target has no public items")]

#[path = "bench/backup/mod.rs"]
mod backup;
#[path = "bench/datadir.rs"]
mod datadir;
#[path = "bench/figure.rs"]
mod figure;
#[path = "bench/hand_over.rs"]
mod hand_over;
#[path = "bench/inside.rs"]
mod inside;
#[path = "bench/join.rs"]
mod join;
#[path = "bench/launch.rs"]
mod launch;
#[path = "bench/leave.rs"]
mod leave;
#[path = "bench/member.rs"]
mod member;
#[path = "bench/memory.rs"]
mod memory;
#[path = "bench/place.rs"]
mod place;
#[path = "bench/rolling.rs"]
mod rolling;
#[path = "support/s3.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "specifications use more of it, and may panic")]
mod s3;
#[path = "bench/samples.rs"]
mod samples;
#[path = "bench/scaling.rs"]
mod scaling;
#[path = "bench/sizes.rs"]
mod sizes;
mod support;
#[path = "bench/wrapper.rs"]
mod wrapper;
#[path = "bench/writer.rs"]
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use etcd_release::report::{self, Exit};
use figure::Figure;
use support::fleet::{Fleet, all_ready, packages, voters};

/// Figures of the release next to what people use today.
#[derive(Parser)]
struct Args {
    /// Which figures [default: all]
    groups: Vec<Group>,
    /// Write the figures as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The packages to measure [default: those of this build, with its profile]
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
    /// Makes the data and the spans of group backup so many times as large
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    scale: u32,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Figures that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// What the job's `etcdctl` adds to etcdctl.
    Wrapper,
    /// What the launcher adds to the start of a member.
    Launch,
    /// What the launcher keeps in memory.
    Memory,
    /// What clients notice of a rolling restart.
    Rolling,
    /// How long a new instance takes to be listed, and to vote.
    Join,
    /// How long a member that goes for good takes to leave.
    Leave,
    /// How long the drain of a member that comes back takes.
    HandOver,
    /// What clients notice of another number of instances.
    Scaling,
    /// How quickly a data directory is judged and restored, and in how much memory.
    Datadir,
    /// How quickly backups are taken and restored, in how much memory, and what a cluster notices of them.
    Backup,
    /// How large the binaries are.
    Sizes,
}

fn main() -> ExitCode {
    report::exit(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Exit> {
    let groups = if args.groups.is_empty() { Group::value_variants() } else { &args.groups };
    let packages = args.packages.as_deref().unwrap_or_else(|| packages());
    let mut figures = Vec::new();
    let mut all_measured = true;
    let mut fleet = None;
    for group in groups {
        eprintln!("== {group:?}");
        let measured = match group {
            Group::Datadir => datadir::measure(packages),
            Group::Backup => backup::measure(packages, args.scale),
            Group::Sizes => sizes::measure(packages),
            Group::Wrapper => wrapper::measure(deployed(&mut fleet, packages)),
            Group::Launch => launch::measure(deployed(&mut fleet, packages)),
            Group::Memory => memory::measure(deployed(&mut fleet, packages)),
            Group::Rolling => rolling::measure(deployed(&mut fleet, packages)),
            Group::Join => join::measure(deployed(&mut fleet, packages)),
            Group::Leave => leave::measure(deployed(&mut fleet, packages)),
            Group::HandOver => hand_over::measure(deployed(&mut fleet, packages)),
            Group::Scaling => scaling::measure(packages),
        };
        match measured {
            Ok(measured) => figures.extend(tell(measured)?),
            Err(error) => {
                all_measured = false;
                eprintln!("error: the figures of {group:?} could not be measured: {error:#}");
            }
        }
    }
    if let Some(fleet) = fleet {
        fleet.delete();
    }
    if let Some(path) = &args.json {
        figure::write_json(path, &figures)?;
    }
    Ok(if all_measured { Exit::Done } else { Exit::Failed })
}

fn tell(figures: Vec<Figure>) -> Result<Vec<Figure>> {
    for figure in &figures {
        report::answer(&figure.line())?;
        eprintln!("   {}", figure.remark());
    }
    Ok(figures)
}

/// One cluster of three for all groups, deployed when the first of them needs it.
fn deployed<'a>(fleet: &'a mut Option<Fleet>, packages: &std::path::Path) -> &'a Fleet {
    let fleet = fleet.get_or_insert_with(|| {
        let fleet = Fleet::new(&["bootstrap.yml"]);
        let packages = packages.to_str().expect("the path of the packages is UTF-8");
        fleet.deploy_with(&["--packages", packages]).succeeded();
        fleet
    });
    fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
    fleet
}
