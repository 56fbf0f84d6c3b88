//! What fuzzing calls: one function per parser, for any bytes. None may panic, run for ever or need more
//! memory than a few times what it is given.
//!
//! `fuzz/` has a target for each; unit tests call them with files of real etcd in which a few bytes are
//! changed.

use std::ops::ControlFlow;

use super::bolt::Db;
use super::bolt::pages;
use super::membership::{initial_cluster, members_file};
use super::snap::Snapshot;
use super::snapshot_file::{self, Shape};
use super::v2store::V2Store;
use super::wal::{self, Fold, Start};

/// A database: every page, and every way to ask a bucket.
pub fn bolt(bytes: &[u8]) {
    let Ok(db) = Db::over(bytes) else { return };
    let _ = pages::survey(&db, &mut ());
    for (name, bucket) in db.buckets().unwrap_or_default() {
        let _ = (bucket.get(&name), bucket.is_empty(), bucket.first(), bucket.last(), bucket.entries(9));
        let _ = bucket.visit(&mut |_, _, _| ControlFlow::<()>::Continue(()));
    }
}

/// A log of two files: the last two bytes say how long the first one is. A file of a log ends with zeros.
pub fn wal(bytes: &[u8]) {
    let Some((rest, length)) = bytes.split_last_chunk() else { return };
    let (one, two) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    for start in [Start::First, Start::After(3)] {
        let mut fold = Fold::default();
        let tail = wal::read_bytes(&[one, two], start, &mut |located| match fold.take(located) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let summary = fold.finish(tail);
        let mut store = V2Store::default();
        summary.committed().for_each(|change| store.apply(&change.what));
    }
}

/// A snapshot file of a member, and the store in it.
pub fn snap(bytes: &[u8]) {
    if let Ok(snapshot) = Snapshot::decode(bytes) {
        v2_store(snapshot.store);
    }
}

/// A file of `etcdctl snapshot save`.
pub fn snapshot_file(bytes: &[u8]) {
    let _ = snapshot_file::check(bytes, &mut |_| {});
    let pages = usize::try_from(Shape::of(bytes.len() as u64).pages).ok();
    bolt(pages.and_then(|pages| bytes.get(..pages)).unwrap_or_default());
}

/// The JSON of the old store.
pub fn v2_store(bytes: &[u8]) {
    let _ = V2Store::from_json(bytes);
}

/// A list of members, as it is typed and as it stands in a file.
pub fn members(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (initial_cluster::parse(text), members_file::parse(text));
}

#[cfg(test)]
pub(crate) mod tests;
