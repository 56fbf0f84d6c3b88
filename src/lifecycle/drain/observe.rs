//! Looking at the cluster before a stop: through the own member if it serves, else through a survivor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::observation::{Cluster, Life, OnDisk, OwnEntry, Voter};
use crate::datadir::{self, Found};
use crate::etcd::client::{EtcdClient, EtcdError, Membership};
use crate::etcd::connect::Target;
use crate::etcd::http;
use crate::etcd::id::MemberId;
use crate::etcd::member::Member;
use crate::job::config::{JobConfig, Peer};
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::lifecycle::container_start;
use crate::lifecycle::launch::attestation::{PeerState, Progress};

/// What the own disk tells about voters. One that is not mounted or cannot be read tells nothing.
pub fn on_disk(paths: &Paths) -> OnDisk {
    if !container_start::store_is_mounted(paths).unwrap_or(false) {
        return OnDisk::Unknown;
    }
    match datadir::classify(&paths.data_dir(), None) {
        Ok(Found::Empty | Found::Partial { .. }) => OnDisk::NoMember,
        Ok(Found::Data(own)) if own.voters == Some([own.member_id].into()) => OnDisk::OnlyVoter,
        Ok(Found::Data(_) | Found::Damaged { .. } | Found::Foreign { .. }) | Err(_) => OnDisk::Unknown,
    }
}

/// Remembers since when each voter has been missing, over several looks.
#[derive(Debug, Default)]
pub struct Watch {
    missing_since: BTreeMap<MemberId, Instant>,
}

impl Watch {
    /// One look at the cluster.
    pub async fn look(&mut self, job: &JobConfig, reach: &Reach) -> Cluster {
        let limit = job.properties.observe_timeout;
        let (membership, own_serves) = match membership(job, reach, limit).await {
            Ok(found) => found,
            Err(why) => return Cluster::NoQuorum { why },
        };
        let own = own_entry(job, &membership.members);
        let own_id = match own {
            OwnEntry::NotListed => None,
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

fn own_entry(job: &JobConfig, members: &[Member]) -> OwnEntry {
    let own = &job.own().peer_url;
    match members.iter().find(|member| member.peer_urls.contains(own)) {
        None => OwnEntry::NotListed,
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
    Voter { id: member.id, name, life }
}

async fn takes_part(member: &Member, reach: &Reach, limit: Duration) -> Result<(), String> {
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
