//! What the live voters attest, and who is silent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;

use super::decide::{Attested, Seen, suspects};
use crate::etcd::active_peers::{Connected, active_peers};
use crate::etcd::client::EtcdClient;
use crate::etcd::connect::{ConnectError, Target};
use crate::etcd::id::{MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::lifecycle::drain::observe::takes_part;
use crate::lifecycle::launch::attestation::PeerState;
use crate::lifecycle::launch::links;
use crate::lifecycle::launcher_page;

/// What one entry of the member list turned out to be.
enum Entry {
    /// A live voter, with what its launcher remembers of its links.
    Attests(Attested, BTreeSet<PeerUrl>),
    /// A live voter that does not tell.
    Unattested,
    /// A learner, or a voter that takes no part; with those of its URLs whose launcher is silent.
    Other(BTreeSet<PeerUrl>),
}

/// One look; `None` = each entry has its instance in this instance's link.
pub async fn look(
    paths: &Paths,
    job: &JobConfig,
    reach: &Reach,
    a_minute_ago: BTreeSet<MemberId>,
) -> anyhow::Result<Option<Seen>> {
    let limit = job.properties.observe_timeout;
    let mut client = EtcdClient::connect(&reach::own_etcd(job), reach.grpc.clone(), limit).await?;
    let list = client.linearizable_members().await?;
    let link = job.instances.iter().map(|peer| peer.peer_url.clone()).collect();
    if suspects(&list.members, &link).is_empty() {
        return Ok(None);
    }
    let mut questions = tokio::task::JoinSet::new();
    for member in list.members.clone() {
        let question = Question {
            own: (member.id == list.answered_by).then(|| (reach::own_etcd(job), reach::own_launcher(job))),
            launcher_port: job.properties.launcher_port,
            members: list.members.iter().map(|member| member.id).collect(),
            reach: reach.clone(),
            limit,
            member,
        };
        questions.spawn(async move { (question.member.id, question.ask().await) });
    }
    let mut seen = Seen {
        own: list.answered_by,
        members: list.members,
        live_voters: BTreeMap::new(),
        unattested: BTreeSet::new(),
        once_in_link: links::read(paths).context("read which links there were")?,
        launcher_silent: BTreeSet::new(),
        a_minute_ago,
    };
    for (id, entry) in questions.join_all().await {
        match entry {
            Entry::Attests(attested, once_in_link) => {
                seen.live_voters.insert(id, attested);
                seen.once_in_link.extend(once_in_link);
            }
            Entry::Unattested => {
                seen.unattested.insert(id);
            }
            Entry::Other(silent) => seen.launcher_silent.extend(silent),
        }
    }
    Ok(Some(seen))
}

/// Everything needed to ask about one entry.
struct Question {
    member: Member,
    /// The own etcd and launcher, if the entry is this member's.
    own: Option<(Target, Target)>,
    launcher_port: u16,
    members: BTreeSet<MemberId>,
    reach: Reach,
    limit: Duration,
}

impl Question {
    async fn ask(&self) -> Entry {
        if self.member.is_voter() && takes_part(&self.member, &self.reach, self.limit).await.is_ok() {
            return match self.attested().await {
                Some((attested, once_in_link)) => Entry::Attests(attested, once_in_link),
                None => Entry::Unattested,
            };
        }
        let mut silent = BTreeSet::new();
        for url in &self.member.peer_urls {
            let answer = launcher_page(&self.launcher_at(url), "/state", &self.reach, self.limit).await;
            if answer.is_err_and(|error| is_silence(&error)) {
                silent.insert(url.clone());
            }
        }
        Entry::Other(silent)
    }

    async fn attested(&self) -> Option<(Attested, BTreeSet<PeerUrl>)> {
        let url = self.member.peer_urls.first()?;
        let launcher = self.own.as_ref().map_or_else(|| self.launcher_at(url), |own| own.1.clone());
        let page = launcher_page(&launcher, "/state", &self.reach, self.limit).await.ok()?;
        let state: PeerState = serde_json::from_slice(&page.body).ok()?;
        if state.peer_urls.is_disjoint(&self.member.peer_urls) {
            return None;
        }
        let etcd = match &self.own {
            Some(own) => own.0.clone(),
            None => self.member.client_urls.first().map(|url| Target::named(url.host(), url.port()))?,
        };
        let peers = active_peers(&etcd, self.reach.http_as_admin.clone(), self.limit).await.ok()?;
        let disconnected = self
            .members
            .iter()
            .filter(|id| **id != self.member.id && peers.get(id) != Some(&Connected::Up))
            .copied()
            .collect();
        let attested = Attested { link_hash: state.link_hash.0, link: state.link, disconnected };
        Some((attested, state.once_in_link))
    }

    fn launcher_at(&self, url: &PeerUrl) -> Target {
        Target::named(url.host(), self.launcher_port)
    }
}

/// A failed handshake means that somebody is there.
fn is_silence(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused
        | ConnectError::Timeout(_)
        | ConnectError::Dns(_)
        | ConnectError::Network(_) => true,
        ConnectError::Tls(_) | ConnectError::Untrusted(_) => false,
    }
}
