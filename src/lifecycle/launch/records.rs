//! The launcher's notes on the persistent disk, as plain data. Each carries a version; a torn or foreign
//! one counts as absent, and whoever reads says so (docs/contract.md#files).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::attestation::{ClusterToken, InstanceId, Nonce, Nonces};
use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::job::properties::BootstrapMethod;

/// The version of the records this release writes.
pub const RECORD_VERSION: u32 = 1;

/// All notes found on the disk; `None` = absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Records {
    /// The nonce of this disk.
    pub nonce: Option<Nonce>,
    /// The first boot this disk prepared or took part in.
    pub bootstrap: Option<BootstrapRecord>,
    /// How far joining a cluster got.
    pub join: Option<JoinRecord>,
    /// How etcd last ended here.
    pub exit: Option<ExitRecord>,
    /// What an operator asked to restore.
    pub restore_request: Option<RestoreRequest>,
    /// The restore that made this disk's cluster.
    pub restored: Option<RestoreRecord>,
    /// Whether a drain has begun and no pre-start came since.
    pub drain: DrainMark,
    /// The peer URLs that were ever in this instance's link.
    pub links: BTreeSet<PeerUrl>,
}

impl Records {
    /// Whether anything here says that etcd has once run on this disk, even though no member is left.
    pub fn tell_of_a_member(&self) -> bool {
        let bootstrapped = self.bootstrap.as_ref().is_some_and(|record| record.phase == BootPhase::Running);
        let joined = self.join.as_ref().is_some_and(|record| record.phase >= JoinPhase::Started);
        bootstrapped || joined || self.exit.is_some() || self.restored.is_some()
    }
}

/// Whether a drain has begun: until pre-start clears the mark, nothing here joins a cluster again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainMark {
    /// No drain since the last pre-start.
    #[default]
    Absent,
    /// A drain has begun.
    Begun,
}

/// A first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapRecord {
    /// Version of this record.
    pub version: u32,
    /// The token of the new cluster.
    pub token: ClusterToken,
    /// The disks that take part.
    pub nonces: Nonces,
    /// The members' peer URLs.
    pub members: BTreeMap<InstanceId, PeerUrl>,
    /// How their data comes about; earlier records do not tell, and mean etcd's own way.
    #[serde(default)]
    pub method: BootstrapMethod,
    /// How far it got on this disk.
    pub phase: BootPhase,
}

impl BootstrapRecord {
    /// The id that instance's member has in the new cluster.
    pub fn member_id(&self, instance: &InstanceId) -> Option<MemberId> {
        let url = self.members.get(instance)?;
        Some(MemberId::bootstrapped(&BTreeSet::from([url.clone()]), self.token.as_str()))
    }

    /// The id of the new cluster.
    pub fn cluster_id(&self) -> ClusterId {
        let ids = self
            .members
            .values()
            .map(|url| MemberId::bootstrapped(&BTreeSet::from([url.clone()]), self.token.as_str()))
            .collect();
        ClusterId::bootstrapped(&ids)
    }

    /// Whether that instance takes part with that disk.
    pub fn names(&self, instance: &InstanceId, nonce: &Nonce) -> bool {
        self.nonces.get(instance) == Some(nonce)
    }
}

/// How far a first boot got on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPhase {
    /// Written down; etcd was not seen to have a log here.
    Prepared,
    /// etcd had a log here: an empty disk with this phase has lost a member.
    Running,
}

/// How far joining a cluster got. Written before each step that cannot be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRecord {
    /// Version of this record.
    pub version: u32,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The URL the member was or will be added with.
    pub peer_url: PeerUrl,
    /// The id etcd answered; `None` until it has answered.
    pub member_id: Option<MemberId>,
    /// How far.
    pub phase: JoinPhase,
}

/// The phases of a join, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinPhase {
    /// About to ask the cluster to add a learner.
    Intended,
    /// The cluster answered with an id; etcd was not started with it.
    Added,
    /// etcd was started with that id.
    Started,
    /// The learner became a voter.
    Promoted,
}

/// How etcd last ended here. Removed before the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Version of this record.
    pub version: u32,
    /// The member that ended.
    pub member_id: MemberId,
    /// How.
    pub how: Ending,
    /// When, in seconds since 1970.
    pub at_unix_secs: u64,
}

/// How etcd ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was asked to and closed its files.
    Graceful,
    /// It ended by itself or was killed.
    Abrupt,
}

/// What an operator asked to restore. While it counts, no member of the set runs etcd; one of them, the source, has
/// the restored data, and the others join it (docs/contract.md#restore).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// Version of this record.
    pub version: u32,
    /// Random id of this request.
    pub id: Uuid,
    /// What was asked for, as it was typed: `latest`, a time, a revision, `survivors`.
    pub asked: String,
    /// What that came to, for people.
    pub point: String,
    /// The instance that makes the new cluster.
    pub source: InstanceId,
    /// How far the source is.
    pub phase: RestorePhase,
    /// The id of the new cluster.
    pub cluster_id: ClusterId,
    /// The instances that stop for it, the source included, with their peer URLs.
    pub members: BTreeMap<InstanceId, PeerUrl>,
    /// The clusters it replaces.
    pub replaces: BTreeSet<ClusterId>,
    /// When it was made, in seconds since 1970.
    pub created_unix_secs: u64,
    /// From when on it counts for nothing, in seconds since 1970.
    pub expires_unix_secs: u64,
}

/// How far the source of a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestorePhase {
    /// It makes the data out of its own disk, for which etcd must not run there.
    Preparing,
    /// The data lies beside the old one, proven.
    Prepared,
}

/// What the restore errand says of itself, for the errands of the other instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreProgress {
    /// Version of this record.
    pub version: u32,
    /// The request that it works on.
    pub request: Uuid,
    /// Why it gave up; `None` while it goes on.
    pub failed: Option<String>,
}

/// A restore that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// Version of this record.
    pub version: u32,
    /// The request it carried out.
    pub request: Uuid,
    /// The cluster it made.
    pub cluster_id: ClusterId,
    /// The clusters it replaced.
    pub replaced: BTreeSet<ClusterId>,
}
