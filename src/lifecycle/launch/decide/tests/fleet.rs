//! Instances, disks, etcd and an operator, as far as deciding needs them: a model to simulate in.
//!
//! Launchers look around answer by answer and act step by step, as the real ones do (`act.rs`,
//! `membership.rs`, `run.rs`), and everything else may happen in between. A cluster is its committed log;
//! every disk has a prefix of it, and with it the member list it knows.

mod act;
mod check;
mod cluster;
mod dice;
mod disk;
mod leave;
mod look;
mod mishap;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::claim::Memory;
use super::super::plan::Plan;
use super::super::{decide, settled};
use super::world::id;
use crate::etcd::id::{ClusterId, MemberId};
use crate::job::properties::{BootstrapFlag, BootstrapMethod, OnRemovedMember};
use crate::lifecycle::launch::attestation::PeerState;
use crate::lifecycle::launch::observation::{Disk, Observation};
use crate::lifecycle::launch::records::{Ending, ExitRecord, RECORD_VERSION};

use act::Acting;
pub(super) use check::Due;
pub(super) use cluster::Patch;
use cluster::{Cluster, Entry};
pub(super) use dice::Dice;
use disk::{Log, SimDisk};
use leave::Departure;
pub(super) use mishap::Operator;

/// A move, in the launcher's clock: looking around among three takes two to three seconds.
const MOVE: Duration = Duration::from_millis(300);
/// In moves: how late the leader's metric notices that a member ended.
const ETCD_SEES_LATE: u64 = 7;
/// In moves: for so long must members be connected before etcd counts on them.
const CONNECTED_FOR: u64 = 17;
/// In moves: how long a lease lasts that nobody renews.
const LEASE: u64 = 100;
/// In moves: the longest pause between two looks around.
const PAUSE: usize = 40;
/// A name is an instance id: it never comes back.
const NAMES: [&str; 26] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x", "y", "z",
];
/// More than that at a time shows nothing new.
const INSTANCES: usize = 7;

/// What a launcher is busy with.
enum Busy {
    /// Looking again after this moment.
    Pausing(u64),
    /// Gathering answers; these are still to be asked.
    Looking(Box<Observation>, Vec<usize>),
    Acting(Box<Acting>),
    /// etcd's parent, with nothing left to do.
    Running,
}

/// The mutex, as its holder knows it: ours until then, or longer if it is renewed.
#[derive(Clone, Copy)]
struct Turn {
    cluster: ClusterId,
    /// Which grant it is. The lease itself has no name.
    grant: u64,
    until: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Etcd {
    Down,
    Runs,
}

/// A launcher, and all that ends with it.
struct Process {
    memory: Memory,
    turn: Option<Turn>,
    board: Option<PeerState>,
    /// The log that it checked.
    checked: Option<u64>,
    busy: Busy,
}

pub(super) struct Instance {
    name: &'static str,
    /// How many instances it was told of.
    link: usize,
    /// All instances that it was ever told of.
    once_in_link: BTreeSet<&'static str>,
    pub(super) disk: SimDisk,
    /// Disks it had before.
    drawer: Vec<SimDisk>,
    pub(super) mark: bool,
    /// Who is on the other side cannot be reached.
    side: usize,
    stalled_until: u64,
    process: Option<Process>,
    /// The mutex that a launcher here holds or has left.
    noted: Option<Turn>,
    etcd: Etcd,
    /// When its etcd last came or went.
    changed: u64,
    /// What was last told of it.
    told: String,
}

/// What is done wrong on purpose, to see whether the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// Drain removes its member whatever the stop table and etcd say.
    LeavesAnyway,
    /// What is moved aside is deleted.
    Deletes,
    /// An eviction asks for no second look, and nobody whether the member runs.
    EvictsAnybody,
    /// Damaged data is started.
    StartsDamaged,
}

/// Whether what happens is printed: words cost more than all the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    Nothing,
    Story,
}

pub(super) struct Fleet {
    pub(super) instances: Vec<Instance>,
    pub(super) clusters: BTreeMap<ClusterId, Cluster>,
    flag: BootstrapFlag,
    pub(super) method: BootstrapMethod,
    policy: OnRemovedMember,
    patch: Patch,
    /// In moves.
    now: u64,
    made: u64,
    /// Logs that an operator destroyed.
    destroyed: BTreeSet<u64>,
    /// Disks of instances that were taken away.
    orphans: Vec<SimDisk>,
    /// All names that ever were.
    named: Vec<&'static str>,
    departure: Option<Departure>,
    pub(super) sabotage: Option<Sabotage>,
    /// An entry without an instance, and since when.
    suspected: Option<(MemberId, u64)>,
    /// How many moves were made.
    pub(super) moves: u64,
    /// What happened how often.
    pub(super) counts: BTreeMap<&'static str, usize>,
    telling: Telling,
}

impl Fleet {
    pub(super) fn new(size: usize, patch: Patch, policy: OnRemovedMember, telling: Telling) -> Self {
        let mut fleet = Self {
            instances: Vec::new(),
            clusters: BTreeMap::new(),
            flag: BootstrapFlag::On,
            method: BootstrapMethod::Static,
            policy,
            patch,
            now: 0,
            made: 0,
            destroyed: BTreeSet::new(),
            orphans: Vec::new(),
            named: Vec::new(),
            departure: None,
            sabotage: None,
            suspected: None,
            moves: 0,
            counts: BTreeMap::new(),
            telling,
        };
        for _ in 0..size {
            fleet.add_instance();
        }
        (0..size).for_each(|index| fleet.link_anew(index));
        fleet
    }

    fn add_instance(&mut self) {
        let (disk, name) = (self.fresh_disk(), NAMES[self.named.len()]);
        self.named.push(name);
        self.instances.push(Instance {
            name,
            link: self.instances.len() + 1,
            once_in_link: self.instances.iter().map(|instance| instance.name).chain([name]).collect(),
            disk,
            drawer: Vec::new(),
            mark: false,
            side: 0,
            stalled_until: 0,
            process: None,
            noted: None,
            etcd: Etcd::Down,
            changed: 0,
            told: String::new(),
        });
    }

    /// It is told of everybody there is.
    fn link_anew(&mut self, index: usize) {
        let names: Vec<&'static str> = self.instances.iter().map(|instance| instance.name).collect();
        self.instances[index].link = names.len();
        self.instances[index].once_in_link.extend(names);
    }

    /// A number that nothing else has.
    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(super) fn fresh_disk(&mut self) -> SimDisk {
        SimDisk { number: self.number(), ..SimDisk::default() }
    }

    fn tell(&mut self, index: usize, what: impl FnOnce() -> String) {
        if self.telling == Telling::Story {
            let (what, instance) = (what(), &mut self.instances[index]);
            if instance.told != what {
                println!("{} {}: {what}", self.now, instance.name);
            }
            instance.told = what;
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    // --- Who runs, who leads.

    /// Whose etcd runs as a member of this cluster, of those that reach each other.
    fn running(&self, id: ClusterId, side: usize) -> impl Iterator<Item = (usize, &Log)> {
        self.attached(id).filter(move |(index, _)| {
            let instance = &self.instances[*index];
            instance.etcd == Etcd::Runs && instance.side == side
        })
    }

    /// The disks of this cluster that etcd can be started on.
    fn attached(&self, id: ClusterId) -> impl Iterator<Item = (usize, &Log)> {
        let logs = self.instances.iter().map(|instance| instance.disk.intact()).enumerate();
        logs.filter_map(move |(index, log)| Some((index, log.filter(|log| log.cluster == id)?)))
    }

    fn leader(&self, id: ClusterId, side: usize) -> Option<usize> {
        let running: Vec<_> = self.running(id, side).collect();
        self.clusters[&id].elect(&running)
    }

    /// Who serves, and who leads there.
    fn serving(&self) -> Vec<(ClusterId, usize)> {
        let sides = [0, 1].into_iter().filter(|side| self.instances.iter().any(|it| it.side == *side));
        let pairs = sides.flat_map(|side| self.clusters.keys().map(move |id| (*id, side)));
        pairs.filter_map(|(id, side)| Some((id, self.leader(id, side)?))).collect()
    }

    pub(super) fn anybody_serves(&self) -> bool {
        !self.serving().is_empty()
    }

    /// The voters that the leader has been connected to for five seconds, itself included.
    fn connected(&self, id: ClusterId, leader: usize) -> BTreeSet<MemberId> {
        let since = |index: usize| self.instances[index].changed + CONNECTED_FOR <= self.now;
        let voters = &self.clusters[&id].config().voters;
        self.running(id, self.instances[leader].side)
            .filter(|(index, log)| {
                voters.contains(&log.member) && (*index == leader || since(*index) && since(leader))
            })
            .map(|(_, log)| log.member)
            .collect()
    }

    /// Whether etcd removes this member when it is asked now.
    fn lets_go(&self, id: ClusterId, leader: usize, member: MemberId) -> bool {
        let active = self.running(id, self.instances[leader].side).any(|(_, log)| log.member == member);
        self.clusters[&id].lets_go(member, &self.connected(id, leader), active)
    }

    // --- What happens.

    /// One moment of one launcher, and of everybody's etcd.
    pub(super) fn go_on(&mut self, index: usize, dice: &mut Dice) {
        self.now += 1;
        self.moves += 1;
        if dice.one_in(6) {
            self.depart_on(dice);
            // It may have been the one.
            if index >= self.instances.len() {
                return;
            }
        }
        if dice.one_in(40) {
            self.evict(dice);
        }
        if self.instances[index].stalled_until <= self.now {
            self.move_on(index, dice);
        }
        if dice.one_in(4) {
            self.etcd_goes_on(dice);
            self.check();
        }
    }

    fn move_on(&mut self, index: usize, dice: &mut Dice) {
        let Some(process) = &mut self.instances[index].process else { return };
        let busy = match std::mem::replace(&mut process.busy, Busy::Running) {
            Busy::Running => Busy::Running,
            Busy::Pausing(until) if until > self.now => Busy::Pausing(until),
            Busy::Pausing(_) => {
                let ask = self.link(index).map(|(other, _)| other).filter(|other| *other != index).collect();
                Busy::Looking(Box::new(self.own_view(index)), ask)
            }
            Busy::Looking(seen, ask) => self.look_on(index, seen, ask, dice),
            Busy::Acting(acting) => self.act_on(index, *acting, dice),
        };
        if let Some(process) = &mut self.instances[index].process {
            process.busy = busy;
        }
    }

    fn look_on(
        &mut self,
        index: usize,
        mut seen: Box<Observation>,
        mut ask: Vec<usize>,
        dice: &mut Dice,
    ) -> Busy {
        // Only a member is ever sure before it has heard everybody.
        let is_settled = matches!(seen.disk, Disk::Data(_)) && settled(&seen);
        if !ask.is_empty() && !is_settled {
            let asked = dice.draw(&mut ask);
            let answer = self.answer(index, asked);
            seen.others.insert(id(self.instances[asked].name), answer);
            return Busy::Looking(seen, ask);
        }
        self.ask_leaders(index, &mut seen, dice);
        self.decide(index, seen)
    }

    fn decide(&mut self, index: usize, mut seen: Box<Observation>) -> Busy {
        let now = MOVE * u32::try_from(self.now).expect("a short story");
        let process = self.instances[index].process.as_mut().expect("it decides");
        seen.confirmed = process.memory.confirmed(now);
        let decision = decide(&seen);
        process.memory.note(now, decision.rests_on.clone());
        if !decision.plan.needs_mutex() {
            self.end_turn(index);
        }
        self.tell(index, || {
            format!("row {} {}: {}", decision.row, decision.plan.name(), decision.because.sentence())
        });
        self.post(index, &decision.plan);
        Busy::Acting(Box::new(Acting::new(decision.plan, seen)))
    }

    fn post(&mut self, index: usize, plan: &Plan) {
        let state = self.state(index, plan);
        if let Some(process) = &mut self.instances[index].process {
            process.board = Some(state);
        }
    }

    fn start(&mut self, index: usize) {
        if self.instances[index].process.is_none() {
            let (memory, busy) = (Memory::default(), Busy::Pausing(0));
            self.instances[index].process =
                Some(Process { memory, turn: None, board: None, checked: None, busy });
        }
    }

    /// Launcher and etcd are gone from one moment to the next.
    pub(super) fn kill(&mut self, index: usize) {
        let now = self.now;
        let instance = &mut self.instances[index];
        instance.process = None;
        if std::mem::replace(&mut instance.etcd, Etcd::Down) == Etcd::Runs {
            instance.changed = now;
        }
    }

    /// etcd has ended: its parent notes that and ends as well, and monit starts it anew.
    fn etcd_ended(&mut self, index: usize, member_id: MemberId, how: Ending) {
        let record = ExitRecord { version: RECORD_VERSION, member_id, how, at_unix_secs: super::world::NOW };
        self.instances[index].disk.records.exit = Some(record);
        self.give_back(index);
        self.kill(index);
    }

    fn etcd_goes_on(&mut self, dice: &mut Dice) {
        for (id, leader) in self.serving() {
            let side = self.instances[leader].side;
            self.first_service(id);
            self.lease_goes_on(id, side, dice);
            let running: Vec<(usize, MemberId)> =
                self.running(id, side).map(|(index, log)| (index, log.member)).collect();
            for (index, member) in running {
                if self.clusters[&id].gone.contains(&member) {
                    // The others tell it, or it reads so in the log.
                    self.tell(index, || "etcd ends: it was removed".to_owned());
                    self.etcd_ended(index, member, Ending::Abrupt);
                    self.start(index);
                } else if dice.one_in(2) {
                    self.catch_up(index);
                    let unheard = !self.clusters[&id].published.contains_key(&member);
                    if unheard && self.leader(id, side).is_some() {
                        self.commit(id, side, dice);
                        let cluster = self.clusters.get_mut(&id).expect("it serves");
                        cluster.published.insert(member, cluster.len);
                    }
                }
            }
            if dice.one_in(2) && self.leader(id, side).is_some() {
                self.commit(id, side, dice);
            }
        }
    }

    fn catch_up(&mut self, index: usize) {
        let log = self.instances[index].disk.log.as_mut().expect("etcd runs on it");
        log.position = self.clusters[&log.cluster].len;
    }

    /// One more entry: on the leader, and on as many voters as a quorum needs, by chance.
    fn commit(&mut self, id: ClusterId, side: usize, dice: &mut Dice) {
        let leader = self.leader(id, side).expect("somebody leads");
        let config = self.clusters[&id].config();
        let follows = |(index, log): &(usize, &Log)| *index != leader && config.voters.contains(&log.member);
        let mut others: Vec<usize> = self.running(id, side).filter(follows).map(|(index, _)| index).collect();
        let needed = config.quorum() - 1;
        self.clusters.get_mut(&id).expect("it serves").len += 1;
        self.catch_up(leader);
        for _ in 0..needed {
            let other = dice.draw(&mut others);
            self.catch_up(other);
        }
    }

    /// The same, of a change to the member list.
    fn commit_change(
        &mut self,
        id: ClusterId,
        side: usize,
        dice: &mut Dice,
        change: impl FnOnce(&mut BTreeMap<MemberId, Entry>),
    ) {
        self.commit(id, side, dice);
        self.clusters.get_mut(&id).expect("it serves").change(change);
    }

    /// Renewed while its holder can, else over some day: the leader counts.
    fn lease_goes_on(&mut self, id: ClusterId, side: usize, dice: &mut Dice) {
        let now = self.now;
        let cluster = self.clusters.get_mut(&id).expect("it serves");
        let Some(lease) = &mut cluster.lease else { return };
        if lease.until <= now {
            cluster.lease = None;
            return;
        }
        let (grant, until) = (lease.holder, now + LEASE);
        let awake = |instance: &&mut Instance| instance.side == side && instance.stalled_until <= now;
        for instance in self.instances.iter_mut().filter(awake) {
            let turn = instance.process.as_mut().and_then(|process| process.turn.as_mut());
            if let (Some(turn), true) = (turn.filter(|turn| turn.grant == grant), dice.one_in(5)) {
                (turn.until, lease.until) = (until, until);
                instance.noted = Some(*turn);
            }
        }
    }

    /// No more faults: everybody is told of everybody, runs and is connected. What is due then.
    pub(super) fn calm(&mut self, dice: &mut Dice) -> Due {
        self.flag = BootstrapFlag::On;
        self.departure = None;
        for index in 0..self.instances.len() {
            if self.instances[index].link != self.instances.len() {
                self.render_anew(index);
            }
            self.instances[index].side = 0;
            self.instances[index].stalled_until = 0;
            self.instances[index].changed = self.now;
            self.start(index);
        }
        let due = self.due();
        self.tell(0, || format!("calm, and due is {due:?}"));
        let patience = match due {
            Due::Nothing => 60,
            Due::Service => 120,
            Due::Whole => 1500,
        };
        for moves in 0..self.instances.len() * patience {
            if moves % 8 == 0 && self.is_whole() {
                break;
            }
            let index = dice.below(self.instances.len());
            self.go_on(index, dice);
        }
        due
    }
}
