//! One task of the director: from what is prepared to instances that are as they should be. The order
//! is [`super::update`]'s, the work on each instance is [`super::worker`]'s.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::address::Registry;
use super::agent::drain::Cause;
use super::agent::script;
use super::bpm::vcap::Vcap;
use super::change::{self, Asked, DiskFate, Wanted, Work};
use super::layout::StateDir;
use super::manifest::{Lifecycle, WatchTime};
use super::milestone::Milestone;
use super::model::Identity;
use super::monit::JobState;
use super::names;
use super::network;
use super::preparation::{self, Prepared};
use super::spec::InstanceSpec;
use super::state::{Deployment, Desired, Instance};
use super::task::Task;
use super::update::{self, Circumstances, GroupUpdate, MAX_THREADS, Pace, Stage, Wave};
use super::waves;
use super::worker::{Given, Worker};
use crate::atomic_file;

/// A task's tools.
pub struct Director<'a> {
    /// Where everything lies.
    pub state: &'a StateDir,
    /// The record of the deployment.
    pub deployment: &'a Deployment,
    /// Tells what is done.
    pub task: &'a Task,
    /// Leave pre-stop and drain out.
    pub skip_drain: bool,
    /// Delete instances even if their scripts fail.
    pub force: bool,
    /// User vcap.
    pub vcap: Vcap,
}

/// What an operator asked for, besides the manifest, for each instance.
pub type Requests<'a> = &'a (dyn Fn(&Identity) -> Asked + Sync);

/// What is to be done to each instance, by id.
struct Agenda {
    wanted: BTreeMap<String, Wanted>,
    work: BTreeMap<String, Work>,
}

impl Director<'_> {
    fn worker(&self) -> Worker<'_> {
        Worker {
            state: self.state,
            deployment: self.deployment,
            cycle: Duration::from_millis(self.deployment.record().monit_cycle_ms),
            skip_drain: self.skip_drain,
            force: self.force,
            vcap: self.vcap,
        }
    }

    /// Ends what killed commands left running. First of all, since nothing may run twice.
    ///
    /// Also reserves the deployment's addresses again and makes its network again: after a reboot nobody
    /// remembers them.
    pub fn settle(&self) -> Result<()> {
        let record = self.deployment.record();
        let directory = self.deployment.directory();
        Registry::default().reserve(directory, record.network, &record.subnets, record.subnets.len())?;
        for known in record.instances {
            let directory = self.deployment.instance_directory(&known.identity);
            script::end_left_overs(&directory)?;
            network::ensure(&directory)?;
        }
        Ok(())
    }

    /// Makes all instances as they should be, in the Director's order; stops at the first failure.
    pub fn converge(&self, prepared: &Prepared, asked: Requests<'_>, pace: Pace) -> Result<()> {
        let desired = prepared.placement.desired();
        self.record_placement(prepared)?;
        Milestone::Placed.reach();
        let agenda = self.agenda(prepared, &desired, asked)?;
        let plannable: Vec<update::Desired> = desired
            .iter()
            .map(|identity| {
                let known = self.deployment.instance(&identity.id);
                update::Desired {
                    identity: identity.clone(),
                    needs_vm: known.is_none_or(|known| {
                        !known.has_vm && known.desired != Desired::Detached && !known.ignored
                    }),
                    changed: agenda.work[&identity.id] != Work::Nothing,
                }
            })
            .collect();
        let first_deploy = !self.deployment.record().deployed;
        let circumstances = Circumstances { first_deploy, pace };
        let plan = update::plan(&prepared.manifest, &plannable, &prepared.placement.obsolete, circumstances);
        for stage in &plan.stages {
            match stage {
                Stage::DeleteRemovedGroups(wave) => self.delete_wave("Deleting unneeded instances", wave)?,
                Stage::CreateMissingVms(wave) => self.create_wave(prepared, wave)?,
                Stage::Groups(groups) => {
                    waves::run(groups, groups.len(), |group| self.update_group(prepared, &agenda, group))?;
                }
            }
            names::publish(self.deployment)?;
        }
        names::publish(self.deployment)?;
        self.post_deploy(prepared)
    }

    /// Notes which instances there are before any of them is touched.
    fn record_placement(&self, prepared: &Prepared) -> Result<()> {
        self.deployment.change(|record| {
            record.subnets.clone_from(&prepared.subnets);
            record.addresses_used = prepared.addresses_used;
            for kept in &prepared.placement.kept {
                let same = |one: &&mut Instance| one.identity.id == kept.after.id;
                if let Some(instance) = record.instances.iter_mut().find(same) {
                    if instance.identity.group != kept.after.group && instance.former.is_none() {
                        instance.former = Some(instance.identity.clone());
                    }
                    instance.identity = kept.after.clone();
                }
            }
            for identity in &prepared.placement.new {
                if !record.instances.iter().any(|one| one.identity.id == identity.id) {
                    record.instances.push(Instance::new(identity.clone()));
                }
            }
        })
    }

    fn agenda(&self, prepared: &Prepared, desired: &[Identity], asked: Requests<'_>) -> Result<Agenda> {
        let worker = self.worker();
        let mut agenda = Agenda { wanted: BTreeMap::new(), work: BTreeMap::new() };
        for identity in desired {
            let known = self.deployment.instance(&identity.id).context("an instance was just recorded")?;
            let wanted = wanted(prepared, identity)?;
            let state = worker.job_state(identity)?;
            if state.is_none() && known.has_vm {
                // Its directory was taken away behind our back.
                self.deployment.change_instance(&identity.id, |instance| instance.has_vm = false)?;
            }
            agenda.work.insert(identity.id.clone(), change::decide(&known, &wanted, state, asked(identity)));
            agenda.wanted.insert(identity.id.clone(), wanted);
        }
        Ok(agenda)
    }

    fn delete_wave(&self, stage: &str, wave: &Wave) -> Result<()> {
        waves::run(&wave.instances, wave.workers, |identity| {
            self.task.step(stage, &identity.to_string(), |step| {
                self.worker().delete(step, identity, &Cause::Obsolete)
            })
        })
    }

    fn create_wave(&self, prepared: &Prepared, wave: &Wave) -> Result<()> {
        waves::run(&wave.instances, wave.workers, |identity| {
            self.task.step("Creating missing vms", &identity.to_string(), |_| {
                let group =
                    prepared.manifest.group(&identity.group).context("the plan knows only its groups")?;
                self.worker().create_vm(identity, &preparation::machine(&prepared.manifest, group, identity))
            })
        })
    }

    fn update_group(&self, prepared: &Prepared, agenda: &Agenda, group: &GroupUpdate) -> Result<()> {
        if let Some(wave) = &group.deletions {
            self.delete_wave(&format!("Deleting unneeded instances {}", group.group), wave)?;
        }
        let policy = &prepared.manifest.group(&group.group).context("the plan knows only its groups")?.update;
        for wave in &group.updates {
            let watch = if wave.canary { policy.canary_watch } else { policy.update_watch };
            let stage = format!("Updating instance {}", group.group);
            waves::run(&wave.instances, wave.workers, |identity| {
                let title = if wave.canary { format!("{identity} (canary)") } else { identity.to_string() };
                self.task.step(&stage, &title, |step| {
                    let given = given(prepared, agenda, identity, watch)?;
                    self.worker().update(step, identity, &agenda.work[&identity.id], given)
                })
            })?;
        }
        Ok(())
    }

    /// On all instances that have a machine and were not stopped on purpose or ignored, changed or not.
    fn post_deploy(&self, prepared: &Prepared) -> Result<()> {
        let due: Vec<Identity> = prepared
            .placement
            .desired()
            .into_iter()
            .filter(|identity| {
                let known = self.deployment.instance(&identity.id);
                known.is_some_and(|known| known.has_vm && known.desired == Desired::Started && !known.ignored)
            })
            .collect();
        waves::run(&due, MAX_THREADS, |identity| {
            self.task
                .step("Executing post-deploy", &identity.to_string(), |_| self.worker().post_deploy(identity))
        })
    }

    /// Notes that all is done: what was deployed is from now on what other commands go by.
    pub fn record_success(&self, prepared: &Prepared, yaml: &str) -> Result<()> {
        let directory = self.deployment.directory();
        atomic_file::write(&directory.manifest(), yaml.as_bytes(), 0o600).context("keep the manifest")?;
        atomic_file::write_json(&preparation::shared_links_file(directory), &prepared.shared, 0o600)
            .context("keep the shared links")?;
        self.deployment.change(|record| record.deployed = true)
    }

    /// Works on one instance with what it was given last, whatever the others need.
    pub fn without_convergence(
        &self,
        identity: &Identity,
        before: Option<&Cause>,
        asked: Asked,
    ) -> Result<()> {
        let directory = self.deployment.instance_directory(identity);
        let spec = InstanceSpec::of(&directory, identity)?;
        let state = self.worker().job_state(identity)?;
        let stop = before.filter(|_| state.is_some_and(|state| state != JobState::Stopped));
        let recreate = asked.recreate && state.is_some();
        let disk = if recreate { asked.disk } else { DiskFate::Keep };
        let work = Work::Update { stop: stop.cloned(), recreate, disk };
        // Its configuration is what it was; what it will be when converging is known then.
        let given = Given { wanted: &spec.wanted, rendered: &spec.rendered, watch: spec.watch };
        self.update_alone(identity, &work, given)
    }

    fn update_alone(&self, identity: &Identity, work: &Work, given: Given<'_>) -> Result<()> {
        let title = identity.to_string();
        self.task.step(&format!("Updating instance {}", identity.group), &title, |step| {
            self.worker().update(step, identity, work, given)
        })
    }

    /// Stops and removes everything; disks are kept aside.
    pub fn delete_deployment(&self) -> Result<()> {
        let identities: Vec<Identity> =
            self.deployment.record().instances.into_iter().map(|one| one.identity).collect();
        waves::run(&identities, MAX_THREADS, |identity| {
            self.task.step("Deleting instances", &identity.to_string(), |step| {
                self.worker().delete(step, identity, &Cause::DeleteDeployment)
            })
        })
    }

    /// The machine of an errand's group: made and started for one run.
    pub fn start_errand_instance(&self, prepared: &Prepared, identity: &Identity) -> Result<()> {
        let (wanted, rendered) = (wanted(prepared, identity)?, rendered(prepared, identity)?);
        self.task.step("Creating missing vms", &identity.to_string(), |_| {
            self.worker().create_vm(identity, &wanted.machine)
        })?;
        let policy = prepared.manifest.group(&identity.group).context("an errand has a group")?.update;
        let given = Given { wanted: &wanted, rendered, watch: policy.update_watch };
        self.update_alone(
            identity,
            &Work::Update { stop: None, recreate: false, disk: DiskFate::Keep },
            given,
        )
    }

    /// Removes the machine of an errand's group without any script, as the Director does.
    pub fn delete_errand_instance(&self, identity: &Identity) -> Result<()> {
        self.task
            .step("Deleting errand instances", &identity.to_string(), |_| self.worker().discard(identity))
    }
}

/// Whether instances of this group run all the time.
pub fn is_service(prepared: &Prepared, group: &str) -> bool {
    prepared.manifest.group(group).is_some_and(|group| group.lifecycle == Lifecycle::Service)
}

fn rendered<'a>(prepared: &'a Prepared, identity: &Identity) -> Result<&'a super::render::RenderedInstance> {
    prepared.rendered.get(&identity.id).ok_or_else(|| anyhow!("nothing was rendered for {identity}"))
}

fn wanted(prepared: &Prepared, identity: &Identity) -> Result<Wanted> {
    let rendered = rendered(prepared, identity)?;
    let group = prepared
        .manifest
        .group(&identity.group)
        .with_context(|| format!("group '{}' is not in the manifest", identity.group))?;
    Ok(Wanted {
        configuration_hash: rendered.configuration_hash.clone(),
        packages: prepared.packages.get(&identity.id).cloned().unwrap_or_default(),
        jobs: rendered.jobs.iter().map(|job| job.name.clone()).collect(),
        disk_mib: group.persistent_disk_mib,
        disk_type: group.persistent_disk_type.clone(),
        machine: preparation::machine(&prepared.manifest, group, identity),
    })
}

fn given<'a>(
    prepared: &'a Prepared,
    agenda: &'a Agenda,
    identity: &Identity,
    watch: WatchTime,
) -> Result<Given<'a>> {
    let wanted = agenda.wanted.get(&identity.id).context("the plan knows only wanted instances")?;
    Ok(Given { wanted, rendered: rendered(prepared, identity)?, watch })
}
