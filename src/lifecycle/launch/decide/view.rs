//! The answers of all instances, sorted by what they say about clusters.

use std::collections::{BTreeMap, BTreeSet};

use super::refusal::Answering;
use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::etcd::member::{Member, voters};
use crate::etcd::version::{EtcdVersion, Incompatible, may_join, may_open};
use crate::lifecycle::launch::attestation::{DiskClass, InstanceId, PeerState};
use crate::lifecycle::launch::observation::{
    Answer, Connected, EtcdAnswer, Healthy, MembersAnswer, Observation, Seen, Unreachable,
};

/// The answers of all other instances.
pub(super) struct View<'a> {
    others: &'a BTreeMap<InstanceId, Seen>,
}

impl<'a> View<'a> {
    pub(super) fn of(seen: &'a Observation) -> Self {
        Self { others: &seen.others }
    }

    /// Every healthy answer.
    pub(super) fn healthy(&self) -> impl Iterator<Item = (&'a InstanceId, &'a Healthy)> {
        self.others.iter().filter_map(|(instance, seen)| match seen.etcd.got() {
            Some(EtcdAnswer::Healthy(healthy)) => Some((instance, healthy)),
            Some(EtcdAnswer::NoLeader { .. } | EtcdAnswer::Learner) | None => None,
        })
    }

    /// The healthy answers of one cluster.
    pub(super) fn cluster(&self, id: ClusterId) -> Cluster<'a> {
        Cluster { answers: self.healthy().filter(|(_, healthy)| healthy.cluster_id == id).collect() }
    }

    /// Every answer of a peer port.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a InstanceId, &'a MembersAnswer)> {
        self.others.iter().filter_map(|(instance, seen)| Some((instance, seen.members.got()?)))
    }

    /// Every launcher's answer.
    pub(super) fn states(&self) -> impl Iterator<Item = (&'a InstanceId, &'a PeerState)> {
        self.others.iter().filter_map(|(instance, seen)| Some((instance, seen.launcher.got()?)))
    }

    /// Which clusters have quorum, and who says so.
    pub(super) fn serving(&self) -> Answering {
        gather(self.healthy().map(|(instance, healthy)| (healthy.cluster_id, instance)))
    }

    /// Which clusters' etcds answer at all, with or without quorum. What a launcher says about a disk
    /// does not count: nothing runs on it.
    pub(super) fn answering(&self) -> Answering {
        let healthy = self.healthy().map(|(instance, healthy)| (healthy.cluster_id, instance));
        let members = self.members().map(|(instance, answer)| (answer.cluster_id, instance));
        gather(healthy.chain(members))
    }

    /// Who does not answer on the launcher's door, and why.
    pub(super) fn silent(&self) -> BTreeMap<InstanceId, Unreachable> {
        self.others
            .iter()
            .filter_map(|(instance, seen)| Some((instance.clone(), seen.launcher.failed()?.clone())))
            .collect()
    }

    /// Who has data or runs etcd without quorum, in a few words each.
    pub(super) fn with_data(&self) -> BTreeMap<InstanceId, String> {
        self.others
            .iter()
            .filter_map(|(instance, seen)| Some((instance.clone(), data_words(seen)?)))
            .collect()
    }

    /// What each instance's etcd said instead of being healthy, in a few words each.
    pub(super) fn unhealthy(&self) -> BTreeMap<InstanceId, String> {
        self.others.iter().map(|(instance, seen)| (instance.clone(), etcd_words(seen))).collect()
    }
}

fn gather<'a>(pairs: impl Iterator<Item = (ClusterId, &'a InstanceId)>) -> Answering {
    let mut found = Answering::new();
    for (cluster, instance) in pairs {
        found.entry(cluster).or_default().insert(instance.clone());
    }
    found
}

fn data_words(seen: &Seen) -> Option<String> {
    if let Some(answer) = seen.members.got() {
        return Some(format!("cluster {} without a leader", answer.cluster_id));
    }
    match seen.etcd.got() {
        Some(EtcdAnswer::NoLeader { why }) => return Some(format!("no leader: {why}")),
        Some(EtcdAnswer::Learner) => return Some("a learner".to_owned()),
        Some(EtcdAnswer::Healthy(_)) | None => {}
    }
    let state = seen.launcher.got()?;
    match (state.disk, state.cluster_id) {
        (DiskClass::Data, Some(cluster)) => Some(format!("data of cluster {cluster}, {}", state.plan)),
        (DiskClass::Data, None) => Some(format!("data, {}", state.plan)),
        (DiskClass::Damaged, _) => Some("damaged data".to_owned()),
        (DiskClass::Unmounted | DiskClass::Foreign | DiskClass::Empty | DiskClass::Partial, _) => None,
    }
}

fn etcd_words(seen: &Seen) -> String {
    match &seen.etcd {
        Answer::Got(EtcdAnswer::Healthy(healthy)) => format!("cluster {}", healthy.cluster_id),
        Answer::Got(EtcdAnswer::NoLeader { .. }) => "no leader".to_owned(),
        Answer::Got(EtcdAnswer::Learner) => "a learner".to_owned(),
        Answer::Failed(why) => why.to_string(),
        Answer::Pending => "not yet".to_owned(),
    }
}

/// Whether the binary's minor release is the one that this disk's cluster already runs. If it is, no
/// other member can be on a patch from which the step to it is not supported: the step has been made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It is.
    Kept,
    /// It is not, or the disk does not tell.
    Changed,
}

/// The healthy answers of one cluster.
pub(super) struct Cluster<'a> {
    answers: Vec<(&'a InstanceId, &'a Healthy)>,
}

impl<'a> Cluster<'a> {
    pub(super) fn is_healthy(&self) -> bool {
        !self.answers.is_empty()
    }

    /// The answer to go by where they hardly differ: the leader's own, else any.
    pub(super) fn spokesman(&self) -> Option<(&'a InstanceId, &'a Healthy)> {
        self.answers
            .iter()
            .find(|(_, healthy)| healthy.answered_by == healthy.leader)
            .or(self.answers.first())
            .copied()
    }

    /// The first answer that lists this id, with the entry. Answers of one moment can straddle a
    /// change; who is listed by any is not taken for removed.
    pub(super) fn entry_of_id(&self, id: MemberId) -> Option<(&'a InstanceId, &'a Healthy, &'a Member)> {
        self.entry(|member| member.id == id)
    }

    /// The same by peer URL.
    pub(super) fn entry_of_url(&self, url: &PeerUrl) -> Option<(&'a InstanceId, &'a Healthy, &'a Member)> {
        self.entry(|member| member.listens_at(url))
    }

    fn entry(&self, is_it: impl Fn(&Member) -> bool) -> Option<(&'a InstanceId, &'a Healthy, &'a Member)> {
        self.answers.iter().find_map(|(instance, healthy)| {
            let member = healthy.members.iter().find(|member| is_it(member))?;
            Some((*instance, *healthy, member))
        })
    }

    /// Those answers that settle whether the binary fits, whatever else is answered.
    pub(super) fn sure_of(&self, binary: EtcdVersion, line: Line) -> Self {
        let sure = |healthy: &Healthy| match (healthy.cluster_version, line) {
            (Some(version), _) if version.line() == binary.line() => true,
            (Some(version), Line::Kept) => may_open(binary, version).is_ok(),
            (None, Line::Kept) => true,
            (Some(_) | None, Line::Changed) => false,
        };
        Self { answers: self.answers.iter().copied().filter(|(_, healthy)| sure(healthy)).collect() }
    }

    /// Whether the binary may run in this cluster.
    pub(super) fn fits(&self, binary: EtcdVersion, line: Line) -> Result<(), Incompatible> {
        if self.sure_of(binary, line).is_healthy() {
            return Ok(());
        }
        let mut opened = self
            .answers
            .iter()
            .map(|(_, healthy)| healthy.cluster_version.map_or(Ok(()), |found| may_open(binary, found)));
        let first = opened.next().unwrap_or(Ok(()));
        if first.is_err() && !opened.any(|answer| answer.is_ok()) {
            return first;
        }
        may_join(binary, None, self.servers().values().copied())
    }

    /// All server versions that any answer knows.
    fn servers(&self) -> BTreeMap<MemberId, EtcdVersion> {
        self.answers.iter().flat_map(|(_, healthy)| healthy.servers.clone()).collect()
    }

    /// The lowest known server version: what the strictest member would demand.
    pub(super) fn lowest_server(&self) -> Option<EtcdVersion> {
        let versions: BTreeSet<EtcdVersion> = self.servers().into_values().collect();
        versions.first().copied()
    }

    /// Whether the leader is connected to `id`; `None` if the leader did not tell. A member that the
    /// leader never was connected to since its own start is not in its metric: that is "down".
    pub(super) fn connected(&self, id: MemberId) -> Option<Connected> {
        if self.answers.iter().any(|(_, healthy)| healthy.answered_by == id || healthy.leader == id) {
            return Some(Connected::Up);
        }
        let (_, leader) = self.answers.iter().find(|(_, healthy)| healthy.connected.is_some())?;
        let connected = leader.connected.as_ref()?;
        Some(connected.get(&id).copied().unwrap_or(Connected::Down))
    }

    /// All voters but `id`, split by whether the leader is connected to them.
    pub(super) fn other_voters(&self, id: MemberId) -> (BTreeSet<MemberId>, BTreeSet<MemberId>) {
        let all = self.spokesman().map(|(_, healthy)| voters(&healthy.members)).unwrap_or_default();
        all.into_iter()
            .filter(|voter| *voter != id)
            .partition(|voter| self.connected(*voter) == Some(Connected::Up))
    }
}
