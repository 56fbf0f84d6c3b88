//! Rows 9–11: a member is on the disk that etcd must not be started on.

use std::collections::BTreeSet;

use super::claim::Claim;
use super::plan::{Aside, AsideReason, Plan, RecordsToo, Restore};
use super::reason::Cause;
use super::refusal::{NoRestore, Refusal};
use super::row::Row;
use super::view::View;
use super::{Decision, go_confirmed, refuse, replace};
use crate::etcd::id::{ClusterId, MemberId};
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::observation::{Answer, Backup, Observation, Unreachable};

/// What is known of a damaged member.
pub(super) struct Damage<'a> {
    pub(super) why: &'a str,
    pub(super) cluster_id: Option<ClusterId>,
    pub(super) voters: Option<&'a BTreeSet<MemberId>>,
}

const ASIDE: Aside = Aside { reason: AsideReason::Damaged, records: RecordsToo::Move };

/// Rows 9–11.
pub(super) fn decide(seen: &Observation, damage: &Damage<'_>) -> Decision {
    let view = View::of(seen);
    let answering = view.answering();
    // The cluster to get the data from: the one on the disk, or the only one there is.
    let home = match (damage.cluster_id, answering.len()) {
        (Some(own), _) => Some(own),
        (None, 1) => answering.first_key_value().map(|(cluster, _)| *cluster),
        (None, _) => None,
    };
    let cluster = home.map(|home| view.cluster(home)).filter(super::view::Cluster::is_healthy);
    if let (Some(cluster_id), Some(cluster)) = (home, cluster) {
        return match cluster.entry_of_url(&seen.own.peer_url) {
            Some((_, _, entry)) => {
                replace::entry(seen, Row::DamagedListed, cluster_id, &cluster, entry, Some(ASIDE))
            }
            None => go_confirmed(
                seen,
                Row::DamagedNotListed,
                Claim::OwnUrlAbsent { cluster_id },
                Plan::MoveAside(ASIDE),
                Cause::DamagedNotListed { why: damage.why.to_owned(), cluster_id },
            ),
        };
    }
    alone(seen, damage, &view)
}

/// Row 11.
fn alone(seen: &Observation, damage: &Damage<'_>, view: &View<'_>) -> Decision {
    let answering = view.answering();
    if damage.cluster_id.is_none() && answering.len() > 1 {
        return refuse(Row::DamagedAlone, Refusal::TwoClusters { clusters: answering });
    }
    match newest_backup(seen, damage, view) {
        Ok(backup) => go_confirmed(
            seen,
            Row::DamagedAlone,
            Claim::DamagedAlone,
            Plan::Restore(Restore::Bring { backup: backup.to_owned(), replaces: damage.cluster_id }),
            Cause::DamagedAlone { why: damage.why.to_owned(), backup: backup.to_owned() },
        ),
        Err(no_restore) => {
            refuse(Row::DamagedAlone, Refusal::Damaged { why: damage.why.to_owned(), no_restore })
        }
    }
}

fn newest_backup<'a>(
    seen: &'a Observation,
    damage: &Damage<'_>,
    view: &View<'_>,
) -> Result<&'a str, NoRestore> {
    if let (Some(own), false) = (damage.cluster_id, view.answering().is_empty()) {
        let others = view.answering();
        if !others.contains_key(&own) {
            return Err(NoRestore::OtherCluster { own, others });
        }
    }
    let was_one = damage.voters.is_some_and(|voters| voters.len() == 1);
    if !was_one || seen.own.link.len() != 1 {
        Err(NoRestore::NotAlone)
    } else if let Some(instance) = somebody(seen) {
        Err(NoRestore::SomebodyThere { instance: instance.clone() })
    } else if !seen.own.auto_restore {
        Err(NoRestore::NotAsked)
    } else {
        match &seen.backup {
            Backup::Exists { newest } => Ok(newest),
            Backup::NoStore => Err(NoRestore::NoBackup { why: "no backup store is configured".to_owned() }),
            Backup::None => Err(NoRestore::NoBackup { why: "the store has none".to_owned() }),
            Backup::Unknown { why } => Err(NoRestore::NoBackup { why: why.clone() }),
        }
    }
}

/// Anybody whose silence is not certain.
fn somebody(seen: &Observation) -> Option<&InstanceId> {
    let mut others = seen.others.iter();
    let (instance, _) = others
        .find(|(_, other)| !(silent(&other.launcher) && silent(&other.etcd) && silent(&other.members)))?;
    Some(instance)
}

fn silent<T>(answer: &Answer<T>) -> bool {
    answer.failed().is_some_and(Unreachable::proves_silence)
}
