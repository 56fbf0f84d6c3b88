//! Which row of the stop table applies, and what follows: one table for pre-stop, which holds and
//! refuses, and for drain, which acts. Told once, in docs/contract.md#stop; first match wins.

pub mod plan;
pub mod reason;
pub mod row;

use serde::Serialize;

use plan::{HandOver, Leadership, Leave, Plan};
use reason::{Cause, Reason, StopRefusal};
use row::Row;

use super::hold::{Hold, hold};
use super::next_state::{DiskMib, DrainCall, Next, NextState};
use super::observation::{Begun, ClusterAlive, ClusterSeen, Force, Place, Script, StopSeen};
use crate::etcd::member::{Member, voters};
use crate::etcd::quorum::may_remove;

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StopDecision {
    /// The row of the table.
    pub row: Row,
    /// What to do.
    pub plan: Plan,
    /// Why.
    pub because: Reason,
}

/// Which row applies, and what follows.
pub fn decide(seen: &StopSeen) -> StopDecision {
    let decision = by_script(seen);
    match (seen.force, &decision.plan) {
        // An operator takes the responsibility for what would be refused; nothing is removed on the way.
        (Force::Leave, Plan::Refuse | Plan::Hold) => {
            StopDecision { plan: Plan::Stay, because: Reason::Cause(Cause::Forced), ..decision }
        }
        (Force::No | Force::Leave, _) => decision,
    }
}

fn by_script(seen: &StopSeen) -> StopDecision {
    match seen.script {
        Script::Drain { call: DrainCall::CheckStatus, begun, .. } => match begun {
            Begun::Unfinished => act(Row::CheckStatus, Plan::Continue, Cause::CalledAgain),
            Begun::Nothing => act(Row::CheckStatus, Plan::Stay, Cause::NothingBegun),
        },
        Script::PreStop { next: Some(next) } => told(seen, next, DiskGoes::Unknown),
        Script::PreStop { next: None } => act(Row::NotToldOtherwise, hand_over(seen), Cause::NotTold),
        Script::Drain { intent: Some(next), disk, next_disk, .. } => {
            told(seen, next, DiskGoes::of(disk, next_disk))
        }
        Script::Drain { intent: None, disk, next_disk, .. } => not_told(seen, DiskGoes::of(disk, next_disk)),
    }
}

/// Whether the persistent disk goes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DiskGoes {
    Yes,
    No,
    /// pre-stop is not told.
    Unknown,
}

impl DiskGoes {
    fn of(now: Option<DiskMib>, next: Option<DiskMib>) -> Self {
        match (now, next) {
            (Some(DiskMib(now)), Some(DiskMib(0))) if now > 0 => Self::Yes,
            (Some(_), Some(_)) => Self::No,
            (None, _) | (_, None) => Self::Unknown,
        }
    }
}

/// Rows 1–6: BOSH said what becomes of the instance.
fn told(seen: &StopSeen, next: NextState, disk: DiskGoes) -> StopDecision {
    if next.deployment == Next::Delete {
        return act(Row::DeploymentGoes, Plan::Stay, Cause::DeploymentGoes);
    }
    let data_dies = disk == DiskGoes::Yes || (seen.own.place == Place::VmDisk && next.vm == Next::Delete);
    if next.instance == Next::Delete || data_dies {
        return last_copy(seen).unwrap_or_else(|| leave(seen));
    }
    match seen.script {
        Script::Drain { .. } => act(Row::InstanceStays, hand_over(seen), Cause::ComesBack),
        Script::PreStop { .. } => held(seen),
    }
}

/// Row 6 in pre-stop.
fn held(seen: &StopSeen) -> StopDecision {
    match hold(seen) {
        Hold::Go { because } => act(Row::InstanceStays, hand_over(seen), Cause::Harmless(because)),
        Hold::Hold { recovering } => StopDecision {
            row: Row::InstanceStays,
            plan: Plan::Hold,
            because: Reason::Cause(Cause::Recovering { members: recovering }),
        },
        Hold::Fail { missing, waited } => {
            refuse(Row::InstanceStays, StopRefusal::QuorumWouldGo { missing, waited })
        }
    }
}

/// Row 2.
fn last_copy(seen: &StopSeen) -> Option<StopDecision> {
    let last = match &seen.cluster {
        ClusterSeen::Healthy(cluster) => {
            cluster.entry(&seen.own).is_some_and(|entry| voters(&cluster.members).into_iter().eq([entry.id]))
        }
        // Nobody answers because nobody else is there to.
        ClusterSeen::NoQuorum { .. } => seen
            .own
            .voters_on_disk
            .as_ref()
            .is_some_and(|voters| voters.iter().copied().eq(seen.own.member_id)),
    };
    last.then(|| refuse(Row::LastVoter, StopRefusal::LastCopy))
}

/// Rows 3–5.
fn leave(seen: &StopSeen) -> StopDecision {
    let cluster = match &seen.cluster {
        ClusterSeen::Healthy(cluster) => cluster,
        // Nothing on the disk: nothing is lost with it, and eviction clears the entry, if there is one.
        ClusterSeen::NoQuorum { .. } if seen.own.disk.is_empty() => {
            return act(Row::NoVoter, Plan::Stay, Cause::NothingHere);
        }
        ClusterSeen::NoQuorum { said } => {
            return refuse(Row::LeaveUnsafe, StopRefusal::NoQuorumToAsk { said: said.clone() });
        }
    };
    let Some(entry) = cluster.entry(&seen.own) else {
        return act(Row::NoVoter, Plan::Stay, Cause::NotListed { cluster_id: cluster.cluster_id });
    };
    if entry.is_learner || !entry.has_published() {
        let cause = Cause::NeverVoted { cluster_id: cluster.cluster_id, member_id: entry.id };
        return act(Row::NoVoter, Plan::Leave(leave_plan(cluster, entry)), cause);
    }
    let (alive, missing) = cluster.other_voters(Some(entry.id));
    let all = alive.len() + missing.len() + 1;
    if may_remove(all, alive.len()) {
        let cause = Cause::OthersSuffice { alive: alive.len(), of: all - 1 };
        act(Row::LeaveSafe, Plan::Leave(leave_plan(cluster, entry)), cause)
    } else {
        refuse(Row::LeaveUnsafe, StopRefusal::OthersMissing { alive: alive.len(), of: all - 1, missing })
    }
}

fn leave_plan(cluster: &ClusterAlive, entry: &Member) -> Leave {
    let (survivors, _) = cluster.other_voters(Some(entry.id));
    Leave {
        cluster_id: cluster.cluster_id,
        member_id: entry.id,
        leadership: leadership(cluster, entry),
        survivors,
    }
}

/// Rows 7–9: BOSH did not say what becomes of the instance.
fn not_told(seen: &StopSeen, disk: DiskGoes) -> StopDecision {
    match disk {
        DiskGoes::Yes if at_most_one_voter(seen) => act(Row::NotToldOneVoter, Plan::Stay, Cause::OneVoter),
        DiskGoes::Yes => StopDecision { row: Row::NotToldMoreVoters, ..leave(seen) },
        DiskGoes::No | DiskGoes::Unknown => act(Row::NotToldOtherwise, hand_over(seen), Cause::NotTold),
    }
}

/// Whether the cluster, as far as anybody knows, is this member alone.
fn at_most_one_voter(seen: &StopSeen) -> bool {
    match &seen.cluster {
        ClusterSeen::Healthy(cluster) => voters(&cluster.members).len() <= 1,
        ClusterSeen::NoQuorum { .. } => match &seen.own.voters_on_disk {
            Some(voters) => voters.len() <= 1,
            None => seen.own.disk.is_empty(),
        },
    }
}

fn hand_over(seen: &StopSeen) -> Plan {
    let leadership = match &seen.cluster {
        ClusterSeen::Healthy(cluster) => {
            cluster.entry(&seen.own).map_or(Leadership::Elsewhere, |entry| leadership(cluster, entry))
        }
        ClusterSeen::NoQuorum { .. } => Leadership::Elsewhere,
    };
    Plan::HandOver(HandOver { leadership })
}

fn leadership(cluster: &ClusterAlive, own: &Member) -> Leadership {
    let (candidates, _) = cluster.other_voters(Some(own.id));
    if cluster.leader == own.id && !candidates.is_empty() {
        Leadership::Ours { candidates }
    } else {
        Leadership::Elsewhere
    }
}

fn act(row: Row, plan: Plan, cause: Cause) -> StopDecision {
    StopDecision { row, plan, because: Reason::Cause(cause) }
}

fn refuse(row: Row, refusal: StopRefusal) -> StopDecision {
    StopDecision { row, plan: Plan::Refuse, because: Reason::Refusal(refusal) }
}

/// The same decision, if this version of the release carries it out; else a refusal that says so.
/// Membership changes are not carried out yet.
pub fn honest(decision: StopDecision) -> StopDecision {
    match &decision.plan {
        Plan::Leave(leave) => {
            let refusal =
                StopRefusal::NotYet { member_id: leave.member_id, because: decision.because.sentence() };
            refuse(decision.row, refusal)
        }
        Plan::Refuse | Plan::Hold | Plan::Stay | Plan::HandOver(_) | Plan::Continue => decision,
    }
}

#[cfg(test)]
mod tests;
