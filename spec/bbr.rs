//! BOSH Backup and Restore, played: its order, its environment, its artifact directories and checksums. BBR itself needs
//! a Director. Scripts run as root on the host; backups all at once, restores and unlocks one after the other.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use support::fleet::{Answer, Fleet};
use support::load::write_once;

const ARTIFACT: &str = "/var/vcap/store/bbr-backup/bbr-etcd-etcd-backup-one-restore-all/";

fn script(name: &str) -> String {
    // sudo keeps nothing of the environment but what BBR names.
    format!(
        "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin BBR_ARTIFACT_DIRECTORY={ARTIFACT} \
         ARTIFACT_DIRECTORY={ARTIFACT} /var/vcap/jobs/bbr-etcd/bin/bbr/{name}"
    )
}

/// A backup as BBR takes it: the tar of the bootstrap instance's artifact, its checksums compared.
fn back_up(fleet: &Fleet, slugs: &[String], tar: &str) {
    for answer in fleet.ssh_all(slugs, &script("metadata")) {
        assert_eq!((answer.code, answer.stdout.trim()), (0, "---"), "{}", answer.text());
    }
    for answer in fleet.ssh_all(slugs, &format!("mkdir -p {ARTIFACT}")) {
        answer.succeeded();
    }
    for answer in fleet.ssh_all(slugs, &script("backup")) {
        answer.succeeded();
    }
    let sums = format!("cd {ARTIFACT} && find . -type f | xargs sha256sum | sort");
    let saved: Vec<Answer> = fleet.ssh_all(slugs, &sums);
    let with_files: Vec<usize> = (0..slugs.len()).filter(|at| saved[*at].stdout.contains("./")).collect();
    assert_eq!(with_files.len(), 1, "one instance saves, the others leave an empty directory");
    let here = &slugs[with_files[0]];
    fleet.ssh(here, &format!("tar -C {ARTIFACT} -cf {tar} . && chmod a+r {tar}")).succeeded();
    let unpacked =
        format!("mkdir {tar}.d && cd {tar}.d && tar xf {tar} && find . -type f | xargs sha256sum | sort");
    assert_eq!(fleet.ssh(here, &unpacked).succeeded().stdout, saved[with_files[0]].stdout);
    clean_up(fleet, slugs);
}

fn upload(fleet: &Fleet, slugs: &[String], tar: &str) {
    for answer in fleet.ssh_all(slugs, &format!("mkdir -p {ARTIFACT} && tar -C {ARTIFACT} -xf {tar}")) {
        answer.succeeded();
    }
}

fn clean_up(fleet: &Fleet, slugs: &[String]) {
    for answer in fleet.ssh_all(slugs, "rm -rf /var/vcap/store/bbr-backup") {
        answer.succeeded();
    }
}

/// One after the other; the first that fails stops the restore, and all unlock in the end.
fn restore(fleet: &Fleet, order: &[String]) -> (Vec<Answer>, Vec<Answer>) {
    let mut restored = Vec::new();
    for slug in order {
        restored.push(fleet.ssh(slug, &script("restore")));
        if restored.last().unwrap().code != 0 {
            break;
        }
    }
    let unlocked = order.iter().map(|slug| fleet.ssh(slug, &script("post-restore-unlock"))).collect();
    (restored, unlocked)
}

fn get(fleet: &Fleet, slug: &str, key: &str) -> String {
    let answer = fleet.ssh(slug, &format!("etcdctl get {key} --print-value-only")).succeeded();
    answer.stdout.trim().to_owned()
}

#[test]
fn bbr_takes_the_cluster_back_in_any_order_and_a_broken_artifact_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let tar = directory.path().join("artifact.tar").display().to_string();
    let fleet = Fleet::new(&["bootstrap.yml", "bbr.yml"]).with_monit_cycle("1").deployed();
    let slugs = fleet.slugs();
    let before = fleet.whole_from(&slugs[0], 3);
    assert!(write_once(&fleet, "kept", "1"));

    back_up(&fleet, &slugs, &tar);
    fleet.ssh(&slugs[0], "etcdctl del kept && etcdctl put later 1").succeeded();

    // One byte of it changes on the way.
    let broken = directory.path().join("broken.tar").display().to_string();
    let damage = format!(
        "cp -r {tar}.d {broken}.d && cd {broken}.d && file=$(find . -name 'full.db*') && \
         printf X | dd of=$file bs=1 seek=500 conv=notrunc status=none && tar -cf {broken} ."
    );
    fleet.ssh(&slugs[0], &damage).succeeded();
    upload(&fleet, &slugs, &broken);
    let (restored, unlocked) = restore(&fleet, &slugs);
    assert_ne!(restored.last().unwrap().code, 0, "{restored:?}");
    let told = &restored.last().unwrap().stderr;
    assert!(told.contains("nothing was changed"), "{told}");
    for answer in unlocked {
        assert!(answer.succeeded().stdout.contains("no restore has begun"));
    }
    assert_eq!(fleet.whole_from(&slugs[0], 3)["cluster_id"], before["cluster_id"]);
    clean_up(&fleet, &slugs);

    // Not the order in which instances are numbered.
    upload(&fleet, &slugs, &tar);
    let order = [slugs[2].clone(), slugs[0].clone(), slugs[1].clone()];
    let (restored, unlocked) = restore(&fleet, &order);
    for answer in restored.iter().chain(&unlocked) {
        assert_eq!(answer.code, 0, "{}\n{}", answer.text(), fleet.log_tails());
    }
    assert!(unlocked[2].stdout.contains("restored set"), "the last waits for all: {}", unlocked[2].text());
    let after = fleet.whole_from(&slugs[0], 3);
    assert_ne!(after["cluster_id"], before["cluster_id"]);
    for slug in &slugs {
        assert_eq!((get(&fleet, slug, "kept"), get(&fleet, slug, "later")), ("1".to_owned(), String::new()));
    }
    clean_up(&fleet, &slugs);

    // What the predecessor's job saved is restored as well.
    assert!(write_once(&fleet, "lost", "1"));
    let save = format!(
        "LOCAL=true etcdctl snapshot save {ARTIFACT}snapshotdb && tar -C {ARTIFACT} -cf {tar}.old . && chmod a+r {tar}.old"
    );
    fleet.ssh(&slugs[0], &format!("mkdir -p {ARTIFACT} && {save}")).succeeded();
    fleet.ssh(&slugs[0], "etcdctl del lost").succeeded();
    upload(&fleet, &slugs, &format!("{tar}.old"));
    let (restored, unlocked) = restore(&fleet, &slugs);
    for answer in restored.iter().chain(&unlocked) {
        assert_eq!(answer.code, 0, "{}\n{}", answer.text(), fleet.log_tails());
    }
    fleet.whole_from(&slugs[0], 3);
    assert_eq!(get(&fleet, &slugs[1], "lost"), "1");
    // An unlock once more changes nothing.
    for answer in fleet.ssh_all(&slugs, &script("post-restore-unlock")) {
        answer.succeeded();
    }
}

#[test]
fn without_the_property_that_bbr_reads_the_deploy_fails() {
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml", "bbr.yml"]);
    let path = "/instance_groups/name=etcd/jobs/name=bbr-etcd/properties/bbr/backup_one_restore_all";
    fleet.add_ops_text("without.yml", &format!("- {{type: replace, path: {path}, value: false}}\n"));
    fleet.deploy().failed();
    let slug = fleet.slugs().remove(0);
    let told = fleet.read(&slug, "/var/vcap/sys/log/bbr-etcd/pre-start.stderr.log");
    assert!(told.contains("bbr.backup_one_restore_all"), "{told}");
}
