//! The real etcd in these containers.

use std::fs;

use etcd_release::local::process::Home;

use super::runc::runc_runs;
use super::support::fleet::{Fleet, all_ready, voters};
use super::support::load::write_once;
use super::{RUNC, assert_confined, status};

/// Pids of a program on an instance.
fn pids(fleet: &Fleet, slug: &str, program: &str) -> Vec<i32> {
    let home = Home::of(&fleet.machine(slug).root()).unwrap();
    let is_it =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program);
    home.inhabitants().into_iter().filter(is_it).collect()
}

/// The limit of open files of etcd itself, soft and hard.
fn open_files(fleet: &Fleet, slug: &str) -> (String, String) {
    let pid = pids(fleet, slug, "etcd")[0];
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    let mut numbers = line.split_whitespace().skip(3).map(str::to_owned);
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Weakness 19 of a predecessor: no limit of open files under bpm, so etcd had the soft limit that monit inherited,
/// often 1024, and with it as many clients.
#[test]
fn etcd_may_open_as_many_files_as_the_property_says_whatever_monit_inherited() {
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml"]).with_soft_open_files(1024).deployed();
    assert_eq!(open_files(&fleet, "etcd/0"), ("16384".to_owned(), "16384".to_owned()));

    fleet.add_ops_text(
        "fewer.yml",
        "- {type: replace, path: /instance_groups/name=etcd/jobs/name=etcd/properties/open_files, value: 8192}\n",
    );
    fleet.deploy().succeeded();

    assert_eq!(open_files(&fleet, "etcd/0"), ("8192".to_owned(), "8192".to_owned()));
}

/// The real manifest in production's containers: launcher, wrapper, hooks, drain, restart and monit work there.
#[test]
fn a_cluster_lives_in_containers_by_runc() {
    if !runc_runs() {
        return;
    }
    let fleet = Fleet::new(&["bootstrap.yml"]).with_bpm(RUNC).with_monit_cycle("0.5").deployed();
    fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
    let slugs = fleet.slugs();
    for slug in &slugs {
        for program in ["etcd", "etcd-launcher"] {
            let found = pids(&fleet, slug, program);
            assert_eq!(found.len(), 1, "{program} on {slug}: {found:?}");
            assert_confined(&status(found[0]), RUNC);
        }
        assert_eq!(open_files(&fleet, slug), ("16384".to_owned(), "16384".to_owned()));
    }
    assert!(write_once(&fleet, "kept", "1"));
    fleet.ssh("etcd/1", "etcdctl get kept --print-value-only").succeeded();

    // Drain hands over, TERM ends etcd by itself, and it comes back on its data.
    fleet.cli(&["restart"]).succeeded();
    for slug in &slugs {
        let log = fleet.log(slug, "etcd.stderr.log");
        assert!(log.contains("\"how\":\"graceful\""), "{slug}\n{log}");
        let bpm = fleet.log(slug, "bpm.log");
        assert!(bpm.contains("\"stopped\"") && !bpm.contains("failed-to-stop"), "{slug}\n{bpm}");
    }
    let value = fleet.ssh("etcd/0", "etcdctl get kept --print-value-only").succeeded();
    assert_eq!(value.stdout, "1\n");

    // The plug of one container, and monit starts it again.
    let before = pids(&fleet, &slugs[0], "etcd");
    fleet.kill9(&slugs[0], "etcd-launcher");
    fleet.eventually_from(&slugs[1], "three voters, all ready, another etcd", |seen| {
        let now = pids(&fleet, &slugs[0], "etcd");
        voters(seen) == 3 && all_ready(seen) && !now.is_empty() && now != before
    });
    fleet.delete();
}
