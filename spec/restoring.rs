//! Restoring from a store: what comes out is what etcd itself answers at that revision, and what is broken is named
//! before anything is touched.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, reason = "several specs share the support")]
#![allow(clippy::disallowed_methods, reason = "damage is written as it would be found")]

#[path = "support/etcd.rs"]
mod etcd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use etcd::{Etcd, PATIENCE, PEER_URL, SERIES, Start, base64, number};
use etcd_release::backup::catalog::{Catalog, Entry, catalog};
use etcd_release::backup::cluster::Cluster;
use etcd_release::backup::codec::{Packing, Recipients};
use etcd_release::backup::config::StoreConfig;
use etcd_release::backup::deltas::{Base, End, Following, Limits, follow};
use etcd_release::backup::manifest::Compression;
use etcd_release::backup::store::Store;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A real etcd, and a store with its backups.
struct Scene {
    root: TempDir,
    etcd: Etcd,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        Self::of("3.6")
    }

    fn of(series: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let etcd = Etcd::start(&Start::alone(series, &root.path().join("data")));
        let url = format!("file://{}/store", root.path().display());
        let store = Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap();
        Self { root, etcd, store }
    }

    fn endpoint(&self) -> String {
        format!("http://{}:2379", self.etcd.address)
    }

    fn backup(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_etcd-backup"))
            .args(args)
            .args(["--store", self.store.url()])
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn save(&self) {
        succeeded(&self.backup(&["save", "--etcd", &self.endpoint()]));
    }

    fn revision(&self) -> i64 {
        number(&self.etcd.call("maintenance/hash", &json!({}))["header"]["revision"]).cast_signed()
    }

    /// Follows the cluster while `act` runs, until everything is in the store.
    fn followed(&self, act: impl FnOnce(&Etcd)) {
        let (acted, has_acted) = tokio::sync::oneshot::channel();
        let (store, endpoint) = (self.store.clone(), self.endpoint());
        let following = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(follow_until(&store, &endpoint, has_acted))
        });
        act(&self.etcd);
        acted.send(self.revision()).unwrap();
        let (base, end) = following.join().unwrap();
        assert_eq!(end, End::Stopped);
        assert_eq!(base.last, self.revision());
    }

    fn catalog(&self) -> Catalog {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(catalog(&self.store)).unwrap()
    }

    fn set(&self) -> Entry {
        self.catalog().sets.remove(0)
    }

    /// `etcd-backup restore` into a new directory.
    fn restore(&self, name: &str, more: &[&str]) -> (PathBuf, Output) {
        let data_dir = self.root.path().join(name);
        let mut args = vec!["restore", "--name", "m1", "--initial-cluster-token", "restored"];
        let cluster = format!("m1={PEER_URL}");
        args.extend(["--initial-cluster", &cluster, "--data-dir", data_dir.to_str().unwrap()]);
        args.extend(more);
        let output = self.backup(&args);
        (data_dir, output)
    }

    fn object(&self, name: &str) -> PathBuf {
        self.root.path().join("store").join(name)
    }
}

/// Follows until the revision that is told has got into the store.
async fn follow_until(
    store: &Store,
    endpoint: &str,
    wanted: tokio::sync::oneshot::Receiver<i64>,
) -> (Base, End) {
    let cluster = Cluster::at(&[endpoint.parse().unwrap()], None).unwrap();
    let packing =
        Packing { compression: Compression::Zstd, recipients: Recipients::default(), bytes_per_second: None };
    let following = Following {
        cluster: &cluster,
        store,
        packing: &packing,
        // Small enough for many of them.
        limits: Limits { period: Duration::from_millis(300), bytes: 20_000 },
        tell: &|_| {},
    };
    let newest = catalog(store).await.unwrap();
    let base = Base::newest(&newest, newest.sets[0].full.cluster.id).unwrap();
    let stop = async {
        let last = wanted.await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while catalog(store).await.unwrap().sets[0].last_revision() < last {
            assert!(Instant::now() < deadline, "revision {last} does not get into the store");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    follow(&following, base, stop).await
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every key with its revisions, version, lease and value, as etcd answers at a revision.
fn keys_at(etcd: &Etcd, revision: i64) -> BTreeMap<String, Value> {
    let all = json!({"key": base64(b"\0"), "range_end": base64(b"\0"), "revision": revision});
    let answer = etcd.call("kv/range", &all);
    let keys = answer["kvs"].as_array().cloned().unwrap_or_default();
    keys.into_iter().map(|key| (key["key"].as_str().unwrap().to_owned(), key)).collect()
}

/// Ids and granted seconds of all leases.
fn leases(etcd: &Etcd) -> BTreeMap<String, String> {
    let listed = etcd.call("lease/leases", &json!({}));
    let ids = listed["leases"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    ids.iter()
        .map(|lease| {
            let told = etcd.call("lease/timetolive", &json!({"ID": lease["ID"]}));
            (text(&lease["ID"]), text(&told["grantedTTL"]))
        })
        .collect()
}

/// What a program does to keys: writes, deletes, transactions, leases; different each time `seed` is.
fn act(etcd: &Etcd, seed: u64, count: u64) {
    let mut state = seed;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for number in 0..count {
        let key = format!("key-{}", draw(60));
        match draw(10) {
            0 => etcd.delete(&key),
            1 => {
                let id = 1000 + seed * 1000 + number;
                etcd.call("lease/grant", &json!({"ID": id, "TTL": 5000 + number}));
                etcd.call(
                    "kv/put",
                    &json!({"key": base64(key.as_bytes()), "value": base64(b"leased"), "lease": id}),
                );
            }
            2 => {
                let put = |name: String, value: u64| json!({"request_put": {"key": base64(name.as_bytes()), "value": base64(&vec![b'x'; usize::try_from(value).unwrap()])}});
                let delete = json!({"request_delete_range": {"key": base64(key.as_bytes())}});
                let operations =
                    json!([put(format!("txn-{}", draw(9)), draw(3000)), delete, put("txn-b".into(), 10)]);
                etcd.call("kv/txn", &json!({"success": operations}));
            }
            3 => {
                etcd.call("kv/deleterange", &json!({"key": base64(b"key-1"), "range_end": base64(b"key-2")}));
            }
            _ => etcd.put(&key, &vec![b'v'; usize::try_from(draw(2000)).unwrap()]),
        }
    }
}

/// Starts etcd on what was restored.
fn started(data_dir: &Path) -> Etcd {
    Etcd::start(&Start::alone("3.6", data_dir))
}

#[test]
fn every_revision_is_restored_as_etcd_itself_answers_it() {
    let scene = Scene::new();
    act(&scene.etcd, 1, 150);
    scene.save();
    scene.followed(|etcd| act(etcd, 2, 400));
    let set = scene.set();
    let (first, last) = (set.full.revisions.last, set.last_revision());
    assert!(set.deltas.len() > 3, "{:?}", set.deltas);

    // The ends, the cuts between two deltas, and some between.
    let cut = set.deltas[1].last;
    let between = |part: i64| first + (last - first) * part / 7;
    for (number, revision) in [first, cut, cut + 1, between(2), between(5), last].into_iter().enumerate() {
        let (data_dir, output) = scene.restore(&format!("at-{number}"), &["--to", &revision.to_string()]);
        let told = succeeded(&output);
        assert!(told.contains(&format!("revision  {revision}")), "{told}");

        let restored = started(&data_dir);

        assert_eq!(keys_at(&restored, 0), keys_at(&scene.etcd, revision), "at {revision}");
        // The past is there as well.
        let before = first.midpoint(revision);
        assert_eq!(keys_at(&restored, before), keys_at(&scene.etcd, before), "{before} in {revision}");
        let header = &restored.call("maintenance/hash", &json!({}))["header"]["revision"];
        assert_eq!(number_of(header), revision);
        restored.stop();
    }

    // Nothing has expired or was forgotten.
    let (data_dir, output) = scene.restore("latest", &["--json"]);
    let told: Value = serde_json::from_str(&succeeded(&output)).unwrap();
    assert_eq!(told["objects"], json!(1 + set.deltas.len()));
    let restored = started(&data_dir);
    assert_eq!(leases(&restored), leases(&scene.etcd));
    // It goes on as any other: the next write has the next revision.
    restored.put("after", b"restore");
    assert_eq!(number_of(&restored.call("maintenance/hash", &json!({}))["header"]["revision"]), last + 1);
}

fn number_of(value: &Value) -> i64 {
    number(value).cast_signed()
}

/// What is compacted, deleted or superseded decides which records etcd's own hash leaves out.
#[test]
fn a_deep_verification_compares_the_hash_that_every_series_tells() {
    for series in SERIES {
        let scene = Scene::of(series);
        act(&scene.etcd, 7, 30);
        let compare = |what: &str| {
            scene.save();
            let told = succeeded(&scene.backup(&["verify", "--deep"]));
            let full = scene.set().full;
            // At the very revision up to which everything is compacted, old ones tell no hash, and newer ones that of
            // the moment before the compaction.
            let comparable = full.hash.is_some_and(|hash| hash.compacted.max(0) == full.revisions.compacted);
            assert!(
                comparable || full.revisions.last == full.revisions.compacted,
                "{series} {what}: {full:?}"
            );
            if comparable {
                assert!(told.contains("its keys have the hash that etcd told"), "{series} {what}: {told}");
            }
        };
        compare("never compacted");
        scene.etcd.compact(scene.revision().cast_unsigned() / 2);
        compare("compacted in the middle");
        act(&scene.etcd, 8, 30);
        scene.etcd.put("deleted", b"1");
        scene.etcd.delete("deleted");
        scene.etcd.compact(scene.revision().cast_unsigned());
        compare("compacted at a deletion");
        act(&scene.etcd, 9, 20);
        compare("written since");
        scene.etcd.call("kv/deleterange", &json!({"key": base64(b"\0"), "range_end": base64(b"\0")}));
        compare("all deleted");
        scene.etcd.compact(scene.revision().cast_unsigned());
        compare("nothing left");
    }
}

#[test]
fn a_time_means_what_had_arrived_by_then() {
    let scene = Scene::new();
    scene.etcd.put("before", b"1");
    scene.save();
    let mut between = String::new();
    let mut revision = 0;
    scene.followed(|etcd| {
        etcd.put("wanted", b"1");
        // Two writes that no clock can mix up.
        std::thread::sleep(Duration::from_millis(1500));
        (between, revision) = (jiff::Timestamp::now().to_string(), scene.revision());
        std::thread::sleep(Duration::from_millis(1500));
        etcd.put("mistake", b"1");
    });

    let (data_dir, output) = scene.restore("then", &["--to", &between]);

    succeeded(&output);
    let restored = started(&data_dir);
    assert_eq!(keys_at(&restored, 0), keys_at(&scene.etcd, revision));
    assert_eq!(keys_at(&restored, 0).len(), 2);
}

#[test]
fn what_is_broken_is_named_and_nothing_is_touched() {
    let scene = Scene::new();
    act(&scene.etcd, 3, 50);
    scene.etcd.compact(scene.revision().cast_unsigned() - 20);
    scene.save();
    let deep = succeeded(&scene.backup(&["verify", "--deep"]));
    assert!(deep.contains("its keys have the hash that etcd told"), "{deep}");
    let older = scene.set();
    act(&scene.etcd, 4, 20);
    scene.save();
    scene.followed(|etcd| act(etcd, 5, 150));
    let set = scene.set();
    assert!(set.deltas.len() >= 3, "{:?}", set.deltas);
    let object_of =
        |stem: &str| set.names.iter().find(|name| name.starts_with(&format!("{stem}.delta"))).unwrap();
    let deep = succeeded(&scene.backup(&["verify", "--deep"]));
    assert!(deep.contains("its keys have the hash that etcd told"), "{deep}");
    assert!(succeeded(&scene.backup(&["list"])).contains(&jiff::Timestamp::now().to_string()[..13]));

    for (object, intact_set, intact) in [
        (&set.full.object.name, older.set(), older.full.revisions.last),
        (object_of(&set.deltas[1].stem), set.set(), set.deltas[0].last),
        (object_of(&set.deltas.last().unwrap().stem), set.set(), set.deltas[set.deltas.len() - 2].last),
    ] {
        let path = scene.object(object);
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x10;
        std::fs::write(&path, damaged).unwrap();

        for how in [&["verify"][..], &["verify", "--deep"]] {
            let told = failed(&scene.backup(how));
            assert!(told.contains(object), "{told}");
        }
        for more in [&["--dry-run"][..], &[]] {
            let (data_dir, output) = scene.restore("never", more);
            let told = failed(&output);
            assert!(told.contains(object), "{told}");
            assert!(told.contains(&format!("--set {intact_set} --to {intact}")), "{told}");
            assert!(!data_dir.exists());
        }
        // What is offered works.
        let offered = ["--set", intact_set.as_str(), "--to", &intact.to_string(), "--dry-run"];
        succeeded(&scene.restore("offered", &offered).1);

        std::fs::write(&path, whole).unwrap();
    }
    // Nothing is left of all that, and a directory with data is never replaced.
    let left: Vec<String> = std::fs::read_dir(scene.root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "data" && name != "store")
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let (data_dir, output) = scene.restore("used", &[]);
    succeeded(&output);
    let (_, again) = scene.restore("used", &[]);
    assert!(!again.status.success());
    started(&data_dir).stop();
}
