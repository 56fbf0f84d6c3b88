//! What to do before a stop, with everything that doing it needs.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::etcd::id::{ClusterId, MemberId};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Plan {
    /// Fail, and change nothing.
    Refuse,
    /// Look again in a moment (pre-stop only).
    Hold,
    /// Let the stop happen; membership and leadership stay as they are.
    Stay,
    /// Move leadership away, if it is here; membership stays as it is.
    HandOver(HandOver),
    /// Leave the cluster.
    Leave(Leave),
    /// Go on with what drain.json says.
    Continue,
}

/// Move leadership away, if it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandOver {
    /// Where leadership is.
    pub leadership: Leadership,
}

/// Leave the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leave {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The entry to remove.
    pub member_id: MemberId,
    /// Where leadership is; it is moved first.
    pub leadership: Leadership,
    /// Voters that are alive: the removal goes through one of them and is confirmed by one.
    pub survivors: BTreeSet<MemberId>,
}

/// Where leadership is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "leader", rename_all = "kebab-case")]
pub enum Leadership {
    /// Here; any of these could take it.
    Ours {
        /// Voters that are alive.
        candidates: BTreeSet<MemberId>,
    },
    /// Not here, or there is nobody to give it to.
    Elsewhere,
}

/// One step of stopping; its name is the name of a fail point (`drain:move-leader`) and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Note that a drain has begun: until the next pre-start nothing here joins a cluster.
    WriteDrainMark,
    /// Take the mutex that membership changes and stops share.
    TakeMutex,
    /// Make another voter the leader.
    MoveLeader,
    /// Remove the entry, by id, through a survivor.
    MemberRemove,
    /// Ask a survivor whether it is gone.
    ConfirmRemoval,
    /// Release the mutex.
    ReleaseMutex,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 6] = [
        Self::WriteDrainMark,
        Self::TakeMutex,
        Self::MoveLeader,
        Self::MemberRemove,
        Self::ConfirmRemoval,
        Self::ReleaseMutex,
    ];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteDrainMark => "write-drain-mark",
            Self::TakeMutex => "take-mutex",
            Self::MoveLeader => "move-leader",
            Self::MemberRemove => "member-remove",
            Self::ConfirmRemoval => "confirm-removal",
            Self::ReleaseMutex => "release-mutex",
        }
    }

    /// The fail point that a test names to make drain die just before this step.
    pub fn fail_point(self) -> String {
        format!("drain:{}", self.name())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Plan {
    /// Its stable name, as in drain.log and drain.json.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Hold => "hold",
            Self::Stay => "stay",
            Self::HandOver(_) => "hand-over",
            Self::Leave(_) => "leave",
            Self::Continue => "continue",
        }
    }

    /// Its steps in drain, in order. `Continue` has those of the plan that drain.json names.
    pub fn steps(&self) -> Vec<Step> {
        let moved = |leadership: &Leadership| match leadership {
            Leadership::Ours { .. } => vec![Step::MoveLeader],
            Leadership::Elsewhere => vec![],
        };
        match self {
            Self::Refuse | Self::Hold | Self::Continue => vec![],
            Self::Stay => vec![Step::WriteDrainMark],
            Self::HandOver(plan) => [vec![Step::WriteDrainMark], moved(&plan.leadership)].concat(),
            Self::Leave(plan) => [
                vec![Step::WriteDrainMark],
                moved(&plan.leadership),
                vec![Step::TakeMutex, Step::MemberRemove, Step::ConfirmRemoval, Step::ReleaseMutex],
            ]
            .concat(),
        }
    }
}
