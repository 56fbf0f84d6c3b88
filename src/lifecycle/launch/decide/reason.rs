//! Why a row applied, in words. Refusals and waits are told in three parts that an operator can act on:
//! [`super::refusal`] and [`super::waiting`]; why something is done needs one sentence.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::refusal::Refusal;
use super::waiting::{Until, Waiting};
use crate::etcd::id::{ClusterId, MemberId};
use crate::lifecycle::launch::attestation::InstanceId;
use crate::report::Complaint;

/// Why a row applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Reason {
    /// A person must decide.
    Refusal(Refusal),
    /// The cause lies outside, or passes.
    Waiting(Waiting),
    /// Something is done.
    Cause(Cause),
}

/// Why something is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// A healthy cluster lists the member on this disk.
    Listed {
        /// The cluster.
        cluster_id: ClusterId,
        /// Who said so.
        by: InstanceId,
    },
    /// The member's cluster does not serve: starting is how quorum comes back.
    QuorumMissing {
        /// The cluster on the disk.
        cluster_id: ClusterId,
        /// What each other instance's etcd said instead of being healthy.
        others: BTreeMap<InstanceId, String>,
    },
    /// Something is to be done on data that etcd did not leave in order.
    Unchecked {
        /// Why it is done once all data was checked.
        then: Box<Cause>,
    },
    /// The cluster removed the member while it was away.
    Removed {
        /// The cluster.
        cluster_id: ClusterId,
        /// The member on this disk.
        member_id: MemberId,
    },
    /// A restored cluster replaced the one on this disk.
    ReplacedByRestore {
        /// The cluster on this disk.
        old: ClusterId,
        /// The restored one.
        new: ClusterId,
    },
    /// Damaged data, and a healthy cluster that does not list this instance.
    DamagedNotListed {
        /// What is wrong.
        why: String,
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// The only instance has an empty disk, the store has a backup, and `auto_restore` is on.
    EmptyAlone {
        /// The newest.
        backup: String,
    },
    /// The only member there ever was is damaged, and `auto_restore` is on.
    DamagedAlone {
        /// What is wrong.
        why: String,
        /// The newest backup.
        backup: String,
    },
    /// The cluster's entry of this instance is dead and can be replaced without risk.
    EntryDead {
        /// The cluster.
        cluster_id: ClusterId,
        /// The entry.
        member_id: MemberId,
    },
    /// A first boot that is under way counts on this disk.
    FirstBootNamesUs {
        /// Who runs it already.
        by: InstanceId,
    },
    /// A healthy cluster does not list this instance.
    NotListed {
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// A healthy cluster waits for this instance to start.
    NeverStarted {
        /// The cluster.
        cluster_id: ClusterId,
        /// The entry.
        member_id: MemberId,
    },
    /// Every instance of the link attests that its disk never had a member.
    AllAttest {
        /// How many they are.
        instances: usize,
    },
    /// Every member of the set waits for this restore, which this instance begins.
    RestoreRequested {
        /// The request.
        request: Uuid,
    },
}

impl Cause {
    /// Whether it is that a healthy cluster lists the member on this disk.
    pub(super) fn is_listed(&self) -> bool {
        match self {
            Self::Listed { .. } => true,
            Self::Unchecked { then } => then.is_listed(),
            _ => false,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Listed { cluster_id, by } => {
                format!("cluster {cluster_id} is healthy and lists this member, says {by}")
            }
            Self::QuorumMissing { cluster_id, others } if others.is_empty() => {
                format!(
                    "the disk has a member of cluster {cluster_id}, and there is no other instance to ask"
                )
            }
            Self::QuorumMissing { cluster_id, others } => {
                let said: Vec<String> =
                    others.iter().map(|(instance, said)| format!("{instance}: {said}")).collect();
                format!(
                    "the disk has a member of cluster {cluster_id}, which nobody serves; starting it is how quorum comes back ({})",
                    said.join("; ")
                )
            }
            Self::Unchecked { then } => format!(
                "etcd did not end gracefully here, so all data is checked before it starts; {}",
                then.sentence()
            ),
            Self::Removed { cluster_id, member_id } => format!(
                "cluster {cluster_id} removed member {member_id} while it was away; on_removed_member is rejoin"
            ),
            Self::ReplacedByRestore { old, new } => {
                format!("cluster {new} was restored in place of cluster {old}, which is on this disk")
            }
            Self::DamagedNotListed { why, cluster_id } => {
                format!("the data is damaged ({why}) and cluster {cluster_id} does not list this instance")
            }
            Self::EmptyAlone { backup } => format!(
                "the disk is empty and this is the only instance; auto_restore is on and backup {backup} exists"
            ),
            Self::DamagedAlone { why, backup } => format!(
                "the only member there ever was is damaged ({why}); auto_restore is on and backup {backup} exists"
            ),
            Self::EntryDead { cluster_id, member_id } => format!(
                "the data of member {member_id} is gone, cluster {cluster_id} sees it dead, and the others can spare it"
            ),
            Self::FirstBootNamesUs { by } => {
                format!("{by} already runs the first boot this disk attested for")
            }
            Self::NotListed { cluster_id } => {
                format!("the disk is empty and cluster {cluster_id} does not list this instance")
            }
            Self::NeverStarted { cluster_id, member_id } => {
                format!("cluster {cluster_id} added this instance as member {member_id}, which never started")
            }
            Self::AllAttest { instances } => {
                format!("all {instances} instances of the link attest that their disks never had a member")
            }
            Self::RestoreRequested { request } => {
                format!("every member of the set waits for restore {request}, whose data lies ready here")
            }
        }
    }
}

impl Reason {
    /// One line, without a full stop: for logs, `status.json` and tables.
    pub fn sentence(&self) -> String {
        match self {
            Self::Refusal(refusal) => refusal.complaint().what,
            Self::Waiting(waiting) => waiting.complaint().what,
            Self::Cause(cause) => cause.sentence(),
        }
    }

    /// Who ends the wait, if it is one.
    pub fn until(&self) -> Option<Until> {
        match self {
            Self::Waiting(waiting) => Some(waiting.until()),
            Self::Refusal(_) | Self::Cause(_) => None,
        }
    }

    /// What, why and next, where something is not done.
    pub fn complaint(&self) -> Option<Complaint> {
        match self {
            Self::Refusal(refusal) => Some(refusal.complaint()),
            Self::Waiting(waiting) => Some(waiting.complaint()),
            Self::Cause(_) => None,
        }
    }
}
