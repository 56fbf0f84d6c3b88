use bytes::Bytes;

use super::*;
use crate::backup::config::StoreConfig;
use crate::backup::fixture::{delta, full, minute, put_delta, put_full, put_verification, set};
use crate::backup::seal::sealed;

fn store(directory: &tempfile::TempDir) -> Store {
    let url = format!("file://{}", directory.path().display());
    Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap()
}

#[tokio::test]
async fn sets_are_told_with_what_their_names_tell_the_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    for (minutes, last) in [(0, 10), (60, 30)] {
        put_full(&store, &full(minutes, last)).await;
    }
    let (first, second) = (delta(0, 11, 15, 5), delta(0, 16, 20, 6));
    put_delta(&store, &second).await;
    put_delta(&store, &first).await;
    put_verification(&store, &set(0), minute(30), 20).await;

    let catalog = catalog(&store).await.unwrap();

    let sets: Vec<_> =
        catalog.sets.iter().map(|entry| (entry.set().clone(), entry.last_revision())).collect();
    assert_eq!(sets, [(set(60), 30), (set(0), 20)]);
    assert_eq!(catalog.sets[1].verified, [minute(30)]);
    assert_eq!(catalog.sets[1].broken, None);
    let loaded = load(&store, &catalog.sets[1]).await.unwrap();
    assert_eq!(loaded.deltas, [first, second]);
    assert_eq!(loaded.verifications.len(), 1);
}

#[tokio::test]
async fn an_empty_store_has_no_sets() {
    let directory = tempfile::tempdir().unwrap();

    assert_eq!(catalog(&store(&directory)).await, Ok(Catalog::default()));
}

#[tokio::test]
async fn what_was_interrupted_is_no_set() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    put_full(&store, &full(0, 10)).await;
    // Only the object of another full, and only the object of a delta.
    store.put_new(&layout::full_object(&set(60), ".zst"), Bytes::from_static(b"12345")).await.unwrap();
    store.put_new(&delta(0, 11, 15, 5).1.object.name, Bytes::from_static(b"1")).await.unwrap();

    let catalog = catalog(&store).await.unwrap();

    assert_eq!(catalog.sets.len(), 1);
    assert_eq!(catalog.sets[0].deltas, []);
    let unfinished: Vec<_> = catalog.unfinished.iter().map(|one| (one.set.clone(), one.bytes)).collect();
    assert_eq!(unfinished, [(set(60), 5)]);
}

#[tokio::test]
async fn a_set_whose_object_is_gone_or_has_another_size_is_called_broken() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    for minutes in [0, 60] {
        put_full(&store, &full(minutes, 10)).await;
    }
    std::fs::remove_file(directory.path().join(full(0, 10).object.name)).unwrap();
    std::fs::write(directory.path().join(full(60, 10).object.name), b"short").unwrap();

    let broken: Vec<_> = catalog(&store).await.unwrap().sets.into_iter().map(|entry| entry.broken).collect();

    assert_eq!(
        broken,
        [
            Some("v1/20261126T110000Z-00000001/full.db has 5 bytes where its manifest says 7".to_owned()),
            Some("v1/20261126T100000Z-00000001/full.db is not in the store".to_owned()),
        ]
    );
}

#[tokio::test]
async fn a_manifest_that_cannot_be_understood_hides_no_other_set() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    put_full(&store, &full(0, 10)).await;
    store.put_new(&layout::full_manifest(&set(60)), Bytes::from_static(b"{")).await.unwrap();
    let newer = Full { version: 2, ..full(120, 10) };
    put_full(&store, &newer).await;
    let moved = full(0, 10);
    store.put_new(&layout::full_manifest(&set(180)), sealed(&moved)).await.unwrap();

    let catalog = catalog(&store).await.unwrap();

    assert_eq!(catalog.sets.len(), 1);
    let told: Vec<String> = catalog.unreadable.iter().map(|(set, why)| format!("{set}: {why}")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("does not end with a hash of itself"), "{told:?}");
    assert!(told[1].contains("version 2; this release knows 1"), "{told:?}");
    assert!(told[2].contains("of set 20261126T100000Z-00000001"), "{told:?}");
}

#[tokio::test]
async fn a_delta_that_is_listed_late_shortens_its_set_until_it_is_there_and_breaks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    put_full(&store, &full(0, 10)).await;
    put_delta(&store, &delta(0, 11, 15, 5)).await;
    put_delta(&store, &delta(0, 21, 25, 7)).await;
    let reached = async || {
        let entry = catalog(&store).await.unwrap().sets.remove(0);
        assert_eq!(entry.broken, None);
        entry.last_revision()
    };
    assert_eq!(reached().await, 15);

    put_delta(&store, &delta(0, 16, 20, 6)).await;

    assert_eq!(reached().await, 25);
}
