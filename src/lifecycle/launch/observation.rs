//! What the launcher saw: plain data, nothing decided yet.
//!
//! Whoever observes fills this in as answers arrive, in any order; an answer that is not there yet is
//! [`Answer::Pending`]. Everything the launch table asks about is here, and nothing else: if acting had
//! to look again, something would be missing here (docs/contract.md#launch).
//!
//! The parts: [`Own`] is what BOSH rendered, [`Disk`] what lies in the data directory, [`Records`] what
//! the launcher noted on that disk, [`Seen`] what each other instance of the link answered.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use super::attestation::{DiskClass, InstanceId, LinkHash, PeerState};
use super::decide::claim::Claim;
use super::records::Records;
pub use crate::etcd::active_peers::Connected;
use crate::etcd::connect::ConnectError;
use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::etcd::version::EtcdVersion;
use crate::job::properties::{BootstrapFlag, BootstrapMethod, OnRemovedMember};

/// Everything seen in one look around.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// When it was made, in seconds since 1970: a restore request expires.
    pub at_unix_secs: u64,
    /// This instance, as BOSH rendered it.
    pub own: Own,
    /// Whether etcd already runs on this data.
    pub process: Process,
    /// What lies in the data directory.
    pub disk: Disk,
    /// What the launcher noted on that disk.
    pub records: Records,
    /// Whether the backup store holds a backup of this deployment.
    pub backup: Backup,
    /// Each *other* instance of the link, and what it answered.
    pub others: BTreeMap<InstanceId, Seen>,
    /// What already held in an observation at least six seconds ago and in every one since; see
    /// [`super::decide::claim::Memory`].
    pub confirmed: BTreeSet<Claim>,
}

/// This instance, as BOSH rendered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Own {
    /// Deployment name; part of a new cluster's token.
    pub deployment: String,
    /// This instance.
    pub instance: InstanceId,
    /// Where its peers reach it. With the member id this is its identity.
    pub peer_url: PeerUrl,
    /// All instances of the link, this one included.
    pub link: BTreeMap<InstanceId, PeerUrl>,
    /// Fingerprint of that list: instances rendered from the same list have the same.
    pub link_hash: LinkHash,
    /// Whether this deploy may create a cluster.
    #[serde(serialize_with = "as_property")]
    pub bootstrap: BootstrapFlag,
    /// How a cluster is created.
    pub bootstrap_method: BootstrapMethod,
    /// What to do when the cluster removed this member while it was away.
    #[serde(serialize_with = "as_policy")]
    pub on_removed_member: OnRemovedMember,
    /// Whether a damaged single member may be restored from a backup unasked.
    pub auto_restore: bool,
    /// The etcd binary of this deploy.
    pub binary: EtcdVersion,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn as_property<S: Serializer>(flag: &BootstrapFlag, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match flag {
        BootstrapFlag::Off => "false",
        BootstrapFlag::On => "true",
        BootstrapFlag::Again => "again",
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn as_policy<S: Serializer>(policy: &OnRemovedMember, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match policy {
        OnRemovedMember::Rejoin => "rejoin",
        OnRemovedMember::Refuse => "refuse",
    })
}

/// Whether etcd already runs on this data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Process {
    /// Nobody holds the data.
    Down,
    /// Somebody holds the lock on the database or is etcd with this data directory.
    Running {
        /// Its process id, where it could be found.
        pid: Option<u32>,
    },
}

/// What lies in the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "class", rename_all = "kebab-case")]
pub enum Disk {
    /// A persistent disk is due and not mounted.
    Unmounted,
    /// Names that neither etcd nor this release put there.
    Foreign {
        /// Those names.
        names: BTreeSet<String>,
    },
    /// No member.
    Empty {
        /// Whether there ever was one, as far as the VM knows.
        history: History,
    },
    /// A database without any log and nothing in it: what a first start or a join leaves that died
    /// early. etcd must not be started on it; moved aside it is an empty disk.
    Partial {
        /// Whether there ever was a member, as far as the VM knows.
        history: History,
    },
    /// A member that etcd cannot or must not be started on, by its names and heads or by what was found when
    /// it was validated.
    Damaged {
        /// What is wrong.
        why: String,
        /// The cluster it belonged to, where that is still readable.
        cluster_id: Option<ClusterId>,
        /// The voters it knew, where that is still readable.
        voters: Option<BTreeSet<MemberId>>,
    },
    /// A member.
    Data(DiskData),
}

impl Disk {
    /// The class alone, as `/state` tells it.
    pub fn class(&self) -> DiskClass {
        match self {
            Self::Unmounted => DiskClass::Unmounted,
            Self::Foreign { .. } => DiskClass::Foreign,
            Self::Empty { .. } => DiskClass::Empty,
            Self::Partial { .. } => DiskClass::Partial,
            Self::Damaged { .. } => DiskClass::Damaged,
            Self::Data(_) => DiskClass::Data,
        }
    }

    /// The cluster the disk belongs to, if any and readable.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        match self {
            Self::Data(data) => Some(data.cluster_id),
            Self::Damaged { cluster_id, .. } => *cluster_id,
            Self::Unmounted | Self::Foreign { .. } | Self::Empty { .. } | Self::Partial { .. } => None,
        }
    }
}

/// Whether an empty disk ever had a member, as far as the VM knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// Nothing says so.
    Virgin,
    /// The VM's `initialised` mark says that this instance had data: the disk was lost or emptied.
    InitialisedBefore,
}

/// The member on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskData {
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Its own id.
    pub member_id: MemberId,
    /// The voters it knows, where readable.
    pub voters: Option<BTreeSet<MemberId>>,
    /// The storage version (etcd 3.6 and later), where readable.
    pub storage_version: Option<EtcdVersion>,
    /// The cluster version, where readable.
    pub cluster_version: Option<EtcdVersion>,
    /// Raft index of an entry that the binary does not read any more, where it is about to replay one.
    pub old_request: Option<u64>,
    /// Whether it was checked.
    pub validated: Validated,
}

/// Whether the data was checked in this life of the launcher (docs/contract.md#validate). Data that was
/// found damaged is [`Disk::Damaged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "validated", rename_all = "kebab-case")]
pub enum Validated {
    /// Not yet, or it has changed since.
    NotYet,
    /// etcd can be started on it.
    Usable {
        /// What etcd will repair when it starts.
        repairs: Vec<String>,
    },
    /// A person said that it is not to be checked.
    Waived,
}

/// Whether the backup store holds a backup of this deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Backup {
    /// No store is configured.
    NoStore,
    /// The store has none.
    None,
    /// The store has at least one.
    Exists {
        /// The newest, as `etcd-backup list` names it.
        newest: String,
    },
    /// The store could not be asked.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// What one other instance of the link answered, on its three doors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its launcher's `/state`.
    pub launcher: Answer<PeerState>,
    /// Its etcd, asked with the admin certificate.
    pub etcd: Answer<EtcdAnswer>,
    /// `GET /members` on its peer port: all that a member without quorum answers after a cold start.
    pub members: Answer<MembersAnswer>,
}

impl Seen {
    /// Nothing has answered yet.
    pub fn pending() -> Self {
        Self { launcher: Answer::Pending, etcd: Answer::Pending, members: Answer::Pending }
    }

    /// Whether all three doors have answered or failed.
    pub fn is_complete(&self) -> bool {
        !matches!(self.launcher, Answer::Pending)
            && !matches!(self.etcd, Answer::Pending)
            && !matches!(self.members, Answer::Pending)
    }
}

/// One answer: not there yet, there, or failed in a way that keeps its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<T> {
    /// Asked, and still waiting. Never evidence of anything.
    Pending,
    /// The answer.
    Got(T),
    /// No answer.
    Failed(Unreachable),
}

impl<T> Answer<T> {
    /// The answer, if it is there.
    pub fn got(&self) -> Option<&T> {
        match self {
            Self::Got(answer) => Some(answer),
            Self::Pending | Self::Failed(_) => None,
        }
    }

    /// Why there is none, if that is known.
    pub fn failed(&self) -> Option<&Unreachable> {
        match self {
            Self::Failed(why) => Some(why),
            Self::Pending | Self::Got(_) => None,
        }
    }
}

/// Why there was no answer. Each kind is repaired elsewhere, so none is folded into another: a TLS
/// failure means that somebody *is* there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Unreachable {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The name does not resolve.
    #[error("DNS: {why}")]
    Dns {
        /// What the resolver said.
        why: String,
    },
    /// The handshake failed.
    #[error("TLS: {why}")]
    Tls {
        /// What the TLS library said.
        why: String,
    },
    /// The certificate's user is not allowed to ask.
    #[error("authentication: {why}")]
    Auth {
        /// What etcd said.
        why: String,
    },
    /// The network says no (no route, reset …).
    #[error("network: {why}")]
    Network {
        /// What the system said.
        why: String,
    },
    /// A launcher answers that has only just started.
    #[error("its launcher has not decided anything yet")]
    Undecided,
    /// Somebody answered, but not in the expected language.
    #[error("not understood: {why}")]
    Protocol {
        /// What came instead.
        why: String,
    },
}

impl Unreachable {
    /// Whether this proves that nothing listens there *now*. Everything else may hide a live process.
    pub fn proves_silence(&self) -> bool {
        matches!(self, Self::Refused)
    }
}

impl From<&ConnectError> for Unreachable {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Refused => Self::Refused,
            ConnectError::Timeout(_) => Self::Timeout,
            ConnectError::Dns(why) => Self::Dns { why: why.clone() },
            ConnectError::Tls(why) | ConnectError::Untrusted(why) => Self::Tls { why: why.clone() },
            ConnectError::Network(why) => Self::Network { why: why.clone() },
        }
    }
}

/// What a member's etcd said over gRPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EtcdAnswer {
    /// A linearizable read and then a linearizable member list over the same connection, with a leader.
    Healthy(Healthy),
    /// It runs and has no leader.
    NoLeader {
        /// What it said.
        why: String,
    },
    /// It is a learner, which answers local questions only.
    Learner,
}

/// A cluster that serves, as one of its members tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Healthy {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that answered.
    pub answered_by: MemberId,
    /// The leader.
    pub leader: MemberId,
    /// The linearizable member list.
    pub members: Vec<Member>,
    /// The cluster version; `None` while undecided or unknown.
    pub cluster_version: Option<EtcdVersion>,
    /// The server versions that are known.
    pub servers: BTreeMap<MemberId, EtcdVersion>,
    /// Whom the *leader* is connected to (etcd's metric `etcd_network_active_peers`): present in one answer
    /// of the cluster, and only if the leader was asked and told.
    pub connected: Option<BTreeMap<MemberId, Connected>>,
}

/// `GET /members` on a peer port, with the cluster id of its header. Local: may be stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MembersAnswer {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The members as that member knows them.
    pub members: Vec<Member>,
}
