//! An instance from inside: its scripts as the agent runs them, its cluster as an operator without this
//! release reaches it. Everything here is called [where `/var/vcap` is the instance's](crate::place::Place::inside).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use etcd_release::etcd::client::{EtcdClient, EtcdError};
use etcd_release::etcd::connect::Target;
use etcd_release::etcd::id::MemberId;
use etcd_release::etcd::member::Member;
use etcd_release::job::config::JobConfig;
use etcd_release::job::paths::Paths;
use etcd_release::job::reach::{self, Reach};
use etcd_release::local::agent::drain::Cause;
use jiff::Timestamp;
use serde_json::Value;

use crate::place::{LAUNCHER, Place, Running, as_vcap};
use crate::support::fleet::{DEADLINE, Fleet};

const ETCDCTL: &str = "/var/vcap/packages/etcd/bin/etcdctl";
/// How soon a question is asked again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// etcd removes a voter that runs only once it has been connected to the others for five seconds
/// (docs/contract.md#quorum); the rest is to spare.
const SETTLES_WITHIN: Duration = Duration::from_secs(6);
/// etcd makes a member's id of its URL and the second in which it is added: one that is added again in the same
/// second has the id of a removed member, and is refused with `member not found`.
const ANOTHER_ID_AFTER: Duration = Duration::from_secs(1);

/// The instance.
pub struct Inside {
    job: JobConfig,
    reach: Reach,
    paths: Paths,
    others: Vec<Target>,
    runtime: tokio::runtime::Runtime,
}

/// What some rounds measure on the last instance, where the others keep a healthy cluster of their own: it is new to
/// them before the first round, and runs again after the last. `round` gets the instance, a directory for logs and
/// the round's number.
pub fn as_new<T: Send>(
    fleet: &Fleet,
    rounds: usize,
    round: impl Fn(&Inside, &Path, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let places = Place::all(fleet);
    let place = places.last().context("there is no instance")?;
    fleet.cli(&["stop", &place.slug, "--no-converge", "--skip-drain"]).succeeded();
    let logs = tempfile::tempdir().context("make a temporary directory")?;
    let measured = place.inside(|| {
        let inside = Inside::here()?;
        inside.becomes_new_for_a_healthy_cluster()?;
        (0..rounds).map(|number| round(&inside, logs.path(), number)).collect()
    })?;
    fleet.cli(&["start", &place.slug, "--no-converge"]).succeeded();
    Ok(measured)
}

impl Inside {
    /// The one whose `/var/vcap` this thread sees.
    pub fn here() -> Result<Self> {
        let paths = Paths::default();
        let (job, reach) = (JobConfig::load(&paths.job_json())?, Reach::load(&paths)?);
        let others = job.others().map(reach::etcd).collect();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
        Ok(Self { job, reach, paths, others, runtime })
    }

    /// Milliseconds from just before the fork of a script of the job to its end.
    pub fn script(&self, name: &str, arguments: &[String], environment: &[(String, String)]) -> Result<f64> {
        let mut command = Command::new(self.paths.job().join("bin").join(name));
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        timed(command.envs(environment.iter().cloned()).current_dir("/"))
    }

    /// What the agent runs before a start.
    pub fn pre_start(&self) -> Result<()> {
        self.script("pre-start", &[], &[])?;
        self.script("bpm-pre-start", &[], &[]).map(drop)
    }

    /// Milliseconds that drain takes, after pre-stop, as the agent calls both. post-stop and pre-start follow, so
    /// that nothing is left of the stop.
    pub fn drain(&self, cause: &Cause) -> Result<f64> {
        let disk_mib = u32::try_from(self.job.spec.persistent_disk).context("a disk's size is a u32")?;
        let call = cause.drain(disk_mib, disk_mib);
        self.script("pre-stop", &[], &cause.pre_stop_environment())?;
        let took = self.script("drain", &call.args, &call.environment)?;
        self.script("post-stop", &[], &[])?;
        self.pre_start()?;
        Ok(took)
    }

    /// Milliseconds that etcdctl takes, without the job's wrapper, through the other members.
    pub fn etcdctl(&self, arguments: &[&str]) -> Result<f64> {
        let endpoints: Vec<String> = self.job.others().map(|peer| peer.client_url.to_string()).collect();
        self.etcdctl_through(&endpoints.join(","), arguments)
    }

    fn etcdctl_through(&self, endpoints: &str, arguments: &[&str]) -> Result<f64> {
        let file = |name: &str| self.paths.config().join(name);
        let mut command = Command::new(ETCDCTL);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("ETCDCTL_ENDPOINTS", endpoints)
            .env("ETCDCTL_CACERT", file("admin-ca.crt"))
            .env("ETCDCTL_CERT", file("admin.crt"))
            .env("ETCDCTL_KEY", file("admin.key"));
        timed(&mut command)
    }

    /// Milliseconds that `etcdctl member add --learner` takes with this instance.
    pub fn add_learner(&self) -> Result<f64> {
        let url = format!("--peer-urls={}", self.job.own().peer_url);
        self.etcdctl(&["member", "add", self.job.name.as_str(), "--learner", &url])
    }

    /// The entry of this instance in the member list, as the others have it.
    pub fn entry(&self) -> Result<Option<MemberId>> {
        let url = &self.job.own().peer_url;
        Ok(self.members()?.into_iter().find(|member| member.listens_at(url)).map(|member| member.id))
    }

    fn members(&self) -> Result<Vec<Member>> {
        let list = self.ask(&self.others, async |client| client.linearizable_members().await)?;
        Ok(list.members)
    }

    /// Makes this instance one that was never there: no entry, nothing on its disk.
    pub fn becomes_new(&self) -> Result<()> {
        let started = Instant::now();
        // etcd refuses for five seconds after a connection was lost.
        while let Some(entry) = self.entry()? {
            match self.ask(&self.others, async |client| client.remove_member(entry).await) {
                Err(error) if started.elapsed() > DEADLINE => return Err(error),
                _ => pause(LOOK_EVERY),
            }
        }
        pause(ANOTHER_ID_AFTER);
        let store = self.paths.data_dir();
        for name in fs::read_dir(&store).context("list the store")? {
            let path = name.context("list the store")?.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        etcd_release::atomic_file::remove(&self.paths.initialised_mark()).context("remove the mark of data")
    }

    /// As [`Self::becomes_new`], and the others have been connected for long enough to take somebody new.
    pub fn becomes_new_for_a_healthy_cluster(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            self.becomes_new()?;
            match self.add_learner() {
                Ok(_) => return self.becomes_new(),
                Err(error) if started.elapsed() > DEADLINE => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Whether this instance's member leads.
    pub fn leads(&self) -> Result<bool> {
        let own = [reach::own_etcd(&self.job)];
        let status = self.ask(&own, async |client| client.status().await)?;
        Ok(status.leader == Some(status.member_id))
    }

    /// Gives leadership to this instance's member, or takes it away. Returns the milliseconds of a bare
    /// `etcdctl move-leader`, if leadership had to move.
    pub fn make_lead(&self, wanted: bool) -> Result<Option<f64>> {
        if self.leads()? == wanted {
            return Ok(None);
        }
        let own = self.entry()?.context("this instance has no member")?;
        let members = self.members()?;
        let leader = self.ask(&self.others, async |client| client.status().await)?.leader;
        let to = members.iter().find(|member| (member.id == own) == wanted).context("there are others")?;
        let from = members.iter().find(|member| Some(member.id) == leader).context("somebody leads")?;
        let endpoint = from.client_urls.first().context("the leader has a URL")?.to_string();
        let took = self.etcdctl_through(&endpoint, &["move-leader", &to.id.to_string()])?;
        let started = Instant::now();
        while self.leads()? != wanted {
            if started.elapsed() > DEADLINE {
                bail!("leadership did not move within {DEADLINE:?}");
            }
            pause(LOOK_EVERY);
        }
        Ok(Some(took))
    }

    fn ask<T>(
        &self,
        targets: &[Target],
        work: impl AsyncFnOnce(&mut EtcdClient) -> Result<T, EtcdError>,
    ) -> Result<T> {
        self.runtime.block_on(async {
            let tls = &self.reach.grpc;
            let mut client = EtcdClient::connect_to_one_of(targets, tls, DEADLINE).await?;
            work(&mut client).await.map_err(|error| anyhow!(error))
        })
    }
}

/// Runs a command to its end, which must be good.
fn timed(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null());
    let start = Instant::now();
    let output = command.output().with_context(|| format!("run {}", command.get_program().display()))?;
    let took = start.elapsed();
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{}: {}: {told}", command.get_program().display(), output.status);
    }
    Ok(took.as_secs_f64() * 1e3)
}

/// A launcher that the measurement started, and what it logs.
pub struct Launched {
    running: Running,
    since: Timestamp,
    log: PathBuf,
}

impl Launched {
    /// Starts one whose log is this file; what it had is gone.
    pub fn start(log: PathBuf) -> Result<Self> {
        etcd_release::atomic_file::remove(&log).context("remove the log of the last one")?;
        let mut command = as_vcap(LAUNCHER)?;
        let since = Timestamp::now();
        Ok(Self { running: Running::start(&mut command, &log)?, since, log })
    }

    /// Milliseconds from just before its fork to the first line of the log with this message and these fields,
    /// by the time in the line. Waits for it.
    pub fn until(&self, message: &str, fields: &[(&str, &str)]) -> Result<f64> {
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(&self.log).context("read the launcher's log")?;
            let found =
                log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| {
                    line["msg"] == message && fields.iter().all(|(name, value)| line[name] == *value)
                });
            if let Some(at) = found.as_ref().and_then(|line| line["ts"].as_str()) {
                let at: Timestamp = at.parse().with_context(|| format!("{at} is no time"))?;
                return Ok(at.duration_since(self.since).as_secs_f64() * 1e3);
            }
            if started.elapsed() > DEADLINE {
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(20)..].join("\n");
                bail!("the launcher did not log '{message}' within {DEADLINE:?}; the end of its log:\n{end}");
            }
            pause(LOOK_EVERY);
        }
    }

    /// Milliseconds until its member serves, as a voter. Waits for it.
    pub fn serves(&self) -> Result<f64> {
        self.until("this member serves linearizable reads", &[])
    }

    /// Waits until etcd would take the member away.
    pub fn settles(&self) -> Result<()> {
        self.serves()?;
        pause(SETTLES_WITHIN);
        Ok(())
    }

    /// Asks it to end and waits until it has. One whose member was removed may have ended.
    pub fn stop(self) -> Result<()> {
        self.running.stop().map(drop)
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing is measured meanwhile, and every wait has a deadline")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
