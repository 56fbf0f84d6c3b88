//! The rows of the launch table. Their story is told once, in docs/contract.md#launch; a test compares
//! the two.

use std::fmt;

use serde::{Serialize, Serializer};

/// Which row of the launch table applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// 0: etcd already runs on this data.
    AlreadyRunning = 0,
    /// 1: no disk of ours to decide about.
    UnusableDisk = 1,
    /// 2: an operator asked for a restore.
    RestoreRequested = 2,
    /// 3: the binary does not fit the data or the cluster.
    WrongVersion = 3,
    /// 4: a member of a healthy cluster.
    ListedMember = 4,
    /// 5: the cluster removed this member while it was away.
    RemovedMember = 5,
    /// 6: a restored cluster replaced the one on this disk.
    ReplacedByRestore = 6,
    /// 7: another cluster has quorum.
    WrongCluster = 7,
    /// 8: a member whose cluster does not serve: its start may be what is missing.
    QuorumMissing = 8,
    /// 9: damaged, and the cluster does not know this instance.
    DamagedNotListed = 9,
    /// 10: damaged, and the cluster still lists this instance.
    DamagedListed = 10,
    /// 11: damaged, and no cluster to get the data from.
    DamagedAlone = 11,
    /// 12: empty, and two clusters answer.
    TwoClusters = 12,
    /// 13: empty, and the binary does not fit the cluster.
    JoinerIncompatible = 13,
    /// 14: empty, and a first boot that is under way counts on this disk.
    FollowFirstBoot = 14,
    /// 15: empty, and the cluster does not know this instance.
    NotListed = 15,
    /// 16: empty, and the cluster waits for this instance to start.
    ListedNeverStarted = 16,
    /// 17: empty, and the cluster lists this instance as a member it once had.
    ListedOtherwise = 17,
    /// 18: empty everywhere: the first boot.
    FirstBoot = 18,
    /// 19: empty everywhere, but a backup exists.
    BackupExists = 19,
    /// 20: nothing to go by yet.
    NothingToGoBy = 20,
}

impl Row {
    /// All rows, in order.
    pub const ALL: [Self; 21] = [
        Self::AlreadyRunning,
        Self::UnusableDisk,
        Self::RestoreRequested,
        Self::WrongVersion,
        Self::ListedMember,
        Self::RemovedMember,
        Self::ReplacedByRestore,
        Self::WrongCluster,
        Self::QuorumMissing,
        Self::DamagedNotListed,
        Self::DamagedListed,
        Self::DamagedAlone,
        Self::TwoClusters,
        Self::JoinerIncompatible,
        Self::FollowFirstBoot,
        Self::NotListed,
        Self::ListedNeverStarted,
        Self::ListedOtherwise,
        Self::FirstBoot,
        Self::BackupExists,
        Self::NothingToGoBy,
    ];

    /// The plans it may lead to, by name; docs/contract.md#launch has them in bold.
    #[cfg(test)]
    pub(crate) const fn plans(self) -> &'static [&'static str] {
        match self {
            Self::AlreadyRunning
            | Self::UnusableDisk
            | Self::WrongVersion
            | Self::WrongCluster
            | Self::TwoClusters
            | Self::JoinerIncompatible => &["refuse"],
            Self::RestoreRequested => &["restore", "wait"],
            Self::ListedMember => &["validate", "start"],
            Self::RemovedMember => &["rejoin", "refuse", "wait"],
            Self::ReplacedByRestore => &["rejoin", "wait"],
            Self::QuorumMissing => &["validate", "start", "refuse"],
            Self::DamagedNotListed => &["move-aside", "wait"],
            Self::DamagedListed | Self::ListedOtherwise => &["replace", "wait", "refuse"],
            Self::DamagedAlone | Self::BackupExists => &["restore", "refuse", "wait"],
            Self::FollowFirstBoot | Self::FirstBoot => &["bootstrap", "wait"],
            Self::NotListed => &["join", "wait"],
            Self::ListedNeverStarted => &["resume-join", "wait"],
            Self::NothingToGoBy => &["wait"],
        }
    }

    /// Its number in docs/contract.md#launch.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}
