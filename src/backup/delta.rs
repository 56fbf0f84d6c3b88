//! The content of a delta: a head, then one record for each revision, in order and without a gap
//! (docs/backup-format.md#delta). Records are protobuf messages with their length in front, so that they are read one
//! at a time, whatever the size of the whole.

use prost::Message;

mod records;

pub use records::{RecordError, Records};

/// How a delta begins.
pub const HEAD: &[u8; 16] = b"etcd-delta 1\n\0\0\0";

/// What follows the head: the length of each record in bytes, as a varint, and the record.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// The revision; each is one more than that of the record before.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// When the change arrived here, in milliseconds since 1970: what `restore --to TIME` goes by.
    #[prost(int64, tag = "2")]
    pub at_unix_ms: i64,
    /// The changes of this revision in etcd's order: the place is the sub-revision.
    #[prost(message, repeated, tag = "3")]
    pub changes: Vec<Change>,
    /// Leases that these changes are the first of this set to name: a watch does not tell of leases.
    #[prost(message, repeated, tag = "4")]
    pub leases: Vec<Lease>,
}

/// A key that was written or deleted.
#[derive(Clone, PartialEq, Message)]
pub struct Change {
    /// Whether the key was deleted; then only `key` counts.
    #[prost(bool, tag = "1")]
    pub deleted: bool,
    /// The key.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    /// The value.
    #[prost(bytes = "vec", tag = "3")]
    pub value: Vec<u8>,
    /// The revision in which the key was created.
    #[prost(int64, tag = "4")]
    pub create_revision: i64,
    /// How often it was written since then.
    #[prost(int64, tag = "5")]
    pub version: i64,
    /// The lease it hangs on; 0 = none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

/// A lease.
#[derive(Clone, PartialEq, Message)]
pub struct Lease {
    /// Its id.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// The time it was granted for, in seconds.
    #[prost(int64, tag = "2")]
    pub seconds: i64,
}
