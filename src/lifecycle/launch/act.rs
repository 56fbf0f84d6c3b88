//! Acting: one step at a time, each written down before it is done, each safe to repeat and safe to die
//! after. Every step is a fail point. What is done on the disk is here, what the cluster is asked for in
//! [`super::membership`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;

use super::aside;
use super::bring::{Founder, bring};
use super::configuration::{Initial, configuration};
use super::decide::plan::{Aside, Plan, Restore};
use super::decide::refusal::Refusal;
use super::decide::step::Step;
use super::decide::waiting::Waiting;
use super::listener::Doors;
use super::observation::Observation;
use super::record_files::{self, NonceFile};
use super::records::{
    BootPhase, BootstrapRecord, ExitRecord, JoinPhase, JoinRecord, RECORD_VERSION, RestoreRequest,
};
use super::restoring::{self, Ready};
use super::seeding::seed;
use super::turn::Turn;
use super::validation::{Checked, Validation};
use crate::datadir::verdict::Mode;
use crate::datadir::{self, Found};
use crate::etcd::client::{Added, EtcdClient};
use crate::etcd::config;
use crate::etcd::id::MemberId;
use crate::etcd::process::{EtcdProcess, Program};
use crate::etcd::version::EtcdVersion;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::Reach;
use crate::lifecycle::records;
use crate::{atomic_file, journal};

/// What acting needs besides the plan.
pub struct Actor<'a> {
    /// The job.
    pub job: &'a JobConfig,
    /// Its files.
    pub paths: &'a Paths,
    /// Its certificates.
    pub reach: &'a Reach,
    /// The etcd binary.
    pub binary: &'a Path,
    /// Its version.
    pub version: EtcdVersion,
    /// What was found on the disk.
    pub validation: &'a Validation<'a>,
    /// What the launcher serves: for a while also on the peer port, so that members can try it.
    pub doors: Doors,
}

/// What one step leaves for the next ones; nothing of it has to survive this process.
#[derive(Default)]
pub struct Carried {
    /// The right to change the membership.
    pub(super) turn: Option<Turn>,
    /// A connection to the cluster, while it holds.
    pub(super) client: Option<EtcdClient>,
    /// What `member add` answered.
    pub(super) added: Option<Added>,
    /// Where data was moved.
    moved: Option<PathBuf>,
    /// What asks for data that was brought from the store.
    brought: Option<RestoreRequest>,
}

/// How acting ended.
pub enum Acted {
    /// etcd runs.
    Started {
        /// The process.
        etcd: EtcdProcess,
        /// The member it runs.
        member_id: MemberId,
    },
    /// Something changed: observe again at once.
    Changed,
    /// There was nothing to do.
    Idle,
    /// Not now.
    PutOff(Waiting),
    /// Not without a person.
    Refused(Refusal),
}

/// Why a plan stops at a step.
pub(super) enum Obstacle {
    /// The cluster is not as it was observed.
    Stale,
    /// Not now.
    Wait(Waiting),
    /// Not without a person.
    Refuse(Refusal),
}

impl From<Obstacle> for Acted {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Stale => Self::Changed,
            Obstacle::Wait(waiting) => Self::PutOff(waiting),
            Obstacle::Refuse(refusal) => Self::Refused(refusal),
        }
    }
}

/// The steps that follow the start of etcd, by what they have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Notes on the disk, once etcd's log has an entry.
    Notes,
    /// Becoming a voter.
    Promotion,
    /// Whatever a serving member does last.
    Serving,
}

impl Afterwards {
    fn of(step: Step) -> Self {
        match step {
            Step::Promote | Step::WriteJoinPromoted | Step::ReleaseMutex => Self::Promotion,
            Step::AnnouncePeerUrl => Self::Serving,
            _ => Self::Notes,
        }
    }
}

impl Actor<'_> {
    /// Takes the steps of a plan up to and including the start of etcd; the steps behind it are in
    /// [`Actor::afterwards`].
    pub async fn act(&self, plan: &Plan, seen: &Observation, carried: &mut Carried) -> anyhow::Result<Acted> {
        let steps = plan.steps();
        if steps.is_empty() {
            return Ok(Acted::Idle);
        }
        for step in steps {
            step.reach();
            if step == Step::Spawn {
                let etcd = self.spawn()?;
                return Ok(Acted::Started { etcd, member_id: member_id(plan, carried)? });
            }
            let taken = self.take(step, plan, seen, carried).await;
            if let Err(obstacle) = taken.with_context(|| format!("step {step} of plan {}", plan.name()))? {
                return Ok(obstacle.into());
            }
        }
        Ok(Acted::Changed)
    }

    /// Takes those of the steps behind the start of etcd.
    pub async fn afterwards(
        &self,
        which: Afterwards,
        plan: &Plan,
        seen: &Observation,
        carried: &mut Carried,
    ) -> anyhow::Result<()> {
        if which == Afterwards::Notes {
            self.first_log().await;
        }
        let steps = plan.steps();
        let behind = steps.into_iter().skip_while(|step| *step != Step::Spawn).skip(1);
        for step in behind.filter(|step| Afterwards::of(*step) == which) {
            step.reach();
            let taken = self.take(step, plan, seen, carried).await;
            if taken.with_context(|| format!("step {step} of plan {}", plan.name()))?.is_err() {
                bail!("step {step} of plan {} cannot be taken any more", plan.name());
            }
        }
        Ok(())
    }

    /// Waits until etcd's log has an entry: only then is there a member to speak of. The caller stops
    /// waiting when etcd ends.
    async fn first_log(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        // What cannot be looked at in this moment is looked at again.
        while !matches!(datadir::classify(&self.paths.data_dir(), self.paths.wal_dir()), Ok(Found::Data(_))) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn take(
        &self,
        step: Step,
        plan: &Plan,
        seen: &Observation,
        carried: &mut Carried,
    ) -> anyhow::Result<Result<(), Obstacle>> {
        match step {
            Step::TakeMutex => return Ok(self.take_turn(plan, seen, carried).await),
            Step::ProbePeers => return Ok(self.probe(plan, seen).await),
            Step::MemberRemove => return Ok(self.remove_dead(plan, seen, carried).await),
            Step::MemberAdd => return Ok(self.add(seen, carried).await),
            // What is there is the new data, or half of it.
            Step::MoveAside | Step::RetireRecords if self.places(plan) => {}
            Step::MoveAside => {
                if let Ok(request) = request(plan)
                    && !restoring::is_ready(self.paths, request)
                {
                    return Ok(Err(self.without_data(request)));
                }
                return self.move_aside(plan, carried);
            }
            Step::Validate => return self.validate(plan).await,
            Step::SeedData => match plan {
                Plan::Bootstrap(bootstrap) => return seed(bootstrap, self.paths),
                other => bail!("plan {} founds no cluster", other.name()),
            },
            Step::BringBackup => return self.bring(plan, carried).await,
            Step::RestoreData => {
                let request = request(plan)?;
                if !restoring::is_ready(self.paths, request) {
                    return Ok(Err(self.without_data(request)));
                }
                restoring::place(self.paths, request)?;
            }
            Step::Promote => self.promote(member_id(plan, carried)?, seen).await,
            Step::ReleaseMutex => self.end_turn(seen, carried).await,
            Step::AnnouncePeerUrl => self.announce(member_id(plan, carried)?).await,
            _ => self.note(step, plan, carried)?,
        }
        Ok(Ok(()))
    }

    /// Steps that write a file of ours.
    fn note(&self, step: Step, plan: &Plan, carried: &mut Carried) -> anyhow::Result<()> {
        let paths = self.paths;
        match (step, plan) {
            (Step::WriteNonce, _) => {
                let nonce = record_files::fresh_nonce().context("make a nonce")?;
                journal::info("this disk has a nonce now", &json!({"nonce": nonce}));
                records::write(paths, &NonceFile { nonce })?;
            }
            (Step::RetireRecords, _) => {
                let beside = carried.moved.take();
                let now = jiff::Timestamp::now();
                let to = aside::retire_records(paths, beside.as_deref(), clear(plan)?.reason, now)?;
                journal::info("the records of that data are with it now", &json!({"to": to}));
            }
            (Step::WriteBootstrapRecord, Plan::Bootstrap(bootstrap)) => {
                records::write(paths, &bootstrap.record())?;
            }
            (Step::CompleteBootstrapRecord, _) => {
                if let Some(record) = records::read::<BootstrapRecord>(paths)? {
                    records::write(paths, &BootstrapRecord { phase: BootPhase::Running, ..record })?;
                }
            }
            (Step::WriteJoinIntent, Plan::Join(_) | Plan::Replace(_)) => {
                self.note_join(plan, None, JoinPhase::Intended)?;
            }
            (Step::WriteJoinAnswer, Plan::Join(_) | Plan::Replace(_) | Plan::ResumeJoin(_)) => {
                self.note_join(plan, Some(member_id(plan, carried)?), JoinPhase::Added)?;
            }
            (Step::WriteJoinStarted | Step::WriteJoinPromoted, _) => {
                let phase =
                    if step == Step::WriteJoinStarted { JoinPhase::Started } else { JoinPhase::Promoted };
                // A learner without a record was added by somebody else; its own id is on its disk.
                if let Some(record) = records::read::<JoinRecord>(paths)? {
                    records::write(paths, &JoinRecord { phase, ..record })?;
                }
            }
            (Step::WriteRestoreRequest, _) => {
                let request = carried.brought.take().context("nothing was brought from the store")?;
                records::write(paths, &request)?;
                journal::info("a backup lies ready", &json!({"request": request.id, "point": request.point}));
            }
            (Step::WriteRestoreRecord, _) => {
                let request = request(plan)?;
                restoring::note(paths, request)?;
                let fields = json!({"request": request.id, "asked": request.asked, "point": request.point, "cluster_id": request.cluster_id});
                journal::info("the restored data is in place", &fields);
            }
            (Step::WriteConfiguration, _) => self.write_configuration(plan, carried)?,
            (Step::RemoveExitRecord, _) => records::remove::<ExitRecord>(paths)?,
            // Written once in the life of a VM: on every later start the wait for the disk would buy nothing.
            (Step::WriteInitialisedMark, _) if paths.initialised_mark().exists() => {}
            (Step::WriteInitialisedMark, _) => atomic_file::write(&paths.initialised_mark(), b"", 0o600)?,
            (step, plan) => bail!("step {step} is none of plan {}", plan.name()),
        }
        Ok(())
    }

    fn note_join(&self, plan: &Plan, member_id: Option<MemberId>, phase: JoinPhase) -> anyhow::Result<()> {
        let (cluster_id, peer_url) = match plan {
            Plan::Join(plan) => (plan.cluster_id, &plan.peer_url),
            Plan::ResumeJoin(plan) => (plan.cluster_id, &plan.peer_url),
            Plan::Replace(plan) => (plan.cluster_id, &plan.peer_url),
            other => bail!("plan {} joins no cluster", other.name()),
        };
        let peer_url = peer_url.clone();
        let record = JoinRecord { version: RECORD_VERSION, cluster_id, peer_url, member_id, phase };
        records::write(self.paths, &record)?;
        journal::info("join", &json!({"phase": phase, "cluster_id": cluster_id, "member_id": member_id}));
        Ok(())
    }

    fn move_aside(&self, plan: &Plan, carried: &mut Carried) -> anyhow::Result<Result<(), Obstacle>> {
        let room = aside::room(self.paths).context("measure the disk")?;
        if room.free_bytes < room.member_bytes {
            return Ok(Err(Obstacle::Refuse(Refusal::NoRoom {
                aside_bytes: room.member_bytes,
                free_bytes: room.free_bytes,
            })));
        }
        let reason = clear(plan)?.reason;
        carried.moved = aside::move_member(self.paths, reason, jiff::Timestamp::now())?;
        let older = aside::older(self.paths).context("list what was moved aside before")?;
        journal::warn(
            "data was moved aside",
            &json!({"to": carried.moved, "reason": reason, "older": older, "next": "remove it when nobody needs it any more"}),
        );
        Ok(Ok(()))
    }

    /// Whether an earlier run of this plan has moved aside what was in the way.
    fn places(&self, plan: &Plan) -> bool {
        request(plan).is_ok_and(|request| Ready::of(self.paths, request.id).is_being_placed())
    }

    /// Nothing may be moved aside for what is not there.
    fn without_data(&self, request: &RestoreRequest) -> Obstacle {
        let directory = Ready::of(self.paths, request.id).directory().display().to_string();
        Obstacle::Refuse(Refusal::RestoreWithoutData { request: request.id, directory })
    }

    async fn bring(&self, plan: &Plan, carried: &mut Carried) -> anyhow::Result<Result<(), Obstacle>> {
        let Plan::Restore(Restore::Bring { backup, replaces }) = plan else {
            bail!("plan {} brings nothing from the store", plan.name())
        };
        Ok(bring(Founder::of(self.job), self.paths, backup, *replaces)
            .await?
            .map(|request| carried.brought = Some(request)))
    }

    async fn validate(&self, plan: &Plan) -> anyhow::Result<Result<(), Obstacle>> {
        let mode = match plan {
            Plan::Validate => Mode::Full,
            _ => Mode::Sanity,
        };
        Ok(match self.validation.check(mode, &self.doors.board).await.context("check the data")? {
            Checked::Usable => Ok(()),
            // The next observation knows of the damage.
            Checked::Damaged => Err(Obstacle::Stale),
            Checked::Refused(refusal) => Err(Obstacle::Refuse(refusal)),
        })
    }

    fn spawn(&self) -> anyhow::Result<EtcdProcess> {
        let program =
            Program { binary: self.binary.to_owned(), configuration: self.paths.etcd_configuration() };
        EtcdProcess::spawn(&program).with_context(|| format!("start {}", program.binary.display()))
    }

    fn write_configuration(&self, plan: &Plan, carried: &Carried) -> anyhow::Result<()> {
        let initial = match plan {
            Plan::Bootstrap(bootstrap) => Initial::New(bootstrap),
            Plan::Join(_) | Plan::Replace(_) => {
                Initial::Joined(&carried.added.as_ref().context("the cluster has not answered")?.members)
            }
            Plan::ResumeJoin(plan) => Initial::Joined(&plan.members),
            _ => Initial::OnDisk,
        };
        let text = config::render(&configuration(self.job, self.paths, self.version, initial)?)?;
        let path = self.paths.etcd_configuration();
        // Every start writes it anew before etcd reads it.
        atomic_file::write_for_now(&path, text.as_bytes(), 0o640)
            .with_context(|| format!("write {}", path.display()))
    }
}

/// The member that this plan starts.
fn member_id(plan: &Plan, carried: &Carried) -> anyhow::Result<MemberId> {
    match plan {
        Plan::Start(plan) => Ok(plan.member_id),
        Plan::Bootstrap(plan) => Ok(plan.member_id),
        Plan::ResumeJoin(plan) => Ok(plan.member_id),
        Plan::Join(_) | Plan::Replace(_) => {
            Ok(carried.added.as_ref().context("the cluster has not answered with an id")?.member_id)
        }
        other => bail!("plan {} starts no member", other.name()),
    }
}

/// The request that a plan carries out.
fn request(plan: &Plan) -> anyhow::Result<&RestoreRequest> {
    match plan {
        Plan::Restore(Restore::Place { request, .. }) => Ok(request),
        other => bail!("plan {} carries out no request", other.name()),
    }
}

/// What a plan moves aside.
fn clear(plan: &Plan) -> anyhow::Result<Aside> {
    let clear = match plan {
        Plan::Rejoin(aside) | Plan::MoveAside(aside) => Some(*aside),
        Plan::Bootstrap(plan) => plan.clear,
        Plan::Join(plan) => plan.clear,
        Plan::ResumeJoin(plan) => plan.clear,
        Plan::Replace(plan) => plan.clear,
        Plan::Restore(Restore::Place { clear, .. }) => *clear,
        Plan::Restore(Restore::Bring { .. })
        | Plan::Refuse
        | Plan::Wait(_)
        | Plan::Validate
        | Plan::Start(_) => None,
    };
    clear.with_context(|| format!("plan {} moves nothing aside", plan.name()))
}
