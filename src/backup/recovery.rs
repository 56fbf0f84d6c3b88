//! Restoring a whole cluster: one instance, the source, makes a new cluster of one member out of a backup or of its own
//! disk; all others stop meanwhile, and join it (docs/contract.md#restore).
//!
//! The same program runs on every instance. It asks the launchers, which serve whatever becomes of etcd, and leaves a
//! request on its own disk, which its launcher then carries out. Killed anywhere and run again it goes on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::choose::{Wanted, source};
use self::seen::{Look, Looks};
use self::step::Step;
use super::chain::Point;
use super::layout::SetId;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::listener::NEWS;
use crate::lifecycle::launch::records::RestoreRequest;
use crate::lifecycle::{launcher_page, records, vcap};
use crate::report::{self, Complaint};

pub mod choose;
mod follow;
mod lead;
mod seen;
pub mod step;
mod survivor;

/// A launcher that does not answer for so long counts as silent: one that is restarted is back by then.
const SILENT_AFTER: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two lines that say what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(15);
/// No page takes longer.
const PAGE_LIMIT: Duration = Duration::from_secs(5);
const MONIT: &str = "/var/vcap/bosh/bin/monit";

/// What is to be restored, and how.
#[derive(Debug, Clone)]
pub struct Typed {
    /// From a backup, or from the newest disk that is left.
    pub from: From,
    /// What the request says was asked for, if not what `from` says.
    pub asked: Option<String>,
    /// Raise the revision by this much, and mark everything before as compacted.
    pub bump: Option<u64>,
    /// How long a request counts.
    pub expiry: Duration,
    /// How long anything is waited for.
    pub wait: Duration,
    /// Go on although instances that do not answer could be a quorum of the old cluster.
    pub despite_silence: bool,
    /// Restore once more, although the same was done a moment ago.
    pub again: bool,
}

/// Where the data comes from.
#[derive(Debug, Clone)]
pub enum From {
    /// A set in the store, up to a point.
    Backup {
        /// Up to where.
        to: Point,
        /// Which set; `None`: the newest from which the point can be reached.
        set: Option<SetId>,
        /// The flags of `etcd-backup restore` that name the store.
        store: Vec<std::ffi::OsString>,
    },
    /// A file that `etcdctl snapshot save` made.
    Snapshot(std::path::PathBuf),
    /// The disk whose log is the newest.
    Survivors,
}

impl From {
    /// As it stands in the request: the same on all instances that were asked for the same.
    fn asked(&self) -> String {
        match self {
            Self::Backup { to, set: None, .. } => to.to_string(),
            Self::Backup { to, set: Some(set), .. } => format!("{to} of set {set}"),
            Self::Snapshot(_) => "a snapshot file".to_owned(),
            Self::Survivors => "survivors".to_owned(),
        }
    }

    fn wanted(&self) -> Wanted {
        match self {
            Self::Backup { .. } | Self::Snapshot(_) => Wanted::Anybody,
            Self::Survivors => Wanted::Newest,
        }
    }
}

/// One run on one instance.
pub struct Errand {
    typed: Typed,
    asked: String,
    paths: Paths,
    job: JobConfig,
    reach: Reach,
    own: InstanceId,
    started: Instant,
}

impl Errand {
    /// Reads what job `etcd` of this VM has.
    pub fn new(typed: Typed) -> Result<Self> {
        let paths = Paths::default();
        let job = JobConfig::load(&paths.job_json())?;
        let paths = paths.with_wal_dir(job.properties.wal_dir.as_deref());
        let reach = Reach::load(&paths)?;
        let own = InstanceId(job.spec.id.clone());
        let asked = typed.asked.clone().unwrap_or_else(|| typed.from.asked());
        Ok(Self { asked, typed, paths, job, reach, own, started: Instant::now() })
    }

    /// Restores, or stops for the instance that does and joins it.
    pub async fn run(&self) -> Result<()> {
        let looks = self.look_at_all().await;
        let chosen = source(&looks, self.typed.from.wanted(), &self.asked, self.typed.again);
        let chosen = chosen.map_err(|error| error.complaint())?;
        if chosen == self.own { self.lead(&looks).await } else { self.follow(&chosen, &looks).await }
    }

    /// The first half, for a caller that calls one instance after the other: the source makes the data and leaves the
    /// request. Nobody has stopped yet but the source, whose launcher waits for the others.
    pub async fn stage(&self) -> Result<()> {
        let looks = self.look_at_all().await;
        let source = source(&looks, self.typed.from.wanted(), &self.asked, self.typed.again);
        let source = source.map_err(|error| error.complaint())?;
        if source == self.own {
            self.prepare(&looks).await.map(drop)
        } else {
            self.say(&format!("{source} makes the new cluster"))
        }
    }

    /// The second half: this instance stops for the source's request. Who finds all others waiting for it, or in the
    /// new cluster, was called last, and waits until all serve. Without a request there is nothing to do.
    pub async fn change_over(&self) -> Result<()> {
        let looks = self.look_at_all().await;
        let Some(request) = choose::begun(&looks, &self.asked) else {
            return self.say("no restore has begun: nothing changes");
        };
        let own = looks.get(&self.own).and_then(|look| look.as_ref().ok());
        let is_in = |look: &Look| look.is_in(request.cluster_id);
        if request.source != self.own && request.members.contains_key(&self.own) && !own.is_some_and(is_in) {
            self.say(&format!("stopping for request {}: {}", request.id, request.point))?;
            self.leave(&request).await?;
        }
        let takes_part = |look: &Look| is_in(look) || look.state.restore_request == Some(request.id);
        // Whoever is called next must see it.
        self.wait_for(&self.own, "waiting until etcd has stopped here", |look| {
            Ok(takes_part(look).then_some(()))
        })
        .await?;
        let others = request.members.keys().filter(|instance| **instance != self.own);
        let missing: Vec<&InstanceId> = others
            .filter(|instance| !matches!(looks.get(*instance), Some(Ok(look)) if takes_part(look)))
            .collect();
        if !missing.is_empty() {
            let names: Vec<String> = missing.into_iter().map(InstanceId::to_string).collect();
            return self.say(&format!("{} will stop for it, too", names.join(", ")));
        }
        for instance in request.members.keys() {
            let what = format!("waiting until {instance} serves in cluster {}", request.cluster_id);
            self.wait_for(instance, &what, |look| Ok((is_in(look) && look.ready).then_some(()))).await?;
        }
        self.say(&format!("restored {} as cluster {}", request.point, request.cluster_id))
    }

    /// Asks every launcher, until all have answered or some are silent for good.
    async fn look_at_all(&self) -> Looks {
        let mut told = Instant::now();
        loop {
            let looks = seen::all(&self.job, &self.reach, self.typed.from.wanted()).await;
            let silent: Vec<String> = looks
                .iter()
                .filter(|(_, look)| look.is_err())
                .map(|(instance, _)| instance.to_string())
                .collect();
            if silent.is_empty() || self.started.elapsed() >= SILENT_AFTER {
                return looks;
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let _ = self.say(&format!("waiting for an answer of {}", silent.join(", ")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the launcher of an instance says.
    async fn look_at(&self, instance: &InstanceId) -> Result<Look, String> {
        let peer = self.job.instances.iter().find(|peer| peer.instance == instance.0);
        match peer {
            Some(peer) => seen::one(&self.job, peer, &self.reach).await,
            None => Err("it is not in the link".to_owned()),
        }
    }

    /// Waits until `holds` gives something of what the launcher of an instance says.
    async fn wait_for<T>(
        &self,
        instance: &InstanceId,
        what: &str,
        mut holds: impl FnMut(&Look) -> Result<Option<T>>,
    ) -> Result<T> {
        self.wait(instance, what, async || {
            let look = self.look_at(instance).await;
            if let Ok(look) = &look
                && let Some(found) = holds(look)?
            {
                return Ok(Ok(found));
            }
            Ok(Err(told(&look)))
        })
        .await
    }

    /// Waits until `look` finds something; says every now and then what it tells of an instance instead.
    async fn wait<T>(
        &self,
        instance: &InstanceId,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Result<T, String>>,
    ) -> Result<T> {
        let began = Instant::now();
        let mut last = Instant::now();
        loop {
            let said = match look().await? {
                Ok(found) => return Ok(found),
                Err(said) => said,
            };
            if began.elapsed() >= self.typed.wait {
                return Err(Complaint::try_again(
                    format!("{what}: not within {} s; {instance}: {said}", self.typed.wait.as_secs()),
                    "the restore is not finished; what was there before lies in /var/vcap/store/etcd or in its directory aside",
                    "`etcd-status` shows every instance; run the errand again on all instances: it goes on where this ended",
                )
                .into());
            }
            if last.elapsed() >= TELL_EVERY {
                last = Instant::now();
                self.say(&format!("{what}; {instance}: {said}"))?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Leaves a request on the disk and makes the launcher look at it.
    async fn leave(&self, request: &RestoreRequest) -> Result<()> {
        Step::LeaveRequest.reach();
        records::write(&self.paths, request).context("write the request")?;
        vcap::own(&records::path::<RestoreRequest>(&self.paths))?;
        Step::WakeLauncher.reach();
        self.wake_launcher().await
    }

    /// A launcher that waits looks again; one whose etcd runs is restarted, and stops it.
    async fn wake_launcher(&self) -> Result<()> {
        let own = reach::own_launcher(&self.job);
        match self.look_at(&self.own).await {
            Ok(look) if ["wait", "refuse"].contains(&look.state.plan.as_str()) => {
                launcher_page(&own, NEWS, &self.reach, PAGE_LIMIT)
                    .await
                    .map(drop)
                    .context("wake the launcher")
            }
            Ok(_) => monit("restart").await,
            Err(_) => monit("start").await,
        }
    }

    /// A line for the operator.
    fn say(&self, text: &str) -> Result<()> {
        Ok(report::answer(&format!("{}: {text}", self.own))?)
    }
}

/// What a launcher says, or that it says nothing.
fn told(look: &Result<Look, String>) -> String {
    match look {
        Ok(look) => look.because.clone(),
        Err(why) => format!("does not answer: {why}"),
    }
}

/// As BOSH's own scripts do; monit refuses while it does something else.
async fn monit(verb: &str) -> Result<()> {
    const TRIES: u32 = 60;
    let mut said = String::new();
    for _ in 0..TRIES {
        let output = tokio::process::Command::new(MONIT).args([verb, "etcd"]).output().await;
        let output = output.with_context(|| format!("run {MONIT}"))?;
        if output.status.success() {
            return Ok(());
        }
        said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(Complaint::failed(
        format!("`monit {verb} etcd` fails: {said}"),
        "etcd has to stop here before the cluster is restored",
        "look at `monit summary` on this VM, then run the errand again",
    )
    .into())
}

/// Gives user vcap a directory with everything in it.
fn own_all(path: &Path) -> Result<()> {
    vcap::own(path)?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            own_all(&entry?.path())?;
        }
    }
    Ok(())
}
