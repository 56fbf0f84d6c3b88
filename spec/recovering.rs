//! A whole cluster restored on real etcd: from a backup, and from the last disk that is left. One cluster ever serves,
//! every member is in it, nothing is deleted, and whoever is killed on the way goes on.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use etcd_release::lifecycle::launch::decide::step::Step;
use serde_json::Value;
use support::fleet::Fleet;
use support::load::write_once;

const BOOTSTRAP: &str = "bootstrap.yml";
const SINGLE: &str = "single-node.yml";
const BACKUP: &str = "/var/vcap/jobs/etcd/bin/etcd-backup";

fn get(fleet: &Fleet, slug: &str, key: &str) -> String {
    let answer = fleet.ssh(slug, &format!("etcdctl get {key} --print-value-only")).succeeded();
    answer.stdout.trim().to_owned()
}

fn revision(fleet: &Fleet, slug: &str) -> i64 {
    let answer = fleet.ssh(slug, "etcdctl get x -w json").succeeded().stdout;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["header"]["revision"].as_i64().unwrap()
}

fn url(store: &Path) -> String {
    format!("file://{}", store.display())
}

#[test]
fn a_whole_cluster_goes_back_to_a_backup_twice_and_no_disk_of_before_is_taken_for_a_member() {
    let store = tempfile::tempdir().unwrap();
    let url = url(store.path());
    let fleet = Fleet::new(&[BOOTSTRAP]).with_monit_cycle("1").deployed();
    let slugs = fleet.slugs();
    let before = fleet.whole_from(&slugs[0], 3);
    assert!(write_once(&fleet, "kept", "1"));
    fleet.ssh(&slugs[0], &format!("{BACKUP} save --store {url}")).succeeded();
    let saved = revision(&fleet, &slugs[0]);
    // Somebody deletes what was needed, and writes something else.
    fleet.ssh(&slugs[1], "etcdctl del kept && etcdctl put later 1").succeeded();

    // What cannot be restored is refused before anybody stops.
    let restore = format!("{BACKUP} restore-cluster --store {url}");
    let nothing = tempfile::tempdir().unwrap();
    let empty = self::url(nothing.path());
    let mut ids: Vec<&String> = slugs.iter().collect();
    ids.sort_by_key(|slug| slug.split('/').nth(1));
    let refused =
        fleet.ssh(ids[0], &format!("{BACKUP} restore-cluster --store {empty} --to latest")).failed();
    assert!(refused.stderr.contains("nothing was changed"), "{}", refused.text());
    assert_eq!(fleet.whole_from(&slugs[0], 3)["cluster_id"], before["cluster_id"]);

    for answer in fleet.ssh_all(&slugs, &format!("{restore} --to latest")) {
        assert_eq!(answer.code, 0, "{}\n{}", answer.text(), fleet.log_tails());
    }

    let after = fleet.whole_from(&slugs[0], 3);
    assert_ne!(after["cluster_id"], before["cluster_id"]);
    for slug in &slugs {
        assert_eq!((get(&fleet, slug, "kept"), get(&fleet, slug, "later")), ("1".to_owned(), String::new()));
        assert!(revision(&fleet, slug) >= saved + 1_000_000_000, "clients must not see a revision twice");
        let reason = if slug == ids[0] { "restored" } else { "replaced" };
        assert_eq!(fleet.asides(slug, reason).len(), 1, "{slug} keeps what it had");
    }
    // A second run has nothing to do, and says so; no member stops for it.
    assert!(write_once(&fleet, "since", "1"));
    let again = fleet.ssh_all(&slugs, &format!("{restore} --to latest"));
    assert!(again.iter().all(|answer| answer.code == 0), "{}", again[0].text());
    assert!(again.iter().any(|answer| answer.stdout.contains("has restored")), "{}", again[0].text());
    assert_eq!(get(&fleet, &slugs[0], "since"), "1");
    // Once more: elsewhere the ids after a restore depend on the members alone, and who missed the second of two
    // restores is taken for a member with the data of the first.
    for answer in fleet.ssh_all(&slugs, &format!("{restore} --again --to latest")) {
        assert_eq!(answer.code, 0, "{}\n{}", answer.text(), fleet.log_tails());
    }
    let second = fleet.whole_from(&slugs[0], 3);
    assert_ne!(second["cluster_id"], after["cluster_id"]);
    assert_eq!(get(&fleet, &slugs[0], "since"), "");
    // An instance whose disk is of an old cluster joins by itself, whenever it comes.
    for (missed, old) in fleet.asides(ids[1], "replaced").into_iter().enumerate() {
        assert!(missed < 2, "there were two restores");
        fleet.halt(ids[1]);
        let store = fleet.store(ids[1]);
        fs::rename(store.join("member"), store.with_file_name(format!("kept-by-the-test-{missed}"))).unwrap();
        fs::rename(old.join("member"), store.join("member")).unwrap();
        assert!(write_once(&fleet, "meanwhile", &missed.to_string()));
        fleet.resume(ids[1]);
        let whole = fleet.whole_from(&slugs[0], 3);
        assert_eq!(whole["cluster_id"], second["cluster_id"]);
        assert_eq!(
            get(&fleet, ids[1], "since"),
            "",
            "its data of the first restore is gone from the cluster"
        );
        assert_eq!(get(&fleet, ids[1], "meanwhile"), missed.to_string());
    }
}

#[test]
fn killed_before_each_step_of_a_restore_it_is_finished_by_the_next_start() {
    let store = tempfile::tempdir().unwrap();
    let url = url(store.path());
    let fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).with_monit_cycle("1").deployed();
    let slug = fleet.slugs().remove(0);
    fleet.whole_from(&slug, 1);
    assert!(write_once(&fleet, "kept", "1"));
    fleet.ssh(&slug, &format!("{BACKUP} save --store {url}")).succeeded();
    let mut clusters = vec![fleet.whole_from(&slug, 1)["cluster_id"].clone()];
    for step in [Step::MoveAside, Step::RetireRecords, Step::RestoreData, Step::WriteRestoreRecord] {
        assert!(write_once(&fleet, "lost", &step.to_string()));
        let armed = fleet.arm(&slug, &step.fail_point());

        let command = format!("{BACKUP} restore-cluster --again --to latest --store {url}");
        let answer = fleet.ssh(&slug, &command);

        assert_eq!(answer.code, 0, "{step}: {}\n{}", answer.text(), fleet.log_tails());
        assert!(!armed.exists(), "the launcher never came to {step}");
        let status = fleet.whole_from(&slug, 1);
        assert!(!clusters.contains(&status["cluster_id"]), "{step}");
        clusters.push(status["cluster_id"].clone());
        assert_eq!(
            (get(&fleet, &slug, "kept"), get(&fleet, &slug, "lost")),
            ("1".to_owned(), String::new()),
            "{step}"
        );
        assert_eq!(fleet.asides(&slug, "restored").len(), clusters.len() - 1, "{step}");
        let left = fs::read_dir(fleet.store(&slug).join(".launcher/restore")).unwrap().count();
        assert_eq!(left, 0, "{step}");
    }

    // The command itself is killed: what it left is carried out all the same, and another run goes on with it.
    assert!(write_once(&fleet, "lost", "1"));
    let command = format!("exec {BACKUP} restore-cluster --again --to latest --store {url}");
    let mut killed = fleet.command(&["ssh", &slug, "-c", &command]).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(killed.stdout.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("lies ready")));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let answer = fleet.ssh(&slug, &format!("{BACKUP} restore-cluster --to latest --store {url}"));
    assert_eq!(answer.code, 0, "{}\n{}", answer.text(), fleet.log_tails());
    let goes_on = ["going on with request", "has restored"].iter().any(|words| answer.stdout.contains(words));
    assert!(goes_on, "{}", answer.text());
    assert_eq!(get(&fleet, &slug, "lost"), "");
    assert_eq!(fleet.asides(&slug, "restored").len(), clusters.len(), "restored once more, and once only");
}

/// What the launcher of the instance whose disk was left does for the restore.
const OF_THE_SOURCE: [Step; 7] = [
    Step::MoveAside,
    Step::RetireRecords,
    Step::RestoreData,
    Step::WriteRestoreRecord,
    Step::WriteConfiguration,
    Step::RemoveExitRecord,
    Step::Spawn,
];

/// What a launcher does that joins the new cluster with an empty disk.
#[cfg(feature = "long")]
const OF_A_FOLLOWER: [Step; 7] = [
    Step::TakeMutex,
    Step::WriteJoinIntent,
    Step::MemberAdd,
    Step::WriteJoinAnswer,
    Step::Spawn,
    Step::Promote,
    Step::ReleaseMutex,
];

/// Two of three disks are lost. Says which instance has the third.
fn only_the_last_disk_is_left<'a>(fleet: &Fleet, slugs: &'a [String], disaster: &str) -> &'a String {
    let last = revision(fleet, &slugs[0]);
    fleet.wait_until("the survivor has everything", || {
        let answer = fleet.ssh(&slugs[2], "LOCAL=true etcdctl get x -w json --consistency=s").stdout;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        answer["header"]["revision"].as_i64() == Some(last)
    });
    for slug in &slugs[..2] {
        fleet.halt(slug);
        fleet.empty_store(slug, disaster);
    }
    for slug in &slugs[..2] {
        fleet.resume(slug);
    }
    fleet.says(&slugs[0], "wait", &["no cluster serves"]);
    &slugs[2]
}

/// Quorum is lost for good: what the last disk has is newer than any backup, and nothing of it may be lost.
#[test]
fn of_the_last_disk_that_is_left_a_cluster_is_made_again_by_one_errand() {
    let mut fleet = Fleet::new(&[BOOTSTRAP, "restore.yml"])
        .with_variable("restore_point=survivors")
        .with_monit_cycle("1");
    fleet = fleet.deployed();
    let slugs = fleet.slugs();
    let before = fleet.whole_from(&slugs[0], 3);
    // It works: there is nothing to repair.
    let refused = fleet.cli(&["run-errand", "restore"]).failed();
    assert!(refused.text().contains("the cluster serves"), "{}", refused.text());
    for number in 0..100 {
        assert!(write_once(&fleet, &format!("key-{number}"), "1"));
    }
    let survivor = only_the_last_disk_is_left(&fleet, &slugs, "lost");

    // Its launcher dies before each step of putting the new data in place, one after the other.
    let armed = fleet.arm_all(survivor, &OF_THE_SOURCE.map(Step::fail_point));
    let answer = fleet.cli(&["run-errand", "restore"]);

    assert!(!armed.exists(), "the launcher never came to {:?}", fs::read_to_string(&armed));
    assert_eq!(answer.code, 0, "{}\n{}", answer.text(), fleet.log_tails());
    assert!(answer.text().contains("with 3 voters"), "{}", answer.text());
    let after = fleet.whole_from(&slugs[0], 3);
    assert_ne!(after["cluster_id"], before["cluster_id"]);
    for slug in &slugs {
        let keys = fleet.ssh(slug, "etcdctl get key- --prefix --keys-only").succeeded().stdout;
        assert_eq!(keys.matches("key-").count(), 100, "{keys}");
    }
    assert_eq!(fleet.asides(&slugs[2], "restored").len(), 1, "the disk that was left is kept");
    assert!(write_once(&fleet, "since", "1"));
    // A command that was killed behind its work is run again like any other: what serves is not made once more.
    for answer in fleet.ssh_all(&slugs, &format!("{BACKUP} restore-cluster --again --to survivors")) {
        assert_eq!(answer.code, 0, "{}\n{}", answer.text(), fleet.log_tails());
    }
    assert_eq!(fleet.whole_from(&slugs[0], 3)["cluster_id"], after["cluster_id"]);
    assert_eq!(get(&fleet, &slugs[0], "since"), "1");
}

/// One disaster after the other within the hour in which a request counts, and somebody dies before each step of making
/// it good: the launcher whose disk is left, one that joins, and the command itself, which is then run again. Scenario 9
/// of what users suffer from most.
#[test]
#[cfg(feature = "long")]
fn killed_before_each_step_of_making_a_cluster_of_the_last_disk_it_is_one_cluster_with_everything() {
    use etcd_release::backup::recovery::step::Step as Errand;

    let fleet = Fleet::new(&[BOOTSTRAP]).with_monit_cycle("1").deployed();
    let slugs = fleet.slugs();
    let mut clusters = vec![fleet.whole_from(&slugs[0], 3)["cluster_id"].clone()];
    let (source, follower) = (&slugs[2], &slugs[0]);
    let launchers = OF_THE_SOURCE.map(|step| (source, step.fail_point()));
    let followers = OF_A_FOLLOWER.map(|step| (follower, step.fail_point()));
    let errands = Errand::ALL.map(|step| (source, step.fail_point()));
    for (number, (victim, point)) in launchers.into_iter().chain(followers).chain(errands).enumerate() {
        assert!(write_once(&fleet, &format!("key-{number}"), "1"));
        only_the_last_disk_is_left(&fleet, &slugs, &format!("lost-{number}"));
        let armed = fleet.arm(victim, &point);

        // Killed: its operator runs it again.
        let command = format!("{BACKUP} restore-cluster --again --to survivors");
        let answers =
            fleet.ssh_all(&slugs, &format!("{command}; code=$?; [ $code != 137 ] && exit $code; {command}"));

        assert!(!armed.exists(), "nobody came to {point}");
        for answer in answers {
            assert_eq!(answer.code, 0, "{point}: {}\n{}", answer.text(), fleet.log_tails());
        }
        let after = fleet.whole_from(&slugs[0], 3);
        assert!(!clusters.contains(&after["cluster_id"]), "{point}");
        clusters.push(after["cluster_id"].clone());
        for slug in &slugs {
            let keys = fleet.ssh(slug, "etcdctl get key- --prefix --keys-only").succeeded().stdout;
            assert_eq!(keys.matches("key-").count(), number + 1, "{point}: {keys}");
        }
        let left = fs::read_dir(fleet.store(source).join(".launcher/restore")).unwrap().count();
        assert_eq!(left, 0, "{point}");
        println!("killed before {point}: one cluster");
    }
}
