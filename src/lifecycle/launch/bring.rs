//! Data from the backup store, through `etcd-backup` of the same package: what is there, and a member made of it.
//!
//! A process of its own, like `etcd-datadir`: the launcher stays small, and what goes wrong with a store costs a child.
//! The store is that of job `etcd-backup` on the same VM, whose properties bpm shows this job (docs/contract.md#auto-restore).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use uuid::Uuid;

use super::act::Obstacle;
use super::attestation::InstanceId;
use super::decide::refusal::Refusal;
use super::observation::Backup;
use super::observe::unix_secs;
use super::records::{RECORD_VERSION, RestorePhase, RestoreRequest};
use super::restoring::Ready;
use crate::datadir::membership::Membership;
use crate::etcd::id::{ClusterId, MemberName, PeerUrl};
use crate::etcd::process::{Priority, end_with_parent};
use crate::job::beside::{BesideStore, store_beside};
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::journal;

/// After a backup that could not be restored: making data of one may read all of a large store.
pub const AGAIN_AFTER: Duration = Duration::from_mins(5);
/// A revision is raised by this much where nobody says otherwise: more than any client can have seen since the backup.
pub const BUMP: u64 = 1_000_000_000;
/// A store that does not tell within this what it has counts as one that does not answer.
const LIST_LIMIT: Duration = Duration::from_secs(30);
/// How long a request counts that nobody but this launcher has to carry out.
const EXPIRES_AFTER_SECS: u64 = 3600;
/// What of a complaint is passed on, in bytes.
const SAID_MAX: usize = 2000;

/// The store of this VM's job `etcd-backup`.
pub struct BackupStore {
    tool: PathBuf,
    job_config: PathBuf,
}

/// What `etcd-backup list` tells, of which only this is read here.
#[derive(Deserialize)]
struct List {
    sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Set {
    set: String,
}

/// What `etcd-backup restore` tells, of which only this is read here.
#[derive(Deserialize)]
struct Made {
    cluster_id: ClusterId,
    set: String,
    revision: i64,
    raised_from: Option<i64>,
}

impl BackupStore {
    /// As bpm shows it; whether there is one is found out by each use.
    pub fn of(paths: &Paths) -> Self {
        Self { tool: paths.backup_tool(), job_config: paths.backup_job_json() }
    }

    /// What the newest backup is.
    pub async fn newest(&self) -> Backup {
        match store_beside(&self.job_config) {
            // A directory is not shown to the launcher: were it mounted late, etcd would not start.
            BesideStore::None | BesideStore::Directory => return Backup::NoStore,
            BesideStore::Remote => {}
        }
        let mut command = self.command("list");
        command.arg("--json");
        match tokio::time::timeout(LIST_LIMIT, output(&mut command)).await {
            Err(_) => Backup::Unknown { why: format!("no answer within {} s", LIST_LIMIT.as_secs()) },
            Ok(Err(why)) => Backup::Unknown { why },
            // Newest first.
            Ok(Ok(told)) => match serde_json::from_slice::<List>(&told).map(|list| list.sets) {
                Err(error) => Backup::Unknown { why: format!("its list is not understood: {error}") },
                Ok(sets) => match sets.into_iter().next() {
                    Some(newest) => Backup::Exists { newest: newest.set },
                    None => Backup::None,
                },
            },
        }
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.tool);
        command.arg(what).arg("--job-config").arg(&self.job_config);
        command
    }
}

/// Ends with what it printed, or with what it said of its failure.
async fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    // What runs beside it, the other members' etcd on a small machine, goes first.
    end_with_parent(command, Priority::Low);
    let Output { status, stdout, stderr } =
        command.output().await.map_err(|error| format!("etcd-backup cannot be started: {error}"))?;
    if status.success() {
        return Ok(stdout);
    }
    let said = String::from_utf8_lossy(&stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said: String = said.join("; ").chars().take(SAID_MAX).collect();
    Err(if said.is_empty() { format!("etcd-backup ended with {status}") } else { said })
}

/// Whose member founds the new cluster.
#[derive(Debug, Clone, Copy)]
pub struct Founder<'a> {
    /// Part of the token.
    pub deployment: &'a str,
    /// As BOSH names the instance.
    pub instance: &'a str,
    /// As etcd names the member.
    pub name: &'a MemberName,
    /// Where peers reach it.
    pub peer_url: &'a PeerUrl,
}

impl<'a> Founder<'a> {
    /// This instance.
    pub fn of(job: &'a JobConfig) -> Self {
        Self {
            deployment: &job.spec.deployment,
            instance: &job.spec.id,
            name: &job.name,
            peer_url: &job.own().peer_url,
        }
    }

    /// A cluster of this one member, which all others join, and the token that makes its id.
    pub fn found(&self) -> Result<(Membership, String)> {
        // Random: no disk of any older cluster can ever take itself for a member of this one.
        let token = format!("{}-restored-{}", self.deployment, Uuid::new_v4());
        let url = BTreeSet::from([self.peer_url.clone()]);
        let listed = BTreeMap::from([(self.name.clone(), url.clone())]);
        let membership =
            Membership::found(&listed, &token, self.name, &url).map_err(|unfit| unfit.complaint())?;
        Ok((membership, token))
    }
}

/// What `etcd-backup restore` is told besides store and point.
pub struct Making<'a> {
    /// Of one member.
    pub membership: &'a Membership,
    /// What the cluster's id is made of.
    pub token: &'a str,
    /// Where peers reach that member.
    pub peer_url: &'a PeerUrl,
    /// Where the data is made.
    pub ready: &'a Ready,
    /// The log, if it is to lie outside of the data.
    pub wal_dir: Option<PathBuf>,
    /// By how much the revision is raised.
    pub bump: Option<u64>,
}

impl Making<'_> {
    /// The flags for it.
    pub fn flags(&self) -> Vec<OsString> {
        let name = &self.membership.own().name;
        let mut flags: Vec<OsString> = [
            "--initial-cluster",
            &format!("{name}={}", self.peer_url),
            "--name",
            &name.to_string(),
            "--initial-advertise-peer-urls",
            &self.peer_url.to_string(),
            "--initial-cluster-token",
            self.token,
            "--json",
            "--data-dir",
        ]
        .map(OsString::from)
        .into();
        flags.push(self.ready.data_dir().into());
        if let Some(wal_dir) = &self.wal_dir {
            flags.extend(["--wal-dir".into(), wal_dir.into()]);
        }
        if let Some(bump) = self.bump {
            flags.extend(["--bump-revision", &bump.to_string(), "--mark-compacted"].map(OsString::from));
        }
        flags
    }

    /// What was made, in the words of a request. Errors: it is not what was asked for.
    pub fn point(&self, told: &[u8]) -> Result<String> {
        let made: Made = serde_json::from_slice(told).context("read what was restored")?;
        let wanted = self.membership.cluster_id();
        if made.cluster_id != wanted {
            bail!("etcd-backup restore made cluster {}, not {wanted}", made.cluster_id);
        }
        Ok(format!("set {} up to revision {}", made.set, made.raised_from.unwrap_or(made.revision)))
    }
}

/// An empty directory for the data of a request, on the disk it is for; what other runs left there goes.
pub fn room(paths: &Paths, id: Uuid) -> Result<Ready> {
    remove_left_overs(paths, id)?;
    let ready = Ready::of(paths, id);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(ready.directory())
        .context("make room for the data")?;
    Ok(ready)
}

/// What other runs left ready and nobody put in place; copies only.
fn remove_left_overs(paths: &Paths, keep: Uuid) -> Result<()> {
    let entries = match fs::read_dir(paths.restoring()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.context("list what other runs left")?,
    };
    for entry in entries {
        let entry = entry.context("list what other runs left")?;
        let id: Option<Uuid> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(id) = id.filter(|id| *id != keep) else { continue };
        let ready = Ready::of(paths, id);
        if !ready.is_being_placed() {
            fs::remove_dir_all(ready.directory()).context("remove what another run left")?;
        }
    }
    Ok(())
}

/// Makes data of the newest backup beside what is there, and gives the request that puts it in place. Nothing else is
/// touched; killed anywhere it is begun anew.
pub(super) async fn bring(
    founder: Founder<'_>,
    paths: &Paths,
    backup: &str,
    replaces: Option<ClusterId>,
) -> Result<Result<RestoreRequest, Obstacle>> {
    let id = Uuid::new_v4();
    let (membership, token) = founder.found()?;
    let ready = room(paths, id)?;
    let making = Making {
        membership: &membership,
        token: &token,
        peer_url: founder.peer_url,
        ready: &ready,
        wal_dir: ready.own_wal_dir(paths),
        bump: Some(BUMP),
    };
    journal::info("a backup is being restored", &json!({"backup": backup, "request": id}));
    // Without --set: were a newer one broken, or of another cluster, it says so instead of passing it over.
    let mut command = BackupStore::of(paths).command("restore");
    command.args(["--to", "latest", "--progress", "none"]).args(making.flags());
    let told = match output(&mut command).await {
        Ok(told) => told,
        Err(why) => {
            remove(&ready);
            return Ok(Err(Obstacle::Refuse(Refusal::NotRestored { backup: backup.to_owned(), why })));
        }
    };
    let own = InstanceId::from(founder.instance);
    let now = unix_secs();
    Ok(Ok(RestoreRequest {
        version: RECORD_VERSION,
        id,
        asked: "auto_restore".to_owned(),
        point: making.point(&told)?,
        source: own.clone(),
        phase: RestorePhase::Prepared,
        cluster_id: membership.cluster_id(),
        members: [(own, founder.peer_url.clone())].into(),
        replaces: replaces.into_iter().collect(),
        created_unix_secs: now,
        expires_unix_secs: now + EXPIRES_AFTER_SECS,
    }))
}

/// What cannot be removed now is removed by the next run.
fn remove(ready: &Ready) {
    let _ = fs::remove_dir_all(ready.directory());
}

#[cfg(test)]
mod tests;
