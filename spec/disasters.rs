//! The worst cases on real etcd: lost, damaged and swapped disks, members that were removed by hand, members
//! of other clusters. In each of them one cluster id ever serves, no acknowledged write is lost, and no
//! data is deleted; where a person has to decide, the launcher says what.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use etcd_release::etcd::id::{ClusterId, PeerUrl};
use etcd_release::lifecycle::launch::attestation::InstanceId;
use etcd_release::lifecycle::launch::decide::step::Step;
use etcd_release::lifecycle::launch::records::{RECORD_VERSION, RestorePhase, RestoreRequest};
use serde_json::Value;
use support::fleet::{Fleet, voters};
use support::load::{Load, Report, assert_nothing_lost, member_ids, write_once};
use support::trouble::{fingerprint, give_to_owner_of, id_of, member_of, move_store, property, take_port};

const BOOTSTRAP: &str = "bootstrap.yml";
const SINGLE: &str = "single-node.yml";
/// Programs that a stranger runs; job etcd's own helper would fill in certificates.
const ETCD: &str = "/var/vcap/packages/etcd/bin/etcd";
const ETCDCTL: &str = "/var/vcap/packages/etcd/bin/etcdctl";

fn value_of(fleet: &Fleet, slug: &str, key: &str) -> String {
    fleet.ssh(slug, &format!("etcdctl get {key} --print-value-only")).succeeded().stdout.trim().to_owned()
}

/// Changes the membership by hand, as a person does who types the command again when etcd answers that the
/// cluster is unhealthy: it does for five seconds after members connected.
#[track_caller]
fn by_hand(fleet: &Fleet, slug: &str, change: &str) {
    fleet.wait_until(&format!("etcd takes '{change}'"), || {
        let answer = fleet.ssh(slug, &format!("etcdctl member {change}"));
        answer.code == 0 || answer.stderr.contains("etcdserver: member not found")
    });
}

/// Demands the same cluster, of which only the given member was replaced.
#[track_caller]
fn assert_only_replaced(before: &Value, after: &Value, gone: &str) {
    assert_eq!(before["cluster_id"], after["cluster_id"], "another cluster serves");
    let (before, after) = (member_ids(before), member_ids(after));
    assert!(!after.iter().any(|id| id == gone), "member {gone} is still listed: {after:?}");
    assert_eq!(before.iter().filter(|id| !after.contains(id)).collect::<Vec<_>>(), [gone], "{after:?}");
}

/// Demands that the writes went on all the time and are all there.
#[track_caller]
fn assert_writes_went_on(fleet: &Fleet, report: &Report) {
    assert_nothing_lost(fleet, report);
    assert!(report.acknowledged.len() > 50, "the load wrote too little to prove anything: {report:?}");
    assert_eq!(report.failed_writes, 0, "longest gap {:?}", report.longest_gap);
}

/// A predecessor's instance with an empty disk made a cluster of its own if it carried the bootstrap flag,
/// and ended for ever if it did not.
#[test]
fn a_lost_disk_is_replaced_while_writes_go_on_with_the_flag_on_and_off() {
    let mut fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let carries_the_flag = &slugs[0];
    assert_eq!(fleet.instances()[0]["bootstrap"], "true", "BOSH's own bootstrap instance");
    let load = Load::start(&fleet);

    for (ops, slug) in [(vec![BOOTSTRAP], carries_the_flag), (vec![], &slugs[1])] {
        if ops.is_empty() {
            fleet.set_ops(&ops);
            fleet.deploy().succeeded();
        }
        let before = fleet.whole_from(&slugs[2], 3);
        let lost = member_of(&before, slug);

        fleet.cli(&["recreate", slug, "--lose-disk"]).succeeded();

        let after = fleet.whole_from(&slugs[2], 3);
        assert_only_replaced(&before, &after, &lost);
        let log = fleet.log(slug, "etcd.stderr.log");
        assert!(log.contains(&format!("the data of member {lost} is gone")), "{log}");
    }

    assert_writes_went_on(&fleet, &load.finish());
}

/// etcd itself starts on what is left, elects a leader and lets every write time out, or comes back with an
/// empty log under the id it had.
#[test]
fn a_disk_that_lost_its_log_or_its_database_is_moved_aside_and_replaced() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let load = Load::start(&fleet);

    for (slug, lost, left) in [(&slugs[1], "wal", "snap"), (&slugs[2], "snap", "wal")] {
        let before = fleet.whole_from(&slugs[0], 3);
        let gone = member_of(&before, slug);
        fleet.halt(slug);
        let member = fleet.store(slug).join("member");
        fs::rename(member.join(lost), fleet.state_dir().join(format!("lost-{lost}"))).expect("lose a part");
        let rest = fs::read_dir(member.join(left)).expect("the other part").count();

        fleet.resume(slug);

        let after = fleet.whole_from(&slugs[0], 3);
        assert_only_replaced(&before, &after, &gone);
        let aside = fleet.asides(slug, "damaged");
        assert_eq!(aside.len(), 1, "{slug} lost its {lost}: {aside:?}");
        let kept = fs::read_dir(aside[0].join("member").join(left)).expect("the data that was left").count();
        assert_eq!(kept, rest, "what was left of {slug} is all in {}", aside[0].display());
        let log = fleet.log(slug, "etcd.stderr.log");
        assert!(log.contains("data was moved aside"), "{log}");
    }

    assert_writes_went_on(&fleet, &load.finish());
}

/// The third disk is the last copy. Two empty ones that found each other first would be a quorum of a new
/// cluster under the old names; the old third would then quietly join another history.
#[test]
fn two_lost_disks_wait_for_the_third_and_only_fresh_machines_found_a_new_cluster() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let before = fleet.whole_from("etcd/0", 3);
    assert!(write_once(&fleet, "last", "copy"));
    let slugs = fleet.slugs();
    let (lost, third) = (&slugs[..2], &slugs[2]);
    for slug in &slugs {
        fleet.halt(slug);
    }
    let last_copy = fingerprint(&fleet.store(third).join("member"));

    for slug in lost {
        fleet.cli(&["recreate", slug, "--lose-disk", "--no-converge", "--skip-drain"]).succeeded();
    }
    for slug in lost {
        fleet.says(slug, "wait", &["the first boot waits for", id_of(third), "never had a member"]);
    }
    assert_eq!(fingerprint(&fleet.store(third).join("member")), last_copy);

    // With the third there is data, but one of three is no quorum.
    fleet.resume(third);
    for slug in lost {
        fleet.says(
            slug,
            "wait",
            &["there is data, but no cluster serves", id_of(third), "start the instances that have data"],
        );
        assert!(!fleet.store(slug).join("member").exists(), "{slug} made data of its own");
    }
    let alone = fleet.says(third, "start", &["starting it is how quorum comes back"]);
    assert_eq!(alone["cluster_id"], before["cluster_id"]);
    assert!(fleet.asides(third, "").is_empty());
    assert_eq!(fleet.status_from(third)["cluster_id"], Value::Null, "somebody serves");

    // All disks are lost now, but the third machine remembers that it had data.
    fleet.halt(third);
    let kept = fleet.empty_store(third, "kept-by-the-test");
    fleet.resume(third);
    fleet.says(third, "wait", &["empty but had a member once, says the mark on the VM", "`bosh recreate`"]);
    for slug in lost {
        fleet.says(slug, "wait", &[id_of(third), "its disk is empty, but had a member once"]);
        assert!(!fleet.store(slug).join("member").exists(), "{slug} made data of its own");
    }

    // A person said that the data may go.
    fleet.cli(&["recreate", third, "--no-converge", "--skip-drain"]).succeeded();
    let anew = fleet.whole_from(third, 3);
    assert_ne!(anew["cluster_id"], before["cluster_id"]);
    assert_eq!(value_of(&fleet, third, "last"), "", "the new cluster is empty");
    assert!(kept.join("member/snap/db").exists(), "the old data lies where the test put it");
}

#[test]
fn all_disks_lost_without_the_flag_wait_and_say_what_a_person_can_do() {
    let mut fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).deployed();
    let slug = fleet.slugs().remove(0);
    assert!(write_once(&fleet, "only", "copy"));
    fleet.halt(&slug);
    let kept = fleet.store(&slug).with_file_name("kept-by-the-test");
    fs::rename(fleet.store(&slug).join("member"), &kept).expect("lose the data");

    // A fresh machine, but the record on the disk tells; the flag changes nothing.
    fleet.cli(&["recreate", &slug, "--no-converge", "--skip-drain"]).succeeded();
    fleet.says(
        &slug,
        "wait",
        &["had a member once, says the record on the disk", "move /var/vcap/store/etcd/.launcher"],
    );
    assert!(!fleet.store(&slug).join("member").exists(), "it made data of its own");

    // A fresh disk as well, but nobody asked for a cluster.
    fleet.set_ops(&[SINGLE]);
    let answer = fleet.deploy().failed();
    fleet.cli(&["recreate", &slug, "--lose-disk", "--no-converge"]).succeeded();
    fleet.says(
        &slug,
        "wait",
        &[
            "nobody has data, and this deploy may not create a cluster",
            "empty disks can also mean that data was lost",
            "deployment/operations/bootstrap.yml",
            "restore",
        ],
    );
    assert!(!fleet.store(&slug).join("member").exists(), "{}", answer.text());
}

/// An old disk attached again would count as a member that forgot what it acknowledged.
#[test]
fn a_member_removed_by_hand_and_a_disk_of_an_older_life_rejoin_as_new_members() {
    let fleet = Fleet::new(&[BOOTSTRAP]).with_monit_cycle("1").deployed();
    let slugs = fleet.slugs();
    let slug = &slugs[1];
    let load = Load::start(&fleet);
    let before = fleet.whole_from(&slugs[0], 3);
    let first = member_of(&before, slug);

    by_hand(&fleet, &slugs[0], &format!("remove {first}"));

    let rejoined = fleet.eventually_from(&slugs[0], "a new member in its place", |seen| {
        voters(seen) == 3 && support::fleet::all_ready(seen) && !member_ids(seen).contains(&first)
    });
    assert_only_replaced(&before, &rejoined, &first);
    let log = fleet.log(slug, "etcd.stderr.log");
    assert!(log.contains(&format!("removed member {first} while it was away")), "{log}");
    let older = fleet.asides(slug, "removed");
    assert_eq!(older.len(), 1, "{older:?}");
    assert!(older[0].join("member/snap/db").exists(), "data and records of the removed member are aside");

    // The disk of the older life takes the place of the present one.
    let second = member_of(&rejoined, slug);
    fleet.halt(slug);
    fleet.empty_store(slug, "kept-by-the-test");
    fs::rename(older[0].join("member"), fleet.store(slug).join("member")).expect("attach the old data");

    fleet.resume(slug);

    let again = fleet.eventually_from(&slugs[0], "a third member in its place", |seen| {
        voters(seen) == 3 && support::fleet::all_ready(seen) && !member_ids(seen).contains(&second)
    });
    assert_only_replaced(&rejoined, &again, &second);
    assert!(!member_ids(&again).contains(&first), "a removed id came back");
    let aside = fleet.asides(slug, "removed");
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert!(aside[1].join("member/snap/db").exists(), "the old data is aside again");
    assert_writes_went_on(&fleet, &load.finish());
}

#[test]
fn a_removed_member_that_may_not_rejoin_is_refused_and_its_data_left_alone_until_a_deploy_says_so() {
    let mut fleet = Fleet::new(&[BOOTSTRAP]).with_monit_cycle("1");
    fleet.add_ops_text("policy.yml", &property("on_removed_member", "refuse"));
    let mut fleet = fleet.deployed();
    let slugs = fleet.slugs();
    let slug = &slugs[0];
    let before = fleet.whole_from(&slugs[1], 3);
    let removed = member_of(&before, slug);

    by_hand(&fleet, &slugs[1], &format!("remove {removed}"));

    fleet.says(
        slug,
        "refuse",
        &["no longer lists member", &removed, "the data was left alone", "on_removed_member: rejoin"],
    );
    let data = fingerprint(&fleet.store(slug).join("member"));
    fleet.halt(slug);
    fleet.resume(slug);
    fleet.says(slug, "refuse", &["no longer lists member"]);
    assert_eq!(fingerprint(&fleet.store(slug).join("member")), data, "the data was touched");
    assert!(fleet.asides(slug, "").is_empty());
    assert!(write_once(&fleet, "the others", "serve"));

    fleet.set_ops(&[BOOTSTRAP]);
    fleet.deploy().succeeded();
    let after = fleet.whole_from(&slugs[1], 3);
    assert_only_replaced(&before, &after, &removed);
    assert_eq!(fleet.asides(slug, "removed").len(), 1);
}

/// A request left behind by an errand of last month must not throw data away today.
#[test]
fn a_restore_request_that_has_expired_is_reported_and_changes_nothing() {
    let fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).deployed();
    let slug = fleet.slugs().remove(0);
    let before = fleet.whole_from(&slug, 1);
    assert!(write_once(&fleet, "kept", "1"));
    let own = PeerUrl::https(&format!("{}.etcd.default.etcd.bosh", id_of(&slug)), 2380);
    let request = RestoreRequest {
        version: RECORD_VERSION,
        id: uuid::Uuid::from_u128(7),
        asked: "latest".to_owned(),
        point: "a set of last month".to_owned(),
        source: InstanceId(id_of(&slug).to_owned()),
        phase: RestorePhase::Prepared,
        cluster_id: ClusterId(7),
        members: BTreeMap::from([(InstanceId(id_of(&slug).to_owned()), own)]),
        replaces: BTreeSet::new(),
        created_unix_secs: 1,
        expires_unix_secs: 2,
    };
    fleet.halt(&slug);
    let records = fleet.store(&slug).join(".launcher");
    let path = records.join("restore-request.json");
    fs::write(&path, serde_json::to_string(&request).expect("JSON")).expect("leave a request");
    give_to_owner_of(&records, &path);

    fleet.resume(&slug);

    let after = fleet.whole_from(&slug, 1);
    assert_eq!(member_ids(&after), member_ids(&before));
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    assert_eq!(value_of(&fleet, &slug, "kept"), "1");
    let log = fleet.log(&slug, "etcd.stderr.log");
    assert!(
        log.contains(
            "restore request 00000000-0000-0000-0000-000000000007 counts for nothing: it has expired"
        ),
        "{log}"
    );
    let told = fleet.told(&slug);
    assert_eq!(told["restore_request"], Value::Null, "it is offered to others: {told:#}");
    assert!(told["notices"].to_string().contains("it has expired"), "{told:#}");
    assert!(path.exists() && fleet.asides(&slug, "").is_empty(), "something was moved");
}

/// A machine that BOSH lost and that still runs: two members under one URL would take each other's messages.
#[test]
fn a_member_that_lives_elsewhere_under_our_url_is_never_replaced() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let slug = &slugs[1];
    let before = fleet.whole_from(&slugs[0], 3);
    let alive = member_of(&before, slug);
    fleet.halt(slug);
    let stranger = fleet.empty_store(slug, "stranger");
    // The member lives on: its data, certificates and URL, run by somebody else.
    let script = format!(
        "sed s:/var/vcap/store/etcd:/var/vcap/store/stranger: /var/vcap/data/etcd/etcd.conf.yml > /var/vcap/data/stranger.yml
         setsid {ETCD} --config-file /var/vcap/data/stranger.yml </dev/null >/var/vcap/data/stranger.log 2>&1 &
         echo $!"
    );
    let pid = fleet.ssh(slug, &script).succeeded().stdout.trim().to_owned();
    fleet.eventually_from(&slugs[0], "the stranger serves as that member", |seen| {
        seen["instances"].to_string().contains(&format!("\"member_id\":\"{alive}\""))
    });

    fleet.resume(slug);

    fleet.says(
        slug,
        "refuse",
        &[&format!("member {alive} of cluster"), "is alive at", "find the etcd that runs there and stop it"],
    );
    assert!(!fleet.store(slug).join("member").exists(), "it made data of its own");
    let list = fleet.ssh(&slugs[0], "etcdctl member list").succeeded();
    assert_eq!(list.stdout.lines().filter(|line| line.contains(&alive)).count(), 1, "{}", list.text());

    // Somebody found the stranger and stopped it: the entry is dead now, and the disk is empty.
    fleet.ssh(slug, &format!("kill -TERM {pid}")).succeeded();
    let after = fleet.eventually_from(&slugs[0], "a new member in its place", |seen| {
        voters(seen) == 3 && support::fleet::all_ready(seen) && !member_ids(seen).contains(&alive)
    });
    assert_only_replaced(&before, &after, &alive);
    assert!(stranger.join("member/snap/db").exists(), "the stranger's data was touched");
}

/// Two histories behind one address: nobody but a person knows which is wanted.
#[test]
fn a_member_of_another_cluster_is_refused_with_both_ids_and_no_data_is_touched() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let (guest, second, third) = (&slugs[0], &slugs[1], &slugs[2]);
    let before = fleet.whole_from(third, 3);
    let ours = before["cluster_id"].as_str().expect("a cluster").to_owned();
    assert!(write_once(&fleet, "whose", "ours"));
    for slug in &slugs {
        fleet.halt(slug);
    }
    let own_data = fleet.empty_store(guest, "kept-by-the-test");
    found_another_cluster(&fleet, guest);
    let foreign = fingerprint(&fleet.store(guest).join("member"));

    // Ours answers without quorum: beside it, a lone voter would serve another history at once.
    let served = "serving peer traffic";
    let already = fleet.log(third, "etcd.stderr.log").matches(served).count();
    fleet.resume(third);
    fleet.wait_until("the peer port of our third member", || {
        fleet.log(third, "etcd.stderr.log").matches(served).count() > already
    });
    fleet.resume(guest);
    let told = fleet.says(guest, "refuse", &["this member as its only voter", &ours, id_of(third)]);
    let theirs = told["cluster_id"].as_str().expect("the cluster on its disk").to_owned();
    assert_ne!(theirs, ours);
    assert!(told["because"].to_string().contains(&theirs), "both ids are told: {told:#}");

    // Ours has quorum.
    fleet.resume(second);
    fleet.says(
        guest,
        "refuse",
        &[
            &format!("the disk belongs to cluster {theirs}, but cluster {ours}"),
            "has quorum",
            "find out which side has the data you want",
        ],
    );
    assert_eq!(fingerprint(&fleet.store(guest).join("member")), foreign, "the data was touched");
    assert_eq!(fleet.status_from(second)["cluster_id"], ours.as_str());

    // Somebody runs the other cluster there all the same, and an empty disk meets both.
    fleet.halt(guest);
    let script = format!(
        "setsid {ETCD} --config-file /var/vcap/data/etcd/etcd.conf.yml </dev/null >/var/vcap/data/stranger.log 2>&1 &
         echo $!"
    );
    let pid = fleet.ssh(guest, &script).succeeded().stdout.trim().to_owned();
    fleet.halt(second);
    let seconds_data = fleet.empty_store(second, "kept-by-the-test");
    fleet.wait_until("the other cluster on the guest's address", || {
        fleet.status_from(third)["instances"].to_string().contains("is_leader\":true")
    });
    fleet.resume(second);
    fleet.says(
        second,
        "refuse",
        &["the disk is empty and two clusters answer", &ours, &theirs, id_of(guest), id_of(third)],
    );
    assert!(!fleet.store(second).join("member").exists(), "it made data of its own");

    // A person puts everything back: the same three members, the same data.
    fleet.ssh(guest, &format!("kill -TERM {pid}")).succeeded();
    fleet.halt(second);
    let away = fleet.state_dir().join("the-other-cluster");
    fs::create_dir(&away).expect("make a directory");
    move_store(&fleet.store(guest), &away);
    for (slug, data) in [(guest, &own_data), (second, &seconds_data)] {
        fs::remove_dir_all(fleet.store(slug).join(".launcher")).ok();
        move_store(data, &fleet.store(slug));
        fleet.resume(slug);
    }
    let after = fleet.whole_from(third, 3);
    assert_eq!((&after["cluster_id"], member_ids(&after)), (&before["cluster_id"], member_ids(&before)));
    assert_eq!(value_of(&fleet, third, "whose"), "ours");
}

/// Founds a cluster of one on an instance's address and leaves its data in the instance's store.
#[track_caller]
fn found_another_cluster(fleet: &Fleet, slug: &str) {
    let ip = fleet.address(slug);
    let script = format!(
        "set -e
         cd /var/vcap/store
         {ETCD} --name other --data-dir other --listen-peer-urls http://{ip}:2380 --listen-client-urls http://{ip}:2379 \
           --initial-advertise-peer-urls http://{ip}:2380 --advertise-client-urls http://{ip}:2379 \
           --initial-cluster other=http://{ip}:2380 --initial-cluster-token other </dev/null >/var/vcap/data/other.log 2>&1 &
         pid=$!
         until {ETCDCTL} --endpoints http://{ip}:2379 put whose theirs; do kill -0 $pid; done
         kill -TERM $pid
         wait $pid || true
         mv other/member etcd/member
         chown -R --reference=etcd etcd/member"
    );
    fleet.ssh(slug, &script).succeeded();
}

/// etcd takes one learner at a time. A joiner that died between `member add` and its first start leaves
/// one that nobody else may remove: it could come back at any moment.
#[test]
#[cfg_attr(not(feature = "long"), ignore = "long tier")]
fn a_joiner_that_died_after_it_was_added_blocks_the_next_only_until_it_is_back() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let (first, second, last) = (&slugs[0], &slugs[1], &slugs[2]);
    let before = fleet.whole_from(last, 3);
    assert!(write_once(&fleet, "kept", "1"));
    for slug in [first, second] {
        fleet.ssh(slug, "/var/vcap/bosh/bin/monit unmonitor etcd").succeeded();
        let id = member_of(&before, slug);
        by_hand(&fleet, last, &format!("remove {id}"));
        fleet.halt(slug);
        fleet.empty_store(slug, "kept-by-the-test");
    }
    let load = Load::start(&fleet);

    let armed = fleet.arm(first, &Step::WriteJoinAnswer.fail_point());
    fleet.resume_unwatched(first);
    fleet.wait_until("the first joiner dies after it was added", || !armed.exists());
    let torn = fleet.store(first).join(".launcher/join.json");
    fs::write(&torn, "{\"version\": 1, \"clu").expect("tear its record as well");
    fleet.resume_unwatched(second).succeeded();

    fleet.says(second, "wait", &["the cluster does not take 'member-add' now", "learner", "etcd-status"]);
    assert!(!fleet.store(second).join("member").exists(), "it made data of its own");
    fleet.resume_unwatched(first).succeeded();

    let after = fleet.whole_from(last, 3);
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    let log = fleet.log(first, "etcd.stderr.log");
    assert!(log.contains("which never started"), "the first goes on with its entry: {log}");
    assert_nothing_lost(&fleet, &load.finish());
    assert_eq!(value_of(&fleet, last, "kept"), "1");
}

/// The predecessors' scripts parsed `member list` by columns and fell over the empty name of a member that
/// never started; and they added voters, so that a joiner that could not start took the quorum away.
#[test]
#[cfg_attr(not(feature = "long"), ignore = "long tier")]
fn neither_an_entry_that_nobody_runs_nor_a_joiner_that_cannot_start_costs_a_write() {
    let mut fleet = Fleet::new(&[BOOTSTRAP]).with_monit_cycle("1");
    fleet.add_ops_text(
        "four.yml",
        "- type: replace\n  path: /instance_groups/name=etcd/instances\n  value: 4\n",
    );
    let fleet = fleet.deployed();
    let slugs = fleet.slugs();
    let joiner = &slugs[3];
    let before = fleet.whole_from(&slugs[0], 4);
    let load = Load::start(&fleet);
    fleet.halt(joiner);
    let gone = member_of(&before, joiner);
    by_hand(&fleet, &slugs[0], &format!("remove {gone}"));
    fleet.empty_store(joiner, "kept-by-the-test");
    by_hand(&fleet, &slugs[0], "add ghost --peer-urls=https://ghost.etcd.default.etcd.bosh:2380");
    let squatter = take_port(&fleet.address(joiner), 2379);

    fleet.resume(joiner);

    // It is added, since its peer port can be reached; then etcd ends at each start.
    fleet.wait_until("etcd cannot start twice in a row", || {
        fleet.log(joiner, "etcd.stderr.log").matches("address already in use").count() >= 2
    });
    let stuck = fleet.status_from(&slugs[0]);
    assert_eq!(voters(&stuck), 4, "three and the one that nobody runs: {stuck:#}");
    assert_eq!(member_ids(&stuck).len(), 5, "the joiner is a learner, once: {stuck:#}");
    assert!(write_once(&fleet, "still", "writes"));

    drop(squatter);
    let after = fleet.whole_from(&slugs[0], 5);
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    assert!(after["members"].to_string().contains("ghost"), "somebody else's entry was removed: {after:#}");
    assert_writes_went_on(&fleet, &load.finish());
}
