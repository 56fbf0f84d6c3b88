//! Members that go for good, and members that nobody said goodbye for: the list always ends up like the
//! manifest, and no acknowledged write is lost on the way.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::fs;
use std::time::Instant;

use etcd_release::datadir::{self, Found};
use etcd_release::etcd::mutex;
use etcd_release::lifecycle::drain::step::Step;
use etcd_release::local::layout::StateDir;
use serde_json::Value;
use support::fleet::{Answer, DEADLINE, Fleet, all_ready, voters};
use support::load::{Load, ask_any, assert_nothing_lost, member_ids, write_once};

const BOOTSTRAP: &str = "bootstrap.yml";
const SINGLE: &str = "single-node.yml";
const SCALE: &str = "scale.yml";

/// An ops file that sets a property of job etcd.
fn set(property: &str, value: &str) -> String {
    format!(
        "- type: replace\n  path: /instance_groups/name=etcd/jobs/name=etcd/properties/{property}?\n  value: {value}\n"
    )
}

fn scaled(fleet: &mut Fleet, instances: usize) -> Answer {
    fleet.set_ops(&[SCALE]);
    fleet.deploy_with(&["-v", &format!("etcd_instances={instances}")])
}

/// A cluster of three that serves, and its status.
fn three() -> (Fleet, Value) {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let status = fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
    (fleet, status)
}

/// The member id of an instance.
fn member_id(status: &Value, slug: &str) -> String {
    let id = slug.split('/').nth(1).expect("group/id");
    status["instances"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["instance"] == id))
        .and_then(|one| one["etcd"]["Ok"]["member_id"].as_str())
        .unwrap_or_else(|| panic!("{slug} has no member in {status:#}"))
        .to_owned()
}

/// The leader's `group/id`.
fn leader(status: &Value) -> String {
    let leads = |one: &&Value| one["etcd"]["Ok"]["is_leader"] == true;
    let found = status["instances"].as_array().and_then(|all| all.iter().find(leads));
    format!("etcd/{}", found.and_then(|one| one["instance"].as_str()).expect("a leader"))
}

/// Everything the scripts of all instances said about stopping.
fn stories(fleet: &Fleet) -> String {
    let slugs = fleet.slugs();
    let logs = slugs.iter().flat_map(|slug| {
        ["pre-stop.stderr.log", "drain.log", "drain.stderr.log"].map(|file| fleet.log(slug, file))
    });
    logs.collect()
}

#[test]
fn scaled_from_three_to_one_the_list_is_the_manifests_and_no_write_is_lost() {
    let (mut fleet, before) = three();
    let load = Load::start(&fleet);

    scaled(&mut fleet, 1).succeeded();

    let report = load.finish();
    let after = fleet.eventually("one voter, ready", |seen| voters(seen) == 1 && all_ready(seen));
    assert_nothing_lost(&fleet, &report);
    assert!(report.acknowledged.len() > 20, "the load wrote too little to prove anything: {report:?}");
    assert_eq!(fleet.size(), 1);
    let stays = fleet.slugs().remove(0);
    assert_eq!(member_ids(&after), [member_id(&before, &stays)]);
    assert_eq!(before["cluster_id"], after["cluster_id"]);
}

/// Weakness 14 of the predecessors: a second drain after a successful removal failed. The leader goes, and
/// its drain dies before each step in turn; the one after the removal finds nothing left to do.
#[test]
fn a_drain_killed_before_any_step_and_run_again_finishes() {
    let (mut fleet, before) = three();
    let last = fleet.slugs().pop().expect("three instances");
    let id = member_id(&before, &last);
    let leads = leader(&before);
    if leads != last {
        fleet.ssh(&leads, &format!("LOCAL=true etcdctl move-leader {id}")).succeeded();
    }
    for step in Step::ALL {
        fs::write(fleet.store(&last).join(".launcher/fail-point"), step.fail_point()).expect("arm");

        scaled(&mut fleet, 2).failed();

        assert!(!fleet.store(&last).join(".launcher/fail-point").exists(), "drain never came to {step}");
        let listed = fleet.eventually("a member list", |seen| seen["leader"].is_string());
        assert_eq!(member_ids(&listed).contains(&id), step <= Step::Remove, "before {step}: {listed:#}");
    }

    scaled(&mut fleet, 2).succeeded();

    let after = fleet.eventually("two voters, all ready", |seen| voters(seen) == 2 && all_ready(seen));
    assert!(!member_ids(&after).contains(&id));
    assert!(write_once(&fleet, "after", "1"));
    let free = ask_any(&fleet, async |client| mutex::try_take(client).await).flatten();
    assert!(free.is_some(), "the mutex was left behind");
}

/// BOSH deletes a group at once: all pass pre-stop together, and their drains go one after the other.
#[test]
fn when_the_whole_group_goes_the_last_copy_refuses() {
    let (mut fleet, _) = three();
    assert!(write_once(&fleet, "kept", "1"));
    fleet.add_ops_text("gone.yml", "- type: remove\n  path: /instance_groups/name=etcd\n");

    let answer = fleet.deploy().failed();

    let told = stories(&fleet);
    assert!(told.contains("last voting member"), "{told}\n{}", answer.text());
    let last = fleet
        .instances()
        .into_iter()
        .filter_map(|row| row["instance"].as_str().map(str::to_owned))
        .find(|slug| fleet.ssh(slug, "LOCAL=true etcdctl get kept --print-value-only").stdout == "1\n");
    let last = last.unwrap_or_else(|| panic!("nobody has the data\n{}", fleet.log_tails()));
    let status = fleet.eventually_from(&last, "one voter", |seen| voters(seen) == 1);
    assert_eq!(member_ids(&status).len(), 1);
}

#[test]
fn while_one_that_stays_is_dead_nobody_leaves_and_the_refusal_says_what_to_type() {
    let (mut fleet, before) = three();
    let all = fleet.slugs();
    let dead = member_id(&before, &all[0]);
    fleet.ssh(&all[0], "/var/vcap/bosh/bin/monit stop etcd").succeeded();

    for turn in ["first", "second"] {
        scaled(&mut fleet, 1).failed();

        let told = stories(&fleet);
        assert!(told.contains(&format!("etcdctl member remove {dead}")), "{turn}: {told}");
        let status = fleet.eventually_from(&all[1], "a member list", |seen| seen["leader"].is_string());
        assert_eq!(member_ids(&status), member_ids(&before), "{turn}");
    }
}

/// Weakness 10 of the predecessors: a removal that failed was a drain that succeeded.
#[test]
fn a_removal_that_does_not_come_about_is_a_failed_drain() {
    let mut fleet = Fleet::new(&[BOOTSTRAP, SCALE]);
    // Long enough for the second removal, on a busy machine too: a drain has the properties of the deploy before.
    fleet.add_ops_text("soon.yml", &set("drain_timeout", "10s"));
    fleet.deploy_with(&["-v", "etcd_instances=2"]).succeeded();
    let before = fleet.eventually("two voters, all ready", |seen| voters(seen) == 2 && all_ready(seen));
    let held = ask_any(&fleet, async |client| mutex::try_take(client).await).flatten().expect("a free mutex");

    fleet.set_ops(&[SCALE]);
    fleet.add_ops_text("soon.yml", &set("drain_timeout", "10s"));
    fleet.deploy_with(&["-v", "etcd_instances=1"]).failed();

    let last = fleet.slugs().pop().expect("two instances");
    let told = fleet.log(&last, "drain.log") + &fleet.log(&last, "drain.stderr.log");
    assert!(told.contains("did not leave the cluster within drain_timeout"), "{told}");
    assert_eq!(member_ids(&fleet.status()), member_ids(&before));
    ask_any(&fleet, async |client| mutex::release(client, held).await);

    fleet.deploy_with(&["-v", "etcd_instances=1"]).succeeded();

    let after = fleet.eventually("one voter, ready", |seen| voters(seen) == 1 && all_ready(seen));
    assert_eq!(member_ids(&after).len(), 1);
}

/// Without the mutex both would see all others alive, and stop.
#[test]
fn two_that_stop_at_the_same_time_never_take_the_quorum() {
    let mut fleet = Fleet::new(&[BOOTSTRAP]);
    // BOSH goes zone by zone: only within one zone does it update several at once.
    fleet
        .add_ops_text("zone.yml", "- type: replace\n  path: /instance_groups/name=etcd/azs\n  value: [z1]\n");
    fleet.deploy().succeeded();
    let before = fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
    let load = Load::start(&fleet);
    fleet.add_ops_text("change.yml", &set("snapshot_count", "5000"));

    let together = "- type: replace\n  path: /update/canaries\n  value: 0\n- type: replace\n  path: /update/max_in_flight\n  value: 3\n";
    fleet.add_ops_text("together.yml", together);
    fleet.deploy().succeeded();

    let report = load.finish();
    assert_nothing_lost(&fleet, &report);
    assert_eq!((report.failed_writes, report.failed_reads), (0, 0), "longest gap {:?}", report.longest_gap);
    let after = fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
    assert_eq!(member_ids(&after), member_ids(&before));
    assert!(stories(&fleet).contains("stop is held"), "they never met: {}", stories(&fleet));
}

/// Weakness 11 of the predecessors: a disk of size 0 was taken for a member that goes.
#[test]
fn a_restart_without_a_persistent_disk_is_no_goodbye() {
    let mut fleet = Fleet::new(&[BOOTSTRAP, SINGLE]);
    fleet.add_ops_text("no-disk.yml", "- type: remove\n  path: /instance_groups/name=etcd/persistent_disk\n");
    let fleet = fleet.deployed();
    let before = fleet.eventually("one voter, ready", |seen| voters(seen) == 1 && all_ready(seen));
    assert!(write_once(&fleet, "kept", "1"));

    fleet.cli(&["restart"]).succeeded();

    let after = fleet.eventually("one voter, ready", |seen| voters(seen) == 1 && all_ready(seen));
    assert_eq!(member_ids(&after), member_ids(&before));
    let value = fleet.ssh("etcd/0", "etcdctl get kept --print-value-only").succeeded();
    assert_eq!(value.stdout, "1\n");
}

/// Weakness 12 of the predecessors: all tried to leave at once, and the last ones waited for a quorum. Here
/// one is dead, so that anybody who tried to leave would be refused.
#[test]
fn deleting_the_deployment_removes_nobody_and_waits_for_nobody() {
    let (fleet, before) = three();
    fleet.ssh("etcd/0", "/var/vcap/bosh/bin/monit stop etcd").succeeded();

    fleet.delete();

    let orphans = StateDir::at(fleet.state_dir()).orphaned_disks("etcd");
    let disks: Vec<_> = fs::read_dir(&orphans)
        .unwrap_or_else(|error| panic!("{}: {error}", orphans.display()))
        .map(|disk| disk.expect("a disk").path())
        .collect();
    assert_eq!(disks.len(), 3);
    for disk in disks {
        match datadir::classify(&disk.join("etcd"), None).expect("a readable disk") {
            Found::Data(own) => {
                assert_eq!(own.voters.map(|voters| voters.len()), Some(member_ids(&before).len()));
            }
            other => panic!("{}: {other:?}", disk.display()),
        }
    }
}

/// Weakness 13 of the predecessors: no script runs on an instance without a VM, so its entry stayed for ever.
#[test]
fn an_instance_that_was_hard_stopped_and_then_deleted_is_evicted() {
    let (mut fleet, before) = three();
    let gone = fleet.slugs().pop().expect("three instances");
    let id = member_id(&before, &gone);
    fleet.cli(&["stop", &gone, "--hard", "--no-converge"]).succeeded();

    fleet.set_ops(&[SCALE]);
    // One of three is missing: BOSH must not ask, or no other could stop for the new link.
    fleet.deploy_with(&["-v", "etcd_instances=2", "--skip-drain"]).succeeded();

    let after = fleet.eventually("two voters, all ready", |seen| voters(seen) == 2 && all_ready(seen));
    assert!(!member_ids(&after).contains(&id), "{after:#}\n{}", fleet.log_tails());
    let told: String = fleet.slugs().iter().map(|slug| fleet.log(slug, "post-deploy.stderr.log")).collect();
    assert!(told.contains("an entry without an instance was evicted"), "{told}");
}

/// Notes on the disk of an instance that somebody with this URL was in its link once.
fn remember(fleet: &Fleet, slug: &str, url: &str) {
    let history = fleet.store(slug).join(".launcher/links.json");
    let mut links: Value =
        serde_json::from_str(&fs::read_to_string(&history).expect("a history")).expect("JSON");
    links["peer_urls"].as_array_mut().expect("a list").push(url.into());
    fs::write(&history, links.to_string()).expect("change the history");
}

/// A stale learner blocks every join, since etcd takes one at a time. Whoever was never in the link stays.
#[test]
fn a_learner_of_an_instance_that_vanished_is_evicted_and_a_stranger_is_not() {
    let fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).deployed();
    let before = member_ids(&fleet.eventually("one voter", |seen| voters(seen) == 1 && all_ready(seen)));
    let slug = fleet.slugs().remove(0);
    let url = "https://00000000-0000-0000-0000-000000000000.etcd.default.etcd.bosh:2380";
    let add = format!("etcdctl member add vanished --learner --peer-urls={url}");
    fleet.ssh(&slug, &add).succeeded();

    fleet.deploy().succeeded();
    assert_eq!(member_ids(&fleet.status()).len(), 2, "a stranger was evicted");

    remember(&fleet, &slug, url);
    let started = Instant::now();
    fleet.deploy().succeeded();

    assert_eq!(member_ids(&fleet.status()), before, "{}", fleet.log_tails());
    assert!(started.elapsed() < DEADLINE);
}

/// Before each of them in turn; the next deploy goes on, and a mutex that was left runs out.
#[test]
#[cfg(feature = "long")]
fn an_eviction_killed_before_any_step_is_finished_by_a_later_deploy() {
    use etcd_release::lifecycle::evict::step::Step as Eviction;

    let fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).deployed();
    let before = member_ids(&fleet.eventually("one voter", |seen| voters(seen) == 1 && all_ready(seen)));
    let slug = fleet.slugs().remove(0);
    for step in Eviction::ALL {
        let url = format!("https://{step}.etcd.default.etcd.bosh:2380");
        let add = format!("etcdctl member add vanished --learner --peer-urls={url}");
        fleet.ssh(&slug, &add).succeeded();
        remember(&fleet, &slug, &url);
        let armed = fleet.arm(&slug, &step.fail_point());

        fleet.deploy().failed();
        assert!(!armed.exists(), "nobody came to {step}");
        fleet.deploy().succeeded();

        assert_eq!(member_ids(&fleet.status()), before, "{step}: {}", fleet.log_tails());
    }
}
