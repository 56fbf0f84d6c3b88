//! What the launcher adds to the start of a member that has data, while the two others serve.
//!
//! The same instance is started again and again, by the launcher and as bare etcd in turn, on the same data
//! directory and with the configuration the launcher wrote. Why not bare etcd on a copy of the data: two
//! processes would then answer as one member with different logs, which no cluster must see.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_release::etcd::client::EtcdClient;
use etcd_release::job::config::JobConfig;
use etcd_release::job::reach::{self, Reach};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;

use crate::figure::Figure;
use crate::place::{LAUNCHER, Place, Running, as_vcap};
use crate::samples::Samples;
use crate::support::fleet::{DEADLINE, Fleet};

/// How often each way is taken.
const ROUNDS: usize = 11;
/// How soon a refused connection is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const ETCD: &str = "/var/vcap/packages/etcd/bin/etcd";
const CONFIGURATION: &str = "/var/vcap/data/etcd/etcd.conf.yml";

/// When things happened, in milliseconds after just before the fork of what was started.
#[derive(Debug, Clone, Copy)]
struct Times {
    etcd_exec: f64,
    first_read: f64,
}

/// `launcher_exec_to_etcd_exec`, `launcher_first_read`, `bare_first_read` and their ratio.
pub fn measure(fleet: &Fleet) -> Result<Vec<Figure>> {
    let places = Place::all(fleet);
    let place = places.last().context("there is no instance")?;
    fleet.cli(&["stop", &place.slug, "--no-converge", "--skip-drain"]).succeeded();
    let logs = tempfile::tempdir().context("make a temporary directory")?;
    let log = logs.path().join("log");

    let rounds =
        place.inside(|| (0..ROUNDS).map(|round| one_round(place, &log, round)).collect::<Result<Vec<_>>>());
    let rounds = rounds.with_context(|| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("the ends of what they said:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    })?;
    fleet.cli(&["start", &place.slug, "--no-converge"]).succeeded();

    let reads: Vec<(f64, f64)> =
        rounds.iter().map(|(bare, launched)| (bare.first_read, launched.first_read)).collect();
    Ok(vec![
        Figure::median(
            "launcher_exec_to_etcd_exec",
            &Samples::of(rounds.iter().map(|(_, launched)| launched.etcd_exec)),
            "ms",
        )
        .goal(10.0),
        Figure::median("bare_first_read", &Samples::of(reads.iter().map(|(bare, _)| *bare)), "ms"),
        Figure::median(
            "launcher_first_read",
            &Samples::of(reads.iter().map(|(_, launched)| *launched)),
            "ms",
        ),
        Figure::median("launcher_first_read_ratio", &Samples::ratios(&reads), "ratio").goal(1.05),
    ])
}

/// Bare and launched, the order changing with each round.
fn one_round(place: &Place, log: &Path, round: usize) -> Result<(Times, Times)> {
    let bare = || {
        let mut command = as_vcap(ETCD)?;
        command.args(["--config-file", CONFIGURATION]);
        start(place, command, log)
    };
    let launched = || start(place, as_vcap(LAUNCHER)?, log);
    if round.is_multiple_of(2) {
        let bare = bare()?;
        Ok((bare, launched()?))
    } else {
        let launched = launched()?;
        Ok((bare()?, launched))
    }
}

/// Starts a member, waits until it serves, and stops it.
fn start(place: &Place, mut command: Command, log: &Path) -> Result<Times> {
    let job = JobConfig::load(&place.paths().job_json())?;
    let (target, reach) = (reach::own_etcd(&job), Reach::load(&place.paths())?);
    let watch = ExecWatch::on(Path::new(ETCD))?;
    let running = Running::start(&mut command, log)?;
    let etcd_exec = watch.wait()?.duration_since(running.since);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
    let first_read = runtime.block_on(async {
        loop {
            if let Ok(mut client) = EtcdClient::connect(&target, reach.grpc.clone(), DEADLINE).await
                && client.linearizable_read().await.is_ok()
            {
                return Ok(running.since.elapsed());
            }
            if running.since.elapsed() > DEADLINE {
                bail!("the member of {} served no linearizable read within {DEADLINE:?}", place.slug);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })?;
    running.stop()?;
    Ok(Times { etcd_exec: milliseconds(etcd_exec), first_read: milliseconds(first_read) })
}

/// Sees the kernel open a program to execute it: nothing else opens etcd's binary during a start.
struct ExecWatch(Inotify);

impl ExecWatch {
    fn on(program: &Path) -> Result<Self> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("make an inotify")?;
        inotify
            .add_watch(program, AddWatchFlags::IN_OPEN)
            .with_context(|| format!("watch {}", program.display()))?;
        Ok(Self(inotify))
    }

    /// When it was executed.
    fn wait(&self) -> Result<Instant> {
        let timeout = PollTimeout::try_from(DEADLINE).context("a deadline that poll takes")?;
        let happened = poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout)
            .context("wait for an exec")?;
        if happened == 0 {
            bail!("etcd was not executed within {DEADLINE:?}");
        }
        Ok(Instant::now())
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
