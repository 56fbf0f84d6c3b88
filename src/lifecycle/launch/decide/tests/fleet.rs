//! Instances, disks, etcd and an operator, as far as deciding needs them: a model to simulate in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::honest::honest;
use super::super::plan::{Bootstrap, Plan};
use super::super::step::Step;
use super::super::{decide, first_boot};
use super::world::*;
use crate::etcd::id::{ClientUrl, ClusterId, MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::job::properties::BootstrapFlag;
use crate::lifecycle::launch::attestation::{Nonce, PeerState};
use crate::lifecycle::launch::observation::{
    Answer, Disk, DiskData, EtcdAnswer, Healthy, History, MembersAnswer, Observation, Seen, Unreachable,
};
use crate::lifecycle::launch::records::{BootPhase, Records};

/// Reproducible randomness: the splitmix64 generator.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }

    pub(super) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// A disk: what is on it, and which physical disk it is.
#[derive(Clone, Default)]
pub(super) struct SimDisk {
    number: u64,
    member: Option<(ClusterId, MemberId)>,
    pub(super) records: Records,
}

/// What an instance is busy with.
pub(super) enum Busy {
    Down,
    /// Gathering answers; these are still to be asked.
    Observing(Box<Observation>, Vec<usize>),
    /// Carrying out a plan.
    Acting(VecDeque<Step>, Plan),
    /// etcd's parent.
    Running,
    Paused,
}

pub(super) struct Instance {
    pub(super) disk: SimDisk,
    pub(super) mark: bool,
    busy: Busy,
    etcd: bool,
    /// Cut off from everybody else.
    cut_off: bool,
}

/// What a cluster's members agree on; known to the model only.
pub(super) struct Cluster {
    members: BTreeMap<MemberId, PeerUrl>,
    published: BTreeSet<MemberId>,
    /// The disk on which each member has its log.
    logs: BTreeMap<MemberId, u64>,
    /// The disks that its first boot counts on, by instance.
    founders: BTreeMap<usize, u64>,
    served: bool,
}

pub(super) struct Fleet {
    names: Vec<&'static str>,
    flag: BootstrapFlag,
    pub(super) instances: Vec<Instance>,
    pub(super) clusters: BTreeMap<ClusterId, Cluster>,
    disks_made: u64,
    pub(super) story: Vec<String>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.story.len().saturating_sub(60);
            eprintln!("what happened last:\n  {}", self.story[from..].join("\n  "));
        }
    }
}

impl Fleet {
    pub(super) fn new(size: usize) -> Self {
        let mut fleet = Self {
            names: ["a", "b", "c", "d", "e"][..size].to_vec(),
            flag: BootstrapFlag::On,
            instances: Vec::new(),
            clusters: BTreeMap::new(),
            disks_made: 0,
            story: Vec::new(),
        };
        for _ in 0..size {
            let disk = fleet.fresh_disk();
            let busy = Busy::Down;
            fleet.instances.push(Instance { disk, mark: false, busy, etcd: false, cut_off: false });
        }
        fleet
    }

    pub(super) fn fresh_disk(&mut self) -> SimDisk {
        self.disks_made += 1;
        SimDisk { number: self.disks_made, ..SimDisk::default() }
    }

    fn tell(&mut self, index: usize, what: &str) {
        self.story.push(format!("{}: {what}", self.names[index]));
    }

    // --- What can be seen.

    fn serves(&self, id: ClusterId) -> bool {
        let running = self.running(id).filter(|index| !self.instances[*index].cut_off).count();
        self.clusters.get(&id).is_some_and(|cluster| running > cluster.members.len() / 2)
    }

    fn running(&self, id: ClusterId) -> impl Iterator<Item = usize> {
        let runs = move |instance: &Instance| {
            instance.etcd && instance.disk.member.is_some_and(|(cluster, _)| cluster == id)
        };
        (0..self.instances.len()).filter(move |index| runs(&self.instances[*index]))
    }

    pub(super) fn own_view(&self, index: usize) -> Observation {
        let instance = &self.instances[index];
        let history = if instance.mark { History::InitialisedBefore } else { History::Virgin };
        let mut seen = lonely();
        seen.own.instance = id(self.names[index]);
        seen.own.peer_url = url(self.names[index]);
        seen.own.link = self.names.iter().map(|name| (id(name), url(name))).collect();
        seen.own.bootstrap = self.flag;
        seen.records = instance.disk.records.clone();
        seen.disk = match instance.disk.member {
            None => Disk::Empty { history },
            Some((cluster_id, member_id)) => Disk::Data(DiskData {
                cluster_id,
                member_id,
                voters: Some(self.clusters[&cluster_id].members.keys().copied().collect()),
                storage_version: None,
                cluster_version: None,
            }),
        };
        seen.others = BTreeMap::new();
        seen
    }

    fn answer(&self, asking: usize, asked: usize) -> Seen {
        let other = &self.instances[asked];
        if other.cut_off || self.instances[asking].cut_off {
            return failing(&Unreachable::Timeout);
        }
        if matches!(other.busy, Busy::Down) {
            return silent();
        }
        let mut answer = silent();
        answer.launcher = Answer::Got(self.state(asked));
        if let (true, Some((cluster_id, member_id))) = (other.etcd, other.disk.member) {
            let members = self.list(cluster_id);
            answer.etcd = if self.serves(cluster_id) {
                Answer::Got(EtcdAnswer::Healthy(Healthy {
                    cluster_id,
                    answered_by: member_id,
                    leader: member_id,
                    members: members.clone(),
                    cluster_version: None,
                    servers: BTreeMap::new(),
                    connected: None,
                }))
            } else {
                Answer::Failed(Unreachable::Timeout)
            };
            answer.members = Answer::Got(MembersAnswer { cluster_id, members });
        }
        answer
    }

    fn list(&self, id: ClusterId) -> Vec<Member> {
        let cluster = &self.clusters[&id];
        let entry = |(id, url): (&MemberId, &PeerUrl)| {
            let published = cluster.published.contains(id);
            let client = ClientUrl::https(url.host(), 2379);
            Member {
                id: *id,
                name: Some(url.host().to_owned()),
                peer_urls: [url.clone()].into(),
                client_urls: published.then_some(client).into_iter().collect(),
                is_learner: false,
            }
        };
        cluster.members.iter().map(entry).collect()
    }

    fn state(&self, index: usize) -> PeerState {
        let seen = self.own_view(index);
        let planned = match &self.instances[index].busy {
            Busy::Acting(_, Plan::Bootstrap(plan)) => Some(plan.record()),
            Busy::Acting(..) | Busy::Down | Busy::Observing(..) | Busy::Running | Busy::Paused => None,
        };
        PeerState {
            nonce: first_boot::attested(&seen.disk, &seen.records).cloned(),
            disk: seen.disk.class(),
            bootstrap: seen.records.bootstrap.clone().or(planned),
            cluster_id: seen.disk.cluster_id(),
            ..state(self.names[index])
        }
    }

    // --- What happens.

    /// One moment of one instance.
    pub(super) fn go_on(&mut self, index: usize, dice: &mut Dice) {
        match std::mem::replace(&mut self.instances[index].busy, Busy::Paused) {
            Busy::Down => self.instances[index].busy = Busy::Down,
            Busy::Running => {
                self.finish_boot(index);
                self.instances[index].busy = Busy::Running;
            }
            Busy::Paused => {
                let ask = (0..self.instances.len()).filter(|other| *other != index).collect();
                self.instances[index].busy = Busy::Observing(Box::new(self.own_view(index)), ask);
            }
            Busy::Observing(mut seen, mut ask) => {
                if ask.is_empty() {
                    let decision = honest(decide(&seen));
                    self.tell(index, &format!("row {} {}", decision.row, decision.plan.name()));
                    let steps = decision.plan.steps().into();
                    self.instances[index].busy = Busy::Acting(steps, decision.plan);
                } else {
                    let asked = ask.swap_remove(dice.below(ask.len()));
                    let answer = self.answer(index, asked);
                    seen.others.insert(id(self.names[asked]), answer);
                    self.instances[index].busy = Busy::Observing(seen, ask);
                }
            }
            Busy::Acting(mut steps, plan) => {
                if let Some(step) = steps.pop_front() {
                    self.take(index, step, &plan, dice);
                    self.instances[index].busy = Busy::Acting(steps, plan);
                } else if self.instances[index].etcd {
                    self.instances[index].busy = Busy::Running;
                }
            }
        }
        self.publish();
    }

    fn take(&mut self, index: usize, step: Step, plan: &Plan, dice: &mut Dice) {
        let instance = &mut self.instances[index];
        let records = &mut instance.disk.records;
        match (step, plan) {
            (Step::WriteNonce, _) => {
                let mut random = [0; 16];
                random[..8].copy_from_slice(&dice.next().to_be_bytes());
                records.nonce = Some(Nonce::of(random));
            }
            (Step::WriteBootstrapRecord, Plan::Bootstrap(plan)) => records.bootstrap = Some(plan.record()),
            (Step::CompleteBootstrapRecord, _) => {
                if let Some(record) = &mut records.bootstrap {
                    record.phase = BootPhase::Running;
                }
            }
            (Step::RemoveExitRecord, _) => records.exit = None,
            (Step::WriteInitialisedMark, _) => instance.mark = true,
            (Step::WriteConfiguration, _) => {}
            (Step::Spawn, Plan::Bootstrap(plan)) => self.found(index, plan),
            (Step::Spawn, Plan::Start(_)) => instance.etcd = true,
            (step, plan) => panic!("{step} of {}", plan.name()),
        }
    }

    /// etcd with the state `new` on a disk without a member.
    fn found(&mut self, index: usize, plan: &Bootstrap) {
        let number = self.instances[index].disk.number;
        assert_eq!(self.instances[index].disk.member, None, "founded on top of data");
        let founders = self.founders(plan);
        let cluster = self.clusters.entry(plan.cluster_id).or_insert_with(|| Cluster {
            members: plan
                .members
                .values()
                .map(|url| (MemberId::bootstrapped(&[url.clone()].into(), plan.token.as_str()), url.clone()))
                .collect(),
            published: BTreeSet::new(),
            logs: BTreeMap::new(),
            founders,
            served: false,
        });
        assert!(cluster.members.contains_key(&plan.member_id), "a member of another cluster");
        let log = cluster.logs.entry(plan.member_id).or_insert(number);
        assert_eq!(*log, number, "member {} is back on another disk", plan.member_id);
        self.instances[index].disk.member = Some((plan.cluster_id, plan.member_id));
        self.instances[index].etcd = true;
        self.tell(index, &format!("founded {}", plan.cluster_id));
    }

    /// The disks of a first boot, as far as they are still there.
    fn founders(&self, plan: &Bootstrap) -> BTreeMap<usize, u64> {
        let disks = self.instances.iter().zip(&self.names).enumerate();
        disks
            .filter(|(_, (instance, name))| {
                plan.nonces.get(&id(name)) == instance.disk.records.nonce.as_ref()
            })
            .map(|(index, (instance, _))| (index, instance.disk.number))
            .collect()
    }

    /// A launcher whose etcd runs has taken the steps behind the start long ago.
    fn finish_boot(&mut self, index: usize) {
        self.instances[index].mark = true;
        if let Some(record) = &mut self.instances[index].disk.records.bootstrap {
            record.phase = BootPhase::Running;
        }
    }

    /// Clusters with quorum publish their running members; two that served are one too many.
    fn publish(&mut self) {
        let serving: Vec<ClusterId> = self.clusters.keys().copied().filter(|id| self.serves(*id)).collect();
        assert!(serving.len() <= 1, "two clusters serve: {serving:?}");
        for id in serving {
            let running: Vec<usize> = self.running(id).collect();
            let members: Vec<MemberId> = running
                .iter()
                .filter_map(|index| self.instances[*index].disk.member.map(|(_, member)| member))
                .collect();
            let cluster = self.clusters.get_mut(&id).expect("it serves");
            cluster.published.extend(members);
            cluster.served = true;
            let left: Vec<&str> = self
                .instances
                .iter()
                .zip(&self.names)
                .filter_map(|(instance, name)| Some((instance.disk.member?.0, name)))
                .filter(|(other, _)| *other != id && self.clusters[other].served)
                .map(|(_, name)| *name)
                .collect();
            assert!(left.is_empty(), "a second cluster serves while {left:?} have data of the first");
        }
    }

    pub(super) fn stop(&mut self, index: usize) {
        self.instances[index].busy = Busy::Down;
        self.instances[index].etcd = false;
    }

    /// Whether the records say that a member ran here.
    fn has_run(&self, index: usize) -> bool {
        self.instances[index].disk.records.tell_of_a_member()
    }

    /// Something goes wrong, or somebody does something.
    pub(super) fn mishap(&mut self, dice: &mut Dice) {
        let index = dice.below(self.instances.len());
        let what = match dice.below(13) {
            0..=3 => {
                self.stop(index);
                "killed"
            }
            4..=7 => {
                if matches!(self.instances[index].busy, Busy::Down) {
                    self.instances[index].busy = Busy::Paused;
                }
                "started"
            }
            8 => {
                self.stop(index);
                self.instances[index].disk = self.fresh_disk();
                "lost its disk"
            }
            9 => {
                self.stop(index);
                self.instances[index].mark = false;
                "recreated"
            }
            10 if self.has_run(index) => {
                // `rm -rf member`, as etcd's own pages advise: the records stay.
                self.stop(index);
                let number = self.fresh_disk().number;
                let disk = &mut self.instances[index].disk;
                (disk.number, disk.member) = (number, None);
                "lost its member directory"
            }
            10 | 11 => {
                self.instances[index].cut_off = !self.instances[index].cut_off;
                "cut off or connected"
            }
            _ => {
                self.flag =
                    if self.flag == BootstrapFlag::On { BootstrapFlag::Off } else { BootstrapFlag::On };
                "bootstrap switched"
            }
        };
        self.tell(index, what);
    }

    /// No more faults: everybody runs, everybody is connected.
    pub(super) fn calm(&mut self, dice: &mut Dice) {
        self.flag = BootstrapFlag::On;
        for index in 0..self.instances.len() {
            self.instances[index].cut_off = false;
            if matches!(self.instances[index].busy, Busy::Down) {
                self.instances[index].busy = Busy::Paused;
            }
        }
        for _ in 0..self.instances.len() * 60 {
            let index = dice.below(self.instances.len());
            self.go_on(index, dice);
        }
    }

    /// Whether the fleet must serve now: a cluster still has a quorum of its disks, a first boot can
    /// still get one, or nobody ever had anything to lose.
    pub(super) fn must_serve(&self) -> bool {
        let at_hand = |id: &ClusterId, cluster: &Cluster| {
            let has_log = |instance: &Instance| match instance.disk.member {
                Some((of, member)) => of == *id && cluster.logs.get(&member) == Some(&instance.disk.number),
                None => false,
            };
            let may_follow = |index: usize, instance: &Instance| {
                let disk = &instance.disk;
                disk.member.is_none() && !instance.mark && cluster.founders.get(&index) == Some(&disk.number)
            };
            let logs = self.instances.iter().filter(|instance| has_log(instance)).count();
            let followers = self
                .instances
                .iter()
                .enumerate()
                .filter(|(index, instance)| may_follow(*index, instance))
                .count();
            // Somebody must have begun: only then is there anybody to follow.
            logs > 0 && logs + followers > cluster.members.len() / 2
        };
        let untouched = self.clusters.is_empty() && self.instances.iter().all(|instance| !instance.mark);
        untouched || self.clusters.iter().any(|(id, cluster)| at_hand(id, cluster))
    }

    pub(super) fn anybody_serves(&self) -> bool {
        self.clusters.keys().any(|id| self.serves(*id))
    }
}
