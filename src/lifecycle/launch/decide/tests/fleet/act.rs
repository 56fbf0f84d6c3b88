//! How a launcher of the fleet takes the steps of a plan: as `act.rs` and `membership.rs` do.

use std::collections::VecDeque;

use super::super::super::plan::{Aside, AsideReason, Bootstrap, Plan};
use super::super::super::step::Step;
use super::super::world::id;
use super::cluster::{Cluster, Entry, Lease, Role};
use super::dice::Dice;
use super::disk::{Damage, Log};
use super::{Busy, CONNECTED_FOR, Etcd, Fleet, Instance, LEASE, PAUSE, Sabotage, Turn};
use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::job::properties::{BootstrapMethod, OnRemovedMember};
use crate::lifecycle::launch::attestation::Nonce;
use crate::lifecycle::launch::observation::{EtcdAnswer, Observation, Seen};
use crate::lifecycle::launch::records::{BootPhase, Ending, JoinPhase, JoinRecord, RECORD_VERSION};

/// A plan that is being carried out.
pub(super) struct Acting {
    steps: VecDeque<Step>,
    plan: Plan,
    seen: Box<Observation>,
    /// The id that `member add` answered.
    added: Option<MemberId>,
    /// etcd was started and has no log yet.
    starting: bool,
}

impl Acting {
    /// The member that was started and has no log yet.
    pub(super) fn starting(&self) -> Option<MemberId> {
        self.member().map(|(_, member)| member).filter(|_| self.starting)
    }

    pub(super) fn new(plan: Plan, seen: Box<Observation>) -> Self {
        Self { steps: plan.steps().into(), plan, seen, added: None, starting: false }
    }

    /// The cluster and the member that this plan starts.
    fn member(&self) -> Option<(ClusterId, MemberId)> {
        match &self.plan {
            Plan::Start(plan) => Some((plan.cluster_id, plan.member_id)),
            Plan::Bootstrap(plan) => Some((plan.cluster_id, plan.member_id)),
            Plan::ResumeJoin(plan) => Some((plan.cluster_id, plan.member_id)),
            Plan::Join(plan) => Some((plan.cluster_id, self.added?)),
            Plan::Replace(plan) => Some((plan.cluster_id, self.added?)),
            Plan::Refuse
            | Plan::Wait(_)
            | Plan::Validate
            | Plan::Rejoin(_)
            | Plan::MoveAside(_)
            | Plan::Restore(_) => None,
        }
    }

    fn cluster(&self) -> ClusterId {
        match &self.plan {
            Plan::Join(plan) => plan.cluster_id,
            Plan::ResumeJoin(plan) => plan.cluster_id,
            Plan::Replace(plan) => plan.cluster_id,
            Plan::Start(plan) => plan.cluster_id,
            other => panic!("plan {} asks no cluster", other.name()),
        }
    }

    fn url(&self) -> &PeerUrl {
        &self.seen.own.peer_url
    }

    /// A member never starts beside another history that it has seen serving.
    fn check_history(&self, own: ClusterId) {
        let healthy = |answer: &Seen| match answer.etcd.got() {
            Some(EtcdAnswer::Healthy(healthy)) => Some(healthy.cluster_id),
            Some(EtcdAnswer::NoLeader { .. } | EtcdAnswer::Learner) | None => None,
        };
        let serving: Vec<ClusterId> = self.seen.others.values().filter_map(healthy).collect();
        assert!(serving.is_empty() || serving.contains(&own), "a member of {own} starts beside {serving:?}");
    }

    fn aside(&self) -> Aside {
        let aside = match &self.plan {
            Plan::Rejoin(aside) | Plan::MoveAside(aside) => Some(*aside),
            Plan::Bootstrap(plan) => plan.clear,
            Plan::Join(plan) => plan.clear,
            Plan::ResumeJoin(plan) => plan.clear,
            Plan::Replace(plan) => plan.clear,
            Plan::Refuse | Plan::Wait(_) | Plan::Validate | Plan::Start(_) | Plan::Restore(_) => None,
        };
        aside.expect("the plan moves something aside")
    }
}

/// How a step went.
enum Taken {
    Done,
    /// Not yet: the step waits.
    Again,
    /// The plan ends: look again.
    Over,
}

impl Fleet {
    pub(super) fn act_on(&mut self, index: usize, mut acting: Acting, dice: &mut Dice) -> Busy {
        if acting.starting {
            return self.first_log(index, acting);
        }
        let Some(step) = acting.steps.pop_front() else {
            self.count(acting.plan.name());
            let pause = dice.below(PAUSE);
            let idle = matches!(acting.plan, Plan::Refuse | Plan::Wait(_));
            return match self.instances[index].etcd {
                Etcd::Runs => Busy::Running,
                Etcd::Down => Busy::Pausing(if idle { self.now + pause as u64 } else { 0 }),
            };
        };
        // These can cost a cluster its quorum, or a member its data.
        let risky = matches!(step, Step::MoveAside | Step::MemberRemove | Step::MemberAdd | Step::Promote);
        let before = risky.then(|| self.able());
        let taken = self.take(index, step, &mut acting, dice);
        if let Some(before) = before {
            self.check_step(index, step, &before);
        }
        match taken {
            Taken::Done => {
                if step == Step::WriteJoinStarted || step == Step::CompleteBootstrapRecord {
                    self.post(index, &acting.plan);
                }
            }
            Taken::Again => acting.steps.push_front(step),
            Taken::Over => {
                self.tell(index, || format!("stops at {step}"));
                return Busy::Pausing(0);
            }
        }
        Busy::Acting(Box::new(acting))
    }

    fn take(&mut self, index: usize, step: Step, acting: &mut Acting, dice: &mut Dice) -> Taken {
        let now = self.now;
        let records = &mut self.instances[index].disk.records;
        match (step, &acting.plan) {
            (Step::TakeMutex, _) => return self.take_turn(index, acting),
            (Step::MemberRemove, Plan::Replace(plan)) => {
                let remove = plan.remove;
                return self.remove_dead(index, acting, remove, dice);
            }
            (Step::MemberAdd, _) => return self.add(index, acting, dice),
            (Step::Promote, _) => return self.promote(index, acting, dice),
            (Step::ReleaseMutex, _) => self.end_turn(index),
            (Step::MoveAside, _) => self.move_aside(index, acting.aside()),
            // The own URL never changes here, and who reaches a member reaches its launcher: nothing to do.
            (Step::AnnouncePeerUrl | Step::ProbePeers | Step::WriteConfiguration, _) => {}
            (Step::RetireRecords, _) => {
                (records.nonce, records.bootstrap, records.join, records.exit) = (None, None, None, None);
            }
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
            (Step::WriteJoinIntent | Step::WriteJoinAnswer, _) => {
                let answered = step == Step::WriteJoinAnswer;
                records.join = Some(JoinRecord {
                    version: RECORD_VERSION,
                    cluster_id: acting.cluster(),
                    peer_url: acting.url().clone(),
                    member_id: acting.member().map(|(_, member)| member).filter(|_| answered),
                    phase: if answered { JoinPhase::Added } else { JoinPhase::Intended },
                });
            }
            (Step::WriteJoinStarted | Step::WriteJoinPromoted, _) => {
                if let Some(record) = &mut records.join {
                    let started = step == Step::WriteJoinStarted;
                    record.phase = if started { JoinPhase::Started } else { JoinPhase::Promoted };
                }
            }
            (Step::RemoveExitRecord, _) => records.exit = None,
            (Step::Validate, _) => return self.validate(index),
            (Step::WriteInitialisedMark, _) => self.instances[index].mark = true,
            (Step::Spawn, Plan::Start(plan)) => {
                acting.check_history(plan.cluster_id);
                assert!(self.instances[index].disk.intact().is_some(), "etcd starts on damaged data");
                self.instances[index].etcd = Etcd::Runs;
                self.instances[index].changed = now;
            }
            (Step::SeedData, Plan::Bootstrap(plan)) => {
                let (cluster, member) = (plan.cluster_id, plan.member_id);
                self.found(plan);
                let founding = self.clusters[&cluster].founding();
                self.give_log(index, cluster, member, (founding, founding));
                self.count("seeded");
            }
            (Step::Spawn, Plan::Bootstrap(plan)) if plan.method == BootstrapMethod::Seeded => {
                acting.check_history(plan.cluster_id);
                self.instances[index].etcd = Etcd::Runs;
                self.instances[index].changed = now;
            }
            (Step::Spawn, _) => {
                self.instances[index].disk.partial = true;
                acting.starting = true;
            }
            (step, plan) => panic!("{step} of {}", plan.name()),
        }
        Taken::Done
    }

    // --- The cluster is asked.

    /// The leader, if it is reached through anybody of the link.
    fn ask(&self, index: usize, id: ClusterId) -> Option<usize> {
        let (side, link) = (self.instances[index].side, self.instances[index].link);
        let reached = self.running(id, side).any(|(other, _)| other < link);
        if reached { self.leader(id, side) } else { None }
    }

    fn put_off(&mut self, index: usize, why: &'static str) -> Taken {
        self.count(why);
        self.tell(index, || why.to_owned());
        self.end_turn(index);
        Taken::Over
    }

    fn take_turn(&mut self, index: usize, acting: &Acting) -> Taken {
        let (id, now) = (acting.cluster(), self.now);
        let process = self.instances[index].process.as_ref().expect("it acts");
        if process.turn.is_some_and(|turn| turn.until > now + CONNECTED_FOR) {
            return Taken::Done;
        }
        if self.ask(index, id).is_none() {
            return self.put_off(index, "nobody to ask");
        }
        let until = now + LEASE;
        // What a launcher here has left is gone on with.
        let noted = self.instances[index].noted.filter(|turn| turn.cluster == id && turn.until > now);
        let grant = noted.map_or_else(|| self.number(), |turn| turn.grant);
        let cluster = self.clusters.get_mut(&id).expect("it serves");
        if cluster.lease.as_ref().is_some_and(|lease| lease.holder != grant) {
            return self.put_off(index, "the mutex is held");
        }
        cluster.lease = Some(Lease { holder: grant, until });
        let turn = Some(Turn { cluster: id, grant, until });
        self.instances[index].noted = turn;
        self.instances[index].process.as_mut().expect("it acts").turn = turn;
        Taken::Over
    }

    /// Gives the mutex back, if the cluster can be told.
    pub(super) fn end_turn(&mut self, index: usize) {
        if let Some(process) = &mut self.instances[index].process {
            process.turn = None;
        }
        if let Some(turn) = self.instances[index].noted
            && self.ask(index, turn.cluster).is_some()
        {
            self.give_back(index);
        }
    }

    /// Gives the mutex back, if it is certainly still ours.
    pub(super) fn give_back(&mut self, index: usize) {
        let now = self.now;
        let Some(turn) = self.instances[index].noted.take().filter(|turn| turn.until > now) else { return };
        let cluster = self.clusters.get_mut(&turn.cluster).expect("it was held there");
        if let Some(lease) = cluster.lease.take() {
            assert_eq!(lease.holder, turn.grant, "somebody else's mutex was given back");
        }
    }

    fn remove_dead(&mut self, index: usize, acting: &Acting, remove: MemberId, dice: &mut Dice) -> Taken {
        let id = acting.cluster();
        let Some(leader) = self.ask(index, id) else {
            return self.put_off(index, "nobody to ask");
        };
        let cluster = &self.clusters[&id];
        if !cluster.config().members.contains_key(&remove) {
            return Taken::Done;
        }
        if !self.lets_go(id, leader, remove) {
            return self.put_off(index, "a removal is refused");
        }
        let side = self.instances[leader].side;
        let alive = self.running(id, 0).chain(self.running(id, 1)).any(|(_, log)| log.member == remove);
        assert!(!alive, "{remove} is alive and replaced");
        self.tell(index, || format!("removes {remove}"));
        self.commit_change(id, side, dice, |members| {
            members.remove(&remove);
        });
        if dice.one_in(10) { self.put_off(index, "an answer is lost") } else { Taken::Done }
    }

    fn add(&mut self, index: usize, acting: &mut Acting, dice: &mut Dice) -> Taken {
        let id = acting.cluster();
        let Some(leader) = self.ask(index, id) else {
            return self.put_off(index, "nobody to ask");
        };
        let cluster = &self.clusters[&id];
        if cluster.at_url(acting.url()).is_some() {
            return Taken::Over;
        }
        if cluster.has_learner() {
            return self.put_off(index, "too many learners");
        }
        if !cluster.takes_one_more(&self.connected(id, leader), self.patch) {
            return self.put_off(index, "an add is refused");
        }
        let side = self.instances[leader].side;
        let (member, url) = (MemberId(0xadd_0000 + self.number()), acting.url().clone());
        self.tell(index, || format!("is added as {member}"));
        self.commit_change(id, side, dice, |members| {
            members.insert(member, Entry { url, role: Role::Learner, named: false });
        });
        if dice.one_in(10) {
            return self.put_off(index, "an answer is lost");
        }
        acting.added = Some(member);
        Taken::Done
    }

    fn promote(&mut self, index: usize, acting: &Acting, dice: &mut Dice) -> Taken {
        let (id, member) = acting.member().expect("it was started");
        let Some(leader) = self.ask(index, id) else { return Taken::Again };
        let cluster = &self.clusters[&id];
        match cluster.config().members.get(&member) {
            None | Some(Entry { role: Role::Voter, .. }) => return Taken::Done,
            Some(Entry { role: Role::Learner, .. }) => {}
        }
        let position = self.instances[index].disk.intact().expect("etcd runs on it").position;
        if !cluster.promotes(position) {
            return Taken::Again;
        }
        self.tell(index, || format!("{member} votes"));
        let side = self.instances[leader].side;
        self.commit_change(id, side, dice, |members| {
            if let Some(entry) = members.get_mut(&member) {
                entry.role = Role::Voter;
            }
        });
        // Whether the answer comes or is lost, the next attempt says that it votes.
        Taken::Again
    }

    // --- The own disk.

    fn validate(&mut self, index: usize) -> Taken {
        let instance = &mut self.instances[index];
        let log = instance.disk.log.as_ref().expect("there is data");
        let found = log.damage;
        instance.process.as_mut().expect("it acts").checked = Some(log.number);
        if found == Damage::Hidden {
            self.count("hidden damage is found");
        }
        if found == Damage::None { Taken::Done } else { Taken::Over }
    }

    fn move_aside(&mut self, index: usize, aside: Aside) {
        let disk = &mut self.instances[index].disk;
        disk.partial = false;
        let Some(log) = disk.log.take() else { return };
        let may = match aside.reason {
            AsideReason::Removed => {
                let gone = self.clusters[&log.cluster].gone.contains(&log.member);
                gone && self.policy == OnRemovedMember::Rejoin
            }
            AsideReason::Damaged => log.damage != Damage::None,
            AsideReason::Partial | AsideReason::Replaced | AsideReason::Restored => false,
        };
        assert!(may, "{log:?} is moved aside as {}", aside.reason.name());
        if self.sabotage != Some(Sabotage::Deletes) {
            disk.aside.push(log);
        }
        disk.returned = false;
    }

    /// etcd makes its log: with the state `new` at once, else after it was told the member list.
    fn first_log(&mut self, index: usize, mut acting: Acting) -> Busy {
        acting.starting = false;
        let (cluster_id, member) = acting.member().expect("it was started");
        if let Plan::Bootstrap(plan) = &acting.plan {
            self.found(plan);
        }
        let cluster = &self.clusters[&cluster_id];
        let (position, known) = if matches!(acting.plan, Plan::Bootstrap(_)) {
            (cluster.founding(), cluster.founding())
        } else {
            let told = self
                .running(cluster_id, self.instances[index].side)
                .map(|(_, log)| log.position)
                .find(|told| {
                    cluster.config_at(*told).is_some_and(|config| config.members.contains_key(&member))
                });
            let Some(told) = told else {
                self.tell(index, || "etcd ends: no member tells it of itself".to_owned());
                self.etcd_ended(index, member, Ending::Abrupt);
                self.start(index);
                return Busy::Pausing(0);
            };
            (0, told)
        };
        self.give_log(index, cluster_id, member, (position, known));
        self.instances[index].etcd = Etcd::Runs;
        self.instances[index].changed = self.now;
        self.tell(index, || format!("has a log of {member} in {cluster_id}"));
        Busy::Acting(Box::new(acting))
    }

    /// A log that begins: with so many entries, and a member list that reaches so far.
    fn give_log(
        &mut self,
        index: usize,
        cluster_id: ClusterId,
        member: MemberId,
        (position, known): (usize, usize),
    ) {
        let number = self.number();
        let cluster = self.clusters.get_mut(&cluster_id).expect("it is there");
        let former = cluster.logs.insert(member, number);
        // Nobody ever counted on the log of a learner that not even published itself.
        let unheard = cluster.config().members.get(&member).is_some_and(|entry| entry.role == Role::Learner)
            && !cluster.published.contains_key(&member);
        assert!(former.is_none() || unheard, "{member} begins with another log than it had");
        let disk = &mut self.instances[index].disk;
        assert!(disk.log.is_none(), "etcd begins on top of data");
        disk.partial = false;
        disk.log = Some(Log { number, cluster: cluster_id, member, position, known, damage: Damage::None });
    }

    fn found(&mut self, plan: &Bootstrap) {
        if self.clusters.contains_key(&plan.cluster_id) {
            return;
        }
        let attests = |instance: &Instance| {
            let nonce = plan.nonces.get(&id(instance.name));
            nonce.is_some() && nonce == instance.disk.records.nonce.as_ref()
        };
        let disks = self.instances.iter().enumerate().filter(|(_, instance)| attests(instance));
        let founders = disks.map(|(index, instance)| (index, instance.disk.number)).collect();
        let members = plan
            .members
            .values()
            .map(|url| (MemberId::bootstrapped(&[url.clone()].into(), plan.token.as_str()), url.clone()));
        let cluster = Cluster::founded(members, founders);
        assert!(cluster.config().members.contains_key(&plan.member_id), "a member of another cluster");
        self.clusters.insert(plan.cluster_id, cluster);
    }
}
