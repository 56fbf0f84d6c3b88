//! Rows 3–8: a member is on the disk.

use super::claim::Claim;
use super::plan::{Aside, AsideReason, FirstBootNote, Plan, Promotion, RecordsToo, Start, Validation};
use super::reason::Cause;
use super::refusal::{Answering, FitsNot, Refusal};
use super::row::Row;
use super::view::{Line, View};
use super::{Decision, Notice, go, go_confirmed, refuse};
use crate::etcd::id::ClusterId;
use crate::etcd::member::Member;
use crate::etcd::version::{Incompatible, may_open};
use crate::job::properties::OnRemovedMember;
use crate::lifecycle::launch::observation::{DiskData, Observation, Validated};
use crate::lifecycle::launch::records::{BootPhase, Ending, JoinPhase};

/// Rows 3–8.
pub(super) fn decide(seen: &Observation, disk: &DiskData) -> Decision {
    let view = View::of(seen);
    let decision = wrong_version_on_disk(seen, disk)
        .or_else(|| own_cluster_serves(seen, disk, &view))
        .or_else(|| another_cluster_serves(seen, disk, &view))
        .unwrap_or_else(|| quorum_missing(seen, disk, &view));
    with_strays(decision, disk.cluster_id, &view)
}

/// Row 3, as far as the disk alone tells.
fn wrong_version_on_disk(seen: &Observation, disk: &DiskData) -> Option<Decision> {
    let found = [disk.storage_version, disk.cluster_version].into_iter().flatten();
    let binary = seen.own.binary;
    let why = found
        .map(|version| may_open(binary, version))
        .find_map(Result::err)
        .or_else(|| disk.old_request.map(|index| Incompatible::OldRequest { binary, index }))?;
    Some(refuse(Row::WrongVersion, Refusal::WrongVersion { with: FitsNot::Data, why }))
}

/// Rows 3 (the running cluster), 4 and 5.
fn own_cluster_serves(seen: &Observation, disk: &DiskData, view: &View<'_>) -> Option<Decision> {
    let cluster = view.cluster(disk.cluster_id);
    if !cluster.is_healthy() {
        return None;
    }
    let line = line(seen, disk);
    if let Err(why) = cluster.fits(seen.own.binary, line) {
        let with = FitsNot::Cluster { cluster_id: disk.cluster_id };
        return Some(refuse(Row::WrongVersion, Refusal::WrongVersion { with, why }));
    }
    // A sure answer comes first: it is the one that `settled` relies on.
    let listed = cluster
        .sure_of(seen.own.binary, line)
        .entry_of_id(disk.member_id)
        .or_else(|| cluster.entry_of_id(disk.member_id));
    Some(match listed {
        Some((by, _, entry)) => {
            let cause = Cause::Listed { cluster_id: disk.cluster_id, by: by.clone() };
            let mut decision = start(seen, disk, Row::ListedMember, Some(entry), cause);
            if !entry.listens_at(&seen.own.peer_url) {
                decision.notices.push(Notice::UrlDiffers {
                    listed: entry.peer_urls.clone(),
                    own: seen.own.peer_url.clone(),
                });
            }
            decision
        }
        None => removed(seen, disk),
    })
}

/// Whether row 4 applies whatever else is answered: one healthy answer that settles the versions lists
/// the member on the disk.
pub(super) fn is_listed_for_sure(seen: &Observation, disk: &DiskData) -> bool {
    View::of(seen)
        .cluster(disk.cluster_id)
        .sure_of(seen.own.binary, line(seen, disk))
        .entry_of_id(disk.member_id)
        .is_some()
}

fn line(seen: &Observation, disk: &DiskData) -> Line {
    let kept = disk.cluster_version.is_some_and(|version| version.line() == seen.own.binary.line());
    if kept { Line::Kept } else { Line::Changed }
}

/// Row 5.
fn removed(seen: &Observation, disk: &DiskData) -> Decision {
    let (cluster_id, member_id) = (disk.cluster_id, disk.member_id);
    let claim = Claim::OwnIdAbsent { cluster_id, member_id };
    match seen.own.on_removed_member {
        OnRemovedMember::Rejoin => go_confirmed(
            seen,
            Row::RemovedMember,
            claim,
            Plan::Rejoin(Aside { reason: AsideReason::Removed, records: RecordsToo::Move }),
            Cause::Removed { cluster_id, member_id },
        ),
        OnRemovedMember::Refuse => {
            refuse(Row::RemovedMember, Refusal::Removed { cluster_id, member_id }).confirmed(seen, claim)
        }
    }
}

/// Rows 6 and 7.
fn another_cluster_serves(seen: &Observation, disk: &DiskData, view: &View<'_>) -> Option<Decision> {
    let serving = view.serving();
    let (new, _) = serving.first_key_value()?;
    let replaced_ours = |new: ClusterId| {
        view.states()
            .filter_map(|(_, state)| state.restored.as_ref())
            .any(|restored| restored.cluster_id == new && restored.replaced.contains(&disk.cluster_id))
    };
    Some(if serving.len() == 1 && replaced_ours(*new) {
        go_confirmed(
            seen,
            Row::ReplacedByRestore,
            Claim::ReplacedBy { cluster_id: *new },
            Plan::Rejoin(Aside { reason: AsideReason::Replaced, records: RecordsToo::Move }),
            Cause::ReplacedByRestore { old: disk.cluster_id, new: *new },
        )
    } else {
        refuse(Row::WrongCluster, Refusal::WrongCluster { own: disk.cluster_id, others: serving })
    })
}

/// Row 8.
fn quorum_missing(seen: &Observation, disk: &DiskData, view: &View<'_>) -> Decision {
    let others: Answering =
        view.answering().into_iter().filter(|(cluster, _)| *cluster != disk.cluster_id).collect();
    let alone = disk.voters.as_ref().is_some_and(|voters| voters.iter().eq([&disk.member_id]));
    if alone && seen.own.link.len() > 1 && !others.is_empty() {
        return refuse(Row::QuorumMissing, Refusal::LoneVoter { own: disk.cluster_id, others });
    }
    let cause = Cause::QuorumMissing { cluster_id: disk.cluster_id, others: view.unhealthy() };
    start(seen, disk, Row::QuorumMissing, None, cause)
}

/// Starts etcd, once the data was checked: all of it where etcd did not end gracefully.
fn start(seen: &Observation, disk: &DiskData, row: Row, entry: Option<&Member>, cause: Cause) -> Decision {
    let start_with = |validation| go(row, start_plan(seen, disk, entry, validation), cause.clone());
    match &disk.validated {
        Validated::NotYet if ended_gracefully(seen, disk) => start_with(Validation::Sanity),
        Validated::NotYet => go(row, Plan::Validate, Cause::Unchecked { then: Box::new(cause) }),
        Validated::Usable { repairs } if repairs.is_empty() => start_with(Validation::Done),
        Validated::Usable { repairs } => {
            let notice = Notice::Repairs { what: repairs.clone() };
            Decision { notices: vec![notice], ..start_with(Validation::Done) }
        }
        Validated::Waived => Decision { notices: vec![Notice::NotChecked], ..start_with(Validation::Done) },
    }
}

/// Whether the last etcd that ran on this disk closed its files.
fn ended_gracefully(seen: &Observation, disk: &DiskData) -> bool {
    seen.records
        .exit
        .as_ref()
        .is_some_and(|exit| exit.how == Ending::Graceful && exit.member_id == disk.member_id)
}

fn start_plan(seen: &Observation, disk: &DiskData, entry: Option<&Member>, validation: Validation) -> Plan {
    let unfinished =
        seen.records.bootstrap.as_ref().is_some_and(|record| {
            record.phase == BootPhase::Prepared && record.cluster_id() == disk.cluster_id
        });
    Plan::Start(Start {
        cluster_id: disk.cluster_id,
        member_id: disk.member_id,
        validation,
        promotion: match entry {
            Some(entry) if entry.is_learner => Promotion::Promote,
            None if was_learner(seen, disk) => Promotion::Promote,
            Some(_) | None => Promotion::No,
        },
        first_boot: if unfinished { FirstBootNote::Complete } else { FirstBootNote::Keep },
    })
}

/// Whether the member was a learner when this disk was last written: what there is to go by while nobody
/// serves. One that was not promoted then would stay a learner, and etcd takes no second one
/// (docs/contract.md#promote). To promote a voter does no harm.
fn was_learner(seen: &Observation, disk: &DiskData) -> bool {
    let by_disk = disk.voters.as_ref().is_some_and(|voters| !voters.contains(&disk.member_id));
    let by_record =
        seen.records.join.as_ref().is_some_and(|record| {
            record.member_id == Some(disk.member_id) && record.phase < JoinPhase::Promoted
        });
    by_disk || by_record
}

fn with_strays(mut decision: Decision, own: ClusterId, view: &View<'_>) -> Decision {
    for (cluster_id, instances) in view.answering() {
        if cluster_id != own {
            decision
                .notices
                .extend(instances.into_iter().map(|instance| Notice::Stray { instance, cluster_id }));
        }
    }
    decision
}
