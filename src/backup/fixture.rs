//! Sets for tests: manifests that say what a test needs, and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;

use super::delta::{HEAD, Record};
use super::layout::{self, SetId};
use super::manifest::{
    Cluster, Compression, Delta, Encryption, Full, Object, Revisions, VERSION, Verification,
};
use super::seal::sealed;
use super::store::Store;

/// `2026-11-26T10:00:00Z` and so many minutes.
pub(super) fn minute(minutes: i64) -> Timestamp {
    let hour: Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
    hour + jiff::SignedDuration::from_mins(minutes)
}

/// A set begun in that minute.
pub(super) fn set(minutes: i64) -> SetId {
    SetId::new(minute(minutes), [0, 0, 0, 1])
}

/// An object that is not packed.
pub(super) fn object(name: String, content: &[u8]) -> Object {
    let sha256 = crate::job::config::hex(ring::digest::digest(&ring::digest::SHA256, content).as_ref());
    let bytes = content.len() as u64;
    Object {
        name,
        bytes,
        sha256: sha256.clone(),
        compression: Compression::None,
        encryption: Encryption::None,
        content_bytes: bytes,
        content_sha256: sha256,
    }
}

/// A full snapshot begun in that minute, ended in the next.
pub(super) fn full(minutes: i64, last: i64) -> Full {
    let set = set(minutes);
    Full {
        version: VERSION,
        cluster: Cluster {
            id: "cdf818194e3a8c32".parse().unwrap(),
            deployment: Some("etcd".to_owned()),
            etcd: "3.6.16".to_owned(),
            member: "8e9e05c52164694d".parse().unwrap(),
            members: vec![],
            properties: BTreeMap::new(),
        },
        revisions: Revisions { compacted: 0, last },
        begun: minute(minutes),
        ended: minute(minutes + 1),
        hash: None,
        keys: None,
        object: object(layout::full_object(&set, ""), format!("full {last}").as_bytes()),
        written_by: "etcd-backup test".to_owned(),
        set,
    }
}

/// A delta of these revisions, which ended in that minute.
pub(super) fn delta(of: i64, first: i64, last: i64, ended: i64) -> (String, Delta) {
    let set = set(of);
    let stem = layout::delta_stem(&set, first, last, [0, 0, 0, u8::try_from(ended % 256).unwrap()]);
    let content = format!("delta {first} {last}");
    let delta = Delta {
        version: VERSION,
        cluster_id: "cdf818194e3a8c32".parse().unwrap(),
        first,
        last,
        events: 1,
        begun: minute(ended - 1),
        ended: minute(ended),
        previous: layout::full_object(&set, ""),
        object: object(layout::delta_object(&stem, ""), content.as_bytes()),
        written_by: "etcd-backup test".to_owned(),
        set,
    };
    (layout::delta_manifest(&stem), delta)
}

/// Puts a full snapshot into a store.
pub(super) async fn put_full(store: &Store, full: &Full) {
    let content = format!("full {}", full.revisions.last);
    store.put_new(&full.object.name, Bytes::from(content)).await.unwrap();
    store.put_new(&layout::full_manifest(&full.set), sealed(full)).await.unwrap();
}

/// Puts a delta into a store.
pub(super) async fn put_delta(store: &Store, (name, delta): &(String, Delta)) {
    let content = format!("delta {} {}", delta.first, delta.last);
    store.put_new(&delta.object.name, Bytes::from(content)).await.unwrap();
    store.put_new(name, sealed(delta)).await.unwrap();
}

/// Puts the note of a verification into a store.
pub(super) async fn put_verification(store: &Store, set: &SetId, at: Timestamp, revision: i64) {
    let note =
        Verification { version: VERSION, set: set.clone(), at, deep: true, revision, objects: 1, bytes: 1 };
    let name = layout::verification(set, at, [0; 4]);
    store.put_new(&name, sealed(&note)).await.unwrap();
}

/// Writes records one after the other: a head, then each with its length.
pub(super) struct RecordWriter {
    bytes: Vec<u8>,
}

impl Default for RecordWriter {
    fn default() -> Self {
        Self { bytes: HEAD.to_vec() }
    }
}

impl RecordWriter {
    /// Adds a record.
    pub(super) fn put(&mut self, record: &Record) {
        self.bytes.reserve(record.encoded_len() + 10);
        record.encode_length_delimited(&mut self.bytes).expect("a vector grows");
    }

    /// What has been written since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
