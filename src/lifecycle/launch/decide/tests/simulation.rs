//! A seeded model of instances, disks, kills and partitions around `decide`: what no single table row
//! can show. Answers are gathered one by one and plans are carried out step by step, so every decision
//! may rest on a world that has moved on.
//!
//! Safety: never a second cluster while a disk of the first is left; never a member back under its id on
//! another disk; data goes only when an operator takes it. Liveness: once the faults stop, whoever can
//! serve does. A failure names its seed.

use std::collections::BTreeSet;

use super::fleet::{Dice, Fleet};
use crate::lifecycle::launch::attestation::{DiskClass, InstanceId};
use crate::lifecycle::launch::records::BootstrapRecord;

fn simulate(seed: u64) -> Fleet {
    let mut dice = Dice(seed);
    let size = [1, 3, 3, 5][dice.below(4)];
    let mut fleet = Fleet::new(size);
    let turbulence = 3 + dice.below(40);
    for _ in 0..300 {
        if dice.one_in(turbulence) {
            fleet.mishap(&mut dice);
        }
        let index = dice.below(size);
        fleet.go_on(index, &mut dice);
    }
    fleet.calm(&mut dice);
    assert!(!fleet.must_serve() || fleet.anybody_serves(), "nobody serves although nothing is missing");
    fleet
}

#[test]
fn no_seed_makes_two_clusters_and_calm_brings_service() {
    let (mut served, mut refounded) = (0, 0);
    for seed in 0..1000 {
        let fleet = std::panic::catch_unwind(|| simulate(seed)).unwrap_or_else(|cause| {
            eprintln!("seed {seed} fails; simulate({seed}) repeats it");
            std::panic::resume_unwind(cause)
        });
        served += usize::from(fleet.anybody_serves());
        refounded += usize::from(fleet.clusters.len() > 1);
    }
    // The model would prove nothing if nothing ever happened in it.
    assert!(served > 200, "only {served} fleets served in the end");
    assert!(refounded > 5, "only {refounded} fleets lost everything and began anew");
}

/// The shortest way through the model: three instances, no mishap.
#[test]
fn three_instances_found_one_cluster() {
    let mut dice = Dice(1);
    let mut fleet = Fleet::new(3);

    fleet.calm(&mut dice);

    assert_eq!(fleet.clusters.len(), 1, "{:#?}", fleet.story);
    assert!(fleet.anybody_serves());
    let classes: BTreeSet<DiskClass> = (0..3).map(|index| fleet.own_view(index).disk.class()).collect();
    assert_eq!(classes, [DiskClass::Data].into());
}

/// The world the whole bootstrap rule is for: two disks of three are lost, and bootstrap is still on.
#[test]
fn two_lost_disks_of_three_never_found_a_cluster_that_the_third_could_join() {
    let mut dice = Dice(7);
    let mut fleet = Fleet::new(3);
    fleet.calm(&mut dice);
    let cluster = *fleet.clusters.first_key_value().expect("one was founded").0;

    for index in [1, 2] {
        fleet.stop(index);
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
