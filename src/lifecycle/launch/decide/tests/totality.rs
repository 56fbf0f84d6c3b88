//! Every combination of what can be seen gets exactly one row, and none panics. What must hold in each
//! of these worlds is asserted in each of them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::plan::Plan;
use super::super::reason::Reason;
use super::super::row::Row;
use super::super::step::Step;
use super::super::{Decision, decide};
use super::world::*;
use crate::etcd::member::Member;
use crate::job::properties::{BootstrapFlag, OnRemovedMember};
use crate::lifecycle::launch::attestation::DiskClass;
use crate::lifecycle::launch::observation::{
    Answer, Backup, Disk, Healthy, Observation, Process, Seen, Unreachable, Validated,
};
use crate::lifecycle::launch::records::{DrainMark, JoinPhase};

fn disks() -> Vec<(&'static str, Change)> {
    vec![
        ("unmounted", disk(Disk::Unmounted)),
        ("foreign", disk(Disk::Foreign { names: ["x".to_owned()].into() })),
        ("virgin", disk(lonely().disk)),
        ("without nonce", no_nonce()),
        ("lost", lost()),
        ("partial", partial()),
        ("damaged", damaged()),
        ("damaged of ours", damaged_of(Some(OURS), &[ME])),
        ("data", data(OURS)),
        ("data that was not checked", data_that_is(Validated::NotYet)),
        ("lone voter", lone_voter(OURS)),
        ("data of the other cluster", data(OTHER)),
        ("data too new", data_of_version("3.9.0")),
    ]
}

/// How the own entry can look in a list.
fn entries() -> Vec<(&'static str, Vec<Member>)> {
    vec![
        ("absent", vec![]),
        ("own id", vec![entry(ME, "a")]),
        ("former id", vec![entry(FORMER, "a")]),
        ("unstarted", vec![unstarted(entry(FORMER, "a"))]),
        ("learner", vec![unstarted(learner(FORMER, "a"))]),
    ]
}

/// How one other instance can look.
fn neighbours(name: &'static str) -> Vec<(String, Change)> {
    let tls = Unreachable::Tls { why: "expired".to_owned() };
    let mut all = vec![
        ("refused".to_owned(), other(name, silent())),
        ("timeout".to_owned(), other(name, failing(&Unreachable::Timeout))),
        ("tls".to_owned(), other(name, failing(&tls))),
        ("pending".to_owned(), other(name, Seen::pending())),
        ("virgin".to_owned(), virgin(name)),
        ("lost its disk".to_owned(), launcher(name, |state| state.nonce = None)),
        ("stopped with data".to_owned(), with_data(name)),
        ("no quorum".to_owned(), no_quorum(name, OURS)),
        ("other without quorum".to_owned(), no_quorum(name, OTHER)),
        ("other".to_owned(), healthy(name, OTHER, &[], &[])),
        ("boots, unseen".to_owned(), boots(name, "a")),
        ("boots".to_owned(), both(boots(name, "a"), boot_members(name, false))),
        ("restored".to_owned(), both(healthy(name, OTHER, &[], &[]), did_restore(name, "r1", OTHER))),
        ("has the request".to_owned(), has_request(name, "r1")),
    ];
    for (words, own) in entries() {
        for down in [vec![], vec![ME, FORMER]] {
            let liveness = if down.is_empty() { "up" } else { "down" };
            all.push((format!("healthy, {words}, {liveness}"), healthy(name, OURS, &own, &down)));
        }
        let silent_leader = Healthy { connected: None, ..healthy_answer(OURS, &own, &[]) };
        all.push((format!("healthy, {words}, untold"), healthy_as(name, silent_leader)));
    }
    all
}

fn both(first: Change, second: Change) -> Change {
    Box::new(move |seen| {
        first(seen);
        second(seen);
    })
}

fn flags() -> [BootstrapFlag; 3] {
    [BootstrapFlag::Off, BootstrapFlag::On, BootstrapFlag::Again]
}

fn backups() -> [Backup; 4] {
    let (newest, why) = ("1".to_owned(), "x".to_owned());
    [Backup::NoStore, Backup::None, Backup::Exists { newest }, Backup::Unknown { why }]
}

/// What holds in every world.
fn check(seen: &Observation, story: &str) -> Row {
    let decision = decide(seen);
    let row = decision.row;
    assert!(row.plans().contains(&decision.plan.name()), "row {row}: {} in {story}", decision.plan.name());
    the_row_fits_the_disk(seen, row, story);
    the_reason_fits_the_plan(&decision, story);
    nothing_that_cannot_be_taken_back_is_done_on_one_look(seen, &decision, story);
    bootstrap_has_evidence(seen, &decision, story);
    the_steps_are_in_order(&decision.plan, story);
    row
}

fn the_row_fits_the_disk(seen: &Observation, row: Row, story: &str) {
    let expected = match (row, seen.disk.class()) {
        (Row::AlreadyRunning, _) => seen.process != Process::Down,
        (Row::UnusableDisk, class) => matches!(class, DiskClass::Unmounted | DiskClass::Foreign),
        (Row::RestoreRequested, class) => !matches!(class, DiskClass::Unmounted | DiskClass::Foreign),
        (row, DiskClass::Data) => (3..=8).contains(&row.number()),
        (row, DiskClass::Damaged) => (9..=11).contains(&row.number()),
        (row, DiskClass::Empty | DiskClass::Partial) => row.number() >= 12,
        (_, DiskClass::Unmounted | DiskClass::Foreign) => false,
    };
    assert!(expected, "row {row} on {} in {story}", seen.disk.class());
}

fn the_reason_fits_the_plan(decision: &Decision, story: &str) {
    let fits = match &decision.because {
        Reason::Refusal(_) => matches!(decision.plan, Plan::Refuse),
        Reason::Waiting(_) => matches!(decision.plan, Plan::Wait(_)),
        Reason::Cause(_) => !matches!(decision.plan, Plan::Refuse | Plan::Wait(_)),
    };
    assert!(fits, "{} because of {:?} in {story}", decision.plan.name(), decision.because);
    assert!(!decision.because.sentence().is_empty());
    if let Some(complaint) = decision.because.complaint() {
        assert!(!complaint.why.is_empty() && complaint.next.contains("docs/contract.md#"), "{story}");
    }
}

fn nothing_that_cannot_be_taken_back_is_done_on_one_look(
    seen: &Observation,
    decision: &Decision,
    story: &str,
) {
    let joins = matches!(
        decision.plan,
        Plan::Join(_) | Plan::ResumeJoin(_) | Plan::Replace(_) | Plan::Rejoin(_) | Plan::Bootstrap(_)
    );
    assert!(!joins || seen.records.drain == DrainMark::Absent, "{story}: joins while being drained");
    let irrevocable = matches!(decision.plan, Plan::Replace(_) | Plan::Rejoin(_) | Plan::MoveAside(_))
        || decision.row != Row::RestoreRequested && matches!(decision.plan, Plan::Restore(_));
    if irrevocable {
        let claim = decision.rests_on.as_ref().expect("what cannot be taken back rests on a claim");
        assert!(seen.confirmed.contains(claim), "{story}: {} on one look", decision.plan.name());
    }
}

fn bootstrap_has_evidence(seen: &Observation, decision: &Decision, story: &str) {
    let Plan::Bootstrap(plan) = &decision.plan else { return };
    assert_ne!(seen.own.bootstrap, BootstrapFlag::Off, "{story}: nobody asked for a cluster");
    assert_eq!(plan.members.get(&seen.own.instance), Some(&seen.own.peer_url));
    assert!(plan.nonces.values().any(|nonce| Some(nonce) == seen.records.nonce.as_ref()), "{story}");
    if decision.row == Row::FirstBoot {
        for (name, other) in &seen.others {
            assert!(other.members.failed() == Some(&Unreachable::Refused), "{story}: {name} may run etcd");
            assert!(other.launcher.got().is_some_and(|state| state.attests().is_some()), "{story}: {name}");
        }
    }
}

/// What must come before what: everything is written down before it is done, and whatever cannot be taken
/// back comes after what could still stop the plan.
fn the_steps_are_in_order(plan: &Plan, story: &str) {
    let steps = plan.steps();
    let at = |step: Step| steps.iter().position(|other| *other == step);
    let ordered = |first: Step, then: Step| {
        assert!(at(then).is_none() || at(first) < at(then), "{story}: {then} before {first}: {steps:?}");
    };
    let only_after = |first: Step, then: Step| {
        assert!(at(then).is_none() || at(first).is_some(), "{story}: {then} without {first}: {steps:?}");
        ordered(first, then);
    };
    for change in [Step::MemberRemove, Step::MemberAdd] {
        only_after(Step::TakeMutex, change);
        // A URL that cannot be reached is found before anything is changed.
        only_after(Step::ProbePeers, change);
    }
    only_after(Step::WriteJoinIntent, Step::MemberAdd);
    only_after(Step::MoveAside, Step::RetireRecords);
    only_after(Step::WriteConfiguration, Step::Spawn);
    only_after(Step::WriteBootstrapRecord, Step::SeedData);
    ordered(Step::MoveAside, Step::RestoreData);
    only_after(Step::RestoreData, Step::WriteRestoreRecord);
    ordered(Step::MoveAside, Step::SeedData);
    ordered(Step::SeedData, Step::Spawn);
    // Nothing is changed that etcd left before the data was checked.
    ordered(Step::Validate, Step::RemoveExitRecord);
    only_after(Step::RemoveExitRecord, Step::Spawn);
    only_after(Step::Spawn, Step::Promote);
    only_after(Step::Spawn, Step::WriteJoinStarted);
    only_after(Step::WriteJoinAnswer, Step::WriteJoinStarted);
    only_after(Step::Promote, Step::WriteJoinPromoted);
    for (first, then) in [
        (Step::MemberRemove, Step::MemberAdd),
        (Step::MemberAdd, Step::WriteJoinAnswer),
        (Step::WriteBootstrapRecord, Step::Spawn),
        (Step::ProbePeers, Step::MoveAside),
        (Step::MoveAside, Step::Spawn),
    ] {
        ordered(first, then);
    }
    let changes = matches!(plan, Plan::Join(_) | Plan::ResumeJoin(_) | Plan::Replace(_));
    assert_eq!(plan.needs_mutex(), changes, "{story}: {steps:?}");
    if changes {
        assert_eq!(
            (steps.first(), steps.last()),
            (Some(&Step::TakeMutex), Some(&Step::ReleaseMutex)),
            "{story}"
        );
    }
    // What moves data aside for good looks again before it goes on.
    let looks_again = matches!(plan, Plan::Rejoin(_) | Plan::MoveAside(_));
    assert!(!looks_again || steps == [Step::MoveAside, Step::RetireRecords], "{story}: {steps:?}");
}

/// Walks through disks × neighbours × neighbours × what `more` adds, and counts the rows.
fn walk(more: &[(&'static str, Change)]) -> BTreeMap<Row, usize> {
    let mut rows = BTreeMap::new();
    for (disk_words, disk) in &disks() {
        for (b_words, b) in &neighbours("b") {
            for (c_words, c) in &neighbours("c") {
                for (words, change) in more {
                    let mut seen = lonely();
                    for change in [disk, b, c, change] {
                        change(&mut seen);
                    }
                    let story = format!("disk {disk_words}, b {b_words}, c {c_words}, {words}");
                    *rows.entry(check(&seen, &story)).or_default() += 1;
                    // Once more, with everything it rests on seen twice.
                    twice()(&mut seen);
                    *rows.entry(check(&seen, &format!("{story}, twice"))).or_default() += 1;
                }
            }
        }
    }
    rows
}

#[test]
fn every_world_gets_one_row_whatever_may_be_created() {
    let mut more = Vec::new();
    for flag in flags() {
        for kind in backups() {
            more.push(("flags and backups", both(bootstrap(flag), backup(kind))));
        }
    }

    let rows = walk(&more);

    let unreached: BTreeSet<Row> = Row::ALL.into_iter().filter(|row| !rows.contains_key(row)).collect();
    // These need a running process, a request, another release of etcd.
    assert_eq!(
        unreached,
        [Row::AlreadyRunning, Row::RestoreRequested, Row::JoinerIncompatible].into(),
        "{rows:?}"
    );
}

#[test]
fn every_world_gets_one_row_whatever_the_records_say() {
    let older = || bootstrap(BootstrapFlag::On);
    let more = vec![
        ("draining", both(older(), draining())),
        ("to ask", policy(OnRemovedMember::Refuse)),
        ("auto restore", both(auto_restore(), a_backup())),
        ("join intended", joined(None, JoinPhase::Intended)),
        ("join answered", joined(Some(FORMER), JoinPhase::Added)),
        ("joined", joined(Some(FORMER), JoinPhase::Started)),
        ("request", request(|_| {})),
        ("expired request", request(|request| request.expires_unix_secs = 0)),
        ("running", running()),
        ("old binary", Box::new(|seen: &mut Observation| seen.own.binary.minor = 5) as Change),
        ("new binary", Box::new(|seen: &mut Observation| seen.own.binary.minor = 8)),
    ];

    let rows = walk(&more);

    for row in [Row::AlreadyRunning, Row::RestoreRequested, Row::JoinerIncompatible] {
        assert!(rows.contains_key(&row), "row {row} is never reached: {rows:?}");
    }
}

#[test]
fn every_world_of_one_instance_gets_one_row() {
    let mut reached = BTreeSet::new();
    for (words, disk) in &disks() {
        for flag in flags() {
            for kind in backups() {
                for extra in [
                    alone(),
                    both(alone(), auto_restore()),
                    both(alone(), request(|r| r.members.retain(|name, _| *name == id("a")))),
                ] {
                    let mut seen = with(&[]);
                    for change in [disk, &bootstrap(flag), &backup(kind.clone()), &extra] {
                        change(&mut seen);
                    }
                    reached.insert(check(&seen, words));
                    twice()(&mut seen);
                    reached.insert(check(&seen, words));
                }
            }
        }
    }
    for row in [Row::RestoreRequested, Row::QuorumMissing, Row::DamagedAlone, Row::FirstBoot] {
        assert!(reached.contains(&row), "row {row}");
    }
}

/// An answer that is not there yet is evidence of nothing.
#[test]
fn nothing_is_created_or_removed_while_answers_are_pending() {
    for (words, disk) in &disks() {
        for (b_words, b) in &neighbours("b") {
            let mut seen = with(&[bootstrap(BootstrapFlag::Again)]);
            disk(&mut seen);
            b(&mut seen);
            seen.others.insert(id("c"), Seen::pending());
            let plan = decide(&seen).plan;
            // Row 14 follows a cluster that runs; nothing is created by it.
            let created = matches!(plan, Plan::Bootstrap(_)) && decide(&seen).row == Row::FirstBoot;
            assert!(!created, "{words}, {b_words}: {}", plan.name());
            assert!(matches!(seen.others[&id("c")].launcher, Answer::Pending));
        }
    }
}
