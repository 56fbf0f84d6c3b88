//! The commands of `etcd-local`: a file per family, all in the same order: open, confirm, lock, act.

pub mod delete;
pub mod deploy;
pub mod errand;
pub mod ignore;
pub mod instances;
pub mod internal;
pub mod logs;
pub mod power;
pub mod ssh;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::bpm::runc::Runc;
use super::bpm::vcap::Vcap;
use super::console::Console;
use super::director::Director;
use super::layout::StateDir;
use super::manifest::Manifest;
use super::model::{BpmRunner, Identity, NetworkMode};
use super::preparation::{self, Prepared};
use super::slug::Slug;
use super::state::{self, Deployment, Lock};
use super::task::Task;
use crate::report::Complaint;

/// How often monit looks unless `--monit-cycle` says otherwise: monit's own ten seconds.
pub const MONIT_CYCLE: Duration = Duration::from_secs(10);

/// How lifecycle scripts are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scripts {
    /// Leave pre-stop and drain out.
    pub skip_drain: bool,
    /// Delete instances even if their scripts fail.
    pub force: bool,
}

/// What is the same for all commands.
#[derive(Debug, Clone)]
pub struct Session {
    /// Where everything lies.
    pub state: StateDir,
    /// `-d`.
    pub deployment: Option<String>,
    /// Where words go.
    pub console: Console,
    /// `--monit-cycle`.
    pub monit_cycle: Option<Duration>,
    /// `--network`.
    pub network: Option<NetworkMode>,
    /// `--bpm`.
    pub bpm: Option<BpmRunner>,
}

impl Session {
    /// The deployment that `-d` names, or the only one there is.
    fn open(&self) -> Result<Deployment> {
        let name = match (&self.deployment, state::deployments(&self.state)?.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, [only]) => only.clone(),
            (None, []) => {
                return Err(Complaint::failed(
                    format!("there is no deployment in {}", self.state.path().display()),
                    "this command works on one",
                    "`etcd-local deploy MANIFEST` makes one; --state-dir looks elsewhere",
                )
                .into());
            }
            (None, several) => {
                return Err(Complaint::failed(
                    format!("there are several deployments: {}", several.join(", ")),
                    "this command works on one",
                    "choose it with -d NAME",
                )
                .into());
            }
        };
        let deployment = Deployment::open(&self.state, &name)?.ok_or_else(|| {
            Complaint::failed(
                format!("Deployment '{name}' doesn't exist"),
                format!("there is no record of it in {}", self.state.path().display()),
                "`etcd-local deploy MANIFEST` makes it; --state-dir looks elsewhere",
            )
        })?;
        self.check_network(&deployment)?;
        Ok(deployment)
    }

    /// Every address would change, and with it what members know each other by: that is another deployment.
    fn check_network(&self, deployment: &Deployment) -> Result<()> {
        let (record, asked) = (deployment.record(), self.network);
        let Some(asked) = asked.filter(|asked| *asked != record.network) else { return Ok(()) };
        Err(Complaint::failed(
            format!(
                "deployment '{}' has --network {}, not {}",
                record.name,
                record.network.word(),
                asked.word()
            ),
            "how instances are connected is settled when a deployment is made",
            "leave --network out, or `etcd-local delete-deployment` first",
        )
        .into())
    }

    fn lock(&self, command: &str) -> Result<Lock> {
        needs_root()?;
        Lock::take(&self.state, command)
    }

    /// User vcap, added if this machine does not have it.
    fn vcap(&self) -> Result<Vcap> {
        let (vcap, added) = Vcap::find_or_add()?;
        if added {
            self.console.line("Added the system user vcap, as which processes under bpm run")?;
        }
        Ok(vcap)
    }

    /// Notes `--monit-cycle`, or monit's own cycle for a new deployment.
    fn choose_cycle(&self, deployment: &Deployment) -> Result<()> {
        let now = deployment.record().monit_cycle_ms;
        let chosen = match self.monit_cycle {
            Some(cycle) => cycle,
            None if now == 0 => MONIT_CYCLE,
            None => return Ok(()),
        };
        let chosen_ms = u64::try_from(chosen.as_millis()).context("the monit cycle is too long")?;
        if chosen_ms == now { Ok(()) } else { deployment.change(|record| record.monit_cycle_ms = chosen_ms) }
    }

    /// Notes `--bpm`; what it needs must be there.
    fn choose_runner(&self, deployment: &Deployment) -> Result<()> {
        let now = deployment.record().bpm;
        let chosen = self.bpm.unwrap_or(now);
        if chosen == BpmRunner::Runc {
            Runc::find()?;
        }
        if chosen == now { Ok(()) } else { deployment.change(|record| record.bpm = chosen) }
    }

    /// Runs `act` as a numbered task and tells how it went.
    fn task(
        &self,
        purpose: &str,
        deployment: &Deployment,
        scripts: Scripts,
        act: impl FnOnce(&Director<'_>) -> Result<()>,
    ) -> Result<()> {
        let vcap = self.vcap()?;
        let number = state::next_task(&self.state)?;
        let task = Task::begin(number, self.console.task_output()).context("print")?;
        let director = Director {
            state: &self.state,
            deployment,
            task: &task,
            skip_drain: scripts.skip_drain,
            force: scripts.force,
            vcap,
        };
        let outcome = director.settle().and_then(|()| act(&director));
        task.finish(&outcome);
        // The task has told its error already; what remains is how the command ended.
        outcome.map_err(|error| {
            let summary = format!("{purpose}:\n  Expected task '{number}' to succeed but state is 'error'");
            if self.console.is_json() { error.context(summary) } else { anyhow::Error::msg(summary) }
        })
    }

    /// Prepares again what was deployed last, for commands without a manifest.
    fn prepare_last(&self, deployment: &Deployment) -> Result<(Prepared, String)> {
        let path = deployment.directory().manifest();
        let yaml = std::fs::read_to_string(&path).map_err(|_| {
            Complaint::failed(
                "this deployment was never deployed successfully",
                "this command goes by the last successful deploy",
                "run `etcd-local deploy` until it succeeds, or `etcd-local delete-deployment`",
            )
        })?;
        let manifest = Manifest::parse(&yaml)?;
        let catalog = preparation::catalog(&deployment.record().release)?;
        let prepared = preparation::prepare(&self.state, deployment, manifest, Path::new("ruby"), &catalog)?;
        Ok((prepared, yaml))
    }
}

fn needs_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Complaint::refused(
        "etcd-local must run as root",
        "instances get mount namespaces of their own, and their processes another user",
        "run it with sudo, in a container or in a virtual machine",
    )
    .into())
}

fn identities(deployment: &Deployment) -> Vec<Identity> {
    deployment.record().instances.into_iter().map(|instance| instance.identity).collect()
}

/// The one instance that a slug chooses.
fn single<'a>(slug: &Slug, all: &'a [Identity]) -> Result<&'a Identity> {
    match Slug::choose(Some(slug), all)?.as_slice() {
        [one] => Ok(one),
        several => Err(Complaint::failed(
            format!("{} instances fit", several.len()),
            "this is about a single one",
            "name it as GROUP/INDEX or GROUP/ID",
        )
        .into()),
    }
}

/// A path that stays valid when the directory changes.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("make {} absolute", path.display()))
}

/// The state directory as typed, made independent of the working directory.
pub fn absolute_state_dir(typed: &Path) -> Result<PathBuf> {
    absolute(typed)
}
