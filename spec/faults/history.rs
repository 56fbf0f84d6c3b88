//! What clients asked of a cluster, what they were told, and when: all that a judge needs.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a client asks of one key, which holds a number. No number is ever written twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write(u64),
    /// Writes `to` if the key holds `from`; tells what it holds if it does not.
    Swap {
        from: u64,
        to: u64,
    },
}

impl Call {
    /// What the key holds afterwards, if the call changes it.
    pub(crate) fn written(self) -> Option<u64> {
        match self {
            Self::Read => None,
            Self::Write(to) | Self::Swap { to, .. } => Some(to),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It may have happened, at any time since, or not.
    Unknown,
    /// It was written, as this revision of the cluster.
    Written { revision: i64 },
    /// The key held this number at this revision; of a swap: so it was not done.
    Found { value: Option<u64>, revision: i64 },
}

/// One call. Times are those of one clock that never jumps, since the workload began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    /// Whom it asked.
    pub(crate) member: String,
    pub(crate) key: String,
    pub(crate) call: Call,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    pub(crate) outcome: Outcome,
}

impl Operation {
    /// The revision that it was told, if it was told one.
    pub(crate) fn revision(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Unknown => None,
            Outcome::Written { revision } | Outcome::Found { revision, .. } => Some(revision),
        }
    }
}

/// A revision as a watch told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) revision: i64,
    /// What each key holds since then; `None`: it was deleted.
    pub(crate) changes: BTreeMap<String, Option<String>>,
    pub(crate) heard: Duration,
}

/// A lease with one key, `lease/ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) key: String,
    pub(crate) ttl: Duration,
    /// When the last renewal that was acknowledged, or the grant, was asked for.
    pub(crate) renewed: Duration,
}

/// Everything of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    /// What the watch of each member told, across all its connections.
    pub(crate) watched: BTreeMap<String, Vec<Event>>,
    pub(crate) leases: Vec<Lease>,
    /// The revision before the first call.
    pub(crate) first_revision: i64,
    /// All keys in the end, and the revision of that, from a cluster at rest.
    pub(crate) last: BTreeMap<String, String>,
    pub(crate) last_revision: i64,
}
