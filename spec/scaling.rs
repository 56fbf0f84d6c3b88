//! Another number of instances, under constant writes, reads and a watch: what BOSH deploys and what the
//! cluster consists of must agree after every step, and nobody who uses it may notice.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use support::fleet::{Fleet, all_ready, voters};
use support::load::{Load, Report, Watcher, assert_nothing_lost, member_ids};

/// All new instances of a deploy start at the same time.
const ALL_AT_ONCE: &str = "- type: replace\n  path: /update/max_in_flight\n  value: 4\n- type: replace\n  path: /update/canaries\n  value: 0\n";

/// Exactly the instances of the manifest are members, all of them voters that serve.
#[track_caller]
fn members_are_the_instances(fleet: &Fleet, size: usize) -> Value {
    let instances: BTreeSet<String> =
        fleet.slugs().iter().map(|slug| slug.trim_start_matches("etcd/").to_owned()).collect();
    assert_eq!(instances.len(), size);
    fleet.eventually(&format!("{size} voters that are the instances"), |seen| {
        let names: BTreeSet<String> = seen["members"]
            .as_array()
            .map(|all| all.iter().filter_map(|one| one["name"].as_str()).map(str::to_owned).collect())
            .unwrap_or_default();
        voters(seen) == size && names == instances && all_ready(seen)
    })
}

/// Every voter but the founder was added as a learner and promoted, says the founder's etcd.
#[track_caller]
fn newcomers_were_learners(fleet: &Fleet, founder: &str, after: &Value) {
    let log = fleet.log("etcd/0", "etcd.stderr.log");
    for id in member_ids(after).iter().filter(|id| *id != founder) {
        let added = format!(
            "\"raft-conf-change\":\"ConfChangeAddLearnerNode\",\"raft-conf-change-node-id\":\"{id}\""
        );
        assert!(log.contains(&added), "{id} was not added as a learner");
        assert!(log.contains(&format!("\"promoted-member-id\":\"{id}\"")), "{id} was not promoted");
    }
}

/// How much is written at least: also where a single member was away for most of the time.
const WRITES: usize = 60;

/// A cluster of one or two cannot write while a member restarts, and BOSH restarts every member whose link
/// changed: for how long is a figure (docs/figures.md#measured), not a verdict.
#[track_caller]
fn nothing_is_lost(fleet: &Fleet, report: &Report) {
    eprintln!(
        "{} writes, {} refused, longest gap {:?} until {}",
        report.history.len(),
        report.failed_writes,
        report.longest_gap,
        report.longest_gap_until
    );
    assert_nothing_lost(fleet, report);
}

/// From three on, somebody always takes a write.
#[track_caller]
fn nobody_noticed(fleet: &Fleet, report: &Report) {
    nothing_is_lost(fleet, report);
    assert_eq!(report.failed_writes, 0, "{report:?}\n{}", fleet.log_tails());
}

#[test]
#[cfg_attr(not(feature = "long"), ignore = "long tier")]
fn five_in_one_deploy_one_after_the_other() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]);
    fleet.scale_to(1).succeeded();
    let founder = member_ids(&members_are_the_instances(&fleet, 1));
    let load = Load::start(&fleet);

    fleet.scale_to(5).succeeded();

    let report = load.finish_with(WRITES);
    let status = members_are_the_instances(&fleet, 5);
    nothing_is_lost(&fleet, &report);
    assert!(member_ids(&status).contains(&founder[0]));
    newcomers_were_learners(&fleet, &founder[0], &status);
}

#[test]
fn five_in_one_deploy_all_new_instances_at_once() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]);
    fleet.add_ops_text("at-once.yml", ALL_AT_ONCE);
    fleet.scale_to(1).succeeded();
    let before = members_are_the_instances(&fleet, 1);
    let load = Load::start(&fleet);

    fleet.scale_to(5).succeeded();

    let report = load.finish_with(WRITES);
    let after = members_are_the_instances(&fleet, 5);
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    nothing_is_lost(&fleet, &report);
    newcomers_were_learners(&fleet, &member_ids(&before)[0], &after);
}

#[test]
fn from_one_to_five_and_back_by_twos_nobody_notices() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]);
    fleet.scale_to(1).succeeded();
    let before = members_are_the_instances(&fleet, 1);
    let watcher = Watcher::start(&fleet, "etcd/0");
    let mut history = Vec::new();

    for size in [3, 5, 3, 1] {
        let from = fleet.size();
        let load = Load::start(&fleet);
        fleet.scale_to(size).succeeded();
        let after = members_are_the_instances(&fleet, size);
        let report = load.finish_with(WRITES);
        assert_eq!(before["cluster_id"], after["cluster_id"], "{size}");
        if from >= 3 && size >= 3 {
            nobody_noticed(&fleet, &report);
        } else {
            nothing_is_lost(&fleet, &report);
        }
        history.extend(report.history);
    }

    watcher.saw_everything(&history);
}

#[test]
fn between_one_and_two_the_cluster_never_is_without_a_leader() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]);
    fleet.scale_to(1).succeeded();
    members_are_the_instances(&fleet, 1);
    let load = Load::start(&fleet);

    fleet.scale_to(2).succeeded();
    members_are_the_instances(&fleet, 2);
    let grown: String = fleet.slugs().iter().map(|slug| fleet.log(slug, "etcd.stderr.log")).collect();
    fleet.scale_to(1).succeeded();
    members_are_the_instances(&fleet, 1);

    let report = load.finish_with(WRITES);
    nothing_is_lost(&fleet, &report);
    let all = grown + &fleet.log("etcd/0", "etcd.stderr.log");
    let without: Vec<&str> = all.lines().filter(|line| line.contains("no leader")).collect();
    assert!(without.is_empty(), "{without:#?}");
}
