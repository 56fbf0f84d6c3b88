//! First members whose data the launcher writes before etcd runs: the cluster is the one that was computed, and a
//! launcher that is killed anywhere on the way ends where it would have ended without the kill.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use etcd_release::job::properties::BootstrapMethod;
use etcd_release::lifecycle::launch::attestation::InstanceId;
use etcd_release::lifecycle::launch::records::{BootPhase, BootstrapRecord};
use serde_json::Value;
use support::fleet::{Fleet, all_ready, voters};
use support::load::{member_ids, write_once};
use support::trouble::{id_of, member_of, property};

const BOOTSTRAP: &str = "bootstrap.yml";
const SINGLE: &str = "single-node.yml";

/// Where a launcher dies: before each of its steps, and within the one that writes the data.
const PLACES: [&str; 8] = [
    "launch:write-bootstrap-record",
    "launch:seed-data",
    "seed:written",
    "seed:placed",
    "launch:write-configuration",
    "launch:spawn",
    "launch:write-initialised-mark",
    "launch:complete-bootstrap-record",
];

fn fleet(ops: &[&str]) -> Fleet {
    let mut fleet = Fleet::new(ops).with_monit_cycle("1");
    seed_members(&mut fleet);
    fleet
}

fn seed_members(fleet: &mut Fleet) {
    fleet.add_ops_text("seeded.yml", &property("bootstrap_method", "seeded"));
}

#[track_caller]
fn record(fleet: &Fleet, slug: &str) -> BootstrapRecord {
    let text =
        fs::read(fleet.store(slug).join(".launcher/bootstrap.json")).expect("a record of the first boot");
    serde_json::from_slice(&text).expect("a record of the first boot")
}

/// Demands one cluster of all instances, with the ids that every launcher computed.
#[track_caller]
fn assert_as_computed(fleet: &Fleet, status: &Value) {
    let slugs = fleet.slugs();
    assert_eq!(member_ids(status).len(), slugs.len(), "{status:#}");
    for slug in &slugs {
        let record = record(fleet, slug);
        assert_eq!((record.method, record.phase), (BootstrapMethod::Seeded, BootPhase::Running), "{slug}");
        assert_eq!(status["cluster_id"], record.cluster_id().to_string(), "{slug}");
        let computed = record.member_id(&InstanceId(id_of(slug).to_owned())).expect("it takes part");
        assert_eq!(member_of(status, slug), computed.to_string(), "{slug}");
        let left: BTreeSet<String> = fs::read_dir(fleet.store(slug))
            .expect("list the store")
            .map(|entry| entry.expect("list the store").file_name().to_string_lossy().into_owned())
            .collect();
        let expected = [".launcher", "member"].map(str::to_owned).into();
        assert_eq!(left, expected, "nothing unfinished is left on {slug}");
    }
}

#[test]
fn three_seeded_members_are_one_cluster_that_restarts_and_grows() {
    let mut fleet = fleet(&[BOOTSTRAP]);
    fleet.deploy().succeeded();
    let slugs = fleet.slugs();
    let status = fleet.whole_from(&slugs[0], 3);
    assert_as_computed(&fleet, &status);
    for slug in &slugs {
        let log = fleet.log(slug, "etcd.stderr.log");
        // etcd's own word for a start on a log that is there.
        assert!(log.contains("restarting local member"), "etcd bootstrapped itself on {slug}: {log}");
        assert_eq!(log.matches("the data of a first member is written").count(), 1, "{log}");
    }
    assert!(write_once(&fleet, "seeded", "1"));

    // All of them lose their processes at once: what was written must be enough to start from.
    for slug in &slugs {
        fleet.crash(slug);
    }
    for slug in &slugs {
        fleet.resume(slug);
    }
    let again = fleet.whole_from(&slugs[0], 3);
    assert_eq!((&again["cluster_id"], member_ids(&again)), (&status["cluster_id"], member_ids(&status)));
    let value = fleet.ssh(&slugs[2], "etcdctl get seeded --print-value-only").succeeded();
    assert_eq!(value.stdout.trim(), "1");

    fleet.scale_to(4).succeeded();
    let grown = fleet.whole_from(&slugs[0], 4);
    assert_eq!(grown["cluster_id"], status["cluster_id"]);
}

#[test]
fn killed_anywhere_on_its_way_a_single_member_is_seeded_all_the_same() {
    for place in PLACES {
        // Without the flag the launcher waits behind its nonce: the next deploy meets the armed place.
        let mut fleet = fleet(&[SINGLE]);
        fleet.add_ops_text("soon.yml", &property("ready_timeout", "1s"));
        fleet.deploy().failed();
        let slug = fleet.slugs().remove(0);
        let armed = fleet.arm(&slug, place);

        fleet.set_ops(&[SINGLE, BOOTSTRAP]);
        seed_members(&mut fleet);
        fleet.deploy();

        let status = fleet.eventually(&format!("one voter after dying at {place}"), |seen| {
            voters(seen) == 1 && all_ready(seen)
        });
        assert!(!armed.exists(), "the launcher never came to {place}");
        fleet.wait_until("the record is complete", || record(&fleet, &slug).phase == BootPhase::Running);
        assert_as_computed(&fleet, &status);
        assert!(write_once(&fleet, "alive", "1"), "{place}");
    }
}

/// All three die at the same place; whoever comes back first may already have data when the others decide.
#[test]
fn killed_while_seeding_three_members_they_are_still_one_cluster() {
    for place in ["launch:seed-data", "seed:placed", "launch:complete-bootstrap-record"] {
        let mut fleet = fleet(&[]);
        fleet.add_ops_text("soon.yml", &property("ready_timeout", "1s"));
        fleet.deploy().failed();
        let slugs = fleet.slugs();
        let armed: Vec<_> = slugs.iter().map(|slug| fleet.arm(slug, place)).collect();

        fleet.set_ops(&[BOOTSTRAP]);
        seed_members(&mut fleet);
        fleet.deploy();

        let status = fleet.eventually(&format!("three voters after dying at {place}"), |seen| {
            voters(seen) == 3 && all_ready(seen)
        });
        assert!(armed.iter().all(|path| !path.exists()), "not all came to {place}");
        fleet.wait_until("the records are complete", || {
            slugs.iter().all(|slug| record(&fleet, slug).phase == BootPhase::Running)
        });
        assert_as_computed(&fleet, &status);
    }
}

/// One way for all: members of one cluster that were made in two ways are made nowhere.
#[test]
fn instances_that_would_make_their_members_in_two_ways_wait_for_one_word() {
    let mut fleet = fleet(&[]);
    fleet.add_ops_text("soon.yml", &property("ready_timeout", "1s"));
    fleet.deploy().failed();
    let slugs = fleet.slugs();
    for slug in &slugs {
        fleet.halt(slug);
    }
    // As if a deploy that changes the method had come to the first instance only.
    for (slug, method) in [(&slugs[0], "static"), (&slugs[1], "seeded"), (&slugs[2], "seeded")] {
        let path = fleet.instance(slug).root().join("jobs/etcd/config/job.json");
        let mut job: Value =
            serde_json::from_slice(&fs::read(&path).expect("the rendered job")).expect("JSON");
        job["properties"]["bootstrap_cluster"] = true.into();
        job["properties"]["bootstrap_method"] = method.into();
        fs::write(&path, job.to_string()).expect("render it in another way");
    }
    for slug in &slugs {
        fleet.resume(slug);
    }

    fleet.says(&slugs[0], "wait", &[id_of(&slugs[1]), "was deployed with bootstrap_method: seeded"]);
    for slug in &slugs[1..] {
        fleet.says(slug, "wait", &[id_of(&slugs[0]), "was deployed with bootstrap_method: static"]);
    }
    for slug in &slugs {
        assert!(!fleet.store(slug).join("member").exists(), "{slug} made data");
    }
}
