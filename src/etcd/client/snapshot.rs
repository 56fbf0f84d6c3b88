//! etcd's snapshot of one member as it streams, and etcd's own hash of keys and values.

use std::time::Duration;

use bytes::Bytes;

use super::{EtcdClient, EtcdError};

/// The member has so long for each piece: it begins with a commit, and its disk may be slow.
const PIECE_WITHIN: Duration = Duration::from_mins(1);

/// A snapshot on its way: the pages of the member's database, and then their SHA-256 in 32 bytes. What is not asked for
/// stays at the member, but for what HTTP/2's windows hold.
pub struct SnapshotStream(etcd_client::SnapshotStreaming);

/// The next bytes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// The bytes.
    pub bytes: Bytes,
    /// How many follow, as etcd says: the hash is not among them.
    pub remaining: u64,
}

/// etcd's hash of all keys and values up to a revision, at one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// Up to which revision the member had compacted: hashes can be compared only if this is equal as well.
    pub compacted: i64,
}

impl EtcdClient {
    /// Begins a snapshot of this member: it has all that the member had applied by now. Needs the user root once
    /// authentication is on, and no quorum.
    pub async fn snapshot(&mut self) -> Result<SnapshotStream, EtcdError> {
        Self::bounded(PIECE_WITHIN, self.inner.snapshot()).await.map(SnapshotStream)
    }

    /// This member's hash up to a revision, which it has applied and not compacted.
    pub async fn hash_kv(&mut self, revision: i64) -> Result<HashKv, EtcdError> {
        // The whole bucket is read for it.
        let answer = Self::bounded(PIECE_WITHIN, self.inner.hash_kv(revision)).await?;
        Ok(HashKv { hash: answer.hash(), compacted: answer.compact_version() })
    }
}

impl SnapshotStream {
    /// The next piece; `None` when etcd has sent everything, which the hash alone proves.
    pub async fn next(&mut self) -> Result<Option<SnapshotPiece>, EtcdError> {
        let answer = EtcdClient::bounded(PIECE_WITHIN, self.0.message()).await?;
        Ok(answer.map(|answer| SnapshotPiece {
            bytes: Bytes::copy_from_slice(answer.blob()),
            remaining: answer.remaining_bytes(),
        }))
    }
}
