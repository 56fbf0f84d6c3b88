//! One line a case, in the order of the table.

use super::super::claim::Claim;
use super::super::decide;
use super::super::plan::{FirstBootNote, Plan, Promotion, Validation};
use super::super::restore::pending_request;
use super::super::step::Step;
use super::super::waiting::{Missing, Waiting};
use super::super::{Decision, Notice, reason::Reason};
use super::world::*;
use crate::etcd::id::MemberId;
use crate::etcd::version::EtcdVersion;
use crate::job::properties::{BootstrapFlag, BootstrapMethod, OnRemovedMember};
use crate::lifecycle::launch::attestation::{DiskClass, LinkHash};
use crate::lifecycle::launch::observation::{
    Backup, Disk, DiskData, Healthy, Observation, Unreachable, Validated,
};
use crate::lifecycle::launch::records::{
    BootPhase, BootstrapRecord, Ending, ExitRecord, JoinPhase, RECORD_VERSION, RestorePhase,
};

/// Checks one line of the table.
fn case(row: u8, plan: &str, story: &str, changes: &[Change]) -> Decision {
    let decision = decide(&with(changes));
    assert_eq!(
        (decision.row.number(), decision.plan.name()),
        (row, plan),
        "{story}: {}",
        decision.because.sentence()
    );
    decision
}

fn on() -> Change {
    bootstrap(BootstrapFlag::On)
}

fn again() -> Change {
    bootstrap(BootstrapFlag::Again)
}

fn foreign() -> Change {
    disk(Disk::Foreign { names: ["mysql".to_owned()].into() })
}

fn unmounted() -> Change {
    disk(Disk::Unmounted)
}

fn me() -> [crate::etcd::member::Member; 1] {
    [entry(ME, "a")]
}

fn former() -> [crate::etcd::member::Member; 1] {
    [entry(FORMER, "a")]
}

#[rustfmt::skip]
#[test]
fn rows_0_to_2_whatever_is_on_the_disk() {
    case( 0, "refuse",  "etcd holds the data",                  &[running(), data(OURS), healthy("b", OURS, &me(), &[])]);
    case( 0, "refuse",  "even an unusable disk",                &[running(), unmounted()]);
    case( 1, "refuse",  "the disk is not mounted",              &[unmounted(), healthy("b", OURS, &me(), &[])]);
    case( 1, "refuse",  "somebody else's files",                &[foreign(), on(), virgin("b"), virgin("c")]);
    case( 1, "refuse",  "and no restore request changes that",  &[foreign(), request(|_| {}), has_request("b", "r1"), has_request("c", "r1")]);
    case( 2, "restore", "everybody waits for it",               &[data(OURS), request(|_| {}), has_request("b", "r1"), has_request("c", "r1")]);
    case( 2, "restore", "an empty disk as well",                &[request(|_| {}), has_request("b", "r1"), has_request("c", "r1")]);
    case( 2, "restore", "who is not in the set is not asked",   &[data(OURS), request(|r| { r.members.remove(&id("c")); }), has_request("b", "r1")]);
    case( 2, "wait",    "one does not wait for it",             &[data(OURS), request(|_| {}), has_request("b", "r1"), virgin("c")]);
    case( 2, "wait",    "one waits for another",                &[data(OURS), request(|_| {}), has_request("b", "r1"), has_request("c", "r2")]);
    case( 2, "wait",    "one is silent",                        &[data(OURS), request(|_| {}), has_request("b", "r1")]);
    case( 2, "wait",    "one of the set is not in the link",    &[request(|r| { r.members.insert(id("d"), url("d")); }), has_request("b", "r1"), has_request("c", "r1")]);
    case( 2, "wait",    "not while being drained",              &[request(|_| {}), has_request("b", "r1"), has_request("c", "r1"), draining()]);
    case( 2, "wait",    "its data is made out of this disk",    &[data(OURS), request(|r| r.phase = RestorePhase::Preparing), has_request("b", "r1"), has_request("c", "r1")]);
    case( 2, "wait",    "another instance begins",              &[data(OURS), request(|r| r.source = id("b")), has_request("b", "r1"), has_request("c", "r1")]);
    case( 2, "wait",    "it has put its data in place",         &[data(OURS), request(|r| r.source = id("b")), did_restore("b", "r1", OTHER)]);
    case( 2, "wait",    "another one is silent",                &[data(OURS), request(|r| r.source = id("b"))]);
    case( 2, "wait",    "the old cluster serves still", &[data(OURS), request(|r| r.source = id("b")), healthy("c", OURS, &me(), &[])]);
    case( 6, "rejoin",  "it serves",                            &[data(OURS), request(|r| r.source = id("b")), healthy("b", OTHER, &[], &[]), did_restore("b", "r1", OTHER), twice()]);
    case(15, "join",    "it serves, and the disk is empty",     &[request(|r| r.source = id("b")), healthy("b", OTHER, &[], &[]), did_restore("b", "r1", OTHER)]);
    case( 8, "start",   "joined already",                       &[data(OTHER), request(|r| r.source = id("b"))]);
    case( 8, "start",   "done already",                         &[data(OURS), request(|_| {}), restored("r1")]);
    case( 8, "start",   "expired",                              &[data(OURS), request(|r| r.expires_unix_secs = NOW)]);
    case( 8, "start",   "nobody could follow before it ends",   &[data(OURS), request(|r| r.expires_unix_secs = NOW + 60), has_request("b", "r1"), has_request("c", "r1")]);
    case( 2, "wait",    "who follows waits until the end",      &[data(OURS), request(|r| { r.source = id("b"); r.expires_unix_secs = NOW + 1; })]);
    case( 8, "start",   "for others",                           &[data(OURS), request(|r| { r.members.remove(&id("a")); })]);
    case( 8, "start",   "for another URL",                      &[data(OURS), request(|r| { r.members.insert(id("a"), url("x")); })]);
    case( 8, "start",   "of a later release",                   &[data(OURS), request(|r| r.version = 99)]);
}

fn older_cluster(servers: &str) -> Healthy {
    let servers: EtcdVersion = servers.parse().unwrap();
    let answer = healthy_answer(OURS, &me(), &[]);
    Healthy {
        cluster_version: Some(EtcdVersion::new(servers.major, servers.minor, 0)),
        servers: answer.members.iter().map(|member| (member.id, servers)).collect(),
        ..answer
    }
}

#[rustfmt::skip]
#[test]
fn rows_3_to_8_with_a_member_on_the_disk() {
    case( 3, "refuse", "the data is of a later release",      &[data_of_version("3.7.0"), healthy("b", OURS, &me(), &[])]);
    case( 3, "refuse", "the data is two releases behind",     &[data_of_version("3.4.0")]);
    case( 3, "refuse", "the cluster is of a later release",   &[data(OURS), healthy_as("b", older_cluster("3.7.0"))]);
    case( 3, "refuse", "the cluster is two releases behind",  &[data(OURS), healthy_as("b", older_cluster("3.4.9"))]);
    case( 3, "refuse", "a patch that cannot be upgraded",     &[data_of_version("3.5.0"), healthy_as("b", older_cluster("3.5.9"))]);
    case( 4, "start",  "one release up",                      &[data_of_version("3.5.0"), healthy_as("b", older_cluster("3.5.30"))]);
    case( 4, "start",  "one other is up",                     &[data(OURS), healthy("b", OURS, &me(), &[])]);
    case( 4, "start",  "never stopped by a stray cluster",    &[data(OURS), healthy("b", OURS, &me(), &[]), healthy("c", OTHER, &[], &[])]);
    case( 4, "start",  "listed by one answer of two",         &[data(OURS), healthy("b", OURS, &[], &[]), healthy("c", OURS, &me(), &[])]);
    case( 4, "start",  "while being drained",                 &[data(OURS), healthy("b", OURS, &me(), &[]), draining()]);
    case( 5, "wait",   "removed, seen once",                  &[data(OURS), healthy("b", OURS, &[], &[])]);
    case( 5, "rejoin", "removed, seen twice",                 &[data(OURS), healthy("b", OURS, &[], &[]), twice()]);
    case( 5, "rejoin", "and added again under another id",    &[data(OURS), healthy("b", OURS, &former(), &[]), twice()]);
    case( 5, "wait",   "removed, to ask, seen once",          &[data(OURS), policy(OnRemovedMember::Refuse), healthy("b", OURS, &[], &[])]);
    case( 5, "refuse", "removed, to ask, seen twice",         &[data(OURS), policy(OnRemovedMember::Refuse), healthy("b", OURS, &[], &[]), twice()]);
    case( 5, "wait",   "removed by the drain of this VM",     &[data(OURS), healthy("b", OURS, &[], &[]), twice(), draining()]);
    case( 6, "wait",   "replaced by a restore, seen once",    &[data(OURS), healthy("b", OTHER, &[], &[]), did_restore("b", "r1", OTHER)]);
    case( 6, "rejoin", "replaced by a restore, seen twice",   &[data(OURS), healthy("b", OTHER, &[], &[]), did_restore("b", "r1", OTHER), twice()]);
    case( 7, "refuse", "another cluster has quorum",          &[data(OURS), healthy("b", OTHER, &[], &[])]);
    case( 7, "refuse", "and its restore replaced others",     &[data(OTHER), healthy("b", OURS, &[], &[]), did_restore("b", "r1", OURS)]);
    case( 7, "refuse", "the record is of a third cluster",    &[data(OURS), healthy("b", OTHER, &[], &[]), did_restore("c", "r1", OURS)]);
    case( 7, "refuse", "ours answers, without quorum",        &[data(OURS), healthy("b", OTHER, &[], &[]), no_quorum("c", OURS)]);
    case( 8, "start",  "nobody answers",                      &[data(OURS)]);
    case( 8, "start",  "ours without quorum",                 &[data(OURS), no_quorum("b", OURS)]);
    case( 8, "start",  "ours and another without quorum",     &[data(OURS), no_quorum("b", OURS), no_quorum("c", OTHER)]);
    case( 8, "start",  "the other side does not like our certificate", &[data(OURS), other("b", failing(&Unreachable::Tls { why: "expired".to_owned() }))]);
    case( 8, "start",  "a cluster of one that is to grow",    &[lone_voter(OURS), virgin("b"), virgin("c")]);
    case( 8, "refuse", "a cluster of one beside another",     &[lone_voter(OURS), no_quorum("b", OTHER)]);
    case( 8, "start",  "a cluster of one, alone",             &[lone_voter(OURS), alone()]);
    case( 8, "start",  "a first boot that never decided its version", &[data_of_version("3.0.0")]);
    case( 8, "start",  "bootstrap is on: there is data",      &[data(OURS), on(), virgin("b"), virgin("c")]);
}

#[rustfmt::skip]
#[test]
fn rows_9_to_11_with_a_damaged_member() {
    case( 9, "wait",       "not listed, seen once",              &[damaged(), healthy("b", OURS, &[], &[])]);
    case( 9, "move-aside", "not listed, seen twice",             &[damaged(), healthy("b", OURS, &[], &[]), twice()]);
    case( 9, "move-aside", "not listed by its own cluster",      &[damaged_of(Some(OURS), &[]), healthy("b", OURS, &[], &[]), twice()]);
    case( 9, "wait",       "not while being drained",            &[damaged(), healthy("b", OURS, &[], &[]), draining()]);
    case(10, "wait",       "listed and dead, seen once",         &[damaged(), healthy("b", OURS, &me(), &[ME])]);
    case(10, "replace",    "listed and dead, seen twice",        &[damaged(), healthy("b", OURS, &me(), &[ME]), twice()]);
    case(10, "wait",       "another one is dead too",            &[damaged(), healthy("b", OURS, &me(), &[ME, C]), twice()]);
    case(10, "wait",       "the leader does not tell",           &[damaged(), healthy_as("b", Healthy { connected: None, ..healthy_answer(OURS, &me(), &[]) })]);
    case(10, "wait",       "alive, seen once: our own restart",  &[damaged(), healthy("b", OURS, &me(), &[])]);
    case(10, "refuse",     "alive, seen twice: somebody else",   &[damaged(), healthy("b", OURS, &me(), &[]), twice()]);
    case(11, "refuse",     "nobody answers",                     &[damaged()]);
    case(11, "refuse",     "no quorum anywhere",                 &[damaged(), no_quorum("b", OURS)]);
    case(11, "refuse",     "of another cluster than the one that serves", &[damaged_of(Some(OURS), &[ME]), healthy("b", OTHER, &[], &[])]);
    case(11, "refuse",     "two clusters to choose from",        &[damaged(), healthy("b", OURS, &[], &[]), healthy("c", OTHER, &[], &[])]);
    case(11, "refuse",     "alone, auto_restore is off",         &[damaged_of(None, &[ME]), alone(), a_backup()]);
    case(11, "refuse",     "alone now, but it was one of three", &[damaged(), alone(), auto_restore(), a_backup()]);
    case(11, "refuse",     "it was alone, but others are wanted", &[damaged_of(None, &[ME]), auto_restore(), a_backup()]);
    case(11, "refuse",     "alone, without a backup",            &[damaged_of(None, &[ME]), alone(), auto_restore(), backup(Backup::None)]);
    case(11, "refuse",     "alone, without a store",             &[damaged_of(None, &[ME]), alone(), auto_restore()]);
    case(11, "wait",       "alone, seen once",                   &[damaged_of(None, &[ME]), alone(), auto_restore(), a_backup()]);
    case(11, "restore",    "alone, seen twice",                  &[damaged_of(None, &[ME]), alone(), auto_restore(), a_backup(), twice()]);
}

#[rustfmt::skip]
#[test]
fn rows_12_to_17_with_an_empty_disk_and_a_cluster() {
    let fresh = || [unstarted(learner(FORMER, "a"))];
    let unstarted_voter = || [unstarted(entry(FORMER, "a"))];
    case(12, "refuse",      "two clusters answer",                &[healthy("b", OURS, &[], &[]), healthy("c", OTHER, &[], &[])]);
    case(12, "refuse",      "one of them without quorum",         &[healthy("b", OURS, &[], &[]), no_quorum("c", OTHER)]);
    case(13, "refuse",      "the cluster is of a later release",  &[healthy_as("b", older_cluster("3.7.0"))]);
    case(13, "refuse",      "a patch that cannot be upgraded",    &[healthy_as("b", older_cluster("3.5.9"))]);
    case(14, "bootstrap",   "the others were faster",             &[on(), boots("b", "a"), boot_members("b", false)]);
    case(14, "bootstrap",   "after a death before etcd's start",  &[on(), own_first_boot(BootPhase::Prepared), boots("b", "a"), boot_members("b", false)]);
    case(14, "bootstrap",   "on what a first start left",         &[on(), partial(), boots("b", "a"), boot_members("b", false)]);
    case(14, "wait",        "not while being drained",            &[on(), boots("b", "a"), boot_members("b", false), draining()]);
    case(15, "join",        "not listed",                         &[healthy("b", OURS, &[], &[])]);
    case(15, "join",        "whatever bootstrap says",            &[on(), healthy("b", OURS, &[], &[]), virgin("c")]);
    case(15, "join",        "a disk that was lost",               &[lost(), healthy("b", OURS, &[], &[])]);
    case(15, "join",        "a start that died early",            &[partial(), healthy("b", OURS, &[], &[])]);
    case(15, "wait",        "not while being drained",            &[healthy("b", OURS, &[], &[]), draining()]);
    case(16, "resume-join", "added as a learner, never started",  &[healthy("b", OURS, &fresh(), &[FORMER])]);
    case(16, "resume-join", "the answer was lost",                &[joined(None, JoinPhase::Intended), healthy("b", OURS, &fresh(), &[FORMER])]);
    case(16, "resume-join", "a voter that the record knows",      &[joined(Some(FORMER), JoinPhase::Added), healthy("b", OURS, &unstarted_voter(), &[FORMER])]);
    case(16, "resume-join", "the leader does not tell",           &[healthy_as("b", Healthy { connected: None, ..healthy_answer(OURS, &fresh(), &[]) })]);
    case(17, "wait",        "a learner that was started here",    &[joined(Some(FORMER), JoinPhase::Started), healthy("b", OURS, &fresh(), &[FORMER])]);
    case(17, "wait",        "a learner that runs elsewhere",      &[healthy("b", OURS, &fresh(), &[])]);
    case(17, "wait",        "a voter that nobody knows of",       &[healthy("b", OURS, &unstarted_voter(), &[FORMER])]);
    case(17, "wait",        "the disk was lost, seen once",       &[lost(), healthy("b", OURS, &me(), &[ME])]);
    case(17, "replace",     "the disk was lost, seen twice",      &[lost(), healthy("b", OURS, &me(), &[ME]), twice()]);
    case(17, "replace",     "a disk that knows nothing of it",    &[healthy("b", OURS, &me(), &[ME]), twice()]);
    case(17, "wait",        "another one is dead too",            &[lost(), healthy("b", OURS, &me(), &[ME, C]), twice()]);
    case(17, "wait",        "alive, seen once: our own restart",  &[lost(), healthy("b", OURS, &me(), &[])]);
    case(17, "refuse",      "alive, seen twice: somebody else",   &[lost(), healthy("b", OURS, &me(), &[]), twice()]);
    case(17, "wait",        "not while being drained",            &[lost(), healthy("b", OURS, &me(), &[ME]), twice(), draining()]);
}

/// Static ids depend on nothing but URLs and token: a first boot is made of evidence.
#[rustfmt::skip]
#[test]
fn rows_18_to_20_with_empty_disks() {
    let all = || [virgin("b"), virgin("c")];
    let chain = |first: Vec<Change>| first.into_iter().chain(all()).collect::<Vec<_>>();
    case(18, "bootstrap", "everybody attests",                  &chain(vec![on()]));
    case(18, "bootstrap", "alone",                              &[on(), alone()]);
    case(18, "bootstrap", "a store without a backup",           &chain(vec![on(), backup(Backup::None)]));
    case(18, "bootstrap", "a backup, and asked again",          &chain(vec![again(), a_backup()]));
    case(18, "bootstrap", "after a death before etcd's start",  &chain(vec![on(), own_first_boot(BootPhase::Prepared)]));
    case(18, "bootstrap", "on what a first start left",         &chain(vec![on(), partial()]));
    case(18, "wait",      "not while being drained",            &chain(vec![on(), draining()]));
    case(19, "refuse",    "a backup",                           &chain(vec![on(), a_backup()]));
    case(19, "wait",      "a store that does not answer",       &chain(vec![on(), backup(Backup::Unknown { why: "403".to_owned() })]));
    case(19, "wait",      "alone, auto_restore, seen once",     &[alone(), auto_restore(), a_backup()]);
    case(19, "restore",   "alone, auto_restore, seen twice",    &[alone(), auto_restore(), a_backup(), twice()]);
    case(19, "restore",   "alone, and the disk was lost",       &[lost(), alone(), auto_restore(), a_backup(), twice()]);
    case(19, "restore",   "alone, on what a first start left",  &[partial(), alone(), auto_restore(), a_backup(), twice()]);
    case(19, "restore",   "alone, on the way to a first boot",  &[on(), alone(), auto_restore(), a_backup(), twice()]);
    case(18, "bootstrap", "alone, and asked again",             &[again(), alone(), auto_restore(), a_backup(), twice()]);
    case(18, "bootstrap", "alone, a store without a backup",    &[on(), alone(), auto_restore(), backup(Backup::None)]);
    case(19, "refuse",    "auto_restore, but not alone",        &chain(vec![on(), auto_restore(), a_backup(), twice()]));
    case(19, "wait",      "alone, no answer from the store",    &[alone(), auto_restore(), backup(Backup::Unknown { why: "403".to_owned() })]);
    case(19, "wait",      "alone, while being drained",         &[alone(), auto_restore(), a_backup(), draining(), twice()]);
    case(20, "wait",      "alone, auto_restore, no backup",     &[alone(), auto_restore(), backup(Backup::None)]);
    case(20, "wait",      "bootstrap is off",                   &chain(vec![]));
    case(20, "wait",      "bootstrap is off, nobody answers",   &[]);
    case(20, "wait",      "bootstrap is off, a backup",         &chain(vec![a_backup()]));
    case(20, "wait",      "the canary is alone",                &[on()]);
    case(20, "wait",      "one is still missing",               &[on(), virgin("b")]);
    case(20, "wait",      "one has another list of instances",  &[on(), virgin("b"), launcher("c", |state| state.link_hash = LinkHash("abcd".to_owned()))]);
    case(20, "wait",      "one is to seed its member",          &[on(), virgin("b"), launcher("c", |state| state.bootstrap_method = BootstrapMethod::Seeded)]);
    case(20, "wait",      "this one is to seed its member",     &chain(vec![on(), seeded()]));
    case(20, "wait",      "one lost its disk",                  &[on(), virgin("b"), launcher("c", |state| state.nonce = None)]);
    case(20, "wait",      "one has data",                       &[on(), virgin("b"), with_data("c")]);
    case(20, "wait",      "one is damaged",                     &[on(), virgin("b"), launcher("c", |state| state.disk = DiskClass::Damaged)]);
    case(20, "wait",      "one is a copy of another",           &[on(), virgin("b"), launcher("c", |state| state.nonce = Some(nonce("b")))]);
    case(20, "wait",      "one is somebody else",               &[on(), virgin("b"), launcher("c", |state| state.instance = id("d"))]);
    case(20, "wait",      "etcd runs on one",                   &[on(), virgin("b"), virgin("c"), no_quorum("c", OURS)]);
    case(20, "wait",      "our disk was lost",                  &chain(vec![on(), lost()]));
    case(20, "wait",      "our disk had a member",              &chain(vec![on(), own_first_boot(BootPhase::Running)]));
    case(20, "wait",      "our disk was a member's that ended", &chain(vec![on(), exit(Ending::Graceful)]));
    case(20, "wait",      "we have no nonce yet",               &chain(vec![on(), no_nonce()]));
    case(20, "wait",      "a first boot without us",            &[on(), boots("b", "x"), boot_members("b", false), virgin("c")]);
    case(20, "wait",      "a first boot that cannot be seen",   &[on(), boots("b", "a")]);
    case(20, "wait",      "a first boot that knew us running",  &[on(), boots("b", "a"), boot_members("b", true)]);
    case(20, "wait",      "a first boot, but the flag is off",  &[boots("b", "a"), boot_members("b", false)]);
    case(20, "wait",      "data without quorum",                &[no_quorum("b", OURS)]);
}

/// A member port behind a firewall, or one that dislikes our certificate, may hide a member.
#[test]
fn only_a_refused_connection_proves_that_no_etcd_runs() {
    let on_c = |why: Unreachable| {
        let mut seen = with(&[on(), virgin("b"), virgin("c")]);
        seen.others.get_mut(&id("c")).unwrap().members =
            crate::lifecycle::launch::observation::Answer::Failed(why);
        decide(&seen)
    };

    assert_eq!(on_c(Unreachable::Refused).plan.name(), "bootstrap");
    let why = "x".to_owned();
    for why in [
        Unreachable::Timeout,
        Unreachable::Tls { why: why.clone() },
        Unreachable::Dns { why: why.clone() },
        Unreachable::Network { why: why.clone() },
        Unreachable::Auth { why: why.clone() },
        Unreachable::Protocol { why },
    ] {
        let decision = on_c(why);
        let Reason::Waiting(Waiting::Attestations { missing }) = &decision.because else {
            panic!("{decision:?}")
        };
        assert!(matches!(missing[&id("c")], Missing::PeerPort { .. }), "{missing:?}");
    }
}

#[test]
fn every_launcher_computes_the_same_cluster_from_the_same_attestations() {
    let plan_of = |seen: &Observation| match decide(seen).plan {
        Plan::Bootstrap(plan) => plan,
        other => panic!("{other:?}"),
    };
    let here = with(&[on(), virgin("b"), virgin("c")]);
    let mut there = with(&[on(), virgin("c")]);
    there.own.instance = id("b");
    there.own.peer_url = url("b");
    there.records.nonce = Some(nonce("b"));
    there.others.remove(&id("b"));
    let mut answer = silent();
    answer.launcher = crate::lifecycle::launch::observation::Answer::Got(state("a"));
    there.others.insert(id("a"), answer);

    let (here, there) = (plan_of(&here), plan_of(&there));

    assert_eq!(here.token, there.token);
    assert_eq!(here.cluster_id, there.cluster_id);
    assert_ne!(here.member_id, there.member_id);
    assert_eq!(here.initial_cluster(), "a=https://a.etcd:2380,b=https://b.etcd:2380,c=https://c.etcd:2380");
    assert_eq!(here.record().cluster_id(), here.cluster_id);
    assert_eq!(here.token.as_str().len(), 64);
}

/// One way for all: whoever follows takes that of the first boot that runs, whatever it was deployed with.
#[test]
fn first_members_are_all_seeded_or_none() {
    let plan_of = |changes: &[Change]| match decide(&with(changes)).plan {
        Plan::Bootstrap(plan) => plan,
        other => panic!("{other:?}"),
    };
    let seeds = |name: &'static str| launcher(name, |state| state.bootstrap_method = BootstrapMethod::Seeded);
    let boots_seeded = || -> Change {
        launcher("b", |state| {
            state.nonce = None;
            state.disk = DiskClass::Data;
            state.bootstrap = Some(BootstrapRecord { method: BootstrapMethod::Seeded, ..first_boot("a") });
        })
    };

    let founding = plan_of(&[on(), seeded(), seeds("b"), seeds("c")]);
    assert_eq!(
        Plan::Bootstrap(founding.clone()).steps()[..3],
        [Step::WriteBootstrapRecord, Step::SeedData, Step::WriteConfiguration],
    );
    assert_eq!(founding.record().method, BootstrapMethod::Seeded);
    let alike = plan_of(&[on(), virgin("b"), virgin("c")]);
    assert_eq!(Plan::Bootstrap(alike.clone()).steps()[1], Step::WriteConfiguration);
    assert_eq!((founding.token, founding.member_id), (alike.token, alike.member_id), "the same cluster");

    let following = plan_of(&[on(), boots_seeded(), boot_members("b", false)]);
    assert_eq!(following.method, BootstrapMethod::Seeded);
    let following = plan_of(&[on(), seeded(), boots("b", "a"), boot_members("b", false)]);
    assert_eq!(following.method, BootstrapMethod::Static);
}

#[test]
fn who_follows_a_first_boot_computes_the_cluster_that_runs() {
    let decision = decide(&with(&[on(), boots("b", "a"), boot_members("b", false)]));

    let Plan::Bootstrap(plan) = decision.plan else { panic!("row 14") };
    assert_eq!(plan.token, first_boot("a").token);
    assert_eq!(plan.cluster_id, first_boot("a").cluster_id());
}

#[test]
fn a_disk_without_a_nonce_gets_one_while_it_waits() {
    let steps = |changes: &[Change]| decide(&with(changes)).plan.steps();

    assert_eq!(steps(&[no_nonce()]), [Step::WriteNonce]);
    assert_eq!(steps(&[no_nonce(), on(), virgin("b"), virgin("c")]), [Step::WriteNonce]);
    assert_eq!(steps(&[no_nonce(), lost()]), []);
    assert_eq!(steps(&[no_nonce(), exit(Ending::Abrupt)]), []);
    assert_eq!(steps(&[]), []);
}

#[test]
fn a_start_says_how_much_it_trusts_the_disk_and_what_is_left_to_do() {
    let start = |changes: &[Change]| match decide(&with(changes)).plan {
        Plan::Start(start) => start,
        other => panic!("{other:?}"),
    };

    let unchecked = || data_that_is(Validated::NotYet);
    assert_eq!(start(&[unchecked(), exit(Ending::Graceful)]).validation, Validation::Sanity);
    assert_eq!(start(&[data(OURS), exit(Ending::Abrupt)]).validation, Validation::Done);
    assert_eq!(start(&[data(OURS), exit(Ending::Graceful)]).validation, Validation::Done);
    let learns = start(&[data(OURS), healthy("b", OURS, &[learner(ME, "a")], &[])]);
    assert_eq!(learns.promotion, Promotion::Promote);
    assert_eq!(start(&[data(OURS)]).promotion, Promotion::No);
    let boot_died = start(&[data(first_boot("a").cluster_id()), own_first_boot(BootPhase::Prepared)]);
    assert_eq!(boot_died.first_boot, FirstBootNote::Complete);
    assert_eq!(start(&[data(OURS), own_first_boot(BootPhase::Prepared)]).first_boot, FirstBootNote::Keep);
}

#[rustfmt::skip]
#[test]
fn data_that_etcd_did_not_leave_in_order_is_checked_before_it_starts() {
    let unchecked = || data_that_is(Validated::NotYet);
    let serves = || healthy("b", OURS, &me(), &[]);
    case( 4, "validate", "no record of an end",                &[unchecked(), serves()]);
    case( 4, "validate", "it was killed",                      &[unchecked(), serves(), exit(Ending::Abrupt)]);
    case( 4, "start",    "it ended gracefully",                &[unchecked(), serves(), exit(Ending::Graceful)]);
    case( 4, "validate", "another member ended gracefully",    &[unchecked(), serves(), Box::new(|seen: &mut Observation| seen.records.exit = Some(ExitRecord { version: RECORD_VERSION, member_id: FORMER, how: Ending::Graceful, at_unix_secs: NOW }))]);
    case( 8, "validate", "nobody serves",                      &[unchecked()]);
    case( 8, "validate", "while being drained",                &[unchecked(), draining()]);
    case( 8, "start",    "a person does not want it checked",  &[data_that_is(Validated::Waived)]);
    case( 5, "wait",     "what is removed is not checked",     &[unchecked(), healthy("b", OURS, &[], &[])]);
    case( 3, "refuse",   "nor what this etcd cannot replay",   &[disk(Disk::Data(DiskData { validated: Validated::NotYet, old_request: Some(8), ..member_of(OURS) }))]);
    case( 3, "refuse",   "nor what this etcd cannot open",     &[disk(Disk::Data(DiskData { validated: Validated::NotYet, cluster_version: Some(EtcdVersion::new(3, 9, 0)), ..member_of(OURS) }))]);

    let repairs = Validated::Usable { repairs: vec!["the log's last record is torn".to_owned()] };
    let decision = case(8, "start", "etcd repairs it", &[data_that_is(repairs)]);
    assert_eq!(decision.notices[0].to_string(), "etcd repairs this when it starts: the log's last record is torn");
    let steps = decide(&with(&[unchecked()])).plan.steps();
    assert_eq!(steps, [Step::WriteInitialisedMark, Step::Validate], "it looks again afterwards");
}

/// A learner that started while nobody served stayed one for ever, and no other instance could join
/// (found by the simulation).
#[test]
fn a_learner_that_nobody_can_speak_for_is_promoted_by_what_its_disk_says() {
    let row_8 = |changes: Vec<Change>| {
        let changes: Vec<Change> = [data(OURS)].into_iter().chain(changes).collect();
        match case(8, "start", "nobody serves", &changes).plan {
            Plan::Start(start) => start.promotion,
            other => panic!("{other:?}"),
        }
    };
    let voters = |voters: &[MemberId]| {
        let voters = Some(voters.iter().copied().collect());
        disk(Disk::Data(DiskData { voters, ..member_of(OURS) }))
    };
    let unknown = || disk(Disk::Data(DiskData { voters: None, ..member_of(OURS) }));
    let record = |member: MemberId, phase| joined(Some(member), phase);

    assert_eq!(row_8(vec![voters(&[B, C])]), Promotion::Promote);
    assert_eq!(row_8(vec![unknown(), record(ME, JoinPhase::Started)]), Promotion::Promote);
    // Killed between being promoted and noting it: asking again does no harm.
    assert_eq!(row_8(vec![record(ME, JoinPhase::Started)]), Promotion::Promote);
    assert_eq!(row_8(vec![voters(&[ME, B, C])]), Promotion::No);
    assert_eq!(row_8(vec![unknown()]), Promotion::No);
    assert_eq!(row_8(vec![record(ME, JoinPhase::Promoted)]), Promotion::No);
    assert_eq!(row_8(vec![record(FORMER, JoinPhase::Started)]), Promotion::No);
    // Who can be asked knows better.
    let listed = [data(OURS), record(ME, JoinPhase::Started), healthy("b", OURS, &me(), &[])];
    let Plan::Start(start) = case(4, "start", "a voter, says the cluster", &listed).plan else {
        panic!("row 4")
    };
    assert_eq!(start.promotion, Promotion::No);
}

#[test]
fn strays_other_urls_and_ignored_requests_are_told_and_change_nothing() {
    let stray =
        case(4, "start", "a stray", &[data(OURS), healthy("b", OURS, &me(), &[]), no_quorum("c", OTHER)]);
    assert_eq!(stray.notices, [Notice::Stray { instance: id("c"), cluster_id: OTHER }]);
    assert_eq!(stray.notices[0].to_string(), "c runs another cluster, c2");

    let moved = case(4, "start", "moved", &[data(OURS), healthy("b", OURS, &[entry(ME, "x")], &[])]);
    assert_eq!(
        moved.notices[0].to_string(),
        "the cluster lists this member at https://x.etcd:2380, it was deployed as https://a.etcd:2380"
    );

    let ignored = case(8, "start", "expired", &[data(OURS), request(|r| r.expires_unix_secs = NOW)]);
    assert_eq!(
        ignored.notices[0].to_string(),
        "restore request 00000000-0000-0000-0000-000000000031 counts for nothing: it has expired"
    );
}

/// The others go by what `/state` tells: a request that counts for nothing must not be offered to them.
#[test]
fn only_a_request_that_counts_is_told_to_the_others() {
    let told = |changes: &[Change]| pending_request(&with(changes));

    assert_eq!(told(&[request(|_| {})]), Some(request_id("r1")));
    assert_eq!(told(&[data(OTHER), request(|r| r.source = id("b"))]), None, "it has joined");
    assert_eq!(told(&[request(|_| {}), restored("r1")]), None);
    assert_eq!(told(&[request(|r| r.expires_unix_secs = NOW)]), None);
    assert_eq!(
        told(&[request(|r| {
            r.members.remove(&id("a"));
        })]),
        None
    );
    assert_eq!(told(&[]), None);
}

#[test]
fn a_replacement_names_whom_it_removes_and_who_stays() {
    let decision = decide(&with(&[lost(), healthy("b", OURS, &me(), &[ME]), twice()]));

    assert_eq!(decision.rests_on, Some(Claim::EntryDead { cluster_id: OURS, member_id: ME }));
    let Plan::Replace(plan) = decision.plan else { panic!("row 17") };
    assert_eq!((plan.remove, plan.survivors), (ME, [B, C].into()));
}
