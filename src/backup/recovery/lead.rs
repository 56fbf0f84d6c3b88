//! The source: it makes the data, asks the others to stop, and lets its launcher put the data in place.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::choose::{replaced, set, suffices};
use super::seen::{Look, Looks};
use super::step::Step;
use super::{Errand, From, own_all};
use crate::datadir::membership::Membership;
use crate::datadir::validate::validate;
use crate::datadir::verdict::{Mode, Verdict};
use crate::etcd::client::EtcdClient;
use crate::job::reach;
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::bring::{Founder, Making, room};
use crate::lifecycle::launch::observe::unix_secs;
use crate::lifecycle::launch::records::{RECORD_VERSION, RestorePhase, RestoreProgress, RestoreRequest};
use crate::lifecycle::launch::restoring::Ready;
use crate::lifecycle::{records, vcap};
use crate::report::{self, Complaint};

/// With less than this left, in seconds, a request of another run is not gone on with.
const LEFT_SECS: u64 = 300;

impl Errand {
    /// Makes the new cluster.
    pub(super) async fn lead(&self, looks: &Looks) -> Result<()> {
        let own =
            looks.get(&self.own).and_then(|look| look.as_ref().ok()).context("the own launcher is silent")?;
        let request = match self.begun(own) {
            Some((request, true)) => {
                let once_more = if self.typed.again {
                    "the cluster serves, so there is nothing to make it of once more"
                } else {
                    "`again` restores it once more"
                };
                self.say(&format!(
                    "request {} has restored {} already; {once_more}",
                    request.id, request.point
                ))?;
                request
            }
            Some((request, false)) => {
                self.say(&format!("going on with request {}: {}", request.id, request.point))?;
                self.wake_launcher().await?;
                request
            }
            None => self.prepare(looks).await?,
        };
        let what = format!("waiting until {} is restored", request.point);
        self.wait_for(&self.own, &what, |look| {
            Ok((look.has_restored(request.id) && look.ready).then_some(()))
        })
        .await?;
        self.say(&format!("cluster {} serves: {}", request.cluster_id, request.point))?;
        self.joined(&request).await?;
        Step::Finish.reach();
        records::remove::<RestoreProgress>(&self.paths).context("remove the note of progress")
    }

    /// What an earlier run began, and whether it is done.
    fn begun(&self, own: &Look) -> Option<(RestoreRequest, bool)> {
        let request = own.files.request.as_ref().filter(|request| request.source == self.own)?;
        if request.asked != self.asked || request.phase != RestorePhase::Prepared {
            return None;
        }
        let left = request.expires_unix_secs.saturating_sub(unix_secs());
        if own.has_restored(request.id) {
            let suffices = suffices(own, self.typed.from.wanted(), self.typed.again);
            return (left > 0 && suffices).then(|| (request.clone(), true));
        }
        let ready = Ready::of(&self.paths, request.id);
        let goes_on = left > LEFT_SECS && (ready.is_whole(&self.paths) || ready.is_being_placed());
        goes_on.then(|| (request.clone(), false))
    }

    /// Makes the data and leaves the request. After an error nothing has changed, and the other instances are told.
    pub(super) async fn prepare(&self, looks: &Looks) -> Result<RestoreRequest> {
        let urls: BTreeMap<InstanceId, _> = self
            .job
            .instances
            .iter()
            .map(|peer| (InstanceId(peer.instance.clone()), peer.peer_url.clone()))
            .collect();
        let id = Uuid::new_v4();
        Step::Announce.reach();
        self.tell_others(id, None)?;
        let prepared = async {
            let members =
                set(looks, &urls, self.typed.despite_silence).map_err(|refused| refused.complaint())?;
            let (membership, token) = Founder::of(&self.job).found()?;
            Step::MakeRoom.reach();
            let ready = self.room(id)?;
            let mut replaces = replaced(looks);
            replaces.remove(&membership.cluster_id());
            let created = unix_secs();
            let request = |point: String, phase| RestoreRequest {
                version: RECORD_VERSION,
                id,
                asked: self.asked.clone(),
                point,
                source: self.own.clone(),
                phase,
                cluster_id: membership.cluster_id(),
                members: members.clone(),
                replaces: replaces.clone(),
                created_unix_secs: created,
                expires_unix_secs: unix_secs() + self.typed.expiry.as_secs(),
            };
            let point = match &self.typed.from {
                From::Backup { .. } => self.make_of_backup(&ready, &membership, &token).await?,
                From::Snapshot(file) => self.make_of_snapshot(&ready, file, &membership)?,
                From::Survivors => {
                    let held = request("the data on this disk".to_owned(), RestorePhase::Preparing);
                    self.make_of_own_disk(&ready, &held, &membership).await?
                }
            };
            Step::Judge.reach();
            self.judge(&ready)?;
            own_all(ready.directory())?;
            let request = request(point, RestorePhase::Prepared);
            self.leave(&request).await?;
            self.say(&format!("{} lies ready; now all members stop", request.point))?;
            Ok(request)
        }
        .await;
        if let Err(error) = &prepared {
            self.give_up(id, error).await?;
        }
        prepared
    }

    /// Says so, removes what was made, and lets the own etcd go on.
    async fn give_up(&self, id: Uuid, error: &anyhow::Error) -> Result<()> {
        let told = error.to_string();
        self.tell_others(id, Some(told.lines().next().unwrap_or_default().to_owned()))?;
        let held = records::read::<RestoreRequest>(&self.paths)?;
        if held.is_some_and(|held| held.id == id && held.phase == RestorePhase::Preparing) {
            records::remove::<RestoreRequest>(&self.paths)?;
            self.wake_launcher().await?;
        }
        match fs::remove_dir_all(Ready::of(&self.paths, id).directory()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("remove what was made of the new data")
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn tell_others(&self, request: Uuid, failed: Option<String>) -> Result<()> {
        records::write(&self.paths, &RestoreProgress { version: RECORD_VERSION, request, failed })?;
        vcap::own(&records::path::<RestoreProgress>(&self.paths))
    }

    /// An empty directory for the data, on the disk it is for.
    fn room(&self, id: Uuid) -> Result<Ready> {
        let ready = room(&self.paths, id)?;
        for directory in [&self.paths.restoring(), ready.directory()] {
            vcap::own(directory)?;
        }
        Ok(ready)
    }

    /// Lets `etcd-backup restore` do it: with everything it proves, and the words it refuses with.
    async fn make_of_backup(&self, ready: &Ready, membership: &Membership, token: &str) -> Result<String> {
        let From::Backup { to, set, store } = &self.typed.from else { bail!("this comes from no store") };
        let making = Making {
            membership,
            token,
            peer_url: &self.job.own().peer_url,
            ready,
            wal_dir: ready.own_wal_dir(&self.paths),
            bump: self.typed.bump,
        };
        let mut command = tokio::process::Command::new("/proc/self/exe");
        command.arg("restore").args(store).args(["--to", &to.to_string()]);
        if let Some(set) = set {
            command.args(["--set", &set.to_string()]);
        }
        command.args(making.flags()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        Step::MakeData.reach();
        let output = command.spawn().context("start etcd-backup restore")?.wait_with_output().await?;
        if !output.status.success() {
            // It has said why on stderr.
            return Err(Complaint::failed(
                format!(
                    "the backup could not be restored on this disk: etcd-backup restore ended with {}",
                    output.status
                ),
                "all members go on as they were; nothing was changed",
                "what it says above is what to repair; then run the errand again",
            )
            .into());
        }
        making.point(&output.stdout)
    }

    /// Makes nothing of data that is not sound.
    fn judge(&self, ready: &Ready) -> Result<()> {
        let wal_dir = ready.own_wal_dir(&self.paths);
        let report = validate(&ready.data_dir(), wal_dir.as_deref(), Mode::Full, &mut |_, _| {})
            .context("judge the new data")?;
        if report.verdict == Verdict::Sound {
            return Ok(());
        }
        let first = report.findings.first().map(|finding| finding.what.clone()).unwrap_or_default();
        Err(Complaint::failed(
            format!("the new data is not sound: {first}"),
            "a cluster made of it could lose what it holds; nothing was changed",
            "choose another point: `etcd-backup verify --deep --all` says which sets are whole",
        )
        .into())
    }

    /// Waits until everybody who stopped is a voter that serves.
    async fn joined(&self, request: &RestoreRequest) -> Result<()> {
        for instance in request.members.keys().filter(|instance| **instance != self.own) {
            let what = format!("waiting until {instance} has joined cluster {}", request.cluster_id);
            self.wait_for(instance, &what, |look| {
                Ok((look.is_in(request.cluster_id) && look.ready).then_some(()))
            })
            .await?;
        }
        let limit = self.job.properties.observe_timeout;
        let mut client =
            EtcdClient::connect(&reach::own_etcd(&self.job), self.reach.grpc.clone(), limit).await?;
        let membership = client.linearizable_members().await?;
        let voters = membership.members.iter().filter(|member| !member.is_learner).count();
        report::answer(&format!(
            "{}: restored {} as cluster {} with {voters} voters; what was there before lies in /var/vcap/store/etcd/aside on each disk",
            self.own, request.point, request.cluster_id
        ))?;
        let away: Vec<&str> = self
            .job
            .instances
            .iter()
            .map(|peer| peer.instance.as_str())
            .filter(|instance| !request.members.contains_key(&InstanceId::from(*instance)))
            .collect();
        if !away.is_empty() {
            self.say(&format!(
                "{} did not answer; each joins by itself when its VM is back",
                away.join(", ")
            ))?;
        }
        Ok(())
    }
}
