//! The launcher's life: listener up, `observe → decide → act` until etcd runs, then its parent until it
//! ends.
//!
//! Waiting and refusing keep the process alive: exiting would silence the attestation that others wait
//! for, and monit would only start it again.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::act::{Acted, Actor, Afterwards, Carried};
use super::attestation::{PeerState, Progress, STATE_VERSION};
use super::bring::AGAIN_AFTER;
use super::configuration::{Initial, configuration};
use super::decide::claim::Memory;
use super::decide::first_boot::attested;
use super::decide::plan::{NonceDuty, Plan, Restore, Wait};
use super::decide::reason::Reason;
use super::decide::restore::pending_request;
use super::decide::row::Row;
use super::decide::{Decision, decide, settled};
use super::links;
use super::listener::{self, Board, Doors};
use super::metrics::Metrics;
use super::observation::{Disk, Observation};
use super::observe::{Observer, unix_secs};
use super::readiness::Readiness;
use super::supervise::{OwnMember, Signals, supervise};
use super::telling::{Told, notices};
use super::validation::Validation;
use crate::datadir::verdict::Mode;
use crate::etcd::id::MemberId;
use crate::etcd::process::{Ended, EtcdProcess};
use crate::etcd::version::EtcdVersion;
use crate::etcd::{binary, http};
use crate::job::config::{JobConfig, faults_complaint};
use crate::job::honoured;
use crate::job::lifetime::Watched;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::lifecycle::records;
use crate::report::{Complaint, Exit};
use crate::{atomic_file, journal};

/// The first pause between two observations; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause. News from another launcher ends any pause at once.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// The longest pause while a step is put off: another instance's turn ends in moments.
const PAUSE_PUT_OFF: Duration = Duration::from_millis(500);
/// How often readiness is looked at until it is there for the first time.
const READY_LOOK: Duration = Duration::from_millis(50);

/// Runs until etcd ends or this process is told to stop.
pub async fn run(paths: &Paths) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let mut signals = Signals::register().context("register for signals")?;
    let job = JobConfig::load(&paths.job_json())?;
    let paths = &paths.with_wal_dir(job.properties.wal_dir.as_deref());
    let reach = Reach::load(paths)?;
    records::ensure_directory(&paths.records()).map_err(|error| unwritable(&paths.records(), &error))?;
    let _alone = only_launcher(paths)?;
    remember_link(&job, paths);
    let binary = binary::path(paths, job.properties.etcd_version);
    let version = binary::version(paths, job.properties.etcd_version)?;
    refuse_unhonoured(&job, version)?;
    let doors = Doors {
        board: Arc::new(Board::default()),
        readiness: Arc::new(Readiness::down("the launcher is observing")),
        news: Arc::new(Notify::new()),
        as_peer: reach.as_peer.clone(),
        paths: paths.clone(),
        certificates: Arc::new(Watched::new(paths.config())),
    };
    let validation = Validation::new(paths);
    let launcher = Launcher {
        observer: Observer { job: &job, paths, reach: &reach, binary: version, validation: &validation },
        actor: Actor {
            job: &job,
            paths,
            reach: &reach,
            binary: &binary,
            version,
            validation: &validation,
            doors: doors.clone(),
        },
        doors,
        metrics: Metrics::new(started),
        started,
    };
    launcher.doors.board.post_configuration(launcher.configuration()?);
    launcher.serve().await?;
    launcher.live(&mut signals).await
}

/// pre-start tells this too, and more kindly; but it does not run after a reboot.
fn refuse_unhonoured(job: &JobConfig, version: EtcdVersion) -> Result<(), Complaint> {
    let faults = honoured::faults(&job.properties, version);
    if faults.is_empty() { Ok(()) } else { Err(faults_complaint(&faults)) }
}

struct Launcher<'a> {
    observer: Observer<'a>,
    actor: Actor<'a>,
    doors: Doors,
    metrics: Metrics,
    started: Instant,
}

impl Launcher<'_> {
    async fn serve(&self) -> anyhow::Result<()> {
        let (job, reach) = (self.observer.job, self.observer.reach);
        let address = SocketAddr::new(job.peer_listen_ip(), job.properties.launcher_port);
        let listener = listener::bind(address).await.map_err(|error| {
            Complaint::failed(
                format!("the launcher's listener cannot bind {address}: {error}"),
                "other instances could not see what this one is doing, and none could form a cluster with it",
                "free the port or set the property launcher_port",
            )
        })?;
        let tls = reach.peer.server_letting_in(&reach.admin).context("prepare the launcher's listener")?;
        tokio::spawn(listener::serve(listener, tls, self.doors.clone()));
        Ok(())
    }

    async fn live(&self, signals: &mut Signals) -> anyhow::Result<Exit> {
        let mut memory = Memory::default();
        let mut told = Told::default();
        let mut carried = Carried::default();
        let mut pause = PAUSE_MIN;
        loop {
            let mut seen = tokio::select! {
                seen = self.observer.observe(settled) => seen?,
                // A store may keep it waiting.
                signal = signals.stop() => return Ok(stopped(signal)),
            };
            seen.confirmed = memory.confirmed(self.started.elapsed());
            let mut decision = decide(&seen);
            memory.note(self.started.elapsed(), decision.rests_on.clone());
            if !decision.plan.needs_mutex() {
                self.actor.end_turn(&seen, &mut carried).await;
            }
            self.tell(&mut told, &seen, &decision).await?;
            let mut longest = PAUSE_MAX;
            let acted = tokio::select! {
                acted = self.actor.act(&decision.plan, &seen, &mut carried) => acted?,
                // It may take minutes, and ends with nothing changed.
                signal = signals.stop(), if takes_long(&decision.plan) => {
                    return Ok(stopped(signal));
                }
            };
            match acted {
                Acted::Started { etcd, member_id } => {
                    return self.parent(etcd, member_id, &seen, &decision, carried, signals).await;
                }
                Acted::Changed => {
                    pause = PAUSE_MIN;
                    continue;
                }
                Acted::Idle => {}
                Acted::PutOff(waiting) => {
                    self.actor.end_turn(&seen, &mut carried).await;
                    decision.plan = Plan::Wait(Wait { nonce: NonceDuty::Keep });
                    decision.because = Reason::Waiting(waiting);
                    self.tell(&mut told, &seen, &decision).await?;
                    longest = PAUSE_PUT_OFF;
                }
                Acted::Refused(refusal) => {
                    if let Plan::Restore(Restore::Bring { .. }) = decision.plan {
                        (pause, longest) = (AGAIN_AFTER, AGAIN_AFTER);
                    }
                    self.actor.end_turn(&seen, &mut carried).await;
                    decision.plan = Plan::Refuse;
                    decision.because = Reason::Refusal(refusal);
                    self.tell(&mut told, &seen, &decision).await?;
                }
            }
            pause = pause.min(longest);
            tokio::select! {
                signal = signals.stop() => return Ok(stopped(signal)),
                () = self.doors.news.notified() => pause = PAUSE_MIN,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(longest),
            }
        }
    }

    /// Publishes and logs a decision.
    async fn tell(&self, told: &mut Told, seen: &Observation, decision: &Decision) -> anyhow::Result<()> {
        if decision.plan == Plan::Validate {
            self.observer.validation.begin(Mode::Full);
        }
        let progress = match &decision.plan {
            Plan::Refuse => Progress::Failed,
            _ => Progress::Progress,
        };
        self.publish(seen, decision, progress)?;
        told.tell(decision, self.started.elapsed());
        let why = format!("etcd is not running: {}", decision.because.sentence());
        self.doors.readiness.set_down(&why).await;
        Ok(())
    }

    /// Stays etcd's parent; meanwhile finishes the plan and watches for the first readiness.
    async fn parent(
        &self,
        mut etcd: EtcdProcess,
        member_id: MemberId,
        seen: &Observation,
        decision: &Decision,
        mut carried: Carried,
        signals: &mut Signals,
    ) -> anyhow::Result<Exit> {
        let (job, reach, paths) = (self.observer.job, self.observer.reach, self.observer.paths);
        journal::info(
            "etcd started",
            &json!({"pid": etcd.pid(), "plan": decision.plan.name(), "member_id": member_id, "elapsed_ms": millis(self.started.elapsed())}),
        );
        let own = OwnMember { member_id, target: reach::own_etcd(job), tls: reach.grpc.clone() };
        self.doors.readiness.set_etcd(own.target.clone(), own.tls.clone()).await;
        let follow_up = async {
            if matches!(decision.plan, Plan::Bootstrap(_)) {
                self.tell_others().await;
            }
            self.afterwards(Afterwards::Notes, seen, decision, &mut carried).await;
            // What `/state` tells must not lag behind the disk: a member that runs attests no empty one.
            let seen = self.see_own_again(seen);
            self.republish(&seen, decision, Progress::Progress);
            self.afterwards(Afterwards::Promotion, &seen, decision, &mut carried).await;
            while self.doors.readiness.check().await.is_err() {
                tokio::time::sleep(READY_LOOK).await;
            }
            let elapsed_ms = millis(self.started.elapsed());
            self.metrics.ready_after(self.started.elapsed());
            journal::info("this member serves linearizable reads", &json!({"elapsed_ms": elapsed_ms}));
            self.republish(&seen, decision, Progress::Success);
            // Nobody served before: others may be waiting for this, to join a restored cluster for example.
            if decision.row == Row::QuorumMissing {
                self.tell_others().await;
            }
            self.afterwards(Afterwards::Serving, &seen, decision, &mut carried).await;
            std::future::pending::<()>().await;
        };
        let ended: Ended = tokio::select! {
            ended = supervise(&mut etcd, signals, &own, paths) => ended?,
            () = follow_up => unreachable!("the follow-up never ends"),
        };
        self.actor.end_turn(seen, &mut carried).await;
        Ok(Exit::Code(ended.exit_code()))
    }

    /// Steps behind the start of etcd. It runs whatever becomes of them; the next start repeats them.
    async fn afterwards(
        &self,
        which: Afterwards,
        seen: &Observation,
        decision: &Decision,
        carried: &mut Carried,
    ) {
        if let Err(error) = self.actor.afterwards(which, &decision.plan, seen, carried).await {
            let fields = json!({"error": format!("{error:#}")});
            journal::error("a step after the start of etcd failed", &fields);
        }
    }

    fn republish(&self, seen: &Observation, decision: &Decision, progress: Progress) {
        if let Err(error) = self.publish(seen, decision, progress) {
            journal::error("the state cannot be published", &json!({"error": format!("{error:#}")}));
        }
    }

    /// The observation the decision rests on, with the own disk and records as they are now.
    fn see_own_again(&self, seen: &Observation) -> Observation {
        match self.observer.look_at_own() {
            Ok(now) => Observation { others: seen.others.clone(), ..now },
            Err(error) => {
                journal::error("the own disk cannot be looked at", &json!({"error": format!("{error:#}")}));
                seen.clone()
            }
        }
    }

    /// The others may be in a long pause: the cluster they wait for exists now.
    async fn tell_others(&self) {
        const LIMIT: Duration = Duration::from_secs(2);
        let mut told = tokio::task::JoinSet::new();
        for peer in self.observer.job.others() {
            let (target, tls) = (reach::launcher(peer), self.observer.reach.as_peer.clone());
            // Whoever misses the news observes by itself within `PAUSE_MAX`.
            told.spawn(async move { http::get(&target, listener::NEWS, tls, LIMIT).await.is_ok() });
        }
        told.join_all().await;
    }

    fn publish(&self, seen: &Observation, decision: &Decision, progress: Progress) -> anyhow::Result<()> {
        let state = state(seen, decision, progress);
        let mut page = serde_json::to_value(&state).context("write the state as JSON")?;
        if let Value::Object(fields) = &mut page {
            // For people; other launchers ignore fields they do not know.
            fields.insert("because".to_owned(), decision.because.sentence().into());
            if let Some(complaint) = decision.because.complaint() {
                fields.insert("why".to_owned(), complaint.why.into());
                fields.insert("next".to_owned(), complaint.next.into());
            }
            fields.insert("validation".to_owned(), self.observer.validation.told());
            if !decision.notices.is_empty() {
                fields.insert("notices".to_owned(), notices(decision).into());
            }
            if let Some(until) = decision.until() {
                let until = serde_json::to_value(until).context("write who ends the wait as JSON")?;
                fields.insert("until".to_owned(), until);
            }
        }
        self.metrics.decided(decision.row.number(), progress);
        self.metrics.validated(self.observer.validation.cost());
        self.doors.board.post_metrics(self.metrics.page());
        self.doors.board.post_state(page.clone());
        let status = json!({"version": 1, "state": page, "observation": seen, "plan": decision.plan, "because": decision.because});
        let path = self.observer.paths.status();
        // For people, while this process lives: nothing is decided from it, so nothing waits for the disk.
        atomic_file::write_json_for_now(&path, &status, 0o640)
            .with_context(|| format!("write {}", path.display()))
    }

    /// The effective configuration, as `/config` shows it. There is no secret in it: keys are files.
    fn configuration(&self) -> anyhow::Result<Value> {
        let text = crate::etcd::config::render(&configuration(
            self.observer.job,
            self.observer.paths,
            self.observer.binary,
            Initial::OnDisk,
        )?)?;
        let etcd: Value = serde_yaml::from_str(&text).context("read the rendered configuration back")?;
        let job = self.observer.job;
        Ok(json!({
            "version": 1,
            "instance": job.spec.id,
            "link_hash": job.link_hash(),
            "instances": job.instances.iter().map(|peer| peer.address.clone()).collect::<Vec<_>>(),
            "etcd_version": self.observer.binary.to_string(),
            "etcd": etcd,
        }))
    }
}

/// Plans that read or make all of the data, and change nothing until that is done.
const fn takes_long(plan: &Plan) -> bool {
    matches!(plan, Plan::Validate | Plan::Restore(Restore::Bring { .. }))
}

fn stopped(signal: Signal) -> Exit {
    journal::info("stopped while etcd was not running", &json!({"signal": signal.as_str()}));
    Exit::Done
}

/// What `/state` tells.
fn state(seen: &Observation, decision: &Decision, progress: Progress) -> PeerState {
    PeerState {
        version: STATE_VERSION,
        instance: seen.own.instance.clone(),
        disk: seen.disk.class(),
        nonce: attested(&seen.disk, &seen.records).cloned(),
        bootstrap_method: seen.own.bootstrap_method,
        bootstrap: seen.records.bootstrap.clone().or_else(|| match &decision.plan {
            // Told from the moment it is decided: the others follow without a second look.
            Plan::Bootstrap(bootstrap) => Some(bootstrap.record()),
            _ => None,
        }),
        restored: seen.records.restored.clone(),
        restore_request: pending_request(seen),
        cluster_id: seen.disk.cluster_id(),
        member_id: match &seen.disk {
            Disk::Data(data) => Some(data.member_id),
            _ => None,
        },
        peer_urls: [seen.own.peer_url.clone()].into(),
        link_hash: seen.own.link_hash.clone(),
        link: seen.own.link.values().cloned().collect(),
        once_in_link: seen.records.links.clone(),
        plan: decision.plan.name().to_owned(),
        row: decision.row.number(),
        progress,
        since_unix_secs: unix_secs(),
    }
}

/// Only evictions need it: a start does not fail because of it.
fn remember_link(job: &JobConfig, paths: &Paths) {
    if let Err(error) = links::remember(paths, job.instances.iter().map(|peer| peer.peer_url.clone())) {
        let fields =
            json!({"why": error.to_string(), "next": "a member whose instance vanishes will not be evicted"});
        journal::warn("who is in the link was not noted", &fields);
    }
}

/// bpm starts one launcher; a second one, started by hand, must not act on the same disk.
fn only_launcher(paths: &Paths) -> anyhow::Result<Flock<File>> {
    let path = paths.records().join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| unwritable(&path, &error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        Complaint::refused(
            format!("another launcher holds {} ({error})", path.display()),
            "two launchers would start two etcd on one disk",
            "`bpm list` shows the one that runs; stop it before starting another by hand",
        )
        .into()
    })
}

/// The disk is there, and nothing can be written to it.
fn unwritable(path: &Path, error: &std::io::Error) -> Complaint {
    Complaint::failed(
        format!("the launcher cannot write {}: {error}", path.display()),
        "what it does must be noted on the disk first, and etcd could not write there either; nothing was changed",
        "the directory and what is in it must belong to user vcap (`ls -la`), and the disk must have room (`df`) and not be read-only (`dmesg` says why the kernel made it so); then monit starts this again",
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_be_written_is_told_in_three_parts() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());

        let error = only_launcher(&paths).unwrap_err();

        let complaint = error.downcast_ref::<Complaint>().expect("a complaint");
        assert!(
            complaint.what.starts_with("the launcher cannot write ")
                && complaint.what.contains(".launcher/lock")
        );
        assert!(complaint.next.contains("vcap"), "{complaint}");
    }
}
