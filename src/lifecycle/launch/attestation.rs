//! What launchers tell each other on `/state`, and the words it is told in.
//!
//! Bootstrap rests on this: a new cluster is made only when every instance of the link says, in its own
//! words and now, that it has no data (docs/contract.md#bootstrap).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use ring::digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::records::{BootstrapRecord, RestoreRecord};
use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::job::config::hex;
use crate::job::properties::BootstrapMethod;

/// BOSH's id of an instance (`spec.id`), or its address in manual links, which have no ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for InstanceId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Fingerprint of who is in the link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkHash(pub String);

impl fmt::Display for LinkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A random number on a disk that never had a member: another disk has another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

/// Why a text is not a nonce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a nonce (32 lower-case hexadecimal digits)")]
pub struct NoNonce(String);

impl Nonce {
    /// A nonce of sixteen random bytes.
    pub fn of(random: [u8; 16]) -> Self {
        Self(hex(&random))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Nonce {
    type Err = NoNonce;

    fn from_str(text: &str) -> Result<Self, NoNonce> {
        let fits = text.len() == 32
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if fits { Ok(Self(text.to_owned())) } else { Err(NoNonce(text.to_owned())) }
    }
}

impl TryFrom<String> for Nonce {
    type Error = NoNonce;

    fn try_from(text: String) -> Result<Self, NoNonce> {
        text.parse()
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

/// etcd's `initial-cluster-token`. Ids of members and cluster depend on it, so a disk of another first
/// boot can never merge with this cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterToken(String);

impl ClusterToken {
    /// The token of the cluster that the disks with these nonces bootstrap in this deployment.
    pub fn of<'a>(deployment: &str, nonces: impl IntoIterator<Item = &'a Nonce>) -> Self {
        let sorted: BTreeSet<&Nonce> = nonces.into_iter().collect();
        let mut context = digest::Context::new(&digest::SHA256);
        // A line each: no deployment name can be mistaken for part of a nonce.
        context.update(deployment.as_bytes());
        for nonce in sorted {
            context.update(b"\n");
            context.update(nonce.0.as_bytes());
        }
        Self(hex(context.finish().as_ref()))
    }

    /// The token as etcd takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of disk an instance has, without details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskClass {
    /// A persistent disk is due and not mounted.
    Unmounted,
    /// Names that are neither etcd's nor ours.
    Foreign,
    /// No member.
    Empty,
    /// A start that died early.
    Partial,
    /// A member etcd must not be started on.
    Damaged,
    /// A member.
    Data,
}

impl DiskClass {
    /// Whether no member is on it.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::Empty | Self::Partial)
    }
}

impl fmt::Display for DiskClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmounted => "unmounted",
            Self::Foreign => "foreign",
            Self::Empty => "empty",
            Self::Partial => "partial",
            Self::Damaged => "damaged",
            Self::Data => "data",
        })
    }
}

/// How far a launcher is with what it decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Nothing decided yet.
    New,
    /// Under way: validating, restoring, joining, waiting for etcd to serve.
    Progress,
    /// etcd serves.
    Success,
    /// It will not get further without a person.
    Failed,
}

/// The version of [`PeerState`] this release writes. A newer one with fields we do not know is read all
/// the same: instances of two releases talk to each other during every upgrade.
pub const STATE_VERSION: u32 = 1;

/// A launcher's `/state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Version of this document.
    pub version: u32,
    /// The instance that answers.
    pub instance: InstanceId,
    /// What its disk is.
    pub disk: DiskClass,
    /// Its nonce, only as long as its disk never had a member and its VM knows of none: this is the
    /// attestation.
    #[serde(default)]
    pub nonce: Option<Nonce>,
    /// How it would make a first member.
    #[serde(default)]
    pub bootstrap_method: BootstrapMethod,
    /// The first boot it prepared or took part in.
    #[serde(default)]
    pub bootstrap: Option<BootstrapRecord>,
    /// The restore that made its cluster.
    #[serde(default)]
    pub restored: Option<RestoreRecord>,
    /// The id of the restore request on its disk, if a valid one is there and not yet done.
    #[serde(default)]
    pub restore_request: Option<Uuid>,
    /// The cluster its disk belongs to.
    #[serde(default)]
    pub cluster_id: Option<ClusterId>,
    /// Its member id on disk.
    #[serde(default)]
    pub member_id: Option<MemberId>,
    /// Where its peers reach it.
    pub peer_urls: BTreeSet<PeerUrl>,
    /// Fingerprint of its link.
    pub link_hash: LinkHash,
    /// The peer URLs in its link.
    #[serde(default)]
    pub link: BTreeSet<PeerUrl>,
    /// The peer URLs that were ever in its link.
    #[serde(default)]
    pub once_in_link: BTreeSet<PeerUrl>,
    /// What it decided, by the name of the plan.
    pub plan: String,
    /// Which row of its table that was.
    pub row: u8,
    /// How far it is.
    pub progress: Progress,
    /// Since when, in seconds since 1970.
    pub since_unix_secs: u64,
}

impl PeerState {
    /// Whether it says that its disk never had a member.
    pub fn attests(&self) -> Option<&Nonce> {
        if self.disk.is_empty() { self.nonce.as_ref() } else { None }
    }
}

/// Nonces by instance: what a first boot is made of.
pub type Nonces = BTreeMap<InstanceId, Nonce>;
