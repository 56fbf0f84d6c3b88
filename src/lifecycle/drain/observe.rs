//! Looking at the cluster before a stop: through the own member if it serves, else through a survivor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::observation::{
    Call, Cluster, DiskNext, Life, OnDisk, Override, OwnEntry, Script, StopSeen, Voter,
};
use crate::datadir::{self, Found};
use crate::etcd::client::{EtcdClient, EtcdError, Membership};
use crate::etcd::connect::Target;
use crate::etcd::http;
use crate::etcd::id::{MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::job::config::{JobConfig, Peer};
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::lifecycle::container_start;
use crate::lifecycle::intent::Intent;
use crate::lifecycle::launch::attestation::{PeerState, Progress};

/// What BOSH says about this stop; the same at every look.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Which script asks.
    pub script: Script,
    /// What for.
    pub call: Call,
    /// The next states.
    pub intent: Option<Intent>,
    /// The disk, which only drain is told.
    pub disk: DiskNext,
}

/// Who looks, and what was seen before.
pub struct Eyes<'a> {
    /// The job's files.
    pub paths: &'a Paths,
    /// The job.
    pub job: &'a JobConfig,
    /// Its certificates.
    pub reach: &'a Reach,
    /// What BOSH says.
    pub asked: Asked,
    watch: Watch,
}

impl<'a> Eyes<'a> {
    /// Nothing was seen before.
    pub fn new(paths: &'a Paths, job: &'a JobConfig, reach: &'a Reach, asked: Asked) -> Self {
        Self { paths, job, reach, asked, watch: Watch::default() }
    }

    /// One look at everything the stop table asks about.
    pub async fn look(&mut self) -> StopSeen {
        let Asked { script, call, intent, disk } = self.asked;
        let on_disk = on_disk(self.paths);
        StopSeen {
            script,
            call,
            intent,
            disk,
            own_disk: self.job.spec.persistent_disk > 0,
            forced: forced(self.paths),
            cluster: self.watch.look(self.job, self.reach, on_disk.member()).await,
            on_disk,
        }
    }
}

/// Whether the operator laid the file that overrides refusals and holds.
fn forced(paths: &Paths) -> Override {
    if paths.force_leave().exists() { Override::ForceLeave } else { Override::None }
}

/// What the own disk tells about members. One that is not mounted or cannot be read tells nothing.
fn on_disk(paths: &Paths) -> OnDisk {
    if !container_start::store_is_mounted(paths).unwrap_or(false) {
        return OnDisk::Unknown;
    }
    match datadir::classify(&paths.data_dir(), paths.wal_dir()) {
        Ok(Found::Empty | Found::Partial { .. }) => OnDisk::NoMember,
        Ok(Found::Data(own)) if own.voters == Some([own.member_id].into()) => {
            OnDisk::OnlyVoter(own.member_id)
        }
        Ok(Found::Data(own)) => OnDisk::Member(own.member_id),
        Ok(Found::Damaged { .. } | Found::Foreign { .. }) | Err(_) => OnDisk::Unknown,
    }
}

/// Remembers since when each voter has been missing, over several looks.
#[derive(Debug, Default)]
struct Watch {
    missing_since: BTreeMap<MemberId, Instant>,
}

impl Watch {
    /// One look at the cluster; `on_disk` is the member on the own disk.
    async fn look(&mut self, job: &JobConfig, reach: &Reach, on_disk: Option<MemberId>) -> Cluster {
        let limit = job.properties.observe_timeout;
        let (membership, own_serves) = match membership(job, reach, limit).await {
            Ok(found) => found,
            Err(why) => return Cluster::NoQuorum { why },
        };
        // The own etcd knows best who it is; its disk is read while it may be writing.
        let known = if own_serves { Some(membership.answered_by) } else { on_disk };
        let own = own_entry(known, &job.own().peer_url, &membership.members);
        let own_id = match own {
            OwnEntry::NotListed | OwnEntry::Stranger(_) => None,
            OwnEntry::NeverStarted(id) | OwnEntry::Learner(id) | OwnEntry::Voter(id) => Some(id),
        };
        let mut questions = tokio::task::JoinSet::new();
        for member in
            membership.members.into_iter().filter(|member| !member.is_learner && Some(member.id) != own_id)
        {
            let peer = job.instances.iter().find(|peer| member.peer_urls.contains(&peer.peer_url)).cloned();
            let reach = reach.clone();
            questions.spawn(async move { ask(member, peer, &reach, limit).await });
        }
        let mut others = questions.join_all().await;
        others.sort_by_key(|voter| voter.id);
        for voter in &mut others {
            self.note(voter);
        }
        Cluster::Serves { own, own_serves, others }
    }

    fn note(&mut self, voter: &mut Voter) {
        match &mut voter.life {
            Life::Alive => {
                self.missing_since.remove(&voter.id);
            }
            Life::Missing { for_so_long, .. } => {
                *for_so_long = self.missing_since.entry(voter.id).or_insert_with(Instant::now).elapsed();
            }
        }
    }
}

/// The fenced member list, and whether the own member gave it.
async fn membership(job: &JobConfig, reach: &Reach, limit: Duration) -> Result<(Membership, bool), String> {
    let own = reach::own_etcd(job);
    let mut whys = match fenced(&own, reach, limit).await {
        Ok(membership) => return Ok((membership, true)),
        Err(error) => vec![format!("this member: {error}")],
    };
    let mut questions = tokio::task::JoinSet::new();
    for peer in job.others() {
        let (instance, target, reach) = (peer.instance.clone(), reach::etcd(peer), reach.clone());
        questions.spawn(async move { (instance, fenced(&target, &reach, limit).await) });
    }
    for (instance, answer) in questions.join_all().await {
        match answer {
            Ok(membership) => return Ok((membership, false)),
            Err(error) => whys.push(format!("{instance}: {error}")),
        }
    }
    Err(whys.join("; "))
}

async fn fenced(target: &Target, reach: &Reach, limit: Duration) -> Result<Membership, EtcdError> {
    EtcdClient::connect(target, reach.grpc.clone(), limit).await?.linearizable_members().await
}

/// The own entry: by id where the id is known, since a renamed instance has another URL than the list;
/// else by the URL (docs/contract.md#own-entry).
fn own_entry(known: Option<MemberId>, url: &PeerUrl, members: &[Member]) -> OwnEntry {
    let at_url = members.iter().find(|member| member.listens_at(url));
    let own = match known {
        Some(id) => members.iter().find(|member| member.id == id),
        None => at_url,
    };
    match own {
        None => at_url.map_or(OwnEntry::NotListed, |other| OwnEntry::Stranger(other.id)),
        Some(member) if member.is_learner => OwnEntry::Learner(member.id),
        Some(member) if !member.has_published() => OwnEntry::NeverStarted(member.id),
        Some(member) => OwnEntry::Voter(member.id),
    }
}

async fn ask(member: Member, peer: Option<Peer>, reach: &Reach, limit: Duration) -> Voter {
    let name =
        peer.as_ref().map(|peer| peer.instance.clone()).or_else(|| member.name.clone()).unwrap_or_default();
    let life = match takes_part(&member, reach, limit).await {
        Ok(()) => Life::Alive,
        Err(why) => {
            let recovering = match &peer {
                Some(peer) => is_recovering(peer, reach, limit).await,
                None => false,
            };
            Life::Missing { why, for_so_long: Duration::ZERO, recovering }
        }
    };
    Voter { id: member.id, name, client_url: member.client_urls.first().cloned(), life }
}

/// Whether a member answers as itself and knows the leader; otherwise what it said instead.
pub async fn takes_part(member: &Member, reach: &Reach, limit: Duration) -> Result<(), String> {
    let url = member.client_urls.first().ok_or("it never told where clients reach it")?;
    let target = Target::named(url.host(), url.port());
    let mut client =
        EtcdClient::connect(&target, reach.grpc.clone(), limit).await.map_err(|error| error.to_string())?;
    let status = client.status().await.map_err(|error| error.to_string())?;
    if status.member_id != member.id {
        return Err(format!("member {} answers in its place", status.member_id));
    }
    if status.leader.is_some() { Ok(()) } else { Err("it knows no leader".to_owned()) }
}

async fn is_recovering(peer: &Peer, reach: &Reach, limit: Duration) -> bool {
    let answer = http::get(&reach::launcher(peer), "/state", reach.as_peer.clone(), limit).await;
    answer.ok().and_then(|answer| serde_json::from_slice::<PeerState>(&answer.body).ok()).is_some_and(
        |state| matches!(state.progress, Progress::New | Progress::Progress) && state.plan != "wait",
    )
}

/// Whether the rest of the link serves without this instance: asked by post-start.
pub async fn others_serve(job: &JobConfig, reach: &Reach) -> bool {
    let limit = job.properties.observe_timeout;
    let mut questions = tokio::task::JoinSet::new();
    for peer in job.others() {
        let (target, reach) = (reach::etcd(peer), reach.clone());
        questions.spawn(async move { fenced(&target, &reach, limit).await });
    }
    // One fenced list is proof of a quorum: nobody has to count.
    questions.join_all().await.iter().any(Result::is_ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::id::ClientUrl;

    fn listed(id: u64, host: &str, published: bool, is_learner: bool) -> Member {
        Member {
            id: MemberId(id),
            name: None,
            peer_urls: [PeerUrl::https(host, 2380)].into(),
            client_urls: published.then(|| ClientUrl::https(host, 2379)).into_iter().collect(),
            is_learner,
        }
    }

    #[test]
    fn the_own_entry_is_found_by_the_id_on_the_disk_and_only_without_one_by_the_url() {
        let own = PeerUrl::https("a", 2380);
        let id = |number| Some(MemberId(number));
        let of = |known, members: &[Member]| own_entry(known, &own, members);
        let b = || listed(2, "b", true, false);

        assert_eq!(of(id(1), &[listed(1, "a", true, false), b()]), OwnEntry::Voter(MemberId(1)));
        // Renamed: the list has the old URL.
        assert_eq!(of(id(1), &[listed(1, "old", true, false), b()]), OwnEntry::Voter(MemberId(1)));
        assert_eq!(of(id(1), &[b()]), OwnEntry::NotListed);
        // Somebody else's entry under our URL is not ours, whatever kind it is.
        assert_eq!(of(id(1), &[listed(9, "a", true, false), b()]), OwnEntry::Stranger(MemberId(9)));
        assert_eq!(of(id(1), &[listed(9, "a", false, true), b()]), OwnEntry::Stranger(MemberId(9)));
        // And ours stays ours, even if another one has taken its URL.
        let (renamed, usurper) = (listed(1, "old", true, false), listed(9, "a", true, false));
        assert_eq!(of(id(1), &[renamed, usurper]), OwnEntry::Voter(MemberId(1)));

        assert_eq!(of(None, &[listed(1, "a", true, false), b()]), OwnEntry::Voter(MemberId(1)));
        assert_eq!(of(None, &[listed(1, "a", false, false), b()]), OwnEntry::NeverStarted(MemberId(1)));
        assert_eq!(of(None, &[listed(1, "a", false, true), b()]), OwnEntry::Learner(MemberId(1)));
        assert_eq!(of(None, &[b()]), OwnEntry::NotListed);
    }
}
