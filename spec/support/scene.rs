//! A cluster of one with a store for its backups, and how to look into both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use etcd_release::backup::catalog::{Catalog, Entry, catalog};
use etcd_release::backup::cluster::Cluster;
use etcd_release::backup::codec::{Packing, Recipients};
use etcd_release::backup::config::StoreConfig;
use etcd_release::backup::deltas::{Base, End, Following, Limits, follow};
use etcd_release::backup::manifest::Compression;
use etcd_release::backup::store::Store;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::etcd::{Etcd, PATIENCE, PEER_URL, Start, base64, number};

/// A real etcd, and a store with its backups.
pub(crate) struct Scene {
    pub(crate) root: TempDir,
    pub(crate) etcd: Etcd,
    pub(crate) store: Store,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::of("3.6")
    }

    pub(crate) fn of(series: &'static str) -> Self {
        Self::started(series, &[])
    }

    /// With settings of etcd.
    pub(crate) fn with(settings: &[&str]) -> Self {
        Self::started("3.6", settings)
    }

    fn started(series: &'static str, settings: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let etcd = Etcd::start(&Start::alone(series, &root.path().join("data")).with(settings));
        let url = format!("file://{}/store", root.path().display());
        let store = Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap();
        Self { root, etcd, store }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}:2379", self.etcd.address)
    }

    pub(crate) fn backup(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_etcd-backup"))
            .args(args)
            .args(["--store", self.store.url()])
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub(crate) fn save(&self) {
        succeeded(&self.backup(&["save", "--etcd", &self.endpoint()]));
    }

    pub(crate) fn revision(&self) -> i64 {
        number(&self.etcd.call("maintenance/hash", &json!({}))["header"]["revision"]).cast_signed()
    }

    /// Follows the cluster while `act` runs, until everything is in the store.
    pub(crate) fn followed(&self, act: impl FnOnce(&Etcd)) {
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

    pub(crate) fn catalog(&self) -> Catalog {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(catalog(&self.store)).unwrap()
    }

    pub(crate) fn set(&self) -> Entry {
        self.catalog().sets.remove(0)
    }

    /// `etcd-backup restore` into a new directory.
    pub(crate) fn restore(&self, name: &str, more: &[&str]) -> (PathBuf, Output) {
        let data_dir = self.root.path().join(name);
        let mut args = vec!["restore", "--name", "m1", "--initial-cluster-token", "restored"];
        let cluster = format!("m1={PEER_URL}");
        args.extend(["--initial-cluster", &cluster, "--data-dir", data_dir.to_str().unwrap()]);
        args.extend(more);
        let output = self.backup(&args);
        (data_dir, output)
    }

    pub(crate) fn object(&self, name: &str) -> PathBuf {
        self.root.path().join("store").join(name)
    }
}

/// Follows until the revision that is told has got into the store.
pub(crate) async fn follow_until(
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

pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every key with its revisions, version, lease and value, as etcd answers at a revision.
pub(crate) fn keys_at(etcd: &Etcd, revision: i64) -> BTreeMap<String, Value> {
    let all = json!({"key": base64(b"\0"), "range_end": base64(b"\0"), "revision": revision});
    let answer = etcd.call("kv/range", &all);
    let keys = answer["kvs"].as_array().cloned().unwrap_or_default();
    keys.into_iter().map(|key| (key["key"].as_str().unwrap().to_owned(), key)).collect()
}

/// Ids and granted seconds of all leases.
pub(crate) fn leases(etcd: &Etcd) -> BTreeMap<String, String> {
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
pub(crate) fn act(etcd: &Etcd, seed: u64, count: u64) {
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
pub(crate) fn started(data_dir: &Path) -> Etcd {
    Etcd::start(&Start::alone("3.6", data_dir))
}

pub(crate) fn number_of(value: &Value) -> i64 {
    number(value).cast_signed()
}
