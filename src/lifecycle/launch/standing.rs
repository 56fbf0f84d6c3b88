//! How far the disk of this instance is, in raft's terms: what the survivors of a cluster are compared by
//! (docs/contract.md#survivors).

use std::io;

use serde::{Deserialize, Serialize};

use crate::datadir::wal::{Log, Tail, summarise};
use crate::datadir::{Found, classify};
use crate::etcd::id::ClusterId;
use crate::job::paths::Paths;

/// How far a disk is. Ordered as raft orders logs: whose last entry has the higher term, then the higher index, has
/// everything that was ever agreed on, as far as any of them has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Standing {
    /// The term of the last entry.
    pub term: u64,
    /// The index of the last entry.
    pub index: u64,
    /// Whose it is.
    pub cluster_id: ClusterId,
}

/// Looks at the disk; `None` if there is no data that could be read to its end. Also while etcd runs: what it is
/// writing in this moment may not be counted yet.
pub fn standing(paths: &Paths) -> io::Result<Option<Standing>> {
    let Found::Data(identity) = classify(&paths.data_dir(), paths.wal_dir())? else { return Ok(None) };
    let summary = summarise(&Log::open(&paths.log_dir())?)?;
    if !matches!(summary.tail, Tail::Clean { .. } | Tail::Torn { .. }) {
        return Ok(None);
    }
    let last = summary.last.max(summary.newest_snapshot().map(|mark| mark.id));
    Ok(last.map(|last| Standing { term: last.term, index: last.index, cluster_id: identity.cluster_id }))
}
