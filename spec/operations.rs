//! What operators do to a running cluster beside scaling it: rename its group, move it to other zones, give it
//! other disks and stemcells, repair it, and cut its network by accident.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use support::fleet::{Fleet, all_ready, voters};
use support::load::{Load, assert_nothing_lost, member_ids, write_once};
use support::trouble::{id_of, property};

/// Both names of the group in the certificates, from the first deploy on.
const NAMES: &str = "
- type: replace
  path: /variables/name=etcd_server/options/alternative_names/-
  value: cluster.default.etcd.bosh
- type: replace
  path: /variables/name=etcd_server/options/alternative_names/-
  value: '*.cluster.default.etcd.bosh'
- type: replace
  path: /variables/name=etcd_peer/options/alternative_names/-
  value: cluster.default.etcd.bosh
- type: replace
  path: /variables/name=etcd_peer/options/alternative_names/-
  value: '*.cluster.default.etcd.bosh'
";

const RENAMED: &str = "
- type: replace
  path: /instance_groups/name=etcd/name
  value: cluster
- type: replace
  path: /instance_groups/name=cluster/migrated_from?
  value: [{name: etcd}]
";

/// Refusals come at once instead of after the ten minutes a real deploy holds.
const NO_HOLDING: &str = "
- type: replace
  path: /instance_groups/name=etcd/jobs/name=etcd/properties/hold_timeout?
  value: 1s
";

fn group(key: &str, value: &str) -> String {
    format!("- type: replace\n  path: /instance_groups/name=etcd/{key}\n  value: {value}\n")
}

#[track_caller]
fn three_serve(fleet: &Fleet) -> Value {
    fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen))
}

/// Deploys under load: nobody may notice, and the members must be the same afterwards.
#[track_caller]
fn nobody_notices(fleet: &Fleet, before: &Value) {
    let load = Load::start(fleet);
    fleet.deploy().succeeded();
    let report = load.finish();
    let after = three_serve(fleet);
    assert_eq!(member_ids(before), member_ids(&after));
    assert_nothing_lost(fleet, &report);
    assert_eq!(report.failed_writes, 0, "{report:?}\n{}", fleet.log_tails());
}

/// Identity is the id on the disk, not a name or an address: the members keep it and tell their new URLs.
#[test]
fn a_renamed_group_keeps_its_members_and_each_tells_the_cluster_its_new_url() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]);
    fleet.add_ops_text("names.yml", NAMES);
    let mut fleet = fleet.deployed();
    let before = three_serve(&fleet);
    let load = Load::start(&fleet);

    fleet.add_ops_text("renamed.yml", RENAMED);
    fleet.deploy().succeeded();

    let report = load.finish();
    let after = fleet.eventually_from("cluster/0", "three voters at new URLs", |seen| {
        let urls = seen["members"].to_string();
        voters(seen) == 3 && all_ready(seen) && !urls.contains(".etcd.default.etcd.bosh:2380")
    });
    assert_eq!(member_ids(&before), member_ids(&after));
    assert_eq!(report.failed_writes, 0, "{report:?}\n{}", fleet.log_tails());
    for slug in fleet.slugs() {
        assert!(slug.starts_with("cluster/"), "{slug}");
        let told = fleet.log(&slug, "etcd.stderr.log");
        assert!(told.contains("the cluster knows this member's new URL"), "{told}");
        assert!(!fleet.store(&slug).join("aside").exists(), "{slug} moved data");
    }
}

#[test]
fn larger_disks_another_stemcell_and_all_at_once_keep_every_member() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]).deployed();
    let before = three_serve(&fleet);
    let inodes = |fleet: &Fleet| -> Vec<u64> {
        fleet.slugs().iter().map(|slug| fs::metadata(fleet.store(slug)).expect("a store").ino()).collect()
    };
    let disks = inodes(&fleet);

    fleet.add_ops_text("disk.yml", &group("persistent_disk", "20480"));
    nobody_notices(&fleet, &before);
    assert!(inodes(&fleet).iter().all(|disk| !disks.contains(disk)), "the disks were not replaced");

    fleet.add_ops_text(
        "stemcell.yml",
        "- type: replace\n  path: /stemcells/alias=default/version\n  value: '1.99'\n",
    );
    nobody_notices(&fleet, &before);

    // BOSH stops them together; the mutex and the hold rule put them in a row.
    fleet.add_ops_text(
        "at-once.yml",
        &(property("snapshot_count", "5001")
            + "- type: replace\n  path: /update/max_in_flight\n  value: 3\n- type: replace\n  path: /update/canaries\n  value: 0\n"),
    );
    fleet.add_ops_text("one-zone.yml", &group("azs", "[z1, z2, z3]"));
    nobody_notices(&fleet, &before);
}

#[test]
fn one_zone_moves_in_a_deploy_and_the_last_copy_stays_when_all_do() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]);
    fleet.add_ops_text("soon.yml", NO_HOLDING);
    let mut fleet = fleet.deployed();
    let before = three_serve(&fleet);
    let ours = member_ids(&before);
    let load = Load::start(&fleet);

    fleet.add_ops_text("zones.yml", &group("azs", "[z1, z2, z4]"));
    fleet.deploy().succeeded();

    let report = load.finish();
    let after = three_serve(&fleet);
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    assert_eq!(member_ids(&after).iter().filter(|id| ours.contains(id)).count(), 2, "{after:#}");
    assert_nothing_lost(&fleet, &report);

    // All zones: the new instances have nothing yet when BOSH deletes the old ones.
    assert!(write_once(&fleet, "last", "copy"));
    fleet.add_ops_text("zones.yml", &group("azs", "[z5, z6, z7]"));
    fleet.deploy().failed();

    let refused: String = fleet.slugs().iter().map(|slug| fleet.log(slug, "pre-stop.stderr.log")).collect();
    assert!(refused.contains("this is the last voting member, and its data would go with it"), "{refused}");
    assert!(refused.contains("add instances first and remove this one in a second deploy"), "{refused}");
    let keeper = fleet
        .slugs()
        .into_iter()
        .find(|slug| fleet.store(slug).join("member").exists())
        .expect("somebody has the last copy");
    let value = fleet.ssh(&keeper, "LOCAL=true etcdctl get last --print-value-only").succeeded();
    assert_eq!(value.stdout, "copy\n");
}

/// A deploy that breaks a member is repaired by the next one, whatever the hold rule thinks of the broken one.
#[test]
fn a_bad_property_breaks_one_member_and_the_next_deploy_repairs_it() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]);
    fleet.add_ops_text("soon.yml", &(NO_HOLDING.to_owned() + &property("ready_timeout", "20s")));
    let mut fleet = fleet.deployed();
    let before = three_serve(&fleet);

    for (bad, good) in [
        // Found by pre-start, which BOSH runs when the old process is stopped already.
        (property("heartbeat_interval", "99999s"), property("heartbeat_interval", "100ms")),
        // Found by etcd itself: no such address here.
        (property("client_listen_address", "203.0.113.7"), property("snapshot_count", "5001")),
    ] {
        fleet.add_ops_text("bad.yml", &bad);
        fleet.deploy().failed();
        let served = fleet
            .slugs()
            .iter()
            .any(|slug| fleet.ssh(slug, "LOCAL=true etcdctl put still serving").code == 0);
        assert!(served, "{bad} took the quorum");

        fleet.add_ops_text("bad.yml", &good);
        fleet.deploy().succeeded();

        assert_eq!(member_ids(&before), member_ids(&three_serve(&fleet)), "{bad}");
    }
}

/// A member is down that this deploy would come to last: the first one is refused, and each way out works.
#[test]
fn each_way_out_of_a_held_deploy_works_as_it_is_written() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]);
    fleet.add_ops_text("soon.yml", NO_HOLDING);
    let mut fleet = fleet.deployed();
    let before = three_serve(&fleet);
    let all = fleet.slugs();
    let (last, others) = all.split_last().expect("three instances");
    let mut snapshot_count = 5000;
    let mut held = |fleet: &mut Fleet| {
        snapshot_count += 1;
        fleet.ssh(last, "/var/vcap/bosh/bin/monit stop etcd").succeeded();
        fleet.eventually("two that serve", |seen| {
            let ready = seen["instances"]
                .as_array()
                .map(|all| all.iter().filter(|one| one["ready"].get("Ok").is_some()).count());
            ready == Some(2)
        });
        fleet.add_ops_text("change.yml", &property("snapshot_count", &snapshot_count.to_string()));
        fleet.deploy().failed();
        let refused = fleet.log(&others[0], "pre-stop.stderr.log");
        let id = id_of(last);
        assert!(refused.contains("stopping this member would take the quorum"), "{refused}");
        assert!(refused.contains(id), "{refused}");
        assert!(write_once(fleet, "held", "serving"), "the refusal kept the quorum");
    };

    held(&mut fleet);
    fleet.cli(&["restart", last, "--no-converge"]).succeeded();
    three_serve(&fleet);
    fleet.deploy().succeeded();
    assert_eq!(member_ids(&before), member_ids(&three_serve(&fleet)));

    held(&mut fleet);
    for slug in others {
        fleet.cli(&["ignore", slug]).succeeded();
    }
    fleet.deploy().succeeded();
    for slug in others {
        fleet.cli(&["unignore", slug]).succeeded();
    }
    fleet.deploy().succeeded();
    assert_eq!(member_ids(&before), member_ids(&three_serve(&fleet)));

    held(&mut fleet);
    fleet.deploy_with(&["--skip-drain"]).succeeded();
    assert_eq!(member_ids(&before), member_ids(&three_serve(&fleet)));
}

/// On loopback all traffic leaves from one address; only here can members really lose sight of each other.
#[test]
fn cut_off_members_start_on_their_data_and_empty_ones_wait_whatever_the_flag_says() {
    let fleet = Fleet::new(&["bootstrap.yml"]).in_namespaces().with_monit_cycle("1").deployed();
    let before = three_serve(&fleet);
    let victim = fleet.slugs().pop().expect("three instances");

    // With its data: it starts, has no quorum, and changes nothing.
    let load = Load::start(&fleet);
    fleet.cut(&[&victim]);
    fleet.kill9(&victim, "etcd");
    fleet.eventually_from(&victim, "a member without quorum", |seen| {
        let own = seen["instances"]
            .as_array()
            .and_then(|all| all.iter().find(|one| victim.ends_with(one["instance"].as_str().unwrap_or("?"))));
        own.is_some_and(|own| own["launcher"]["Ok"]["row"] == 8)
    });
    fleet.heal();
    assert_eq!(member_ids(&before), member_ids(&three_serve(&fleet)));
    let report = load.finish();
    assert_nothing_lost(&fleet, &report);

    // Without it: it waits although bootstrap is on, and is replaced when it sees the others again.
    fleet.cli(&["stop", &victim, "--no-converge"]).succeeded();
    let store = fleet.store(&victim);
    fleet.empty_store(&victim, "lost");
    fleet.cut(&[&victim]);
    fleet.cli(&["start", &victim, "--no-converge"]);
    fleet.eventually_from(&victim, "a launcher that waits", |seen| {
        seen.to_string().contains("\"plan\":\"wait\"")
    });
    assert!(!store.join("member").exists(), "it made data of its own");
    fleet.heal();
    let after = three_serve(&fleet);
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    assert_eq!(member_ids(&before).iter().filter(|id| member_ids(&after).contains(id)).count(), 2);
}
