//! An operator who takes the last instance away or restarts one, as BOSH does it: drain decides, looks again before each
//! step, and may be killed between any two. Beside that the eviction of entries whose instance is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::world::{id, silent, url};
use super::cluster::{Lease, Role};
use super::dice::Dice;
use super::{Busy, Etcd, Fleet, LEASE, Sabotage, Turn};
use crate::etcd::id::{ClusterId, MemberId};
use crate::lifecycle::drain::decide::{Plan, decide};
use crate::lifecycle::drain::observation::{
    Call, Cluster, DiskNext, Life, OnDisk, Override, OwnEntry, Script, StopSeen, Voter,
};
use crate::lifecycle::evict::decide as evict;
use crate::lifecycle::intent::{Intent, Next};

/// In moves: how long an operator waits for a stop that is held or does not get the mutex.
const PATIENCE: u64 = 300;
/// In moves: a minute, between the two looks of an eviction.
const A_MINUTE: u64 = 200;

/// A stop that is under way.
pub(super) struct Departure {
    index: usize,
    /// Whether it goes for good.
    goes: Next,
    until: u64,
    turn: Option<Turn>,
}

/// What one moment of a stop came to.
enum Moment {
    GoesOn,
    /// The instance may stop now.
    MayStop,
    /// It is not stopped.
    Refused,
}

impl Fleet {
    /// BOSH takes the last one away, or restarts any.
    pub(super) fn depart(&mut self, dice: &mut Dice) {
        if self.departure.is_some() || self.instances.len() < 2 {
            return;
        }
        let goes = if dice.one_in(2) { Next::Delete } else { Next::Keep };
        let last = self.instances.len() - 1;
        let index = if goes == Next::Delete { last } else { dice.below(last + 1) };
        self.tell(index, || format!("is stopped, instance: {goes:?}"));
        self.departure = Some(Departure { index, goes, until: self.now + PATIENCE, turn: None });
    }

    /// A machine that vanishes, and an operator who deletes it without asking it anything.
    pub(super) fn vanish(&mut self) {
        if self.instances.len() > 1 && self.departure.is_none() {
            self.kill(self.instances.len() - 1);
            self.take_away();
        }
    }

    fn take_away(&mut self) {
        let gone = self.instances.pop().expect("there is one");
        self.orphans.extend(gone.drawer.into_iter().chain([gone.disk]));
        // Who was about to ask it hears nothing.
        let place = self.instances.len();
        for instance in &mut self.instances {
            let busy = instance.process.as_mut().map(|process| &mut process.busy);
            if let Some(Busy::Looking(seen, ask)) = busy
                && let Some(asked) = ask.iter().position(|asked| *asked == place)
            {
                ask.remove(asked);
                seen.others.insert(id(gone.name), silent());
            }
        }
        self.count("taken away");
    }

    /// One moment of the stop that is under way, if one is.
    pub(super) fn depart_on(&mut self, dice: &mut Dice) {
        let Some(mut departure) = self.departure.take() else { return };
        let index = departure.index;
        // The script is killed, and asked again; its mutex runs out or is taken for its own.
        if dice.one_in(20) {
            departure.turn = None;
            self.departure = Some(departure);
            return;
        }
        let moment = match departure.goes {
            Next::Delete => self.leave_on(&mut departure, dice),
            Next::Keep => self.stop_on(index),
        };
        match moment {
            Moment::GoesOn if self.now < departure.until => self.departure = Some(departure),
            Moment::GoesOn | Moment::Refused => {
                self.count("a stop is refused");
                self.tell(index, || "is not stopped".to_owned());
                self.hand_back(departure.turn);
            }
            Moment::MayStop if departure.goes == Next::Keep => {
                self.count("restarted by BOSH");
                let before = self.able();
                let serves = self.serves(index);
                self.stop(index);
                self.check_stop(index, serves, &before);
                self.start(index);
            }
            Moment::MayStop => {
                let before = self.able();
                self.kill(index);
                self.take_away();
                self.check_departure(&before);
                self.hand_back(departure.turn);
            }
        }
    }

    fn hand_back(&mut self, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        let cluster = self.clusters.get_mut(&turn.cluster).expect("it was held there");
        if cluster.lease.as_ref().is_some_and(|lease| lease.holder == turn.grant) {
            cluster.lease = None;
        }
    }

    fn serves(&self, index: usize) -> bool {
        let instance = &self.instances[index];
        let log = instance.disk.intact().filter(|_| instance.etcd == Etcd::Runs);
        log.is_some_and(|log| self.leader(log.cluster, instance.side).is_some())
    }

    fn stop_on(&self, index: usize) -> Moment {
        match decide(&self.stop_seen(index, Next::Keep, Script::PreStop)).plan {
            Plan::HandOver | Plan::Stay => Moment::MayStop,
            Plan::Hold { .. } => Moment::GoesOn,
            Plan::Refuse(_) => Moment::Refused,
            plan => panic!("an instance that stays has plan {}", plan.name()),
        }
    }

    fn leave_on(&mut self, departure: &mut Departure, dice: &mut Dice) -> Moment {
        let index = departure.index;
        if self.sabotage == Some(Sabotage::LeavesAnyway) {
            return self.leave_anyway(index, dice);
        }
        let seen = self.stop_seen(index, Next::Delete, Script::Drain);
        let (member, votes) = match decide(&seen).plan {
            Plan::Leave { member } => (member, true),
            Plan::RemoveEntry { member: Some(member) } => (member, false),
            Plan::RemoveEntry { member: None } | Plan::Stay => return Moment::MayStop,
            // An election may be all there is to it.
            Plan::Refuse(refusal) if refusal.may_pass() => return Moment::GoesOn,
            Plan::Refuse(_) => return Moment::Refused,
            plan => panic!("an instance that goes has plan {}", plan.name()),
        };
        let (id, leader) = self.reached(index).expect("it told a member list");
        let now = self.now;
        let held = departure.turn.filter(|turn| turn.cluster == id && turn.until > now);
        let cluster = self.clusters.get_mut(&id).expect("it serves");
        let is_held =
            held.is_some_and(|turn| cluster.lease.as_ref().is_some_and(|lease| lease.holder == turn.grant));
        if votes && !is_held {
            if cluster.lease.is_none() {
                let (grant, until) = (self.number(), now + LEASE);
                self.clusters.get_mut(&id).expect("it serves").lease = Some(Lease { holder: grant, until });
                departure.turn = Some(Turn { cluster: id, grant, until });
            }
            return Moment::GoesOn;
        }
        if !self.lets_go(id, leader, member) {
            self.count("a removal is refused");
            return Moment::GoesOn;
        }
        let before = self.able();
        self.tell(index, || format!("leaves: {member} is removed"));
        self.count("left");
        let side = self.instances[leader].side;
        self.commit_change(id, side, dice, |members| _ = members.remove(&member));
        self.check_departure(&before);
        // Looked at again: the answer may have been lost.
        Moment::GoesOn
    }

    fn leave_anyway(&mut self, index: usize, dice: &mut Dice) -> Moment {
        let own = self.instances[index].disk.intact().map(|log| log.member);
        let (Some(member), Some((id, leader))) = (own, self.reached(index)) else { return Moment::Refused };
        let before = self.able();
        let side = self.instances[leader].side;
        self.commit_change(id, side, dice, |members| _ = members.remove(&member));
        self.check_departure(&before);
        Moment::MayStop
    }

    /// The cluster that an instance reaches, and who leads it.
    fn reached(&self, index: usize) -> Option<(ClusterId, usize)> {
        let (side, link) = (self.instances[index].side, self.instances[index].link);
        let own = self.instances[index].disk.log.as_ref().map(|log| log.cluster);
        let serving = self.serving().into_iter().filter(|(id, leader)| {
            self.instances[*leader].side == side && self.running(*id, side).any(|(other, _)| other < link)
        });
        let mut serving: Vec<_> = serving.collect();
        // Its own comes first.
        serving.sort_by_key(|(id, _)| Some(*id) != own);
        serving.first().copied()
    }

    fn stop_seen(&self, index: usize, goes: Next, script: Script) -> StopSeen {
        let instance = &self.instances[index];
        let known = instance.disk.intact().map(|log| log.member);
        let on_disk = match &instance.disk.log {
            None => OnDisk::NoMember,
            Some(log) => match self.clusters[&log.cluster].config_at(log.position) {
                Some(config) if config.voters == BTreeSet::from([log.member]) => {
                    OnDisk::OnlyVoter(log.member)
                }
                Some(_) => OnDisk::Member(log.member),
                None => OnDisk::Unknown,
            },
        };
        let cluster = match self.reached(index) {
            None => Cluster::NoQuorum { why: "no answer".to_owned() },
            Some((id, _)) => self.cluster_seen(index, id, known),
        };
        StopSeen {
            script,
            call: Call::Shutdown,
            intent: Some(Intent { vm: goes, instance: goes, deployment: Next::Keep }),
            disk: DiskNext { now_mib: Some(1024), next_mib: Some(if goes == Next::Keep { 1024 } else { 0 }) },
            own_disk: true,
            forced: Override::None,
            cluster,
            on_disk,
        }
    }

    fn cluster_seen(&self, index: usize, id: ClusterId, known: Option<MemberId>) -> Cluster {
        let (cluster, side) = (&self.clusters[&id], self.instances[index].side);
        let config = cluster.config();
        let at_url = cluster.at_url(&url(self.instances[index].name));
        let entry = known.filter(|id| config.members.contains_key(id)).or(at_url);
        let own = match (known, entry) {
            (Some(known), Some(entry)) if entry != known => OwnEntry::Stranger(entry),
            (_, None) => OwnEntry::NotListed,
            (_, Some(id)) if config.members[&id].role == Role::Learner => OwnEntry::Learner(id),
            (_, Some(id)) if !cluster.published.contains_key(&id) => OwnEntry::NeverStarted(id),
            (_, Some(id)) => OwnEntry::Voter(id),
        };
        let own_id = match own {
            OwnEntry::NotListed | OwnEntry::Stranger(_) => None,
            OwnEntry::NeverStarted(id) | OwnEntry::Learner(id) | OwnEntry::Voter(id) => Some(id),
        };
        let lives = |voter: MemberId| {
            let runs = self.running(id, side).any(|(_, log)| log.member == voter);
            let of = self
                .instances
                .iter()
                .find(|other| other.disk.log.as_ref().is_some_and(|log| log.member == voter));
            if runs {
                return Life::Alive;
            }
            let since = of.map_or(u64::MAX, |other| self.now.saturating_sub(other.changed));
            Life::Missing {
                why: "connection refused".to_owned(),
                for_so_long: Duration::from_millis(since.saturating_mul(300)),
                recovering: of.is_some_and(|other| other.process.is_some()),
            }
        };
        let others = config.voters.iter().filter(|voter| Some(**voter) != own_id);
        let others = others
            .map(|voter| Voter { id: *voter, name: voter.to_string(), client_url: None, life: lives(*voter) })
            .collect();
        let own_serves = own_id.is_some() && own_id == known && self.serves(index);
        Cluster::Serves { own, own_serves, others }
    }

    /// Every voter looks for entries whose instance is gone, as it does after a deploy.
    pub(super) fn evict(&mut self, dice: &mut Dice) {
        for (id, leader) in self.serving() {
            let side = self.instances[leader].side;
            let config = self.clusters[&id].config();
            let live: Vec<(usize, MemberId)> = self
                .running(id, side)
                .filter(|(_, log)| config.voters.contains(&log.member))
                .map(|(index, log)| (index, log.member))
                .collect();
            let Some(own) = live.iter().map(|(_, member)| *member).min() else { continue };
            let members = self.clusters[&id].list_at(self.clusters[&id].len);
            let attested = live.iter().map(|(index, member)| {
                let attested = evict::Attested {
                    link_hash: self.instances[*index].link.to_string(),
                    link: self.link(*index).map(|(_, name)| url(name)).collect(),
                    disconnected: members
                        .iter()
                        .map(|member| member.id)
                        .filter(|id| !self.runs_as(*id, side))
                        .collect(),
                };
                (*member, attested)
            });
            let attested = attested.collect();
            let silent = members.iter().flat_map(|member| member.peer_urls.iter().cloned());
            let speaks = |url_: &crate::etcd::id::PeerUrl| {
                self.instances
                    .iter()
                    .any(|it| url(it.name) == *url_ && it.process.is_some() && it.side == side)
            };
            let seen = evict::Seen {
                own,
                live_voters: attested,
                unattested: BTreeSet::new(),
                once_in_link: live
                    .iter()
                    .flat_map(|(index, _)| &self.instances[*index].once_in_link)
                    .map(|name| url(name))
                    .collect(),
                launcher_silent: silent.filter(|url| !speaks(url)).collect(),
                a_minute_ago: self
                    .suspected
                    .filter(|(_, since)| since + A_MINUTE <= self.now)
                    .map(|(member, _)| member)
                    .into_iter()
                    .collect(),
                members,
            };
            let verdict = if self.sabotage == Some(Sabotage::EvictsAnybody) {
                let (_, member) = live[dice.below(live.len())];
                evict::Verdict::Evict { member }
            } else {
                evict::decide(&seen)
            };
            match verdict {
                evict::Verdict::Nobody { because } => {
                    self.tell(leader, || format!("evicts nobody: {because}"));
                    self.suspected = None;
                }
                evict::Verdict::LookAgain { member } => {
                    if self.suspected.is_none_or(|(suspect, _)| suspect != member) {
                        self.suspected = Some((member, self.now));
                    }
                }
                evict::Verdict::Evict { member } => {
                    if self.clusters[&id].lease.is_some() || !self.lets_go(id, leader, member) {
                        continue;
                    }
                    assert!(
                        !self.runs_as(member, 0) && !self.runs_as(member, 1),
                        "{member} is alive and evicted"
                    );
                    let before = self.able();
                    self.tell(leader, || format!("evicts {member}"));
                    self.count("evicted");
                    self.commit_change(id, side, dice, |members| _ = members.remove(&member));
                    self.check_departure(&before);
                    self.suspected = None;
                }
            }
        }
    }

    fn runs_as(&self, member: MemberId, side: usize) -> bool {
        self.clusters.keys().any(|id| self.running(*id, side).any(|(_, log)| log.member == member))
    }
}
