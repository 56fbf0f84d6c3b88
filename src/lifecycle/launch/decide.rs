//! Which row of the launch table applies, and what follows. The table itself is told once, in
//! docs/contract.md#launch; first match wins.
//!
//! Pure: no clock, no network, no disk. What was seen comes in as an [`Observation`], what to do goes
//! out as a [`Decision`] that holds everything acting needs. If acting meets another world than the one
//! observed, it stops and the launcher observes again.

pub mod claim;
mod damaged;
mod data;
mod empty;
pub mod first_boot;
pub mod plan;
pub mod reason;
pub mod refusal;
mod replace;
pub mod restore;
pub mod row;
pub mod step;
mod view;
pub mod waiting;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use claim::Claim;
use damaged::Damage;
use plan::{NonceDuty, Plan, Wait};
use reason::{Cause, Reason};
use refusal::Refusal;
use restore::Asked;
use row::Row;
use waiting::{Until, Waiting};

use super::attestation::InstanceId;
use super::observation::{Backup, Disk, Observation, Process, Seen};
use super::records::DrainMark;
use crate::etcd::id::{ClusterId, PeerUrl};

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The row of the table.
    pub row: Row,
    /// What to do.
    pub plan: Plan,
    /// Why.
    pub because: Reason,
    /// What this rests on, if it must be seen twice: to be noted in [`claim::Memory`].
    pub rests_on: Option<Claim>,
    /// What else a person should know; changes nothing.
    pub notices: Vec<Notice>,
}

/// Something a person should know although it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
pub enum Notice {
    /// Another cluster than this member's answers on the link.
    Stray {
        /// Who runs it.
        instance: InstanceId,
        /// Which.
        cluster_id: ClusterId,
    },
    /// A restore request is on the disk, but counts for nothing.
    RequestIgnored {
        /// The request.
        request: Uuid,
        /// Why.
        why: String,
    },
    /// The cluster lists this member at another URL than the one BOSH gave it.
    UrlDiffers {
        /// As listed.
        listed: BTreeSet<PeerUrl>,
        /// As deployed.
        own: PeerUrl,
    },
    /// etcd repairs something when it starts.
    Repairs {
        /// What.
        what: Vec<String>,
    },
    /// A person said that the data is not to be checked.
    NotChecked,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stray { instance, cluster_id } => {
                write!(f, "{instance} runs another cluster, {cluster_id}")
            }
            Self::RequestIgnored { request, why } => {
                write!(f, "restore request {request} counts for nothing: {why}")
            }
            Self::UrlDiffers { listed, own } => {
                let listed: Vec<&str> = listed.iter().map(PeerUrl::as_str).collect();
                write!(f, "the cluster lists this member at {}, it was deployed as {own}", listed.join(", "))
            }
            Self::Repairs { what } => write!(f, "etcd repairs this when it starts: {}", what.join("; ")),
            Self::NotChecked => f.write_str(
                "the data is not checked, because somebody laid /var/vcap/data/etcd/skip-validation; remove it",
            ),
        }
    }
}

/// Which row applies, and what follows.
pub fn decide(seen: &Observation) -> Decision {
    match (seen.process, &seen.disk) {
        (Process::Running { pid }, _) => refuse(Row::AlreadyRunning, Refusal::AlreadyRunning { pid }),
        (Process::Down, Disk::Unmounted) => refuse(Row::UnusableDisk, Refusal::Unmounted),
        (Process::Down, Disk::Foreign { names }) => {
            refuse(Row::UnusableDisk, Refusal::Foreign { names: names.clone() })
        }
        (Process::Down, Disk::Data(_) | Disk::Damaged { .. } | Disk::Empty { .. } | Disk::Partial { .. }) => {
            match restore::asked(seen) {
                Asked::Decided(decision) => *decision,
                Asked::No => by_disk(seen),
                Asked::Ignored(notice) => {
                    let mut decision = by_disk(seen);
                    decision.notices.push(notice);
                    decision
                }
            }
        }
    }
}

/// Rows 3–20.
fn by_disk(seen: &Observation) -> Decision {
    match &seen.disk {
        Disk::Data(disk) => data::decide(seen, disk),
        Disk::Damaged { why, cluster_id, voters } => {
            damaged::decide(seen, &Damage { why, cluster_id: *cluster_id, voters: voters.as_ref() })
        }
        Disk::Empty { .. } | Disk::Partial { .. } => empty::decide(seen),
        Disk::Unmounted | Disk::Foreign { .. } => unreachable!("rows 0 and 1 have taken these"),
    }
}

/// Whether no answer that is still missing can change the row: then there is nothing to wait for. A
/// member of a healthy cluster starts on the first such answer, while slower peers are still silent.
pub fn settled(seen: &Observation) -> bool {
    let complete = seen
        .own
        .link
        .keys()
        .filter(|instance| **instance != seen.own.instance)
        .all(|instance| seen.others.get(instance).is_some_and(Seen::is_complete));
    if complete {
        return true;
    }
    let decision = decide(seen);
    match (&decision.because, &seen.disk) {
        (Reason::Refusal(refusal), _) => refusal.is_about_this_disk_alone(),
        (Reason::Cause(cause), Disk::Data(disk)) => cause.is_listed() && data::is_listed_for_sure(seen, disk),
        (Reason::Cause(_) | Reason::Waiting(_), _) => false,
    }
}

/// Whether it makes a difference what the backup store has: else nobody waits for it.
pub fn depends_on_backups(seen: &Observation) -> bool {
    if let Disk::Data(_) = seen.disk {
        return false;
    }
    let given = |backup| decide(&Observation { backup, ..seen.clone() });
    given(Backup::NoStore) != given(Backup::Exists { newest: String::new() })
}

impl Decision {
    fn new(row: Row, plan: Plan, because: Reason) -> Self {
        Self { row, plan, because, rests_on: None, notices: Vec::new() }
    }

    /// Who ends it, if etcd does not start by it.
    pub fn until(&self) -> Option<Until> {
        match self.plan {
            Plan::Validate => Some(Until::OwnProgress),
            _ => self.because.until(),
        }
    }

    /// Puts the decision off until what it rests on has been seen twice.
    fn confirmed(mut self, seen: &Observation, claim: Claim) -> Self {
        if !seen.confirmed.contains(&claim) {
            let waiting = Waiting::Confirming { claim: claim.clone(), then: self.plan.name() };
            self = Self { notices: self.notices, ..wait(seen, self.row, waiting) };
        }
        self.rests_on = Some(claim);
        self
    }
}

fn refuse(row: Row, refusal: Refusal) -> Decision {
    Decision::new(row, Plan::Refuse, Reason::Refusal(refusal))
}

fn go(row: Row, plan: Plan, cause: Cause) -> Decision {
    Decision::new(row, plan, Reason::Cause(cause))
}

fn wait(seen: &Observation, row: Row, waiting: Waiting) -> Decision {
    let lacks_nonce =
        seen.records.nonce.is_none() && first_boot::never_had_a_member(&seen.disk, &seen.records);
    let nonce = if lacks_nonce { NonceDuty::Write } else { NonceDuty::Keep };
    Decision::new(row, Plan::Wait(Wait { nonce }), Reason::Waiting(waiting))
}

/// A plan that makes this instance a member: not while it is being drained.
fn go_undrained(seen: &Observation, row: Row, plan: Plan, cause: Cause) -> Decision {
    match seen.records.drain {
        DrainMark::Absent => go(row, plan, cause),
        DrainMark::Begun => wait(seen, row, Waiting::Draining { then: plan.name() }),
    }
}

/// A plan that moves or removes something: not while drained, and only after a second look.
fn go_confirmed(seen: &Observation, row: Row, claim: Claim, plan: Plan, cause: Cause) -> Decision {
    match seen.records.drain {
        DrainMark::Absent => go(row, plan, cause).confirmed(seen, claim),
        DrainMark::Begun => wait(seen, row, Waiting::Draining { then: plan.name() }),
    }
}

#[cfg(test)]
mod tests;
