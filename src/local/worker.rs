//! Work on one instance, step by step as the Director does it. Every step is recorded before the next
//! begins and may be repeated: an instance that is touched is dirty until all of it is done.
//! docs/local-director.md#lifecycle

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::agent::drain::Cause;
use super::agent::script::{self, Script};
use super::bpm::vcap::Vcap;
use super::change::{self, DiskFate, Wanted, Work};
use super::instance;
use super::layout::{InstanceDir, StateDir};
use super::manifest::WatchTime;
use super::milestone::Milestone;
use super::model::{Identity, Machine};
use super::monit::{JobState, Request, Status, Which, client};
use super::names;
use super::package;
use super::process;
use super::render::RenderedInstance;
use super::spec::InstanceSpec;
use super::state::{Applied, Deployment, Desired, Disk, Instance};
use super::task::Step;

/// Everything a worker needs besides the instance.
pub struct Worker<'a> {
    /// Where everything lies.
    pub state: &'a StateDir,
    /// The record.
    pub deployment: &'a Deployment,
    /// How often processes are looked at.
    pub cycle: Duration,
    /// Leave pre-stop and drain out.
    pub skip_drain: bool,
    /// Delete instances even if their scripts fail.
    pub force: bool,
    /// User vcap.
    pub vcap: Vcap,
}

/// What one instance will be given.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// How it should be.
    pub wanted: &'a Wanted,
    /// Its jobs.
    pub rendered: &'a RenderedInstance,
    /// How long its processes may take to run.
    pub watch: WatchTime,
}

impl Worker<'_> {
    fn directory(&self, identity: &Identity) -> InstanceDir {
        self.deployment.instance_directory(identity)
    }

    fn known(&self, identity: &Identity) -> Result<Instance> {
        let missing = || anyhow!("there is no record of {identity}");
        self.deployment.instance(&identity.id).ok_or_else(missing)
    }

    /// What the agent of an instance says; `None` without a machine. Starts its supervisor if that died.
    pub fn job_state(&self, identity: &Identity) -> Result<Option<JobState>> {
        let directory = self.directory(identity);
        if !self.known(identity)?.has_vm || !instance::exists(&directory) {
            return Ok(None);
        }
        instance::refresh_shims(&directory, self.deployment.record().bpm)?;
        let answer = client::ask(&directory, self.cycle, &Request::Summary)?;
        Ok(Some(JobState::of(is_marked_stopped(&directory), &answer.services)))
    }

    /// Makes the machine of an instance; jobs are not started.
    pub fn create_vm(&self, identity: &Identity, machine: &Machine) -> Result<()> {
        let directory = self.directory(identity);
        fs::create_dir_all(directory.path())
            .with_context(|| format!("make {}", directory.path().display()))?;
        self.deployment.change_instance(&identity.id, |instance| {
            (instance.has_vm, instance.applied, instance.dirty) = (false, None, true);
            instance.machine = Some(machine.clone());
        })?;
        let record = self.deployment.record();
        instance::create(&directory, identity, record.network, &names::hosts(&record))?;
        Milestone::CreatedRoot.reach();
        let disk = self.known(identity)?.disk;
        if let Some(disk) = &disk {
            instance::attach_disk(&directory, disk, &self.deployment.directory().disk(&disk.id))?;
        }
        self.deployment.change_instance(&identity.id, |instance| instance.has_vm = true)
    }

    fn delete_vm(&self, identity: &Identity) -> Result<()> {
        self.deployment.change_instance(&identity.id, |instance| {
            (instance.has_vm, instance.applied, instance.machine) = (false, None, None);
        })?;
        instance::delete(&self.directory(identity))
    }

    /// Brings an instance to what is wanted.
    pub fn update(&self, step: &Step<'_>, identity: &Identity, work: &Work, given: Given<'_>) -> Result<()> {
        let Work::Update { stop, recreate, disk } = work else { return Ok(()) };
        let directory = self.directory(identity);
        self.deployment.change_instance(&identity.id, |instance| instance.dirty = true)?;
        if let Some(cause) = stop {
            self.stop_sequence(step, identity, cause, given.wanted.disk_mib)?;
        }
        Milestone::Stopped.reach();
        let desired = self.known(identity)?.desired;
        if desired == Desired::Detached {
            step.doing("deleting vm");
            self.delete_vm(identity)?;
            return self.deployment.change_instance(&identity.id, |instance| instance.dirty = false);
        }
        if *disk == DiskFate::Lose {
            instance::detach_disk(&directory)?;
            self.orphan_disk(identity)?;
        }
        if *recreate || !self.known(identity)?.has_vm {
            step.doing("recreating vm");
            self.create_vm(identity, &given.wanted.machine)?;
        }
        self.rename(identity)?;
        self.converge_disk(step, identity, given.wanted, *disk)?;
        InstanceSpec::new(given.wanted.clone(), given.rendered.clone(), given.watch).keep(&directory)?;
        step.doing("installing packages");
        package::install(self.state, &directory, &given.wanted.packages)?;
        step.doing("configuring jobs");
        instance::configure(&directory, given.rendered, self.vcap, self.deployment.record().bpm)?;
        self.deployment.change_instance(&identity.id, |instance| {
            instance.applied = Some(Applied {
                configuration_hash: given.wanted.configuration_hash.clone(),
                packages: given.wanted.packages.clone(),
                jobs: given.wanted.jobs.clone(),
            });
        })?;
        Milestone::Configured.reach();
        if desired == Desired::Started {
            self.start(step, identity, given)?;
        } else {
            mark_stopped(&directory)?;
        }
        self.deployment.change_instance(&identity.id, |instance| instance.dirty = false)
    }

    /// pre-start, start, watch, post-start.
    pub fn start(&self, step: &Step<'_>, identity: &Identity, given: Given<'_>) -> Result<()> {
        let (directory, jobs) = (self.directory(identity), &given.wanted.jobs);
        step.doing("executing pre-start");
        script::run(&directory, jobs, Script::PreStart, &[])?;
        step.doing("starting jobs");
        instance::write_monit_files(&directory, &given.rendered.jobs)?;
        unmark_stopped(&directory)?;
        let reloaded = client::ask(&directory, self.cycle, &Request::Reload)?;
        let started = client::ask(&directory, self.cycle, &Request::Start(Which::Vcap))?;
        for warning in reloaded.warnings.iter().chain(&started.warnings) {
            step.warning(&format!("{identity}: {warning}"));
        }
        Milestone::Started.reach();
        self.watch(identity, given.watch)?;
        step.doing("executing post-start");
        script::run(&directory, jobs, Script::PostStart, &[])
    }

    /// Waits the shortest time, then looks until everything runs or the longest time is over.
    fn watch(&self, identity: &Identity, watch: WatchTime) -> Result<()> {
        let begin = Instant::now();
        process::pause(Duration::from_millis(watch.min_ms));
        let pause =
            Duration::from_millis((watch.max_ms.saturating_sub(watch.min_ms) / 9).clamp(1000, 15_000));
        let directory = self.directory(identity);
        loop {
            let services = client::ask(&directory, self.cycle, &Request::Summary)?.services;
            if JobState::of(is_marked_stopped(&directory), &services) == JobState::Running {
                return Ok(());
            }
            if begin.elapsed() + pause > Duration::from_millis(watch.max_ms) {
                let failed: Vec<&str> = services
                    .iter()
                    .filter(|service| service.status != Status::Running)
                    .map(|service| service.name.as_str())
                    .collect();
                return Err(anyhow!(
                    "'{identity}' is not running after update. Review logs for failed jobs: {}",
                    failed.join(", ")
                ));
            }
            process::pause(pause);
        }
    }

    /// pre-stop, unmonitor and drain, stop, post-stop.
    pub fn stop_sequence(
        &self,
        step: &Step<'_>,
        identity: &Identity,
        cause: &Cause,
        wanted_disk_mib: u32,
    ) -> Result<()> {
        let (directory, known) = (self.directory(identity), self.known(identity)?);
        let jobs = known.jobs();
        if self.skip_drain {
            step.doing("skipped pre-stop & drain");
        } else {
            step.doing("executing pre-stop");
            script::run(&directory, &jobs, Script::PreStop, &cause.pre_stop_environment())?;
            step.doing("executing drain");
            client::ask(&directory, self.cycle, &Request::Unmonitor(Which::Vcap))?;
            script::drain(&directory, &jobs, cause, known.disk_mib(), wanted_disk_mib)?;
        }
        Milestone::Drained.reach();
        step.doing("stopping jobs");
        client::ask(&directory, self.cycle, &Request::Stop(Which::Vcap))?;
        mark_stopped(&directory)?;
        step.doing("executing post-stop");
        script::run(&directory, &jobs, Script::PostStop, &[])
    }

    /// From here on an instance whose group was renamed is known by its new names, and no longer by the old ones.
    fn rename(&self, identity: &Identity) -> Result<()> {
        if self.known(identity)?.former.is_none() {
            return Ok(());
        }
        self.deployment.change_instance(&identity.id, |instance| instance.former = None)?;
        Milestone::Renamed.reach();
        names::publish(self.deployment)
    }

    /// Gives, replaces or takes the persistent disk of an instance whose processes are stopped.
    fn converge_disk(
        &self,
        step: &Step<'_>,
        identity: &Identity,
        wanted: &Wanted,
        fate: DiskFate,
    ) -> Result<()> {
        self.retire_disk(identity)?;
        let (directory, now) = (self.directory(identity), self.known(identity)?);
        match &now.disk {
            None if wanted.disk_mib == 0 => return Ok(()),
            None => self.first_disk(identity, wanted)?,
            Some(_) if wanted.disk_mib == 0 => {
                self.discard_copy(identity)?;
                instance::detach_disk(&directory)?;
                self.orphan_disk(identity)?;
            }
            Some(disk) => {
                let is_the_one = now.disk_to_come.is_none() && !change::disk_differs(&now, wanted);
                if is_the_one && fate != DiskFate::Renew {
                    if instance::is_attached(&directory, disk) {
                        return Ok(());
                    }
                    instance::attach_disk(&directory, disk, &self.disk_directory(disk))?;
                } else {
                    step.doing("migrating disk");
                    self.migrate_disk(identity, disk, wanted)?;
                }
            }
        }
        // It sees the mounts of the time it was started, and so would all that it starts.
        client::quit(&directory)
    }

    fn disk_directory(&self, disk: &Disk) -> PathBuf {
        self.deployment.directory().disk(&disk.id)
    }

    fn first_disk(&self, identity: &Identity, wanted: &Wanted) -> Result<()> {
        let disk = new_disk(wanted);
        // Recorded first: a disk that nobody knows of could never be found again.
        self.deployment.change_instance(&identity.id, |instance| instance.disk = Some(disk.clone()))?;
        Milestone::DiskRecorded.reach();
        instance::attach_disk(&self.directory(identity), &disk, &self.disk_directory(&disk))
    }

    /// Copies the content to a new disk, which takes the place of the old one; that is put aside.
    fn migrate_disk(&self, identity: &Identity, old: &Disk, wanted: &Wanted) -> Result<()> {
        let fits = |disk: &Disk| disk.mib == wanted.disk_mib && disk.type_name == wanted.disk_type;
        let new = if let Some(begun) = self.known(identity)?.disk_to_come.filter(fits) {
            begun
        } else {
            self.discard_copy(identity)?;
            let disk = new_disk(wanted);
            self.deployment
                .change_instance(&identity.id, |instance| instance.disk_to_come = Some(disk.clone()))?;
            disk
        };
        Milestone::DiskToCome.reach();
        instance::copy_disk(&self.disk_directory(old), &self.disk_directory(&new))?;
        Milestone::DiskCopied.reach();
        self.deployment.change_instance(&identity.id, |instance| {
            instance.disk_to_go = instance.disk.replace(new.clone());
            instance.disk_to_come = None;
        })?;
        Milestone::DiskReplaced.reach();
        instance::attach_disk(&self.directory(identity), &new, &self.disk_directory(&new))?;
        self.retire_disk(identity)
    }

    /// Removes a copy that was begun and is not wanted any more; the content is where it was.
    fn discard_copy(&self, identity: &Identity) -> Result<()> {
        let Some(disk) = self.known(identity)?.disk_to_come else { return Ok(()) };
        instance::discard_copy(&self.disk_directory(&disk))?;
        self.deployment.change_instance(&identity.id, |instance| instance.disk_to_come = None)
    }

    /// Puts a disk aside that another one has replaced.
    fn retire_disk(&self, identity: &Identity) -> Result<()> {
        let Some(disk) = self.known(identity)?.disk_to_go else { return Ok(()) };
        self.put_aside(identity, &disk)?;
        self.deployment.change_instance(&identity.id, |instance| instance.disk_to_go = None)
    }

    /// Puts the disk of an instance aside.
    fn orphan_disk(&self, identity: &Identity) -> Result<()> {
        let Some(disk) = self.known(identity)?.disk else { return Ok(()) };
        self.put_aside(identity, &disk)?;
        self.deployment.change_instance(&identity.id, |instance| instance.disk = None)
    }

    /// Moves a disk to where disks of the gone are kept.
    fn put_aside(&self, identity: &Identity, disk: &Disk) -> Result<()> {
        let from = self.disk_directory(disk);
        if !from.exists() {
            return Ok(());
        }
        let orphans = self.state.orphaned_disks(&identity.deployment);
        fs::create_dir_all(&orphans).with_context(|| format!("make {}", orphans.display()))?;
        let to = orphans.join(format!("{}-{}-{}", identity.group, identity.id, disk.id));
        fs::rename(&from, &to).with_context(|| format!("move {} to {}", from.display(), to.display()))
    }

    /// Stops an instance for good, also one that is stopped already; nothing of a detached one can run.
    pub fn delete(&self, step: &Step<'_>, identity: &Identity, cause: &Cause) -> Result<()> {
        let known = self.known(identity)?;
        let directory = self.directory(identity);
        self.deployment.change_instance(&identity.id, |instance| instance.dirty = true)?;
        if known.has_vm && instance::exists(&directory) && known.applied.is_some() {
            let stopped = self.stop_sequence(&step.quiet(), identity, cause, 0);
            match stopped {
                Err(error) if self.force => {
                    step.warning(&format!(
                        "{identity}: {}; deleted all the same",
                        crate::report::chain(&error)
                    ));
                }
                stopped => stopped?,
            }
        }
        self.delete_vm(identity)?;
        Milestone::DeletedVm.reach();
        self.discard_copy(identity)?;
        self.retire_disk(identity)?;
        self.orphan_disk(identity)?;
        Milestone::Orphaned.reach();
        instance::forget(&directory)?;
        Milestone::Forgotten.reach();
        self.deployment.change(|record| record.instances.retain(|one| one.identity.id != identity.id))?;
        names::publish(self.deployment)
    }

    /// Removes the machine without a word to its jobs.
    pub fn discard(&self, identity: &Identity) -> Result<()> {
        self.delete_vm(identity)
    }

    /// Runs post-deploy in all jobs of an instance.
    pub fn post_deploy(&self, identity: &Identity) -> Result<()> {
        let jobs = self.known(identity)?.jobs();
        script::run(&self.directory(identity), &jobs, Script::PostDeploy, &[])
    }
}

fn new_disk(wanted: &Wanted) -> Disk {
    let id = uuid::Uuid::new_v4().to_string();
    Disk { id, mib: wanted.disk_mib, type_name: wanted.disk_type.clone() }
}

fn stopped_marker(directory: &InstanceDir) -> PathBuf {
    directory.monit().join("stopped")
}

/// Whether the agent was told to stop the jobs.
pub fn is_marked_stopped(directory: &InstanceDir) -> bool {
    stopped_marker(directory).exists()
}

fn mark_stopped(directory: &InstanceDir) -> Result<()> {
    fs::File::create(stopped_marker(directory)).map(drop).context("mark the jobs as stopped")
}

fn unmark_stopped(directory: &InstanceDir) -> Result<()> {
    match fs::remove_file(stopped_marker(directory)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("mark the jobs as started")
        }
        _ => Ok(()),
    }
}
