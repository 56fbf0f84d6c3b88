//! Which row of the launch table applies, and what follows. The table itself is told once, in
//! docs/contract.md#launch; first match wins.
//!
//! Pure: no clock, no network, no disk. What was seen comes in as an [`Observation`], what to do goes
//! out as a [`Decision`] that holds everything acting needs. If acting meets another world than the one
//! observed, it stops and the launcher observes again.

pub mod claim;
pub mod plan;
pub mod reason;
pub mod refusal;
pub mod row;
pub mod step;
pub mod waiting;

use serde::Serialize;

use claim::Claim;
use plan::Plan;
use reason::Reason;
use row::Row;

use super::attestation::InstanceId;
use crate::etcd::id::ClusterId;

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
        request: String,
        /// Why.
        why: String,
    },
    /// The member is a learner, which this version of the release does not promote.
    PromotionNotYet,
}
