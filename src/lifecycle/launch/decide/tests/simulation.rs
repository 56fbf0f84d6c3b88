//! A seeded model of instances, disks, kills, partitions and operators around `decide`: what no single
//! table row can show. Answers are gathered one by one and plans are carried out step by step, so every
//! decision may rest on a world that has moved on.
//!
//! Safety, at every moment: never a second cluster while a disk of the first is left, nor two halves of
//! one; no member under an id whose log it does not have; no log can be elected that lacks what a cluster
//! acknowledged; no step of ours costs a cluster its quorum; data goes only when an operator takes it.
//! Liveness: once the faults stop, whoever can serve does, and every instance becomes a voter. A failure
//! names its seed.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::{Dice, Due, Fleet, Operator, Patch, Sabotage, Telling};
use crate::job::properties::{BootstrapMethod, OnRemovedMember};
use crate::lifecycle::launch::attestation::{DiskClass, InstanceId};
use crate::lifecycle::launch::records::BootstrapRecord;

/// Always the same: what they found once stays found.
const SEEDS: u64 = 1000;
/// And new ones each time.
const MOVES: u64 = 1_000_000;
/// The first of those; printed, and to be given to see the same again.
const SEED: &str = "MODEL_SEED";
/// How many moves instead.
const MANY: &str = "MODEL_MOVES";

/// A fleet after its story, and what was due at its end.
fn simulate(seed: u64, telling: Telling) -> (Fleet, Due) {
    simulate_with(seed, telling, None)
}

fn simulate_with(seed: u64, telling: Telling, sabotage: Option<Sabotage>) -> (Fleet, Due) {
    let mut dice = Dice(seed);
    let size = [1, 2, 3, 3, 3, 5][dice.below(6)];
    let policy = if dice.one_in(4) { OnRemovedMember::Refuse } else { OnRemovedMember::Rejoin };
    let operator = if dice.one_in(3) { Operator::Careless } else { Operator::Careful };
    let patch = if dice.one_in(4) { Patch::Strict } else { Patch::Relaxed };
    let mut fleet = Fleet::new(size, patch, policy, telling);
    fleet.sabotage = sabotage;
    if dice.one_in(3) {
        fleet.method = BootstrapMethod::Seeded;
    }
    if !dice.one_in(4) {
        fleet.calm(&mut dice);
    }
    let turbulence = 5 + dice.below(60);
    for _ in 0..600 {
        if dice.one_in(turbulence) {
            fleet.mishap(operator, &mut dice);
        }
        if dice.one_in(30) {
            fleet.monit(&mut dice);
        }
        let index = dice.below(fleet.instances.len());
        fleet.go_on(index, &mut dice);
    }
    let due = fleet.calm(&mut dice);
    fleet.check_kept();
    assert!(due == Due::Nothing || fleet.anybody_serves(), "nobody serves although nothing is missing");
    assert!(due != Due::Whole || fleet.is_whole(), "not everybody is a voter of the one cluster");
    (fleet, due)
}

/// What happened how often in these seeds. The first that fails tells its story.
fn simulate_all(seeds: impl Iterator<Item = u64>) -> BTreeMap<&'static str, usize> {
    let mut happened = BTreeMap::new();
    for seed in seeds {
        let (fleet, due) =
            std::panic::catch_unwind(|| simulate(seed, Telling::Nothing)).unwrap_or_else(|_| {
                println!("seed {seed} fails:");
                simulate(seed, Telling::Story)
            });
        let outcome = match due {
            Due::Nothing => "nothing due",
            Due::Service => "service due",
            Due::Whole => "all due",
        };
        let refounded = (fleet.clusters.len() > 1).then_some("refounded");
        *happened.entry("moves").or_default() += usize::try_from(fleet.moves).expect("a short story");
        for what in refounded.into_iter().chain([outcome]) {
            *happened.entry(what).or_default() += 1;
        }
        for (what, times) in &fleet.counts {
            *happened.entry(*what).or_default() += times;
        }
    }
    happened
}

#[test]
fn every_seed_keeps_one_cluster_and_its_data_and_calm_makes_it_whole() {
    let mut happened: BTreeMap<&str, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let every_third = |first: u64| scope.spawn(move || simulate_all((first..SEEDS).step_by(3)));
        for some in [0, 1, 2].map(every_third) {
            let some = some.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            for (what, times) in some {
                *happened.entry(what).or_default() += times;
            }
        }
    });

    // The model would prove nothing if nothing ever happened in it.
    for (what, at_least) in [
        ("bootstrap", 1000),
        ("start", 1000),
        ("join", 300),
        ("resume-join", 50),
        ("replace", 100),
        ("rejoin", 50),
        ("move-aside", 5),
        ("validate", 500),
        ("seeded", 300),
        ("hidden damage is found", 20),
        ("the mutex is held", 500),
        ("too many learners", 50),
        ("an add is refused", 100),
        ("an answer is lost", 50),
        ("nobody to ask", 50),
        ("all due", 500),
        ("service due", 5),
        ("refounded", 5),
        ("left", 100),
        ("taken away", 200),
        ("restarted by BOSH", 200),
        ("a stop is refused", 100),
        ("evicted", 50),
    ] {
        let times = happened.get(what).copied().unwrap_or(0);
        assert!(times >= at_least, "{what}: only {times} times; {happened:#?}");
    }
}

/// A million moves that nobody has seen before.
#[test]
fn so_does_a_million_moves_of_new_seeds() {
    let given = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let many = given(MANY).unwrap_or(MOVES);
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let first = given(SEED).unwrap_or(since_1970.as_secs() << 20);
    println!("{SEED}={first}");
    let moves: u64 = std::thread::scope(|scope| {
        let half = |lane: u64| {
            scope.spawn(move || {
                let (mut seed, mut moves) = (first + lane, 0);
                while moves < many.div_ceil(2) {
                    let happened = simulate_all([seed].into_iter());
                    moves += u64::try_from(happened["moves"]).expect("a number");
                    seed += 2;
                }
                moves
            })
        };
        [0, 1]
            .map(half)
            .map(|half| half.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)))
            .iter()
            .sum()
    });
    assert!(moves >= many / 2 * 2);
}

/// What is done wrong on purpose is noticed, and soon: the model would prove nothing if it accepted everything.
#[test]
fn each_sabotage_is_noticed() {
    for sabotage in
        [Sabotage::LeavesAnyway, Sabotage::Deletes, Sabotage::EvictsAnybody, Sabotage::StartsDamaged]
    {
        let seeds = 0..300;
        let is_noticed = |seed| {
            std::panic::catch_unwind(|| simulate_with(seed, Telling::Nothing, Some(sabotage))).is_err()
        };
        assert!(seeds.into_iter().any(is_noticed), "{sabotage:?} is never noticed");
    }
}

/// The shortest way through the model: three instances, no mishap.
#[test]
fn three_instances_found_one_cluster() {
    let mut fleet = Fleet::new(3, Patch::Relaxed, OnRemovedMember::Rejoin, Telling::Nothing);

    fleet.calm(&mut Dice(1));

    assert_eq!(fleet.clusters.len(), 1);
    assert!(fleet.is_whole());
    let classes: BTreeSet<DiskClass> = (0..3).map(|index| fleet.own_view(index).disk.class()).collect();
    assert_eq!(classes, [DiskClass::Data].into());
}

/// The world the whole bootstrap rule is for: two disks of three are lost, and bootstrap is still on.
#[test]
fn two_lost_disks_of_three_never_found_a_cluster_that_the_third_could_join() {
    let mut dice = Dice(7);
    let mut fleet = Fleet::new(3, Patch::Relaxed, OnRemovedMember::Rejoin, Telling::Nothing);
    fleet.calm(&mut dice);
    let cluster = *fleet.clusters.first_key_value().expect("one was founded").0;

    for index in [1, 2] {
        fleet.kill(index);
        fleet.instances[index].disk = fleet.fresh_disk();
        fleet.instances[index].mark = false;
    }
    fleet.calm(&mut dice);

    assert_eq!(fleet.clusters.keys().copied().collect::<Vec<_>>(), [cluster]);
    assert!(!fleet.anybody_serves());
    let record: &BootstrapRecord =
        fleet.instances[0].disk.records.bootstrap.as_ref().expect("it founded a cluster");
    assert_eq!(record.cluster_id(), cluster);
    let names: BTreeSet<InstanceId> = record.nonces.keys().cloned().collect();
    assert_eq!(names.len(), 3);
}
