//! What pre-stop and drain saw: plain data, nothing decided yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::next_state::{DiskMib, DrainCall, NextState};
use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::etcd::member::{Member, voters};
use crate::lifecycle::launch::attestation::{DiskClass, InstanceId, Progress};

/// Everything seen before a stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StopSeen {
    /// Which script asks, and what BOSH told it.
    pub script: Script,
    /// The member on this instance.
    pub own: OwnMember,
    /// What the cluster answers.
    pub cluster: ClusterSeen,
    /// Whether an operator overrides refusals.
    pub force: Force,
    /// How long pre-stop has been holding.
    pub held: Duration,
    /// How long it may (`hold_timeout`).
    pub hold_timeout: Duration,
}

/// Which script asks, and what BOSH told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "script", rename_all = "kebab-case")]
pub enum Script {
    /// pre-stop: monit still watches, so this is the place to hold and to refuse.
    PreStop {
        /// Its three variables; `None` if BOSH set none.
        next: Option<NextState>,
    },
    /// drain: monit no longer watches, so this is the place to act.
    Drain {
        /// Its first argument.
        call: DrainCall,
        /// What pre-stop noted during this boot; `None` if it did not run or was told nothing.
        intent: Option<NextState>,
        /// The disk now.
        disk: Option<DiskMib>,
        /// The disk afterwards; `None` if BOSH did not say.
        next_disk: Option<DiskMib>,
        /// Whether an earlier call left something to go on with.
        begun: Begun,
    },
}

/// What an earlier call of drain left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Begun {
    /// Nothing.
    Nothing,
    /// drain.json of this boot names a plan that is not finished.
    Unfinished,
}

/// The member on this instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnMember {
    /// Where its peers reach it.
    pub peer_url: PeerUrl,
    /// What is on its disk.
    pub disk: DiskClass,
    /// Its id, where the disk tells.
    pub member_id: Option<MemberId>,
    /// The voters that the disk knows, where readable.
    pub voters_on_disk: Option<BTreeSet<MemberId>>,
    /// Where the data lies.
    pub place: Place,
    /// Whether it serves linearizable reads right now.
    pub serving: Serving,
}

/// Where the data lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// On a disk that outlives the VM.
    OwnDisk,
    /// On the VM's own disk: it goes when the VM goes.
    VmDisk,
}

/// Whether a member serves linearizable reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serving {
    /// It does.
    Yes,
    /// It does not, or does not run.
    No,
}

/// What the cluster answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ClusterSeen {
    /// A linearizable member list, with a leader.
    Healthy(ClusterAlive),
    /// Nobody answers one.
    NoQuorum {
        /// What each instance said instead.
        said: BTreeMap<InstanceId, String>,
    },
}

/// A cluster that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterAlive {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The leader.
    pub leader: MemberId,
    /// The linearizable member list.
    pub members: Vec<Member>,
    /// Who is alive: the leader, everybody it is connected to, and everybody who answered.
    pub alive: BTreeSet<MemberId>,
    /// What is known about those who are not.
    pub absences: BTreeMap<MemberId, Absence>,
}

/// What is known about a member that is not alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Absence {
    /// Its instance, where a launcher or the link tells.
    pub instance: Option<InstanceId>,
    /// How far its launcher says it is; `None` if it does not answer.
    pub progress: Option<Progress>,
    /// For how long the cluster has missed it, where known.
    pub since: Option<Duration>,
}

impl ClusterAlive {
    /// The entry of this instance: by the id on its disk, else by its peer URL.
    pub fn entry(&self, own: &OwnMember) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| Some(member.id) == own.member_id)
            .or_else(|| self.members.iter().find(|member| member.listens_at(&own.peer_url)))
    }

    /// The voters other than `id`: those alive, those not.
    pub fn other_voters(&self, id: Option<MemberId>) -> (BTreeSet<MemberId>, BTreeSet<MemberId>) {
        voters(&self.members)
            .into_iter()
            .filter(|voter| Some(*voter) != id)
            .partition(|voter| self.alive.contains(voter))
    }
}

/// Whether an operator overrides refusals, by touching `force-leave` on the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Force {
    /// No.
    No,
    /// Yes: whatever would be refused or held goes on, without touching the membership.
    Leave,
}
