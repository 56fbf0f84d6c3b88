//! What happens to a cluster, and when: decided by a seed, before anything has happened.
//!
//! A cluster promises to lose nothing as long as a minority of its disks is lost, so no second disk is touched before the
//! member with the first one votes again. Everything else may take quorum away, for a while: then nobody is served, and
//! nothing is lost either.

use std::fmt;

use crate::dice::Dice;

/// Who it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Victim {
    /// Whoever leads then.
    Leader,
    /// This one of the instances.
    Instance(usize),
}

/// What happens, until it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// It is cut off from all others.
    Cut,
    /// What it sends to the others is lost; what they send arrives.
    CutOneWay,
    /// Each is cut off from each other.
    CutAll,
    /// It is cut off and reached again, several times a second.
    Flap,
    KillEtcd,
    KillLauncher,
    /// etcd and its launcher, in the same moment.
    KillBoth,
    /// All members, in the same moment.
    KillAll,
    /// etcd stands still.
    FreezeEtcd,
    FreezeLauncher,
    /// Nothing of the machine is left but its disk.
    Reboot,
    /// `bosh restart`.
    Restart,
    /// `bosh recreate`.
    Recreate,
    /// `bosh stop --hard`, then `bosh start`.
    StopHard,
    /// A deploy that changes a property of all.
    Deploy,
    /// Everything on its disk is gone.
    LoseDisk,
    /// Pages of its database are damaged.
    DamageDb,
    /// Its log is damaged.
    DamageLog,
    /// Its member is removed from the list behind everybody's back.
    RemoveMember,
    /// etcd can open no more files and connections than it has.
    Descriptors,
    /// etcd stands still for half of the time, as on a disk or a processor that others use up.
    Stutter,
    /// A deploy adds an instance, and another one takes it away.
    OutAndIn,
}

impl Fault {
    pub(crate) const ALL: [Self; 22] = [
        Self::Cut,
        Self::CutOneWay,
        Self::CutAll,
        Self::Flap,
        Self::KillEtcd,
        Self::KillLauncher,
        Self::KillBoth,
        Self::KillAll,
        Self::FreezeEtcd,
        Self::FreezeLauncher,
        Self::Reboot,
        Self::Restart,
        Self::Recreate,
        Self::StopHard,
        Self::Deploy,
        Self::LoseDisk,
        Self::DamageDb,
        Self::DamageLog,
        Self::RemoveMember,
        Self::Descriptors,
        Self::Stutter,
        Self::OutAndIn,
    ];

    /// Whether the member has not got its data any more, or not its place: it needs the others to have them.
    pub(crate) const fn takes_a_copy(self) -> bool {
        matches!(self, Self::LoseDisk | Self::DamageDb | Self::DamageLog | Self::RemoveMember)
    }

    /// Whether an operator does it, who waits until it is done and does it to a cluster that works.
    pub(crate) const fn is_an_operation(self) -> bool {
        matches!(self, Self::Restart | Self::Recreate | Self::StopHard | Self::Deploy | Self::OutAndIn)
    }
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blow {
    /// How long after the one before it was struck, or after the cluster was whole if it needs that.
    pub(crate) after_ms: u64,
    pub(crate) fault: Fault,
    pub(crate) victim: Victim,
    /// How long it lasts.
    pub(crate) for_ms: u64,
    /// Struck only once all members vote and serve.
    pub(crate) needs_all: bool,
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after_ms, fault, victim, for_ms, needs_all } = self;
        let when = if *needs_all { " once all are well" } else { "" };
        write!(f, "{after_ms} ms later{when}: {fault:?} of {victim:?} for {for_ms} ms")
    }
}

/// So many things, for a cluster of so many. Each kind has the same chance.
pub(crate) fn schedule(seed: u64, instances: u64, blows: usize) -> Vec<Blow> {
    let mut dice = Dice(seed);
    let mut copy_taken = false;
    (0..blows)
        .map(|_| {
            let fault = dice.pick(&Fault::ALL).expect("there are some");
            let instance = usize::try_from(dice.below(instances)).expect("few instances");
            let victim = if dice.below(3) == 0 { Victim::Leader } else { Victim::Instance(instance) };
            // After a copy was taken everything that could cost another one waits for the whole cluster; and so does
            // an operator.
            let needs_all = fault.takes_a_copy() || fault.is_an_operation() || copy_taken;
            copy_taken = fault.takes_a_copy();
            Blow {
                after_ms: 200 + dice.below(1500),
                fault,
                victim,
                for_ms: 500 + dice.below(4000),
                needs_all,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_schedule_takes_a_second_copy_before_the_first_is_back_and_every_kind_occurs() {
        let mut seen = BTreeSet::new();
        for seed in 0..10_000 {
            let blows = schedule(seed, 3, 8);
            assert_eq!(blows, schedule(seed, 3, 8), "a seed decides everything");
            for (index, blow) in blows.iter().enumerate() {
                seen.insert((blow.fault, blow.victim));
                let behind_a_copy = index > 0 && blows[index - 1].fault.takes_a_copy();
                let must_wait = blow.fault.takes_a_copy() || behind_a_copy;
                assert!(!must_wait || blow.needs_all, "seed {seed}: {blow}");
            }
        }
        assert_eq!(seen.len(), Fault::ALL.len() * 4, "each kind, for the leader and each instance");
    }
}
