//! A single member whose data is damaged or lost takes the newest backup by itself, if its operator said so; a store that
//! does not answer changes nothing, and a first deploy over backups asks first.

#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

#[path = "support/s3.rs"]
mod s3;
mod support;
#[path = "support/wire.rs"]
#[allow(dead_code, reason = "not each kind of fault is tried here")]
mod wire;

use std::fs;

use etcd_release::backup::catalog::catalog;
use etcd_release::backup::store::Store;
use etcd_release::lifecycle::launch::decide::step::Step;
use s3::S3;
use serde_json::Value;
use support::damage::wreck_page_with;
use support::fleet::Fleet;
use support::load::write_once;
use support::trouble::fingerprint;
use wire::{Fault, Wire};

const SINGLE: &str = "single-node.yml";
/// In every key below, so that its pages can be found.
const MARKER: &str = "marker-";

/// A single member beside job etcd-backup, whose changes are in the store at once.
fn fleet(store: &Wire, auto_restore: bool) -> Fleet {
    let mut fleet = Fleet::new(&["bootstrap.yml", SINGLE, "backup.yml"])
        .with_variable("backup_store_url=s3://bucket/etcd")
        .with_variable("backup_store_region=us-east-1")
        .with_variable(&format!("backup_store_access_key_id={}", s3::KEY))
        .with_variable(&format!("backup_store_secret_access_key={}", s3::SECRET))
        .with_monit_cycle("1");
    let property = |job: &str, name: &str, value: &str| {
        let path = format!("/instance_groups/name=etcd/jobs/name={job}/properties/{name}?");
        format!("- type: replace\n  path: {path}\n  value: {value}\n")
    };
    let settings = [
        property("etcd-backup", "store/endpoint", &format!("http://{}", store.address())),
        property("etcd-backup", "store/path_style", "true"),
        property("etcd-backup", "schedule", "0 0 1 1 *"),
        property("etcd-backup", "delta_period", "100ms"),
        property("etcd", "auto_restore", &auto_restore.to_string()),
    ];
    fleet.add_ops_text("quick-backups.yml", &settings.concat());
    fleet
}

fn get(fleet: &Fleet, slug: &str, key: &str) -> String {
    fleet.ssh(slug, &format!("etcdctl get {key} --print-value-only")).succeeded().stdout.trim().to_owned()
}

/// Writes, and waits until it is in the store.
fn backed_up(fleet: &Fleet, slug: &str, store: &Store, key: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let script = format!("etcdctl put {key} {key} >/dev/null && etcdctl get x -w json");
    let answer: Value = serde_json::from_str(&fleet.ssh(slug, &script).succeeded().stdout).unwrap();
    let revision = answer["header"]["revision"].as_i64().unwrap();
    fleet.wait_until(&format!("{key} is in the store"), || {
        let newest = runtime.block_on(catalog(store)).unwrap().sets.into_iter().next();
        newest.is_some_and(|entry| entry.last_revision() >= revision)
    });
}

#[test]
fn a_damaged_or_lost_single_member_is_restored_once_its_store_answers_and_keeps_what_it_had() {
    let Some(s3) = S3::start() else { return };
    let store = Store::open(&S3::config("etcd", s3.address())).unwrap();
    let wire = Wire::to(s3.address());
    let fleet = fleet(&wire, true).deployed();
    let slug = fleet.slugs().remove(0);
    let before = fleet.whole_from(&slug, 1);
    let fill = format!(
        "for i in $(seq 100 160); do etcdctl put {MARKER}$i $(head -c 300 /dev/zero | tr '\\0' x) || exit 1; done"
    );
    fleet.ssh(&slug, &fill).succeeded();
    backed_up(&fleet, &slug, &store, "kept");
    fleet.crash(&slug);
    wreck_page_with(&fleet.db(&slug), MARKER);
    let damaged = fs::read(fleet.db(&slug)).unwrap();
    let untouched = fingerprint(&fleet.store(&slug).join("member"));

    // Without its store it stays as it is, and says so.
    wire.breaks(Fault::Refused, usize::MAX);
    fleet.resume(&slug);
    fleet.says(&slug, "refuse", &["the data cannot be used", "no backup to restore"]);
    assert_eq!(fingerprint(&fleet.store(&slug).join("member")), untouched);

    // Killed while it makes the data, it begins again; from there on it is a request like any other (recovering.rs).
    for step in [Step::BringBackup, Step::WriteRestoreRequest] {
        fleet.halt(&slug);
        let armed = fleet.arm(&slug, &step.fail_point());
        wire.breaks(Fault::None, 0);
        fleet.resume(&slug);
        fleet.wait_until(&format!("the launcher comes to {step}"), || !armed.exists());
    }

    let after = fleet.whole_from(&slug, 1);
    assert_ne!(after["cluster_id"], before["cluster_id"]);
    assert_eq!(get(&fleet, &slug, "kept"), "kept");
    let log = fleet.log(&slug, "etcd.stderr.log");
    assert!(log.contains("auto_restore is on and backup"), "{log}");
    let aside = fleet.asides(&slug, "restored");
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(
        fs::read(aside[0].join("member/snap/db")).unwrap() == damaged,
        "the damaged data is kept as it was"
    );
    let left = fs::read_dir(fleet.store(&slug).join(".launcher/restore")).unwrap().count();
    assert_eq!(left, 0);

    // The line of backups goes on with the new cluster, and a disk that is gone comes back from it.
    backed_up(&fleet, &slug, &store, "since");
    fleet.crash(&slug);
    fleet.empty_store(&slug, "lost");
    fleet.resume(&slug);
    let again = fleet.whole_from(&slug, 1);
    assert_ne!(again["cluster_id"], after["cluster_id"]);
    assert_eq!((get(&fleet, &slug, "kept"), get(&fleet, &slug, "since")), ("kept".into(), "since".into()));
}

/// Peers' users lost valid disks to stores that were away, or emptied the deployment's second life over its first.
#[test]
fn a_store_that_is_away_stops_no_valid_disk_and_a_new_deployment_over_backups_asks_first() {
    let Some(s3) = S3::start() else { return };
    let store = Store::open(&S3::config("etcd", s3.address())).unwrap();
    let wire = Wire::to(s3.address());
    let first = fleet(&wire, true).deployed();
    let slug = first.slugs().remove(0);
    backed_up(&first, &slug, &store, "kept");
    for fault in [Fault::Refused, Fault::Status(403)] {
        let before = first.whole_from(&slug, 1);
        wire.breaks(fault, usize::MAX);
        first.crash(&slug);
        first.resume(&slug);
        let after = first.whole_from(&slug, 1);
        assert_eq!(after["cluster_id"], before["cluster_id"], "{fault:?}");
        assert!(write_once(&first, "since", "1"), "{fault:?}");
    }
    wire.breaks(Fault::None, 0);
    drop(first);

    let mut second = fleet(&wire, false);
    second.deploy().failed();
    let slug = second.slugs().remove(0);
    let told = second.log(&slug, "post-start.stderr.log");
    assert!(told.contains("a backup of this deployment exists"), "{told}");
    assert!(!second.store(&slug).join("member").exists(), "nothing was made");

    let again = "- type: replace\n  path: /instance_groups/name=etcd/jobs/name=etcd/properties/bootstrap_cluster\n  value: again\n";
    second.add_ops_text("again.yml", again);
    second.deploy().succeeded();
    second.whole_from(&slug, 1);
    assert_eq!(get(&second, &slug, "kept"), "", "it begins anew");
}
