//! Why nothing was restored.

use std::path::PathBuf;

use crate::datadir::bolt;
use crate::datadir::seed::SeedError;
use crate::etcd::version::EtcdVersion;
use crate::report::Complaint;

/// Why nothing was restored. Nothing is left behind but empty directories, and nothing that was there has changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Nothing tells whether the file is complete.
    #[error("{} has no hash at its end", path.display())]
    NoHash {
        /// The snapshot.
        path: PathBuf,
    },
    /// The file is not what was saved.
    #[error("{} is not what was saved: its hash is {stored}, its pages have {computed}", path.display())]
    WrongHash {
        /// The snapshot.
        path: PathBuf,
        /// The hash in the file.
        stored: String,
        /// The hash of the pages.
        computed: String,
    },
    /// The file is no database.
    #[error("{} is no snapshot of etcd: {source}", path.display())]
    Unreadable {
        /// The snapshot.
        path: PathBuf,
        /// Why not.
        source: bolt::Error,
    },
    /// There is no such revision.
    #[error("revision {revision} cannot be raised by {by}")]
    RevisionTooHigh {
        /// The last revision of the snapshot.
        revision: i64,
        /// By how much.
        by: u64,
    },
    /// Versions are lowered here, never raised.
    #[error("the snapshot is of a cluster of version {found}, which is lower than {target}")]
    NotLower {
        /// The version of the cluster in the snapshot.
        found: EtcdVersion,
        /// What was asked for.
        target: EtcdVersion,
    },
    /// The member cannot be made.
    #[error(transparent)]
    Seed(#[from] SeedError),
}

impl RestoreError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        match self {
            Self::NoHash { .. } => Complaint::refused(
                what,
                "a file that was cut short, or copied while etcd wrote to it, cannot be told from a good one; nothing was written",
                "take a file of `etcdctl snapshot save`; a copy of a stopped member's member/snap/db takes --skip-hash-check",
            ),
            Self::WrongHash { .. } => Complaint::refused(
                what,
                "keys in it may be lost or changed; nothing was written",
                "take another snapshot; if there is none, --skip-hash-check restores what can be read",
            ),
            Self::Unreadable { .. } => Complaint::refused(
                what,
                "etcd would not start on it; nothing was written",
                "take another snapshot; look at this one with `etcdutl snapshot status`",
            ),
            Self::RevisionTooHigh { .. } => Complaint::refused(
                what,
                "revisions have 63 bits; nothing was written",
                "pass a smaller --bump-revision: more than was written since the snapshot is enough",
            ),
            Self::NotLower { found, .. } => Complaint::refused(
                what,
                "a version is lowered for an older etcd; raising it is etcd's own task; nothing was written",
                format!(
                    "leave --target-version out; etcd {}.{} and the next minor release start on it",
                    found.major, found.minor
                ),
            ),
            Self::Seed(error) => error.complaint(),
        }
    }
}
