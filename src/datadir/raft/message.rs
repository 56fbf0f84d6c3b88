//! The messages that are written, as etcd's own encoder writes them: every number is there, in the order
//! of the fields' numbers.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Metadata {
    #[prost(uint64, optional, tag = "1")]
    pub(super) member_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) cluster_id: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Entry {
    #[prost(uint64, optional, tag = "1")]
    pub(super) kind: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) term: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) index: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) data: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct HardState {
    #[prost(uint64, optional, tag = "1")]
    pub(super) term: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) vote: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) commit: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct ConfState {
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub(super) voters: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub(super) learners: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub(super) voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    pub(super) learners_next: Vec<u64>,
    #[prost(bool, optional, tag = "5")]
    pub(super) auto_leave: Option<bool>,
}

/// In a log the index comes first, in a snapshot file the state of the membership.
#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct SnapshotMark {
    #[prost(uint64, optional, tag = "1")]
    pub(super) index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) term: Option<u64>,
    #[prost(message, optional, tag = "3")]
    pub(super) conf_state: Option<ConfState>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct SnapshotMetadata {
    #[prost(message, optional, tag = "1")]
    pub(super) conf_state: Option<ConfState>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) index: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) term: Option<u64>,
}

/// What a snapshot file holds, below its checksum.
#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct SnapshotFile {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(in super::super) data: Option<Vec<u8>>,
    #[prost(message, optional, tag = "2")]
    pub(in super::super) metadata: Option<SnapshotMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct ConfChange {
    #[prost(uint64, optional, tag = "1")]
    pub(super) id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) kind: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) member_id: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) context: Option<Vec<u8>>,
}
