//! `settled` says when slower peers need not be waited for. It must never be wrong.

use proptest::prelude::*;

use super::super::row::Row;
use super::super::{decide, depends_on_backups, settled};
use super::world::*;
use crate::etcd::version::EtcdVersion;
use crate::job::properties::BootstrapFlag;
use crate::lifecycle::launch::observation::{
    Answer, Disk, EtcdAnswer, Healthy, Observation, Seen, Unreachable, Validated,
};

fn pending(name: &'static str) -> Change {
    other(name, Seen::pending())
}

#[test]
fn a_member_of_a_healthy_cluster_starts_on_the_first_answer() {
    let mut seen = with(&[data(OURS), pending("b"), pending("c")]);
    assert!(!settled(&seen));

    healthy("b", OURS, &[entry(ME, "a")], &[])(&mut seen);

    // Not even b's own launcher and peer port need to have answered.
    let b = seen.others.get_mut(&id("b")).unwrap();
    (b.launcher, b.members) = (Answer::Pending, Answer::Pending);
    assert!(settled(&seen));
    assert_eq!(decide(&seen).row, Row::ListedMember);
}

/// Only `/version` tells the cluster's version; a disk that already was on the binary's release makes
/// up for it.
#[test]
fn a_restart_needs_no_cluster_version_and_an_upgrade_does() {
    let untold = Healthy { cluster_version: None, ..healthy_answer(OURS, &[entry(ME, "a")], &[]) };
    let restarted = with(&[data(OURS), healthy_as("b", untold.clone()), pending("c")]);
    let upgraded = with(&[data_of_version("3.5.0"), healthy_as("b", untold), pending("c")]);

    assert!(settled(&restarted));
    assert!(!settled(&upgraded));
}

#[test]
fn what_this_instance_alone_decides_waits_for_nobody() {
    let waiting = |change: Change| with(&[pending("b"), pending("c"), change]);
    assert!(settled(&waiting(disk(Disk::Unmounted))));
    assert!(settled(&waiting(running())));
    assert!(settled(&waiting(data_of_version("3.9.0"))));
    assert!(settled(&with(&[alone()])));
}

#[test]
fn everything_else_waits_for_everybody() {
    let one_more = |changes: Vec<Change>| {
        let all: Vec<Change> = changes.into_iter().chain([pending("c")]).collect();
        with(&all)
    };
    let behind = Healthy {
        cluster_version: Some(EtcdVersion::new(3, 5, 0)),
        ..healthy_answer(OURS, &[entry(ME, "a")], &[])
    };
    for (words, seen) in [
        ("nobody answers", one_more(vec![data(OURS)])),
        ("removed", one_more(vec![data(OURS), healthy("b", OURS, &[], &[])])),
        ("another cluster", one_more(vec![data(OURS), healthy("b", OTHER, &[], &[])])),
        ("the cluster is being upgraded", one_more(vec![data_of_version("3.5.0"), healthy_as("b", behind)])),
        ("a cluster to join", one_more(vec![healthy("b", OURS, &[], &[])])),
        ("a first boot", one_more(vec![bootstrap(BootstrapFlag::On), virgin("b")])),
        ("a request", one_more(vec![data(OURS), request(|_| {}), has_request("b", "r1")])),
    ] {
        assert!(!settled(&seen), "{words}");
    }
}

/// Any answer that one door of one instance may give, or none.
fn answer(index: usize, seen: &mut Observation, name: &'static str) {
    let listed = [entry(ME, "a")];
    let tls = Unreachable::Tls { why: "x".to_owned() };
    let old =
        Healthy { cluster_version: Some(EtcdVersion::new(3, 4, 0)), ..healthy_answer(OURS, &listed, &[]) };
    let younger =
        Healthy { cluster_version: Some(EtcdVersion::new(3, 7, 0)), ..healthy_answer(OURS, &listed, &[]) };
    let untold = Healthy { cluster_version: None, ..healthy_answer(OURS, &listed, &[]) };
    let unfit = Healthy {
        cluster_version: None,
        servers: [(B, EtcdVersion::new(3, 5, 1))].into(),
        ..healthy_answer(OURS, &listed, &[])
    };
    let changes: [Change; 17] = [
        healthy_as(name, untold),
        healthy_as(name, unfit),
        other(name, silent()),
        other(name, failing(&Unreachable::Timeout)),
        other(name, failing(&tls)),
        virgin(name),
        with_data(name),
        no_quorum(name, OURS),
        no_quorum(name, OTHER),
        healthy(name, OURS, &listed, &[]),
        healthy(name, OURS, &[], &[]),
        healthy(name, OTHER, &[], &[]),
        healthy_as(name, old),
        healthy_as(name, younger),
        has_request(name, "r1"),
        did_restore(name, "r1", OTHER),
        Box::new(move |seen| {
            let other = seen.others.get_mut(&id(name)).unwrap();
            other.etcd = Answer::Got(EtcdAnswer::NoLeader { why: "election".to_owned() });
        }),
    ];
    changes[index](seen);
}

/// Hides the doors that have not answered yet.
fn hide(seen: &mut Observation, name: &str, doors: [bool; 3]) {
    let other = seen.others.get_mut(&id(name)).unwrap();
    let [launcher, etcd, members] = doors;
    if launcher {
        other.launcher = Answer::Pending;
    }
    if etcd {
        other.etcd = Answer::Pending;
    }
    if members {
        other.members = Answer::Pending;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
    /// If `settled` says so with some answers pending, every completion gives the same row and plan.
    #[test]
    fn no_later_answer_changes_a_settled_row(
        disk_kind in 0usize..6,
        asked in any::<bool>(),
        b in 0usize..17,
        c in 0usize..17,
        hide_b: [bool; 3],
        hide_c: [bool; 3],
    ) {
        let disk: Change = match disk_kind {
            0 => data(OURS),
            1 => lone_voter(OURS),
            2 => damaged(),
            3 => data_of_version("3.5.0"),
            4 => data_that_is(Validated::NotYet),
            _ => lost(),
        };
        let mut complete = with(&[disk]);
        if asked {
            request(|_| {})(&mut complete);
        }
        answer(b, &mut complete, "b");
        answer(c, &mut complete, "c");
        let mut partly = complete.clone();
        hide(&mut partly, "b", hide_b);
        hide(&mut partly, "c", hide_c);

        if settled(&partly) {
            let (early, late) = (decide(&partly), decide(&complete));
            prop_assert_eq!(early.row, late.row);
            prop_assert_eq!(early.plan.name(), late.plan.name());
        }
    }
}

/// A store that does not answer must not hold back whoever has data, or a cluster.
#[test]
fn the_store_is_asked_only_where_it_makes_a_difference() {
    let asked = |changes: &[Change]| depends_on_backups(&with(changes));

    assert!(asked(&[bootstrap(BootstrapFlag::On), virgin("b"), virgin("c")]));
    assert!(asked(&[auto_restore(), alone()]));
    assert!(asked(&[damaged_of(None, &[ME]), alone(), auto_restore()]));

    assert!(!asked(&[data(OURS)]));
    assert!(!asked(&[data(OURS), auto_restore(), alone()]));
    assert!(!asked(&[damaged_of(None, &[ME]), alone()]));
    assert!(!asked(&[damaged(), auto_restore()]));
    assert!(!asked(&[bootstrap(BootstrapFlag::Again), virgin("b"), virgin("c")]));
    assert!(!asked(&[virgin("b"), virgin("c")]));
    assert!(!asked(&[bootstrap(BootstrapFlag::On), healthy("b", OURS, &[], &[])]));
}
