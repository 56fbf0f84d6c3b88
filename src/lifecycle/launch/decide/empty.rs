//! Rows 12–20: no member is on the disk.

use super::claim::Claim;
use super::first_boot::{self, Standing};
use super::plan::{Aside, AsideReason, Bootstrap, Join, Plan, Promotion, RecordsToo, Restore, ResumeJoin};
use super::reason::Cause;
use super::refusal::{FitsNot, Refusal};
use super::row::Row;
use super::view::{Cluster, Line, View};
use super::waiting::Waiting;
use super::{Decision, go_confirmed, go_undrained, refuse, replace, wait};
use crate::etcd::id::ClusterId;
use crate::etcd::member::Member;
use crate::job::properties::BootstrapFlag;
use crate::lifecycle::launch::observation::{Backup, Connected, Disk, Observation};
use crate::lifecycle::launch::records::JoinPhase;

/// Rows 12–20.
pub(super) fn decide(seen: &Observation) -> Decision {
    let view = View::of(seen);
    let clear = in_the_way(&seen.disk);
    let answering = view.answering();
    if answering.len() > 1 {
        return refuse(Row::TwoClusters, Refusal::TwoClusters { clusters: answering });
    }
    let running = answering
        .first_key_value()
        .map(|(id, _)| (*id, view.cluster(*id)))
        .filter(|(_, cluster)| cluster.is_healthy());
    if let Some((cluster_id, cluster)) = &running
        && let Err(why) = cluster.fits(seen.own.binary, Line::Changed)
    {
        let with = FitsNot::Cluster { cluster_id: *cluster_id };
        return refuse(Row::JoinerIncompatible, Refusal::WrongVersion { with, why });
    }
    if let Some(decision) = follow_first_boot(seen, &view, clear) {
        return decision;
    }
    match running {
        Some((cluster_id, cluster)) => join(seen, cluster_id, &cluster, clear),
        None => first_boot(seen, &view, clear),
    }
}

/// A start that died early is moved aside before anything starts.
fn in_the_way(disk: &Disk) -> Option<Aside> {
    match disk {
        Disk::Partial { .. } => Some(Aside { reason: AsideReason::Partial, records: RecordsToo::Keep }),
        Disk::Unmounted
        | Disk::Foreign { .. }
        | Disk::Empty { .. }
        | Disk::Damaged { .. }
        | Disk::Data(_) => None,
    }
}

/// Row 14.
fn follow_first_boot(seen: &Observation, view: &View<'_>, clear: Option<Aside>) -> Option<Decision> {
    if seen.own.bootstrap == BootstrapFlag::Off {
        return None;
    }
    let (by, record) = first_boot::naming_us(seen, view)?;
    match first_boot::standing(seen, view, record) {
        Standing::Awaited => {}
        Standing::Unseen | Standing::NotAwaited => return None,
    }
    let plan = Bootstrap::from_record(&seen.own.instance, record, clear)?;
    let cause = Cause::FirstBootNamesUs { by: by.clone() };
    Some(go_undrained(seen, Row::FollowFirstBoot, Plan::Bootstrap(plan), cause))
}

/// Rows 15–17.
fn join(seen: &Observation, cluster_id: ClusterId, cluster: &Cluster<'_>, clear: Option<Aside>) -> Decision {
    let url = &seen.own.peer_url;
    let Some((_, healthy, entry)) = cluster.entry_of_url(url) else {
        let members = cluster.spokesman().map(|(_, healthy)| healthy.members.clone()).unwrap_or_default();
        let plan = Plan::Join(Join { cluster_id, members, peer_url: url.clone(), clear });
        return go_undrained(seen, Row::NotListed, plan, Cause::NotListed { cluster_id });
    };
    if never_started(seen, entry) && cluster.connected(entry.id) != Some(Connected::Up) {
        let plan = Plan::ResumeJoin(ResumeJoin {
            cluster_id,
            members: healthy.members.clone(),
            member_id: entry.id,
            peer_url: url.clone(),
            promotion: if entry.is_learner { Promotion::Promote } else { Promotion::No },
            clear,
        });
        let cause = Cause::NeverStarted { cluster_id, member_id: entry.id };
        return go_undrained(seen, Row::ListedNeverStarted, plan, cause);
    }
    replace::entry(seen, Row::ListedOtherwise, cluster_id, cluster, entry, clear)
}

/// Whether the entry of this instance never had a log: it never published itself, and it is a learner
/// (whose log nobody counted on) or the record of its id says so. A record that says it was started
/// wins over both.
fn never_started(seen: &Observation, entry: &Member) -> bool {
    let recorded = seen
        .records
        .join
        .as_ref()
        .filter(|record| record.member_id == Some(entry.id))
        .map(|record| record.phase);
    if entry.has_published() {
        return false;
    }
    match recorded {
        Some(JoinPhase::Started | JoinPhase::Promoted) => false,
        Some(JoinPhase::Intended | JoinPhase::Added) => true,
        None => entry.is_learner,
    }
}

/// Rows 18–20.
fn first_boot(seen: &Observation, view: &View<'_>, clear: Option<Aside>) -> Decision {
    if let Some(decision) = auto_restore(seen) {
        return decision;
    }
    let nonces = match first_boot::attestations(seen) {
        Ok(nonces) if seen.own.bootstrap != BootstrapFlag::Off => nonces,
        Ok(_) => {
            return wait(seen, Row::NothingToGoBy, Waiting::NotAskedToBootstrap { silent: view.silent() });
        }
        Err(missing) => {
            return wait(seen, Row::NothingToGoBy, first_boot::nothing_to_go_by(seen, view, missing));
        }
    };
    match (&seen.backup, seen.own.bootstrap) {
        (Backup::Exists { newest }, BootstrapFlag::On) => {
            refuse(Row::BackupExists, Refusal::BackupExists { newest: newest.clone() })
        }
        (Backup::Unknown { why }, BootstrapFlag::On) => {
            wait(seen, Row::BackupExists, Waiting::BackupUnknown { why: why.clone() })
        }
        (
            Backup::NoStore | Backup::None | Backup::Exists { .. } | Backup::Unknown { .. },
            BootstrapFlag::On | BootstrapFlag::Again | BootstrapFlag::Off,
        ) => {
            let cause = Cause::AllAttest { instances: nonces.len() };
            let plan = first_boot::founding(seen, nonces, clear);
            go_undrained(seen, Row::FirstBoot, Plan::Bootstrap(plan), cause)
        }
    }
}

/// Row 19 of a single member that is restored unasked. Nobody else can have its data: there is nobody else.
fn auto_restore(seen: &Observation) -> Option<Decision> {
    let alone = seen.own.link.len() == 1;
    if !(seen.own.auto_restore && alone && seen.own.bootstrap != BootstrapFlag::Again) {
        return None;
    }
    match &seen.backup {
        Backup::Exists { newest } => {
            let plan = Plan::Restore(Restore::Bring { backup: newest.clone(), replaces: None });
            let cause = Cause::EmptyAlone { backup: newest.clone() };
            Some(go_confirmed(seen, Row::BackupExists, Claim::EmptyAlone, plan, cause))
        }
        Backup::Unknown { why } => {
            Some(wait(seen, Row::BackupExists, Waiting::BackupUnknown { why: why.clone() }))
        }
        Backup::NoStore | Backup::None => None,
    }
}
