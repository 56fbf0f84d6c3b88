//! Looking around: the own disk and records, then every other instance on its three doors, in parallel
//! and under one deadline. Stops early when no further answer can change the decision.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::attestation::{InstanceId, LinkHash, PeerState};
use super::bring::BackupStore;
use super::decide::depends_on_backups;
use super::observation::{
    Answer, Backup, Disk, DiskData, EtcdAnswer, Healthy, History, MembersAnswer, Observation, Own, Process,
    Seen, Unreachable, Validated,
};
use super::record_files;
use super::validation::Validation;
use crate::datadir::{self, Found};
use crate::etcd::active_peers::{active_peers, heard_peers};
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::connect::Target;
use crate::etcd::http;
use crate::etcd::id::{ClusterId, MemberId};
use crate::etcd::member::Member;
use crate::etcd::version::{EtcdVersion, reads_old_requests};
use crate::job::config::{JobConfig, Peer};
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::lifecycle::container_start;

/// On a restart with data one healthy answer settles the matter, and etcd gives it: the other doors are
/// only knocked at when it took longer than this.
const ETCD_ALONE: Duration = Duration::from_millis(150);
/// The next member is asked only if the one before has not settled the matter by then. To ask all at once
/// makes none of them answer sooner: a handshake with an RSA key costs either side milliseconds of
/// computing, and every further one delays the first (docs/figures.md#launch).
const NEXT_MEMBER_AFTER: Duration = Duration::from_millis(25);

/// What every observation of one launcher has in common.
pub struct Observer<'a> {
    /// The job.
    pub job: &'a JobConfig,
    /// Its files.
    pub paths: &'a Paths,
    /// Its certificates.
    pub reach: &'a Reach,
    /// The version of the etcd binary.
    pub binary: EtcdVersion,
    /// What was found on the disk.
    pub validation: &'a Validation<'a>,
}

/// Which door answered what.
enum Heard {
    Launcher(Box<Answer<PeerState>>),
    Etcd(Answer<EtcdAnswer>),
    Members(Answer<MembersAnswer>),
}

impl Observer<'_> {
    /// One look around. `settled` says when no further answer can change the decision.
    pub async fn observe(&self, settled: impl Fn(&Observation) -> bool) -> anyhow::Result<Observation> {
        let mut seen = self.look_around(settled).await?;
        // Only where everything else is known: nobody who has data waits for a store.
        if depends_on_backups(&seen) {
            seen.backup = BackupStore::of(self.paths).newest().await;
        }
        Ok(seen)
    }

    async fn look_around(&self, settled: impl Fn(&Observation) -> bool) -> anyhow::Result<Observation> {
        let mut seen = self.look_at_own()?;
        if settled(&seen) || seen.others.is_empty() {
            return Ok(seen);
        }
        let deadline = Instant::now() + self.job.properties.observe_timeout;
        let (tell, mut hear) = mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        let mut doors_opened = !matches!(seen.disk, Disk::Data(_));
        self.ask_etcd(&mut tasks, &tell, if doors_opened { Duration::ZERO } else { NEXT_MEMBER_AFTER });
        if doors_opened {
            self.ask_others(&mut tasks, &tell);
        }
        let complete =
            |seen: &Observation, opened: bool| opened && seen.others.values().all(Seen::is_complete);
        while !(settled(&seen) || complete(&seen, doors_opened)) {
            let wait_until = if doors_opened { deadline } else { deadline.min(Instant::now() + ETCD_ALONE) };
            match timeout_at(wait_until, hear.recv()).await {
                Ok(Some((instance, heard))) => note(&mut seen, &instance, heard),
                Ok(None) => break,
                Err(_) if doors_opened => break,
                Err(_) => {}
            }
            let etcd_all_told = seen.others.values().all(|other| !matches!(other.etcd, Answer::Pending));
            if !doors_opened && !settled(&seen) && (etcd_all_told || Instant::now() >= wait_until) {
                doors_opened = true;
                self.ask_others(&mut tasks, &tell);
            }
        }
        if !settled(&seen) {
            seen.others.values_mut().for_each(give_up);
        }
        if needs_the_leader(&seen) {
            self.ask_leaders(&mut seen).await;
        }
        Ok(seen)
    }

    /// Long enough for every live follower to have answered its leader.
    fn several_heartbeats(&self) -> Duration {
        (self.job.properties.etcd.heartbeat_interval * 5).max(Duration::from_secs(1))
    }

    /// Fills in what only a leader knows, in one answer of each cluster: whom it is connected to, and the
    /// version of the cluster. The leader is found by the member list, since it need not be in the link.
    async fn ask_leaders(&self, seen: &mut Observation) {
        let mut asked = BTreeSet::new();
        for other in seen.others.values_mut() {
            let Answer::Got(EtcdAnswer::Healthy(healthy)) = &mut other.etcd else { continue };
            let leader = healthy.members.iter().find(|member| member.id == healthy.leader);
            let Some(url) = leader.and_then(|leader| leader.client_urls.first()) else { continue };
            if !asked.insert(healthy.cluster_id) {
                continue;
            }
            let target = Target::named(url.host(), url.port());
            let (tls, limit) = (&self.reach.http_as_admin, self.job.properties.observe_timeout);
            // Who is not listed removes nobody, so nobody's life is of interest to it.
            let listed = healthy.members.iter().any(|member| member.listens_at(&self.job.own().peer_url));
            let peers = if listed {
                heard_peers(&target, tls.clone(), limit, self.several_heartbeats()).await
            } else {
                active_peers(&target, tls.clone(), limit).await
            };
            // An answer that does not come leaves the question open, which never counts as dead or old.
            healthy.connected = peers.ok();
            healthy.cluster_version = cluster_version(&target, tls.clone(), limit).await;
        }
    }

    /// Disk, records and job of this instance; nobody else has been asked.
    pub fn look_at_own(&self) -> anyhow::Result<Observation> {
        let job = self.job;
        let properties = &job.properties;
        let process = if datadir::in_use(&self.paths.data_dir()).context("test the lock of the database")? {
            Process::Running { pid: None }
        } else {
            Process::Down
        };
        let disk = self.look_at_disk().context("look at the data directory")?;
        Ok(Observation {
            at_unix_secs: unix_secs(),
            own: Own {
                deployment: job.spec.deployment.clone(),
                instance: InstanceId(job.spec.id.clone()),
                peer_url: job.own().peer_url.clone(),
                link: job
                    .instances
                    .iter()
                    .map(|peer| (InstanceId(peer.instance.clone()), peer.peer_url.clone()))
                    .collect(),
                link_hash: LinkHash(job.link_hash()),
                bootstrap: properties.bootstrap_cluster,
                bootstrap_method: properties.bootstrap_method,
                on_removed_member: properties.on_removed_member,
                auto_restore: properties.auto_restore,
                binary: self.binary,
            },
            process,
            records: record_files::read_all(self.paths).context("read the launcher's records")?,
            disk,
            // Asked for only where the rest leads to it.
            backup: Backup::NoStore,
            others: job.others().map(|peer| (InstanceId(peer.instance.clone()), Seen::pending())).collect(),
            confirmed: BTreeSet::new(),
        })
    }

    fn look_at_disk(&self) -> io::Result<Disk> {
        if !container_start::store_is_mounted(self.paths)? {
            return Ok(Disk::Unmounted);
        }
        let history =
            if self.paths.initialised_mark().exists() { History::InitialisedBefore } else { History::Virgin };
        Ok(match datadir::classify(&self.paths.data_dir(), self.paths.wal_dir())? {
            Found::Foreign { names } => Disk::Foreign { names: names.into_iter().collect() },
            Found::Empty => Disk::Empty { history },
            Found::Partial { .. } => Disk::Partial { history },
            Found::Damaged { why, remains } => {
                Disk::Damaged { why: why.to_string(), cluster_id: remains.cluster_id, voters: remains.voters }
            }
            Found::Data(identity) => {
                let cluster_version = identity.cluster_version.and_then(|text| text.parse().ok());
                self.validation.judge(DiskData {
                    cluster_id: identity.cluster_id,
                    member_id: identity.member_id,
                    voters: identity.voters,
                    storage_version: identity.storage_version.and_then(|text| text.parse().ok()),
                    cluster_version,
                    old_request: self.old_request(cluster_version)?,
                    validated: Validated::NotYet,
                })?
            }
        })
    }

    /// Looked for only on the way to a line that does not read them: it takes reading the whole log.
    fn old_request(&self, cluster_version: Option<EtcdVersion>) -> io::Result<Option<u64>> {
        let arrived = cluster_version.is_some_and(|version| version.line() >= self.binary.line());
        if arrived || reads_old_requests(self.binary) {
            return Ok(None);
        }
        datadir::wal::old_request(&datadir::wal::Log::open(&self.paths.log_dir())?)
    }

    fn ask_etcd(
        &self,
        tasks: &mut tokio::task::JoinSet<()>,
        tell: &mpsc::UnboundedSender<(InstanceId, Heard)>,
        apart: Duration,
    ) {
        let limit = self.job.properties.observe_timeout;
        let mut wait = Duration::ZERO;
        for peer in self.job.others() {
            let (target, tls) = (reach::etcd(peer), self.reach.grpc.clone());
            spawn(tasks, tell, peer, async move {
                // Even no time at all would be rounded up to the timer's next millisecond.
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                Heard::Etcd(ask_member(&target, tls, limit).await)
            });
            wait += apart;
        }
    }

    fn ask_others(
        &self,
        tasks: &mut tokio::task::JoinSet<()>,
        tell: &mpsc::UnboundedSender<(InstanceId, Heard)>,
    ) {
        let limit = self.job.properties.observe_timeout;
        for peer in self.job.others() {
            let (target, tls) = (reach::launcher(peer), self.reach.as_peer.clone());
            spawn(tasks, tell, peer, async move {
                Heard::Launcher(Box::new(ask_launcher(&target, tls, limit).await))
            });
            let (target, tls) = (reach::peer_port(peer), self.reach.as_peer.clone());
            spawn(tasks, tell, peer, async move { Heard::Members(ask_peer_port(&target, tls, limit).await) });
        }
    }
}

/// A disk of this release line that starts again needs neither: it was in this cluster with this line
/// before, and it removes nobody.
fn needs_the_leader(seen: &Observation) -> bool {
    match &seen.disk {
        Disk::Data(disk) => disk.cluster_version.is_none_or(|found| found.line() != seen.own.binary.line()),
        Disk::Empty { .. } | Disk::Partial { .. } | Disk::Damaged { .. } => true,
        Disk::Unmounted | Disk::Foreign { .. } => false,
    }
}

/// The version of the cluster, as etcd tells it on `/version`; `None` while undecided or unknown.
async fn cluster_version(target: &Target, tls: Arc<ClientConfig>, limit: Duration) -> Option<EtcdVersion> {
    let answer = http::get(target, "/version", tls, limit).await.ok()?;
    let page: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    page["etcdcluster"].as_str()?.parse().ok()
}

fn spawn(
    tasks: &mut tokio::task::JoinSet<()>,
    tell: &mpsc::UnboundedSender<(InstanceId, Heard)>,
    peer: &Peer,
    question: impl Future<Output = Heard> + Send + 'static,
) {
    let (instance, tell) = (InstanceId(peer.instance.clone()), tell.clone());
    tasks.spawn(async move {
        // Nobody listens any more when the matter was settled without this answer.
        let _ = tell.send((instance, question.await));
    });
}

fn note(seen: &mut Observation, instance: &InstanceId, heard: Heard) {
    let Some(other) = seen.others.get_mut(instance) else { return };
    match heard {
        Heard::Launcher(answer) => other.launcher = *answer,
        Heard::Etcd(answer) => other.etcd = answer,
        Heard::Members(answer) => other.members = answer,
    }
}

fn give_up(other: &mut Seen) {
    if matches!(other.launcher, Answer::Pending) {
        other.launcher = Answer::Failed(Unreachable::Timeout);
    }
    if matches!(other.etcd, Answer::Pending) {
        other.etcd = Answer::Failed(Unreachable::Timeout);
    }
    if matches!(other.members, Answer::Pending) {
        other.members = Answer::Failed(Unreachable::Timeout);
    }
}

async fn ask_member(target: &Target, tls: Arc<ClientConfig>, limit: Duration) -> Answer<EtcdAnswer> {
    match healthy(target, tls, limit).await {
        Ok(healthy) => Answer::Got(EtcdAnswer::Healthy(healthy)),
        Err(EtcdError::Learner) => Answer::Got(EtcdAnswer::Learner),
        Err(EtcdError::NoLeader(why)) => Answer::Got(EtcdAnswer::NoLeader { why }),
        // After a cold start without quorum gRPC connects and then hangs: somebody is there.
        Err(EtcdError::Timeout(_)) => Answer::Failed(Unreachable::Timeout),
        Err(EtcdError::Connect(error)) => Answer::Failed(Unreachable::from(&error)),
        Err(EtcdError::Auth(why)) => Answer::Failed(Unreachable::Auth { why }),
        Err(error) => Answer::Failed(Unreachable::Protocol { why: error.to_string() }),
    }
}

/// Asks one member whether its cluster serves, and whom it consists of.
pub async fn healthy(target: &Target, tls: Arc<ClientConfig>, limit: Duration) -> Result<Healthy, EtcdError> {
    let mut client = EtcdClient::connect(target, tls, limit).await?;
    let membership = client.linearizable_members().await?;
    let status = client.status().await?;
    let leader = status.leader.ok_or_else(|| EtcdError::NoLeader("it lost its leader".to_owned()))?;
    let server: Option<EtcdVersion> = status.version.parse().ok();
    Ok(Healthy {
        cluster_id: membership.cluster_id,
        answered_by: membership.answered_by,
        leader,
        members: membership.members,
        cluster_version: None,
        servers: server.map(|version| (status.member_id, version)).into_iter().collect(),
        connected: None,
    })
}

async fn ask_launcher(target: &Target, tls: Arc<ClientConfig>, limit: Duration) -> Answer<PeerState> {
    match http::get(target, "/state", tls, limit).await {
        Ok(answer) if answer.status == 200 => peer_state(&answer.body),
        Ok(answer) => {
            Answer::Failed(Unreachable::Protocol { why: format!("/state answered {}", answer.status) })
        }
        Err(error) => Answer::Failed(Unreachable::from(&error)),
    }
}

fn peer_state(page: &[u8]) -> Answer<PeerState> {
    match serde_json::from_slice(page) {
        Ok(Some(state)) => Answer::Got(state),
        // It serves its pages before it has looked around.
        Ok(None) => Answer::Failed(Unreachable::Undecided),
        Err(error) => Answer::Failed(Unreachable::Protocol { why: format!("/state: {error}") }),
    }
}

async fn ask_peer_port(target: &Target, tls: Arc<ClientConfig>, limit: Duration) -> Answer<MembersAnswer> {
    match http::get(target, "/members", tls, limit).await {
        Ok(answer) => match members_answer(&answer) {
            Ok(members) => Answer::Got(members),
            Err(why) => Answer::Failed(Unreachable::Protocol { why }),
        },
        Err(error) => Answer::Failed(Unreachable::from(&error)),
    }
}

/// etcd's own JSON: ids in decimal, empty fields left out (seen with 3.5.30 and 3.6.16).
#[derive(Deserialize)]
struct RawMember {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
}

fn members_answer(answer: &http::Answer) -> Result<MembersAnswer, String> {
    if answer.status != 200 {
        return Err(format!("/members answered {}", answer.status));
    }
    let cluster_id: ClusterId = answer
        .cluster_id
        .as_deref()
        .ok_or("/members answered without a cluster id")?
        .parse()
        .map_err(|error: crate::etcd::id::Malformed| error.to_string())?;
    let raw: Vec<RawMember> =
        serde_json::from_slice(&answer.body).map_err(|error| format!("/members: {error}"))?;
    let members = raw.into_iter().map(member).collect::<Result<_, _>>()?;
    Ok(MembersAnswer { cluster_id, members })
}

fn member(raw: RawMember) -> Result<Member, String> {
    let malformed = |error: crate::etcd::id::Malformed| format!("/members: {error}");
    Ok(Member {
        id: MemberId(raw.id),
        name: Some(raw.name).filter(|name| !name.is_empty()),
        peer_urls: raw
            .peer_urls
            .iter()
            .map(|url| url.parse())
            .collect::<Result<_, _>>()
            .map_err(malformed)?,
        client_urls: raw
            .client_urls
            .iter()
            .map(|url| url.parse())
            .collect::<Result<_, _>>()
            .map_err(malformed)?,
        is_learner: raw.is_learner,
    })
}

/// Now, in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// Now, in seconds since 1970.
pub fn unix_secs() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, cluster_id: Option<&str>, body: &str) -> http::Answer {
        http::Answer { status, cluster_id: cluster_id.map(str::to_owned), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_launcher_that_has_only_just_started_has_decided_nothing() {
        assert_eq!(peer_state(b"null"), Answer::Failed(Unreachable::Undecided));
        assert!(matches!(peer_state(b"{}"), Answer::Failed(Unreachable::Protocol { .. })));
    }

    #[test]
    fn the_peer_ports_member_list_is_read_as_etcd_writes_it() {
        let body = r#"[{"id":9372538179322589801,"peerURLs":["https://a:2380"],"name":"a","clientURLs":["https://a:2379"]},
                       {"id":1,"peerURLs":["https://b:2380"],"isLearner":true}]"#;

        let members = members_answer(&answer(200, Some("cdf818194e3a8c32"), body)).unwrap();

        assert_eq!(members.cluster_id.to_string(), "cdf818194e3a8c32");
        assert_eq!(members.members[0].name.as_deref(), Some("a"));
        assert_eq!((members.members[1].name.as_ref(), members.members[1].is_learner), (None, true));
    }

    #[test]
    fn what_is_no_member_list_is_not_understood_rather_than_believed() {
        for wrong in [
            answer(404, Some("a"), "[]"),
            answer(200, None, "[]"),
            answer(200, Some("x"), "[]"),
            answer(200, Some("a"), "{}"),
            answer(200, Some("a"), r#"[{"id":1,"peerURLs":["nonsense"]}]"#),
        ] {
            assert!(members_answer(&wrong).is_err(), "{wrong:?}");
        }
    }
}
