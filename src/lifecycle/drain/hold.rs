//! The hold rule: may this instance stop now, although it comes back? Told in docs/contract.md#hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::observation::{Absence, ClusterSeen, Serving, StopSeen};
use crate::etcd::id::MemberId;
use crate::etcd::member::voters;
use crate::etcd::quorum::has_quorum;
use crate::lifecycle::launch::attestation::Progress;

/// A voter that vanished this recently may just be restarting.
pub const RESTART_GRACE: Duration = Duration::from_mins(1);

/// What the hold rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "hold", rename_all = "kebab-case")]
pub enum Hold {
    /// Stop.
    Go {
        /// Why that is all right.
        because: Harmless,
    },
    /// Wait for these, then ask again.
    Hold {
        /// Who is on the way back.
        recovering: BTreeSet<MemberId>,
    },
    /// Do not stop: without this member the cluster would lose its quorum.
    Fail {
        /// Who is missing.
        missing: BTreeMap<MemberId, Absence>,
        /// Whether the patience ran out on somebody who was on the way back.
        waited: Waited,
    },
}

/// Why stopping is all right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harmless {
    /// This member serves nobody: stopping it cannot make anything worse.
    NotServing,
    /// The cluster has no quorum to lose.
    NoQuorum,
    /// All other voters are alive.
    OthersAlive,
    /// The others have quorum without this one.
    QuorumWithout,
}

/// Whether a wait was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waited {
    /// Nobody was on the way back.
    No,
    /// `hold_timeout` is over.
    TimedOut,
}

/// First match wins.
pub fn hold(seen: &StopSeen) -> Hold {
    let ClusterSeen::Healthy(cluster) = &seen.cluster else {
        return Hold::Go { because: Harmless::NoQuorum };
    };
    if seen.own.serving == Serving::No {
        return Hold::Go { because: Harmless::NotServing };
    }
    let own = cluster.entry(&seen.own).map(|entry| entry.id);
    let (alive, missing) = cluster.other_voters(own);
    if missing.is_empty() {
        return Hold::Go { because: Harmless::OthersAlive };
    }
    if has_quorum(alive.len(), voters(&cluster.members).len()) {
        return Hold::Go { because: Harmless::QuorumWithout };
    }
    let absence = |id: &MemberId| cluster.absences.get(id);
    let recovering: BTreeSet<MemberId> =
        missing.iter().copied().filter(|id| absence(id).is_some_and(is_recovering)).collect();
    if !recovering.is_empty() && seen.held < seen.hold_timeout {
        return Hold::Hold { recovering };
    }
    let unknown = Absence { instance: None, progress: None, since: None };
    Hold::Fail {
        missing: missing
            .into_iter()
            .map(|id| (id, absence(&id).cloned().unwrap_or_else(|| unknown.clone())))
            .collect(),
        waited: if recovering.is_empty() { Waited::No } else { Waited::TimedOut },
    }
}

fn is_recovering(absence: &Absence) -> bool {
    match absence.progress {
        Some(Progress::New | Progress::Progress) => true,
        // Its launcher says that etcd serves, or nothing at all: then only the time counts.
        Some(Progress::Success) | None => absence.since.is_some_and(|since| since < RESTART_GRACE),
        Some(Progress::Failed) => false,
    }
}
