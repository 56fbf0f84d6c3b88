//! What a launcher of the fleet sees.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::first_boot;
use super::super::super::plan::Plan;
use super::super::world::*;
use super::cluster::Role;
use super::dice::Dice;
use super::disk::{Damage, Log};
use super::{ETCD_SEES_LATE, Etcd, Fleet, Sabotage};
use crate::etcd::id::{ClusterId, MemberId};
use crate::etcd::version::EtcdVersion;
use crate::lifecycle::launch::attestation::{LinkHash, PeerState};
use crate::lifecycle::launch::observation::{
    Answer, Connected, Disk, DiskData, EtcdAnswer, Healthy, History, MembersAnswer, Observation, Seen,
    Unreachable, Validated,
};

const CLUSTER_VERSION: EtcdVersion = EtcdVersion::new(3, 6, 0);

impl Fleet {
    /// Disk and records of an instance; nobody else has been asked.
    pub(in super::super) fn own_view(&self, index: usize) -> Observation {
        let instance = &self.instances[index];
        let mut seen = lonely();
        seen.own.instance = id(instance.name);
        seen.own.peer_url = url(instance.name);
        seen.own.link = self.link(index).map(|(_, name)| (id(name), url(name))).collect();
        seen.own.link_hash = self.link_hash(index);
        seen.own.binary = self.patch.version();
        seen.own.bootstrap = self.flag;
        seen.own.bootstrap_method = self.method;
        seen.own.on_removed_member = self.policy;
        seen.records = instance.disk.records.clone();
        seen.disk = self.disk(index);
        seen.others = self.link(index).map(|(_, name)| (id(name), Seen::pending())).collect();
        seen.others.remove(&id(instance.name));
        seen
    }

    fn disk(&self, index: usize) -> Disk {
        let instance = &self.instances[index];
        let history = if instance.mark { History::InitialisedBefore } else { History::Virgin };
        let voters = |log: &Log| Some(self.clusters[&log.cluster].config_at(log.position)?.voters.clone());
        let checked =
            |log: &Log| instance.process.as_ref().is_some_and(|process| process.checked == Some(log.number));
        match &instance.disk.log {
            Some(log) if log.damage == Damage::Plain && self.sabotage != Some(Sabotage::StartsDamaged) => {
                Disk::Damaged { why: "torn page 7".to_owned(), cluster_id: None, voters: None }
            }
            Some(log) if log.damage == Damage::Hidden && checked(log) => Disk::Damaged {
                why: "two records of revision 7".to_owned(),
                cluster_id: Some(log.cluster),
                voters: voters(log),
            },
            Some(log) => Disk::Data(DiskData {
                cluster_id: log.cluster,
                member_id: log.member,
                voters: voters(log),
                validated: if checked(log) {
                    Validated::Usable { repairs: Vec::new() }
                } else {
                    Validated::NotYet
                },
                storage_version: None,
                old_request: None,
                cluster_version: (log.position > 0).then_some(CLUSTER_VERSION),
            }),
            None if instance.disk.partial => Disk::Partial { history },
            None => Disk::Empty { history },
        }
    }

    fn link_hash(&self, index: usize) -> LinkHash {
        LinkHash(format!("{} instances", self.instances[index].link))
    }

    /// The instances that this one was told of.
    pub(super) fn link(&self, index: usize) -> impl Iterator<Item = (usize, &'static str)> {
        self.instances.iter().map(|instance| instance.name).take(self.instances[index].link).enumerate()
    }

    /// What another instance says on its three doors, now.
    pub(super) fn answer(&mut self, asking: usize, asked: usize) -> Seen {
        let other = &self.instances[asked];
        if other.side != self.instances[asking].side {
            return failing(&Unreachable::Timeout);
        }
        let Some(process) = &other.process else { return silent() };
        let nothing = || Answer::Failed(Unreachable::Protocol { why: "nothing to tell yet".to_owned() });
        let mut answer = silent();
        answer.launcher = process.board.clone().map_or_else(nothing, Answer::Got);
        let (Etcd::Runs, Some(log)) = (other.etcd, other.disk.intact()) else { return answer };
        let (cluster_id, member) = (log.cluster, log.member);
        let cluster = &self.clusters[&cluster_id];
        let members = cluster.list_at(log.known.max(log.position));
        answer.members = Answer::Got(MembersAnswer { cluster_id, members });
        answer.etcd = match (self.leader(cluster_id, other.side), cluster.config().members.get(&member)) {
            (Some(_), Some(entry)) if entry.role == Role::Learner => Answer::Got(EtcdAnswer::Learner),
            (Some(leader), Some(_)) => Answer::Got(EtcdAnswer::Healthy(Healthy {
                cluster_id,
                answered_by: member,
                leader: self.instances[leader].disk.intact().expect("it leads").member,
                members: cluster.list_at(cluster.len),
                cluster_version: None,
                servers: [(member, self.patch.version())].into(),
                connected: None,
            })),
            (None, _) | (_, None) => Answer::Failed(Unreachable::Timeout),
        };
        if let Answer::Got(EtcdAnswer::Healthy(_)) = &answer.etcd {
            // It answers a linearizable read only with everything that is committed.
            self.catch_up(asked);
        }
        answer
    }

    /// Fills in what only leaders know, after everybody has answered.
    pub(super) fn ask_leaders(&self, asking: usize, seen: &mut Observation, dice: &mut Dice) {
        let same_line = matches!(&seen.disk, Disk::Data(disk) if disk.cluster_version.is_some());
        let mut asked = BTreeSet::new();
        for other in seen.others.values_mut() {
            let Answer::Got(EtcdAnswer::Healthy(healthy)) = &mut other.etcd else { continue };
            if same_line || !asked.insert(healthy.cluster_id) {
                continue;
            }
            let side = self.instances[asking].side;
            let leader = self
                .running(healthy.cluster_id, side)
                .find(|(_, log)| log.member == healthy.leader)
                .map(|(index, _)| index);
            healthy.connected = leader.map(|leader| self.connections(healthy.cluster_id, leader, dice));
            healthy.cluster_version = leader.map(|_| CLUSTER_VERSION);
        }
    }

    /// Whom a member is connected to, says its metric: it notices an end within two seconds.
    fn connections(&self, id: ClusterId, leader: usize, dice: &mut Dice) -> BTreeMap<MemberId, Connected> {
        let mut connected = BTreeMap::new();
        for (index, instance) in self.instances.iter().enumerate() {
            let Some(log) = instance.disk.intact().filter(|log| log.cluster == id) else { continue };
            if index == leader || !self.clusters[&id].config().members.contains_key(&log.member) {
                continue;
            }
            let up = instance.etcd == Etcd::Runs && instance.side == self.instances[leader].side;
            // Both sides of the connection take their time.
            let just = instance.changed.max(self.instances[leader].changed) + ETCD_SEES_LATE;
            let seen = if self.now < just && dice.one_in(2) { !up } else { up };
            let is = if seen { Connected::Up } else { Connected::Down };
            connected.insert(log.member, is);
        }
        connected
    }

    /// What its launcher shows while it carries out `plan`.
    pub(super) fn state(&self, index: usize, plan: &Plan) -> PeerState {
        let (disk, records) = (self.disk(index), &self.instances[index].disk.records);
        let planned = match plan {
            Plan::Bootstrap(plan) => Some(plan.record()),
            _ => None,
        };
        PeerState {
            nonce: first_boot::attested(&disk, records).cloned(),
            disk: disk.class(),
            bootstrap_method: self.method,
            bootstrap: records.bootstrap.clone().or(planned),
            cluster_id: disk.cluster_id(),
            link_hash: self.link_hash(index),
            plan: plan.name().to_owned(),
            ..state(self.instances[index].name)
        }
    }
}
