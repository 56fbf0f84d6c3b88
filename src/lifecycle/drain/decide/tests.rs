//! The stop table, row by row, and BOSH's operations replayed against it.

use std::time::Duration;

use super::*;
use crate::lifecycle::drain::hold::takes_mutex;
use crate::lifecycle::drain::observation::{DiskNext, OnDisk, Voter};
use crate::lifecycle::intent::Intent;

const ME: MemberId = MemberId(1);
const KEEP: Option<Intent> = Some(Intent { vm: Next::Keep, instance: Next::Keep, deployment: Next::Keep });
const VM_GOES: Option<Intent> =
    Some(Intent { vm: Next::Delete, instance: Next::Keep, deployment: Next::Keep });
const INSTANCE_GOES: Option<Intent> =
    Some(Intent { vm: Next::Delete, instance: Next::Delete, deployment: Next::Keep });
const ALL_GO: Option<Intent> =
    Some(Intent { vm: Next::Delete, instance: Next::Delete, deployment: Next::Delete });

fn voter(id: u64, alive: bool) -> Voter {
    let missing = Life::Missing {
        why: "connection refused".to_owned(),
        for_so_long: Duration::from_mins(10),
        recovering: false,
    };
    Voter {
        id: MemberId(id),
        name: format!("etcd/{id}"),
        client_url: None,
        life: if alive { Life::Alive } else { missing },
    }
}

fn serves(own: OwnEntry, others: &[bool]) -> Cluster {
    let others = others.iter().zip(2..).map(|(alive, id)| voter(id, *alive)).collect();
    Cluster::Serves { own, own_serves: true, others }
}

fn of_three() -> Cluster {
    serves(OwnEntry::Voter(ME), &[true, true])
}

fn no_quorum() -> Cluster {
    Cluster::NoQuorum { why: "etcd/2: connection refused".to_owned() }
}

fn seen(
    script: Script,
    intent: Option<Intent>,
    disk: (Option<u64>, Option<u64>),
    cluster: Cluster,
) -> StopSeen {
    StopSeen {
        script,
        call: Call::Shutdown,
        intent,
        disk: DiskNext { now_mib: disk.0, next_mib: disk.1 },
        own_disk: true,
        forced: Override::None,
        cluster,
        on_disk: OnDisk::Unknown,
    }
}

#[track_caller]
fn case(
    row: u8,
    script: Script,
    intent: Option<Intent>,
    disk: (Option<u64>, Option<u64>),
    cluster: Cluster,
    plan: &str,
) {
    let decision = decide(&seen(script, intent, disk, cluster));
    assert_eq!((decision.row.number(), decision.plan.name()), (row, plan), "{decision:?}");
}

#[test]
fn every_row_of_the_table() {
    use Script::{Drain, PreStop};
    let (same, gone, none) = ((Some(10), Some(10)), (Some(10), Some(0)), (None, None));
    let learner = || serves(OwnEntry::Learner(ME), &[true, true]);
    //   row  script   intent         disk  cluster                                             plan
    case(1, PreStop, ALL_GO, none, of_three(), "stay");
    case(1, Drain, ALL_GO, gone, no_quorum(), "stay");
    case(2, PreStop, INSTANCE_GOES, none, serves(OwnEntry::Voter(ME), &[]), "refuse");
    case(2, Drain, KEEP, gone, serves(OwnEntry::Voter(ME), &[]), "refuse");
    case(3, Drain, INSTANCE_GOES, gone, serves(OwnEntry::NotListed, &[true]), "remove-entry");
    case(3, Drain, INSTANCE_GOES, gone, serves(OwnEntry::Stranger(MemberId(9)), &[true]), "remove-entry");
    case(3, Drain, INSTANCE_GOES, gone, serves(OwnEntry::NeverStarted(ME), &[true]), "remove-entry");
    case(3, PreStop, INSTANCE_GOES, none, learner(), "remove-entry");
    case(4, PreStop, INSTANCE_GOES, none, of_three(), "leave");
    case(4, Drain, INSTANCE_GOES, gone, of_three(), "leave");
    case(4, Drain, KEEP, gone, of_three(), "leave");
    case(4, Drain, INSTANCE_GOES, gone, serves(OwnEntry::Voter(ME), &[true]), "leave");
    case(5, PreStop, INSTANCE_GOES, none, serves(OwnEntry::Voter(ME), &[true, false]), "refuse");
    case(5, PreStop, INSTANCE_GOES, none, no_quorum(), "refuse");
    case(6, PreStop, KEEP, none, of_three(), "hand-over");
    case(6, PreStop, KEEP, none, no_quorum(), "hand-over");
    case(6, PreStop, VM_GOES, none, serves(OwnEntry::Voter(ME), &[true, false]), "refuse");
    case(6, Drain, KEEP, same, serves(OwnEntry::Voter(ME), &[true, false]), "hand-over");
    case(6, Drain, KEEP, (Some(0), Some(0)), of_three(), "hand-over");
    case(7, Drain, None, gone, serves(OwnEntry::Voter(ME), &[]), "stay");
    case(8, Drain, None, gone, of_three(), "leave");
    case(8, Drain, None, gone, learner(), "remove-entry");
    case(8, Drain, None, gone, no_quorum(), "refuse");
    case(9, Drain, None, same, of_three(), "hand-over");
    case(9, PreStop, None, none, of_three(), "hand-over");
    case(9, Drain, None, none, no_quorum(), "hand-over");

    let again =
        StopSeen { call: Call::CheckStatus, ..seen(Drain, INSTANCE_GOES, (Some(10), None), of_three()) };
    assert_eq!((decide(&again).row.number(), decide(&again).plan), (0, Plan::Continue));
}

/// Data that lies on no disk of its own dies with the VM, and only with the VM.
#[test]
fn without_a_disk_of_its_own_data_dies_with_the_vm() {
    let no_disk =
        |intent| StopSeen { own_disk: false, ..seen(Script::PreStop, intent, (None, None), of_three()) };

    assert_eq!(decide(&no_disk(VM_GOES)).row, Row::Leaves);
    assert_eq!(decide(&no_disk(KEEP)).row, Row::Stays);
}

/// One line for each operation of BOSH, with what pre-stop and drain are told (docs/contract.md#bosh-scripts).
#[test]
fn the_operations_of_bosh_replayed() {
    struct Operation {
        name: &'static str,
        intent: Option<Intent>,
        call: Call,
        disk: (Option<u64>, Option<u64>),
        pre_stop: &'static str,
        drain: (u8, &'static str),
    }
    let operation =
        |name, intent, call, disk, pre_stop, drain| Operation { name, intent, call, disk, pre_stop, drain };
    let (same, zero) = ((Some(10), Some(10)), (Some(10), Some(0)));
    let operations = [
        operation("deploy, configuration changed", KEEP, Call::Update, same, "hand-over", (6, "hand-over")),
        operation("deploy, only packages changed", KEEP, Call::Update, same, "hand-over", (6, "hand-over")),
        operation("restart", KEEP, Call::Update, same, "hand-over", (6, "hand-over")),
        operation("restart --no-converge", KEEP, Call::Shutdown, same, "hand-over", (6, "hand-over")),
        operation(
            "stemcell, vm type, env or network",
            VM_GOES,
            Call::Shutdown,
            same,
            "hand-over",
            (6, "hand-over"),
        ),
        operation("recreate", VM_GOES, Call::Shutdown, same, "hand-over", (6, "hand-over")),
        operation("disk resized", KEEP, Call::Shutdown, (Some(10), Some(20)), "hand-over", (6, "hand-over")),
        operation("disk type changed", KEEP, Call::Shutdown, same, "hand-over", (6, "hand-over")),
        // The disk goes, the instance stays: its data is lost, so the member must leave, in drain.
        operation("disk removed from the group", KEEP, Call::Shutdown, zero, "hand-over", (4, "leave")),
        operation("--recreate-persistent-disks", KEEP, Call::Shutdown, same, "hand-over", (6, "hand-over")),
        operation(
            "scale in, group removed, other AZ",
            INSTANCE_GOES,
            Call::Shutdown,
            zero,
            "leave",
            (4, "leave"),
        ),
        operation("delete-deployment", ALL_GO, Call::Shutdown, zero, "stay", (1, "stay")),
        operation("stop", KEEP, Call::Shutdown, same, "hand-over", (6, "hand-over")),
        operation("stop --hard", VM_GOES, Call::Shutdown, same, "hand-over", (6, "hand-over")),
        operation("create-env replaces or deletes", None, Call::Shutdown, zero, "hand-over", (8, "leave")),
    ];
    for Operation { name, intent, call, disk, pre_stop, drain } in operations {
        let before = decide(&seen(Script::PreStop, intent, (None, None), of_three()));
        assert_eq!(before.plan.name(), pre_stop, "pre-stop of {name}: {before:?}");
        let after = decide(&StopSeen { call, ..seen(Script::Drain, intent, disk, of_three()) });
        assert_eq!((after.row.number(), after.plan.name()), drain, "drain of {name}: {after:?}");
    }
}

/// A first deploy that never formed a cluster, and a single member whose etcd is down: nobody answers,
/// and the disk says what there is to lose.
#[test]
fn when_nobody_answers_the_disk_tells_what_would_be_lost() {
    let told = |intent, on_disk| {
        let decision =
            decide(&StopSeen { on_disk, ..seen(Script::Drain, intent, (Some(10), Some(0)), no_quorum()) });
        (decision.row.number(), decision.plan.name())
    };

    assert_eq!(told(INSTANCE_GOES, OnDisk::NoMember), (3, "remove-entry"));
    assert_eq!(told(INSTANCE_GOES, OnDisk::OnlyVoter(ME)), (2, "refuse"));
    assert_eq!(told(INSTANCE_GOES, OnDisk::Unknown), (5, "refuse"));
    assert_eq!(told(None, OnDisk::OnlyVoter(ME)), (7, "stay"));
    assert_eq!(told(None, OnDisk::NoMember), (8, "remove-entry"));
    assert_eq!(told(None, OnDisk::Unknown), (8, "refuse"));
}

fn overrides_and_disks() -> Vec<(Override, OnDisk)> {
    let disks = [OnDisk::NoMember, OnDisk::OnlyVoter(ME), OnDisk::Member(ME), OnDisk::Unknown];
    [Override::None, Override::ForceLeave]
        .into_iter()
        .flat_map(|forced| disks.map(|on_disk| (forced, on_disk)))
        .collect()
}

/// Every combination gets exactly one row, none panics, and nothing leaves without quorum for the rest.
#[test]
fn every_combination_is_decided_and_none_takes_quorum() {
    let entries = [
        OwnEntry::NotListed,
        OwnEntry::Stranger(MemberId(9)),
        OwnEntry::NeverStarted(ME),
        OwnEntry::Learner(ME),
        OwnEntry::Voter(ME),
    ];
    let others: [&[bool]; 6] = [&[], &[true], &[false], &[true, true], &[true, false], &[false, false]];
    let mut clusters = vec![no_quorum()];
    for own in entries {
        for others in others {
            for own_serves in [true, false] {
                let Cluster::Serves { own, others, .. } = serves(own, others) else { unreachable!() };
                clusters.push(Cluster::Serves { own, own_serves, others });
            }
        }
    }
    let mut count = 0;
    for cluster in &clusters {
        for script in [Script::PreStop, Script::Drain] {
            for call in [Call::Shutdown, Call::Update, Call::CheckStatus] {
                for intent in [None, KEEP, VM_GOES, INSTANCE_GOES, ALL_GO] {
                    for now_mib in [None, Some(0), Some(10)] {
                        for next_mib in [None, Some(0), Some(10)] {
                            for own_disk in [true, false] {
                                for (forced, on_disk) in overrides_and_disks() {
                                    let disk = DiskNext { now_mib, next_mib };
                                    let seen = StopSeen {
                                        script,
                                        call,
                                        intent,
                                        disk,
                                        own_disk,
                                        forced,
                                        cluster: cluster.clone(),
                                        on_disk,
                                    };
                                    let decision = decide(&seen);
                                    match decision.plan {
                                        Plan::Leave { member } => {
                                            assert!(member == ME && keep_quorum(seen.others()), "{seen:?}");
                                        }
                                        Plan::RemoveEntry { member } => {
                                            assert!(member.is_none_or(|member| member == ME), "{seen:?}");
                                        }
                                        _ => {}
                                    }
                                    assert!(
                                        !takes_mutex(&seen, &decision.plan)
                                            || matches!(decision.plan, Plan::HandOver),
                                        "{seen:?}"
                                    );
                                    if let Plan::Refuse(refusal) = &decision.plan {
                                        let complaint = refusal.complaint();
                                        assert!(
                                            !complaint.next.is_empty() && forced == Override::None,
                                            "{seen:?}"
                                        );
                                    }
                                    count += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(count, 61 * 2 * 3 * 5 * 9 * 2 * 2 * 4);
}

/// The mutex is for stops that could meet another one: nobody else, no quorum to lose, or a loss that was
/// accepted need none, and a member that leaves takes it in drain.
#[test]
fn a_stop_takes_the_mutex_where_there_is_a_quorum_to_lose() {
    let takes = |change: &dyn Fn(&mut StopSeen)| {
        let mut seen = seen(Script::PreStop, KEEP, (None, None), of_three());
        change(&mut seen);
        takes_mutex(&seen, &decide(&seen).plan)
    };
    assert!(takes(&|_| {}));
    assert!(takes(&|seen| seen.cluster = serves(OwnEntry::Voter(ME), &[true])));
    assert!(takes(&|seen| seen.intent = None));
    assert!(!takes(&|seen| seen.cluster = serves(OwnEntry::Voter(ME), &[])));
    assert!(!takes(&|seen| seen.cluster = serves(OwnEntry::Voter(ME), &[true, false])));
    assert!(!takes(&|seen| seen.cluster = no_quorum()));
    assert!(!takes(&|seen| seen.forced = Override::ForceLeave));
    assert!(!takes(&|seen| seen.intent = INSTANCE_GOES));
    assert!(!takes(&|seen| seen.intent = ALL_GO));
    let down = Cluster::Serves { own: OwnEntry::Voter(ME), own_serves: false, others: vec![voter(2, true)] };
    assert!(!takes(&|seen| seen.cluster = down.clone()));
}

#[test]
fn refusals_tell_what_why_and_next() {
    let refusal = |cluster| match decide(&seen(Script::PreStop, INSTANCE_GOES, (None, None), cluster)).plan {
        Plan::Refuse(refusal) => refusal.complaint().to_string(),
        other => panic!("{other:?}"),
    };
    insta::assert_snapshot!(refusal(serves(OwnEntry::Voter(ME), &[true, false])), @r"
    without this member the rest has no quorum; not answering: etcd/3 (member 3): connection refused
      why:  the cluster would refuse every write, and could not even remove a member
      next: bring it back, or remove it for good with `etcdctl member remove 3`, then deploy again; or touch /var/vcap/sys/run/etcd/force-leave on this instance, or deploy with --skip-drain, if the loss is accepted; docs/drain.md#quorum
    ");
    insta::assert_snapshot!(refusal(serves(OwnEntry::Voter(ME), &[])), @r"
    this is the last voting member, and its data would go with it
      why:  it holds the last copy of everything that was written
      next: add instances first and remove this one in a second deploy; or touch /var/vcap/sys/run/etcd/force-leave on this instance, or deploy with --skip-drain, if the loss is accepted; docs/drain.md#last-voter
    ");
}
