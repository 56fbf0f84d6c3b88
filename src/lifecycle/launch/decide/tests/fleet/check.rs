//! What must hold at all times, and what must come once the faults stop.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::step::Step;
use super::Fleet;
use super::cluster::{Cluster, Patch};
use super::disk::{Damage, SimDisk};
use crate::etcd::id::ClusterId;
use crate::job::properties::OnRemovedMember;

/// What is due once the faults stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Due {
    /// Too much is lost, or only an operator can say what is right.
    Nothing,
    /// Somebody serves.
    Service,
    /// Every instance is a voter of the one cluster, and nobody else is a member of it.
    Whole,
}

/// Which clusters serve, and which have enough disks for it.
pub(super) struct Able {
    serving: BTreeSet<ClusterId>,
    at_hand: BTreeSet<ClusterId>,
}

impl Fleet {
    pub(super) fn check(&self) {
        let serving: Vec<ClusterId> = self.serving().into_iter().map(|(id, _)| id).collect();
        let kept: Vec<_> = serving.iter().filter(|id| !self.clusters[id].revived).collect();
        assert!(kept.len() < 2, "two clusters serve: {serving:?}");
        for (id, cluster) in &self.clusters {
            if cluster.revived {
                continue;
            }
            let logs: Vec<_> = self.attached(*id).collect();
            assert!(!cluster.could_forget(&logs), "{id} could serve without what it acknowledged");
            self.check_acknowledged(*id, cluster);
            for (_, log) in logs {
                assert_eq!(cluster.logs.get(&log.member), Some(&log.number), "{} has two logs", log.member);
            }
        }
    }

    /// While a quorum of the voters' disks is there, one of every quorum of them has all entries.
    fn check_acknowledged(&self, id: ClusterId, cluster: &Cluster) {
        let voters = &cluster.config().voters;
        let positions: Vec<usize> = self
            .attached(id)
            .filter(|(_, log)| voters.contains(&log.member))
            .map(|(_, log)| log.position)
            .collect();
        if positions.len() > voters.len() / 2 {
            let behind = positions.iter().filter(|position| **position < cluster.len).count();
            assert!(behind <= voters.len() / 2, "{id} has lost what it acknowledged");
        }
    }

    /// A cluster that serves for the first time finds no data of an earlier one.
    pub(super) fn first_service(&mut self, id: ClusterId) {
        if std::mem::replace(&mut self.clusters.get_mut(&id).expect("it serves").served, true) {
            return;
        }
        let left: Vec<&str> = self
            .instances
            .iter()
            .filter(|instance| !instance.disk.returned)
            .filter(|instance| {
                let log = instance.disk.log.as_ref();
                log.is_some_and(|log| log.cluster != id && self.clusters[&log.cluster].served)
            })
            .map(|instance| instance.name)
            .collect();
        assert!(left.is_empty(), "a second cluster serves while {left:?} have data of the first");
    }

    pub(super) fn able(&self) -> Able {
        Able {
            serving: self.serving().into_iter().map(|(id, _)| id).collect(),
            at_hand: self.clusters.keys().copied().filter(|id| self.has_disks(*id)).collect(),
        }
    }

    fn has_disks(&self, id: ClusterId) -> bool {
        let config = self.clusters[&id].config();
        let logs = self.attached(id).filter(|(_, log)| config.voters.contains(&log.member));
        logs.count() >= config.quorum()
    }

    /// No step of ours costs a cluster its quorum, and none loses data.
    pub(super) fn check_step(&self, index: usize, step: Step, before: &Able) {
        let after = self.able();
        let name = self.instances[index].name;
        let lost: Vec<_> = before.serving.difference(&after.serving).collect();
        assert!(lost.is_empty(), "{step} of {name} ends the service of {lost:?}");
        let lost: Vec<_> = before.at_hand.difference(&after.at_hand).collect();
        assert!(lost.is_empty(), "after {step} of {name} the disks of {lost:?} are no quorum any more");
        self.check();
        if step == Step::MoveAside {
            self.check_kept();
        }
    }

    /// What drain allowed takes no cluster's service away.
    pub(super) fn check_stop(&self, index: usize, served: bool, before: &Able) {
        let after = self.able();
        let lost: Vec<_> = before.serving.difference(&after.serving).collect();
        let name = self.instances[index].name;
        // Who does not serve may stop at any time; and of one or two voters every stop takes the quorum.
        let few = lost.iter().all(|id| self.clusters[id].config().voters.len() <= 2);
        assert!(lost.is_empty() || !served || few, "a stop of {name} ends the service of {lost:?}");
    }

    /// Nor does a member that leaves or is evicted; and the disks of those that stay are a quorum.
    pub(super) fn check_departure(&self, before: &Able) {
        let after = self.able();
        let lost: Vec<_> = before.serving.difference(&after.serving).collect();
        assert!(lost.is_empty(), "a departure ends the service of {lost:?}");
        let lost: Vec<_> = before.at_hand.difference(&after.at_hand).collect();
        assert!(lost.is_empty(), "after a departure the disks of {lost:?} are no quorum any more");
        self.check();
        self.check_kept();
    }

    /// Every log that ever was is on a disk, unless an operator destroyed it.
    pub(in super::super) fn check_kept(&self) {
        let disks = self.instances.iter().flat_map(|instance| instance.drawer.iter().chain([&instance.disk]));
        let disks = disks.chain(&self.orphans);
        let kept: BTreeSet<u64> =
            disks.flat_map(SimDisk::kept).chain(self.destroyed.iter().copied()).collect();
        for cluster in self.clusters.values() {
            for (member, number) in &cluster.logs {
                assert!(kept.contains(number), "the data of {member} is gone");
            }
        }
    }

    /// What must come once the faults stop.
    pub(in super::super) fn due(&self) -> Due {
        let clusters: BTreeMap<&ClusterId, &Cluster> = self
            .clusters
            .iter()
            .filter(|(id, _)| {
                let logs = self.instances.iter().filter_map(|instance| instance.disk.log.as_ref());
                logs.into_iter().any(|log| log.cluster == **id)
            })
            .collect();
        if clusters.len() > 1 || clusters.values().any(|cluster| cluster.revived) {
            return Due::Nothing;
        }
        let Some((id, cluster)) = clusters.first_key_value() else {
            let untouched = self.clusters.is_empty()
                && self
                    .instances
                    .iter()
                    .all(|instance| !instance.mark && !instance.disk.records.tell_of_a_member());
            return if untouched { Due::Whole } else { Due::Nothing };
        };
        let voters = &cluster.config().voters;
        let logs = self.attached(**id).filter(|(_, log)| voters.contains(&log.member)).count();
        // A first boot that is under way can still get members that never had a log.
        let follows = |index: &usize| {
            let instance = &self.instances[*index];
            let disk = &instance.disk;
            let founder = cluster.founders.get(index) == Some(&disk.number);
            let awaited = cluster.at_url(&super::super::world::url(instance.name));
            founder
                && disk.log.is_none()
                && !instance.mark
                && !disk.records.tell_of_a_member()
                && awaited.is_some_and(|member| !cluster.logs.contains_key(&member))
        };
        let followers = (0..self.instances.len()).filter(follows).count();
        if logs == 0 || logs + followers <= voters.len() / 2 {
            return Due::Nothing;
        }
        if self.patch == Patch::Strict && logs + followers + 1 < voters.len() {
            // Two dead voters block the add that would follow the removal of either.
            return Due::Service;
        }
        // An instance that came and went before any voter was told of it: its entry is a stranger's, for an operator.
        let voting = self.attached(**id).filter(|(_, log)| voters.contains(&log.member));
        let known = voting.flat_map(|(index, _)| &self.instances[index].once_in_link);
        let known: BTreeSet<_> = known.map(|name| super::super::world::url(name)).collect();
        if cluster.config().members.values().any(|entry| !known.contains(&entry.url)) {
            return Due::Service;
        }
        // Damage that nobody has found yet changes nothing about that.
        let logs = self.instances.iter().filter_map(|instance| instance.disk.log.as_ref());
        let mut whole = logs.filter(|log| log.cluster == **id && log.damage != Damage::Plain);
        let removed = whole.any(|log| cluster.gone.contains(&log.member));
        if removed && self.policy == OnRemovedMember::Refuse { Due::Service } else { Due::Whole }
    }

    /// Whether every instance is a voter of the one cluster that serves, and nobody else is a member.
    pub(in super::super) fn is_whole(&self) -> bool {
        let Some((id, _)) = self.serving().first().copied() else { return false };
        let config = self.clusters[&id].config();
        let votes = |index: usize| {
            let log = self.running(id, 0).find(|(running, _)| *running == index);
            log.is_some_and(|(_, log)| config.voters.contains(&log.member))
        };
        config.members.len() == self.instances.len() && (0..self.instances.len()).all(votes)
    }
}
