//! What is known when an instance is about to stop: plain data.

use std::time::Duration;

use serde::Serialize;

use crate::etcd::id::{ClientUrl, MemberId};
use crate::etcd::quorum::quorum;
use crate::lifecycle::intent::Intent;

/// Which of the two scripts asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Script {
    /// pre-stop: may hold and refuse.
    PreStop,
    /// drain: acts.
    Drain,
}

/// What drain was called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// The VM, the disk or the process goes.
    Shutdown,
    /// Configuration or packages changed.
    Update,
    /// A dynamic drain asks again.
    CheckStatus,
}

/// The persistent disk now and next, in MiB; `None` = not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskNext {
    /// `BOSH_JOB_STATE`.
    pub now_mib: Option<u64>,
    /// `BOSH_JOB_NEXT_STATE`.
    pub next_mib: Option<u64>,
}

/// Whether the operator overrides refusals and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    /// No.
    None,
    /// The file `force-leave` lies on the VM.
    ForceLeave,
}

/// The own entry of the member list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnEntry {
    /// There is none.
    NotListed,
    /// The member on the disk is not listed; under this instance's peer URL stands another one.
    Stranger(MemberId),
    /// It never started.
    NeverStarted(MemberId),
    /// It is a learner.
    Learner(MemberId),
    /// It votes.
    Voter(MemberId),
}

/// Whether a voter takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Life {
    /// It answers and knows the leader.
    Alive,
    /// It does not.
    Missing {
        /// What it said instead.
        why: String,
        /// For how long this was seen.
        for_so_long: Duration,
        /// Whether its launcher reports that it is getting there.
        recovering: bool,
    },
}

/// Another voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Voter {
    /// Its member id.
    pub id: MemberId,
    /// Instance id or name, for messages.
    pub name: String,
    /// Where clients reach it; `None` = it never told.
    pub client_url: Option<ClientUrl>,
    /// Whether it takes part.
    pub life: Life,
}

/// The cluster, as this instance sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cluster {
    /// Nobody answers with a linearizable member list: there is no quorum, or it cannot be seen.
    NoQuorum {
        /// What each member said instead.
        why: String,
    },
    /// It serves.
    Serves {
        /// The own entry.
        own: OwnEntry,
        /// Whether this member itself serves.
        own_serves: bool,
        /// The *other* voters.
        others: Vec<Voter>,
    },
}

/// Whose member is on the own disk, and, for the case that nobody answers with a member list, whether it
/// is the only voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisk {
    /// No member: nothing is lost with this instance.
    NoMember,
    /// A member that is its cluster's only voter.
    OnlyVoter(MemberId),
    /// A member of several, or of nobody knows how many.
    Member(MemberId),
    /// Nobody can say.
    Unknown,
}

impl OnDisk {
    /// The member on the disk.
    pub fn member(self) -> Option<MemberId> {
        match self {
            Self::OnlyVoter(id) | Self::Member(id) => Some(id),
            Self::NoMember | Self::Unknown => None,
        }
    }
}

/// Everything the stop table asks about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StopSeen {
    /// Which script asks.
    pub script: Script,
    /// What for; pre-stop is always asked for a shutdown or update, which it cannot tell apart.
    pub call: Call,
    /// The next states, if a Director told them in this boot.
    pub intent: Option<Intent>,
    /// The disk, which only drain is told.
    pub disk: DiskNext,
    /// Whether the data lies on a persistent disk of its own (`spec.persistent_disk` > 0).
    pub own_disk: bool,
    /// Whether the operator overrides.
    pub forced: Override,
    /// The cluster.
    pub cluster: Cluster,
    /// The own disk.
    pub on_disk: OnDisk,
}

impl StopSeen {
    /// Other voters, if the cluster serves.
    pub fn others(&self) -> &[Voter] {
        match &self.cluster {
            Cluster::NoQuorum { .. } => &[],
            Cluster::Serves { others, .. } => others,
        }
    }
}

/// How many of these voters take part.
pub fn alive(voters: &[Voter]) -> usize {
    voters.iter().filter(|voter| voter.life == Life::Alive).count()
}

/// Whether these voters alone would be a cluster with quorum.
pub fn keep_quorum(voters: &[Voter]) -> bool {
    !voters.is_empty() && alive(voters) >= quorum(voters.len())
}
