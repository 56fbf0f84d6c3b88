//! The launcher killed by -9 just before each of its steps, then started again as monit does: it must end
//! where it would have ended without the kill.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::cell::Cell;
use std::fs;

use etcd_release::lifecycle::launch::decide::step::Step;
use support::fleet::{Fleet, all_ready, voters};
use support::load::{member_ids, write_once};

/// The steps of a first boot that the launcher takes by itself, behind the nonce.
const FIRST_BOOT: [Step; 6] = [
    Step::WriteBootstrapRecord,
    Step::WriteConfiguration,
    Step::RemoveExitRecord,
    Step::Spawn,
    Step::WriteInitialisedMark,
    Step::CompleteBootstrapRecord,
];

/// The steps of a start on data.
const START: [Step; 6] = [
    Step::WriteInitialisedMark,
    Step::Validate,
    Step::WriteConfiguration,
    Step::RemoveExitRecord,
    Step::Spawn,
    Step::AnnouncePeerUrl,
];

const SOON: &str = "- type: replace\n  path: /instance_groups/name=etcd/jobs/name=etcd/properties/ready_timeout?\n  value: 1s\n";

/// Names the place where the launcher of an instance dies next.
fn arm(fleet: &Fleet, slug: &str, step: Step) {
    let path = fleet.store(slug).join(".launcher/fail-point");
    fs::write(&path, step.fail_point()).expect("name a fail point");
}

#[track_caller]
fn died(fleet: &Fleet, slug: &str, step: Step) {
    assert!(!fleet.store(slug).join(".launcher/fail-point").exists(), "the launcher never came to {step}");
}

#[test]
fn killed_before_each_step_of_a_first_boot_one_member_comes_up_all_the_same() {
    for step in FIRST_BOOT {
        // Without the flag the launcher waits behind its nonce: the next deploy meets the armed place.
        let mut fleet = Fleet::new(&["single-node.yml"]).with_monit_cycle("1");
        fleet.add_ops_text("soon.yml", SOON);
        fleet.deploy().failed();
        let slug = fleet.slugs().remove(0);
        arm(&fleet, &slug, step);

        fleet.set_ops(&["single-node.yml", "bootstrap.yml"]);
        fleet.deploy();

        let status = fleet.eventually(&format!("one voter after dying before {step}"), |seen| {
            voters(seen) == 1 && all_ready(seen)
        });
        died(&fleet, &slug, step);
        assert_eq!(member_ids(&status).len(), 1, "{step}");
        assert!(write_once(&fleet, "alive", "1"), "{step}");
        assert!(
            fleet.store(&slug).join("member").exists() && !fleet.store(&slug).join("aside").exists(),
            "{step}"
        );
    }
}

#[test]
fn killed_before_each_step_of_a_start_a_member_comes_back_as_itself() {
    let fleet = Fleet::new(&["single-node.yml", "bootstrap.yml"]).with_monit_cycle("1").deployed();
    let before = member_ids(&fleet.eventually("one voter", |seen| voters(seen) == 1 && all_ready(seen)));
    let slug = fleet.slugs().remove(0);
    for (number, step) in START.into_iter().enumerate() {
        assert!(write_once(&fleet, "round", &number.to_string()), "{step}");
        arm(&fleet, &slug, step);

        fleet.ssh(&slug, "kill -9 $(cat /var/vcap/sys/run/bpm/etcd/etcd.pid)").succeeded();

        // What was seen counts from the look after the one that found it dead: a status may have been asked just while
        // it died.
        let dead = Cell::new(false);
        let status = fleet.eventually(&format!("the member after dying before {step}"), |seen| {
            dead.replace(!fleet.store(&slug).join(".launcher/fail-point").exists()) && all_ready(seen)
        });
        assert_eq!(member_ids(&status), before, "{step}");
        let value = fleet.ssh(&slug, "etcdctl get round --print-value-only").succeeded();
        assert_eq!(value.stdout.trim(), number.to_string(), "{step}");
    }
}

/// Of three, the one that completes the set dies in the middle of founding the cluster.
#[test]
fn killed_while_founding_a_cluster_of_three_it_is_still_one_cluster() {
    for step in [Step::WriteBootstrapRecord, Step::Spawn, Step::CompleteBootstrapRecord] {
        let mut fleet = Fleet::new(&[]).with_monit_cycle("1");
        fleet.add_ops_text("soon.yml", SOON);
        fleet.deploy().failed();
        for slug in fleet.slugs() {
            arm(&fleet, &slug, step);
        }

        fleet.set_ops(&["bootstrap.yml"]);
        fleet.deploy();

        let status = fleet.eventually(&format!("three voters after dying before {step}"), |seen| {
            voters(seen) == 3 && all_ready(seen)
        });
        assert_eq!(member_ids(&status).len(), 3, "{step}");
        for slug in fleet.slugs() {
            died(&fleet, &slug, step);
        }
    }
}
