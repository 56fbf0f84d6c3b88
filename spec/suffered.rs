//! What users of other backups of etcd suffered from, each once: revisions that are no one's label, two writers at a
//! time, leases that end meanwhile, requests that are larger than usual, and a cluster that never stops writing.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "names are as we write them")]
#![allow(dead_code, reason = "several specs share the support")]
#![allow(clippy::disallowed_methods, reason = "looks again after a moment")]

#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/scene.rs"]
mod scene;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd::{Etcd, PATIENCE, Start, base64};
use scene::{Scene, keys_at, leases, number_of, started, succeeded};
use serde_json::json;

/// How many write at the same time; each waits for its own answer.
const WRITERS: u64 = 32;

/// Writes as fast as etcd takes it until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    begun: Instant,
    writer: thread::JoinHandle<()>,
}

impl Load {
    fn on(scene: &Scene) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (endpoint, stopped, count) = (scene.endpoint(), stop.clone(), written.clone());
        let writer = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = etcd_client::Client::connect([endpoint], None).await.unwrap();
                let mut writers = tokio::task::JoinSet::new();
                for writer in 0..WRITERS {
                    let (mut client, stopped, count) = (client.kv_client(), stopped.clone(), count.clone());
                    writers.spawn(async move {
                        for number in 0_u64.. {
                            if stopped.load(Ordering::Relaxed) {
                                return;
                            }
                            let key = format!("load-{writer}-{}", number % 50);
                            // Deletions as well: a revision is more than its keys.
                            if number % 10 == 9 {
                                client.delete(key, None).await.unwrap();
                            } else {
                                client.put(key, number.to_string(), None).await.unwrap();
                            }
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                while let Some(ended) = writers.join_next().await {
                    ended.unwrap();
                }
            });
        });
        Self { stop, written, begun: Instant::now(), writer }
    }

    fn has_written(&self, count: u64) {
        let deadline = Instant::now() + PATIENCE * 4;
        while self.written.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < deadline && !self.writer.is_finished(), "the writers do not get on");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends, and tells how many it wrote in a second.
    fn end(self) -> u64 {
        let rate = self.written.load(Ordering::Relaxed) * 1000
            / u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().unwrap();
        rate
    }
}

/// Elsewhere a set is named after the revision at which it was asked for, and its content is newer: deltas do not fit.
#[test]
fn sets_taken_under_writes_have_the_revisions_of_their_content() {
    const SETS: usize = 50;
    let scene = Scene::new();
    let load = Load::on(&scene);
    for _ in 0..SETS {
        scene.save();
    }
    let rate = load.end();
    let sets = scene.catalog().sets;
    assert_eq!(sets.len(), SETS);
    let labels: BTreeSet<i64> = sets.iter().map(|set| set.full.revisions.last).collect();
    assert!(labels.len() > 1, "nothing was written meanwhile");

    // Each is restored, and compared with the hash that etcd told of that revision.
    let told = succeeded(&scene.backup(&["verify", "--deep", "--all"]));

    assert_eq!(
        told.matches("its keys have the hash that etcd told").count(),
        SETS,
        "{rate} writes a second: {told}"
    );
    for set in [&sets[0], &sets[SETS / 2], &sets[SETS - 1]] {
        let last = set.full.revisions.last;
        let (data_dir, output) = scene.restore(&format!("at-{last}"), &["--set", set.set().as_str()]);
        succeeded(&output);
        let restored = started(&data_dir);
        assert_eq!(keys_at(&restored, 0), keys_at(&scene.etcd, last), "{last}");
        restored.stop();
    }
}

/// For a moment two instances may take the backups: elsewhere their deltas overlap, and the restore fails.
#[test]
fn what_two_active_instances_wrote_at_the_same_time_is_one_line() {
    let scene = Scene::new();
    scene.save();
    let objects =
        || scene.set().names.into_iter().filter(|name| name.contains(".delta") && !name.ends_with(".json"));
    scene.followed(|_| {
        scene.followed(|etcd| {
            // Both have begun when both have written down the same change.
            etcd.put("first", b"1");
            let deadline = Instant::now() + PATIENCE;
            while objects().count() < 2 {
                assert!(Instant::now() < deadline, "only one of them writes");
                thread::sleep(Duration::from_millis(50));
            }
            for number in 0..300 {
                etcd.put(&format!("key-{}", number % 40), &vec![b'v'; 700]);
            }
        });
    });
    let last = scene.revision();
    let set = scene.set();
    let shown = succeeded(&scene.backup(&["show", set.set().as_str()]));
    assert!(shown.contains("others have the same changes"), "{shown}");

    for revision in [last, set.deltas[0].last + 1] {
        let (data_dir, output) = scene.restore(&format!("at-{revision}"), &["--to", &revision.to_string()]);
        succeeded(&output);
        let restored = started(&data_dir);
        assert_eq!(keys_at(&restored, 0), keys_at(&scene.etcd, revision), "{revision}");
        restored.stop();
    }
}

/// Where a running etcd replays, leases of old end in the middle of it: revisions go wrong, or changes are dropped.
#[test]
fn a_lease_that_has_ended_long_ago_ends_nothing_while_changes_are_replayed() {
    let scene = Scene::new();
    scene.etcd.call("lease/grant", &json!({"ID": 7, "TTL": 2}));
    scene.etcd.call("kv/put", &json!({"key": base64(b"short"), "value": base64(b"1"), "lease": 7}));
    scene.save();
    let mut before = 0;
    scene.followed(|etcd| {
        etcd.call("lease/grant", &json!({"ID": 8, "TTL": 2}));
        etcd.call("kv/put", &json!({"key": base64(b"shorter"), "value": base64(b"1"), "lease": 8}));
        before = scene.revision();
        let deadline = Instant::now() + PATIENCE;
        while !keys_at(etcd, 0).is_empty() {
            assert!(Instant::now() < deadline, "the leases do not end");
            thread::sleep(Duration::from_millis(50));
        }
        etcd.put("after", b"1");
    });
    let last = scene.revision();
    assert!(last >= before + 2, "the ends of leases are changes like others");

    for revision in [before, last] {
        let (data_dir, output) = scene.restore(&format!("at-{revision}"), &["--to", &revision.to_string()]);
        succeeded(&output);
        let restored = started(&data_dir);
        // Asked for by revision: once it serves, a lease that came back ends as it should.
        assert_eq!(keys_at(&restored, revision), keys_at(&scene.etcd, revision), "at {revision}");
        restored.stop();
    }
    assert_eq!(leases(&scene.etcd).len(), 0);
}

/// Values of 10 MiB, transactions of ten thousand keys, a database behind its quota, and a store of 1 MiB a second.
#[test]
fn requests_and_databases_that_are_larger_than_usual_are_backed_up_and_restored() {
    let larger = ["--max-request-bytes=16777216", "--max-txn-ops=20000"];
    let scene = Scene::with(&larger);
    let large = |byte: u8| vec![byte; 10 << 20];
    scene.etcd.put("large", &large(b'a'));
    scene.save();
    scene.followed(|etcd| {
        etcd.put("large", &large(b'b'));
        let put = |number: u32| {
            json!({"request_put": {"key": base64(format!("txn-{number:05}").as_bytes()), "value": base64(b"v")}})
        };
        etcd.call("kv/txn", &json!({"success": (0..10_000).map(put).collect::<Vec<_>>()}));
        etcd.put("large", &large(b'c'));
    });
    let last = scene.revision();
    let asked = json!({"key": base64(b"txn-"), "range_end": base64(b"txn."), "count_only": true});
    for revision in [last - 1, last] {
        let (data_dir, output) = scene.restore(&format!("at-{revision}"), &["--to", &revision.to_string()]);
        succeeded(&output);
        // A quota that the database is behind already stops no restore, and no start.
        let small = ["--quota-backend-bytes=1048576"];
        let restored = Etcd::start(&Start::alone("3.6", &data_dir).with(&small).with(&larger));
        assert_eq!(
            keys_at(&restored, revision).get(&base64(b"large")),
            keys_at(&scene.etcd, revision).get(&base64(b"large"))
        );
        assert_eq!(number_of(&restored.call("kv/range", &asked)["count"]), 10_000);
        restored.stop();
    }
    // It takes as long as it takes, and no deadline ends it.
    scene.etcd.put("incompressible", &noise(6 << 20));
    let slow = ["save", "--etcd", &scene.endpoint(), "--upload-bytes-per-second", "1048576"];
    succeeded(&scene.backup(&slow));
    let told = succeeded(&scene.backup(&["verify", "--deep"]));
    assert!(told.contains(&format!("whole up to revision {}", scene.revision())), "{told}");
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).unwrap()
    };
    (0..bytes).map(|_| next()).collect()
}

/// In CI some seconds of it and five revisions; long: minutes, and twenty.
#[test]
fn revisions_of_a_cluster_that_never_stops_writing_are_restored_key_by_key() {
    let (writes, revisions) = if cfg!(feature = "long") { (400_000, 20) } else { (12_000, 5) };
    let scene = Scene::with(&["--snapshot-count=20000"]);
    let load = Load::on(&scene);
    load.has_written(1000);
    scene.save();
    let first = scene.set().full.revisions.last;
    let mut rate = 0;
    scene.followed(|_| {
        load.has_written(writes);
        rate = load.end();
    });
    let last = scene.revision();
    let seed = u64::from(std::process::id());
    let deltas = scene.set().deltas.len();
    println!("{rate} writes a second, revisions {first} to {last}, {deltas} deltas, seed {seed}");

    for number in 0..revisions {
        let part = seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let revision = first + i64::try_from(part).unwrap() % (last - first + 1);
        let (data_dir, output) = scene.restore(&format!("at-{number}"), &["--to", &revision.to_string()]);
        succeeded(&output);
        let restored = started(&data_dir);
        assert_eq!(keys_at(&restored, 0), keys_at(&scene.etcd, revision), "at {revision}, seed {seed}");
        restored.stop();
        std::fs::remove_dir_all(data_dir).unwrap();
    }
}
