//! The stop table: row by row, for every combination, and for every operation of BOSH.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::plan::{Leadership, Plan, Step};
use super::reason::Reason;
use super::row::Row;
use super::{StopDecision, decide, honest};
use crate::etcd::id::{ClientUrl, ClusterId, MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::lifecycle::drain::next_state::{DiskMib, DrainCall, Next, NextState};
use crate::lifecycle::drain::observation::{
    Absence, Begun, ClusterAlive, ClusterSeen, Force, OwnMember, Place, Script, Serving, StopSeen,
};
use crate::lifecycle::launch::attestation::{DiskClass, InstanceId, Progress};

const ME: MemberId = MemberId(0xa);

fn url(id: MemberId) -> PeerUrl {
    PeerUrl::https(&format!("m{id}.etcd"), 2380)
}

fn voter(id: MemberId) -> Member {
    Member {
        id,
        name: Some(id.to_string()),
        peer_urls: [url(id)].into(),
        client_urls: [ClientUrl::https(&format!("m{id}.etcd"), 2379)].into(),
        is_learner: false,
    }
}

/// A cluster of `voters` with `alive` of the others alive; this member is one of them and leads.
fn cluster(voters: u64, others_alive: u64) -> ClusterSeen {
    let ids = || (0..voters).map(|index| MemberId(ME.0 + index));
    let alive: BTreeSet<MemberId> = ids().take(usize::try_from(others_alive + 1).unwrap()).collect();
    ClusterSeen::Healthy(ClusterAlive {
        cluster_id: ClusterId(1),
        leader: ME,
        members: ids().map(voter).collect(),
        absences: ids()
            .filter(|id| !alive.contains(id))
            .map(|id| {
                (id, Absence { instance: Some(InstanceId(format!("i{id}"))), progress: None, since: None })
            })
            .collect(),
        alive,
    })
}

fn no_quorum() -> ClusterSeen {
    ClusterSeen::NoQuorum { said: [(InstanceId::from("ib"), "connection refused".to_owned())].into() }
}

fn seen(script: Script, cluster: ClusterSeen) -> StopSeen {
    let voters = match &cluster {
        ClusterSeen::Healthy(cluster) => cluster.members.iter().map(|member| member.id).collect(),
        ClusterSeen::NoQuorum { .. } => [ME, MemberId(0xb), MemberId(0xc)].into(),
    };
    StopSeen {
        script,
        own: OwnMember {
            peer_url: url(ME),
            disk: DiskClass::Data,
            member_id: Some(ME),
            voters_on_disk: Some(voters),
            place: Place::OwnDisk,
            serving: Serving::Yes,
        },
        cluster,
        force: Force::No,
        held: Duration::ZERO,
        hold_timeout: Duration::from_secs(600),
    }
}

const KEEP: NextState = NextState { vm: Next::Keep, instance: Next::Keep, deployment: Next::Keep };
const NEW_VM: NextState = NextState { vm: Next::Delete, ..KEEP };
const DELETE: NextState = NextState { vm: Next::Delete, instance: Next::Delete, deployment: Next::Keep };
const DELETE_ALL: NextState = NextState { deployment: Next::Delete, ..DELETE };

fn pre_stop(next: NextState) -> Script {
    Script::PreStop { next: Some(next) }
}

fn drain(intent: Option<NextState>, disk: u64, next_disk: u64) -> Script {
    Script::Drain {
        call: DrainCall::Shutdown,
        intent,
        disk: Some(DiskMib(disk)),
        next_disk: Some(DiskMib(next_disk)),
        begun: Begun::Nothing,
    }
}

fn check_status(begun: Begun) -> Script {
    Script::Drain {
        call: DrainCall::CheckStatus,
        intent: Some(DELETE),
        disk: Some(DiskMib(9)),
        next_disk: None,
        begun,
    }
}

fn case(row: u8, plan: &str, story: &str, seen: &StopSeen) -> StopDecision {
    let decision = decide(seen);
    assert_eq!(
        (decision.row.number(), decision.plan.name()),
        (row, plan),
        "{story}: {}",
        decision.because.sentence()
    );
    decision
}

fn learner_me(seen: &mut StopSeen) {
    if let ClusterSeen::Healthy(cluster) = &mut seen.cluster {
        cluster.members[0].is_learner = true;
        cluster.leader = MemberId(0xb);
    }
}

fn unstarted_me(seen: &mut StopSeen) {
    if let ClusterSeen::Healthy(cluster) = &mut seen.cluster {
        cluster.members[0].name = None;
        cluster.members[0].client_urls.clear();
        cluster.leader = MemberId(0xb);
    }
}

fn unlisted_me(seen: &mut StopSeen) {
    if let ClusterSeen::Healthy(cluster) = &mut seen.cluster {
        cluster.members.remove(0);
        cluster.leader = MemberId(0xb);
    }
}

fn changed(mut seen: StopSeen, change: impl Fn(&mut StopSeen)) -> StopSeen {
    change(&mut seen);
    seen
}

#[rustfmt::skip]
#[test]
fn row_by_row() {
    let leaving = |cluster| seen(drain(Some(DELETE), 9, 0), cluster);
    case(0, "continue",  "called again",                        &seen(check_status(Begun::Unfinished), cluster(3, 2)));
    case(0, "stay",      "called again for nothing",            &seen(check_status(Begun::Nothing), cluster(3, 2)));
    case(1, "stay",      "everything goes",                     &seen(drain(Some(DELETE_ALL), 9, 0), cluster(3, 2)));
    case(1, "stay",      "everything goes, the last one",       &seen(pre_stop(DELETE_ALL), cluster(1, 0)));
    case(2, "refuse",    "the last one",                        &leaving(cluster(1, 0)));
    case(2, "refuse",    "the last one, in pre-stop",           &seen(pre_stop(DELETE), cluster(1, 0)));
    case(2, "refuse",    "the last one, stopped before",        &changed(leaving(no_quorum()), |seen| seen.own.voters_on_disk = Some([ME].into())));
    case(3, "leave",     "a learner",                           &changed(leaving(cluster(3, 1)), learner_me));
    case(3, "leave",     "a voter that never started",          &changed(leaving(cluster(3, 1)), unstarted_me));
    case(3, "stay",      "not listed",                          &changed(leaving(cluster(3, 2)), unlisted_me));
    case(3, "stay",      "nothing on the disk, nobody there",   &changed(leaving(no_quorum()), |seen| { seen.own.disk = DiskClass::Empty; seen.own.voters_on_disk = None; seen.own.member_id = None; }));
    case(4, "leave",     "three alive",                         &leaving(cluster(3, 2)));
    case(4, "leave",     "two alive",                           &leaving(cluster(2, 1)));
    case(4, "leave",     "one of five dead",                    &leaving(cluster(5, 3)));
    case(4, "leave",     "in pre-stop: not refused",            &seen(pre_stop(DELETE), cluster(3, 2)));
    case(4, "leave",     "the disk goes, the instance stays",   &seen(drain(Some(KEEP), 9, 0), cluster(3, 2)));
    case(4, "leave",     "the VM goes, and the data with it",   &changed(seen(pre_stop(NEW_VM), cluster(3, 2)), |seen| seen.own.place = Place::VmDisk));
    case(4, "leave",     "found by its URL, the disk is lost",  &changed(leaving(cluster(3, 2)), |seen| { seen.own.member_id = None; seen.own.disk = DiskClass::Empty; }));
    case(5, "refuse",    "one of three is dead",                &leaving(cluster(3, 1)));
    case(5, "refuse",    "in pre-stop as well",                 &seen(pre_stop(DELETE), cluster(3, 1)));
    case(5, "refuse",    "nobody can be asked",                 &leaving(no_quorum()));
    case(5, "refuse",    "damaged, nobody can be asked",        &changed(leaving(no_quorum()), |seen| { seen.own.disk = DiskClass::Damaged; seen.own.voters_on_disk = None; }));
    case(6, "hand-over", "restart",                             &seen(drain(Some(KEEP), 9, 9), cluster(3, 2)));
    case(6, "hand-over", "restart of the only one",             &seen(pre_stop(KEEP), cluster(1, 0)));
    case(6, "hand-over", "drain never holds",                   &seen(drain(Some(KEEP), 9, 9), cluster(3, 1)));
    case(6, "refuse",    "pre-stop does: one of three is gone", &seen(pre_stop(KEEP), cluster(3, 1)));
    case(6, "hand-over", "no disk of its own, the VM stays",    &changed(seen(pre_stop(KEEP), cluster(3, 2)), |seen| seen.own.place = Place::VmDisk));
    case(6, "hand-over", "no disk of its own, in drain",        &changed(seen(drain(Some(KEEP), 0, 0), cluster(3, 2)), |seen| seen.own.place = Place::VmDisk));
    case(7, "stay",      "create-env",                          &seen(drain(None, 9, 0), cluster(1, 0)));
    case(7, "stay",      "create-env, etcd is down",            &changed(seen(drain(None, 9, 0), no_quorum()), |seen| seen.own.voters_on_disk = Some([ME].into())));
    case(8, "leave",     "an old Director, three alive",        &seen(drain(None, 9, 0), cluster(3, 2)));
    case(8, "refuse",    "an old Director, one is dead",        &seen(drain(None, 9, 0), cluster(3, 1)));
    case(8, "refuse",    "nobody to ask",                       &seen(drain(None, 9, 0), no_quorum()));
    case(9, "hand-over", "the disk stays",                      &seen(drain(None, 9, 9), cluster(3, 2)));
    case(9, "hand-over", "no disk",                             &seen(drain(None, 0, 0), cluster(3, 2)));
    case(9, "hand-over", "pre-stop was told nothing",           &seen(Script::PreStop { next: None }, cluster(3, 1)));
}

#[test]
fn leadership_goes_first_and_the_membership_change_is_confirmed() {
    let decision = case(4, "leave", "leader", &seen(drain(Some(DELETE), 9, 0), cluster(3, 2)));

    assert_eq!(
        decision.plan.steps(),
        [
            Step::WriteDrainMark,
            Step::MoveLeader,
            Step::TakeMutex,
            Step::MemberRemove,
            Step::ConfirmRemoval,
            Step::ReleaseMutex
        ]
    );
    let Plan::Leave(leave) = decision.plan else { panic!("row 4") };
    assert_eq!(leave.leadership, Leadership::Ours { candidates: leave.survivors.clone() });
    assert_eq!(leave.survivors, [MemberId(0xb), MemberId(0xc)].into());
}

#[test]
fn nobody_takes_the_leadership_of_a_cluster_of_one() {
    let decision = case(6, "hand-over", "one", &seen(drain(Some(KEEP), 9, 9), cluster(1, 0)));

    assert_eq!(decision.plan.steps(), [Step::WriteDrainMark]);
}

#[test]
fn an_operator_may_override_what_is_refused_and_nothing_is_removed_then() {
    for seen in [
        seen(drain(Some(DELETE), 9, 0), cluster(1, 0)),
        seen(drain(Some(DELETE), 9, 0), cluster(3, 1)),
        seen(pre_stop(KEEP), cluster(3, 1)),
    ] {
        assert_eq!(decide(&seen).plan, Plan::Refuse);
        assert_eq!(decide(&StopSeen { force: Force::Leave, ..seen }).plan, Plan::Stay);
    }
    let safe = StopSeen { force: Force::Leave, ..seen(drain(Some(DELETE), 9, 0), cluster(3, 2)) };
    assert_eq!(decide(&safe).plan.name(), "leave");
}

#[test]
fn removing_members_is_not_carried_out_yet_and_says_so() {
    let decision = honest(decide(&seen(pre_stop(DELETE), cluster(3, 2))));

    assert_eq!((decision.row, decision.plan), (Row::LeaveSafe, Plan::Refuse));
    assert!(decision.because.complaint().unwrap().next.contains("etcdctl member remove a"));
    let kept = decide(&seen(pre_stop(KEEP), cluster(3, 2)));
    assert_eq!(honest(kept.clone()), kept);
}

/// Each operation of BOSH, with what it tells pre-stop and drain: BOSH's own table in data. `size` is
/// the disk before and after; what follows is the row in pre-stop and in drain, three members alive.
#[rustfmt::skip]
#[test]
fn every_operation_of_bosh() {
    struct Operation {
        name: &'static str,
        next: Option<NextState>,
        call: &'static [&'static str],
        disk: &'static str,
        next_disk: Option<&'static str>,
        rows: [u8; 2],
        plan: &'static str,
    }
    const S: &str = r#"{"persistent_disk":10240}"#;
    const T: &str = r#"{"persistent_disk":20480}"#;
    const ZERO: &str = r#"{"persistent_disk":0}"#;
    let shutdown: &[&str] = &["job_shutdown", "hash_unchanged"];
    let operation = |name, next, call, next_disk, rows, plan| Operation { name, next, call, disk: S, next_disk, rows, plan };
    let operations = [
        operation("deploy, a property changed",       Some(KEEP),       &["job_changed", "hash_changed"][..],            Some(S),    [6, 6], "hand-over"),
        operation("deploy, a package changed",        Some(KEEP),       &["job_changed", "hash_unchanged", "etcd"][..],  Some(S),    [6, 6], "hand-over"),
        operation("restart",                          Some(KEEP),       &["job_changed", "hash_unchanged"][..],          Some(S),    [6, 6], "hand-over"),
        operation("restart --no-converge",            Some(KEEP),       shutdown,                                        Some(S),    [6, 6], "hand-over"),
        operation("deploy, another stemcell",         Some(NEW_VM),     shutdown,                                        Some(S),    [6, 6], "hand-over"),
        operation("deploy, stemcell and disk size",   Some(NEW_VM),     shutdown,                                        Some(T),    [6, 6], "hand-over"),
        operation("recreate",                         Some(NEW_VM),     shutdown,                                        Some(S),    [6, 6], "hand-over"),
        operation("deploy, another disk size",        Some(KEEP),       shutdown,                                        Some(T),    [6, 6], "hand-over"),
        operation("deploy, another disk type",        Some(KEEP),       shutdown,                                        Some(S),    [6, 6], "hand-over"),
        // The instance stays, its data does not: only drain is told.
        operation("deploy, the disk removed",         Some(KEEP),       shutdown,                                        Some(ZERO), [6, 4], "leave"),
        operation("deploy --recreate-persistent-disks", Some(KEEP),     shutdown,                                        Some(S),    [6, 6], "hand-over"),
        operation("deploy, one instance less",        Some(DELETE),     shutdown,                                        Some(ZERO), [4, 4], "leave"),
        operation("deploy, moved to another zone",    Some(DELETE),     shutdown,                                        Some(ZERO), [4, 4], "leave"),
        operation("delete-deployment",                Some(DELETE_ALL), shutdown,                                        Some(ZERO), [1, 1], "stay"),
        operation("stop",                             Some(KEEP),       shutdown,                                        Some(S),    [6, 6], "hand-over"),
        operation("stop --hard",                      Some(NEW_VM),     shutdown,                                        Some(S),    [6, 6], "hand-over"),
        // Three members without a Director that says what becomes of them: an old Director.
        operation("create-env, VM replaced",          None,             shutdown,                                        Some(ZERO), [9, 8], "leave"),
        operation("shutdown without a next state",    None,             shutdown,                                        None,       [9, 9], "hand-over"),
        operation("drain called again",               Some(KEEP),       &["job_check_status", "hash_unchanged"][..],     None,       [6, 0], "stay"),
    ];
    for operation in operations {
        let name = operation.name;
        let before = decide(&seen(Script::PreStop { next: operation.next }, cluster(3, 2)));
        assert_eq!(before.row.number(), operation.rows[0], "{name}: pre-stop");
        assert!(!matches!(before.plan, Plan::Refuse | Plan::Hold), "{name}: pre-stop");

        let script = Script::Drain {
            call: DrainCall::read(operation.call).unwrap(),
            intent: operation.next,
            disk: DiskMib::read(DiskMib::NOW, Some(operation.disk)).unwrap(),
            next_disk: DiskMib::read(DiskMib::NEXT, operation.next_disk).unwrap(),
            begun: Begun::Nothing,
        };
        let then = decide(&seen(script, cluster(3, 2)));
        assert_eq!((then.row.number(), then.plan.name()), (operation.rows[1], operation.plan), "{name}: drain");
    }
}

/// The same with the only member there is: the deployment that `bosh create-env` makes.
#[test]
fn create_env_stops_its_only_member_and_never_removes_it() {
    let before = decide(&seen(Script::PreStop { next: None }, cluster(1, 0)));
    let then = decide(&seen(drain(None, 10240, 0), cluster(1, 0)));

    assert_eq!((before.row.number(), before.plan.name()), (9, "hand-over"));
    assert_eq!((then.row.number(), then.plan.name()), (7, "stay"));
}

fn scripts() -> Vec<Script> {
    let mut all = Vec::new();
    let nexts = [None, Some(KEEP), Some(NEW_VM), Some(DELETE), Some(DELETE_ALL)];
    for next in nexts {
        all.push(Script::PreStop { next });
        for call in [DrainCall::Shutdown, DrainCall::Update, DrainCall::CheckStatus] {
            for (disk, next_disk) in
                [(None, None), (Some(0), Some(0)), (Some(9), Some(9)), (Some(9), Some(0)), (Some(9), None)]
            {
                for begun in [Begun::Nothing, Begun::Unfinished] {
                    let (disk, next_disk) = (disk.map(DiskMib), next_disk.map(DiskMib));
                    all.push(Script::Drain { call, intent: next, disk, next_disk, begun });
                }
            }
        }
    }
    all
}

fn clusters() -> Vec<ClusterSeen> {
    let mut all = vec![no_quorum()];
    for voters in 1..=5 {
        all.extend((0..voters).map(|alive| cluster(voters, alive)));
    }
    all
}

/// Which plans a row may lead to; the same is told in docs/contract.md#stop.
fn plans(row: Row) -> &'static [&'static str] {
    match row {
        Row::CheckStatus => &["continue", "stay"],
        Row::DeploymentGoes | Row::NotToldOneVoter => &["stay"],
        Row::LastVoter | Row::LeaveUnsafe => &["refuse"],
        Row::NoVoter => &["leave", "stay"],
        Row::LeaveSafe => &["leave"],
        Row::InstanceStays => &["hand-over", "hold", "refuse"],
        Row::NotToldMoreVoters => &["leave", "stay", "refuse"],
        Row::NotToldOtherwise => &["hand-over"],
    }
}

#[test]
fn every_combination_gets_one_row_and_never_costs_the_quorum() {
    let mut reached = BTreeMap::new();
    for script in scripts() {
        for cluster in clusters() {
            for place in [Place::OwnDisk, Place::VmDisk] {
                for class in [DiskClass::Data, DiskClass::Empty, DiskClass::Damaged] {
                    for standing in [|_: &mut StopSeen| {}, learner_me, unstarted_me, unlisted_me] {
                        let mut seen = seen(script, cluster.clone());
                        seen.own.place = place;
                        seen.own.disk = class;
                        standing(&mut seen);
                        let decision = decide(&seen);
                        check(&seen, &decision);
                        *reached.entry(decision.row).or_insert(0usize) += 1;
                    }
                }
            }
        }
    }
    assert_eq!(reached.keys().copied().collect::<Vec<_>>(), Row::ALL, "{reached:?}");
}

fn check(seen: &StopSeen, decision: &StopDecision) {
    assert!(plans(decision.row).contains(&decision.plan.name()), "{decision:?} of {seen:?}");
    assert!(!decision.because.sentence().is_empty());
    let refused = matches!(decision.plan, Plan::Refuse);
    assert_eq!(refused, matches!(decision.because, Reason::Refusal(_)), "{decision:?}");
    if let Plan::Leave(leave) = &decision.plan {
        let ClusterSeen::Healthy(cluster) = &seen.cluster else { panic!("nobody to ask: {decision:?}") };
        let entry = cluster.members.iter().find(|member| member.id == leave.member_id).unwrap();
        let (alive, missing) = cluster.other_voters(Some(entry.id));
        let counted = !entry.is_learner && entry.has_published();
        assert!(
            !counted || alive.len() > (alive.len() + missing.len()) / 2,
            "the rest would have no quorum: {decision:?}"
        );
        assert!(!matches!(seen.script, Script::Drain { call: DrainCall::CheckStatus, .. }));
    }
    if matches!(decision.plan, Plan::Hold) {
        assert!(matches!(seen.script, Script::PreStop { .. }), "only pre-stop holds");
    }
}

#[test]
fn the_hold_rule_is_asked_while_monit_watches() {
    let held = |change: fn(&mut StopSeen)| decide(&changed(seen(pre_stop(KEEP), cluster(3, 1)), change));
    let recovering = |seen: &mut StopSeen| {
        let ClusterSeen::Healthy(cluster) = &mut seen.cluster else { return };
        cluster.absences.values_mut().for_each(|absence| absence.progress = Some(Progress::Progress));
    };

    assert_eq!(held(recovering).plan, Plan::Hold);
    let failed = held(|_| {});
    assert_eq!(failed.because.sentence(), "stopping this member would cost the quorum: c on ic is not alive");
}
