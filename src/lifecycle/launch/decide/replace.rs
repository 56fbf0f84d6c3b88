//! Rows 10 and 17: the cluster lists this instance, whose data is gone or damaged. A member that lost
//! its log never comes back under its id (docs/contract.md#replace).

use super::claim::Claim;
use super::plan::{Aside, Plan, Replace};
use super::reason::Cause;
use super::refusal::Refusal;
use super::row::Row;
use super::view::Cluster;
use super::waiting::{Unsafe, Waiting};
use super::{Decision, go_confirmed, refuse, wait};
use crate::etcd::id::ClusterId;
use crate::etcd::member::Member;
use crate::etcd::quorum::{may_replace_learner, may_replace_voter};
use crate::lifecycle::launch::observation::{Connected, Observation};

/// Replaces `entry` if it is dead and the others can spare it; says why not otherwise.
pub(super) fn entry(
    seen: &Observation,
    row: Row,
    cluster_id: ClusterId,
    cluster: &Cluster<'_>,
    entry: &Member,
    clear: Option<Aside>,
) -> Decision {
    let member_id = entry.id;
    let not_safe = |why| wait(seen, row, Waiting::NotSafe { cluster_id, member_id, why });
    match cluster.connected(member_id) {
        None => return not_safe(Unsafe::LivenessUnknown),
        // Its connection outlives a process by seconds: a second look tells a restart of ours from
        // somebody who runs under our URL.
        Some(Connected::Up) => {
            let url = seen.own.peer_url.clone();
            return refuse(row, Refusal::UrlInUse { url, member_id, cluster_id })
                .confirmed(seen, Claim::EntryAlive { cluster_id, member_id });
        }
        Some(Connected::Down) => {}
    }
    let urls: Vec<_> = entry.peer_urls.iter().filter(|url| **url != seen.own.peer_url).cloned().collect();
    if !urls.is_empty() {
        return not_safe(Unsafe::OtherUrls { urls });
    }
    let (alive, missing) = cluster.other_voters(member_id);
    let voters = alive.len() + missing.len() + usize::from(entry.is_voter());
    let version = cluster.lowest_server();
    let spared = if entry.is_voter() {
        may_replace_voter(voters, alive.len(), version)
    } else {
        may_replace_learner(voters, alive.len(), version)
    };
    if !spared {
        return not_safe(Unsafe::OthersMissing { missing: missing.into_iter().collect() });
    }
    let replace = Replace {
        cluster_id,
        remove: member_id,
        survivors: alive.union(&missing).copied().collect(),
        peer_url: seen.own.peer_url.clone(),
        clear,
    };
    go_confirmed(
        seen,
        row,
        Claim::EntryDead { cluster_id, member_id },
        Plan::Replace(replace),
        Cause::EntryDead { cluster_id, member_id },
    )
}
