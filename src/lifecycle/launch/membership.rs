//! The steps of a plan that the cluster is asked for: the mutex, the probe, remove, add, promote, and the
//! own peer URL.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use super::act::{Actor, Carried, Obstacle};
use super::attestation::InstanceId;
use super::decide::plan::Plan;
use super::decide::refusal::Refusal;
use super::decide::step::Step;
use super::decide::waiting::Waiting;
use super::listener::{self, CatchingUp};
use super::observation::{EtcdAnswer, Observation};
use super::observe::unix_ms;
use super::probe::{self, Outcome, Probed, Verdict};
use super::turn::{self, Turn, Ways};
use crate::etcd::client::{EtcdClient, EtcdError, Status};
use crate::etcd::connect::Target;
use crate::etcd::id::MemberId;
use crate::job::reach;
use crate::journal;

/// Between two attempts to promote a learner, at first; it doubles.
const PROMOTE_FIRST: Duration = Duration::from_millis(25);
/// At most.
const PROMOTE_EVERY: Duration = Duration::from_secs(1);
/// Between two attempts to announce the own URL.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);
/// How far a learner is, is looked at this often: the own etcd does not answer before it has joined, and
/// waiting for that would only delay the next attempt.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// And no longer than this.
const LOOK_LIMIT: Duration = Duration::from_millis(500);
/// Progress of a learner is logged this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Actor<'_> {
    /// Takes the mutex; once it is newly held, everything is observed and decided again.
    pub(super) async fn take_turn(
        &self,
        plan: &Plan,
        seen: &Observation,
        carried: &mut Carried,
    ) -> Result<(), Obstacle> {
        if carried.turn.as_ref().is_some_and(Turn::is_held) {
            return Ok(());
        }
        let mut client = self.client(seen, carried, Step::TakeMutex).await?;
        let taken = Turn::try_take(&mut client, self.ways(seen), &self.paths.launcher_mutex())
            .await
            .map_err(|error| not_accepted(Step::TakeMutex, &error))?;
        carried.client = Some(client);
        match taken {
            Some(turn) => {
                carried.turn = Some(turn);
                Err(Obstacle::Stale)
            }
            None => Err(Obstacle::Wait(Waiting::MutexHeld { then: plan.name() })),
        }
    }

    /// Gives the mutex back, if it is held, also by a launcher here that was killed.
    pub async fn end_turn(&self, seen: &Observation, carried: &mut Carried) {
        carried.client = None;
        match carried.turn.take() {
            Some(turn) => turn.release(&self.ways(seen)).await,
            None => turn::release_noted(&self.ways(seen), &self.paths.launcher_mutex()).await,
        }
    }

    fn ways(&self, seen: &Observation) -> Ways {
        Ways { members: self.serving(seen), tls: self.reach.grpc.clone(), limit: self.limit() }
    }

    /// Asks every launcher of a running member to reach this instance at the URL that is about to be added.
    pub(super) async fn probe(&self, plan: &Plan, seen: &Observation) -> Result<(), Obstacle> {
        let url = match plan {
            Plan::Join(plan) => &plan.peer_url,
            Plan::Replace(plan) => &plan.peer_url,
            _ => return Ok(()),
        };
        let own = &seen.own.instance;
        let address = SocketAddr::new(self.job.peer_listen_ip(), self.job.properties.peer_port);
        let listener = listener::bind(address).await.map_err(|error| {
            let by = BTreeMap::from([(own.clone(), format!("it cannot listen on {address}: {error}"))]);
            Obstacle::Wait(Waiting::NotReached { url: url.clone(), by })
        })?;
        let tls = self.reach.peer.server_letting_in(&self.reach.admin).map_err(|error| {
            let by = BTreeMap::from([(own.clone(), error.to_string())]);
            Obstacle::Refuse(Refusal::NotTrusted { url: url.clone(), by })
        })?;
        let serving = tokio::spawn(listener::serve(listener, tls, self.doors.clone()));
        let mut questions = tokio::task::JoinSet::new();
        for peer in self.job.others() {
            let instance = InstanceId(peer.instance.clone());
            let runs = seen.others.get(&instance).is_some_and(|other| healthy(other.etcd.got()));
            if !runs {
                continue;
            }
            let (launcher, url, own) = (reach::launcher(peer), url.clone(), own.clone());
            // Who is asked has two seconds itself.
            let (tls, limit) = (self.reach.as_peer.clone(), self.limit() * 2);
            questions.spawn(async move { (instance, probe::ask(&launcher, &own, &url, tls, limit).await) });
        }
        let answers = questions.join_all().await;
        serving.abort();
        // The port is etcd's from now on: the task must be gone with its listener.
        let _ = serving.await;
        let told: BTreeMap<InstanceId, Probed> =
            answers.into_iter().filter_map(|(instance, answer)| Some((instance, answer?))).collect();
        warn_of_clocks(&told);
        let outcomes: BTreeMap<InstanceId, Outcome> =
            told.into_iter().map(|(instance, probed)| (instance, probed.outcome)).collect();
        match probe::judge(&outcomes) {
            Verdict::Go { doubts } => {
                if !doubts.is_empty() || outcomes.is_empty() {
                    let fields = json!({"url": url, "could_not": doubts, "asked": outcomes.len()});
                    journal::warn("not every member could try this instance's URL", &fields);
                }
                Ok(())
            }
            Verdict::Wait { by } => Err(Obstacle::Wait(Waiting::NotReached { url: url.clone(), by })),
            Verdict::Refuse { by } => Err(Obstacle::Refuse(Refusal::NotTrusted { url: url.clone(), by })),
        }
    }

    /// Removes the dead entry of this instance, by id; one that is gone already is fine.
    pub(super) async fn remove_dead(
        &self,
        plan: &Plan,
        seen: &Observation,
        carried: &mut Carried,
    ) -> Result<(), Obstacle> {
        let Plan::Replace(plan) = plan else { return Ok(()) };
        let mut client = self.client(seen, carried, Step::MemberRemove).await?;
        match client.remove_member(plan.remove).await {
            Ok(()) | Err(EtcdError::MemberNotFound) => {
                let fields = json!({"member_id": plan.remove, "cluster_id": plan.cluster_id});
                journal::info("the dead entry of this instance is removed", &fields);
                carried.client = Some(client);
                Ok(())
            }
            Err(error) => Err(not_accepted(Step::MemberRemove, &error)),
        }
    }

    /// Adds this instance as a learner. Without an answer it may have been added all the same: the next
    /// observation finds the entry and goes on with it.
    pub(super) async fn add(&self, seen: &Observation, carried: &mut Carried) -> Result<(), Obstacle> {
        let mut client = self.client(seen, carried, Step::MemberAdd).await?;
        match client.add_learner(&seen.own.peer_url).await {
            Ok(added) => {
                carried.added = Some(added);
                carried.client = Some(client);
                Ok(())
            }
            Err(EtcdError::PeerUrlExists) => Err(Obstacle::Stale),
            Err(error) => Err(not_accepted(Step::MemberAdd, &error)),
        }
    }

    /// Makes this learner a voter as soon as it has caught up. Ends when it is one, or is no member any
    /// more; the caller stops waiting when etcd ends.
    pub(super) async fn promote(&self, own: MemberId, seen: &Observation) {
        let members = self.serving(seen);
        let (mut pause, mut told, mut looked) = (PROMOTE_FIRST, Instant::now(), Instant::now());
        loop {
            match self.promote_once(own, &members).await {
                Ok(()) | Err(EtcdError::NoLearner) => {
                    journal::info("this member votes", &json!({"member_id": own}));
                    return;
                }
                Err(EtcdError::MemberNotFound) => {
                    let next = "etcd ends by itself; the launcher then asks the cluster";
                    journal::error("the learner was removed", &json!({"member_id": own, "next": next}));
                    return;
                }
                Err(_) if looked.elapsed() < LOOK_EVERY => {}
                Err(error) => {
                    looked = Instant::now();
                    let status = timeout(LOOK_LIMIT, self.own_status()).await.ok().flatten();
                    if status.as_ref().is_some_and(|status| !status.is_learner && status.leader.is_some()) {
                        // Somebody else promoted it, or the disk told of earlier times.
                        return;
                    }
                    let progress = self.catching_up(status, &members).await;
                    self.doors.board.post_catching_up(progress);
                    if told.elapsed() >= TELL_EVERY {
                        told = Instant::now();
                        let fields = json!({"because": error.to_string(), "progress": progress});
                        journal::info("this learner catches up", &fields);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PROMOTE_EVERY);
        }
    }

    async fn promote_once(&self, own: MemberId, members: &[Target]) -> Result<(), EtcdError> {
        self.leader(members).await?.promote(own).await
    }

    async fn own_status(&self) -> Option<Status> {
        let own = reach::own_etcd(self.job);
        let mut own = EtcdClient::connect(&own, self.reach.grpc.clone(), self.limit()).await.ok()?;
        own.status().await.ok()
    }

    /// How far this learner's log reaches, and the leader's.
    async fn catching_up(&self, own: Option<Status>, members: &[Target]) -> Option<CatchingUp> {
        let applied = own?.raft_applied_index;
        let of = self.leader(members).await.ok()?.status().await.ok()?.raft_index;
        Some(CatchingUp { applied, of })
    }

    /// Tells the cluster this member's peer URL, if it lists another one: BOSH gave the instance a new name
    /// or address. Never of a learner (docs/contract.md#promote).
    pub(super) async fn announce(&self, own: MemberId) {
        let url = &self.job.own().peer_url;
        loop {
            let attempt = async {
                let target = reach::own_etcd(self.job);
                let mut client = EtcdClient::connect(&target, self.reach.grpc.clone(), self.limit()).await?;
                let list = client.linearizable_members().await?;
                let entry = list.members.into_iter().find(|member| member.id == own);
                let Some(listed) = entry.filter(|entry| entry.is_voter() && !entry.listens_at(url)) else {
                    return Ok(());
                };
                client.update_peer_url(own, url).await?;
                let fields = json!({"from": listed.peer_urls, "to": url});
                journal::info("the cluster knows this member's new URL", &fields);
                Ok(())
            };
            match attempt.await {
                Ok(()) => return,
                Err(EtcdError::PeerUrlExists) => {
                    let fields = json!({
                        "url": url,
                        "why": "members dial the old URL of this one",
                        "next": "find out with `etcdctl member list` whose it is, and remove that entry if nobody runs it",
                    });
                    journal::error("another member is listed at this instance's URL", &fields);
                    return;
                }
                Err(_) => tokio::time::sleep(ANNOUNCE_EVERY).await,
            }
        }
    }

    /// Where to ask for changes: the leader first, then who answered as healthy, then the rest of the link,
    /// since who did not serve when it was asked may do so now.
    fn serving(&self, seen: &Observation) -> Vec<Target> {
        let (mut leaders, mut followers, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for peer in self.job.others() {
            let answer =
                seen.others.get(&InstanceId(peer.instance.clone())).and_then(|other| other.etcd.got());
            let rank = match answer {
                Some(EtcdAnswer::Healthy(healthy)) if healthy.leader == healthy.answered_by => &mut leaders,
                Some(EtcdAnswer::Healthy(_)) => &mut followers,
                Some(EtcdAnswer::NoLeader { .. } | EtcdAnswer::Learner) | None => &mut rest,
            };
            rank.push(reach::etcd(peer));
        }
        [leaders, followers, rest].concat()
    }

    /// The connection of the step before, or a new one.
    async fn client(
        &self,
        seen: &Observation,
        carried: &mut Carried,
        step: Step,
    ) -> Result<EtcdClient, Obstacle> {
        match carried.client.take() {
            Some(client) => Ok(client),
            None => EtcdClient::connect_to_one_of(&self.serving(seen), &self.reach.grpc, self.limit())
                .await
                .map_err(|error| not_accepted(step, &error)),
        }
    }

    /// A connection to the leader: promotion goes through it (docs/contract.md#promote).
    async fn leader(&self, members: &[Target]) -> Result<EtcdClient, EtcdError> {
        let (tls, limit) = (&self.reach.grpc, self.limit());
        let mut client = EtcdClient::connect_to_one_of(members, tls, limit).await?;
        let status = client.status().await?;
        if status.leader == Some(status.member_id) {
            return Ok(client);
        }
        let list = client.local_members().await?;
        let leader = list.members.iter().find(|member| Some(member.id) == status.leader);
        match leader.and_then(|leader| leader.client_urls.first()) {
            Some(url) => {
                EtcdClient::connect(&Target::named(url.host(), url.port()), tls.clone(), limit).await
            }
            None => Ok(client),
        }
    }

    fn limit(&self) -> Duration {
        self.job.properties.observe_timeout
    }
}

fn healthy(answer: Option<&EtcdAnswer>) -> bool {
    matches!(answer, Some(EtcdAnswer::Healthy(_)))
}

fn not_accepted(step: Step, error: &EtcdError) -> Obstacle {
    Obstacle::Wait(Waiting::NotAccepted { step, why: error.to_string() })
}

fn warn_of_clocks(told: &BTreeMap<InstanceId, Probed>) {
    let now = unix_ms();
    let most = u64::try_from(probe::CLOCK_DRIFT_MAX.as_millis()).unwrap_or(u64::MAX);
    for (instance, probed) in told {
        let apart = now.abs_diff(probed.at_unix_ms);
        if apart > most {
            let fields = json!({
                "instance": instance, "apart_ms": apart,
                "why": "certificates and leases depend on the time",
                "next": "look at the time servers of both VMs",
            });
            journal::warn("the clock of a member differs", &fields);
        }
    }
}
