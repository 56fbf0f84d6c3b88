//! What goes wrong, and what operators do.

use super::dice::Dice;
use super::disk::{Damage, SimDisk};
use super::{Busy, Etcd, Fleet, INSTANCES, NAMES};
use crate::job::properties::{BootstrapFlag, BootstrapMethod};
use crate::lifecycle::launch::records::Ending;

/// How operators treat disks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Operator {
    /// None is touched that a quorum needs.
    Careful,
    Careless,
}

impl Fleet {
    pub(in super::super) fn mishap(&mut self, operator: Operator, dice: &mut Dice) {
        let index = dice.below(self.instances.len());
        let may_touch = operator == Operator::Careless || self.can_spare(index);
        let what = match dice.below(36) {
            0..=3 => {
                self.kill(index);
                "killed"
            }
            4..=5 => {
                self.stop(index);
                "stopped"
            }
            6..=9 if may_touch => {
                let lost = self.detach(index);
                if dice.one_in(2) {
                    "detached its disk"
                } else {
                    self.destroyed.extend(lost);
                    self.instances[index].drawer.pop();
                    "lost its disk"
                }
            }
            10..=12 if may_touch && !self.instances[index].drawer.is_empty() => {
                self.kill(index);
                let older = dice.draw(&mut self.instances[index].drawer);
                self.bring_back(index, older);
                "got an older disk back"
            }
            13 => {
                self.kill(index);
                (self.instances[index].mark, self.instances[index].noted) = (false, None);
                "recreated"
            }
            14 | 15 if may_touch && self.instances[index].disk.tells_of_a_member() => {
                // `rm -rf member`, as etcd's own pages advise: the records stay.
                self.kill(index);
                let lost = self.instances[index].disk.log.take();
                self.destroyed.extend(lost.map(|log| log.number));
                "lost its member directory"
            }
            16..=18 if may_touch => {
                self.kill(index);
                if let Some(log) = &mut self.instances[index].disk.log {
                    log.damage = if dice.one_in(2) { Damage::Plain } else { Damage::Hidden };
                }
                "damaged"
            }
            19..=21 => {
                let instance = &mut self.instances[index];
                (instance.side, instance.changed) = (1 - instance.side, self.now);
                "now on the other side"
            }
            22 | 23 => {
                self.instances[index].stalled_until = self.now + 150;
                "stalled"
            }
            24 | 25
                if self.departure.is_none()
                    && self.instances.len() < INSTANCES
                    && self.named.len() < NAMES.len() =>
            {
                self.add_instance();
                "and one more instance"
            }
            26 | 27 => {
                self.render_anew(index);
                "rendered anew"
            }
            28 | 29 => return self.member_remove(dice),
            32..=34 => return self.depart(dice),
            35 if operator == Operator::Careless || self.can_spare(self.instances.len() - 1) => {
                return self.vanish();
            }
            30 => {
                if dice.one_in(2) {
                    let seeded = self.method == BootstrapMethod::Seeded;
                    self.method = if seeded { BootstrapMethod::Static } else { BootstrapMethod::Seeded };
                    return;
                }
                let on = self.flag == BootstrapFlag::On;
                self.flag = if on { BootstrapFlag::Off } else { BootstrapFlag::On };
                "bootstrap switched"
            }
            31 if operator == Operator::Careless && dice.one_in(2) => {
                for other in 0..self.instances.len() {
                    self.detach(other);
                    self.instances[other].mark = false;
                }
                "and everybody get fresh disks and VMs"
            }
            _ => return,
        };
        self.tell(index, || what.to_owned());
    }

    /// monit starts somebody who is down.
    pub(in super::super) fn monit(&mut self, dice: &mut Dice) {
        let down = |index: &usize| self.instances[*index].process.is_none();
        let mut down: Vec<usize> = (0..self.instances.len()).filter(down).collect();
        if !down.is_empty() {
            let index = dice.draw(&mut down);
            self.tell(index, || "started".to_owned());
            self.start(index);
        }
    }

    /// BOSH stops it and starts it with a newer link.
    pub(super) fn render_anew(&mut self, index: usize) {
        self.stop(index);
        self.link_anew(index);
        self.start(index);
    }

    pub(super) fn stop(&mut self, index: usize) {
        let instance = &self.instances[index];
        let starting = match instance.process.as_ref().map(|process| &process.busy) {
            Some(Busy::Acting(acting)) => acting.starting(),
            _ => None,
        };
        let runs = instance.disk.intact().map(|log| log.member).filter(|_| instance.etcd == Etcd::Runs);
        match runs.or(starting) {
            Some(member) => self.etcd_ended(index, member, Ending::Graceful),
            None => self.kill(index),
        }
    }

    /// Whether every cluster that can serve still could without this instance's disk.
    fn can_spare(&self, index: usize) -> bool {
        self.clusters.iter().all(|(id, cluster)| {
            let voters = &cluster.config().voters;
            let at_hand = |but: Option<usize>| {
                let logs = self.attached(*id).filter(|(other, _)| Some(*other) != but);
                logs.filter(|(_, log)| voters.contains(&log.member)).count()
            };
            at_hand(None) < cluster.config().quorum() || at_hand(Some(index)) >= cluster.config().quorum()
        })
    }

    /// A fresh disk takes the place of this one, which is kept. The logs on it.
    fn detach(&mut self, index: usize) -> Vec<u64> {
        self.kill(index);
        let fresh = self.fresh_disk();
        let instance = &mut self.instances[index];
        let detached = std::mem::replace(&mut instance.disk, fresh);
        let logs = detached.kept().collect();
        instance.drawer.push(detached);
        logs
    }

    fn bring_back(&mut self, index: usize, older: SimDisk) {
        let newer = std::mem::replace(&mut self.instances[index].disk, older);
        self.instances[index].drawer.push(newer);
        let disk = &mut self.instances[index].disk;
        disk.returned = true;
        let Some(log) = disk.log.clone() else { return };
        let attached: Vec<_> = self.attached(log.cluster).collect();
        let cluster = &self.clusters[&log.cluster];
        let another = self.clusters.iter().any(|(id, cluster)| *id != log.cluster && cluster.served);
        let revived = cluster.could_forget(&attached)
            || another && cluster.elect(&attached).is_some()
            // The member went on without this log.
            || cluster.logs.get(&log.member) != Some(&log.number);
        if revived {
            self.clusters.get_mut(&log.cluster).expect("it has logs").revived = true;
        }
    }

    /// `etcdctl member remove`, of anybody that etcd lets go.
    fn member_remove(&mut self, dice: &mut Dice) {
        let Some((id, leader)) = self.serving().first().copied() else { return };
        let mut members: Vec<_> = self.clusters[&id].config().members.keys().copied().collect();
        let member = dice.draw(&mut members);
        if self.lets_go(id, leader, member) {
            self.tell(leader, || format!("an operator removes {member}"));
            let side = self.instances[leader].side;
            self.commit_change(id, side, dice, |members| {
                members.remove(&member);
            });
        }
    }
}
